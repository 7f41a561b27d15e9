"""A client of the stateless era in front of a server that wants a handshake (protocol.md 2.4).

An upstream around an upstream of the handshake era. Opens the session on first need, in one attempt
for all that wait for it (B-50); passes requests on under ids of its own, since the client may use
one again and a session forbids it (B-53); lets through what belongs to a request and spreads the
rest (B-55, B-59). The server is told that the client can do nothing for it and so has nothing to
ask; what it asks all the same is refused (B-51, B-58). Knows neither HTTP nor what the messages
look like, which is the business of `reshaping`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.bridge import reshaping
from mcp_stdio.bridge.log_level import LogLevel
from mcp_stdio.bridge.subscriptions import Subscriptions
from mcp_stdio.errors import BadAnswer, RelayError, TimedOut
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Emit, Upstream, ask, own_call
from mcp_stdio.upstream.background import guarded
from mcp_stdio.upstream.refusal import HttpRefusal
from mcp_stdio.upstream.renewal import Renewal
from mcp_stdio.upstream.turn import Queue

log = logging.getLogger(__name__)

OWN_REQUEST = 30.0
"""Seconds that one of the bridge's own requests may take in all."""

Deliver = Callable[[Message, Call, reshaping.Opened], Awaitable[None]]


class ModernClient:
    """The upstream of a stateless client whose server, behind `upstream`, is of the handshake era.

    `upstream` must bring what belongs to no request to `overhear`, and its owner report a session
    opened anew to `renewed`. `nursery` runs the opening and the answers to the server; `emit` takes
    what belongs to no request of the client.
    """

    version: str | None = None
    """Nothing is agreed on: each request of the client names the version it speaks."""

    def __init__(
        self, upstream: Upstream, *, ids: Iterator[str], nursery: trio.Nursery, emit: Emit
    ) -> None:
        self._upstream = upstream
        self._ids = ids
        self._nursery = nursery
        self._emit = emit
        self._departures = Queue()
        self._first: Message | None = None  # the request on whose behalf the session is opened
        self._opened: reshaping.Opened | None = None
        self._opening = Renewal(nursery, self._open, "open a session")
        self._log_level = LogLevel(self._own)
        self._subscriptions = Subscriptions(self._own)

    async def send(self, message: Message, call: Call) -> None:
        """Deliver one message; see `Upstream.send`."""
        if message.is_request:
            await self._send_request(message, call)
        elif message.is_response or message.method in reshaping.MEANINGLESS:
            # Withdrawn requests are cancelled in the relay, and the session tells the server under
            # the id that it knows (B-56); a stateless client answers nothing (S-4).
            log.info("dropped a %s of the client", message.kind.value)
        else:
            await self._in_order(self._notify, message, call)

    def refresh(self) -> None:
        """See `Upstream.refresh`."""
        self._upstream.refresh()

    async def aclose(self) -> None:
        """See `Upstream.aclose`."""
        await self._upstream.aclose()

    # Client to server

    async def _send_request(self, message: Message, call: Call) -> None:
        assert message.id is not None
        refusal = reshaping.refusal(message)
        try:
            if refusal is not None:
                call.turn.over()
                await call.emit(refusal)
            elif message.method == spec.DISCOVER:
                call.turn.over()
                await call.emit((await self._session(message)).discovered(message.id))
            elif message.method == spec.LISTEN:
                call.turn.over()
                opened = await self._session(message)
                await self._subscriptions.listen(message, call, opened.capabilities)
            else:
                await self._in_order(self._request, message, call)
        except _Declined as declined:
            await call.emit(declined.answer.with_id(message.id))

    async def _in_order(self, deliver: Deliver, message: Message, call: Call) -> None:
        # What waits for the opening leaves in the order in which it was read, and keeps nothing
        # else waiting meanwhile (P4).
        await call.turn.come()
        call.pass_to(self._departures)
        try:
            await deliver(message, call, await self._session(message))
        finally:
            call.turn.over()

    async def _notify(self, message: Message, call: Call, opened: reshaping.Opened) -> None:
        await self._upstream.send(reshaping.notification(message), call)

    async def _request(self, message: Message, call: Call, opened: reshaping.Opened) -> None:
        level = reshaping.log_level(message)
        if level is None or "logging" not in opened.capabilities:
            await self._ask(message, call, opened)
            return
        await call.turn.come()  # whoever was read first tells the server, and leaves first
        try:
            await self._log_level.begin(level, call.turn)
            await self._ask(message, call, opened)
        finally:
            self._log_level.end(level)

    async def _ask(self, message: Message, call: Call, opened: reshaping.Opened) -> None:
        request = reshaping.request(message, next(self._ids))
        hear = partial(self._hear, call.emit, reshaping.log_level(message))
        answer = await ask(self._upstream, request, call.emitting(hear))
        if answer is not None:
            await call.emit(opened.response(answer, message))

    # The session

    async def _session(self, message: Message) -> reshaping.Opened:
        """What the server said when the session was opened. Raises _Declined, RelayError."""
        while self._opened is None:
            self._first = message
            await self._opening.join()
        return self._opened

    async def _open(self) -> None:
        assert self._first is not None
        request = reshaping.initialize(next(self._ids), self._first)
        try:
            answer = await ask(self._upstream, request, own_call(self.overhear))
        except HttpRefusal as refusal:
            if refusal.answer is None:
                raise
            answer = refusal.answer
        if answer is None:
            raise _unanswered(request)
        if answer.error is not None:
            raise _Declined(answer)
        await self._upstream.send(jsonrpc.notification(spec.INITIALIZED), own_call(self.overhear))
        self._opened = reshaping.Opened(answer)

    async def renewed(self) -> None:
        """The session was opened anew: what changed meanwhile, nobody has told (B-59)."""
        await self._subscriptions.renewed()

    async def _own(self, method: str, params: Mapping[str, Any]) -> Message:
        """Send a request of the bridge's own and return the answer. Raises RelayError."""
        request = jsonrpc.request(next(self._ids), method, params)
        with trio.move_on_after(OWN_REQUEST):
            answer = await ask(self._upstream, request, own_call(self.overhear))
            if answer is None:
                raise _unanswered(request)
            return answer
        raise TimedOut(
            f"the server did not answer `{method}` within {OWN_REQUEST:g} s",
            hint="try again; `mcp-stdio test URL` shows how quick the server is",
        )

    # What the server says by itself

    async def overhear(self, message: Message) -> None:
        """Take what belongs to no request of the client: the `emit` of the session."""
        await self._hear(None, None, message)

    async def _hear(self, emit: Emit | None, level: str | None, message: Message) -> None:
        """Take what is no answer; `emit` and `level` are those of the request it came with."""
        if message.is_request:
            self._nursery.start_soon(guarded, self._answer, message)
            return
        match message.method:
            case method if method in reshaping.CHANGES:
                await self._subscriptions.deliver(message)
            case spec.PROGRESS:
                await (emit or self._emit)(message)
            case spec.LOG_MESSAGE:
                if emit is not None and level is not None and reshaping.suffices(message, level):
                    await emit(message)
            case spec.CANCELLED | spec.ELICITATION_COMPLETE:
                pass  # of questions that were refused, and of what was never asked (B-67)
            case _ if emit is not None:
                await emit(message)
            case _:
                log.info("dropped a `%s` that belongs to no request", message.method)

    async def _answer(self, question: Message) -> None:
        """Answer the server in the client's place (B-58)."""
        assert question.id is not None
        if question.method == spec.PING:
            answer = jsonrpc.result(question.id, {})
        else:
            text = f"the client offers no {question.method}"
            answer = jsonrpc.error(question.id, jsonrpc.METHOD_NOT_FOUND, text)
        try:
            await self._upstream.send(answer, own_call(self.overhear))
        except RelayError as exc:
            log.info("could not answer the server: %s", exc)


class _Declined(RelayError):
    """The server answers `initialize` with an error."""

    def __init__(self, answer: Message) -> None:
        super().__init__("the server refuses `initialize`")
        self.answer = answer


def _unanswered(request: Message) -> BadAnswer:
    return BadAnswer(f"the server's answer to `{request.method}` is missing")
