"""TLS in front of a plain server: takes connections, unwraps them, and passes the bytes on."""

from __future__ import annotations

import ssl
from typing import NoReturn

import trio

CHUNK = 64 * 1024


async def serve_tls(
    port: int,
    context: ssl.SSLContext,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Terminate TLS for the server on `port`; started with the port of the TLS side."""

    async def serve(client: trio.SocketStream) -> None:
        secure = trio.SSLStream(client, context, server_side=True, https_compatible=True)
        try:
            async with (
                secure,
                await trio.open_tcp_stream("127.0.0.1", port) as server,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(_pass_on, secure, server, nursery.cancel_scope)
                await _pass_on(server, secure, nursery.cancel_scope)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # either side may leave at any time, or refuse the handshake

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(serve, listeners)


async def _pass_on(
    source: trio.abc.Stream, target: trio.abc.Stream, scope: trio.CancelScope
) -> None:
    while data := await source.receive_some(CHUNK):
        await target.send_all(data)
    scope.cancel()
