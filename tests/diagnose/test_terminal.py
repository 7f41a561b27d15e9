"""A test on a terminal, as the person in front of it sees it; and how an interrupt ends it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from mcp_stdio.demo.server import Server
from tests.cli.command import LIMIT, environment, interrupt, start
from tests.diagnose.seen import http
from tests.http.raw_server import Peer, saying, serve
from tests.terminal import COLUMNS, ROWS, Typed, typed


async def slow(peer: Peer) -> None:
    """Says no, after more than a second."""
    await peer.request()
    await trio.sleep(2.2)
    await peer.send(http("403 Forbidden", "a long story " * 20))


FINAL = [
    "✓ settings    no credential; time-outs 10 s to connect and 120 s for an answer",
    "✓ name        `127.0.0.1` is an address already",
    "✓ proxy       none is set",
    "✓ TCP         connected to 127.0.0.1, port PORT  (TIME)",
    "✓ HTTP        status 403, no content type  (TIME)",
    "✗ credential  the server refuses access (403): a long story a long story a long",
    "              story a long story a long story a long story a long story a long",
]


def final(rows: list[str], port: int) -> list[str]:
    text = "\n".join(rows).rstrip().replace(str(port), "PORT")
    return re.sub(r"\(\d+ ms\)", "(TIME)", text).splitlines()


async def ended(command: Typed) -> int:
    with trio.fail_after(LIMIT):
        return await trio.to_thread.run_sync(command.wait)


async def test_the_stage_under_way_is_shown_live(nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, slow)
    with typed("test", str(server.url())) as seen:
        assert await ended(seen) == 5
    # One line, drawn again and again, with the time after a second; nothing of it stays.
    shown = seen.screen.shown
    assert any(re.fullmatch(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] HTTP", row) for row in shown)
    for seconds in (1, 2):
        wanted = rf"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] HTTP        {seconds} s"
        assert any(re.fullmatch(wanted, row) for row in shown), shown
    assert len({row[0] for row in shown if row[2:6] == "HTTP"}) > 5
    rows = final(seen.rows, server.port)
    assert rows[1:8] == FINAL
    assert rows[-1] == "failed at `credential`, exit code 5"
    assert {"32", "1;31", "36"} <= set(seen.screen.colours)


async def test_a_narrow_terminal(nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, saying(http("403 Forbidden", "a long story " * 20)))
    with typed("test", str(server.url()), columns=40) as seen:
        assert await ended(seen) == 5
    rows = final(seen.rows, server.port)
    assert rows[2:12] == [
        "✓ settings",
        "  no credential; time-outs 10 s to",
        "  connect and 120 s for an answer",
        "✓ name",
        "  `127.0.0.1` is an address already",
        "✓ proxy       none is set",
        "✓ TCP",
        "  connected to 127.0.0.1, port PORT",
        "  (TIME)",
        "✓ HTTP",
    ]
    assert all(len(row) < 40 for row in rows)
    assert rows[-1] == "failed at `credential`, exit code 5"


async def test_no_colour_for_who_wants_none(nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, slow)
    with typed("test", str(server.url()), env={"NO_COLOR": "1"}) as seen:
        assert await ended(seen) == 5
    assert seen.screen.colours == []
    assert final(seen.rows, server.port)[1:8] == FINAL
    assert "1 s" in seen.written


async def test_a_dumb_terminal_gets_plain_text(nursery: trio.Nursery) -> None:
    url = await nursery.start(Server().serve)
    with typed("test", url, env={"TERM": "dumb"}) as seen:
        assert await ended(seen) == 0
    assert re.fullmatch(r"[ -~\n]+", seen.written)
    assert "ok      tools       5 tools" in seen.written
    nursery.cancel_scope.cancel()


async def test_ctrl_c_tells_what_was_found_until_then(nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.hung_up()

    server = await nursery.start(serve, script)
    with typed("test", str(server.url())) as seen:
        await trio.to_thread.run_sync(seen.until, "HTTP        1 s")
        seen.type("\x03")
        assert await ended(seen) == 130
    assert final(seen.rows, server.port)[-3:] == [
        "✓ TCP         connected to 127.0.0.1, port PORT  (TIME)",
        "✗ HTTP        interrupted  (TIME)",
        "interrupted at `HTTP`, exit code 130",
    ]


async def test_an_interrupt_in_a_pipe(nursery: trio.Nursery) -> None:
    done = await interrupted(nursery)
    assert done[0] == 130
    assert done[1] == ""
    assert re.search(r"^STOPPED HTTP        interrupted  \(\d+ ms\)$", done[2], re.MULTILINE)
    assert done[2].endswith("interrupted at `HTTP`, exit code 130\n")
    assert "Traceback" not in done[2]


@pytest.mark.skipif(sys.platform == "win32", reason="nobody is sent one there")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
async def test_a_signal_to_end_is_an_interrupt(nursery: trio.Nursery, name: str) -> None:
    """What limits the time of a program sends it, and there is a session to be ended."""
    code, printed, said = await interrupted(
        nursery, "--json", interrupt=lambda process: process.send_signal(getattr(signal, name))
    )
    assert (code, said) == (130, "")
    assert json.loads(printed)["stages"][-1]["status"] == "interrupted"


@pytest.mark.skipif(sys.platform == "win32", reason="nobody is sent one there")
async def test_who_must_not_be_interrupted_can_still_be_ended(nursery: trio.Nursery) -> None:
    """As a shell starts what is to run in the background: its SIGINT is ignored."""
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code, _, _ = await interrupted(nursery, "--json", interrupt=subprocess.Popen.terminate)
    finally:
        signal.signal(signal.SIGINT, old)
    assert code == -signal.SIGTERM


async def test_an_interrupt_of_what_a_program_waits_for(nursery: trio.Nursery) -> None:
    code, printed, said = await interrupted(nursery, "--json")
    assert (code, said) == (130, "")
    found = json.loads(printed)
    assert (found["ok"], found["exit_code"]) == (False, 130)
    assert [(each["name"], each["status"]) for each in found["stages"][-2:]] == [
        ("tcp", "ok"),
        ("http", "interrupted"),
    ]


async def interrupted(
    nursery: trio.Nursery,
    *options: str,
    interrupt: Callable[[subprocess.Popen[bytes]], None] = interrupt,
) -> tuple[int, str, str]:
    """What is left of a test that is interrupted while the server says nothing."""
    has_come = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        has_come.set()
        await peer.hung_up()

    server = await nursery.start(serve, script)
    process = start("test", *options, str(server.url()))
    try:
        with trio.fail_after(LIMIT):
            await has_come.wait()
            interrupt(process)
            printed, said = await trio.to_thread.run_sync(process.communicate)
        return process.returncode, printed.decode(), said.decode()
    finally:
        process.kill()
        process.wait()


TMUX = shutil.which("tmux")


@pytest.mark.skipif(TMUX is None, reason="tmux is not installed")
async def test_in_a_real_terminal_emulator(nursery: trio.Nursery, tmp_path: Path) -> None:
    """The same in tmux, whose own picture of its screen is compared."""
    assert TMUX is not None
    server = await nursery.start(serve, slow)
    over = tmp_path / "over"
    script = tmp_path / "script.sh"
    script.write_text(
        f"'{sys.executable}' -m mcp_stdio test '{server.url()}'\n"
        f"echo $? > '{over}.part'; mv '{over}.part' '{over}'\nsleep {LIMIT:g}\n"
    )
    tmux = [TMUX, "-u", "-S", str(tmp_path / "socket"), "-f", os.devnull]
    size = ["-x", str(COLUMNS), "-y", str(ROWS)]
    env = environment({"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"})

    def run(*arguments: str) -> str:
        return subprocess.run(
            [*tmux, *arguments], capture_output=True, text=True, check=True, env=env, timeout=LIMIT
        ).stdout

    run("new-session", "-d", *size, f"sh '{script}'")
    try:
        seen: list[str] = []
        give_up = time.monotonic() + LIMIT
        while not over.exists():
            assert time.monotonic() < give_up, seen[-1:]
            shown = run("capture-pane", "-p").rstrip()
            if shown and shown not in seen:
                seen.append(shown)
            await trio.sleep(0.05)
        last = run("capture-pane", "-p").rstrip().splitlines()
    finally:
        run("kill-server")
    assert over.read_text(encoding="utf-8") == "5\n"
    assert any(re.search(r"\n. HTTP        [12] s$", picture) for picture in seen), seen
    rows = final(last, server.port)
    assert rows[1:8] == FINAL
    assert rows[-1] == "failed at `credential`, exit code 5"
