"""What the demo's server remembers about one client, and about one request of it.

Owns the session's state (2025-11-25 basic/lifecycle; basic/transports, Session Management) and what
may be said while a call runs: progress, log messages, questions to the user. Refuses to know HTTP
beyond a response to write to, and what the tools do (`offer`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import trio

from mcp_stdio import jsonrpc
from mcp_stdio.demo.http import Response
from mcp_stdio.jsonrpc import Id, Message

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

MAX_WAITING = 100
"""Messages kept for a client that has no listening stream open at the moment."""


class Error(Exception):
    """A request that is answered with a JSON-RPC error of this code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Session:
    """One client between `initialize` and DELETE."""

    def __init__(self, version: str, capabilities: Mapping[str, Any]) -> None:
        self.id = secrets.token_hex(16)
        self.version = version
        self.is_ready = False
        self.level: str | None = None
        self.subscriptions: set[str] = set()
        self.running: dict[Id, trio.CancelScope] = {}
        self.can_be_asked = "elicitation" in capabilities
        self._questions: dict[Id, trio.MemorySendChannel[Message]] = {}
        self._asked = 0
        self._post, self._posted = trio.open_memory_channel[Message](MAX_WAITING)
        self._listening = trio.CancelScope()

    def post(self, message: Message) -> None:
        """Leave a message that belongs to no call for the listening stream."""
        try:
            self._post.send_nowait(message)
        except trio.WouldBlock:
            pass  # notifications carry no promise

    async def listen(self, response: Response) -> None:
        """Be the listening stream until the client leaves; a newer one takes over."""
        self._listening.cancel()
        self._listening = scope = trio.CancelScope()
        with scope:
            await response.begin()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deliver, response)
                await response.peer_leaves()
                nursery.cancel_scope.cancel()
        if scope.cancelled_caught:
            await response.end()

    async def _deliver(self, response: Response) -> None:
        async for message in self._posted:
            await response.event(message.raw)

    def cancel(self, id: object) -> None:
        """Stop the call with this id, if there is one."""
        if isinstance(id, str | int) and (scope := self.running.get(id)) is not None:
            scope.cancel()

    async def ask(
        self, response: Response, method: str, params: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Send the client a request on a call's stream; returns the result. Raises Error."""
        self._asked += 1
        id = f"question-{self._asked}"
        send, receive = trio.open_memory_channel[Message](1)
        self._questions[id] = send
        try:
            await response.event(jsonrpc.request(id, method, params).raw)
            answer = await receive.receive()
        finally:
            self._questions.pop(id, None)
        if answer.error is not None:
            raise Error(jsonrpc.INTERNAL_ERROR, "the client could not ask the user")
        return answer.result

    def answered(self, message: Message) -> None:
        """The client's response to a question; one to nothing that was asked is ignored."""
        question = self._questions.pop(message.id, None) if message.id is not None else None
        if question is not None:
            question.send_nowait(message)

    def end(self) -> None:
        """Stop everything that belongs to the session."""
        for scope in (self._listening, *self.running.values()):
            scope.cancel()


@dataclass(frozen=True, slots=True)
class Call:
    """A request being carried out. Whatever is said before its result makes the answer a stream."""

    session: Session
    request: Message
    response: Response

    async def progress(self, done: float, total: float, text: str) -> None:
        """Tell how far the call is, if the client gave a token for that."""
        meta = self.request.params.get("_meta")
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        if isinstance(token, str | int):
            about = {"progressToken": token, "progress": done, "total": total, "message": text}
            await self._say(jsonrpc.notification("notifications/progress", about))

    async def log(self, level: str, text: str) -> None:
        """Send a log message, if the client set a level that lets it through."""
        threshold = self.session.level
        if threshold is not None and LEVELS.index(level) >= LEVELS.index(threshold):
            about = {"level": level, "logger": "demo", "data": text}
            await self._say(jsonrpc.notification("notifications/message", about))

    async def ask(self, text: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Put a question to the user (2025-11-25 client/elicitation). Raises Error."""
        if not self.session.can_be_asked:
            raise Error(jsonrpc.INVALID_REQUEST, "the client does not offer `elicitation`")
        await self.response.begin()
        params = {"mode": "form", "message": text, "requestedSchema": schema}
        return await self.session.ask(self.response, "elicitation/create", params)

    async def _say(self, message: Message) -> None:
        await self.response.begin()
        await self.response.event(message.raw)
