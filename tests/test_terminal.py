"""The live line, and what a terminal shows of it."""

from __future__ import annotations

import os
from io import StringIO

import pytest
import trio
from trio.testing import MockClock

from mcp_stdio.terminal import LiveLine, has_colour, is_live
from tests.terminal import screen


def live() -> tuple[LiveLine, StringIO]:
    stream = StringIO()
    return LiveLine(stream, is_live=True), stream


def test_a_line_is_drawn_over_the_last_one() -> None:
    line, stream = live()
    line.draw("waiting for the browser, 10 s left")
    line.draw("waiting, 9 s left")
    assert screen(stream.getvalue()) == (["waiting, 9 s left"], len("waiting, 9 s left"))


def test_what_stays_stands_above_the_line() -> None:
    line, stream = live()
    line.draw("waiting, 10 s left")
    line.tell("open this page")
    assert screen(stream.getvalue())[0] == ["open this page", "waiting, 10 s left"]
    line.clear()
    assert screen(stream.getvalue()) == (["open this page", ""], 0)


def test_a_cleared_line_leaves_no_trace() -> None:
    line, stream = live()
    line.draw("waiting")
    line.clear()
    line.clear()
    assert screen(stream.getvalue()) == ([""], 0)


def test_a_line_never_reaches_the_last_column_of_a_terminal_of_80() -> None:
    line, stream = live()
    line.draw("x" * 200)
    assert screen(stream.getvalue())[0] == ["x" * 76 + "…"]


def test_nothing_is_drawn_over_what_is_typed() -> None:
    line, stream = live()
    line.draw("waiting, 10 s left")
    with line.asking("name: "):
        stream.write("some")
        line.draw("waiting, 9 s left")
        stream.write("body")
        assert screen(stream.getvalue()) == (["name: somebody"], len("name: somebody"))
    assert screen(stream.getvalue()) == (["name: somebody", ""], 0)
    line.draw("waiting, 8 s left")
    assert screen(stream.getvalue())[0] == ["name: somebody", "waiting, 8 s left"]


def test_what_stays_gets_a_new_prompt_under_it() -> None:
    line, stream = live()
    with line.asking("name: "):
        stream.write("some")
        line.tell("somebody else has come")
        stream.write("body\n")
        line.entered()
        line.tell("no such name")
        stream.write("me\n")
        line.entered()
    rows = ["name: some", "somebody else has come", "name: body", "no such name", "name: me", ""]
    assert screen(stream.getvalue()) == (rows, 0)


def test_a_log_line_begins_a_line_of_its_own_where_somebody_types() -> None:
    line, stream = live()
    with line.asking("name: "):
        for text in ("one", "two"):
            line.clear()
            stream.write(f"{text}\n")
    assert screen(stream.getvalue()) == (["name:", "one", "two", ""], 0)


def test_a_wide_character_counts_two_columns() -> None:
    line, stream = live()
    line.draw("待" * 100)
    assert screen(stream.getvalue())[0] == ["待" * 38 + "…"]


def test_where_no_line_can_be_drawn_only_what_stays_is_written() -> None:
    stream = StringIO()
    line = LiveLine(stream, is_live=False)
    line.draw("waiting")
    line.tell("open this page")
    line.clear()
    assert stream.getvalue() == "open this page\n"


def test_a_stream_that_takes_nothing_ends_nothing() -> None:
    for stream in (StringIO(), None):
        if stream is not None:
            stream.close()
        line = LiveLine(stream, is_live=True)
        line.draw("waiting")
        line.tell("done")
        line.clear()


async def test_the_line_counts_while_something_is_done(autojump_clock: MockClock) -> None:
    line, stream = live()

    async def work() -> int:
        await trio.sleep(3.5)
        assert screen(stream.getvalue())[0] == ["waiting since 3 s"]
        return 7

    assert await line.during(work, lambda elapsed: f"waiting since {elapsed:.0f} s") == 7
    assert screen(stream.getvalue()) == ([""], 0)


async def test_what_is_done_at_once_shows_no_line(autojump_clock: MockClock) -> None:
    line, stream = live()
    await line.during(trio.lowlevel.checkpoint, lambda elapsed: "waiting")
    assert stream.getvalue() == ""


async def test_a_failure_comes_as_it_is_and_leaves_no_line(autojump_clock: MockClock) -> None:
    line, stream = live()

    async def fail() -> None:
        await trio.sleep(2)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await line.during(fail, lambda elapsed: "waiting")
    assert screen(stream.getvalue()) == ([""], 0)


async def test_cancelling_leaves_no_line(autojump_clock: MockClock) -> None:
    line, stream = live()
    with trio.move_on_after(5):
        await line.during(trio.sleep_forever, lambda elapsed: "waiting")
    assert "waiting" in stream.getvalue()
    assert screen(stream.getvalue()) == ([""], 0)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_terminal_has_a_live_line_and_colour_unless_it_is_told_otherwise() -> None:
    ours, theirs = os.openpty()
    with open(ours, "rb"), open(theirs, "w", encoding="utf-8") as stream:
        assert is_live(stream, {"TERM": "xterm"})
        assert has_colour(stream, {"TERM": "xterm", "NO_COLOR": ""})
        assert not has_colour(stream, {"TERM": "xterm", "NO_COLOR": "1"})
        assert is_live(stream, {"TERM": "xterm", "NO_COLOR": "1"})
        assert not is_live(stream, {"TERM": "dumb"})
        assert not has_colour(stream, {"TERM": "dumb"})
        assert has_colour(stream, {}, "linux")
        assert not has_colour(stream, {}, "win32")  # where its codes would be seen
        assert has_colour(stream, {"WT_SESSION": "one"}, "win32")
        assert not has_colour(stream, {"WT_SESSION": "one", "NO_COLOR": "1"}, "win32")
    assert not is_live(StringIO(), {})
    assert not is_live(None, {})
