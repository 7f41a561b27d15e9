"""Bytes to lines: where one message on standard input ends and the next begins.

Owns the line rule (stdio transport: one message per line, UTF-8, ended by LF) and its tolerances: a
CR before the LF, blank lines and a byte order mark at the start of the input mean nothing. A line
over the limit, or larger than the memory there is, is thrown away as it arrives, but its JSON-RPC
id is picked out of the passing bytes (`scanner`). Refuses to know what a valid message is, and does
no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mcp_stdio.jsonrpc import Id

if TYPE_CHECKING:
    from mcp_stdio.scanner import MemberScanner

_PIECE = 64 * 1024
"""Bytes that are copied at a time when there may be hardly any memory left."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Oversized(NamedTuple):
    """A line that was too large and is gone.

    `size` is its length in bytes, `id` the top-level id if the line had a usable one. With
    `has_method` it was a request (or, without id, a notification), otherwise a response.
    """

    size: int
    id: Id | None
    has_method: bool


class Lines:
    """Cuts a stream of bytes into lines of at most `max_size` bytes.

    The time taken is linear in the bytes fed, however they are cut up. With `keeps_blank` the lines
    with nothing in them are handed out as well: a person who presses Enter wants an answer.
    """

    def __init__(self, max_size: int, *, keeps_blank: bool = False) -> None:
        self._max_size = max_size
        self._keeps_blank = keeps_blank
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
        if self._size:
            self._end_line(lines)
        return lines

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._scanner is not None:
            self._scanner.feed(piece)
            return
        try:
            self._kept += piece
        except MemoryError:
            self._throw_away().feed(piece)
            return
        excess = self._size - self._max_size
        # One byte more may turn out to be the CR of the line end.
        if excess > 1 or (excess == 1 and not self._kept.endswith(b"\r")):
            self._throw_away()

    def _throw_away(self) -> MemberScanner:
        from mcp_stdio.scanner import MemberScanner  # hardly any run meets such a line

        self._scanner = MemberScanner()
        for at in range(0, len(self._kept), _PIECE):
            self._scanner.feed(self._kept[at : at + _PIECE])
        self._kept = bytearray()
        return self._scanner

    def _end_line(self, lines: list[bytes | Oversized]) -> None:
        if self._scanner is None:
            try:
                self._end_kept(lines)
            except MemoryError:
                self._throw_away()
        if self._scanner is not None:
            found = self._scanner
            lines.append(Oversized(self._size, found.id, found.has_method))
            self._scanner = None
        self._size = 0
        self._is_first = False

    def _end_kept(self, lines: list[bytes | Oversized]) -> None:
        if self._kept.endswith(b"\r"):
            del self._kept[-1]
        if self._is_first and self._kept.startswith(BYTE_ORDER_MARK):
            del self._kept[: len(BYTE_ORDER_MARK)]
        if self._keeps_blank or (self._kept and not self._kept.isspace()):
            lines.append(bytes(self._kept))
        self._kept.clear()
