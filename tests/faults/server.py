"""A strict MCP server that counts, and misbehaves wherever a test wants it to.

It speaks the handshake era over Streamable HTTP, checks each request against what the protocol asks
of a client, and counts how often each call ran. What it does with a request is up to a behaviour,
an async function that gets the `Visit`; behaviours are chosen by the name of the tool that is
called, or by method. Answers are raw bytes, so that they can be wrong in any way.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

import trio

from mcp_stdio import spec
from tests.faults.wire import Wire

VERSION = spec.R4
TOOL_CALL = "tools/call"
JSON = "application/json"
EVENTS = "text/event-stream"
FORM = "application/x-www-form-urlencoded"

Json = dict[str, Any]


@dataclass(frozen=True)
class Received:
    """One request as it came; `connection` counts from 1, `message` is the body of a POST."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    connection: int
    message: Json

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.get_all(name)
        return values[0] if values else None

    @property
    def rpc(self) -> str:
        """The JSON-RPC method, or the HTTP method of a request without a message."""
        method = self.message.get("method")
        return method if isinstance(method, str) else "response" if self.message else self.method

    @property
    def tool(self) -> str:
        return str(self.message.get("params", {}).get("name", ""))

    @property
    def call(self) -> str:
        """What tells one tool call from another: what it says of itself, or its id."""
        arguments = self.message.get("params", {}).get("arguments", {})
        return json.dumps(arguments.get("call", self.message.get("id")))

    @property
    def version(self) -> str | None:
        """The protocol version that the message names by itself, as those of 2026-07-28 do."""
        meta = self.message.get("params", {}).get("_meta", {})
        version = meta.get(spec.META_VERSION)
        return version if isinstance(version, str) else None


class Visit:
    """One request on its connection, to be answered or not."""

    def __init__(self, server: Server, connection: Connection, received: Received) -> None:
        self.server = server
        self.connection = connection
        self.received = received
        self.id = received.message.get("id")

    async def send(self, data: bytes) -> None:
        await self.connection.stream.send_all(data)

    async def answer(self, result: Json | None = None, *headers: str) -> None:
        """Answer well: a result in JSON."""
        await self.send(http(body=dumps(self.result(result)), headers=headers))

    def result(self, result: Json | None = None) -> Json:
        if result is None:
            result = {"content": [{"type": "text", "text": self.received.tool}]}
        return {"jsonrpc": "2.0", "id": self.id, "result": result}

    def did_not_run(self) -> None:
        """This call was declined, so another one does not count as the second."""
        self.server.runs[self.received.call] -= 1

    async def hung_up(self) -> None:
        """Wait until the client closes the connection."""
        await self.connection.end()

    async def close(self) -> None:
        """Close the connection in order."""
        await self.connection.stream.aclose()

    def reset(self) -> None:
        """Close the connection so that the client gets a TCP reset."""
        self.connection.reset()


Behaviour = Callable[[Visit], Awaitable[None]]


class Connection:
    """One connection: requests are read whole, one after the other."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        sock: trio.SocketStream,
        number: int,
        limit: float,
        torn_from: float,
    ) -> None:
        self.stream = stream
        self.number = number
        self.limit = limit
        self.torn_from = torn_from
        self.is_closed = False
        self._socket = sock.socket
        self._buffer = bytearray()

    async def request(self) -> Received | None:
        """The next request; None when the client has hung up."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not await self._read():
                return None
        lines = self._buffer[:end].decode("utf-8", "surrogateescape").split("\r\n")
        del self._buffer[: end + 4]
        method, target, _ = lines[0].split(" ")
        pairs = (line.partition(":") for line in lines[1:])
        headers = tuple((name, value.strip()) for name, _, value in pairs)
        size = next((int(v) for k, v in headers if k.lower() == "content-length"), 0)
        if size > self.torn_from:
            while len(self._buffer) < size // 2:
                if not await self._read():
                    return None
            self.reset()
            return None
        if size > self.limit:
            await self.stream.send_all(http(413, b"too large", headers=["Connection: close"]))
            return None
        while len(self._buffer) < size:
            if not await self._read():
                return None
        body = bytes(self._buffer[:size])
        del self._buffer[:size]
        is_form = ("content-type", FORM) in ((name.lower(), value) for name, value in headers)
        message = {} if is_form or not body else json.loads(body)
        return Received(method, target, headers, body, self.number, message)

    def reset(self) -> None:
        self.is_closed = True
        if self._socket.fileno() != -1:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()

    async def end(self) -> None:
        """Wait until the client hangs up; what it says until then is kept."""
        try:
            while await self._read():
                pass
        except trio.BrokenResourceError:
            pass

    async def _read(self) -> bool:
        data = await self.stream.receive_some()
        self._buffer += data
        return bool(data)


