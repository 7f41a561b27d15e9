"""A lane to look over the relay's shoulder: what was sent when, and what came back with it.

Wraps the lane the relay would use and changes one thing: what cannot be reached is not tried again,
since somebody is waiting to hear why. Knows no stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from mcp_stdio import spec
from mcp_stdio.errors import BadAnswer, ConnectionLost, RelayError, TimedOut, Unreachable
from mcp_stdio.http import Exchange, Head, Lane, Request
from mcp_stdio.http.url import Url


class Unreached(RelayError):
    """Stands for an Unreachable, which would be tried again."""

    def __init__(self, failure: Unreachable) -> None:
        super().__init__(str(failure), hint=failure.hint)
        self.failure = failure


class Observed(Lane):
    """A lane that notes what passes.

    `on_sent` is called once, when the first request has left; a lane that is proxied tells that no
    sooner than its answer.
    """

    def __init__(self, lane: Lane, *, is_proxied: bool, on_sent: Callable[[], None]) -> None:
        self._lane = lane
        self._is_proxied = is_proxied
        self._on_sent = on_sent
        self.has_sent = False
        self.sent_at = trio.current_time()
        self.has_session = False

    def is_ready(self, request: Request) -> bool:
        """As the lane says."""
        return self._lane.is_ready(request)

    async def send(self, request: Request) -> Exchange:
        """Send the request. Raises Unreached in place of Unreachable."""
        with self.looking():
            exchange = await self._lane.send(request)
        if not self._is_proxied:
            self.note_sent()
        return _ObservedExchange(exchange, self)

    async def prepare(self, url: Url) -> None:
        """Have a connection ready."""
        await self._lane.prepare(url)

    def drop_idle(self) -> None:
        """Close every idle connection."""
        self._lane.drop_idle()

    async def aclose(self) -> None:
        """Close what is left open."""
        await self._lane.aclose()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Tell failures before a request has left from those after it."""
        try:
            yield
        except Unreachable as exc:
            raise Unreached(exc) from exc
        except (BadAnswer, ConnectionLost, TimedOut):
            self.note_sent()
            raise

    def note_sent(self) -> None:
        """The first request has left."""
        if not self.has_sent:
            self.has_sent = True
            if not self._is_proxied:
                self.sent_at = trio.current_time()
            self._on_sent()


class _ObservedExchange(Exchange):
    def __init__(self, exchange: Exchange, observed: Observed) -> None:
        self._exchange = exchange
        self._observed = observed

    @property
    def was_sent(self) -> bool:
        return self._exchange.was_sent

    async def head(self) -> Head:
        with self._observed.looking():
            head = await self._exchange.head()
        self._observed.note_sent()
        if head.headers.get(spec.SESSION_ID.lower()) is not None:
            self._observed.has_session = True
        return head

    async def receive_some(self) -> bytes:
        return await self._exchange.receive_some()

    async def aclose(self) -> None:
        await self._exchange.aclose()
