"""A server of 2024-11-05: what it answers goes to the stream, its POSTs are merely accepted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import trio

from mcp_stdio.errors import RelayError, Unreachable
from mcp_stdio.http import Exchange, Request
from mcp_stdio.http.url import Url
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.http_sse import HttpSse
from mcp_stdio.upstream.session import Session
from tests.upstream.fakes import (
    LIMIT,
    Answer,
    Client,
    FakeExchange,
    Reply,
    Seen,
    Server,
    event,
)

SSE_URL = Url.parse("http://server.example/sse")

ACCEPTED = Reply(202, [b"Accepted"], "text/plain")


class SseServer(Server):
    """Gives each GET a stream of its own, and a session named in the endpoint.

    A rule answers the POST of its method; without one the request is accepted and its result is
    said on the stream. A POST to a session that is over gets 404.
    """

    def __init__(self, **rules: Answer) -> None:
        super().__init__(**rules)
        self.streams: list[Stream] = []
        self.endpoint: str | None = "/messages?session_id={name}"
        self.version = "2024-11-05"

    async def send(self, request: Request) -> Exchange:
        if request.method != "GET" or "GET" in self.rules:
            return await super().send(request)
        await trio.lowlevel.checkpoint()
        seen = Seen(request, trio.current_time())
        self.seen.append(seen)
        stream = Stream(seen, f"session-{len(self.streams) + 1}")
        self.streams.append(stream)
        if self.endpoint is not None:
            stream.say_endpoint(self.endpoint.format(name=stream.name))
        return stream

    def say(self, message: dict[str, Any]) -> None:
        """Say something on the newest stream."""
        self.streams[-1].push(event(message))

    def answer_it(self, seen: Seen, value: Any = None) -> Reply:
        """Accept a request and say its result."""
        self.say({"id": seen.id, "result": {} if value is None else value})
        return ACCEPTED

    def _answer(self, seen: Seen) -> Reply | RelayError:
        assert seen.header("Mcp-Session-Id") is None
        rule = self.rules.get(seen.rule, self._default)
        if seen.request.method == "GET" or isinstance(rule, Unreachable):
            return rule if isinstance(rule, Reply | RelayError) else rule(seen)
        name = seen.request.url.target.partition("session_id=")[2]
        if name not in [stream.name for stream in self.streams if not stream.is_over]:
            return Reply(404, [b"Could not find session"], "text/plain")
        return rule if isinstance(rule, Reply | RelayError) else rule(seen)

    def _default(self, seen: Seen) -> Reply | RelayError:
        if "id" not in seen.message or "method" not in seen.message:
            return ACCEPTED
        if seen.rule != "initialize":
            return self.answer_it(seen)
        info = {"name": "fake", "version": "1"}
        opened = {"protocolVersion": self.version, "capabilities": {}, "serverInfo": info}
        return self.answer_it(seen, opened)


class Stream(FakeExchange):
    """One connection of the event stream, which says what it is told."""

    def __init__(self, seen: Seen, name: str) -> None:
        super().__init__(seen, Reply(media_type="text/event-stream"))
        self.name = name
        self.seen = seen
        self.is_over = False
        self._send, self._receive = trio.open_memory_channel[bytes | RelayError](1000)

    def push(self, data: bytes | RelayError) -> None:
        self._send.send_nowait(data)

    def say_endpoint(self, reference: str) -> None:
        self.push(f"event: endpoint\ndata: {reference}\n\n".encode())

    def end(self, failure: RelayError | None = None) -> None:
        """End as a server does that is stopped, or break off."""
        self.is_over = True
        self.push(b"" if failure is None else failure)

    async def receive_some(self) -> bytes:
        data = await self._receive.receive()
        if isinstance(data, RelayError):
            raise data
        return data

    async def aclose(self) -> None:
        self.is_over = True
        await super().aclose()


@asynccontextmanager
async def over_sse_with(
    server: Server,
    *,
    silence: float | None = 120.0,
    total: float | None = None,
    renewed: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[Client]:
    """A client in front of a `Session` over HTTP+SSE; nothing has been sent yet."""
    with trio.fail_after(100_000):
        async with trio.open_nursery() as nursery:
            client = Client(nursery)
            client.upstream = Session(
                HttpSse(
                    Messenger(server, SSE_URL, limit=LIMIT),
                    nursery=nursery,
                    emit=client.emit,
                ),
                nursery=nursery,
                emit=client.emit,
                ids=(f"relay-{number}" for number in count(1)),
                timeout_read=silence,
                timeout_call=total,
                renewed=renewed,
            )
            yield client
            nursery.cancel_scope.cancel()


def message_event(message: dict[str, Any]) -> bytes:
    """A message as most servers of that time say it: with the type spelled out."""
    return f"event: message\ndata: {json.dumps({'jsonrpc': '2.0'} | message)}\n\n".encode()
