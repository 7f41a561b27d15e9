"""From a URL to an open connection: name resolution, TCP and TLS, and why they fail.

All three share one time limit. Nothing of a request has left while this module is at work, so
every failure is an `Unreachable`. Knows no HTTP and keeps nothing.
"""

from __future__ import annotations

import errno
import socket
import ssl

import trio

from mcp_stdio.errors import TlsFailure, Unreachable
from mcp_stdio.http.tls import handshake_failure
from mcp_stdio.http.transport import Transport, explain
from mcp_stdio.http.url import Url

Stream = Transport | trio.SSLStream[Transport]


async def dial(
    url: Url,
    context: ssl.SSLContext | None,
    *,
    timeout_connect: float,
    timeout_write: float | None,
) -> tuple[Transport, Stream]:
    """Connect to the origin of `url` within `timeout_connect` seconds.

    Gives the TCP connection and what to read from and write to: itself, or TLS over it where there
    is a `context`. Raises Unreachable, TlsFailure.
    """
    transport: Transport | None = None
    is_connected = False
    try:
        with trio.move_on_after(timeout_connect):
            transport = Transport(await _connect(url), timeout_write=timeout_write)
            stream: Stream = transport
            if context is not None:
                stream = await _secure(transport, context, url)
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
        )
    raise Unreachable(
        f"no connection to {where} within {timeout_connect:g} s",
        hint="check host, port and firewalls, or raise `--timeout-connect`",
    )


async def _connect(url: Url) -> trio.SocketStream:
    try:
        return await trio.open_tcp_stream(url.host, url.port)
    except (socket.gaierror, UnicodeError) as exc:
        words = explain(exc) if isinstance(exc, OSError) else "it is not a valid name"
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
            hint="too many files are open on this machine"
            if cause.errno in (errno.EMFILE, errno.ENFILE)
            else "check host, port and the network connection of this machine",
        ) from exc


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
