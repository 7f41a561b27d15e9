"""Progress of one request of the client that takes several attempts at the server (T-64).

Each attempt counts from its own beginning; the client must never see a value fall or stand still.
"""

from __future__ import annotations

from math import inf, isfinite, nextafter

from mcp_stdio import spec
from mcp_stdio.jsonrpc import Id, Message
from mcp_stdio.upstream import Emit

STEP = 1e-6
"""What progress of our own adds: so little that the server's own soon exceeds it."""

MAX_TOKENS = 100
"""Tokens remembered; a request has one, whatever a server may invent."""


class Rising:
    """Two receivers for one request: `first` for its first attempt, `emit` for each further one.

    The first attempt reaches the client as the server sends it; of a further one, what is not above
    the last value delivered for the same token is dropped.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._delivered: dict[Id, float] = {}

    async def first(self, message: Message) -> None:
        """Deliver any message, and note how far the progress is."""
        self._note(message)
        await self._emit(message)

    async def emit(self, message: Message) -> None:
        """Deliver a message, unless it is progress that is not above the last."""
        if self._note(message):
            await self._emit(message)

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

    def _note(self, message: Message) -> bool:
        """Whether the message is above what was delivered; what is no progress always is."""
        token, progress = message.params.get("progressToken"), message.params.get("progress")
        if message.method != spec.PROGRESS:
            return True
        if not isinstance(token, str | int) or not isinstance(progress, int | float):
            return True
        last = self._delivered.get(token)
        if last is not None and progress <= last:
            return False
        if last is not None or len(self._delivered) < MAX_TOKENS:
            self._delivered[token] = progress
        return True
