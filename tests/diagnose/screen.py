"""A small terminal: what is on the screen after some text was written to it.

Knows what the program uses and what a line discipline makes of it: carriage return, backspace, new
line, colours. Anything else is a control character that has no business there, and fails.
"""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Screen:
    """Rows of text, the last one with the cursor; lines wrap at `columns`."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._rows = [""]
        self._column = 0
        self.colours: list[str] = []
        self.shown: list[str] = []  # what the last row was, each time that it changed

    @property
    def rows(self) -> list[str]:
        return [row.rstrip() for row in self._rows]

    def write(self, text: str) -> None:
        at = 0
        while at < len(text):
            if colour := _COLOUR.match(text, at):
                self.colours.append(colour[0][2:-1])
                at = colour.end()
                continue
            self._take(text[at])
            at += 1
        if not self.shown or self.shown[-1] != self.rows[-1]:
            self.shown.append(self.rows[-1])

    def _take(self, character: str) -> None:
        match character:
            case "\r":
                self._column = 0
            case "\b":
                self._column -= 1
            case "\n":
                self._rows.append("")
                self._column = 0
            case _:
                assert character.isprintable(), repr(character)
                if self._column == self._columns:
                    self._rows.append("")
                    self._column = 0
                row = self._rows[-1].ljust(self._column)
                self._rows[-1] = row[: self._column] + character + row[self._column + 1 :]
                self._column += 1
