"""What an exchange must know about the era it serves: `Link`, and what both eras share.

A link dresses messages in headers and says what an interruption means. It holds values only; who
opened it and how it is renewed is the upstream's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mcp_stdio.errors import ConnectionLost
from mcp_stdio.http import Head
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from mcp_stdio.upstream.patience import Patience

HeaderList = tuple[tuple[str, str], ...]

HeadersOf = Callable[[Message], HeaderList]
"""Headers that a message needs for what is in it."""


def no_headers(message: Message) -> HeaderList:
    """None beyond those of the link."""
    return ()


class LinkLost(ConnectionLost):
    """The link is over: what was sent under it may have run, and nothing goes out under it again.

    The request may be sent under another link, if its method allows that.
    """


class Link(Protocol):
    """The relation to the server under which a message is sent."""

    @property
    def has_session(self) -> bool:
        """Whether a 404 means that a session has ended (T-42, T-44)."""
        ...

    @property
    def closing_cancels(self) -> bool:
        """Whether the server takes a closed response stream for a cancel, and no message (T-60)."""
        ...

    @property
    def answers_elsewhere(self) -> bool:
        """Whether answers come on another stream, whatever the POST is answered with (T-91)."""
        ...

    def headers(self, message: Message) -> HeaderList:
        """Headers of the POST that carries `message`."""
        ...

    def anew(self, message: Message) -> Message:
        """The request as it is sent once more when it may have run: some eras want a new id."""
        ...

    def resume_headers(self, last_event_id: str) -> HeaderList | None:
        """Headers of the GET that resumes a broken stream; None where that does not exist."""
        ...

    def opened(self, message: Message, call: Call, patience: Patience) -> None:
        """A request is about to be sent; `patience` can end it."""
        ...

    def begun(self, message: Message, head: Head) -> None:
        """The response to a request has begun. Raises BadAnswer for a head that cannot be used."""
        ...

    def closed(self, message: Message) -> None:
        """A request is over, in whatever way."""
        ...

    def overheard(self, message: Message, request: Message) -> bool:
        """The server says something else than an answer, on the stream of `request`.

        Says whether the client is to hear it.
        """
        ...

    async def wait_elsewhere(self, message: Message) -> None:
        """Wait until the answer to a request that was accepted came on another stream.

        Raises BadAnswer where there is no such stream, LinkLost when it ends before.
        """
        ...

    async def abandon(self, message: Message, withdrawn: Message | None) -> None:
        """Tell the server that nobody waits for the answer to `message` any more.

        `withdrawn` is the client's own word for it, None when the relay gives up by itself.
        """
        ...
