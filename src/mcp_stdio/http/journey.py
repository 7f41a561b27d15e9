"""Where a request over httpx is, and what a failure there means.

Owns the reading of httpcore's trace events: they tell how far a request has come, whether a byte
of it may have left, and which proxy is in use. With that, an exception of httpx becomes one of
ours without a look at its text (the layers below raise the same types for a proxy, a handshake and
a server). Sends nothing itself.
"""

from __future__ import annotations

import ssl
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import getproxies

import h11
import httpx
import trio

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
from mcp_stdio.http import Accepts
from mcp_stdio.http.dial import NoAcceptableAddress, NotHere
from mcp_stdio.http.tls import client_certificate_refusal, handshake_failure
from mcp_stdio.http.transport import explain, keep_alive, what_to_check
from mcp_stdio.http.url import Origin, Url, is_loopback_address

if TYPE_CHECKING:
    from mcp_stdio.http.observer import Observer

_PROXY_HINT = (
    "check `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` or the system's proxy settings; a host "
    "named in `NO_PROXY` is reached without a proxy"
)

_ASK_WHO_RUNS_IT = "ask who runs the proxy, or name the host in `NO_PROXY`"

_CUT_BY_PROXY = f"if that happens again, the proxy may cut it off: {_ASK_WHO_RUNS_IT}"

_REFUSAL_HINTS = {
    407: "put `user:password@` before the host in the proxy's variable, such as `HTTPS_PROXY`",
    403: "the proxy does not allow this host; ask who runs it, or name the host in `NO_PROXY`",
}

_OTHER_CREDENTIALS = (
    "the proxy does not accept the user and password in its variable, such as `HTTPS_PROXY`; "
    "write what is special in them percent-encoded"
)


class _Stage(Enum):
    """How far a request has come."""

    WAITING = "for a connection"
    TCP = "connecting to the server, or to the proxy"
    PROXY_TLS = "TLS handshake with the proxy"
    TUNNEL = "asking the proxy for a connection to the server"
    TLS = "TLS handshake with the server"
    SENT = "a byte of the request may have left"


class Proxy(NamedTuple):
    """The proxy for an origin. Through SOCKS, it tunnels for http as well."""

    address: str
    is_socks: bool


