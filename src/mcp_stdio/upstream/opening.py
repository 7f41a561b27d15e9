"""How the client opened its session, kept so that another can be opened in its place (T-44).

Owns the client's `initialize`, the result it was given and what is in force since (`standing`), and
says it again under a new handshake with requests of the relay's own. Does not know when that is
needed, nor what becomes of the new session.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.errors import AuthorizationFailed, BadAnswer, ConnectionLost, TimedOut, quote
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Emit, own_call
from mcp_stdio.upstream.barrier import ACCEPTED_GRACE
from mcp_stdio.upstream.handshake import Handshake
from mcp_stdio.upstream.link import LinkLost
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.refusal import HandshakeRefused, HttpRefusal
from mcp_stdio.upstream.standing import Standing

log = logging.getLogger(__name__)

OWN_REQUEST = 30.0
"""Seconds that one of the relay's own requests may take in all."""

Tell = Callable[[Message, Handshake, Call], Awaitable[None]]
"""Delivers a notification under a session."""


class Opening:
    """The client's latest; `request` is None before there is one, `result` empty without a success.

    `emit` takes what the server says besides, `ids` mints ids, `timeout_read` is in seconds.
    """

    def __init__(self, *, emit: Emit, ids: Iterator[str], timeout_read: float | None) -> None:
        self.request: Message | None = None
        self.result: Mapping[str, Any] = {}
        self.standing = Standing()
        self._emit = emit
        self._ids = ids
        self._silence = timeout_read or OWN_REQUEST

    def begin(self, request: Message) -> None:
        """The client sends `initialize`: what was before does not count any more."""
        self.request = request
        self.result = {}
        self.standing.clear()

    def noting(self, handshake: Handshake, emit: Emit) -> Emit:
        """An `emit` that notes on the way what the server agrees to."""

        async def note(message: Message) -> None:
            if message.is_response and message.error is None:
                handshake.agree(message.result.get("protocolVersion"))
                self.result = message.result
            await emit(message)

        return note

    async def replay(self, handshake: Handshake, tell: Tell) -> None:
        """Say it all again. Raises RelayError when the server does not open the session."""
        assert self.request is not None
        result = (await self._initialize(self.request, handshake)).result
        handshake.agree(result.get("protocolVersion"))
        for name in ("protocolVersion", "capabilities") if self.result else ():
            if result.get(name) != self.result.get(name):
                log.warning("the new session differs from the old one in `%s`", name)
        self.result = self.result or result
        await self._confirm(handshake, tell)
        for message in self.standing:
            try:
                await self._ask(message, handshake)
            except (BadAnswer, AuthorizationFailed) as exc:
                log.warning("the new session does not take `%s`: %s", message.method, exc)

    async def _confirm(self, handshake: Handshake, tell: Tell) -> None:
        """Say `initialized`; as at the client's own, nobody is kept because it may be lost."""
        with trio.move_on_after(ACCEPTED_GRACE) as grace:
            try:
                await tell(jsonrpc.notification(spec.INITIALIZED), handshake, own_call(self._emit))
            except LinkLost:
                raise
            except (ConnectionLost, TimedOut) as exc:
                log.warning("could not deliver `%s`: %s", spec.INITIALIZED, exc)
        if grace.cancelled_caught:
            log.warning("the server has not accepted `%s` yet", spec.INITIALIZED)

    async def _initialize(self, request: Message, handshake: Handshake) -> Message:
        try:
            return await self._ask(request, handshake)
        except HttpRefusal as refusal:
            if refusal.event is not None or refusal.status is None or refusal.status >= 500:
                raise
            raise HandshakeRefused(str(refusal), hint=refusal.hint, status=refusal.status) from None
        except _ErrorAnswer as exc:
            raise HandshakeRefused(str(exc)) from None

    async def _ask(self, message: Message, handshake: Handshake) -> Message:
        """Send a request of the client's as one of the relay's own; its successful response."""
        answers: list[Message] = []

        async def take(incoming: Message) -> None:
            if incoming.is_response:
                answers.append(incoming)
            else:
                await self._emit(incoming)

        request = message.with_id(next(self._ids))
        with Patience(silence=self._silence, total=OWN_REQUEST) as patience:
            try:
                await handshake.messenger.ask(request, handshake, own_call(take), patience)
            except HttpRefusal as refusal:
                if refusal.answer is None:
                    raise
                answers.append(refusal.answer)
        if (error := answers[0].error) is not None:
            text = quote(str(error.get("message", "")))
            raise _ErrorAnswer(f"the server refuses `{message.method}`: {text}")
        return answers[0]


class _ErrorAnswer(BadAnswer):
    """A request of the relay's own was answered with an error."""
