"""From a URL to an open connection: name resolution, TCP and TLS, and why they fail.

All three share one time limit. Nothing of a request has left while this module is at work, so
every failure is an `Unreachable`. Where addresses are judged, each is judged once, after the
resolution, and the connection is made to that very address: a name that resolves differently a
moment later changes nothing. What is sent unencrypted to `localhost` stays on this machine. Knows
no HTTP and keeps nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from mcp_stdio.errors import TlsFailure, Unreachable, quote
from mcp_stdio.http import Accepts
from mcp_stdio.http.tls import handshake_failure
from mcp_stdio.http.transport import Transport, explain, what_to_check
from mcp_stdio.http.url import Url, is_loopback_address

if TYPE_CHECKING:
    from mcp_stdio.http.observer import Observer

_Target = tuple[Any, ...]
"""An address as `getaddrinfo` gives it."""

STAGGER = 0.25
"""Seconds until the next address is tried besides one that does not answer (RFC 8305 section 5)."""

Stream = Transport | trio.SSLStream[Transport]


class NoAcceptableAddress(Unreachable):
    """The host has addresses, but none that may be connected to; `address` is one of them."""

    def __init__(self, url: Url, address: str) -> None:
        super().__init__(
            f"`{url.host}` is at the address `{address}`, which is not connected to",
            hint="check the host in the URL",
        )
        self.address = address


class NotHere(Unreachable):
    """A name that means this machine leads to another one (RFC 6761 section 6.3)."""

    def __init__(self, url: Url, address: str) -> None:
        super().__init__(
            f"`{url.host}` is at the address `{address}`, which is not on this machine",
            hint=f"the name server or the hosts file says so; use `https://`, or another name than "
            f"`{url.host}`",
        )


async def dial(
    url: Url,
    tls: Callable[[], ssl.SSLContext],
    *,
    timeout_connect: float,
    timeout_write: float | None,
    accepts: Accepts | None = None,
    observer: Observer | None = None,
) -> tuple[Transport, Stream]:
    """Connect to the origin of `url` within `timeout_connect` seconds.

    Gives the TCP connection and what to read from and write to: itself, or for `https` TLS over it,
    with the context that `tls` gives then. Raises Unreachable, TlsFailure; NoAcceptableAddress if
    `accepts` takes none, NotHere for a `localhost` elsewhere.
    """
    transport: Transport | None = None
    is_connected = False
    try:
        with trio.move_on_after(timeout_connect):
            transport = Transport(await _connect(url, accepts), timeout_write=timeout_write)
            if observer is not None:
                observer.connected(transport.peer)
            stream: Stream = transport
            if url.scheme == "https":
                stream = secure = await _secure(transport, tls(), url)
                if observer is not None:
                    from mcp_stdio.http.observer import facts_of

                    observer.secured(facts_of(secure))
            is_connected = True
            return transport, stream
    finally:
        if transport is not None and not is_connected:
            transport.close()
    where = f"`{url.authority}`"
    if transport is not None:
        raise TlsFailure(
            f"the TLS handshake with {where} was not over within {timeout_connect:g} s",
            hint="check that the port speaks TLS, or raise `--timeout-connect`",
            is_passing=True,
        )
    raise Unreachable(
        f"no connection to {where} within {timeout_connect:g} s",
        hint="check host, port and firewalls, or raise `--timeout-connect`",
    )


async def _connect(url: Url, accepts: Accepts | None) -> trio.SocketStream:
    try:
        if accepts is None and not url.must_be_here:
            # Given text, the resolver loads the tables of IDNA, which `Url` has applied already.
            return await trio.open_tcp_stream(url.host.encode("ascii"), url.port)
        return await _first(await _accepted(url, accepts))
    except (socket.gaierror, UnicodeError, RuntimeError) as exc:
        match exc:
            case OSError():
                words = explain(exc)
            case RuntimeError():  # names are looked up in a thread
                words = quote(str(exc))
            case _:
                words = "it is not a valid name"
        raise Unreachable(
            f"the host name `{url.host}` cannot be resolved: {words}",
            hint="check the spelling of the URL and the network connection of this machine",
        ) from exc
    except OSError as exc:
        cause = _most_telling(exc)
        if isinstance(cause, ConnectionRefusedError):
            raise Unreachable(
                f"`{url.host}` refused the connection on port {url.port}",
                hint="check that the server is running and that the port is right",
            ) from exc
        raise Unreachable(
            f"no connection to `{url.host}` on port {url.port}: {explain(cause)}",
            hint=what_to_check(cause),
        ) from exc


async def _accepted(url: Url, accepts: Accepts | None) -> list[_Target]:
    """What the host resolves to, without what may not be connected to; never empty."""
    host = url.host.encode("ascii")
    found: list[_Target] = await trio.socket.getaddrinfo(host, url.port, type=socket.SOCK_STREAM)
    if url.must_be_here:
        here = [target for target in found if is_loopback_address(str(target[4][0]))]
        if not here:
            raise NotHere(url, str(found[0][4][0]))
        found = here
    accepted = [target for target in found if accepts is None or accepts(str(target[4][0]))]
    if not accepted:
        raise NoAcceptableAddress(url, str(found[0][4][0]))
    return accepted


async def _first(targets: list[_Target]) -> trio.SocketStream:
    """A connection to whichever answers first. `trio.open_tcp_stream` would resolve anew."""
    connected: list[trio.SocketStream] = []
    failures: list[OSError] = []

    async def attempt(target: _Target, is_over: trio.Event) -> None:
        family, kind, protocol, _, address = target
        try:
            opened = trio.socket.socket(family, kind, protocol)
            try:
                await opened.connect(address)
                connected.append(trio.SocketStream(opened))
            except BaseException:
                opened.close()
                raise
            nursery.cancel_scope.cancel()
        except OSError as exc:
            failures.append(exc)
        is_over.set()

    try:
        async with trio.open_nursery() as nursery:
            for target in targets:
                is_over = trio.Event()
                nursery.start_soon(attempt, target, is_over)
                with trio.move_on_after(STAGGER):
                    await is_over.wait()
    except BaseException:
        _close(connected)
        raise
    _close(connected[1:])
    if not connected:
        raise OSError("none of the addresses answers") from ExceptionGroup("", failures)
    return connected[0]


def _close(streams: list[trio.SocketStream]) -> None:
    for stream in streams:
        stream.socket.close()


async def _secure(
    transport: Transport, context: ssl.SSLContext, url: Url
) -> trio.SSLStream[Transport]:
    try:
        # Many servers skip close_notify (RFC 9112 9.8): an end of the stream then counts as one.
        # A name is announced without the dot that makes it absolute (RFC 6066 3).
        stream = trio.SSLStream(
            transport, context, server_hostname=url.host.rstrip("."), https_compatible=True
        )
        await stream.do_handshake()
    except trio.BrokenResourceError as exc:
        raise handshake_failure(exc.__cause__, url.authority) from exc
    except ValueError as exc:
        raise TlsFailure(
            f"`{url.host}` is not a name that a certificate can be issued for",
            hint="check the host in the URL",
        ) from exc
    return stream


def _most_telling(error: OSError) -> OSError:
    # One error for each address tried. A refusal comes from the host itself; "network is
    # unreachable" often only says that this machine has no IPv6.
    group = error.__cause__
    if not isinstance(group, ExceptionGroup):
        return error
    errors = [each for each in group.exceptions if isinstance(each, OSError)]
    for each in errors:
        if isinstance(each, ConnectionRefusedError):
            return each
    return errors[-1] if errors else error
