"""What is fuzzed: functions of bytes that raise where a promise of a parser is broken.

A target is given any bytes at all, by Hypothesis (`test_targets`) or guided by coverage (`python -m
tests.fuzz`). What it needs besides the text to be read (where to cut it, which option is set) it
takes off the front, so that every run can be repeated from its bytes alone.
"""

from __future__ import annotations

import json
import re
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


ODD_VALUES = (
    *(b"null", b"true", b"0", b"-1", b"1.5", b"1e999", b'""', b'"x"', b"[]", b"[null]", b"{}"),
    *(b'{"a":null}', b"[[]]", b'"\\ud800"', b"9" * 400),
)
"""JSON that may stand where another value is expected."""

_DECODER = json.JSONDecoder()


def with_value(data: bytes, at: int, value: bytes) -> bytes:
    """The text with a JSON value in place of one of those in it, the `at`th from some beginning."""
    starts = [found.start() for found in re.finditer(rb'(?<=[:,\[{\n ])["{\[\d\w-]|\A[{\[]', data)]
    if not starts:
        return data
    start = starts[at % len(starts)]
    text = data[start:].decode("latin-1")
    try:
        end = _DECODER.raw_decode(text)[1]
    except (ValueError, RecursionError):
        return data
    return data[:start] + value + text[end:].encode("latin-1")


def as_text(data: bytes) -> str:
    """Text as it comes from outside: bytes that are no UTF-8 are kept as Python keeps them."""
    return data.decode("utf-8", "surrogateescape")


def pieces(data: bytes, size: int) -> list[bytes]:
    """The bytes cut into pieces of this size, all of them in one for 0."""
    size = size or max(len(data), 1)
    return [data[at : at + size] for at in range(0, len(data), size)]
