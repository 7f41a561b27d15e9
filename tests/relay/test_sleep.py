"""A machine that slept: its wall clock jumps, and no old connection is trusted any more."""

from __future__ import annotations

import time
from typing import NoReturn

import pytest
import trio
import trio.testing

from mcp_stdio import jsonrpc
from mcp_stdio.http.direct import Direct
from mcp_stdio.http.url import Url
from mcp_stdio.jsonrpc import Message
from mcp_stdio.relay import WATCH_INTERVAL
from mcp_stdio.sleep import INTERVAL, SLEPT, SleepDetector
from mcp_stdio.upstream import Call
from tests.process import INITIALIZE
from tests.relay.rig import FakeLane, FakeUpstream, relaying
from tests.relay.server import Asked, McpServer


class WallClock:
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


async def answer(message: Message, call: Call) -> None:
    assert message.id is not None
    await call.emit(jsonrpc.result(message.id, {}))


@pytest.mark.parametrize("jump, has_slept", [(0, False), (SLEPT / 2, False), (3600, True)])
@pytest.mark.parametrize("direction", [1, -1])
async def test_only_a_jump_counts_and_only_once(
    jump: float, has_slept: bool, direction: int
) -> None:
    clock = WallClock()
    detector = SleepDetector(clock)
    assert not detector.has_slept()
    clock.ahead += jump * direction
    assert detector.has_slept() == has_slept
    assert not detector.has_slept()


async def test_a_slow_drift_is_no_sleep() -> None:
    clock = WallClock()
    detector = SleepDetector(clock)
    for _ in range(100):
        clock.ahead += SLEPT / 10
        assert not detector.has_slept()


@pytest.mark.parametrize("interval", [INTERVAL, 60])
async def test_a_late_look_is_a_sleep_where_both_clocks_go_on(
    interval: float, mock_clock: trio.testing.MockClock
) -> None:
    """Windows counts a standby in trio's clock too."""
    detector = SleepDetector(trio.current_time, interval)
    for late, has_slept in ((0, False), (SLEPT - 1, False), (SLEPT + 1, True), (0, False)):
        mock_clock.jump(interval + late)
        assert detector.has_slept() == has_slept


def test_the_relay_looks_as_often_as_the_detector_supposes() -> None:
    assert WATCH_INTERVAL <= INTERVAL


async def test_the_first_line_after_a_sleep_finds_no_old_connection() -> None:
    clock, lane = WallClock(), FakeLane()
    dropped_before_sent = []

    async def send(message: Message, call: Call) -> None:
        dropped_before_sent.append(lane.dropped)
        await answer(message, call)

    upstream = FakeUpstream(send)
    async with relaying(upstream, lane=lane, wall_clock=clock) as client:
        for jump in (0, 3600, 0):
            clock.ahead += jump
            await client.send(id=1, method="x")
            await client.read()
    assert dropped_before_sent == [0, 1, 1]
    assert upstream.refreshed == 1


async def test_a_sleep_is_noticed_without_any_line(autojump_clock: trio.testing.MockClock) -> None:
    start, ahead = trio.current_time(), 0.0
    lane, upstream = FakeLane(), FakeUpstream(answer)
    async with relaying(
        upstream, lane=lane, wall_clock=lambda: trio.current_time() - start + ahead, limit=100
    ):
        await trio.sleep(WATCH_INTERVAL * 3)
        assert (lane.dropped, upstream.refreshed) == (0, 0)
        ahead = 3600.0
        await trio.sleep(WATCH_INTERVAL * 3)
        assert (lane.dropped, upstream.refreshed) == (1, 1)


async def test_after_a_sleep_calls_and_the_listening_stream_are_on_fresh_connections(
    nursery: trio.Nursery,
) -> None:
    peers: list[trio.abc.Stream] = []

    async def answer(asked: Asked) -> None:
        peers.append(asked.stream)
        await asked.result()

    async def listening(asked: Asked) -> None:
        await asked.begin()
        await asked.hung_up()

    clock = WallClock()
    server = McpServer(answer, listening)
    await nursery.start(server.serve)
    url = Url.parse(server.url)
    lane = Direct(no_tls)
    async with relaying(lane=lane, url=url, wall_clock=clock) as client:
        await client.send(id="hello", method="initialize", params=INITIALIZE)
        await client.read()
        await client.send(method="notifications/initialized")
        await server.until(lambda: server.listened == 1)
        for id in (1, 2):
            await client.send(id=id, method="tools/call")
            await client.read()
        clock.ahead += 3600
        await client.send(id=3, method="tools/call")
        await client.read()
        await server.until(lambda: server.listened == 2)
    assert peers[0] is peers[1]
    assert peers[2] is not peers[1]
    nursery.cancel_scope.cancel()


def no_tls() -> NoReturn:
    raise AssertionError("no TLS here")
