"""Commands as they are: what they print, how they end, what is left of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import trio

from mcp_stdio.credentials.output import Output, run

LIMIT = 45.0
"""Seconds for what should take a moment, on a busy machine."""

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and groups of POSIX")


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


async def test_what_is_printed_and_what_is_complained() -> None:
    code = "import sys; print('a  b'); print('c', file=sys.stderr)"
    assert await run(python(code)) == Output(b"a  b\n", b"c\n")


async def test_there_is_nothing_to_read_and_no_shell() -> None:
    code = "import sys; print(repr(sys.stdin.read()), sys.argv[1:])"
    done = await run((*python(code), "$HOME", "*", "a b"))
    assert done == Output(b"'' ['$HOME', '*', 'a b']\n")


async def test_a_failure_keeps_what_was_said() -> None:
    code = "import sys; print('s3cr3t'); print('no', file=sys.stderr); sys.exit(3)"
    done = await run(python(code))
    assert done == Output(b"s3cr3t\n", b"no\n", "the command ended with code 3")


async def test_a_command_that_is_none() -> None:
    done = await run(("/no/such/program",))
    assert done.failure is not None
    assert done.failure.startswith("the command cannot be started: ")


@posix_only
async def test_a_command_that_is_killed() -> None:
    code = f"import os; os.kill(os.getpid(), {int(signal.SIGTERM)})"
    assert (await run(python(code))).failure == "the command was ended by signal 15"


@posix_only
@pytest.mark.parametrize("ending", ["time", "cancelling"])
async def test_a_command_that_takes_too_long_is_ended_with_all_it_has_started(
    ending: str, tmp_path: Path
) -> None:
    file = tmp_path / "child"
    script = f"sleep 1000 & echo $! >{file}.new; mv {file}.new {file}; wait"
    with trio.fail_after(LIMIT):
        if ending == "time":
            done = await run(("sh", "-c", script), max_time=2)
            assert done.failure == "the command was not over within 2 s"
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, ("sh", "-c", script))
                while not file.exists():  # noqa: ASYNC110 - what a process does
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        while _is_alive(int(file.read_text(encoding="utf-8"))):  # noqa: ASYNC110 - the same
            await trio.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # In a container nobody may collect what has lost its parent.
    stat = Path(f"/proc/{pid}/stat")
    return (
        not stat.exists() or stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    )


@posix_only
async def test_what_stays_in_the_background_holds_up_nobody(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    begun = time.monotonic()
    done = await run(("sh", "-c", f"sleep 1000 & echo $! >{file}; echo t0k3n"))
    assert done == Output(b"t0k3n\n")
    assert time.monotonic() - begun < LIMIT
    os.kill(int(file.read_text(encoding="utf-8")), signal.SIGKILL)  # it was left alone


async def test_too_much_is_cut_off_and_ends_the_command() -> None:
    code = "while True: print('x' * 1000)"
    with trio.fail_after(LIMIT):
        done = await run(python(code), max_size=5000)
    assert done.failure == "the command prints more than 5000 bytes"
    assert len(done.printed) == 5001


async def test_complaints_without_end_are_dropped() -> None:
    code = "import sys; sys.stderr.write('x' * 1000000); print('t')"
    done = await run(python(code), max_size=5000)
    assert (done.printed.split(), done.failure) == ([b"t"], None)
    assert len(done.complaints) == 5001
