"""A client that shakes hands, in front of a server that knows no handshake (protocol.md 2.3).

An upstream around a stateless one. Owns what the one side says once and the other wants to hear
each time: who the client is, the level of its log, what it wants to be told unasked. A result
that is a question goes to `rounds`, the one listen stream is `managed_listen`'s, and how a message
is put into the other era's words is in the parts that need no loop. Knows no HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, TypeGuard

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.bridge import discovery
from mcp_stdio.bridge.fitting import fit
from mcp_stdio.bridge.introduction import Introduction
from mcp_stdio.bridge.managed_listen import ManagedListen, NotGranted
from mcp_stdio.bridge.questions import Questions
from mcp_stdio.bridge.rounds import Rounds
from mcp_stdio.errors import BadAnswer, CannotBridge, quote
from mcp_stdio.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Message
from mcp_stdio.upstream import Call, Emit, Upstream, ask
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.progress import Rising
from mcp_stdio.upstream.refusal import HttpRefusal

log = logging.getLogger(__name__)

SWALLOWED = frozenset({spec.ROOTS_CHANGED, spec.PROGRESS, spec.CANCELLED})
"""Notifications of the client that mean nothing to a server without a memory (B-9)."""


class _Conversation:
    """What a handshake has settled, and what the client has wished for since."""

    def __init__(
        self, introduction: Introduction, capabilities: Mapping[str, Any], listen: ManagedListen
    ) -> None:
        self.introduction = introduction
        self.capabilities = capabilities
        self.listen = listen
        self.level: str | None = None


class LegacyClient:
    """The upstream of a client that opens with `initialize`; `upstream` is a stateless server.

    `ids` mints the relay's own ids, `nursery` runs the listen stream, `emit` brings what belongs to
    no request to the client. `server_name` is for a server that gives no name. `timeout_call` is
    the most seconds that a call may take with all its rounds, None without limit.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        ids: Iterator[str],
        nursery: trio.Nursery,
        emit: Emit,
        server_name: str,
        timeout_call: float | None,
    ) -> None:
        self._upstream = upstream
        self._ids = ids
        self._nursery = nursery
        self._emit = emit
        self._server_name = server_name
        self._timeout_call = timeout_call
        self._questions = Questions(emit)
        self._conversation: _Conversation | None = None
        self._opening_over = trio.Event()
        self._opening_over.set()

    @property
    def version(self) -> str | None:
        """The protocol version the client was told."""
        return None if self._conversation is None else self._conversation.introduction.version

    async def send(self, message: Message, call: Call) -> None:
        """Deliver one message; see `Upstream.send`.

        For `initialize`, raises CannotBridge when the server is not of the stateless era, and
        whatever its `server/discover` raises.
        """
        if message.is_response:
            call.turn.over()
            self._questions.settle(message)
        elif message.is_request and message.method == spec.PING:
            call.turn.over()
            await _answer(message, call, {})  # B-5
        else:
            await call.turn.come()  # the state is passed in the order of reading
            await self._opening_over.wait()  # holding the turn, so that all wait behind this one
            if message.is_request:
                await self._send_request(message, call)
            else:
                await self._notify(message, call)

    def refresh(self) -> None:
        """See `Upstream.refresh`."""
        self._upstream.refresh()

    async def aclose(self) -> None:
        """Listen no more, and close the upstream."""
        if self._conversation is not None:
            self._conversation.listen.close()
        await self._upstream.aclose()

    # By method

    async def _send_request(self, message: Message, call: Call) -> None:
        conversation, method = self._conversation, message.method
        if method == spec.INITIALIZE:
            await self._initialize(message, call)
        elif conversation is None:
            await _refuse(message, call, INVALID_PARAMS, "Send `initialize` first")
        elif method == spec.SET_LEVEL:
            await self._set_level(message, call, conversation)
        elif method in (spec.SUBSCRIBE, spec.UNSUBSCRIBE):
            await self._subscribe(message, call, conversation)
        elif method.startswith(spec.TASKS):
            await _refuse_method(message, call)  # B-15
        else:
            await self._relay(message, call, conversation)

    async def _notify(self, message: Message, call: Call) -> None:
        conversation = self._conversation
        if conversation is None or message.method in SWALLOWED:
            return
        if message.method == spec.INITIALIZED:
            conversation.listen.start()  # B-4
        else:
            stamped = conversation.introduction.stamp(message, conversation.level)
            await self._upstream.send(stamped, call)

    async def _set_level(
        self, message: Message, call: Call, conversation: _Conversation
    ) -> None:  # B-10
        level = message.params.get("level")
        if not isinstance(conversation.capabilities.get("logging"), dict):
            await _refuse_method(message, call)
        elif level not in spec.LOG_LEVELS:
            await _refuse(message, call, INVALID_PARAMS, "Unknown log level")
        else:
            conversation.level = level
            call.turn.over()
            await _answer(message, call, {})

    async def _subscribe(
        self, message: Message, call: Call, conversation: _Conversation
    ) -> None:  # B-11
        uri = message.params.get("uri")
        if not _has(conversation.capabilities, "resources", "subscribe"):
            await _refuse_method(message, call)
        elif not isinstance(uri, str):
            await _refuse(message, call, INVALID_PARAMS, "`uri` is missing")
        elif message.method == spec.UNSUBSCRIBE:
            conversation.listen.unsubscribe(uri)
            call.turn.over()
            await _answer(message, call, {})
        else:
            call.turn.over()
            try:
                await conversation.listen.subscribe(uri)
            except NotGranted:
                text = "The server does not tell of changes of this resource"
                await _refuse(message, call, INVALID_PARAMS, text)
            else:
                await _answer(message, call, {})

    # The handshake

    async def _initialize(self, message: Message, call: Call) -> None:
        assert message.id is not None
        self._opening_over = over = trio.Event()
        try:
            introduction = Introduction.of(message)
            response = await self._discover(introduction, call)
            if response is None:
                return
            names = discovery.versions_in(response)
            if response.error is not None and (not names or spec.R5 in names):
                await call.emit(response.with_id(message.id))
            elif spec.R5 in names:
                self._converse(introduction, response)
                version, name = introduction.version, self._server_name
                await call.emit(discovery.initialize_result(message.id, response, version, name))
            elif discovery.are_of_handshake_era(names):
                raise CannotBridge(
                    "the server does not speak the protocol revision 2026-07-28",
                    hint="leave out `--protocol-era modern`",
                )
            else:
                data = {"supported": names, "requested": introduction.requested}
                await _refuse(message, call, INVALID_PARAMS, "Unsupported protocol version", data)
        finally:
            over.set()

    async def _discover(self, introduction: Introduction, call: Call) -> Message | None:
        """What the server says of itself (B-1); asked twice if it refuses the version it offers."""
        response = await self._discover_once(introduction, call)
        if _is_about_version(response) and spec.R5 in discovery.versions_in(response):
            response = await self._discover_once(introduction, call)
        return response

    async def _discover_once(self, introduction: Introduction, call: Call) -> Message | None:
        try:
            return await ask(self._upstream, introduction.discover(next(self._ids)), call)
        except HttpRefusal as refusal:
            if not _is_about_version(refusal.answer):
                raise
            return refusal.answer

    def _converse(self, introduction: Introduction, discovered: Message) -> None:
        """Begin anew with what this handshake has settled (Q-20)."""
        capabilities = discovered.result.get("capabilities")
        known = capabilities if isinstance(capabilities, dict) else {}
        if self._conversation is not None:
            self._conversation.listen.close()
        lists = spec.LIST_CHANGES.items()
        listen = ManagedListen(
            self._upstream,
            kinds=[kind for kind, (name, _) in lists if _has(known, name, "listChanged")],
            request=introduction.listen,
            ids=self._ids,
            nursery=self._nursery,
            emit=self._emit,
        )
        self._conversation = _Conversation(introduction, known, listen)

    # Any other request

    async def _relay(self, message: Message, call: Call, conversation: _Conversation) -> None:
        """Send a request, and emit the response that is no question (B-6, B-8, B-14, B-16)."""
        progress = Rising(call.emit, call.emit_all)
        send = partial(self._ask, conversation)
        with Patience(silence=None, total=self._timeout_call):
            first = Call(progress.first, call.turn, call.leave, progress.first_all)
            response = await send(message, first)
            if message.method in spec.MAY_NEED_INPUT:
                rounds = Rounds(
                    message,
                    call,
                    introduction=conversation.introduction,
                    questions=self._questions,
                    ids=self._ids,
                    progress=progress,
                    send=send,
                )
                response = await rounds.finish(response)
        if response is not None:
            await call.emit(_fitted(response, message, conversation.introduction.version))

    async def _ask(
        self, conversation: _Conversation, message: Message, call: Call
    ) -> Message | None:
        """The response to a request of the client, under whatever id it was sent last (B-31)."""
        request = conversation.introduction.stamp(message, conversation.level)
        response = await ask(self._upstream, request, call)
        if _is_about_version(response) and spec.R5 in discovery.versions_in(response):
            call.turn.over()
            response = await ask(self._upstream, request.with_id(next(self._ids)), call)
        if _is_about_version(response):
            raise CannotBridge(
                "the server no longer takes the protocol revision 2026-07-28",
                hint="start mcp-stdio anew, which finds out what the server speaks now",
            )
        return response


