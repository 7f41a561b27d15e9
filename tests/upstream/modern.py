"""A client of 2026-07-28 in front of the stateless upstream."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from mcp_stdio.http import Lane
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.link import HeaderList
from mcp_stdio.upstream.stateless import Stateless
from tests.upstream.fakes import LIMIT, URL, Client

TAG = "io.modelcontextprotocol/subscriptionId"

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "client", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def params(**members: Any) -> dict[str, Any]:
    """Parameters as a modern client sends them."""
    return members | {"_meta": META}


def no_parameters(message: Message) -> HeaderList:
    return ()


@asynccontextmanager
async def stateless(
    server: Lane, *, silence: float | None = 120.0, total: float | None = None, **more: Any
) -> AsyncIterator[Client]:
    """A client in front of `Stateless`; the relay's ids are relay-1, relay-2, …"""
    with trio.fail_after(1_000_000):
        async with trio.open_nursery() as nursery:
            client = Client(nursery)
            client.upstream = Stateless(
                Messenger(server, URL, limit=LIMIT),
                **{"parameter_headers": no_parameters} | more,
                ids=(f"relay-{number}" for number in itertools.count(1)),
                timeout_read=silence,
                timeout_call=total,
            )
            yield client
            nursery.cancel_scope.cancel()
