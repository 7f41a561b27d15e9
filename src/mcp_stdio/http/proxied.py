"""The lane over httpx: HTTP and SOCKS proxies as the environment names them.

httpx decides which proxy applies to a request, or none; this module translates. httpx gives no
sign between "connecting" and "answered", so `send` starts nothing, `head` does it all, and no
request ever finds this lane ready. Whether a byte left is learnt from the `trace` extension of
httpcore, and so is where a failure happened; no error is told apart by its text. Knows no MCP.
Imported only when there is a proxy, because of what httpx costs at the start.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from enum import Enum
from http.cookiejar import CookieJar, DefaultCookiePolicy
from math import inf
from typing import Any

import h11
import httpx
import trio

from mcp_stdio import __version__
from mcp_stdio.errors import (
    BadAnswer,
    ConnectionLost,
    ProxyFailure,
    RelayError,
    TlsFailure,
    Unreachable,
    UsageFailure,
    quote,
)
from mcp_stdio.http import Exchange, Head, Headers, Lane, Request
from mcp_stdio.http.tls import client_certificate_refusal, handshake_failure
from mcp_stdio.http.transport import explain
from mcp_stdio.http.url import Origin, Url

LONGEST_IDLE = 4.0
"""Seconds a connection is kept without use. httpx cannot keep old connections from requests that
must not run twice, so all are dropped before the 5 s after which common servers close them."""

_FINISH_TIME = 0.05
_FINISH_SIZE = 64 * 1024
"""How long and how much is waited for and read to save a connection whose answer is nearly over."""

_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""As on the other lane, where the platform has it: a dead peer is noticed after a minute."""

_PROXY_HINT = (
    "check `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` or the system's proxy settings; a host "
    "named in `NO_PROXY` is reached without a proxy"
)

_UNKNOWN_HINT = "whether the request was carried out is unknown; look before you repeat it"

_REFUSAL_HINTS = {
    407: "put the proxy's user and password into the variable, as in "
    "`HTTPS_PROXY=http://user:password@host:port`",
    403: "the proxy does not allow this host; ask who runs it, or name the host in `NO_PROXY`",
}


class Proxied(Lane):
    """HTTP/1.1 through whatever proxy the environment names for a URL.

    `tls` is called once, for the first request. `timeout_connect` bounds name, TCP, proxy and TLS
    together, `timeout_write` each write (None: no limit), in seconds.
    """

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext],
        *,
        timeout_connect: float,
        timeout_write: float | None,
    ) -> None:
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._timeout_connect = timeout_connect
        self._timeout_write = timeout_write
        self._pool: _Pool | None = None
        self._retired: list[_Pool] = []
        self._proxies: dict[Origin, str] = {}

    def is_ready(self, request: Request) -> bool:
        """Never: httpx does not tell which connections are open."""
        return False

    async def send(self, request: Request) -> Exchange:
        """An exchange whose `head` sends the request, and raises what is said of `send`.

        Raises UsageFailure when the proxy settings cannot be used.
        """
        retired, self._retired = self._retired, []
        for pool in retired:
            if pool.exchanges:
                self._retired.append(pool)
            else:
                await pool.client.aclose()
        journey = _Journey(request.url, self._timeout_connect, self._proxies)
        return _Exchange(self._current(), request, journey)

    async def prepare(self, url: Url) -> None:
        """Load the certificates; httpx opens no connection without a request."""
        try:
            self._current()
        except RelayError:
            pass  # the first request will say it

    def drop_idle(self) -> None:
        """Begin anew; what is still in use is closed when it is over."""
        if self._pool is not None:
            self._retired.append(self._pool)
            self._pool = None

    async def aclose(self) -> None:
        """Close all connections."""
        self.drop_idle()
        retired, self._retired = self._retired, []
        for pool in retired:
            await pool.client.aclose()

    def _current(self) -> _Pool:
        if self._pool is None:
            if self._context is None:
                self._context = self._tls()
            self._pool = _Pool(_client(self._context, self._timeout_write))
        return self._pool


