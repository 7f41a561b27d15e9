"""The relay under load for as long as one likes, with figures (Linux).

    python -m tests.load                                  ten minutes
    python -m tests.load --seconds 60 --only stateless    one pair of eras, a minute
    python -m tests.load --lane proxied

The time is shared by the pairs of eras of client and server. Each has a relay as a process of its
own and 64 calls under way: of a thousand 120 are dropped before their answer or within it (70 of
them harmless ones, which are sent again), 20 broken off and resumed, 50 refused with 503 and
`Retry-After` at first, 20 cancelled, some answered with what is too large or no MCP; a session is
forgotten after each 500. Each answer is checked as in the tests (`flood`); the first that is not as
it must be ends the run with code 1, and so do memory, descriptors and threads that grow.
"""

from __future__ import annotations

import argparse
import random
import sys

import trio

from tests.faults.driver import LANES
from tests.load import figures
from tests.load.flood import IN_FLIGHT, PAIRS, Flood
from tests.load.server import MAX_SIZE, under_load
from tests.process import running

LEAK = 50.0
"""Bytes per call that memory may seem to grow by: less than the smallest object for each call."""

STEEP = 1000.0
"""The same for a pair that has less than a minute: there the system's own steps, of a page and
more, are steeper."""

DESCRIPTORS = 2 * IN_FLIGHT + 32
"""What a relay may have open: a connection for each call and one that is being closed, streams."""

WARM_UP = 0.1
"""Share of the time before the first sample."""


def main() -> None:
    options = _parser().parse_args()
    pairs = options.only.split(",") if options.only else list(PAIRS)
    if unknown := set(pairs) - PAIRS.keys():
        _parser().error(f"unknown: {', '.join(unknown)}; there are {', '.join(PAIRS)}")
    seconds = options.seconds / len(pairs)
    say(f"seed {options.seed}, lane {options.lane}, {seconds:g} s for each pair\n")
    for pair in pairs:
        trio.run(soak, pair, options.lane, options.seed, seconds)


async def soak(pair: str, lane: str, seed: int, seconds: float) -> None:
    eras = PAIRS[pair]
    options = ("--max-message-size", str(MAX_SIZE))
    async with under_load(is_modern=eras.server) as desk:
        async with running(desk.server.url, *options, env=LANES[lane]) as relay:
            flood = Flood(relay, desk, is_modern=eras.client, fates=eras.fates, seed=seed)
            samples = figures.Samples(relay.pid)
            await flood.open()
            begun = trio.current_time()
            await flood.run(float("inf"), until=begun + seconds * WARM_UP)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(samples.watch, flood.tally, seconds / 500)
                await flood.run(float("inf"), until=begun + seconds)
                nursery.cancel_scope.cancel()
            samples.take(flood.tally.calls)
            await flood.close()
        say(f"\n{pair}: every answer as it must be, exit code 0\n")
        say(figures.table(samples, flood.tally, desk.ledger))
        limit = LEAK if seconds >= 60 else STEEP
        assert samples.growth < limit, f"memory grows by {limit:g} bytes a call or more"
        most = max(sample.held.descriptors for sample in samples.taken)
        assert most <= DESCRIPTORS, f"more than {DESCRIPTORS} descriptors are open"
        assert {sample.held.threads for sample in samples.taken} == {1}, "there are threads"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, metavar="N", default=600.0, help="in all (600)")
    parser.add_argument("--only", metavar="PAIRS", help=f"of {', '.join(PAIRS)}")
    parser.add_argument("--lane", choices=LANES, default="direct", help="the way to the server")
    parser.add_argument("--seed", type=int, metavar="N", default=random.randrange(1 << 32))
    return parser


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
