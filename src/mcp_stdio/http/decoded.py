"""What every reader of a lane needs: a body freed of its content coding, and no bare OSError.

Lanes hand bytes on as they came. Owns the order of reading and decoding; the codings themselves
are in `content`. A compressed body that broke off is never taken for whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from mcp_stdio.errors import BadAnswer, ConnectionLost, quote
from mcp_stdio.http import Head, content


class Decoded:
    """The plain body of a response whose encoded one `receive` gives, part by part.

    Raises BadAnswer for a coding that is not understood.
    """

    def __init__(self, head: Head, receive: Callable[[], Awaitable[bytes]]) -> None:
        self._receive = receive
        try:
            self._decoder = content.decoder(head.headers.get("content-encoding"))
        except content.Unsupported as exc:
            raise BadAnswer(
                f"the server compresses its answer with `{quote(str(exc))}`, unasked",
                hint="gzip and deflate are understood; let the server answer uncompressed",
                status=head.status,
            ) from None

    async def receive_some(self) -> bytes:
        """The next bytes of the body; `b""` once it is complete. Raises ConnectionLost, BadAnswer.

        Never many more than a read from a socket brings, whatever they expand to.
        """
        if self._decoder is None:
            return await self._receive()
        await trio.lowlevel.checkpoint()  # a step may need no input, and there may be many
        while True:
            try:
                plain = self._decoder.step()
            except content.Malformed as exc:
                raise BadAnswer(
                    f"the server's compressed answer is damaged: {quote(str(exc))}",
                    hint="the server or a proxy before it compresses wrongly",
                ) from None
            if plain:
                return plain
            encoded = await self._receive()
            if encoded:
                self._decoder.feed(encoded)
            elif self._decoder.is_complete:
                return b""
            else:
                raise ConnectionLost("the server's compressed answer broke off", answer_begun=True)


@contextmanager
def os_errors_translated(*, answer_begun: bool = False) -> Iterator[None]:
    """Make ConnectionLost of an OSError."""
    try:
        yield
    except OSError as exc:
        raise lost(exc, answer_begun=answer_begun) from exc


def lost(error: OSError, *, answer_begun: bool = False) -> ConnectionLost:
    """What an OSError out of a lane means.

    Lanes translate the errors they foresee; whether bytes left is unknown for any other.
    """
    return ConnectionLost(
        f"the connection failed: {quote(error.strerror or type(error).__name__)}",
        answer_begun=answer_begun,
    )
