"""A very small HTTP/1.1 server: h11 over a trio stream, requests in, responses out.

Owns one connection at a time: reading a request whole, answering it at once or as an event stream,
keep-alive. Refuses to know MCP (`server`). Kept here: whoever breaks HTTP or goes away ends their
own connection and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import h11
import trio

from mcp_stdio.spec import EVENT_STREAM

MAX_BODY = 128 * 1024 * 1024
"""Twice what the relay lets through by default, so that the relay's own limit can be seen."""

HEAD_LIMIT = 64 * 1024

Headers = Sequence[tuple[str, str]]


@dataclass(slots=True)
class Request:
    """One request, and what it was answered with so far."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    status: int | None = field(default=None, compare=False)
    media_type: str = field(default="", compare=False)

    def get(self, name: str) -> str | None:
        """The first header of this name (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    def count(self, name: str) -> int:
        """How many headers have this name (lower case)."""
        return sum(key == name for key, _ in self.headers)


Watch = Callable[[Request], None]
"""Told of each request whose response begins."""


class Response:
    """The answer to one request: either `answer`, or `begin`, any number of `event`, `end`."""

    def __init__(self, connection: Connection, request: Request, watch: Watch) -> None:
        self._connection = connection
        self._request = request
        self._watch = watch
        self.is_streaming = False

    async def answer(
        self, status: int, *, media_type: str = "", headers: Headers = (), body: bytes = b""
    ) -> None:
        """Send the whole response."""
        await self._head(status, media_type, [*headers, ("Content-Length", str(len(body)))])
        if body:
            await self._connection.send(h11.Data(body))
        await self._connection.send(h11.EndOfMessage())

    async def begin(self) -> None:
        """Start an event stream, unless it has begun."""
        if not self.is_streaming:
            self.is_streaming = True
            await self._head(200, EVENT_STREAM, [("Cache-Control", "no-cache")])

    async def event(self, data: bytes) -> None:
        """Send one event; `data` is a single line."""
        await self._connection.send(h11.Data(b"event: message\ndata: " + data + b"\n\n"))

    async def end(self) -> None:
        """End the stream."""
        await self._connection.send(h11.EndOfMessage())

    async def peer_leaves(self) -> None:
        """Wait until the client closes the connection."""
        await self._connection.peer_leaves()

    async def _head(self, status: int, media_type: str, headers: Headers) -> None:
        self._request.status = status
        self._request.media_type = media_type
        self._watch(self._request)
        typed = [("Content-Type", media_type)] if media_type else []
        await self._connection.send(h11.Response(status_code=status, headers=[*typed, *headers]))


Handler = Callable[[Request, Response], Awaitable[None]]


class Connection:
    """One client's connection. `serve` asks `handle` for each of its requests in turn."""

    def __init__(self, stream: trio.abc.Stream, watch: Watch) -> None:
        self._stream = stream
        self._watch = watch
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)

    async def serve(self, handle: Handler) -> None:
        """Serve until either side is done with the connection, and close it."""
        try:
            async with self._stream:
                while (request := await self._request()) is not None:
                    await handle(request, Response(self, request, self._watch))
                    if self._h11.our_state is not h11.DONE:
                        break
                    self._h11.start_next_cycle()
        except* (trio.BrokenResourceError, h11.ProtocolError):
            pass  # the client left, or speaks something else

    async def send(self, event: h11.Event) -> None:
        """Send a part of the response."""
        data = self._h11.send(event)
        if data:
            try:
                await self._stream.send_all(data)
            except trio.Cancelled:
                self._h11.send_failed()  # nobody knows how much has left
                raise

    async def peer_leaves(self) -> None:
        """Wait for the end of what the client sends; what it sends before is kept for later."""
        while data := await self._stream.receive_some():
            self._h11.receive_data(bytes(data))

    async def _request(self) -> Request | None:
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                return None
        return Request(
            head.method.decode(),
            head.target.decode(),
            [(name.decode(), value.decode("latin-1")) for name, value in head.headers],
            bytes(body),
        )

    async def _next_event(self) -> h11.Event:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._h11.receive_data(bytes(await self._stream.receive_some()))
        if isinstance(event, h11.Event):
            return event
        return h11.ConnectionClosed()  # h11.PAUSED: only when asked at the wrong time
