"""Many calls at once before a server that drops, refuses, forgets and delays them.

Nothing lost, doubled or mixed up (P1, P2, P4), and nothing piles up. With `MCP_STDIO_LONG=1` in the
environment 20,000 calls of each kind; `python -m tests.load` goes on for minutes and has figures.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.faults.driver import LANES
from tests.faults.proc import holdings, needs_proc
from tests.load.flood import IN_FLIGHT, PAIRS, Flood
from tests.load.server import MAX_SIZE, under_load
from tests.process import environment, running

IS_LONG = os.environ.get("MCP_STDIO_LONG") == "1"
CALLS = {"direct": 1_400, "proxied": 600}
MIB = 1024 * 1024
ROOT = Path(__file__).parent.parent.parent


@needs_proc
@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("pair", PAIRS)
async def test_a_flood_of_calls_loses_doubles_and_mixes_up_nothing(pair: str, lane: str) -> None:
    eras = PAIRS[pair]
    calls = 20_000 if IS_LONG else CALLS[lane] // (2 if eras.is_crossing else 1)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 -- pytest shows it when the test fails
    options = ("--max-message-size", str(MAX_SIZE))
    async with under_load(is_modern=eras.server, session_life=min(500, calls // 2)) as desk:
        async with running(desk.server.url, *options, env=LANES[lane]) as relay:
            flood = Flood(relay, desk, is_modern=eras.client, fates=eras.fates, seed=seed)
            with trio.fail_after(600 if IS_LONG else 120):
                await flood.open()
                await flood.run(calls // 2)
                before = holdings(relay.pid)
                await flood.run(calls // 2)
                after = holdings(relay.pid)
                await flood.close()
            assert flood.tally.calls == calls // 2 * 2
            assert flood.tally.ends.keys() == eras.fates.keys()
            assert flood.tally.lost <= IN_FLIGHT * desk.ledger.expired
            assert after.descriptors < 3 * IN_FLIGHT
            assert after.children == 0
            assert after.memory < before.memory + 4 * MIB, (before, after)
        assert desk.server.has_sessions == (desk.ledger.expired > 0)


@needs_proc
def test_the_long_run_prints_its_figures() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.load", "--seconds", "1", "--only", "stateless"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "stateless: every answer as it must be" in done.stdout
    for figure in ("calls:", "p99", "bytes per call", "descriptors:", "CPU per call:"):
        assert figure in done.stdout
