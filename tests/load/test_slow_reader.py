"""A client that does not read holds up the server, on whatever way it streams; memory stays.

Here are the ways besides the answer of one call (`tests/relay/test_output.py`). With
`MCP_STDIO_LONG=1` in the environment each brings 1 GB instead of 24 MB.
"""

from __future__ import annotations

import json
import os

import pytest
import trio

from tests.faults.driver import LANES
from tests.faults.proc import needs_proc
from tests.process import LIMIT, line, running
from tests.relay.server import Asked, McpServer

MIB = 1024 * 1024
IS_LONG = os.environ.get("MCP_STDIO_LONG") == "1"
STREAMED = 1024 * MIB if IS_LONG else 24 * MIB
HELD = 20 * MIB
"""More than what the system and the relay may have taken when nobody reads."""

EVENT = line(method="notifications/message", params={"data": "x" * 8_000}).strip()
CALLS = 64
PINGS = 100


class Torrent:
    """A server that says more than anybody reads, and over HTTP+SSE answers behind that."""

    def __init__(self, way: str) -> None:
        self.server = McpServer(self._answer, self._listen)
        self.sent = 0
        self.begun = trio.Event()
        self._calls_pour = way == "calls"
        self._is_sse = way == "HTTP+SSE"
        self._later: list[bytes] = []

    async def _pour(self, asked: Asked, amount: int) -> None:
        for _ in range(amount // len(EVENT)):
            await asked.event(EVENT)
            self.sent += len(EVENT)
            self.begun.set()

    async def _answer(self, asked: Asked) -> None:
        if self._is_sse:
            self._later.append(line(id=asked.id, result={}).strip())
            await asked.status(202)
        elif asked.message["method"] == "ping":
            await asked.result()
        else:
            await asked.begin()
            await self._pour(asked, STREAMED // CALLS)
            await asked.event(line(id=asked.id, result={}).strip())
            await asked.end()

    async def _listen(self, asked: Asked) -> None:
        await asked.begin()
        if self._is_sse:
            await asked.chunk(b"event: endpoint\ndata: /mcp?session=1\n\n")
            await self.server.until(lambda: bool(self.server.received("notifications/initialized")))
        if not self._calls_pour:
            await self._pour(asked, STREAMED)
        while True:
            while self._later:
                await asked.event(self._later.pop(0))
            await trio.sleep(0.01)


CASES = [("listening stream", "direct"), ("HTTP+SSE", "direct"), ("calls", "direct")]
CASES += [(way, "proxied") for way, _ in (CASES if IS_LONG else CASES[:1])]


@needs_proc
@pytest.mark.parametrize("way, lane", CASES)
async def test_a_client_that_does_not_read_holds_up_every_way_of_streaming(
    way: str, lane: str, nursery: trio.Nursery
) -> None:
    torrent = Torrent(way)
    server = torrent.server
    await nursery.start(server.serve)
    options = ("--transport", "sse") if way == "HTTP+SSE" else ()
    async with running(server.url, *options, env=LANES[lane]) as relay:
        await relay.shake_hands()
        before = relay.resident()
        room = (96 if way == "calls" else 32) * MIB  # a read and what was made of it, each
        expected = []
        if way == "calls":
            expected += [await relay.request("tools/call") for _ in range(CALLS)]
        with trio.fail_after(LIMIT):
            await torrent.begun.wait()
        expected += [await relay.request("ping") for _ in range(PINGS)]
        await server.until(lambda: len(server.received("ping")) == PINGS)
        with trio.fail_after(2 * LIMIT):
            stalled_at = -1
            while torrent.sent != stalled_at:
                stalled_at = torrent.sent
                await trio.sleep(0.3)
        assert 0 < torrent.sent < HELD, "somebody took what the client did not read"
        assert relay.resident() - before < room

        answered: list[int] = []
        events = 0
        streams = CALLS if way == "calls" else 1
        while len(answered) < len(expected) or events < STREAMED // streams // len(EVENT) * streams:
            raw = await relay.read_line()
            if raw == EVENT:
                events += 1
            else:
                answered.append(json.loads(raw)["id"])
        assert relay.resident() - before < room
        assert sorted(answered) == sorted(expected)
        assert events * len(EVENT) == torrent.sent
        await relay.close_stdin()
        assert await relay.rest() == []
        assert await relay.wait() == 0
    nursery.cancel_scope.cancel()