@dataclass
class Server:
    """What a running server saw, and how it is to behave.

    `tools` holds a behaviour for each tool, `methods` one for each JSON-RPC method, or for `GET`
    and `DELETE`. `runs` counts tool calls by their id. `complaints` is what the client did wrong. A
    body over `limit` bytes is refused unread; at the half of one over `torn_from` the connection is
    reset. `version` is what requests are to name that do not say it themselves. All connections go
    over the `wire`, if there is one.
    """

    context: ssl.SSLContext | None = None
    has_sessions: bool = True
    path: str = "/mcp"
    limit: float = inf
    torn_from: float = inf
    version: str = VERSION
    wire: Wire | None = None
    port: int = 0
    tools: dict[str, Behaviour] = field(default_factory=dict)
    methods: dict[str, Behaviour] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    runs: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    connections: int = 0
    _open: set[Connection] = field(default_factory=set)
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    _listener: trio.SocketListener | None = None
    _nursery: trio.Nursery | None = None
    _news: trio.Event = field(default_factory=trio.Event)
    _minted: int = 0

    @property
    def url(self) -> str:
        return f"{'http' if self.context is None else 'https'}://127.0.0.1:{self.port}{self.path}"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def requests(self, rpc: str) -> list[Received]:
        """The requests of one JSON-RPC method, or of one HTTP method other than POST."""
        return [received for received in self.received if received.rpc == rpc]

    async def saw(self, rpc: str, count: int = 1) -> list[Received]:
        """Wait for so many requests of a method; the test bounds it."""
        while len(self.requests(rpc)) < count:
            await self._news.wait()
        return self.requests(rpc)

    def restart(self) -> None:
        """Forget all sessions, as a server does that was started anew."""
        self.sessions.clear()

    def kill(self) -> None:
        """Be gone: no listener, all connections reset, all sessions forgotten."""
        self._scope.cancel()
        assert self._listener is not None
        self._listener.socket.close()  # before anyone can try again
        for connection in list(self._open):
            connection.reset()
        self.restart()

    async def revive(self) -> None:
        """Come back on the same port."""
        assert self._nursery is not None
        await self._nursery.start(self._serve)

    async def _serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self._listener = listener
        self.port = listener.socket.getsockname()[1]
        with trio.CancelScope() as self._scope:
            async with listener, trio.open_nursery() as nursery:
                task_status.started()
                await trio.serve_listeners(self._converse, [listener], handler_nursery=nursery)

    async def _converse(self, sock: trio.SocketStream) -> None:
        self.connections += 1
        stream: trio.abc.Stream = sock
        if self.context is not None:
            stream = trio.SSLStream(sock, self.context, server_side=True, https_compatible=True)
        if self.wire is not None:
            stream = self.wire.around(stream, sock)
        connection = Connection(stream, sock, self.connections, self.limit, self.torn_from)
        self._open.add(connection)
        try:
            while not connection.is_closed and (received := await connection.request()) is not None:
                await self._serve_one(Visit(self, connection, received))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client hung up, or the behaviour did
        finally:
            self._open.discard(connection)
            await trio.aclose_forcefully(stream)

    async def _serve_one(self, visit: Visit) -> None:
        received = visit.received
        self.received.append(received)
        self._news.set()
        self._news = trio.Event()
        behaviour = self.methods.get(received.rpc, _behave)
        if received.rpc == TOOL_CALL:
            self.runs[received.call] += 1
            behaviour = self.tools.get(received.tool, behaviour)
        self.complaints += complaints_about(received, self.version)
        opens = received.rpc in (spec.INITIALIZE, spec.DISCOVER)
        if received.method == "POST" and not opens and self.has_sessions:
            session = received.get(spec.SESSION_ID)
            if session is None:
                self.complaints.append(f"{received.rpc} came without a session id")
            elif session not in self.sessions:
                if received.rpc == TOOL_CALL:
                    visit.did_not_run()
                await visit.send(http(404, b"session not found", kind="text/plain"))
                return
        await behaviour(visit)

    def mint_session(self) -> str:
        self._minted += 1
        self.sessions.append(f"session-{self._minted}")
        return self.sessions[-1]


@asynccontextmanager
async def serving(
    *, is_down: bool = False, is_judged: bool = True, **settings: Any
) -> AsyncIterator[Server]:
    """A running server; at the end, no call has run twice, and the client has kept the rules.

    With `is_down` the port is known and nobody listens on it yet.
    """
    server = Server(**settings)
    async with trio.open_nursery() as nursery:
        server._nursery = nursery
        await server.revive()
        if is_down:
            server.kill()
        yield server
        nursery.cancel_scope.cancel()
    if is_judged:
        assert not server.complaints, server.complaints
    assert not [call for call, count in server.runs.items() if count > 1]


