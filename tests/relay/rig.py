"""A real `Relay` between two real pipes, with an upstream or a lane of the test's own behind it."""

from __future__ import annotations

import json
import os
import sys
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from mcp_stdio import spec
from mcp_stdio.assembly import assemble
from mcp_stdio.config import Config
from mcp_stdio.http import Exchange, Head, Headers, Lane, Request
from mcp_stdio.http.authorizer import Authorizer
from mcp_stdio.http.client import Client
from mcp_stdio.http.url import Url
from mcp_stdio.jsonrpc import Message
from mcp_stdio.relay import Relay
from mcp_stdio.stdio import Input, Output
from mcp_stdio.upstream import Call, Emit, Upstream
from tests.process import line

if sys.platform == "win32":
    pytest.skip("trio has no pipes of this process on Windows", allow_module_level=True)

import fcntl
import termios

URL = Url.parse("http://server.test/mcp")
LIMIT = 10.0
MAX_SIZE = 64 * 1024 * 1024

Send = Callable[[Message, Call], Awaitable[None]]
Json = dict[str, Any]


class FakeUpstream:
    """An upstream whose `send` is a function of the test."""

    def __init__(self, send: Send, version: str | None = spec.R4) -> None:
        self.version = version
        self._send = send
        self.refreshed = 0
        self.is_closed = False

    async def send(self, message: Message, call: Call) -> None:
        await self._send(message, call)

    def refresh(self) -> None:
        self.refreshed += 1

    async def aclose(self) -> None:
        self.is_closed = True


class FakeLane(Lane):
    """A lane that answers each POST with a JSON body; a subclass says how and remembers what."""

    def __init__(self) -> None:
        self.dropped = 0

    def is_ready(self, request: Request) -> bool:
        return True

    async def send(self, request: Request) -> Exchange:
        return Answered(*self.answer(request))

    def answer(self, request: Request) -> tuple[int, bytes]:
        """Status and body."""
        return plain_answer(request)

    async def prepare(self, url: Url) -> None:
        pass

    def drop_idle(self) -> None:
        self.dropped += 1

    async def aclose(self) -> None:
        pass


class Answered(Exchange):
    """A response that is there already."""

    def __init__(self, status: int, body: bytes, media_type: str = spec.JSON) -> None:
        self._head = Head(status, Headers([(b"Content-Type", media_type.encode())]))
        self._body = body

    async def head(self) -> Head:
        await trio.lowlevel.checkpoint()
        return self._head

    async def receive_some(self) -> bytes:
        await trio.lowlevel.checkpoint()
        body, self._body = self._body, b""
        return body

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def plain_answer(request: Request) -> tuple[int, bytes]:
    """What a server without sessions and streams answers; every result is empty."""
    if request.method != "POST":
        return 405, b""
    message = json.loads(request.body)
    if "id" not in message or "method" not in message:
        return 202, b""
    result: Json = {}
    if message["method"] == spec.INITIALIZE:
        about = {"name": "fake", "version": "1"}
        version = message["params"]["protocolVersion"]
        result = {"protocolVersion": version, "capabilities": {}, "serverInfo": about}
    return 200, line(id=message["id"], result=result)


class Rig:
    """The client's ends of the pipes of a running relay."""

    def __init__(
        self,
        open_upstream: Callable[[trio.Nursery, Emit], Upstream],
        *,
        lane: Lane,
        drain_timeout: float,
        wall_clock: Callable[[], float],
        max_size: int,
    ) -> None:
        self._relay_in, to_relay = os.pipe()
        from_relay, self._relay_out = os.pipe()
        self._stdin = trio.lowlevel.FdStream(to_relay)
        self._stdout = trio.lowlevel.FdStream(from_relay)
        self._buffer = bytearray()
        self._taken = 0  # bytes of the lines that were read
        self._over = trio.Event()
        self._output = Output(self._relay_out)
        self._relay = Relay(
            Input(self._relay_in, max_size),
            self._output,
            lane,
            open_upstream,
            drain_timeout=drain_timeout,
            wall_clock=wall_clock,
        )

    async def run(self) -> None:
        try:
            await self._relay.run()
        finally:
            os.close(self._relay_in)
            self._output.close()
            os.close(self._relay_out)
            self._over.set()

    async def aclose(self) -> None:
        await self._stdin.aclose()
        await self._stdout.aclose()

    async def write(self, data: bytes) -> None:
        await self._stdin.send_all(data)

    async def send(self, **members: Any) -> None:
        await self.write(line(**members))

    async def hang_up(self) -> None:
        """End the relay's standard input."""
        await self._stdin.aclose()

    async def stop_reading(self) -> None:
        """Close the reading end of the relay's standard output."""
        await self._stdout.aclose()

    async def read_line(self) -> bytes:
        """The next line; `b""` once the relay has ended."""
        while (end := self._buffer.find(b"\n")) < 0:
            data = await self._stdout.receive_some(1 << 16)
            if not data:
                assert not self._buffer, "torn line"
                return b""
            self._buffer += data
        found = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._taken += end + 1
        return found

    @property
    def written(self) -> int:
        """The bytes that the relay has written so far, read or not."""
        count = array("i", [0])
        fcntl.ioctl(self._stdout.fileno(), termios.FIONREAD, count)
        return self._taken + len(self._buffer) + count[0]

    async def read_some(self, size: int) -> None:
        """Take at most this many bytes of what is there, as a slow reader would."""
        with trio.move_on_after(0.002):
            while size > 0:
                data = await self._stdout.receive_some(size)
                self._buffer += data
                size -= len(data)

    async def read(self) -> Json:
        raw = await self.read_line()
        assert raw, "the relay has ended"
        message: Json = json.loads(raw)
        return message

    async def rest(self) -> list[Json]:
        """End the input and read all that still comes."""
        await self.hang_up()
        messages = []
        while raw := await self.read_line():
            messages.append(json.loads(raw))
        await self._over.wait()
        return messages

    async def over(self) -> None:
        """Wait until the relay has ended."""
        await self._over.wait()


@asynccontextmanager
async def relaying(
    upstream: Upstream | None = None,
    *,
    lane: Lane | None = None,
    url: Url = URL,
    config: Config | None = None,
    authorizer: Authorizer | None = None,
    background: Callable[[], Awaitable[None]] | None = None,
    drain_timeout: float = 1.2,
    wall_clock: Callable[[], float] = time.time,
    max_size: int = MAX_SIZE,
    limit: float = LIMIT,
) -> AsyncIterator[Rig]:
    """A relay with this upstream, or with the real ones over this lane; cancelled at the end.

    `config` is that of the real ones; by default it names the `url` and nothing else.
    """
    network = lane or FakeLane()

    def open_upstream(nursery: trio.Nursery, emit: Emit) -> Upstream:
        if background is not None:
            nursery.start_soon(background)
        client = Client(network, origin=url.origin, authorizer=authorizer)
        return upstream or assemble(config or Config(url=str(url)), client, nursery, emit)

    rig = Rig(
        open_upstream,
        lane=network,
        drain_timeout=drain_timeout,
        wall_clock=wall_clock,
        max_size=max_size,
    )
    try:
        with trio.fail_after(limit):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.run)
                try:
                    yield rig
                finally:
                    await rig.aclose()
                nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await network.aclose()
