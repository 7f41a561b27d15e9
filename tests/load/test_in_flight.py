"""A thousand requests in flight, and then something happens to all of them at once.

One relay lives through it all: they are answered, they are cancelled, the server dies, and the
program is told to end. With `MCP_STDIO_LONG=1` both ends are tried in each era on each lane.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from mcp_stdio import spec
from tests.faults.driver import LANES, LIMIT, UNKNOWN, Json, Relay, relaying
from tests.faults.proc import holdings, needs_proc
from tests.faults.server import TOOL_CALL, VERSION, Server, Visit, serving
from tests.load.flood import META

if sys.platform == "win32":
    pytest.skip("one process cannot hold that many sockets there", allow_module_level=True)

IS_LONG = os.environ.get("MCP_STDIO_LONG") == "1"
COUNT = 1_000
MIB = 1024 * 1024

ERAS = ["handshake", "stateless"]
ENDS = ["end of input", "SIGTERM"]
CASES = list(itertools.product(ERAS, LANES, ENDS))
SHORT = [("handshake", "direct", "SIGTERM"), ("stateless", "proxied", "end of input")]


@pytest.fixture(autouse=True)
def _many_descriptors() -> Iterator[None]:
    """The server's side of all connections is in this process."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Crowd:
    """The client's calls and the server that holds them."""

    def __init__(self, server: Server, relay: Relay, *, is_modern: bool) -> None:
        self.server = server
        self.relay = relay
        self._is_modern = is_modern
        self._held = 0
        self._let_go = trio.Event()
        self._news = trio.Event()
        server.tools["held"] = self._hold

    async def gather(self) -> list[object]:
        """Send all, and wait until the server has them all; their ids."""
        self._held, self._let_go = 0, trio.Event()
        ids: list[object] = []
        for _ in range(COUNT):
            number = len(ids)
            params: Json = {"name": "held", "arguments": {"n": number}}
            ids.append(await self.relay.request(TOOL_CALL, self.described(params)))
        with trio.fail_after(LIMIT):
            while self._held < COUNT:
                await self._news.wait()
        return ids

    def let_go(self) -> None:
        """Have the server answer all."""
        self._let_go.set()

    def described(self, params: Json) -> Json:
        return params | {"_meta": META} if self._is_modern else params

    async def lives(self) -> None:
        """The next call is answered by the server."""
        params = {"name": "echo", "arguments": {}}
        answer = await self.relay.ask(TOOL_CALL, self.described(params))
        assert answer["result"]["content"][0]["text"] == "echo", answer

    async def is_left_alone(self) -> None:
        """Wait until nobody has a call at the server any more."""
        with trio.fail_after(LIMIT):
            while self._held:
                await self._news.wait()

    async def _hold(self, visit: Visit) -> None:
        self._add(1)
        try:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    await visit.hung_up()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                await self._let_go.wait()
                nursery.cancel_scope.cancel()
            if self._let_go.is_set():
                await visit.answer(visit.received.message["params"]["arguments"])
        finally:
            self._add(-1)

    def _add(self, number: int) -> None:
        self._held += number
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def crowd(era: str, lane: str) -> AsyncIterator[Crowd]:
    is_modern = era == "stateless"
    version = spec.R5 if is_modern else VERSION
    async with serving(has_sessions=not is_modern, version=version) as server:
        if is_modern:
            server.methods[spec.DISCOVER] = _discover
        async with relaying(server.url, env=LANES[lane], initialize=not is_modern) as relay:
            yield Crowd(server, relay, is_modern=is_modern)


async def _discover(visit: Visit) -> None:
    about = {spec.META_SERVER_INFO: {"name": "crowd", "version": "1"}}
    await visit.answer(
        {"supportedVersions": [spec.R5], "capabilities": {"tools": {}}, "_meta": about}
    )


@needs_proc
@pytest.mark.parametrize("era, lane, end", CASES if IS_LONG else SHORT)
async def test_a_thousand_in_flight_share_each_fate(era: str, lane: str, end: str) -> None:
    """P1, P2, P6."""
    async with crowd(era, lane) as all:
        relay = all.relay

        ids = await all.gather()
        all.let_go()
        for number, id in enumerate(ids):
            assert (await relay.answer(id))["result"] == {"n": number}
        await all.is_left_alone()

        ids = await all.gather()
        relay.unanswerable.update(ids)
        await relay.send(*(_cancel(id) for id in ids))
        await all.is_left_alone()
        await all.lives()

        ids = await all.gather()
        all.server.kill()
        for id in ids:
            assert (await relay.answer(id))["error"]["code"] == UNKNOWN
        await all.server.revive()
        await all.lives()

        ids = await all.gather()
        assert holdings(relay.process.pid).memory < 160 * MIB
        if end == "SIGTERM":
            relay.process.send_signal(signal.SIGTERM)
        else:
            assert relay.process.stdin is not None
            await relay.process.stdin.aclose()
        for id in ids:
            assert (await relay.answer(id))["error"]["code"] == UNKNOWN
        all.server.received.clear()


def _cancel(id: object) -> Json:
    return {"jsonrpc": "2.0", "method": spec.CANCELLED, "params": {"requestId": id}}
