"""The id in a message that is not kept: found in its bytes as they pass.

Owns what is looked at of a line over the limit, so that the request in it still gets its one answer
(P1). Time and memory are bounded, whatever comes. Loaded when the first such line does.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress

from mcp_stdio.jsonrpc import Id

MAX_MEMBER = 64 * 1024
"""Bytes of a top-level name or scalar that the scanner keeps; no id in use comes near it."""


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
