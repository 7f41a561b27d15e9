"""Reading a whole response body within a bound."""

from __future__ import annotations

from collections.abc import Callable

from mcp_stdio.errors import TooLarge
from mcp_stdio.http import Exchange


async def read_body(exchange: Exchange, limit: int, heard: Callable[[], None]) -> bytes:
    """The body of a response; `heard` is told of each part that arrives.

    Raises TooLarge over `limit` bytes (decompressed), ConnectionLost when the body breaks off.
    """
    chunks: list[bytes] = []
    size = 0
    while chunk := await exchange.receive_some():
        heard()
        size += len(chunk)
        if size > limit:
            raise TooLarge(
                f"the server's answer is larger than {limit} bytes",
                hint="raise `--max-message-size` if such answers are wanted",
            )
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
