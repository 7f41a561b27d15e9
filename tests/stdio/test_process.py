"""What only a process of its own can show: blocked threads at exit, shared descriptors."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.usefixtures("way"),
    pytest.mark.parametrize("way", ["loop", "threads"], indirect=True),
]

IMPORTS = """
from mcp_stdio.descriptors import occupy_standard_descriptors
occupy_standard_descriptors()
import os, trio
from mcp_stdio.stdio import *
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")


def start(
    code: str, *, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", IMPORTS + code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
    )


def test_a_reader_that_waits_does_not_keep_the_process_alive() -> None:
    with start("""
async def main():
    with trio.move_on_after(0.1):
        async for line in standard_input(100):
            pass
trio.run(main)
""") as child:
        assert child.wait(30) == 0
        assert child.stderr is not None
        assert child.stderr.read() == b""


def test_a_writer_that_waits_does_not_keep_the_process_alive() -> None:
    with start("""
async def main():
    output = standard_output()
    output.finish_by(trio.current_time() + 0.1)
    try:
        await output.write_line(b"x" * 1_000_000)
    except Exception as exc:
        os.write(2, type(exc).__name__.encode())
trio.run(main)
""") as child:
        assert child.wait(30) == 0
        assert child.stderr is not None
        assert child.stderr.read() == b"OutputClosed"


ECHO = """
async def main():
    output = standard_output()
    async for line in standard_input(1_000_000):
        await output.write_line(line)
trio.run(main)
"""


def test_an_echo() -> None:
    lines = b"".join(b"line %d %s\n" % (number, b"x" * number) for number in range(1000))
    with start(ECHO) as child:
        assert child.communicate(lines, timeout=60) == (lines, b"")
        assert child.returncode == 0


def test_binary_is_binary() -> None:
    with start(ECHO) as child:
        # Ctrl-Z ends a text file on Windows, and CR LF is one character there.
        assert child.communicate(b"a\x1ab\r\nc\n", timeout=60) == (b"a\x1ab\nc\n", b"")


@posix
def test_output_and_error_may_share_a_pipe() -> None:
    reader, writer = os.pipe()
    child = start(
        """
async def main():
    output = standard_output()
    await output.write_line(b"one")
    assert os.get_blocking(1) and os.get_blocking(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.write_line, b"x" * 200_000)
        await trio.sleep(0.05)
        assert os.get_blocking(1) and os.get_blocking(2)
os.write(2, b"y" * 200_000)
os.write(2, b"\\n")
trio.run(main)
""",
        stdout=writer,
        stderr=writer,
    )
    os.close(writer)
    with child, open(reader, "rb") as file:
        lines = file.read().split(b"\n")
        assert child.wait(30) == 0
    assert lines == [b"y" * 200_000, b"one", b"x" * 200_000, b""]


@posix
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors(closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, IMPORTS + ECHO],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        input=b"",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
