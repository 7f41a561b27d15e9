"""Large JSON text looked at without being built: what a megabyte of base64 says does not matter.

A message that is only passed on is read for its outline, in which the long strings are left empty.
They are checked piece by piece, so that the text is as surely JSON as after parsing all of it, yet
nothing of its size is made besides it: for 50 MB each such thing takes as long as the check itself.
Knows nothing of JSON-RPC.
"""

from __future__ import annotations

from mcp_stdio.splice import STRICT_DECODER

_LONG = 1024
"""Bytes of a string that is left empty."""

_PIECE = 64 * 1024
"""Bytes of a string that are checked at once."""

_FEW = 32
_FOR_EACH = 4096
"""How many strings are looked at: some, and one more for each so many bytes. A text with more of
them is quicker parsed, and to have tried takes a tenth of that at most."""

_ESCAPE = len(r"\u0000")


def outline(raw: bytes) -> dict[str, object] | None:
    """The JSON object `raw`, with every long string in it empty.

    None is no judgement: the text may be no JSON, or no object, or may be quicker parsed.
    """
    parts: list[bytes] = []
    at = kept = 0
    left = _FEW + len(raw) // _FOR_EACH
    while begin := raw.find(b'"', at) + 1:
        end = _end_of_string(raw, begin)
        left -= 1
        if end < 0 or left < 0:
            return None
        if end - begin > _LONG:
            parts.append(raw[kept:begin])
            kept = end
        at = end + 1
    parts.append(raw[kept:])
    try:
        value = STRICT_DECODER.decode(b"".join(parts).decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _end_of_string(raw: bytes, begin: int) -> int:
    """The closing quote of the string whose text begins there; -1 if it is not to be found.

    What is in a long string is checked on the way, of a short one that is left to the outline.
    """
    quote = raw.find(b'"', begin, begin + _LONG)
    if quote >= 0 and raw.find(b"\\", begin, quote) < 0:
        return quote
    at, most = begin, _LONG
    while at < len(raw):
        # A piece that is cut off within a character or an escape sequence is none: try a bit less.
        for size in range(most, most - _ESCAPE, -1):
            try:
                text = f'"{raw[at : at + size].decode()}"'
                end = STRICT_DECODER.raw_decode(text)[1]
            except ValueError:
                continue
            break
        else:
            return -1
        if end < len(text):
            return at + len(text[1 : end - 1].encode())
        at, most = at + size, _PIECE
    return -1
