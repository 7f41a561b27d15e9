"""One HTTP/1.1 response (RFC 9112): bytes in as they arrive, head and body out.

Owns how a response is cut out of a connection: its heads, 1xx ones passed over; where its body
ends, by length, by chunks or by the close; and whether another may follow on the same connection.
No I/O: whoever reads the connection hands over each read whole and is given all of the body that
is in it. Whatever two readers could take for different things is refused (RFC 9112 11): bare
carriage returns and NUL, white space before a colon, lengths that differ, transfer codings other
than `chunked`, sizes that are no numbers. Accepted is what servers are known to say and what has
one meaning: bare line feeds in heads (2.2), folded lines (5.2), no reason phrase, white space after
a chunk's size. It exists because h11 took a fifth of the time of a call;
`tests/http/test_against_h11.py` compares it with h11.
"""

from __future__ import annotations

import re
from enum import Enum

from mcp_stdio.http import Head, Headers

MAX_HEAD_SIZE = 256 * 1024
"""Bytes of a response head: what servers accept ranges from 8 to 64 KiB, some cookies are large."""

MAX_CHUNK_LINE = 4096
"""Bytes of a chunk's size and extensions, which nobody uses; Go reads as many."""

MAX_LENGTH_DIGITS = 20
"""Digits of a length: more than any body can have, few enough for any reader."""

_HEAD_END = re.compile(rb"\n\r?\n")

_STATUS_LINE = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: [^\x00\r\n\v\f]*+)?\r?\n")

_FIELD = re.compile(
    r"^([-!#$%&'*+.^_`|~0-9A-Za-z]++):[ \t]*+([^\x00\r\n\v\f]*+)\r?\n", re.MULTILINE
)
"""A header line. Possessive, so that no line takes more than one pass."""

_FOLD = re.compile(r"\r?\n[ \t]+")

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,20}+)(?:;[^\x00\r\n]*+|[ \t]*+)\r\n")


class _Malformed(Exception):
    """The bytes are no HTTP/1.1 response; says why, in words of our own."""


class _Part(Enum):
    """What the next bytes belong to."""

    HEAD = "a head"
    LENGTH = "a body of known length"
    CHUNKS = "a body in chunks"
    TRAILERS = "what may follow the last chunk"
    REST = "a body that the end of the stream ends"
    NOTHING = "no part of this response"


