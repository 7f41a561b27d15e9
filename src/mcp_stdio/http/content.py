"""Content codings: compressed bodies made plain, in steps of a bounded size (RFC 9110 8.4).

Responses are asked for uncompressed, but some servers and middleboxes compress all the same. Owns
gzip and deflate, the latter with the zlib header that RFC 9110 asks for and without it, as some
servers send it. No I/O here; how much a whole body may become is the caller's decision, who can
stop after any step because none yields more than `STEP` bytes, however much a few bytes of input
might expand to.
"""

from __future__ import annotations

import zlib

STEP = 64 * 1024
"""The most bytes one step yields: what a read from a socket yields as well."""

_RAW = -zlib.MAX_WBITS
_GZIP = 16 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f"


class Malformed(Exception):
    """The bytes are not what their content coding promised."""


class Unsupported(Exception):
    """The content coding is none of ours."""


class Decoder:
    """Decodes one body: `feed` what arrived, then take `step` until it gives nothing.

    A gzip body may consist of several members (RFC 1952 section 2.2); other bytes after the end
    of a stream are padding.
    """

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._input = b""
        self._inflate: zlib._Decompress | None = None
        self._has_ended = False
        self._is_padded = False

    @property
    def is_complete(self) -> bool:
        """Whether the body may end here; an empty one may, as many a 202 has no bytes to decode."""
        return self._inflate is None and (self._has_ended or not self._input)

    def feed(self, data: bytes) -> None:
        """Take in bytes of the encoded body."""
        self._input += data

    def step(self) -> bytes:
        """At most `STEP` bytes of the plain body; `b""` when more input is needed.

        Raises Malformed.
        """
        while (inflate := self._inflate or self._begin()) is not None:
            try:
                plain = inflate.decompress(self._input, STEP)
            except zlib.error as exc:
                raise Malformed(str(exc)) from None
            if not inflate.eof:
                self._input = inflate.unconsumed_tail
                return plain
            self._input = inflate.unused_data
            self._inflate = None
            self._has_ended = True
            if plain:
                return plain
        return b""

    def _begin(self) -> zlib._Decompress | None:
        """Start on a stream; None when there is too little input, or none but padding."""
        if self._has_ended and self._input:
            # Padding lasts to the end of the body, whatever a part of it begins with.
            self._is_padded = self._is_padded or not (
                self._is_gzip and self._input.startswith(_GZIP_MAGIC)
            )
        if self._is_padded:
            self._input = b""
            return None
        if len(self._input) < (1 if self._is_gzip else 2):
            return None
        if self._is_gzip:
            window = _GZIP
        else:
            window = zlib.MAX_WBITS if _has_zlib_header(self._input) else _RAW
        self._inflate = zlib.decompressobj(window)
        return self._inflate


def decoder(content_encoding: str | None) -> Decoder | None:
    """The decoder for a `Content-Encoding` header; None where the body is plain.

    Raises Unsupported, also for codings applied on top of each other, which nobody does.
    """
    codings = [coding.strip().lower() for coding in (content_encoding or "").split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    match codings:
        case []:
            return None
        case ["gzip" | "x-gzip"]:
            return Decoder(is_gzip=True)
        case ["deflate"]:
            return Decoder(is_gzip=False)
        case _:
            raise Unsupported(", ".join(codings))


def _has_zlib_header(data: bytes) -> bool:
    # RFC 1950 section 2.2: method 8, and a check that makes the pair a multiple of 31. No raw
    # deflate stream begins so unless it sets padding bits that every encoder leaves at zero.
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
