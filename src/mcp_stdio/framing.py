"""Bytes to lines: where one message on standard input ends and the next begins.

Owns the line rule (stdio transport: one message per line, UTF-8, ended by LF) and its tolerances: a
CR before the LF, blank lines and a byte order mark at the start of the input mean nothing. A line
over the limit is thrown away as it arrives, but its JSON-RPC id is picked out of the passing bytes,
so that the request in it still gets its one answer (P1). Refuses to know what a valid message is,
and does no I/O.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass

from mcp_stdio.jsonrpc import Id

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

MAX_MEMBER = 64 * 1024
"""Bytes of a top-level name or scalar that the scanner keeps; no id in use comes near it."""


@dataclass(frozen=True, slots=True)
class Oversized:
    """A line that was over the limit and is gone.

    `size` is its length in bytes, `id` the top-level id if the line had a usable one. With
    `has_method` it was a request (or, without id, a notification), otherwise a response.
    """

    size: int
    id: Id | None
    has_method: bool


class Lines:
    """Cuts a stream of bytes into lines of at most `max_size` bytes.

    The time taken is linear in the bytes fed, however they are cut up.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._kept = bytearray()
        self._size = 0
        self._scanner: MemberScanner | None = None
        self._is_first = True

    def feed(self, data: bytes) -> list[bytes | Oversized]:
        """The lines that `data` completes, without their line ends."""
        pieces = data.split(b"\n")
        rest = pieces.pop()
        lines: list[bytes | Oversized] = []
        for piece in pieces:
            self._add(piece)
            self._end_line(lines)
        self._add(rest)
        return lines

    def end(self) -> list[bytes | Oversized]:
        """The last line, when the input ended without a line end after it."""
        lines: list[bytes | Oversized] = []
        self._end_line(lines)
        return lines

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._scanner is not None:
            self._scanner.feed(piece)
            return
        self._kept += piece
        excess = self._size - self._max_size
        # One byte more may turn out to be the CR of the line end.
        if excess > 1 or (excess == 1 and not self._kept.endswith(b"\r")):
            self._scanner = MemberScanner()
            self._scanner.feed(self._kept)
            self._kept = bytearray()

    def _end_line(self, lines: list[bytes | Oversized]) -> None:
        if self._scanner is not None:
            found = self._scanner
            lines.append(Oversized(self._size, found.id, found.has_method))
            self._scanner = None
        else:
            if self._kept.endswith(b"\r"):
                del self._kept[-1]
            if self._is_first and self._kept.startswith(BYTE_ORDER_MARK):
                del self._kept[: len(BYTE_ORDER_MARK)]
            if self._kept and not self._kept.isspace():
                lines.append(bytes(self._kept))
            self._kept.clear()
        self._size = 0
        self._is_first = False


def _whole_values(depth: int) -> bytes:
    """A pattern for JSON text whose containers are closed and at most `depth` deep."""
    plain = rb'[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+"'
    return (
        rb"(?:%s|[{\[]%s[}\]])*+" % (plain, _whole_values(depth - 1))
        if depth
        else (rb"(?:%s)*+" % plain)
    )


# All possessive, so that no input makes them backtrack.
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
# Three levels at a stride: bracket by bracket, 32 MB of small objects took seconds.
_NESTED = re.compile(_whole_values(3), re.DOTALL)
_MEMBER = re.compile(rb'[^"{}\[\]:,]*+')
_BEFORE = re.compile(rb"[ \t\r\xef\xbb\xbf]*+")


class MemberScanner:
    """Finds the top-level `id` and `method` of a JSON object fed in pieces, wherever they stand.

    Keeps only the member it is in. Expects JSON but survives anything; an id counts once it has
    ended, and of two the last one, as in `json`.
    """

    def __init__(self) -> None:
        self.id: Id | None = None
        self.has_method = False
        self._depth = 0
        self._is_over = False
        self._in_string = False
        self._is_escaped = False
        self._name: object = None
        self._member = bytearray()
        self._is_scalar = True

    def feed(self, data: bytes | bytearray) -> None:
        """Look at the next bytes."""
        at = 0
        if self._is_escaped and data:
            self._is_escaped = False
            self._keep(data[:1])
            at = 1
        while at < len(data) and not self._is_over:
            if self._in_string:
                at = self._string(data, at)
            elif self._depth == 0:
                at = self._start(data, at)
            elif self._depth == 1:
                at = self._top_level(data, at)
            else:
                at = self._nested(data, at)

    def _string(self, data: bytes | bytearray, at: int) -> int:
        end = _end(_IN_STRING, data, at)
        if end == len(data):
            self._keep(data[at:end])
            return end
        # What stops the match is the closing quote, or a backslash as the very last byte.
        if data[end] == ord('"'):
            self._in_string = False
        else:
            self._is_escaped = True
        self._keep(data[at : end + 1])
        return end + 1

    def _start(self, data: bytes | bytearray, at: int) -> int:
        at = _end(_BEFORE, data, at)
        if at < len(data):
            self._depth = 1
            self._is_over = data[at] != ord("{")
        return at + 1

    def _top_level(self, data: bytes | bytearray, at: int) -> int:
        end = _end(_MEMBER, data, at)
        self._keep(data[at:end])
        match data[end : end + 1]:
            case b'"':
                self._in_string = True
                self._keep(b'"')
            case b"{" | b"[":
                self._depth = 2
                self._is_scalar = False
            case b":":
                self._name = self._take()
                self.has_method = self.has_method or self._name == "method"
            case b"," | b"}" | b"]":
                value = self._take()
                if self._name == "id":
                    self.id = value if isinstance(value, Id) else None
                self._name = None
                self._is_over = data[end] != ord(",")
        return end + 1

    def _nested(self, data: bytes | bytearray, at: int) -> int:
        end = _end(_NESTED, data, at)
        match data[end : end + 1]:
            case b'"':
                self._in_string = True
            case b"{" | b"[":
                self._depth += 1
            case b"}" | b"]":
                self._depth -= 1
        return end + 1

    def _keep(self, part: bytes | bytearray) -> None:
        if self._depth == 1 and self._is_scalar:
            self._member += part
            self._is_scalar = len(self._member) <= MAX_MEMBER

    def _take(self) -> object:
        """The name or value that has just ended, if it can be an id; otherwise None."""
        value: object = None
        if self._is_scalar:
            with suppress(ValueError):
                value = json.loads(self._member.decode())
        self._member.clear()
        self._is_scalar = True
        return None if isinstance(value, bool) else value


def _end(pattern: re.Pattern[bytes], data: bytes | bytearray, at: int) -> int:
    found = pattern.match(data, at)
    return found.end() if found else at
