"""The lane over httpx: HTTP and SOCKS proxies as the environment names them.

httpx decides which proxy applies to a request, or none; this module translates. httpx gives no sign
between "connecting" and "answered", so `send` starts nothing, `head` does it all, and no request
ever finds this lane ready; `journey` follows how far it has come (`was_sent`). Each running
exchange has an httpx client, and so a connection, of its own, and the resting ones lie in a free
list as in `direct`: the pool inside a client looks at all its connections for each request, which
made 500 calls at once take ten seconds. Knows no MCP. Imported only when there is a proxy, because
of what httpx costs at the start.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, NamedTuple

import httpx
import trio

from mcp_stdio.errors import ConnectionLost, RelayError, UsageFailure
from mcp_stdio.http import Accepts, Exchange, Head, Headers, Lane, Request
from mcp_stdio.http.connection import FINISH_SIZE, FINISH_TIME, IDLE_LIMIT, ONE_WRITE
from mcp_stdio.http.direct import FRESH
from mcp_stdio.http.fields import fields
from mcp_stdio.http.journey import Journey, Proxy
from mcp_stdio.http.url import Origin, Url

if TYPE_CHECKING:
    from mcp_stdio.http.observer import Observer


class Proxied(Lane):
    """HTTP/1.1 through whatever proxy the environment names for a URL.

    `tls` is called once, for the first request. `timeout_connect` bounds name, TCP, proxy and TLS
    together, `timeout_write` each write (None: no limit), in seconds. `accepts` judges each
    address that is connected to without a proxy, before anything is said there; `observer` is told
    of each connection.
    """

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext],
        *,
        timeout_connect: float,
        timeout_write: float | None,
        accepts: Accepts | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._timeout_connect = timeout_connect
        self._timeout_write = timeout_write
        self._accepts = accepts
        self._observer = observer
        self._idle: dict[Origin, deque[_Idle]] = {}
        self._spent: list[httpx.AsyncClient] = []
        self._proxies: dict[Origin, Proxy] = {}

    def is_ready(self, request: Request) -> bool:
        """Never: `send` starts nothing here, so nobody's order can depend on it."""
        return False

    async def send(self, request: Request) -> Exchange:
        """An exchange whose `head` sends the request, and raises what is said of `send`.

        Raises UsageFailure when the proxy settings cannot be used.
        """
        await self._close_spent()
        client = self._take(request) or self._make()
        journey = Journey(
            request.url, self._timeout_connect, self._proxies, self._accepts, self._observer
        )
        return _Exchange(client, self._keep, request, journey)

    async def prepare(self, url: Url) -> None:
        """Load the certificates; httpx opens no connection without a request."""
        try:
            self._keep(url.origin, self._make())
        except RelayError:
            pass  # the first request will say it

    def drop_idle(self) -> None:
        """Use no idle connection any more; they are closed with the next `send`."""
        for idle in self._idle.values():
            self._spent += [each.client for each in idle]
        self._idle.clear()

    async def aclose(self) -> None:
        """Close the idle connections; each running exchange is closed by whoever holds it."""
        self.drop_idle()
        await self._close_spent()

    async def _close_spent(self) -> None:
        while self._spent:
            await self._spent.pop().aclose()

    def _take(self, request: Request) -> httpx.AsyncClient | None:
        idle = self._idle.get(request.url.origin)
        if idle and (request.is_replayable or trio.current_time() - idle[-1].since <= FRESH):
            return idle.pop().client
        return None

    def _keep(self, origin: Origin, client: httpx.AsyncClient) -> None:
        now = trio.current_time()
        idle = self._idle.setdefault(origin, deque())
        while idle and idle[0].since < now - IDLE_LIMIT:
            self._spent.append(idle.popleft().client)
        idle.append(_Idle(client, now))

    def _make(self) -> httpx.AsyncClient:
        if self._context is None:
            self._context = self._tls()
        return _client(self._context, self._timeout_write)


class _Idle(NamedTuple):
    """A client whose connection rests, and since when by trio's clock."""

    client: httpx.AsyncClient
    since: float


def _client(context: ssl.SSLContext, timeout_write: float | None) -> httpx.AsyncClient:
    try:
        return httpx.AsyncClient(
            verify=context,
            timeout=httpx.Timeout(None, write=timeout_write),
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=None,
                keepalive_expiry=IDLE_LIMIT,
            ),
            # It would never send them, only hoard them.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            event_hooks={"response": [_leave_redirect_alone]},
        )
    except ImportError:
        raise UsageFailure(
            "the proxy settings name a SOCKS proxy, for which a package is missing",
            hint="install the extra `socks`, as in `pip install '.[socks]'`",
        ) from None
    except (ValueError, httpx.InvalidURL):
        raise UsageFailure(
            "the proxy settings of the environment cannot be understood",
            hint="`HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` take `http://host:port`, "
            "`https://host:port` or `socks5://host:port`",
        ) from None


