"""When an answer contradicts what the server was taken for (D-E).

Sends a request, looks at what becomes of it, and has the era looked at anew where it speaks against
the one assumed: once for all requests that noticed, and not again for a while. What may be sent
again in the right era is, if it provably did not run or is safe (P2); anything else keeps its
answer. How one looks is not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import Protocol

import trio

from mcp_stdio.era import evidence
from mcp_stdio.era.evidence import Outcome, Verdict
from mcp_stdio.errors import RelayError
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Upstream
from mcp_stdio.upstream.renewal import Renewal

log = logging.getLogger(__name__)

INTERVAL = 30.0
"""Seconds from one look to the next: a server that answers everything oddly must not be asked twice
as often for it."""


class Served(Protocol):
    """The way to the server in use, and the era it rests on."""

    @property
    def upstream(self) -> Upstream:
        """Who is sent to."""
        ...

    @property
    def verdict(self) -> Verdict:
        """What the server is taken for."""
        ...


class Doubt:
    """`look` finds out anew which era the server speaks; it runs in `nursery`.

    It is told what has raised the doubt.
    """

    def __init__(self, nursery: trio.Nursery, look: Callable[[Outcome], Awaitable[None]]) -> None:
        self._find_out = look
        self._look = Renewal(nursery, self._run, "find out the server's protocol era")
        self._reason: Outcome
        self._next = -inf  # trio's clock

    async def send(
        self, message: Message, call: Call, current: Callable[[Call], Awaitable[Served]]
    ) -> None:
        """Deliver a request by the way that is `current`, or that has taken its place."""
        served = await current(call)
        outcome: Outcome | None = None  # that speaks against the era

        async def take(incoming: Message) -> None:
            nonlocal outcome
            if incoming.is_response and evidence.contradicts(served.verdict, message, incoming):
                outcome = incoming
            else:
                await call.emit(incoming)

        try:
            await served.upstream.send(message, call.answering(take))
        except RelayError as failure:
            if not evidence.contradicts(served.verdict, message, failure):
                raise
            outcome = failure
        if outcome is not None:
            await self._meet(outcome, message, call, served, current)

    async def _meet(
        self,
        outcome: Outcome,
        message: Message,
        call: Call,
        served: Served,
        current: Callable[[Call], Awaitable[Served]],
    ) -> None:
        call.turn.over()
        await self._look_anew(outcome)
        try:
            now = await current(call)
        except RelayError:  # nobody serves the client now
            now = served
        if now != served and evidence.may_send_again(message, outcome):
            await now.upstream.send(message, call)
        elif isinstance(outcome, RelayError):
            raise outcome
        else:
            await call.emit(outcome)

    async def _run(self) -> None:
        log.info("the server may have changed its protocol era: looking anew")
        await self._find_out(self._reason)

    async def _look_anew(self, reason: Outcome) -> None:
        if not self._look.is_under_way:
            if trio.current_time() < self._next:
                return
            self._next = trio.current_time() + INTERVAL
            self._reason = reason
        try:
            await self._look.join()
        except RelayError:
            pass  # it could not be found out, and is in the log
