"""A lane to look over the relay's shoulder: what was sent, and what came back with it.

Wraps the lane below the client, so that what the client deals with by itself, such as a challenge
or a redirect, is seen as well. Changes one thing: what cannot be reached is not tried again, since
somebody is waiting to hear why. Knows no stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import trio

from mcp_stdio import spec
from mcp_stdio.errors import RelayError, Unreachable
from mcp_stdio.http import Exchange, Head, Lane, Request
from mcp_stdio.http.redirects import is_redirect, target
from mcp_stdio.http.url import Url


class Unreached(RelayError):
    """Stands for an Unreachable, which would be tried again."""

    def __init__(self, failure: Unreachable) -> None:
        super().__init__(str(failure), hint=failure.hint)
        self.failure = failure


class Answered(Protocol):
    """Is told each answer, as the server gave it."""

    def __call__(self, request: Request, head: Head, /) -> None:
        """`request` has all the headers that it was sent with."""
        ...


class Listening:
    """What has become of the stream on which a server speaks by itself, once it was asked for.

    `head` is the answer, `failure` why there is none.
    """

    def __init__(self) -> None:
        self.is_asked = trio.Event()
        self.is_decided = trio.Event()
        self.head: Head | None = None
        self.failure: RelayError | None = None
        self._hops = 0

    def learn(self, url: Url, head: Head) -> None:
        """An answer came; a redirect that is followed is none yet."""
        if not is_redirect(head):
            self.decide(head, None)
            return
        try:
            target(url, head, self._hops)
        except RelayError as exc:
            self.decide(None, exc)
        self._hops += 1

    def decide(self, head: Head | None, failure: RelayError | None) -> None:
        """The first answer counts."""
        if not self.is_decided.is_set():
            self.head, self.failure = head, failure
            self.is_decided.set()


class Observed(Lane):
    """A lane that tells `answered` of each answer, and `listening` what it is about."""

    def __init__(self, lane: Lane, answered: Answered, listening: Listening) -> None:
        self._lane = lane
        self.answered = answered
        self.listening = listening

    def is_ready(self, request: Request) -> bool:
        """As the lane says."""
        return self._lane.is_ready(request)

    async def send(self, request: Request) -> Exchange:
        """Send the request. Raises Unreached in place of Unreachable."""
        listening = self.listening if _listens(request) else None
        if listening is not None:
            listening.is_asked.set()
        with _noting(listening):
            exchange = await self._lane.send(request)
        return _ObservedExchange(exchange, self, request, listening)

    async def prepare(self, url: Url) -> None:
        """Have a connection ready."""
        await self._lane.prepare(url)

    def drop_idle(self) -> None:
        """Close every idle connection."""
        self._lane.drop_idle()

    async def aclose(self) -> None:
        """Close what is left open."""
        await self._lane.aclose()


class _ObservedExchange(Exchange):
    def __init__(
        self, exchange: Exchange, observed: Observed, request: Request, listening: Listening | None
    ) -> None:
        self._exchange = exchange
        self._observed = observed
        self._request = request
        self._listening = listening

    @property
    def was_sent(self) -> bool:
        return self._exchange.was_sent

    async def head(self) -> Head:
        with _noting(self._listening):
            head = await self._exchange.head()
        if self._listening is not None:
            self._listening.learn(self._request.url, head)
        self._observed.answered(self._request, head)
        return head

    async def receive_some(self) -> bytes:
        return await self._exchange.receive_some()

    async def aclose(self) -> None:
        await self._exchange.aclose()


@contextmanager
def _noting(listening: Listening | None) -> Iterator[None]:
    try:
        yield
    except RelayError as exc:
        if listening is not None:
            listening.decide(None, exc)
        if isinstance(exc, Unreachable):
            raise Unreached(exc) from exc
        raise


def _listens(request: Request) -> bool:
    """Whether a request asks for the stream: a GET, or `subscriptions/listen`."""
    return request.method == "GET" or (spec.METHOD, spec.LISTEN) in request.headers
