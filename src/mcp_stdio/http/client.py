"""One request with everything a server expects around it: credentials, cookies, redirects, coding.

The client is a lane around a lane: it chooses one of the two at the start and adds what is the
same for both. Who asks for a request here knows nothing of it; this module knows neither MCP nor
how a credential is come by (`authorizer`). Kept here: what the user gave goes to the server's own
origin and its https upgrade, never elsewhere (P7); each header is sent once, the protocol's
before the user's, and no `Origin` (T-24); a body that broke off is never taken for whole.
"""

from __future__ import annotations

import logging
import os
import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import trio

from mcp_stdio.config import Config, Tls
from mcp_stdio.errors import RelayError, Unreachable, UsageFailure
from mcp_stdio.http import Accepts, Exchange, Head, Lane, Request, redirects
from mcp_stdio.http.authorizer import Authorizer, Fixed
from mcp_stdio.http.cookies import Cookies
from mcp_stdio.http.decoded import Decoded, lost
from mcp_stdio.http.fields import are_short
from mcp_stdio.http.url import Origin, Url

if TYPE_CHECKING:
    from mcp_stdio.http.observer import Observer

log = logging.getLogger(__name__)

PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
"""The variables httpx reads, in upper or lower case; `no_proxy` by itself names no proxy."""

MAX_MOVED = 100
"""Redirects remembered; a server whose URLs are new each time must not fill our memory."""


def open_client(
    config: Config,
    *,
    authorizer: Authorizer | None = None,
    observer: Observer | None = None,
    environ: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
) -> Client:
    """The client for the server of these settings; connects to nothing yet.

    `authorizer` replaces the headers of the settings; `observer` is told of its connections. Raises
    UsageFailure for a bad URL, and for certificate files that cannot be used.
    """
    try:
        origin = Url.parse(config.url).origin
    except ValueError as exc:
        raise UsageFailure(
            f"the URL cannot be used: {exc}", hint="a URL looks like `https://example.com/mcp`"
        ) from None

    tls = _certificates(config.tls)
    if origin.scheme == "https" and config.tls != Tls():
        tls()  # the user's files are read while a mistake in them is still one of usage
    lane = _lane(config, tls, None, environ, platform, observer)
    if observer is not None:
        lane = observer.around(lane)
    return Client(lane, origin=origin, authorizer=authorizer or Fixed(config.headers))


def open_lane(
    config: Config,
    *,
    accepts: Accepts | None = None,
    tls: Callable[[], ssl.SSLContext] | None = None,
    observer: Observer | None = None,
    environ: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
) -> Lane:
    """The lane of these settings alone, for requests that nothing of the user's goes with.

    `accepts` judges each address that this machine itself connects to, at that moment; what a proxy
    connects to, it cannot know. `tls` gives another context than that of the settings; `observer`
    is told of the connections.
    """
    tls = tls or _certificates(config.tls)
    return _lane(config, tls, accepts, environ, platform, observer)


def _certificates(settings: Tls) -> Callable[[], ssl.SSLContext]:
    @cache
    def tls() -> ssl.SSLContext:
        from mcp_stdio.http.tls import context  # loads certificates: not for http://

        return context(settings)

    return tls


def _lane(
    config: Config,
    tls: Callable[[], ssl.SSLContext],
    accepts: Accepts | None,
    environ: Mapping[str, str],
    platform: str,
    observer: Observer | None = None,
) -> Lane:
    connect, write = config.timeout_connect, config.timeout_read
    if names_proxy(environ, platform):
        from mcp_stdio.http.proxied import Proxied  # httpx costs more than all the rest

        return Proxied(
            tls,
            timeout_connect=connect,
            timeout_write=write,
            accepts=accepts,
            observer=observer,
        )
    from mcp_stdio.http.direct import Direct

    return Direct(
        tls, timeout_connect=connect, timeout_write=write, accepts=accepts, observer=observer
    )


def names_proxy(environ: Mapping[str, str], platform: str) -> bool:
    """Whether the environment, or on macOS and Windows the system's settings, name a proxy."""
    if any(value and name.lower() in PROXY_VARIABLES for name, value in environ.items()):
        return True
    if platform not in ("darwin", "win32"):
        return False
    from urllib.request import getproxies  # costs more than the rest of a start without proxy

    return any(f"{scheme}_proxy" in PROXY_VARIABLES for scheme in getproxies())


