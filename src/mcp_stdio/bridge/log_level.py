"""One log level for the whole session, though each request of the client names its own (B-55).

Owns what the server was told last and which requests under way want messages from which level on;
that the messages then reach only those is the bridge's business. Logging is a convenience: a server
that refuses the level holds up nothing, and one that is silent about it next to nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from mcp_stdio import spec
from mcp_stdio.bridge import reshaping
from mcp_stdio.errors import RelayError
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream.turn import Turn

log = logging.getLogger(__name__)

Own = Callable[[str, Mapping[str, Any]], Awaitable[Message]]
"""Sends a request of the bridge's own and returns the answer. Raises RelayError."""


PATIENCE = 1.0
"""Seconds that a request waits for the level to be set: as a rule it takes one round trip."""


class LogLevel:
    """The level of a session, as verbose as any request under way asks for."""

    def __init__(self, own: Own) -> None:
        self._own = own
        self._wanted: list[str] = []
        self._told: str | None = None
        self._telling = trio.Lock()  # the server must hear one level after the other

    async def begin(self, level: str, turn: Turn) -> None:
        """See to it that the server sends messages of `level`, until the matching `end`.

        `turn`, which has come, is over where the server has to be told first.
        """
        self._wanted.append(level)
        # Also who wants nothing new waits while the server is being told, and overtakes nobody.
        if self._told == reshaping.most_verbose(self._wanted) and not self._telling.locked():
            return
        turn.over()
        async with self._telling:
            wanted = reshaping.most_verbose(self._wanted)
            if self._told == wanted:
                return
            self._told = wanted  # whatever comes of it: asking again would hold up every request
            try:
                with trio.move_on_after(PATIENCE) as asking:
                    answer = await self._own(spec.SET_LEVEL, {"level": wanted})
                    if answer.error is not None:
                        log.info("the server does not set the log level")
            except RelayError as exc:
                log.warning("could not set the log level: %s", exc)
            except trio.Cancelled:
                self._told = None  # it may not even have been sent
                raise
            if asking.cancelled_caught:
                log.warning("the server does not say whether it has set the log level")

    def end(self, level: str) -> None:
        """A request that asked for `level` is over."""
        self._wanted.remove(level)
