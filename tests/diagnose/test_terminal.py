"""A test on a terminal, as the person in front of it sees it; and how an interrupt ends it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from mcp_stdio.demo.server import Server
from tests.cli.command import environment, interrupt, start
from tests.diagnose.screen import Screen
from tests.diagnose.seen import http
from tests.http.raw_server import Peer, serve

LIMIT = 60.0

COLUMNS, ROWS = 80, 40

not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="there are no ptys")


class OnTerminal:
    """A command on a pseudo-terminal; `screen` is what can be seen there."""

    def __init__(self, *arguments: str, env: dict[str, str]) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._fd, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcp_stdio", *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=environment({"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **env}),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
        )
        os.close(inner)
        self.screen = Screen(COLUMNS)
        self.written = ""

    def read(self) -> bool:
        """Read once; False at the end."""
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # on Linux, what a pty says at its end
            data = b""
        text = data.decode()
        self.written += text
        self.screen.write(text)
        return bool(data)

    async def until(self, is_there: Callable[[], bool]) -> None:
        """Read until something can be seen."""
        with trio.fail_after(LIMIT):
            while not is_there():
                assert await trio.to_thread.run_sync(self.read), self.screen.rows

    async def end(self) -> int:
        """Read to the end; the exit code."""
        with trio.fail_after(LIMIT):
            while await trio.to_thread.run_sync(self.read):
                pass
            return await trio.to_thread.run_sync(self.process.wait)

    def press_ctrl_c(self) -> None:
        """Have the terminal echo `^C` behind the cursor and interrupt the process."""
        os.write(self._fd, b"\x03")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._fd)


OnTty = Callable[..., OnTerminal]


@pytest.fixture
def on_terminal() -> Iterator[OnTty]:
    started: list[OnTerminal] = []

    def run(*arguments: str, **env: str) -> OnTerminal:
        started.append(OnTerminal(*arguments, env=env))
        return started[-1]

    yield run
    for each in started:
        each.close()


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


def final(screen: Screen, port: int) -> list[str]:
    text = "\n".join(screen.rows).replace(str(port), "PORT")
    return re.sub(r"\(\d+ ms\)", "(TIME)", text).splitlines()


@not_on_windows
async def test_the_stage_under_way_is_shown_live(nursery: trio.Nursery, on_terminal: OnTty) -> None:
    server = await nursery.start(serve, slow)
    seen = on_terminal("test", str(server.url()))
    assert await seen.end() == 5
    # One line, drawn again and again, with the time after a second; nothing of it stays.
    assert any(re.fullmatch(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] HTTP", row) for row in seen.screen.shown)
    for seconds in (1, 2):
        wanted = rf"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] HTTP        {seconds} s"
        assert any(re.fullmatch(wanted, row) for row in seen.screen.shown), seen.screen.shown
    assert len({row[0] for row in seen.screen.shown if row[2:6] == "HTTP"}) > 5
    rows = final(seen.screen, server.port)
    assert rows[1:8] == FINAL
    assert rows[-1] == "failed at `credential`, exit code 5"
    assert all(len(row) <= COLUMNS for row in rows)
    assert {"32", "1;31", "36"} <= set(seen.screen.colours)


@not_on_windows
async def test_no_colour_for_who_wants_none(nursery: trio.Nursery, on_terminal: OnTty) -> None:
    server = await nursery.start(serve, slow)
    seen = on_terminal("test", str(server.url()), NO_COLOR="1")
    assert await seen.end() == 5
    assert seen.screen.colours == []
    assert final(seen.screen, server.port)[1:8] == FINAL
    assert "1 s" in seen.written


@not_on_windows
async def test_a_dumb_terminal_gets_plain_text(nursery: trio.Nursery, on_terminal: OnTty) -> None:
    url = await nursery.start(Server().serve)
    seen = on_terminal("test", url, TERM="dumb")
    assert await seen.end() == 0
    assert re.fullmatch(r"[ -~\r\n]+", seen.written)
    assert seen.written.count("\r") == seen.written.count("\n")
    assert "ok      tools       5 tools" in seen.written
    nursery.cancel_scope.cancel()


@not_on_windows
async def test_ctrl_c_tells_what_was_found_until_then(
    nursery: trio.Nursery, on_terminal: OnTty
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.hung_up()

    server = await nursery.start(serve, script)
    seen = on_terminal("test", str(server.url()))
    await seen.until(lambda: seen.screen.rows[-1].endswith(" 1 s"))
    seen.press_ctrl_c()
    assert await seen.end() == 130
    rows = final(seen.screen, server.port)
    assert rows[-3:-1] == [
        "✓ TCP         connected to 127.0.0.1, port PORT  (TIME)",
        "✗ HTTP        interrupted  (TIME)",
    ]
    assert rows[-1] == "interrupted at `HTTP`, exit code 130"


async def test_an_interrupt_in_a_pipe(nursery: trio.Nursery) -> None:
    done = await interrupted(nursery)
    assert done[0] == 130
    assert done[1] == ""
    assert re.search(r"^STOPPED HTTP        interrupted  \(\d+ ms\)$", done[2], re.MULTILINE)
    assert done[2].endswith("interrupted at `HTTP`, exit code 130\n")
    assert "Traceback" not in done[2]


async def test_an_interrupt_of_what_a_program_waits_for(nursery: trio.Nursery) -> None:
    code, printed, said = await interrupted(nursery, "--json")
    assert (code, said) == (130, "")
    found = json.loads(printed)
    assert (found["ok"], found["exit_code"]) == (False, 130)
    assert [(each["name"], each["status"]) for each in found["stages"][-2:]] == [
        ("tcp", "ok"),
        ("http", "interrupted"),
    ]


async def interrupted(nursery: trio.Nursery, *options: str) -> tuple[int, str, str]:
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
    ended = tmp_path / "ended"
    script = tmp_path / "script.sh"
    script.write_text(
        f"'{sys.executable}' -m mcp_stdio test '{server.url()}'\n"
        f"echo $? > '{ended}.part'; mv '{ended}.part' '{ended}'\nsleep {LIMIT:g}\n"
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
        while not ended.exists():
            assert time.monotonic() < give_up, seen[-1:]
            shown = run("capture-pane", "-p").rstrip()
            if shown and shown not in seen:
                seen.append(shown)
            await trio.sleep(0.05)
        last = run("capture-pane", "-p").rstrip().splitlines()
    finally:
        run("kill-server")
    assert ended.read_text() == "5\n"
    assert any(re.search(r"\n. HTTP        [12] s$", picture) for picture in seen), seen
    text = "\n".join(last).replace(str(server.port), "PORT")
    rows = re.sub(r"\(\d+ ms\)", "(TIME)", text).splitlines()
    assert rows[1:8] == FINAL
    assert rows[-1] == "failed at `credential`, exit code 5"