async def _leave_redirect_alone(response: httpx.Response) -> None:
    # Even told to follow no redirect, httpx builds the request that would, and fails on a
    # `Location` it cannot read. What is no redirect to httpx still is one to our caller.
    response.extensions["head"] = Head(response.status_code, Headers(response.headers.raw))
    response.headers.pop("location", None)


class _Exchange(Exchange):
    """One request over httpx, with a client of its own, which goes to `keep` afterwards."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        keep: Callable[[Origin, httpx.AsyncClient], None],
        request: Request,
        journey: Journey,
    ) -> None:
        self._client = client
        self._keep = keep
        self._request = request
        self._journey = journey
        self._response: httpx.Response | None = None
        self._body: AsyncIterator[bytes] | None = None
        self._is_complete = False
        self._is_over = False
        self._failure: RelayError | None = None

    @property
    def was_sent(self) -> bool:
        """Whether a byte of the request may have left; none has before `head` is called."""
        return self._journey.was_sent

    @property
    def is_kept(self) -> bool:
        """Whether the connection had been used before."""
        return not self._journey.has_connected

    async def head(self) -> Head:
        """Connect, send and wait for the response head.

        Raises Unreachable (or a subtype) as long as no byte of the request left.
        """
        journey = self._journey
        try:
            with journey.connecting():
                self._response = await self._client.send(self._outgoing(), stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
            raise journey.failure(exc) from exc
        except Exception as exc:
            if not journey.is_at_the_proxy:
                raise
            # What a SOCKS proxy that speaks no SOCKS makes of httpx, it has not foreseen.
            raise journey.failure(exc) from exc
        if self._response is None:
            raise journey.took_too_long()
        head: Head = self._response.extensions["head"]
        if head.status == 407 and journey.is_forwarded:
            raise journey.refused(head.status)
        self._body = self._response.aiter_raw()
        return head._replace(proxy=journey.proxy) if journey.is_forwarded else head

    def _outgoing(self) -> httpx.Request:
        request = self._request
        return httpx.Request(
            request.method,
            str(request.url),
            headers=fields(request.method, request.url, request.headers, len(request.body)),
            stream=_Body(request.body),
            extensions={"trace": self._journey.trace},
        )

    async def receive_some(self) -> bytes:
        """The next bytes of the body, as they came."""
        if self._failure is not None:
            raise self._failure
        assert self._body is not None
        try:
            data = await anext(self._body, b"")
        except httpx.HTTPError as exc:
            self._failure = self._journey.broke_off(exc)
            raise self._failure from exc
        except trio.Cancelled as exc:
            self._failure = self._journey.broke_off(exc)  # httpcore has closed the connection
            raise
        self._is_complete = not data
        return data

    async def aclose(self) -> None:
        """Keep the connection if the response is over, or is within a moment."""
        if self._is_over:
            return
        self._is_over = True
        try:
            await self._finish()
        finally:
            if self._response is not None:
                await self._response.aclose()
            if self._is_complete:
                self._keep(self._request.url.origin, self._client)
            else:
                self._journey.hang_up()
                await self._client.aclose()

    async def _finish(self) -> None:
        # The body is read to its end or to a cancellation: dropping it half-way would leave the
        # generators of httpx and httpcore to the garbage collector, which trio reports.
        if self._body is None or self._is_complete or self._failure is not None:
            return
        try:
            with trio.move_on_after(FINISH_TIME) as moment:
                size = 0
                while data := await self.receive_some():
                    size += len(data)
                    if size > FINISH_SIZE:
                        moment.cancel()
        except ConnectionLost:
            pass


class _Body(httpx.AsyncByteStream):
    """A request body, in pieces so that the limit for a write is one for making any progress.

    Not httpx's own, which is an async generator and would be left to the garbage collector, which
    trio reports, whenever a write fails or is cancelled.
    """

    def __init__(self, body: bytes) -> None:
        self._rest = memoryview(body)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece, self._rest = self._rest[:ONE_WRITE], self._rest[ONE_WRITE:]
        if not piece:
            raise StopAsyncIteration
        return bytes(piece)
