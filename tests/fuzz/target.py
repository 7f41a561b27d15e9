"""What is fuzzed: functions of bytes that raise where a promise of a parser is broken.

A target is given any bytes at all, by Hypothesis (`test_targets`) or guided by coverage (`python -m
tests.fuzz`). What it needs besides the text to be read (where to cut it, which option is set) it
takes off the front, so that every run can be repeated from its bytes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Holds = Callable[[bytes], None]


class Target(NamedTuple):
    """`holds` raises where the property is broken; any exception is a finding.

    `seeds` are inputs to begin with, `words` what is worth being put into them.
    """

    holds: Holds
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...]


TARGETS: dict[str, Target] = {}
"""By name; filled as the modules of `targets` are imported."""


def target(*seeds: bytes, words: tuple[bytes, ...] = ()) -> Callable[[Holds], Holds]:
    """Make the function a target under its own name."""

    def registered(holds: Holds) -> Holds:
        TARGETS[holds.__name__] = Target(holds, seeds, words)
        return holds

    return registered


class Material:
    """Bytes from whose front choices are taken; when there are no more, every choice is the first.

    `rest` is what is left: the text.
    """

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def number(self, most: int) -> int:
        """A number from 0 to `most`, which is below 256."""
        taken, self.rest = self.rest[:1], self.rest[1:]
        return taken[0] % (most + 1) if taken else 0

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.number(1))

    def part(self) -> bytes:
        """A text of less than 256 bytes."""
        size = self.number(255)
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def text(self) -> str:
        """What is left as text; one read as UTF-8 where it is that, so that all of it is met."""
        return as_text(self.rest)


def as_text(data: bytes) -> str:
    """Text as it comes from outside: bytes that are no UTF-8 are kept as Python keeps them."""
    return data.decode("utf-8", "surrogateescape")


def pieces(data: bytes, size: int) -> list[bytes]:
    """The bytes cut into pieces of this size, all of them in one for 0."""
    size = size or max(len(data), 1)
    return [data[at : at + size] for at in range(0, len(data), size)]
