"""A terminal: a screen in a few lines of Python, and a command in front of a real one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.cli.command import LIMIT, environment

COLUMNS, ROWS = 80, 40

_COLOUR = re.compile(r"\x1b\[([0-9;]*)m")
_BEGUN = re.compile(r"\x1b(\[[0-9;]*)?")


class Screen:
    """Rows of text, with the cursor in the last one; what does not fit wraps.

    Knows what the program uses. Any other control character has no business there, and fails.
    """

    def __init__(self, written: str = "", columns: int = COLUMNS) -> None:
        self._columns = columns
        self._rows = [""]
        self._begun = ""  # a sequence whose end has not come yet
        self.column = 0
        self.colours: list[str] = []
        self.shown: list[str] = []  # what the last row was, each time that something was written
        self.write(written)

    @property
    def rows(self) -> list[str]:
        return [row.rstrip() for row in self._rows]

    def write(self, text: str) -> None:
        text, self._begun = self._begun + text, ""
        at = 0
        while at < len(text):
            if _BEGUN.fullmatch(text, at):
                self._begun = text[at:]
                break
            if colour := _COLOUR.match(text, at):
                self.colours.append(colour[1])
                at = colour.end()
            else:
                self._take(text[at])
                at += 1
        self.shown.append(self.rows[-1])

    def _take(self, character: str) -> None:
        match character:
            case "\r":
                self.column = 0
            case "\b":
                self.column -= 1
            case "\n":
                self._rows.append("")
                self.column = 0
            case _:
                assert character.isprintable(), repr(character)
                if self.column == self._columns:
                    self._rows.append("")
                    self.column = 0
                row = self._rows[-1].ljust(self.column)
                self._rows[-1] = row[: self.column] + character + row[self.column + 1 :]
                self.column += 1


def screen(written: str) -> tuple[list[str], int]:
    """The rows that a terminal shows of what was written, and the cursor's column."""
    seen = Screen(written)
    return seen.rows, seen.column


class Typed:
    """A command at a terminal of its own, and the screen of that."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int, columns: int) -> None:
        self.process = process
        self._terminal = terminal
        self._written = b""
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self.screen = Screen(columns=columns)

    @property
    def written(self) -> str:
        """All that has been written, with what was typed as terminals repeat it."""
        return self._written.decode(errors="replace").replace("\r\n", "\n")

    @property
    def rows(self) -> list[str]:
        return self.screen.rows

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
        self.screen.write(self._decoder.decode(data).replace("\r\n", "\n"))
        return bool(data)


@contextmanager
def typed(
    *arguments: str, env: Mapping[str, str] | None = None, columns: int = COLUMNS
) -> Iterator[Typed]:
    """The command with all three streams at a terminal, which is also the one of its Ctrl-C."""
    if sys.platform == "win32":
        pytest.skip("needs a pseudo-terminal")
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
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
            yield Typed(process, ours, columns)
        finally:
            process.kill()
            os.close(ours)
