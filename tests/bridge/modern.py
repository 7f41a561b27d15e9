"""A stateless client in front of a bridge, and a server of the handshake era behind it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.bridge.modern_client import ModernClient
from mcp_stdio.http import Lane
from mcp_stdio.http.url import Url
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Upstream
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.session import Session
from mcp_stdio.upstream.streamable_http import StreamableHttp
from tests.upstream.fakes import LIMIT, URL, Asked, Client

Rule = Callable[[Message, Call], Awaitable[Any]]
"""Takes a request; returns its result, or the whole response, or raises."""

INFO = {"name": "shop", "version": "1.9"}


class Era:
    """An upstream of the handshake era that answers each request by the rule for its method."""

    version: str | None = "2025-11-25"

    def __init__(self, capabilities: Any = None, **rules: Rule) -> None:
        self.capabilities = {"tools": {}} if capabilities is None else capabilities
        self.rules = rules
        self.got: list[Message] = []
        self.refreshed = 0

    async def send(self, message: Message, call: Call) -> None:
        await call.turn.come()
        self.got.append(message)
        call.turn.over()
        await trio.lowlevel.checkpoint()
        if message.is_request:
            assert message.id is not None
            rule = self.rules.get(message.method, self._default)
            answer = await rule(message, call)
            if not isinstance(answer, Message):
                answer = jsonrpc.result(message.id, answer)
            await call.emit(answer)

    def refresh(self) -> None:
        self.refreshed += 1

    async def aclose(self) -> None:
        self.rules.clear()

    def order(self) -> list[str]:
        return [message.method or "response" for message in self.got]

    def last(self, method: str) -> Message:
        return [message for message in self.got if message.method == method][-1]

    async def opened(self, message: Message, call: Call) -> Any:
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": self.capabilities,
            "serverInfo": INFO,
        }

    async def _default(self, message: Message, call: Call) -> Any:
        return await self.opened(message, call) if message.method == spec.INITIALIZE else {}


class Modern(Client):
    """A client that says with each request what the stateless era wants to know."""

    bridge: ModernClient

    def call(
        self,
        method: str = "tools/call",
        params: dict[str, Any] | None = None,
        *,
        id: jsonrpc.Id | None = None,
        level: str | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Asked:
        own: dict[str, Any] = {spec.META_VERSION: spec.R5, spec.META_CLIENT_CAPABILITIES: {}}
        if level is not None:
            own[spec.META_LOG_LEVEL] = level
        return self.ask(method, (params or {}) | {"_meta": own | (meta or {})}, id)

    def listen(self, id: jsonrpc.Id = "w", **notifications: Any) -> Asked:
        return self.call("subscriptions/listen", {"notifications": notifications}, id=id)


def ids() -> Any:
    return (f"r7f-{number}" for number in itertools.count(1))


@asynccontextmanager
async def bridging(upstream: Upstream) -> AsyncIterator[Modern]:
    """A client whose bridge stands in front of `upstream`. Bounded by the mock clock."""
    with trio.fail_after(100_000):
        async with trio.open_nursery() as nursery:
            client = Modern(nursery)
            client.bridge = ModernClient(upstream, ids=ids(), nursery=nursery, emit=client.emit)
            client.upstream = client.bridge
            yield client
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def in_session_with(
    server: Lane, url: Url = URL, *, within: float = 100_000
) -> AsyncIterator[Modern]:
    """A client whose bridge stands in front of a `Session`, for so many seconds."""
    with trio.fail_after(within):
        async with trio.open_nursery() as nursery:
            client, minted = Modern(nursery), ids()

            async def overhear(message: Message) -> None:
                await client.bridge.overhear(message)

            async def renewed() -> None:
                await client.bridge.renewed()

            session = Session(
                StreamableHttp(Messenger(server, url, limit=LIMIT), nursery=nursery, emit=overhear),
                nursery=nursery,
                emit=overhear,
                ids=minted,
                timeout_read=120.0,
                timeout_call=None,
                renewed=renewed,
            )
            client.bridge = ModernClient(session, ids=minted, nursery=nursery, emit=client.emit)
            client.upstream = client.bridge
            yield client
            nursery.cancel_scope.cancel()
