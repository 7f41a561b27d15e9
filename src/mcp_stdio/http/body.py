"""Reading a response body within a bound, whole or only its beginning."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import trio

from mcp_stdio.errors import RelayError, TooLarge
from mcp_stdio.http import Exchange


async def read_body(exchange: Exchange, limit: int, heard: Callable[[], None]) -> bytes:
    """The body of a response; `heard` is told of each part that arrives.

    Raises TooLarge over `limit` bytes (decompressed), ConnectionLost when the body breaks off.
    """
    body = BytesIO()  # gives away what it holds: a large body is copied once
    while chunk := await exchange.receive_some():
        heard()
        body.write(chunk)
        if body.tell() > limit:
            raise TooLarge(
                f"the server's answer is larger than {limit} bytes",
            )
    return body.getvalue()


async def read_beginning(exchange: Exchange, limit: int, seconds: float) -> bytes:
    """What can be had of a body that only explains a failure; whatever is wrong with it, ends it.

    Reads little more than `limit` bytes.
    """
    beginning = bytearray()
    with trio.move_on_after(seconds):
        try:
            while len(beginning) < limit and (chunk := await exchange.receive_some()):
                beginning += chunk
        except RelayError:
            pass
    return bytes(beginning)