def _fitted(response: Message, request: Message, version: str) -> Message:
    """The response in the client's words and under its id. Raises BadAnswer, TooDeep."""
    assert request.id is not None
    kind = response.result.get("resultType")
    if kind not in (None, "complete"):  # T-74
        raise BadAnswer(f"the server's result is of another type than agreed: {quote(str(kind))}")
    if response.error is not None and response.error.get("code") == spec.HEADER_MISMATCH:
        log.error("the server finds headers and message at odds: a defect of this relay")  # B-33
    fitted = fit(response, request, version)
    return fitted if jsonrpc.same_id(fitted.id, request.id) else fitted.with_id(request.id)


def _is_about_version(response: Message | None) -> TypeGuard[Message]:
    """Whether a response refuses the protocol version of its request."""
    error = None if response is None else response.error
    return error is not None and error.get("code") == spec.UNSUPPORTED_VERSION


def _has(capabilities: Mapping[str, Any], name: str, what: str) -> bool:
    """Whether a capability of the server has this property."""
    capability = capabilities.get(name)
    return isinstance(capability, dict) and capability.get(what) is True


async def _answer(request: Message, call: Call, result: Mapping[str, Any]) -> None:
    assert request.id is not None
    await call.emit(jsonrpc.result(request.id, result))


async def _refuse_method(request: Message, call: Call) -> None:
    await _refuse(request, call, METHOD_NOT_FOUND, "The server does not offer this method")


async def _refuse(
    request: Message, call: Call, code: int, text: str, data: Mapping[str, Any] | None = None
) -> None:
    call.turn.over()
    await call.emit(jsonrpc.error(request.id, code, text, data))