def complaints_about(received: Received, expected: str) -> Iterable[str]:
    """What is wrong with a request, whatever the state of the server."""
    names = [name.lower() for name, _ in received.headers]
    rpc = received.rpc
    if received.target.startswith("/.well-known"):
        yield f"asked for {received.target}"
    if len(names) != len(set(names)):
        yield f"{rpc}: a header twice among {names}"
    if "origin" in names:
        yield f"{rpc}: sent `Origin`"
    accepted = {kind.strip() for kind in (received.get("accept") or "").split(",")}
    match received.method:
        case "POST":
            if accepted != {JSON, EVENTS}:
                yield f"{rpc}: `Accept` is {accepted}"
            if received.get("content-type") != JSON:
                yield f"{rpc}: `Content-Type` is {received.get('content-type')}"
            if received.message.get("jsonrpc") != "2.0":
                yield f"{rpc}: not one JSON-RPC message"
        case "GET":
            if accepted != {EVENTS}:
                yield f"{rpc}: `Accept` is {accepted}"
        case "DELETE":
            pass
        case other:
            yield f"sent {other}"
    version = received.get(spec.PROTOCOL_VERSION)
    if rpc == spec.INITIALIZE:
        if version is not None or received.get(spec.SESSION_ID) is not None:
            yield "initialize came with a version or a session id"
    elif received.method == "GET" and received.get(spec.SESSION_ID) is None:
        pass  # looks for HTTP+SSE, which has no such header before `initialize` (T-90)
    elif received.method == "DELETE" and version is None:
        pass  # leaves a session whose `initialize` was never answered to its end
    elif version != (received.version or expected):
        yield f"{rpc}: `{spec.PROTOCOL_VERSION}` is {version}"
    if received.version is not None and received.get(spec.METHOD) != rpc:
        yield f"{rpc}: `{spec.METHOD}` is {received.get(spec.METHOD)}"


async def _behave(visit: Visit) -> None:
    """The answer of a server as it should be."""
    match visit.received.rpc:
        case spec.INITIALIZE:
            await welcome(visit)
        case spec.DISCOVER:  # asked after an `initialize` that was refused
            await visit.send(http(404, b"no such method", kind="text/plain"))
        case spec.PING:
            await visit.answer({})
        case "tools/list":
            await visit.answer({"tools": []})
        case "resources/list":
            await visit.answer({"resources": []})
        case "GET":
            await visit.send(http(405))
        case "DELETE":
            session = visit.received.get(spec.SESSION_ID)
            known = session in visit.server.sessions
            if session is not None and known:
                visit.server.sessions.remove(session)
            await visit.send(http(200 if known else 404))
        case _ if visit.id is None or visit.received.rpc == "response":
            await visit.send(http(202))
        case _:
            await visit.answer()


async def welcome(visit: Visit) -> None:
    """Answer `initialize` and open a session."""
    headers: tuple[str, ...] = ()
    if visit.server.has_sessions:
        headers = (f"{spec.SESSION_ID}: {visit.server.mint_session()}",)
    await visit.answer(server_description(), *headers)


def server_description() -> Json:
    """The result of `initialize`."""
    return {
        "protocolVersion": VERSION,
        "capabilities": {"tools": {}, "logging": {}, "resources": {"subscribe": True}},
        "serverInfo": {"name": "strict", "version": "1"},
    }


# Answers, as bytes


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()


def http(
    status: int = 200,
    body: bytes = b"",
    *,
    kind: str | None = JSON,
    headers: Iterable[str] = (),
    size: int | None = None,
    version: str = "1.1",
) -> bytes:
    """A response; `size` is what `Content-Length` says if that is not the truth."""
    lines = [f"HTTP/{version} {status} Whatever", *headers]
    if kind is not None and body:
        lines.append(f"Content-Type: {kind}")
    lines.append(f"Content-Length: {len(body) if size is None else size}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def stream_head(*headers: str, status: int = 200, kind: str = EVENTS) -> bytes:
    """The head of a chunked event stream."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {kind}", *headers]
    return "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END = chunk(b"")


def event(message: Mapping[str, Any] | None = None, *, id: str = "", retry: int = -1) -> bytes:
    """One event in a chunk of its own; without a message it has empty data."""
    lines = [f"id: {id}"] if id else []
    if retry >= 0:
        lines.append(f"retry: {retry}")
    lines.append("data: " + ("" if message is None else json.dumps(message)))
    return chunk("\n".join([*lines, "", ""]).encode())


def notification(text: str) -> Json:
    return {
        "jsonrpc": "2.0",
        "method": "notifications/message",
        "params": {"level": "info", "data": text},
    }


# Behaviours


def answering(data: bytes, *, closes: bool = False, runs: bool = True) -> Behaviour:
    """Answer with these bytes; `ID` in them stands for the request's id."""

    async def behave(visit: Visit) -> None:
        if not runs and visit.received.rpc == TOOL_CALL:
            visit.did_not_run()
        await visit.send(data)
        if closes:
            await visit.close()

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One after the other, then the last one for ever."""
    left = list(behaviours)

    async def behave(visit: Visit) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(visit)

    return behave


async def well(visit: Visit) -> None:
    """Answer as one should."""
    await _behave(visit)


async def never(visit: Visit) -> None:
    """Never answer."""
    await trio.sleep_forever()


async def hang_up(visit: Visit) -> None:
    """Close without a word."""
    await visit.close()


async def cut_off(visit: Visit) -> None:
    """Reset the connection."""
    visit.reset()
