"""`mcp-stdio demo`: what a newcomer runs first, and the small server the tests run against.

Owns the command's two forms; the conversation is in `play`, the server in `server` and below.
"""

from __future__ import annotations

import signal
from functools import partial

import trio

from mcp_stdio.clients.block import Server as Named
from mcp_stdio.clients.block import block
from mcp_stdio.clients.program import command
from mcp_stdio.clients.table import GENERAL
from mcp_stdio.demo.play import http_line, play
from mcp_stdio.demo.server import Server

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_show = partial(print, flush=True)


def run(*, is_serving: bool) -> int:
    """Show the conversation, or serve until a signal. Returns 0; raises RelayError."""
    trio.run(_serve if is_serving else _play)
    return 0


async def _play() -> None:
    await play(_show)
    _show(
        "\nThat is all. Next, `mcp-stdio test URL` tells whether a server of yours can be reached,"
        "\nand `mcp-stdio demo --serve` leaves this one running for your client."
    )


async def _serve() -> None:
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            server = Server(watch=lambda request: _show(http_line(request)))
            url = await nursery.start(server.serve)
            _show(f"A small MCP server listens on {url} until Ctrl-C. For a client:\n")
            _show(block(GENERAL, Named("demo", (url,)), command()) + "\n")
            async for _ in signals:
                nursery.cancel_scope.cancel()