class Journey:
    """Where one request is, as httpcore's trace events tell, and what a failure there means."""

    def __init__(
        self,
        url: Url,
        timeout_connect: float,
        proxies: dict[Origin, Proxy],
        accepts: Accepts | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._url = url
        self._accepts = accepts
        self._observer = observer
        self._timeout_connect = timeout_connect
        self._proxies = proxies
        self._stage = _Stage.WAITING
        self._tunnel_status: int | None = None
        self._cause: BaseException | None = None
        self._socket: trio.socket.SocketType | None = None
        self._scope: trio.CancelScope | None = None

    def connecting(self) -> trio.CancelScope:
        """A scope to connect and send in; its deadline is lifted as soon as a byte may leave."""
        self._scope = trio.CancelScope(deadline=trio.current_time() + self._timeout_connect)
        return self._scope

    @property
    def proxy(self) -> str | None:
        """Host and port of the proxy in use; None without one."""
        proxy = self._proxies.get(self._url.origin)
        return None if proxy is None else proxy.address

    @property
    def is_forwarded(self) -> bool:
        """Whether a proxy reads the request and may answer it itself; in a tunnel it cannot."""
        proxy = self._proxies.get(self._url.origin)
        return proxy is not None and self._url.scheme == "http" and not proxy.is_socks

    @property
    def was_sent(self) -> bool:
        """Whether a byte of the request may have left."""
        return self._stage is _Stage.SENT

    @property
    def _where(self) -> str:
        """The server, for a message."""
        return f"`{self._url.authority}`"

    @property
    def is_at_the_proxy(self) -> bool:
        """Whether the proxy has been asked for a connection to the server and has not given it."""
        return self._stage is _Stage.TUNNEL

    @property
    def has_connected(self) -> bool:
        """Whether a connection was made for this request."""
        return self._socket is not None

    def hang_up(self) -> None:
        """Close a connection made for this request; httpcore forgets one to a SOCKS proxy."""
        if self._socket is not None:
            self._socket.close()

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take note of an event (the `trace` extension of httpcore)."""
        self._note(event, info)
        if self._observer is not None:
            self._tell(self._observer, event, info)

    def _note(self, event: str, info: dict[str, Any]) -> None:
        match event:
            case "connection.connect_tcp.started" | "socks.connect_tcp.started":
                self._stage = _Stage.TCP
                self._connects_to(info["host"], info["port"], is_socks=event.startswith("socks."))
            case "connection.connect_tcp.complete" | "socks.connect_tcp.complete":
                self._socket = info["return_value"].get_extra_info("socket")
                keep_alive(self._socket)
                self._judge(str(info["return_value"].get_extra_info("server_addr")[0]))
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
            case _ if event.endswith(".failed"):
                # What was wrapped is read here because httpcore drops it further up.
                self._cause = _root(info["exception"])

    def _tell(self, observer: Observer, event: str, info: dict[str, Any]) -> None:
        match event:
            case "connection.connect_tcp.started" | "socks.connect_tcp.started":
                observer.connecting(self.proxy)
            case "connection.connect_tcp.complete" | "socks.connect_tcp.complete":
                observer.connected(str(info["return_value"].get_extra_info("server_addr")[0]))
            case "proxy.start_tls.started" | "socks.setup_socks5_connection.complete":
                observer.tunnelled()
            case (
                "connection.start_tls.complete"
                | "proxy.start_tls.complete"
                | "socks.start_tls.complete"
            ) if self._stage is _Stage.TLS:
                from mcp_stdio.http.observer import facts_of

                observer.secured(facts_of(info["return_value"].get_extra_info("ssl_object")))

    def _connects_to(self, host: str, port: int, *, is_socks: bool) -> None:
        if (host, port) != (self._url.host, self._url.port):
            name = f"[{host}]" if ":" in host else host
            if self._url.is_loopback and self._url.scheme == "http":
                self._keep_here(name, port)
            self._proxies[self._url.origin] = Proxy(f"{name}:{port}", is_socks)

    def _keep_here(self, name: str, port: int) -> None:
        """Refuse a proxy elsewhere: what is sent to this machine unencrypted is to stay on it."""
        if not Url("http", name.strip("[]"), port, "/").is_loopback:
            raise ProxyFailure(
                f"{self._where} is on this machine, and the proxy `{name}:{port}` is not",
                hint=f"name `{self._url.host}` in `NO_PROXY`",
            )

    def _judge(self, address: str) -> None:
        # httpx resolves and connects in one; so far nobody has been told anything.
        if self.proxy is not None:
            return
        if self._url.must_be_here and not is_loopback_address(address):
            raise NotHere(self._url, address)
        if self._accepts is not None and not self._accepts(address):
            raise NoAcceptableAddress(self._url, address)

    def failure(self, exc: Exception) -> RelayError:
        """What an exception out of httpx means at this stage."""
        if isinstance(exc, httpx.LocalProtocolError):
            return UsageFailure(
                "a request header has a name or a value that HTTP cannot carry",
                hint="check `--header` and what the header file or command gives",
            )
        if self._stage is _Stage.SENT:
            return self._failure_once_sent(exc)
        if self._stage is _Stage.TLS:
            return handshake_failure(self._cause, self._url.authority)
        if self.proxy is None:
            return Unreachable(
                f"no connection to {self._where}: {self._words(exc)}",
                hint=what_to_check(self._cause),
            )
        if self._stage is not _Stage.TUNNEL:
            layer = "TLS handshake with" if self._stage is _Stage.PROXY_TLS else "connection to"
            return ProxyFailure(
                f"no {layer} the proxy `{self.proxy}`: {self._words(exc)}", hint=_PROXY_HINT
            )
        if self._tunnel_status is not None:
            return self.refused(self._tunnel_status)
        return ProxyFailure(
            f"the proxy `{self.proxy}` gave no connection to {self._where}: {self._words(exc)}",
            hint=_PROXY_HINT,
        )

    def _failure_once_sent(self, exc: Exception) -> RelayError:
        refusal = client_certificate_refusal(self._cause, self._url.authority)
        if refusal is not None:
            return refusal
        if isinstance(self._cause, h11.RemoteProtocolError):
            return BadAnswer(
                f"{self._where} does not answer in HTTP: {quote(str(self._cause))}",
                hint="check that the URL is that of an MCP server",
            )
        if self.is_forwarded:
            return ConnectionLost(
                f"the connection to the proxy `{self.proxy}`, which was to pass the request on to "
                f"{self._where}, broke before it answered: {self._words(exc)}",
                advice=_ASK_WHO_RUNS_IT,
            )
        return ConnectionLost(
            f"the connection to {self._where} broke before it answered: {self._words(exc)}"
        )

    def broke_off(self, exc: BaseException) -> ConnectionLost:
        """The response ended before its end; also in a tunnel the proxy may have cut it off."""
        by, advice = "", None
        if self.proxy is not None:
            by, advice = f", through the proxy `{self.proxy}`,", _CUT_BY_PROXY
        return ConnectionLost(
            f"the answer of {self._where}{by} broke off: {self._words(exc)}",
            answer_begun=True,
            advice=advice,
        )

    def refused(self, status: int) -> ProxyFailure:
        """The proxy answered itself, with this status."""
        hint = _REFUSAL_HINTS.get(status, "check that the proxy can reach the server")
        if status == 407 and self._has_credentials():
            hint = _OTHER_CREDENTIALS
        return ProxyFailure(
            f"the proxy `{self.proxy}` refused to connect to {self._where} (status {status})",
            hint=hint,
            status=status,
        )

    def _has_credentials(self) -> bool:
        """Whether the settings name a user for the proxy; httpx reads them in the same way."""
        urls = (url.rstrip("/").rpartition("@") for url in getproxies().values())
        return any(user and address == self.proxy for user, _, address in urls)

    def _words(self, exc: BaseException) -> str:
        if isinstance(exc, httpx.TimeoutException):
            return "it took no data for too long"
        cause = self._cause or exc
        if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
            return explain(cause)
        return quote(str(cause)) or type(cause).__name__

    def took_too_long(self) -> RelayError:
        """The time for connecting is over."""
        within = f"within {self._timeout_connect:g} s"
        if self._stage is _Stage.SENT:
            return ConnectionLost(f"the request to {self._where} could not be sent {within}")
        hint = "check host, port and firewalls, or raise `--timeout-connect`"
        if self._stage is _Stage.TLS:
            return TlsFailure(
                f"the TLS handshake with {self._where} was not over {within}",
                hint=hint,
                is_passing=True,
            )
        if self.proxy is None:
            return Unreachable(f"no connection to {self._where} {within}", hint=hint)
        if self._stage is _Stage.TUNNEL:
            cause = f"the proxy `{self.proxy}` gave no connection to {self._where} {within}"
        else:
            cause = f"no connection to the proxy `{self.proxy}` {within}"
        return ProxyFailure(cause, hint=_PROXY_HINT)


def _root(exc: BaseException) -> BaseException:
    """What httpcore and trio have wrapped; of one error for each address tried, a refusal."""
    while (inner := exc.__cause__) is not None:
        exc = inner
        if isinstance(inner, BaseExceptionGroup):
            refusals = (e for e in inner.exceptions if isinstance(e, ConnectionRefusedError))
            exc = next(refusals, inner.exceptions[-1])
    return exc
