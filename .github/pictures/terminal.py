"""The picture of `mcp-stdio test` on a terminal: a real run in a pseudo-terminal, as text in SVG.

Owns the terminal: what of its control sequences our output uses (colours, a line written anew), and
the colours they get. Refuses to know the stages. Kept here: nothing is typed by hand; the words,
colours and times are those of the run, against the demo's server on this machine.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drawing import Picture, Run

COLUMNS, ROWS = 100, 50
CELL, LINE, SIZE, MARGIN = 7.9, 19.0, 13.0, 20.0
BACKGROUND, PLAIN, DIM = "#0d1117", "#e6edf3", "#9198a1"
_SHADES = ("#6e7681", "#ff7b72", "#7ee787", "#e3b341", "#79c0ff", "#d2a8ff", "#76e3ea", PLAIN)
COLOURS = {base + index: colour for base in (30, 90) for index, colour in enumerate(_SHADES)}

_SOURCE = Path(__file__).parent.parent.parent / "src"
_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b\][^\x07]*\x07|[\r\n\b]|[^\x1b\r\n\b]")


@dataclass(frozen=True, slots=True)
class Look:
    """How a character is shown."""

    fill: str = PLAIN
    bold: bool = False


class Screen:
    """What a terminal shows after what was written to it."""

    def __init__(self) -> None:
        self._cells: list[dict[int, tuple[str, Look]]] = [{}]
        self._row = self._column = 0
        self._look = Look()

    def write(self, text: str) -> None:
        """Take what the program wrote."""
        for match in _SEQUENCE.finditer(text):
            if match[2]:
                self._obey(match[2], match[1])
            elif match[0] == "\r":
                self._column = 0
            elif match[0] == "\n":
                self._go(self._row + 1)
            elif match[0] == "\b":
                self._column = max(0, self._column - 1)
            elif match[0].isprintable():
                self._put(match[0])

    def lines(self) -> Iterator[list[Run]]:
        """For each line the runs of characters that look the same."""
        for cells in self._cells:
            runs: list[Run] = []
            for column, (character, look) in sorted(cells.items()):
                if runs:
                    begin, text, fill, bold = runs[-1]
                    if begin + len(text) == column and (fill, bold) == (look.fill, look.bold):
                        runs[-1] = (begin, text + character, fill, bold)
                        continue
                runs.append((column, character, look.fill, look.bold))
            yield [run for run in runs if run[1].strip()]

    def _put(self, character: str) -> None:
        if self._column >= COLUMNS:
            self._column = 0
            self._go(self._row + 1)
        self._cells[self._row][self._column] = (character, self._look)
        self._column += 1

    def _go(self, row: int) -> None:
        self._row = max(0, row)
        while len(self._cells) <= self._row:
            self._cells.append({})

    def _obey(self, command: str, given: str) -> None:
        numbers = [int(each or 0) for each in given.lstrip("?").split(";")]
        match command:
            case "m":
                for number in numbers:
                    self._paint(number)
            case "K":
                line = self._cells[self._row]
                for column in [each for each in line if numbers[0] or each >= self._column]:
                    del line[column]
            case "J":
                del self._cells[self._row + 1 :]
                self._obey("K", "0")
            case "A":
                self._go(self._row - max(1, numbers[0]))
            case "B":
                self._go(self._row + max(1, numbers[0]))
            case "G":
                self._column = max(1, numbers[0]) - 1

    def _paint(self, number: int) -> None:
        match number:
            case 0:
                self._look = Look()
            case 1:
                self._look = Look(self._look.fill, bold=True)
            case 2:
                self._look = Look(DIM, self._look.bold)
            case 22:
                self._look = Look(PLAIN if self._look.fill == DIM else self._look.fill)
            case 39:
                self._look = Look(PLAIN, self._look.bold)
            case _ if number in COLOURS:
                self._look = Look(COLOURS[number], self._look.bold)


def draw() -> Picture:
    """A test that passes, and one that does not: the demo's server under a wrong path."""
    screen = Screen()
    with _demo() as url:
        for target in (url, url.removesuffix("/mcp") + "/"):
            screen.write(f"\x1b[92m$\x1b[0m \x1b[1mmcp-stdio test {target}\x1b[0m\r\n")
            screen.write(_run_in_terminal("test", target))
            screen.write("\r\n")
    lines = list(screen.lines())
    while lines and not lines[-1]:
        lines.pop()
    width, height = 2 * MARGIN + COLUMNS * CELL, 2 * MARGIN + len(lines) * LINE
    picture = Picture(width, height, "mcp-stdio test on a terminal", paper=BACKGROUND)
    for index, runs in enumerate(lines):
        picture.cells(MARGIN, MARGIN + index * LINE + SIZE, runs, CELL, SIZE)
    return picture


class _demo:  # noqa: N801 - reads as a function
    """The demo's server, for as long as the block lasts; gives its URL."""

    def __enter__(self) -> str:
        self._server = subprocess.Popen(
            _command("demo", "--serve"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        assert self._server.stdout is not None
        found = re.search(r"http://\S+", self._server.stdout.readline())
        assert found is not None, "the demo did not start"
        return found[0]

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()


def _run_in_terminal(*arguments: str) -> str:
    """What the program writes to a terminal of our size, to its end."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    with subprocess.Popen(
        _command(*arguments), stdin=child, stdout=child, stderr=child, env=_environment()
    ):
        os.close(child)
        written = b""
        try:
            while data := os.read(parent, 65536):
                written += data
        except OSError:  # Linux says so that the other side is closed
            pass
    os.close(parent)
    return written.decode()


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mcp_stdio", *arguments]


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {"PYTHONPATH": str(_SOURCE), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
