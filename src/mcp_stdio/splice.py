"""Editing JSON text in place: what is not changed stays as it was written.

A result that crosses from one era to the other, a merged page, a new id: all are cut and joined,
not parsed and printed anew, so that the order of keys, the spelling of numbers and what we do not
know survive (P3). The text given must be valid JSON. A path names members from the outermost object
inwards; where it leads nowhere nothing is found and nothing dropped. Of a name given twice the last
one counts, as in `json`. Knows nothing of JSON-RPC.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from mcp_stdio.errors import TooDeep

SPACE = " \t\r\n"
"""What may stand between the tokens of JSON."""


class Member(NamedTuple):
    """A member of an object: its name, and where name and value stand in the text."""

    name: str
    begin: int
    value: int
    end: int


class Endless(str):
    """An integer of more digits than Python converts; kept as its spelling."""


def _refuse_constant(spelling: str) -> None:
    raise ValueError(f"{spelling} is not JSON")


def _integer(digits: str) -> int | Endless:
    try:
        return int(digits)
    except ValueError:
        return Endless(digits)


STRICT_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
"""Refuses NaN and Infinity, and stumbles over integers of thousands of digits."""

scan: Callable[[str, int], tuple[Any, int]] = STRICT_DECODER.scan_once  # type: ignore[attr-defined]
"""The value that begins at an index and where it ends: what a decoder does, without two calls
around that double the time for a small one. Raises StopIteration where no value begins."""

PATIENT_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)
"""Takes integers of any length, at the price of a Python call for each."""


def encode(value: Any) -> str:
    """JSON for something we made ourselves: compact, ASCII."""
    return json.dumps(value, separators=(",", ":"))


def members(text: str, start: int = 0) -> list[Member]:
    """The members of the object at `start`, in order. Raises TooDeep."""
    found: list[Member] = []
    at = _skip(text, _skip(text, start) + 1)
    while text[at] != "}":
        begin = at
        name, at = PATIENT_DECODER.raw_decode(text, at)
        value = _skip(text, _skip(text, at) + 1)
        end = _end(text, value)
        found.append(Member(name, begin, value, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def spans(text: str, start: int = 0) -> dict[str, tuple[int, int]]:
    """Where the value of each member of the object at `start` begins and ends."""
    return {member.name: (member.value, member.end) for member in members(text, start)}


def elements(text: str, start: int = 0) -> list[tuple[int, int]]:
    """Where each element of the array at `start` begins and ends. Raises TooDeep."""
    found: list[tuple[int, int]] = []
    at = _skip(text, _skip(text, start) + 1)
    while text[at] != "]":
        end = _end(text, at)
        found.append((at, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def find(text: str, *path: str) -> tuple[int, int] | None:
    """Where the value at `path` begins and ends; None when there is none."""
    start, end = _skip(text, 0), len(text)
    for name in path:
        if text[start] != "{" or (span := spans(text, start).get(name)) is None:
            return None
        start, end = span
    return start, end


def get(text: str, *path: str) -> str | None:
    """The text of the value at `path`; None when there is none."""
    span = find(text, *path)
    return None if span is None else text[span[0] : span[1]]


def put(text: str, value: str, *path: str, last: bool = False) -> str:
    """The text with the JSON `value` at `path`, in place of what stands there.

    Objects that are missing on the way are made; a new member comes first in its object, or `last`.
    """
    *way, name = path
    span = find(text, *way)
    if span is None:
        return put(text, f"{{{encode(name)}:{value}}}", *way, last=last)
    if text[span[0]] != "{":
        return f"{text[: span[0]]}{{{encode(name)}:{value}}}{text[span[1] :]}"
    found = members(text, span[0])
    for member in reversed(found):
        if member.name == name:
            return f"{text[: member.value]}{value}{text[member.end :]}"
    brace = span[0] + 1
    if found and last:
        end = found[-1].end
        return f"{text[:end]},{encode(name)}:{value}{text[end:]}"
    comma = "," if found else ""
    return f"{text[:brace]}{encode(name)}:{value}{comma}{text[brace:]}"


def drop(text: str, *path: str) -> str:
    """The text without the member at `path`, however often it is there."""
    *way, name = path
    span = find(text, *way)
    if span is None or text[span[0]] != "{":
        return text
    found = members(text, span[0])
    kept = [index for index, member in enumerate(found) if member.name != name]
    if len(kept) == len(found):
        return text
    # Joined from what stays: to cut out one after the other takes hours where there are millions.
    parts = [text[found[index].begin : found[index + 1].begin] for index in kept[:-1]]
    parts += [text[found[index].begin : found[index].end] for index in kept[-1:]]
    return "".join([text[: found[0].begin], *parts, text[found[-1].end :]])


def edit(text: str, change: Callable[[str], str], *path: str) -> str:
    """The text with the value at `path` replaced by what `change` makes of it, if it is there."""
    span = find(text, *path)
    if span is None:
        return text
    return f"{text[: span[0]]}{change(text[span[0] : span[1]])}{text[span[1] :]}"


def edit_members(text: str, change: Callable[[str, str], str]) -> str:
    """The object with each value replaced by what `change` makes of its name and text.

    In one pass: an object may have thousands of members. Text that is no object stays.
    """
    if text[_skip(text, 0)] != "{":
        return text
    parts: list[str] = []
    at = 0
    for member in members(text):
        parts += text[at : member.value], change(member.name, text[member.value : member.end])
        at = member.end
    return "".join(parts) + text[at:]


def edit_elements(text: str, change: Callable[[str], str | None], *path: str) -> str:
    """The text with each element of the array at `path` changed; None leaves one out.

    Text without an array there, and an array of which nothing is changed, stay as they are.
    """
    span = find(text, *path)
    if span is None or text[span[0]] != "[":
        return text
    old = [text[begin:end] for begin, end in elements(text, span[0])]
    new = [change(element) for element in old]
    if new == old:
        return text
    kept = ",".join(element for element in new if element is not None)
    return f"{text[: span[0]]}[{kept}]{text[span[1] :]}"


def value(text: str) -> Any:
    """What the text means; integers of any length are understood. Raises TooDeep."""
    try:
        return PATIENT_DECODER.decode(text)
    except RecursionError:
        raise TooDeep from None


def _end(text: str, start: int) -> int:
    """Where the value at `start` ends."""
    try:
        return PATIENT_DECODER.raw_decode(text, start)[1]
    except RecursionError:  # it could only be parsed with a few calls less around
        raise TooDeep from None


def _skip(text: str, at: int) -> int:
    while text[at] in SPACE:
        at += 1
    return at
