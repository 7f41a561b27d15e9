"""A Markdown page as the tests look at it: headings, blocks of code, rows of tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Heading:
    """`number` is the line it stands in."""

    number: int
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences; `number` is the line of the first."""

    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"line {self.number}"


class Page:
    """One file of the repository."""

    def __init__(self, name: str) -> None:
        self.text = (ROOT / name).read_text(encoding="utf-8")
        self.headings: list[Heading] = []
        self.blocks: list[Block] = []
        self.prose: list[str] = []
        """The lines outside blocks."""
        begin: int | None = None
        lines = self.text.splitlines()
        for number, line in enumerate(lines, 1):
            if line.startswith("```"):
                if begin is None:
                    begin = number
                else:
                    language = lines[begin - 1].removeprefix("```")
                    text = "\n".join(lines[begin : number - 1])
                    self.blocks.append(Block(begin, language, text))
                    begin = None
            elif begin is None:
                self.prose.append(line)
                if match := re.match(r"(#+) (.+)", line):
                    self.headings.append(Heading(number, len(match[1]), match[2]))
        assert begin is None, f"the block of line {begin} has no end"

    def commands(self) -> Iterator[str]:
        """Each line that is for a shell."""
        for block in self.blocks:
            if block.language == "sh":
                yield from block.text.splitlines()

    def rows(self) -> Iterator[list[str]]:
        """The cells of each row of each table, without heads and rules."""
        for before, line in zip(["", *self.prose], self.prose, strict=False):
            is_row = line.startswith("|") and before.startswith("|")
            if is_row and not set(line) <= set("|-: "):
                yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]

    def targets(self) -> Iterator[str]:
        """Where links and pictures lead."""
        for line in self.prose:
            yield from re.findall(r"\]\(([^)\s]+)\)", line)

    def anchors(self) -> set[str]:
        """The anchors that headings have, as GitHub makes them."""
        return {
            re.sub(r"[^\w\- ]", "", heading.text.lower()).replace(" ", "-")
            for heading in self.headings
        }


ENGLISH = Page("README.md")
JAPANESE = Page("README.ja.md")
