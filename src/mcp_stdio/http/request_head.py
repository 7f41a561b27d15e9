"""The head of an HTTP/1.1 request as bytes, checked, and remembered.

The requests of a session differ in little but the length of their body, so that all around it is
built and checked once. The checks are those of RFC 9110 5: what could end a header, or a head, and
begin another is refused. No I/O.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mcp_stdio.errors import UsageFailure
from mcp_stdio.http import Request
from mcp_stdio.http.fields import are_short, fields
from mcp_stdio.http.url import Url

_TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[^\x00\s]++(?:[ \t]++[^\x00\s]++)*+|")
_TARGET = re.compile(rb"[\x21-\x7e]+")

_OURS = frozenset({"connection", "content-length", "host", "transfer-encoding"})
"""What says where a request goes and ends, and what comes after it: ours alone to say."""


def request_head(request: Request) -> bytes:
    """The bytes up to the body. Raises UsageFailure for a header that HTTP cannot carry."""
    size = len(request.body)
    has_length = size > 0 or request.method == "POST"
    around = _around_length if are_short(request.headers) else _around_length.__wrapped__
    before, after = around(request.method, request.url, request.headers, has_length)
    return b"%b%d%b" % (before, size, after) if has_length else before + after


@lru_cache(maxsize=128)
def _around_length(
    method: str, url: Url, given: tuple[tuple[str, str], ...], has_length: bool
) -> tuple[bytes, bytes]:
    """The head in two parts; the length of the body, if it is told, belongs between them."""
    verb, target = method.encode(), url.target.encode()
    pairs = fields(method, url, given, int(has_length))
    if not (
        _TOKEN.fullmatch(verb)
        and _TARGET.fullmatch(target)
        and _OURS.isdisjoint(name.lower() for name, _ in given)
        and all(_TOKEN.fullmatch(name) and _VALUE.fullmatch(value) for name, value in pairs)
    ):
        # Not quoted: it may be a secret.
        raise UsageFailure(
            "a request header has a name or a value that HTTP cannot carry",
            hint="check `--header` and what the header file or command gives",
        )
    lines = [b"%b: %b\r\n" % pair for pair in pairs]
    at = next((at for at, (name, _) in enumerate(pairs) if name == b"Content-Length"), len(pairs))
    before = b"%b %b HTTP/1.1\r\n%b" % (verb, target, b"".join(lines[:at]))
    after = b"".join(lines[at + 1 :]) + b"\r\n"
    return (before + b"Content-Length: ", b"\r\n" + after) if has_length else (before, after)