class _Pool:
    """Connections that are given up together, for httpx closes a client only as a whole."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.exchanges = 0


def _client(context: ssl.SSLContext, timeout_write: float | None) -> httpx.AsyncClient:
    try:
        return httpx.AsyncClient(
            verify=context,
            timeout=httpx.Timeout(None, write=timeout_write),
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=None,
                keepalive_expiry=LONGEST_IDLE,
            ),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # not its business
            event_hooks={"response": [_leave_redirect_alone]},
        )
    except ImportError:
        raise UsageFailure(
            "the proxy settings name a SOCKS proxy, for which a package is missing",
            hint="install the extra `socks`, as in `pip install 'mcp-stdio[socks]'`",
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
    """One request over httpx."""

    def __init__(self, pool: _Pool, request: Request, journey: _Journey) -> None:
        self._pool = pool
        self._request = request
        self._journey = journey
        self._response: httpx.Response | None = None
        self._body: AsyncIterator[bytes] | None = None
        self._failure: ConnectionLost | None = None

    async def head(self) -> Head:
        """Connect, send and wait for the response head.

        Raises Unreachable (or a subtype) as long as no byte of the request left.
        """
        journey = self._journey
        self._pool.exchanges += 1
        try:
            with journey.connecting:
                self._response = await self._pool.client.send(self._outgoing(), stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
            raise journey.failure(exc) from exc
        finally:
            if self._response is None:
                self._pool.exchanges -= 1
        if self._response is None:
            raise journey.took_too_long()
        head: Head = self._response.extensions["head"]
        if head.status == 407 and journey.proxy is not None:
            await self.aclose()
            raise journey.refused(head.status)
        self._body = self._response.aiter_raw()
        return head

    def _outgoing(self) -> httpx.Request:
        request = self._request
        headers = [("Host", request.url.authority), *request.headers]
        given = {name.lower() for name, _ in request.headers}
        if request.body or request.method == "POST":
            headers.append(("Content-Length", str(len(request.body))))
        if "accept-encoding" not in given:
            headers.append(("Accept-Encoding", "identity"))
        if "user-agent" not in given:
            headers.append(("User-Agent", f"mcp-stdio/{__version__}"))
        return httpx.Request(
            request.method,
            str(request.url),
            headers=[
                (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
                for name, value in headers
            ],
            content=request.body,
            extensions={"trace": self._journey.trace},
        )

    async def receive_some(self) -> bytes:
        """The next bytes of the body, as they came."""
        if self._failure is not None:
            raise self._failure
        assert self._body is not None
        try:
            return await anext(self._body, b"")
        except httpx.HTTPError as exc:
            self._failure = self._journey.broke_off(exc)
            raise self._failure from exc
        except trio.Cancelled as exc:
            self._failure = self._journey.broke_off(exc)  # httpcore has closed the connection
            raise

    async def aclose(self) -> None:
        """Keep the connection if the response is over, or is within a moment."""
        if self._response is None:
            return
        response, self._response = self._response, None
        try:
            # The body is read to its end or to a cancellation: dropping it half-way would leave
            # the generators of httpx and httpcore to the garbage collector, which trio reports.
            with trio.move_on_after(_FINISH_TIME) as moment:
                size = 0
                while self._body is not None and (data := await anext(self._body, b"")):
                    size += len(data)
                    if size > _FINISH_SIZE:
                        moment.cancel()
        except httpx.HTTPError:
            pass
        finally:
            self._pool.exchanges -= 1
            await response.aclose()


class _Stage(Enum):
    """How far a request has come."""

    WAITING = "for a connection"
    TCP = "connecting to the server, or to the proxy"
    PROXY_TLS = "TLS handshake with the proxy"
    TUNNEL = "asking the proxy for a connection to the server"
    TLS = "TLS handshake with the server"
    SENT = "a byte of the request may have left"


class _Journey:
    """Where one request is, as httpcore's trace events tell, and what a failure there means."""

    def __init__(self, url: Url, timeout_connect: float, proxies: dict[Origin, str]) -> None:
        self._url = url
        self._timeout_connect = timeout_connect
        self._proxies = proxies
        self._stage = _Stage.WAITING
        self._tunnel_status: int | None = None
        self._scope: trio.CancelScope | None = None

    @property
    def connecting(self) -> trio.CancelScope:
        """The scope to connect in; its deadline is lifted as soon as the request is sent."""
        self._scope = trio.CancelScope(deadline=trio.current_time() + self._timeout_connect)
        return self._scope

    @property
    def proxy(self) -> str | None:
        """Host and port of the proxy in use; None without one."""
        return self._proxies.get(self._url.origin)

    @property
    def _where(self) -> str:
        """The server, for a message."""
        return f"`{self._url.authority}`"

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take note of an event (the `trace` extension of httpcore)."""
        match event:
            case "connection.connect_tcp.started" | "socks.connect_tcp.started":
                self._stage = _Stage.TCP
                self._connects_to(info["host"], info["port"])
            case "connection.connect_tcp.complete" | "socks.connect_tcp.complete":
                _keep_alive(info["return_value"].get_extra_info("socket"))
            case "connection.start_tls.started":
                self._stage = _Stage.TLS if self.proxy is None else _Stage.PROXY_TLS
            case "proxy.start_tls.started" | "socks.start_tls.started":
                self._stage = _Stage.TLS
            case "socks.setup_socks5_connection.started":
                self._stage = _Stage.TUNNEL
            case "http11.send_request_headers.started":
                if info["request"].method == b"CONNECT":
                    self._stage = _Stage.TUNNEL
                else:
                    self._stage = _Stage.SENT
                    if self._scope is not None:
                        self._scope.deadline = inf
            case "http11.receive_response_headers.complete" if self._stage is _Stage.TUNNEL:
                self._tunnel_status = info["return_value"][1]

    def _connects_to(self, host: str, port: int) -> None:
        if (host, port) == (self._url.host, self._url.port):
            self._proxies.pop(self._url.origin, None)
        else:
            name = f"[{host}]" if ":" in host else host
            self._proxies[self._url.origin] = f"{name}:{port}"

    def failure(self, exc: Exception) -> RelayError:
        """What an exception out of httpx means at this stage."""
        if isinstance(exc, httpx.LocalProtocolError):
            return UsageFailure(
                "a request header has a name or a value that HTTP cannot carry",
                hint="check `--header` and what the header file or command gives",
            )
        root = _root(exc)
        if self._stage is _Stage.SENT:
            return self._failure_once_sent(exc, root)
        if self._stage is _Stage.TLS:
            return handshake_failure(root, self._url.authority)
        if self.proxy is None:
            return Unreachable(
                f"no connection to {self._where}: {_explain(exc)}",
                hint="check host, port and the network connection of this machine",
            )
        if self._stage is not _Stage.TUNNEL:
            layer = "TLS handshake with" if self._stage is _Stage.PROXY_TLS else "connection to"
            return ProxyFailure(
                f"no {layer} the proxy `{self.proxy}`: {_explain(exc)}", hint=_PROXY_HINT
            )
        if self._tunnel_status is not None:
            return self.refused(self._tunnel_status)
        return ProxyFailure(
            f"the proxy `{self.proxy}` gave no connection to {self._where}: {_explain(exc)}",
            hint=_PROXY_HINT,
        )

    def _failure_once_sent(self, exc: Exception, root: BaseException) -> RelayError:
        refusal = client_certificate_refusal(root, self._url.authority)
        if refusal is not None:
            return refusal
        if isinstance(root, h11.RemoteProtocolError):
            return BadAnswer(
                f"{self._where} does not answer in HTTP: {quote(str(root))}",
                hint="check that the URL is that of an MCP server",
            )
        return ConnectionLost(
            f"the connection to {self._where} broke before it answered: {_explain(exc)}",
            hint=_UNKNOWN_HINT,
        )

    def broke_off(self, exc: BaseException) -> ConnectionLost:
        """The response ended before its end."""
        return ConnectionLost(
            f"the answer of {self._where} broke off: {_explain(exc)}",
            hint=_UNKNOWN_HINT,
            answer_begun=True,
        )

    def refused(self, status: int) -> ProxyFailure:
        """The proxy answered itself, with this status."""
        return ProxyFailure(
            f"the proxy `{self.proxy}` refused to connect to {self._where} (status {status})",
            hint=_REFUSAL_HINTS.get(status, "check that the proxy can reach the server"),
            status=status,
        )

    def took_too_long(self) -> RelayError:
        """The time for connecting is over."""
        within = f"within {self._timeout_connect:g} s"
        if self._stage is _Stage.SENT:
            return ConnectionLost(
                f"the request to {self._where} could not be sent {within}", hint=_UNKNOWN_HINT
            )
        hint = "check host, port and firewalls, or raise `--timeout-connect`"
        if self._stage is _Stage.TLS:
            return TlsFailure(
                f"the TLS handshake with {self._where} was not over {within}", hint=hint
            )
        if self.proxy is None:
            return Unreachable(f"no connection to {self._where} {within}", hint=hint)
        if self._stage is _Stage.TUNNEL:
            cause = f"the proxy `{self.proxy}` gave no connection to {self._where} {within}"
        else:
            cause = f"no connection to the proxy `{self.proxy}` {within}"
        return ProxyFailure(cause, hint=_PROXY_HINT)


def _root(exc: BaseException) -> BaseException:
    """What httpx, httpcore and trio have wrapped."""
    while (inner := exc.__cause__ or exc.__context__) is not None:
        exc = inner.exceptions[-1] if isinstance(inner, BaseExceptionGroup) else inner
    return exc


def _explain(exc: BaseException) -> str:
    root = _root(exc)
    if isinstance(root, httpx.TimeoutException):
        return "it took no data for too long"
    if isinstance(root, OSError) and not isinstance(root, ssl.SSLError):
        return explain(root)
    return quote(str(root)) or type(root).__name__


def _keep_alive(sock: trio.socket.SocketType) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
