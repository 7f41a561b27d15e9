"""The client's part in a connection test, spoken to the relay's own upstream.

Owns ids and waiting for answers, and answers what the server itself asks. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.assembly import assemble
from mcp_stdio.config import Config
from mcp_stdio.diagnose.report import ServerError
from mcp_stdio.errors import BadAnswer, quote
from mcp_stdio.http import Lane
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Upstream, own_call
from mcp_stdio.upstream.refusal import HttpRefusal

Facts = Mapping[str, Any]


class Peer:
    """A client's part of the conversation, spoken to the relay's own upstream."""

    def __init__(self, config: Config, client: Lane, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._ids = jsonrpc.mint_ids()
        self._upstream: Upstream = assemble(config, client, nursery, self._overhear)

    async def ask(self, method: str, params: Facts | None = None) -> Facts:
        """Send a request and wait for its result. Raises RelayError."""
        answers: list[Message] = []

        async def emit(message: Message) -> None:
            if message.is_response:
                answers.append(message)
            else:
                await self._overhear(message)

        request = jsonrpc.request(next(self._ids), method, params)
        try:
            await self._upstream.send(request, own_call(emit))
        except HttpRefusal as refusal:
            if refusal.answer is None:
                raise
            answers.append(refusal.answer)
        if not answers:
            raise BadAnswer(f"`{method}` was not answered")
        error = answers[0].error
        if error is not None:
            text = f"`{method}` was answered with error {error.get('code')}"
            raise ServerError(
                f"{text}: {quote(str(error.get('message', '')))}",
                hint="the server's own log may tell more",
            )
        return answers[0].result

    async def tell(self, method: str) -> None:
        """Send a notification."""
        await self._upstream.send(jsonrpc.notification(method), own_call(self._overhear))

    async def leave(self) -> None:
        """End the session."""
        await self._upstream.aclose()

    async def _overhear(self, message: Message) -> None:
        """What the server says by itself matters only where it waits for an answer."""
        if message.is_request and message.id is not None:
            if message.method == spec.PING:
                answer = jsonrpc.result(message.id, {})
            else:
                text = "a connection test answers no questions"
                answer = jsonrpc.error(message.id, jsonrpc.METHOD_NOT_FOUND, text)
            self._nursery.start_soon(self._upstream.send, answer, own_call(self._overhear))
