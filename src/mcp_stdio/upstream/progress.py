"""Progress of one request of the client that takes several attempts at the server (T-64).

Each attempt counts from its own beginning; the client must never see a value fall or stand still.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite, nextafter

from mcp_stdio import spec
from mcp_stdio.jsonrpc import Id, Message
from mcp_stdio.upstream import Emit, EmitAll, together

STEP = 1e-6
"""What progress of our own adds: so little that the server's own soon exceeds it."""

MAX_TOKENS = 100
"""Tokens remembered; a request has one, whatever a server may invent."""


class Rising:
    """Two receivers for one request: `first` for its first attempt, `emit` for each further one.

    Both have a form for what comes together. The first attempt reaches the client as the server
    sends it; of a further one, what is not above the last value delivered for the same token is
    dropped.
    """

    __slots__ = ("_delivered", "_emit", "_emit_all")

    def __init__(self, emit: Emit, emit_all: EmitAll | None = None) -> None:
        self._emit = emit
        self._emit_all = together(emit) if emit_all is None else emit_all
        self._delivered: dict[Id, float] = {}

    async def first(self, message: Message) -> None:
        """Deliver any message, and note how far the progress is."""
        self._is_news(message)
        await self._emit(message)

    async def first_all(self, messages: Sequence[Message]) -> None:
        """Deliver any messages, and note how far the progress is."""
        for message in messages:
            self._is_news(message)
        await self._emit_all(messages)

    async def emit(self, message: Message) -> None:
        """Deliver a message, unless it is progress that is not above the last."""
        if self._is_news(message):
            await self._emit(message)

    async def emit_all(self, messages: Sequence[Message]) -> None:
        """Deliver messages, but for progress that is not above the last."""
        news = [message for message in messages if self._is_news(message)]
        if news:
            await self._emit_all(news)

    def above(self, token: Id) -> float | None:
        """A value just above the last one, 0 where there was none; None if no number is above."""
        last = self._delivered.get(token)
        if last is None:
            return 0
        try:
            value = max(last + STEP, nextafter(last, inf))
        except OverflowError:
            return None
        return value if isfinite(value) else None

    def _is_news(self, message: Message) -> bool:
        """Note a message; whether it is above what was delivered: what is no progress always is."""
        if message.method != spec.PROGRESS:
            return True
        token, progress = message.params.get("progressToken"), message.params.get("progress")
        if not isinstance(token, str | int) or not isinstance(progress, int | float):
            return True
        last = self._delivered.get(token)
        if last is not None and progress <= last:
            return False
        if last is not None or len(self._delivered) < MAX_TOKENS:
            self._delivered[token] = progress
        return True
