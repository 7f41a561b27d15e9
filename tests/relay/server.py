"""A small MCP server on a real socket whose answers are the test's own.

It does the handshake and keeps a log; every other request goes to a function of the test, which
answers through `Asked` as it likes: JSON, an event stream, nothing, raw bytes.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

SESSION = "session-of-the-test"

Json = dict[str, Any]


@dataclass
class Asked:
    """One request to the server, and the way to answer it."""

    method: str
    headers: dict[str, str]
    body: bytes
    stream: trio.abc.Stream
    message: Json = field(default_factory=dict)

    @property
    def id(self) -> Any:
        return self.message.get("id")

    @property
    def params(self) -> Json:
        params: Json = self.message.get("params") or {}
        return params

    async def result(self, **members: Any) -> None:
        """Answer with a JSON-RPC result."""
        await self.body_of(encode({"jsonrpc": "2.0", "id": self.id, "result": members}))

    async def body_of(self, body: bytes, media_type: str = "application/json") -> None:
        """Answer with this body."""
        await self.status(200, body, f"Content-Type: {media_type}")

    async def status(self, status: int, body: bytes = b"", *headers: str) -> None:
        """Answer with any status."""
        lines = [f"HTTP/1.1 {status} Whatever", *headers, f"Content-Length: {len(body)}", "", ""]
        await self.stream.send_all("\r\n".join(lines).encode() + body)

    async def begin(self) -> None:
        """Begin an event stream."""
        await self.stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )

    async def event(self, data: bytes) -> None:
        """One event of the stream; line breaks in `data` are kept as SSE has them."""
        lines = b"".join(b"data: %b\n" % line for line in data.split(b"\n"))
        await self.chunk(lines + b"\n")

    async def chunk(self, data: bytes) -> None:
        await self.stream.send_all(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """End the stream."""
        await self.stream.send_all(b"0\r\n\r\n")

    async def hung_up(self) -> None:
        """Wait until the client closes the connection."""
        try:
            while await self.stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass


Answer = Callable[[Asked], Awaitable[None]]


async def echo(asked: Asked) -> None:
    """Answer with what was asked."""
    await asked.result(echo=asked.params)


async def not_offered(asked: Asked) -> None:
    """There is no listening stream."""
    await asked.status(405)


@dataclass
class McpServer:
    """Run `serve` with `nursery.start`; `answer` gets each request but `initialize`.

    `log` has every message in the order it was read, `sessions_ended` the number of DELETEs.
    """

    answer: Answer = echo
    listening: Answer = not_offered
    url: str = ""
    log: list[Json] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    listened: int = 0
    connections: int = 0
    sessions_ended: int = 0
    news: trio.Event = field(default_factory=trio.Event)

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/mcp"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._connected, [listener])
            task_status.started()

    def received(self, method: str) -> list[Json]:
        """The messages of one method, in order."""
        return [message for message in self.log if message.get("method") == method]

    async def until(self, is_so: Callable[[], bool], limit: float = 20) -> None:
        """Wait until a condition holds, looked at after each request."""
        with trio.fail_after(limit):
            while not is_so():
                await self.news.wait()

    async def _connected(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        try:
            async with stream:
                buffer = bytearray()
                while (asked := await _read(stream, buffer)) is not None:
                    await self._answer(asked)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _answer(self, asked: Asked) -> None:
        match asked.method:
            case "GET":
                self.listened += 1
                self._tell()
                await self.listening(asked)
            case "DELETE":
                assert asked.headers["mcp-session-id"] == SESSION
                self.sessions_ended += 1
                self._tell()
                await asked.status(204)
            case _:
                await self._post(asked)

    async def _post(self, asked: Asked) -> None:
        asked.message = json.loads(asked.body)
        self.log.append(asked.message)
        self.bodies.append(asked.body)
        self._tell()
        if asked.message.get("method") == "initialize":
            about = {"name": "test", "version": "1"}
            result = {
                "protocolVersion": asked.params["protocolVersion"],
                "capabilities": {},
                "serverInfo": about,
            }
            answer = encode({"jsonrpc": "2.0", "id": asked.id, "result": result})
            session = f"Mcp-Session-Id: {SESSION}"
            await asked.status(200, answer, "Content-Type: application/json", session)
        elif "id" in asked.message and "method" in asked.message:
            await self.answer(asked)
        else:
            await asked.status(202)

    def _tell(self) -> None:
        self.news.set()
        self.news = trio.Event()


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


async def _read(stream: trio.SocketStream, buffer: bytearray) -> Asked | None:
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        if not await _more(stream, buffer):
            return None
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    pairs = (one.partition(":") for one in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    del buffer[: end + 4]
    size = int(headers.get("content-length", "0"))
    while len(buffer) < size:
        if not await _more(stream, buffer):
            return None
    body = bytes(buffer[:size])
    del buffer[:size]
    return Asked(first.partition(" ")[0], headers, body, stream)


async def _more(stream: trio.SocketStream, buffer: bytearray) -> bool:
    data = await stream.receive_some(1 << 20)
    buffer += data
    return bool(data)
