"""The direct lane: HTTP/1.1 straight to the server, one connection for each running exchange.

Owns which connection a request travels on. Kept-alive ones rest in a free list for each origin,
the last one used on top: it is the one most surely alive, and the ones below it are older still,
so none of them is ever looked at. Rules: a connection is asked for signs of life before use; a
request that must not run twice takes none that rested long enough for the server to be closing it.
Knows neither proxies, redirects and cookies (`client`) nor MCP.

It exists because httpx on trio takes 480 µs of CPU for a call and scans all its connections for
each, and because it does not tell whether a byte of the request left (P2).
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

import trio

from mcp_stdio.errors import RelayError
from mcp_stdio.http import Accepts, Exchange, Lane, Request
from mcp_stdio.http.connection import ONE_WRITE, Connection, DirectExchange
from mcp_stdio.http.dial import dial
from mcp_stdio.http.request_head import request_head
from mcp_stdio.http.url import Origin, Url

if TYPE_CHECKING:
    from mcp_stdio.http.observer import Observer

FRESH = 4.0
"""Seconds of rest after which a request that must not run twice gets a new connection: uvicorn and
node close theirs after 5 s, and a request that crosses the close has an unknown outcome."""


class Direct(Lane):
    """The way to servers that are reached without a proxy.

    `tls` builds the context for `https`, once and not before it is needed. `timeout_connect` bounds
    name resolution, TCP and TLS together, `timeout_write` a write that makes no progress (None: no
    limit); both in seconds. `accepts` judges each address before it is connected to; `observer` is
    told of each connection.
    """

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext],
        *,
        timeout_connect: float = 10.0,
        timeout_write: float | None = 30.0,
        accepts: Accepts | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._tls = cache(tls)
        self._timeout_connect = timeout_connect
        self._timeout_write = timeout_write
        self._accepts = accepts
        self._observer = observer
        self._idle: dict[Origin, deque[Connection]] = {}
        self._preparations: dict[Origin, _Preparation] = {}

    def is_ready(self, request: Request) -> bool:
        """Whether `send` would put the request on an open connection without waiting for one."""
        # A longer body would hold up those behind it.
        return len(request.body) <= ONE_WRITE and self._ready(request) is not None

    async def send(self, request: Request) -> Exchange:
        """Send the request; on a ready connection its bytes leave before anything is waited for.

        (With TLS one scheduling step lies in between, which is `trio.SSLStream`'s.) Raises
        Unreachable, TlsFailure, ConnectionLost; UsageFailure for what HTTP or TLS cannot take.
        """
        body = request.body
        head = request_head(request)
        connection = self._take(request) or await self._wait_for_connection(request)
        exchange = DirectExchange(connection, request.method, self._keep)
        await exchange.send(head, body)
        return exchange

    async def prepare(self, url: Url) -> None:
        """Have a connection ready for the first request, which waits for it if it comes sooner.

        A failure stays silent here; it is raised to the request that waited.
        """
        preparation = self._preparations[url.origin] = _Preparation()
        try:
            async with trio.open_nursery() as nursery:
                if url.scheme == "https":
                    nursery.start_soon(self._prepare_tls)
                try:
                    self._keep(await self._dial(url))
                except RelayError as exc:
                    preparation.failure = exc
        finally:
            preparation.is_over.set()
            if self._preparations.get(url.origin) is preparation:
                del self._preparations[url.origin]

    def drop_idle(self) -> None:
        """Close every idle connection, for instance after the machine has slept."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()

    async def aclose(self) -> None:
        """Close the idle connections; each running exchange is closed by whoever holds it."""
        self.drop_idle()
        await trio.lowlevel.checkpoint()

    def _ready(self, request: Request) -> Connection | None:
        """The idle connection that can serve the request now; closes those that no one should use.

        None as well when the top one rested too long for this request, or TLS has to be read first.
        """
        idle = self._idle.get(request.url.origin)
        now = trio.current_time()
        while idle:
            connection = idle[-1]
            if now <= connection.usable_until:
                news = connection.news(now)
                if news is None:
                    return connection if _may_serve(connection, request, now) else None
                if news and connection.may_hold_tickets():
                    return None
            idle.pop().close()
        return None

    def _take(self, request: Request) -> Connection | None:
        connection = self._ready(request)
        if connection is not None:
            self._idle[request.url.origin].pop()
        return connection

    async def _wait_for_connection(self, request: Request) -> Connection:
        origin = request.url.origin
        idle = self._idle.get(origin)
        if not idle and (preparation := self._preparations.pop(origin, None)):
            await preparation.is_over.wait()
            if preparation.failure is not None:
                raise preparation.failure
            if connection := self._take(request):
                return connection
            idle = self._idle.get(origin)
        now = trio.current_time()
        if idle and idle[-1].may_hold_tickets() and _may_serve(idle[-1], request, now):
            connection = idle.pop()
            if await connection.read_tickets():
                return connection
        return await self._dial(request.url)

    async def _prepare_tls(self) -> None:
        # Reading certificates takes some 15 ms: as long as a name is resolved or a server answers,
        # if not longer. The dialling, begun before, waits for the network meanwhile.
        await trio.lowlevel.checkpoint()
        with suppress(RelayError):  # raised again to whoever needs them
            self._tls()

    async def _dial(self, url: Url) -> Connection:
        transport, stream = await dial(
            url,
            self._tls,
            timeout_connect=self._timeout_connect,
            timeout_write=self._timeout_write,
            accepts=self._accepts,
            observer=self._observer,
        )
        return Connection(url, transport, stream)

    def _keep(self, connection: Connection) -> None:
        idle = self._idle.setdefault(connection.origin, deque())
        # The bottom is the oldest: after a burst the free list shrinks again, at no cost.
        while idle and idle[0].usable_until < connection.idle_since:
            idle.popleft().close()
        idle.append(connection)


class _Preparation:
    """A connection on its way into the free list."""

    def __init__(self) -> None:
        self.is_over = trio.Event()
        self.failure: RelayError | None = None


def _may_serve(connection: Connection, request: Request, now: float) -> bool:
    return request.is_replayable or now - connection.idle_since <= FRESH
