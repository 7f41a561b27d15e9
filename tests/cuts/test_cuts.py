"""Cut everywhere: each kind of exchange, closed, reset or stalled after each of its bytes (P1, P2).

With `MCP_STDIO_LONG=1` in the environment really after each; otherwise after a spread of them.
"""

from __future__ import annotations

import pytest
import trio.testing

from tests.cuts import calls, grants, openings, streams
from tests.cuts.matrix import Exchange, run

EXCHANGES = [*calls.EXCHANGES, *openings.EXCHANGES, *streams.EXCHANGES, *grants.EXCHANGES]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda each: f"{each.name}, {each.eras}")
async def test_cut(exchange: Exchange, lane: str, clock: trio.testing.MockClock) -> None:
    await run(exchange, lane)
