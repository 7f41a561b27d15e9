"""A server of the stateless era made of rules, and a client of the handshake era before the bridge.

`Peer` is an upstream: it answers each request by the rule for its method and remembers what it was
given. Listen streams are held open, acknowledged as asked, until the test ends them.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.bridge.legacy_client import LegacyClient
from mcp_stdio.errors import RelayError
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from tests.upstream.fakes import Asked, Client

Rule = Callable[[Message, Call], Awaitable[None]]


class Listen:
    """A listen stream, as the server has it."""

    def __init__(self, request: Message, call: Call) -> None:
        self.request = request
        self.asked: dict[str, Any] = request.params["notifications"]
        self.is_open = True
        self.ended = trio.Event()
        self.failure: RelayError | None = None
        self._call = call

    async def acknowledge(self, granted: dict[str, Any] | None = None) -> None:
        await self.tell(
            spec.ACKNOWLEDGED, {"notifications": self.asked if granted is None else granted}
        )

    async def tell(self, method: str, params: dict[str, Any] | None = None) -> None:
        tag = {"_meta": {spec.META_SUBSCRIPTION: self.request.id}}
        await self._call.emit(jsonrpc.notification(method, tag | (params or {})))

    async def updated(self, uri: str) -> None:
        await self.tell(spec.RESOURCE_UPDATED, {"uri": uri})

    def end(self, failure: RelayError | None = None) -> None:
        """Gracefully, or by this failure."""
        self.failure = failure
        self.ended.set()

    async def run(self) -> None:
        try:
            await self.ended.wait()
            if self.failure is not None:
                raise self.failure
            assert self.request.id is not None
            result = {"_meta": {spec.META_SUBSCRIPTION: self.request.id}}
            await self._call.emit(jsonrpc.result(self.request.id, result))
        finally:
            self.is_open = False


class Peer:
    """The server; `offers` are its capabilities. Without a rule: an empty result."""

    version: str | None = None

    def __init__(
        self, offers: dict[str, Any] | None = None, rules: Mapping[str, Rule] | None = None
    ) -> None:
        self.offers = {"tools": {}} if offers is None else offers
        self.rules: dict[str, Rule] = {
            spec.DISCOVER: self.discovered,
            spec.LISTEN: self.listened,
            **(rules or {}),
        }
        self.seen: list[Message] = []
        self.listens: list[Listen] = []
        self.refreshed = self.closed = 0

    @property
    def open_listens(self) -> list[Listen]:
        return [listen for listen in self.listens if listen.is_open]

    def got(self, method: str) -> list[Message]:
        return [message for message in self.seen if message.method == method]

    def on(self, method: str) -> Callable[[Rule], Rule]:
        """Make the function below it the rule for a method."""

        def note(rule: Rule) -> Rule:
            self.rules[method] = rule
            return rule

        return note

    async def send(self, message: Message, call: Call) -> None:
        await call.turn.come()
        await trio.lowlevel.checkpoint()
        self.seen.append(message)
        call.turn.over()
        if message.is_request:
            await self.rules.get(message.method, answer())(message, call)

    def refresh(self) -> None:
        self.refreshed += 1

    async def aclose(self) -> None:
        self.closed += 1

    async def discovered(self, message: Message, call: Call) -> None:
        result = {
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": self.offers,
            "_meta": {spec.META_SERVER_INFO: {"name": "peer", "version": "1"}},
        }
        await answer(result)(message, call)

    async def listened(self, message: Message, call: Call) -> None:
        await self.listen(message, call, acknowledge=True)

    async def listen(self, message: Message, call: Call, *, acknowledge: bool) -> None:
        listen = Listen(message, call)
        self.listens.append(listen)
        if acknowledge:
            await listen.acknowledge()
        await listen.run()


def answer(result: Any = None) -> Rule:
    """A result, which is complete unless it says otherwise."""

    async def rule(message: Message, call: Call) -> None:
        assert message.id is not None
        await call.emit(jsonrpc.result(message.id, {} if result is None else result))

    return rule


def fail(code: int, text: str = "no", data: dict[str, Any] | None = None) -> Rule:
    async def rule(message: Message, call: Call) -> None:
        await call.emit(jsonrpc.error(message.id, code, text, data))

    return rule


def break_off(failure: RelayError) -> Rule:
    async def rule(message: Message, call: Call) -> None:
        raise failure

    return rule


async def silent(message: Message, call: Call) -> None:
    """Never answers."""
    await trio.sleep_forever()


def in_turn(*rules: Rule) -> Rule:
    """One rule after the other; the last one stays."""
    rest = list(rules)

    async def rule(message: Message, call: Call) -> None:
        await (rest.pop(0) if len(rest) > 1 else rest[0])(message, call)

    return rule


class Desk(Client):
    """A client of the handshake era, which can be asked as well."""

    reads = True

    async def emit(self, message: Message) -> None:
        if not self.reads:
            await trio.sleep_forever()
        await super().emit(message)

    async def open(
        self, version: str = "2025-11-25", capabilities: dict[str, Any] | None = None
    ) -> Asked:
        opening = self.ask(
            spec.INITIALIZE,
            {
                "protocolVersion": version,
                "capabilities": {} if capabilities is None else capabilities,
                "clientInfo": {"name": "desk", "version": "4"},
            },
        )
        await self.done(opening)
        await self.done(self.tell(spec.INITIALIZED))
        return opening

    def give(self, question: Message, result: Any) -> Asked:
        assert question.id is not None
        return self.put(jsonrpc.result(question.id, result))

    def refuse(self, question: Message, text: str = "no") -> Asked:
        return self.put(jsonrpc.error(question.id, -1, text))


@asynccontextmanager
async def bridging(peer: Peer, *, timeout_call: float | None = None) -> AsyncIterator[Desk]:
    """A client in front of the bridge to `peer`; nothing has been sent yet."""
    with trio.fail_after(100_000):
        async with trio.open_nursery() as nursery:
            client = Desk(nursery)
            client.upstream = LegacyClient(
                peer,
                ids=(f"r7f-{number}" for number in itertools.count(1)),
                nursery=nursery,
                emit=client.emit,
                server_name="peer.example",
                timeout_call=timeout_call,
            )
            yield client
            nursery.cancel_scope.cancel()


def questions(asked: Asked) -> list[Message]:
    """What the client was asked on behalf of a call, in order."""
    return [message for message in asked.emitted if message.is_request]
