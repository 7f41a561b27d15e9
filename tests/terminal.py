"""A terminal: a screen in a few lines of Python, and a command in front of a real one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.cli.command import LIMIT, environment


def screen(written: str) -> tuple[list[str], int]:
    """The rows that a terminal shows of what was written, and the cursor's column."""
    rows, column = [""], 0
    for character in written:
        match character:
            case "\r":
                column = 0
            case "\b":
                column -= 1
            case "\n":
                rows.append("")
                column = 0
            case _:
                row = rows[-1].ljust(column)
                rows[-1] = row[:column] + character + row[column + 1 :]
                column += 1
    return [row.rstrip() for row in rows], column


class Typed:
    """A command at a terminal of its own; `rows` is what that shows."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self._written = b""

    @property
    def written(self) -> str:
        """All that has been written, with what was typed as terminals repeat it."""
        return self._written.decode(errors="replace").replace("\r\n", "\n")

    @property
    def rows(self) -> list[str]:
        return screen(self.written)[0]

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def until(self, wanted: str, *, is_last: bool = False) -> list[str]:
        """The rows once one of them has `wanted`, or the last of them."""
        end = time.monotonic() + LIMIT
        while not any(wanted in row for row in self.rows[-1 if is_last else 0 :]):
            assert time.monotonic() < end, self.written
            assert self._read(), self.written
        return self.rows

    def wait(self) -> int:
        """The exit code; all that was written has been read then."""
        while self._read():
            pass
        return self.process.wait(LIMIT)

    def _read(self) -> bool:
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # how Linux says that nobody has the other end any more
            return False
        self._written += data
        return bool(data)


@contextmanager
def typed(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Typed]:
    """The command with all three streams at a terminal, which is also the one of its Ctrl-C."""
    if sys.platform == "win32":
        pytest.skip("needs a pseudo-terminal")
    import fcntl
    import termios

    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "mcp_stdio", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment({"TERM": "xterm", **(env or {})}),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(theirs)
        try:
            yield Typed(process, ours)
        finally:
            process.kill()
            os.close(ours)
