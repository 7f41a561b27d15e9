"""`mcp-stdio demo`: what a newcomer runs first, and the small server the tests run against.

Owns the command's two forms; the conversation is in `play`, the server in `server` and below.
"""

from __future__ import annotations

import json
import signal
from functools import partial

import trio

from mcp_stdio.demo.play import client_command, http_line, play
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
            _show(client_configuration(url) + "\n")
            async for _ in signals:
                nursery.cancel_scope.cancel()


def client_configuration(url: str) -> str:
    """The block that makes a client start the relay, as most clients' files have it."""
    command, *arguments = client_command(url)
    demo = {"command": command, "args": arguments}
    return json.dumps({"mcpServers": {"demo": demo}}, indent=2)
