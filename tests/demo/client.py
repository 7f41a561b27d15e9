"""A client of the demo's server, as strict tests want it: each header can be left out or doubled.

One connection for each request; h11 by hand, so that streams can be left at any point.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import h11
import trio

from mcp_stdio.http.url import Url

HEADERS = {
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
}


class Response:
    """A response whose body is still to come."""

    def __init__(self, stream: trio.SocketStream, connection: h11.Connection) -> None:
        self._stream = stream
        self._h11 = connection
        self._rest = b""
        self.status = 0
        self.headers: dict[str, str] = {}

    async def begin(self) -> None:
        head = await self._next()
        assert isinstance(head, h11.Response)
        self.status = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}

    async def json(self) -> Any:
        body = b""
        while isinstance(event := await self._next(), h11.Data):
            body += event.data
        return json.loads(body)

    async def event(self) -> Any:
        """The message in the next event of the stream; None at its end."""
        while b"\n\n" not in self._rest:
            event = await self._next()
            if not isinstance(event, h11.Data):
                return None
            self._rest += event.data
        event_text, _, self._rest = self._rest.partition(b"\n\n")
        return json.loads(event_text.partition(b"data: ")[2])

    async def _next(self) -> h11.Event:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(bytes(await self._stream.receive_some()))
        assert isinstance(event, h11.Event)
        return event


class Client:
    """Speaks to `url`. `headers` go with every request; change them to see what is refused."""

    def __init__(self, url: str) -> None:
        self.url = Url.parse(url)
        self.headers = dict(HEADERS)

    async def open(self, capabilities: Mapping[str, Any] | None = None) -> Any:
        """Go through the handshake and return the result; the session's headers are kept."""
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities or {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        result = await self.initialize(params)
        assert await self.post(notification("notifications/initialized")) == 202
        return result

    async def initialize(self, params: object) -> Any:
        async with self.send("POST", request(1, "initialize", params)) as response:
            assert response.status == 200
            self.headers["Mcp-Session-Id"] = response.headers["mcp-session-id"]
            result = (await response.json())["result"]
            self.headers["MCP-Protocol-Version"] = result["protocolVersion"]
            return result

    async def ask(self, method: str, params: object = None) -> Any:
        """The answer to a request that is answered in JSON."""
        async with self.send("POST", request(2, method, params)) as response:
            assert response.status == 200
            assert response.headers["content-type"] == "application/json"
            answer = await response.json()
            assert answer["id"] == 2
            return answer

    async def post(self, message: object) -> int:
        """The status of the answer to a message."""
        async with self.send("POST", message) as response:
            return response.status

    @asynccontextmanager
    async def send(
        self,
        method: str,
        message: object = None,
        *,
        target: str = "/mcp",
        more: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[Response]:
        """Send a request; the connection is closed at the end of the block."""
        if isinstance(message, bytes):
            body = message
        else:
            body = b"" if message is None else json.dumps(message).encode()
        headers = [*self.headers.items(), *more, ("Content-Length", str(len(body)))]
        connection = h11.Connection(h11.CLIENT)
        async with await trio.open_tcp_stream(self.url.host, self.url.port) as stream:
            for event in (
                h11.Request(
                    method=method, target=target, headers=[("Host", self.url.authority), *headers]
                ),
                h11.Data(body),
                h11.EndOfMessage(),
            ):
                await stream.send_all(connection.send(event) or b"")
            response = Response(stream, connection)
            await response.begin()
            yield response


def request(id: object, method: str, params: object = None) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": id, "method": method}
    return message if params is None else {**message, "params": params}


def notification(method: str, params: object = None) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "method": method}
    return message if params is None else {**message, "params": params}


def call(id: object, tool: str, arguments: object = None) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments or {}, "_meta": {"progressToken": "p"}}
    return request(id, "tools/call", params)