class Response:
    """The response to one request with `method`.

    `head` is the final head once it has arrived. `failure` is why what came last cannot be
    understood; nothing more is read then.
    """

    __slots__ = ("_expects_body", "_left", "_part", "_unread", "failure", "head", "keeps_open")

    def __init__(self, method: str) -> None:
        self._expects_body = method != "HEAD"
        self._part = _Part.HEAD
        self._unread = b""
        self._left = 0
        self.head: Head | None = None
        self.failure: str | None = None
        self.keeps_open = False
        """Whether another exchange may follow, as far as the head and what came since tell."""

    @property
    def is_complete(self) -> bool:
        """Whether the head and all of the body have arrived."""
        return self._part is _Part.NOTHING

    def receive(self, data: bytes) -> bytes:
        """Take in what one read brought, not `b""`; gives what there is of the body in it."""
        sought = 0  # Up to there, no end of a head has been found before.
        if self._unread:
            sought = max(0, len(self._unread) - 2)
            data, self._unread = self._unread + data, b""
        try:
            if self._part is _Part.HEAD:
                data = self._after_heads(data, sought)
            match self._part:
                case _Part.LENGTH:
                    return self._measured(data)
                case _Part.CHUNKS:
                    return self._dechunked(data)
                case _Part.REST:
                    return data
                case _Part.TRAILERS:
                    self._read_trailers(data, 0, sought)
                case _Part.NOTHING if data:
                    self.keeps_open = False
        except _Malformed as exc:
            self._fail(str(exc))
        return b""

    def end(self) -> bool:
        """The stream has ended; says whether the response is complete with that."""
        if self._part is _Part.REST:
            self._part = _Part.NOTHING
        return self.is_complete

    def _after_heads(self, data: bytes, sought: int) -> bytes:
        """Read the heads that are there; what follows the final one."""
        while self._part is _Part.HEAD:
            if data[:5] != b"HTTP/"[: len(data)]:
                raise _Malformed("it begins without a status line")
            found = _HEAD_END.search(data, sought)
            if (found.end() if found else len(data)) > MAX_HEAD_SIZE:
                raise _Malformed(f"its head is longer than {MAX_HEAD_SIZE} bytes")
            if found is None:
                self._unread = data
                return b""
            self._read_head(data[: found.start() + 1].decode("latin-1"))
            data, sought = data[found.end() :], 0
        return data

    def _read_head(self, text: str) -> None:
        line = _STATUS_LINE.match(text)
        if line is None:
            raise _Malformed("its status line is none of HTTP/1.1")
        fields = _Fields(text[line.end() :])
        status = int(line[2])
        if status < 200:
            if status == 101:
                raise _Malformed("it switches to another protocol, unasked")
            return
        self.head = Head(status, Headers.lowered(fields.items))
        if status in (204, 304) or not self._expects_body:
            self._part = _Part.LENGTH
        elif fields.is_chunked:
            self._part = _Part.CHUNKS
        elif fields.length is not None:
            self._part = _Part.LENGTH
            self._left = int(fields.length)
        else:
            self._part = _Part.REST
        self.keeps_open = (
            line[1] != "0"
            and not fields.says_close
            and self._part is not _Part.REST
            # The length is void then (RFC 9112 6.3), but something on the way may go by it.
            and not (fields.is_chunked and fields.length is not None)
        )

    def _measured(self, data: bytes) -> bytes:
        more = len(data) - self._left
        if more < 0:
            self._left = -more
            return data
        body = data[: self._left]
        self._complete(more)
        return body

    def _dechunked(self, data: bytes) -> bytes:
        # `left` counts what is to come of a chunk together with the line break after it.
        parts: list[bytes] = []
        at, left = 0, self._left
        while True:
            if left > 2:
                part = data[at : at + left - 2]
                parts.append(part)
                at += len(part)
                left -= len(part)
                if left > 2:
                    break
            if left:
                found = data[at : at + left]
                if found != b"\r\n"[2 - left : 2 - left + len(found)]:
                    self._fail("a chunk is longer than its size")
                    break
                at += len(found)
                left -= len(found)
                if left:
                    break
            line = _CHUNK_LINE.match(data, at)
            if line is None:
                if data.find(b"\n", at) >= 0 or len(data) - at > MAX_CHUNK_LINE:
                    self._fail("a chunk begins without its size")
                else:
                    self._unread = data[at:]
                break
            at = line.end()
            size = int(line[1], 16)
            if size == 0:
                self._part = _Part.TRAILERS
                try:
                    self._read_trailers(data, at, at)
                except _Malformed as exc:
                    self._fail(str(exc))
                break
            left = size + 2
        self._left = left
        return b"".join(parts)

    def _read_trailers(self, data: bytes, at: int, sought: int) -> None:
        """Check what follows the last chunk and leave it: a field there decides nothing here."""
        if data.startswith(b"\r\n", at):
            end = at + 2
        elif data.startswith(b"\n", at):
            end = at + 1
        elif (found := _HEAD_END.search(data, sought)) is not None:
            _Fields(data[at : found.start() + 1].decode("latin-1"))
            end = found.end()
        else:
            end = at
        if end - at > MAX_HEAD_SIZE or (end == at and len(data) - at > MAX_HEAD_SIZE):
            raise _Malformed(f"its trailers are longer than {MAX_HEAD_SIZE} bytes")
        if end == at:
            self._unread = data[at:]
        else:
            self._complete(len(data) - end)

    def _complete(self, more: int) -> None:
        self._part = _Part.NOTHING
        if more:
            self.keeps_open = False  # Whatever it is, it is no answer to what comes next.

    def _fail(self, why: str) -> None:
        self.failure = why
        self.keeps_open = False


class _Fields:
    """The header fields of a head, and what of them concerns framing. Raises _Malformed."""

    __slots__ = ("is_chunked", "items", "length", "says_close")

    def __init__(self, text: str) -> None:
        found = _FIELD.findall(text)
        if len(found) != text.count("\n"):
            found = _FIELD.findall(_unfolded(text))
        self.items = [(name.lower(), value.rstrip(" \t")) for name, value in found]
        self.is_chunked = False
        self.length: str | None = None
        self.says_close = False
        for name, value in self.items:
            if name == "content-length":
                self._read_length(value)
            elif name == "transfer-encoding":
                # `chunked` twice is no more than once chunked and once unknown.
                if self.is_chunked or value.lower() != "chunked":
                    raise _Malformed("its transfer coding is not `chunked`")
                self.is_chunked = True
            elif name == "connection":
                options = [option.strip(" \t") for option in value.lower().split(",")]
                self.says_close = self.says_close or "close" in options

    def _read_length(self, value: str) -> None:
        for each in value.split(","):
            digits = each.strip(" \t")
            if not (digits.isascii() and digits.isdigit()) or len(digits) > MAX_LENGTH_DIGITS:
                raise _Malformed("its Content-Length is no number")
            # Several equal ones mean one, in a list or in several headers (RFC 9112 6.3).
            if self.length is not None and self.length != digits:
                raise _Malformed("it has two different Content-Lengths")
            self.length = digits


def _unfolded(text: str) -> str:
    """The header lines without the old way of breaking a long one; Raises _Malformed for others."""
    unfolded = _FOLD.sub(" ", text)
    if len(_FIELD.findall(unfolded)) != unfolded.count("\n"):
        raise _Malformed("one of its header lines is none")
    return unfolded
