"""An event stream of the server: one stream, however many connections it takes.

Knows where it can be resumed and how long to wait before (T-45, T-49), and which of its events are
messages (T-40c to T-40e). Who reads it, and what a stream that ends means, is not known here.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

from mcp_stdio import jsonrpc, retry, sse
from mcp_stdio.errors import ConnectionLost
from mcp_stdio.http import Exchange
from mcp_stdio.jsonrpc import Message, NotAMessage

log = logging.getLogger(__name__)

MAX_ID = 4096
"""Characters of an event id that is sent back: half of what many servers take of a head."""

Take = Callable[[list[Message]], Awaitable[bool]]
"""Is given what one read brought, perhaps nothing; says whether that is enough."""


class EventStream:
    """The events of one stream; `limit` bounds one of them in bytes.

    `last_event_id` is what the next connection has to name, None while there is nothing to resume.
    `broken_by` is why the last connection broke off, None if it ended.
    """

    def __init__(self, limit: int) -> None:
        self.last_event_id: str | None = None
        self.broken_by: ConnectionLost | None = None
        self._limit = limit
        self._retry: float | None = None
        self._backoff = retry.Backoff()

    async def read(self, exchange: Exchange, take: Take) -> bool:
        """Read one connection until `take` has enough; False when it ends or breaks off before.

        Raises TooLarge for an event over the limit, once those before it were taken.
        """
        decoder = sse.Decoder(self._limit, self.last_event_id or "")
        while chunk := await self._receive(exchange):
            events = decoder.feed(chunk)
            if events or decoder.last_event_id != (self.last_event_id or ""):
                self._backoff.reset()
            if await take(messages_in(events)):
                return True
            # Only now: what was not taken to its end has to come again.
            self.last_event_id = _header_value(decoder.last_event_id)
            if decoder.retry is not None:
                self._retry = decoder.retry / 1000
            if decoder.failure is not None:
                raise decoder.failure
        return False

    async def _receive(self, exchange: Exchange) -> bytes:
        self.broken_by = None
        try:
            return await exchange.receive_some()
        except ConnectionLost as exc:
            log.info("an event stream broke off: %s", exc)
            self.broken_by = exc
            return b""

    def forget(self) -> None:
        """Begin at the present: what was last seen cannot be gone on from."""
        self.last_event_id = None

    def reset(self) -> None:
        """Let the pauses grow from the beginning again."""
        self._backoff.reset()

    def pause(self) -> float:
        """Seconds to wait before the next connection; they grow from one to the next."""
        return self._backoff.delay(asked=self._retry, jitter=random.random())


def messages_in(events: list[sse.Event]) -> list[Message]:
    """The messages of the events, but for what Streamable HTTP does not define (T-40c, T-40d)."""
    messages: list[Message] = []
    for event in events:
        if event.type == "message":
            try:
                messages += jsonrpc.parse_many(event.data)
            except NotAMessage as exc:
                log.warning("skipped an event that is no JSON-RPC message: %s", exc)
    return messages


def _header_value(id: str) -> str | None:
    """An event id as a header can carry it; one that none can is no id."""
    is_one = 0 < len(id) <= MAX_ID and id.isprintable() and id.strip() == id
    return id if is_one else None
