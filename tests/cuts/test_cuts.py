"""Cut everywhere: each kind of exchange, closed, reset or stalled after each of its bytes (P1, P2).

With `MCP_STDIO_LONG=1` in the environment really after each; otherwise after a spread of them.
"""

from __future__ import annotations

import sys

import pytest
import trio
import trio.testing

from tests.cuts import calls, grants, openings, streams
from tests.cuts.matrix import Exchange, run
from tests.http.proxy import ForwardProxy

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="relies on what Linux makes of a reset and of the loopback"
)

EXCHANGES = [*calls.EXCHANGES, *openings.EXCHANGES, *streams.EXCHANGES, *grants.EXCHANGES]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda each: f"{each.name}, {each.eras}")
async def test_cut(exchange: Exchange, lane: str, clock: trio.testing.MockClock) -> None:
    await run(exchange, lane)


BEHIND_A_PROXY = [
    each
    for each in calls.EXCHANGES
    if each.name in ("call, JSON by length", "call, events in chunks")
    and each.eras in (calls.LEGACY, calls.MODERN)
]


@pytest.mark.parametrize("exchange", BEHIND_A_PROXY, ids=lambda each: f"{each.name}, {each.eras}")
async def test_cut_behind_a_proxy(
    exchange: Exchange, machine: pytest.MonkeyPatch, clock: trio.testing.MockClock
) -> None:
    """What becomes of a request is the same when the connection ends beyond a proxy."""
    proxy = ForwardProxy()
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        machine.setenv("HTTP_PROXY", proxy.url)
        await run(exchange, "proxy")
        nursery.cancel_scope.cancel()
    assert proxy.asked