class Client(Lane):
    """A lane that adds to each request what the server's origin may see.

    `origin` is the one the user configured; requests to others carry nothing of the user's.
    """

    def __init__(self, lane: Lane, *, origin: Origin, authorizer: Authorizer | None = None) -> None:
        self._lane = lane
        self._origin = origin
        self._authorizer = authorizer or Fixed()
        self._cookies = Cookies()
        self._moved: dict[tuple[str, Url], Url] = {}

    def is_ready(self, request: Request) -> bool:
        """Whether `send` would put the request on an open connection without waiting for one."""
        return self._authorizer.is_ready and self._lane.is_ready(self._forwarded(request))

    async def send(self, request: Request) -> Exchange:
        """Send the request, its user's headers and cookies added.

        Raises Unreachable (or a subtype) when no byte of it left, ConnectionLost when some did,
        AuthorizationFailed when there is no credential to send.
        """
        is_told = log.isEnabledFor(logging.DEBUG)
        exchange = self._traced(request) if is_told else ClientExchange(self, request)
        await exchange.send(self._forwarded(request))
        return exchange

    def _traced(self, request: Request) -> ClientExchange:
        from mcp_stdio.http.traced import Traced  # not for every run

        return Traced(self, request)

    async def prepare(self, url: Url) -> None:
        """Have a connection and the credential ready for a request; failures stay silent."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lane.prepare, url)
            with suppress(RelayError):
                await self._authorizer.headers()

    def drop_idle(self) -> None:
        """Close every idle connection, for instance after the machine has slept."""
        self._lane.drop_idle()

    async def aclose(self) -> None:
        """Close what is left open."""
        await self._lane.aclose()

    def _forwarded(self, request: Request) -> Request:
        """The request as remembered redirects have it."""
        if not self._moved:
            return request
        moved = self._moved.get((request.method, request.url))
        return request if moved is None else request._replace(url=moved)

    def _remember(self, request: Request, url: Url) -> None:
        """From now on such requests go to `url` at once: a redirect has led there."""
        if len(self._moved) >= MAX_MOVED:
            self._moved.clear()
        self._moved[request.method, request.url] = url

    def _forget(self, request: Request) -> None:
        """Begin at the URL itself again: where a redirect once led, nothing is any more."""
        self._moved.pop((request.method, request.url), None)

    def _store_cookies(self, url: Url, head: Head) -> None:
        self._cookies.store(url, head.headers)

    async def _transmit(self, request: Request) -> _Transmitted:
        """Hand a request to the lane, with all of its headers."""
        given: tuple[tuple[str, str], ...] = ()
        if self._is_home(request.url):
            given = await self._authorizer.headers()
        cookie = self._cookies.header(request.url)
        merged = _merged if are_short(request.headers) else _merged.__wrapped__
        headers = merged(request.headers, given, cookie)
        complete = Request(
            request.method, request.url, headers, request.body, request.is_replayable
        )
        return _Transmitted(complete, given, await self._lane.send(complete))

    async def _renew(self, request: Request, head: Head) -> bool:
        """Have a better credential for a refused request; False when there is none."""
        return self._is_home(request.url) and await self._authorizer.renew(request, head)

    def _credential_accepted(self, request: Request) -> None:
        if self._is_home(request.url):
            self._authorizer.accepted(request)

    def _is_home(self, url: Url) -> bool:
        return redirects.is_home(self._origin, url.origin)


class _Transmitted(NamedTuple):
    """A request as it was sent, which of its headers are the user's, and what comes of it."""

    request: Request
    given: tuple[tuple[str, str], ...]
    exchange: Exchange


class ClientExchange(Exchange):
    """A request of the client: as many requests of its lane as redirects and a renewal ask for."""

    def __init__(self, client: Client, request: Request) -> None:
        self._client = client
        self._request = request
        self._sent = request
        self._given: tuple[tuple[str, str], ...] = ()
        self._inner: Exchange | None = None
        self._was_sent = False
        self._head: Head | None = None
        self._body: Decoded | None = None

    @property
    def was_sent(self) -> bool:
        """Whether a byte may have left, be it to a URL that has redirected the request since."""
        return self._was_sent or (self._inner is not None and self._inner.was_sent)

    async def send(self, request: Request) -> None:
        """Send the request, or what has become of it."""
        try:
            self._sent, self._given, self._inner = await self._client._transmit(request)
        except Unreachable:
            self._client._forget(self._request)
            raise
        except OSError as exc:
            raise lost(exc) from exc

    async def head(self) -> Head:
        """Wait for the head of the response that counts; redirects and renewals are none.

        Raises what `send` raises as well, since it may come to sending again.
        """
        hops = 0
        may_renew = True
        while self._head is None:
            head = await self._next_head()
            if redirects.is_redirect(head):
                url = redirects.target(self._sent.url, head, hops)
                self._client._remember(self._request, url)
                hops += 1
            elif (
                may_renew
                and head.status in (401, 403)
                and await self._client._renew(self._sent, head)
            ):
                url = self._sent.url
                may_renew = False
            else:
                return self._accept(head)
            await self.aclose()
            await self.send(self._request._replace(url=url))
        return self._head

    async def _next_head(self) -> Head:
        assert self._inner is not None
        try:
            head = await self._inner.head()
        except Unreachable:
            self._client._forget(self._request)
            raise
        except OSError as exc:
            raise lost(exc) from exc
        self._client._store_cookies(self._sent.url, head)
        return head

    def _accept(self, head: Head) -> Head:
        if head.status in (404, 410):
            self._client._forget(self._request)
        if head.status not in (401, 403):
            self._client._credential_accepted(self._sent)
        else:
            head = head._replace(shown=tuple(name for name, _ in self._given))
        if head.headers.get("content-encoding") is not None:
            self._body = Decoded(head, self._receive_encoded)
        self._head = head
        return head

    async def receive_some(self) -> bytes:
        """The next bytes of the body, decoded."""
        return (
            await self._receive_encoded() if self._body is None else await self._body.receive_some()
        )

    async def _receive_encoded(self) -> bytes:
        assert self._inner is not None
        try:
            return await self._inner.receive_some()
        except OSError as exc:
            raise lost(exc, answer_begun=True) from exc

    async def aclose(self) -> None:
        """End the exchange."""
        if self._inner is not None:
            self._was_sent = self.was_sent
            inner, self._inner = self._inner, None
            await inner.aclose()


@lru_cache(maxsize=64)
def _merged(
    protocol: tuple[tuple[str, str], ...], given: tuple[tuple[str, str], ...], cookie: str | None
) -> tuple[tuple[str, str], ...]:
    """Each header once: the protocol's before the user's. (The lanes add what is missing.)

    Remembered, for they seldom change from one message to the next.
    """
    merged: dict[str, tuple[str, str]] = {}
    for headers in (given, protocol):
        for name, value in headers:
            merged[name.lower()] = (name, value)
    if cookie is not None:
        name, own = merged.get("cookie", ("Cookie", ""))
        merged["cookie"] = (name, f"{own}; {cookie}" if own else cookie)
    return tuple(merged.values())
