"""How stages look, in a file and on a terminal."""

from __future__ import annotations

import logging
from io import BytesIO, StringIO, TextIOWrapper

import pytest

from mcp_stdio import log
from mcp_stdio.diagnose.report import Stage
from mcp_stdio.diagnose.view import Lines
from tests.diagnose.test_report import Clock
from tests.terminal import Screen


class Terminal(TextIOWrapper):
    """Says that it is one; of unknown width, as some are."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._written = BytesIO()
        super().__init__(self._written, encoding, write_through=True, newline="")

    def isatty(self) -> bool:
        return True

    def getvalue(self) -> str:
        return self._written.getvalue().decode(self.encoding)

    def screen(self) -> Screen:
        return Screen(self.getvalue())


def told(lines: Lines) -> None:
    """Three stages and what comes after them."""
    lines.say("mcp-stdio tests https://h/")
    for stage in (
        Stage("tcp", "ok", "connected to ::1, port 1", 0.0123),
        Stage("proxy", "ok", "none is set"),
        Stage("tools", "failed", "", 12.04, "the cause", "do it"),
    ):
        lines.begun(stage.name)
        lines.ended(stage)
    lines.skipped(["listening", "http"])
    lines.skipped([])


PLAIN = """\
mcp-stdio tests https://h/
ok      TCP         connected to ::1, port 1  (12 ms)
ok      proxy       none is set
FAILED  tools       the cause  (12.0 s)
        hint        do it
-       skipped     listening, HTTP
"""


def test_lines_in_a_file() -> None:
    file = StringIO()
    told(Lines(file, {"TERM": "xterm"}))
    assert file.getvalue() == PLAIN


@pytest.mark.parametrize("columns", [1, 10, 20, 39, 40, 59, 60, 61, 80, 200])
def test_every_text_is_laid_out_in_the_columns_there_are(columns: int) -> None:
    terminal = Terminal()
    lines = Lines(terminal, {"TERM": "xterm", "NO_COLOR": "1"}, width=lambda _: columns)
    words = "the quick brown fox jumps over the lazy dog " * 4
    lines.say(words)
    lines.ended(Stage("credential", "failed", "", 1.234, words, words))
    lines.ended(Stage("proxy", "ok", "none is set"))
    lines.skipped(["listening", "farewell", "http", "credential"])
    shown = terminal.getvalue().splitlines()
    assert "".join(shown).count("fox") == 12
    assert all(len(line) < max(columns, 15) or line.count(" ") < 4 for line in shown), shown
    assert " ".join(" ".join(shown).split()).count("dog (1234 ms)") == 1
    row = "✓ proxy       none is set"
    assert row in shown or columns <= len(row)
    beside = [line for line in shown if line.startswith("✗ credential  the quick")]
    assert len(beside) == (columns >= 60)


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": "dumb", "NO_COLOR": "1"}])
def test_a_terminal_that_can_nothing_gets_the_same(environ: dict[str, str]) -> None:
    terminal = Terminal()
    told(Lines(terminal, environ))
    assert terminal.getvalue() == PLAIN


SHOWN = """\
mcp-stdio tests https://h/
✓ TCP         connected to ::1, port 1  (12 ms)
✓ proxy       none is set
✗ tools       the cause  (12.0 s)
  hint        do it
- skipped     listening, HTTP
"""


def test_marks_and_colours_on_a_terminal() -> None:
    terminal = Terminal()
    told(Lines(terminal, {"TERM": "xterm"}))
    screen = terminal.screen()
    assert "\n".join(screen.rows) == SHOWN
    assert screen.colours[:4] == ["32", "0", "2", "0"]
    assert "1;31" in screen.colours


def test_no_colour_for_who_wants_none() -> None:
    """no-color.org: the live line stays."""
    terminal = Terminal()
    told(Lines(terminal, {"TERM": "xterm", "NO_COLOR": "1"}))
    screen = terminal.screen()
    assert "\n".join(screen.rows) == SHOWN
    assert screen.colours == []


def test_a_terminal_of_another_age_gets_words() -> None:
    terminal = Terminal("ascii")
    told(Lines(terminal, {"TERM": "xterm", "NO_COLOR": "1"}))
    assert "\n".join(terminal.screen().rows) == PLAIN


def live(clock: Clock) -> tuple[Terminal, Lines]:
    terminal = Terminal()
    return terminal, Lines(terminal, {"TERM": "xterm", "NO_COLOR": "1"}, clock)


def test_the_stage_under_way_has_a_line_that_tells_the_time_after_a_second() -> None:
    clock = Clock()
    terminal, lines = live(clock)
    lines.begun("tls")
    assert terminal.screen().rows[-1][1:] == " TLS"
    clock.now += 0.9
    lines.draw()
    assert terminal.screen().rows[-1][1:] == " TLS"
    clock.now += 2.2
    lines.draw()
    assert terminal.screen().rows[-1][1:] == " TLS         3 s"
    assert len(terminal.screen().rows) == 1
    lines.ended(Stage("tls", "ok", "TLSv1.3", 3.1))
    lines.draw()
    assert terminal.screen().rows == ["✓ TLS         TLSv1.3  (3100 ms)", ""]


def test_a_log_line_does_not_end_up_in_the_live_line() -> None:
    terminal, lines = live(Clock())
    writer = logging.StreamHandler(terminal)
    root = logging.getLogger()
    root.addHandler(writer)
    try:
        with lines.undisturbed():
            lines.begun("credential")
            logging.getLogger("mcp_stdio.test").warning("sign in at %s", "https://as/")
            lines.draw()
    finally:
        root.removeHandler(writer)
    assert terminal.screen().rows == ["sign in at https://as/", ""]
    assert terminal.getvalue().count("credential") == 2


def test_neither_secrets_nor_control_characters_are_shown() -> None:
    log.protect("s3cr3t-of-mine")
    file = StringIO()
    Lines(file, {}).ended(
        Stage("http", "failed", "", None, "it is \x1b[2Js3cr3t-of-mine\r\nX", "\t")
    )
    assert file.getvalue() == ("FAILED  HTTP        it is  [2J***  X\n        hint         \n")
