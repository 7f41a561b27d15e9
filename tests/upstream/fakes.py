"""A server made of rules, and a client in front of the upstream under test.

`Server` is a lane: it answers each request by the rule for its method and remembers what it was
given. `Client` does to an upstream what the relay does, and keeps what comes back.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from mcp_stdio import jsonrpc
from mcp_stdio.errors import ConnectionLost, RelayError, Unreachable
from mcp_stdio.http import Exchange, Head, Headers, Lane, Request
from mcp_stdio.http.url import Url
from mcp_stdio.in_flight import InFlight, Relayed
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Upstream
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.handshake import Handshake
from mcp_stdio.upstream.link import HeadersOf, no_headers
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.questions import Questions
from mcp_stdio.upstream.session import Session
from mcp_stdio.upstream.streamable_http import StreamableHttp

URL = Url.parse("http://server.example/mcp")

LIMIT = 100_000
"""`--max-message-size` of these tests."""

Step = bytes | float | trio.Event | RelayError
"""Part of a response: bytes, seconds of waiting, an event to wait for, a failure."""

FOREVER = float("inf")


@dataclass(frozen=True)
class Reply:
    """A response: what happens before its head, the head, the body step by step.

    Its body has an end of its own, unless that `is_ended_by_close`.
    """

    status: int = 200
    body: Sequence[Step] = ()
    media_type: str | None = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    before: Sequence[Step] = ()
    is_ended_by_close: bool = False


@dataclass(eq=False)
class Seen:
    """A request as the server got it, when, and whether the relay is done with it."""

    request: Request
    at: float
    closed: trio.Event = field(default_factory=trio.Event)

    @property
    def message(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.request.body)
        return value

    @property
    def rule(self) -> str:
        """What a rule for this request is called."""
        if self.request.method != "POST":
            return self.request.method
        return str(self.message.get("method", "response"))

    @property
    def id(self) -> Any:
        return self.message.get("id")

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.request.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} was sent twice"
        return values[0] if values else None


Answer = Reply | RelayError | Callable[[Seen], Reply | RelayError]


def result(seen: Seen, value: Any = None, **reply: Any) -> Reply:
    body = {"jsonrpc": "2.0", "id": seen.id, "result": {} if value is None else value}
    return Reply(body=[json.dumps(body).encode()], **reply)


def error(seen: Seen, code: int = -32000, text: str = "no", status: int = 200) -> Reply:
    body = {"jsonrpc": "2.0", "id": seen.id, "error": {"code": code, "message": text}}
    return Reply(status, [json.dumps(body).encode()])


def events(*steps: Step | dict[str, Any]) -> Reply:
    """An event stream; a dict is one message."""
    body = [event(step) if isinstance(step, dict) else step for step in steps]
    return Reply(body=body, media_type="text/event-stream")


def event(message: dict[str, Any] | str = "", id: str | None = None) -> bytes:
    data = message if isinstance(message, str) else json.dumps({"jsonrpc": "2.0"} | message)
    return (f"id: {id}\n" if id is not None else "").encode() + f"data: {data}\n\n".encode()


def note(text: str) -> dict[str, Any]:
    return {"method": "notifications/message", "params": {"level": "info", "data": text}}


def answer(seen: Seen, value: str = "done") -> dict[str, Any]:
    return {"id": seen.id, "result": {"value": value}}


def unreachable() -> Unreachable:
    return Unreachable("nobody there")


def lost(*, answer_begun: bool = False) -> ConnectionLost:
    return ConnectionLost("gone", answer_begun=answer_begun)


def in_turn(*answers: Answer) -> Callable[[Seen], Reply | RelayError]:
    """One answer after the other; the last one stays."""
    rest = list(answers)

    def next_one(seen: Seen) -> Reply | RelayError:
        given = rest.pop(0) if len(rest) > 1 else rest[0]
        return given if isinstance(given, Reply | RelayError) else given(seen)

    return next_one


class Server(Lane):
    """Answers by rule: the method of the message, `response`, `GET` or `DELETE`.

    Without a rule: a session for each `initialize`, 202, an empty result, 405 to GET. A request
    with a session id that is not in `sessions` gets 404, as long as there ever was one.
    """

    def __init__(self, **rules: Answer) -> None:
        self.rules: dict[str, Answer] = dict(rules)
        self.seen: list[Seen] = []
        self.refused_connections = 0
        self.sessions: set[str] = set()
        self.has_sessions = True
        self.thinking = 0.0  # seconds until it says that it knows no such session
        self.version = "2025-11-25"
        self.capabilities: dict[str, Any] = {"tools": {}}
        self._names = (f"session-{number}" for number in itertools.count(1))

    def got(self, rule: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.rule == rule]

    def order(self) -> list[str]:
        return [seen.rule for seen in self.seen]

    def is_ready(self, request: Request) -> bool:
        return True

    async def send(self, request: Request) -> Exchange:
        await trio.lowlevel.checkpoint()
        seen = Seen(request, trio.current_time())
        reply = self._answer(seen)
        if isinstance(reply, Unreachable):
            self.refused_connections += 1
            raise reply
        self.seen.append(seen)
        if isinstance(reply, RelayError):
            reply = Reply(before=[reply])
        return FakeExchange(seen, reply)

    async def prepare(self, url: Url) -> None:
        await trio.lowlevel.checkpoint()

    def drop_idle(self) -> None:
        pass

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def forget(self) -> None:
        """Lose all sessions, as a restart does."""
        self.sessions.clear()

    def _answer(self, seen: Seen) -> Reply | RelayError:
        session = seen.header("Mcp-Session-Id")
        rule = self.rules.get(seen.rule, self._default)
        if isinstance(rule, Unreachable):
            return rule
        if session is not None and session not in self.sessions:
            return Reply(404, [b"session not found"], "text/plain", before=[self.thinking])
        return rule if isinstance(rule, Reply | RelayError) else rule(seen)

    def _default(self, seen: Seen) -> Reply | RelayError:
        match seen.rule:
            case "initialize":
                return self.opened(seen)
            case "GET":
                return Reply(405, media_type=None)
            case "DELETE":
                self.sessions.discard(seen.header("Mcp-Session-Id") or "")
                return Reply(media_type=None)
            case _ if "id" in seen.message and "method" in seen.message:
                return result(seen)
        return Reply(202, media_type=None)

    def opened(self, seen: Seen, **reply: Any) -> Reply:
        """The answer to `initialize`."""
        headers: tuple[tuple[str, str], ...] = ()
        if self.has_sessions:
            name = next(self._names)
            self.sessions.add(name)
            headers = (("mcp-session-id", name),)
        value = {
            "protocolVersion": self.version,
            "capabilities": self.capabilities,
            "serverInfo": {"name": "fake", "version": "1"},
        }
        return result(seen, value, headers=headers, **reply)


class FakeExchange(Exchange):
    def __init__(self, seen: Seen, reply: Reply) -> None:
        self._seen = seen
        self._reply = reply
        self._before = list(reply.before)
        self._body = list(reply.body)
        self._was_asked = False
        self._has_head = False

    async def head(self) -> Head:
        assert not self._was_asked, "asked for a second head, a lane may send the request again"
        self._was_asked = True
        while self._before:
            await _step(self._before.pop(0))
        await trio.lowlevel.checkpoint()
        self._has_head = True
        headers = list(self._reply.headers)
        if self._reply.media_type is not None:
            headers.append(("content-type", self._reply.media_type))
        if not self._reply.is_ended_by_close:
            headers.append(("transfer-encoding", "chunked"))
        return Head(
            self._reply.status, Headers((name.encode(), value.encode()) for name, value in headers)
        )

    async def receive_some(self) -> bytes:
        assert self._has_head, "a body comes after its head"
        await trio.lowlevel.checkpoint()
        while self._body:
            chunk = await _step(self._body.pop(0))
            if chunk:
                return chunk
        return b""

    async def aclose(self) -> None:
        # No checkpoint: a `Cancelled` from here would hide what went wrong before.
        self._seen.closed.set()


async def _step(step: Step) -> bytes:
    match step:
        case bytes():
            return step
        case trio.Event():
            await step.wait()
        case RelayError():
            raise step
        case _:
            await trio.sleep(step)
    return b""


class Asked:
    """A message the client sent, and what came back for it."""

    def __init__(self, relayed: Relayed) -> None:
        self.relayed = relayed
        self.emitted: list[Message] = []
        self.failure: RelayError | None = None
        self.over = trio.Event()
        self.began = trio.current_time()
        self.took = 0.0  # seconds until it was over

    @property
    def answer(self) -> dict[str, Any]:
        """The response; there must be exactly one."""
        assert self.failure is None, repr(self.failure)
        [response] = [message for message in self.emitted if message.is_response]
        return dict(response.body)

    @property
    def result(self) -> Any:
        return self.answer["result"]

    @property
    def notes(self) -> list[str]:
        return [message.params["data"] for message in self.emitted if "data" in message.params]


class Client:
    """Sends messages to an upstream in the order of the calls, each in a task of its own."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.upstream: Upstream
        self.emitted: list[Message] = []  # what belongs to no request
        self.slowness = 0.0  # seconds that taking one message lasts
        self._nursery = nursery
        self._in_flight = InFlight()
        self._ids = itertools.count(100)

    def put(self, message: Message) -> Asked:
        asked = Asked(self._in_flight.open(message))
        self._nursery.start_soon(self._send, asked)
        return asked

    def ask(self, method: str, params: Any = None, id: jsonrpc.Id | None = None) -> Asked:
        return self.put(jsonrpc.request(next(self._ids) if id is None else id, method, params))

    def tell(self, method: str, params: Any = None) -> Asked:
        return self.put(jsonrpc.notification(method, params))

    def reply(self, id: jsonrpc.Id) -> Asked:
        return self.put(jsonrpc.result(id, {}))

    def cancel(self, asked: Asked, reason: str = "user") -> None:
        params = {"requestId": asked.relayed.message.id, "reason": reason}
        self._in_flight.cancel(jsonrpc.notification("notifications/cancelled", params))

    async def done(self, *asked: Asked) -> None:
        for one in asked:
            await one.over.wait()

    async def shake_hands(self) -> Asked:
        opening = self.ask("initialize", INITIALIZE)
        await self.done(opening)
        await self.done(self.tell("notifications/initialized"))
        return opening

    async def emit(self, message: Message) -> None:
        await trio.sleep(self.slowness)
        self.emitted.append(message)

    async def _send(self, asked: Asked) -> None:
        async def emit(message: Message) -> None:
            await trio.sleep(self.slowness)
            asked.emitted.append(message)

        with asked.relayed.scope:
            try:
                await self.upstream.send(
                    asked.relayed.message, Call(emit, asked.relayed.turn, asked.relayed)
                )
            except RelayError as failure:
                asked.failure = failure
            finally:
                asked.took = trio.current_time() - asked.began
                self._in_flight.close(asked.relayed)
                asked.over.set()


INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"roots": {}},
    "clientInfo": {"name": "client", "version": "1"},
}


@asynccontextmanager
async def in_session_with(
    server: Server,
    *,
    silence: float | None = 120.0,
    total: float | None = None,
    ids: Iterator[str] | None = None,
    headers: HeadersOf = no_headers,
    renewed: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[Client]:
    """A client in front of a `Session`; nothing has been sent yet. Bounded by the mock clock."""
    with trio.fail_after(100_000):
        async with trio.open_nursery() as nursery:
            client = Client(nursery)
            client.upstream = Session(
                StreamableHttp(
                    Messenger(server, URL, limit=LIMIT),
                    nursery=nursery,
                    emit=client.emit,
                    headers=headers,
                ),
                nursery=nursery,
                emit=client.emit,
                ids=ids or (f"relay-{number}" for number in itertools.count(1)),
                timeout_read=silence,
                timeout_call=total,
                renewed=renewed,
            )
            yield client
            nursery.cancel_scope.cancel()


class _Plain:
    """An upstream that is nothing but one `Messenger` under one session."""

    version = "2025-11-25"

    def __init__(
        self, server: Server, *, session: str | None, silence: float | None, total: float | None
    ) -> None:
        self._messenger = Messenger(server, URL, limit=LIMIT)
        self._silence = silence
        self._total = total
        self.handshake = Handshake(self._messenger, Questions())
        self.handshake.session_id = session
        self.handshake.agree("2025-11-25")

    async def send(self, message: Message, call: Call) -> None:
        deliver = self._messenger.ask if message.is_request else self._messenger.tell
        with Patience(silence=self._silence, total=self._total) as patience:
            await deliver(message, self.handshake, call, patience)

    def refresh(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


@asynccontextmanager
async def messaging(
    server: Server,
    *,
    session: str | None = None,
    silence: float | None = 120.0,
    total: float | None = None,
) -> AsyncIterator[Client]:
    """A client in front of a bare `Messenger`."""
    if session is not None:
        server.sessions.add(session)
    with trio.fail_after(100_000):
        async with trio.open_nursery() as nursery:
            client = Client(nursery)
            client.upstream = _Plain(server, session=session, silence=silence, total=total)
            yield client
            nursery.cancel_scope.cancel()
