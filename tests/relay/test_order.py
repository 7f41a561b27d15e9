"""P4: messages start towards the server in the order in which they were read.

Trio runs tasks that became ready together in random order, so one good run proves little. With
`MCP_STDIO_LONG=1` in the environment each test makes 200 runs instead of 10.
"""

from __future__ import annotations

import json
import os
import random
import ssl

import pytest
import trio

from mcp_stdio import spec
from mcp_stdio.http import Exchange, Head, Request
from mcp_stdio.http.direct import Direct
from mcp_stdio.http.url import Url
from tests.process import INITIALIZE, line
from tests.relay.rig import Answered, FakeLane, Rig, relaying
from tests.relay.server import McpServer

RUNS = 200 if os.environ.get("MCP_STDIO_LONG") == "1" else 10
LINES = 1000

HANDSHAKE = line(id="hello", method=spec.INITIALIZE, params=INITIALIZE)
INITIALIZED = line(method=spec.INITIALIZED)


def a_thousand_lines() -> bytes:
    """Requests and notifications, each with its number."""
    return b"".join(
        line(method="notifications/progress", params={"number": number})
        if number % 7 == 3
        else line(id=number, method="tools/call", params={"number": number})
        for number in range(LINES)
    )


async def read_all_answers(client: Rig) -> None:
    for number in range(LINES):
        if number % 7 != 3:
            assert "result" in await client.read()


class Recording(FakeLane):
    """Notes each message where it meets the HTTP layer.

    `readiness` is how probable it is that a connection is ready; without one, a message takes a
    random time to leave, and those behind it need not wait for that.
    """

    def __init__(self, readiness: float) -> None:
        super().__init__()
        self._readiness = readiness
        self._was_ready = True
        self.met: list[object] = []

    def is_ready(self, request: Request) -> bool:
        self._was_ready = random.random() < self._readiness
        return self._was_ready

    async def send(self, request: Request) -> Exchange:
        if request.method == "POST":
            message = json.loads(request.body)
            self.met.append(message.get("params", {}).get("number", message["method"]))
            for _ in range(random.randrange(1 if self._was_ready else 5)):
                await trio.lowlevel.checkpoint()
        return Answered(*self.answer(request))


@pytest.mark.parametrize("readiness", [1.0, 0.9, 0.0])
async def test_a_thousand_lines_meet_the_http_layer_in_order(readiness: float) -> None:
    for _ in range(RUNS):
        lane = Recording(readiness)
        async with relaying(lane=lane) as client:
            await client.write(HANDSHAKE)
            await client.read()
            await client.write(INITIALIZED + a_thousand_lines())
            await read_all_answers(client)
            assert await client.rest() == []
        assert lane.met == [spec.INITIALIZE, spec.INITIALIZED, *range(LINES)]


async def test_lines_held_by_the_handshake_keep_their_order() -> None:
    """The client did not wait for the answer to `initialize` (S-9)."""
    for _ in range(RUNS):
        lane = Recording(1.0)
        async with relaying(lane=lane) as client:
            await client.write(HANDSHAKE + INITIALIZED + a_thousand_lines())
            assert (await client.read())["id"] == "hello"
            await read_all_answers(client)
        assert lane.met == [spec.INITIALIZE, spec.INITIALIZED, *range(LINES)]


class OneByOne(Direct):
    """The real lane, with one connection busy at a time; whoever comes first goes first."""

    def __init__(self) -> None:
        super().__init__(ssl.create_default_context)
        self._busy = trio.Lock()

    def is_ready(self, request: Request) -> bool:
        return not self._busy.locked() and super().is_ready(request)

    async def send(self, request: Request) -> Exchange:
        await self._busy.acquire()
        try:
            return _Alone(await super().send(request), self._busy)
        except BaseException:
            self._busy.release()
            raise


class _Alone(Exchange):
    def __init__(self, exchange: Exchange, busy: trio.Lock) -> None:
        self._exchange = exchange
        self._busy = busy

    async def head(self) -> Head:
        return await self._exchange.head()

    async def receive_some(self) -> bytes:
        return await self._exchange.receive_some()

    async def aclose(self) -> None:
        await self._exchange.aclose()
        if self._busy.locked():
            self._busy.release()


async def test_a_server_sees_the_order_when_one_connection_is_busy_at_a_time(
    nursery: trio.Nursery,
) -> None:
    server = McpServer()
    await nursery.start(server.serve)
    for _ in range(RUNS // 10):
        server.log.clear()
        async with relaying(lane=OneByOne(), url=Url.parse(server.url), limit=60) as client:
            await client.write(HANDSHAKE)
            await client.read()
            await client.write(INITIALIZED + a_thousand_lines())
            await read_all_answers(client)
        numbers = [message.get("params", {}).get("number") for message in server.log]
        assert numbers == [None, None, *range(LINES)]
    nursery.cancel_scope.cancel()
