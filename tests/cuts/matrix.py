"""An exchange is recorded once, then cut after each of its bytes, and each time all must hold.

`Exchange` says how a server and a client come to it and what must become of it; `Matrix` runs the
cases, many at a time in one loop, and counts. In the short form the offsets are those around which
something changes, and a sample of the rest by a seed that is printed; with `MCP_STDIO_LONG=1` in
the environment every byte is one.
"""

from __future__ import annotations

import os
import random
import re
import signal
import traceback
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import trio

from mcp_stdio import signals
from mcp_stdio.config import Config
from tests.cuts.client import Talker, logged, talking
from tests.cuts.tally import LONG, SEED, row_of
from tests.faults.server import Server, serving
from tests.faults.wire import Carried, Cut, End, Way, Wire

SAMPLE, FEW_LINES = 2, 1
"""For each half and each end: offsets of the sample, and ends of lines, which are much alike."""

MANY = 4000
"""Bytes of which each is taken in the long form; of more, a tenth of that."""

AT_A_TIME = 40
"""Cases that run at the same time: each has a dozen descriptors."""

SILENCE = 35.0
"""`--timeout-read` of all cases, in seconds: as by default, longer than all limits of the relay's
own; and short, since each relay looks at the clock now and then."""

PARTS, LINES = re.compile(rb"\r\n\r\n|\n\n"), re.compile(rb"\r\n")
"""What ends a head or an event, and what ends a line of a head or the frame of a chunk."""


@dataclass(frozen=True)
class Case:
    """One run. `seen` is what the client made of it, `carried` what came and went where it was cut.

    `recorded` is the same of the run that was not cut.
    """

    cut: Cut
    seen: Any
    carried: Carried
    recorded: Carried
    server: Server

    @property
    def was_read(self) -> bool:
        """Whether the server has read the request whole."""
        return self.cut.way is Way.RESPONSE

    @property
    def is_stalled(self) -> bool:
        return self.cut.end is End.STALL

    @property
    def passed(self) -> bytes:
        """The part of the response that reached the relay."""
        return bytes(self.carried.response) if self.was_read else b""

    @property
    def is_whole(self) -> bool:
        """Whether all of the response passed."""
        return self.was_read and len(self.passed) == len(self.recorded.response)


class World(NamedTuple):
    """What a case takes place in: the MCP server and the settings of the relay."""

    server: Server
    config: Config


@dataclass(frozen=True)
class Exchange:
    """A kind of exchange.

    `world` runs the servers, of which one uses the wire it is given; `talk` is what the client does
    and gives what it has seen; `cuts` names what is cut by JSON-RPC method or path (the `nth` of
    these, from 0); `check` fails unless what became of it is right. Of a response without end, what
    comes after the event with the text `until` is left alone.
    """

    name: str
    eras: str
    world: Callable[[Wire], AbstractAsyncContextManager[World]]
    talk: Callable[[Talker, Server], Awaitable[Any]]
    cuts: str
    check: Callable[[Case], None]
    nth: int = 0
    until: str = ""


def world(serve: Callable[[], Mapping[str, Any]], **settings: Any) -> Any:
    """A world of one server; `serve` gives what it is to be, for each case anew."""

    @asynccontextmanager
    async def run(wire: Wire) -> AsyncIterator[World]:
        async with serving(wire=wire, **serve()) as server:
            yield World(server, Config(**{"url": server.url, "timeout_read": SILENCE, **settings}))

    return run


async def run(exchange: Exchange, lane: str) -> None:
    """Record the exchange, cut it, and fail with all cases that did not do as they should."""
    with signals_restored():
        recorded = await record(exchange)
        cuts = list(cuts_of(recorded, random.Random(f"{SEED} {exchange.name} {lane}")))
        size = len(recorded.request) + len(recorded.response)
        row = row_of(exchange.name, exchange.eras, size)
        row.lanes.append(lane)
        failures: dict[str, list[Cut]] = {}
        left = iter(cuts)

        async def work() -> None:
            for cut in left:
                row.cases += 1
                failure = await failure_of(exchange, cut, recorded)
                if failure is None:
                    row.passed += 1
                else:
                    failures.setdefault(failure, []).append(cut)

        async with trio.open_nursery() as nursery:
            for _ in range(AT_A_TIME):
                nursery.start_soon(work)
    if failures:
        raise AssertionError(
            f"{sum(map(len, failures.values()))} of {len(cuts)} cases of "
            f"`{exchange.name}`, {exchange.eras}, {lane}, with MCP_STDIO_SEED={SEED}:\n"
            f"{summary(failures)}"
        )


def summary(failures: Mapping[str, Sequence[Cut]]) -> str:
    """Each kind of failure, and where it was seen."""
    lines: list[str] = []
    for failure, cuts in failures.items():
        lines.append(f"{len(cuts)} x {failure}")
        for (end, way), group in groupby(sorted(cuts, key=_kind), _kind):
            places = sorted(cut.at for cut in group)
            lines.append(f"    {end} after {places} bytes of the {way}")
    return "\n".join(lines)


def _kind(cut: Cut) -> tuple[str, str]:
    return cut.end.value, cut.way.value


async def record(exchange: Exchange) -> Carried:
    """What goes over the wire when nothing is cut."""
    wire = Wire()
    async with exchange.world(wire) as (server, config):
        async with talking(config) as talker:
            await exchange.talk(talker, server)
    found = [each for each in wire.carried if label(each) == exchange.cuts]
    assert len(found) > exchange.nth, [label(each) for each in wire.carried]
    carried = found[exchange.nth]
    if exchange.until:
        end = carried.response.index(b"\n\n", carried.response.index(exchange.until.encode()))
        del carried.response[end + 2 :]
    return carried


async def failure_of(exchange: Exchange, cut: Cut, recorded: Carried) -> str | None:
    """Run one case; why it is wrong, if it is."""
    wire = Wire(cut)
    try:
        with logged() as log:
            async with exchange.world(wire) as (server, config):
                async with talking(config) as talker:
                    seen = await exchange.talk(talker, server)
                carried = wire.at(cut.place)
                assert wire.has_failed, "it was never cut"
                assert carried is not None
                exchange.check(Case(cut, seen, carried, recorded, server))
        assert not log, log
    except Exception as exc:  # noqa: BLE001 - every failure of a case is reported together
        return why(exc)
    return None


def why(exc: BaseException) -> str:
    """The innermost failure, in one line."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    frames = traceback.extract_tb(exc.__traceback__)
    place = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
    ours = [f for f in frames if "/tests/" in f.filename]
    if ours:
        place += f" from {os.path.basename(ours[-1].filename)}:{ours[-1].lineno}"
    return f"{type(exc).__name__}: {exc} ({place})"[:600]


def label(carried: Carried) -> str:
    """The JSON-RPC method of an exchange; for others the path, or the HTTP method alone."""
    head, _, body = bytes(carried.request).partition(b"\r\n\r\n")
    if found := re.search(rb'"method":\s*"([^"]+)"', body):
        return found[1].decode()
    method, target = head.split(b" ")[:2]
    if b'"jsonrpc"' in body:
        return "response"
    path = target.decode().partition("?")[0]
    return method.decode() if path in ("/mcp", "/sse") else path


def cuts_of(recorded: Carried, dice: random.Random) -> Iterator[Cut]:
    """A request is cut before its end, a response also after it.

    But for a stall: after the end it would be one of the next request's.
    """
    request, response = bytes(recorded.request), bytes(recorded.response)
    for end in End:
        for at in offsets(request, dice):
            if at < len(request):
                yield Cut(recorded.place, Way.REQUEST, at, end)
        for at in offsets(response, dice):
            if at < len(response) or end is not End.STALL:
                yield Cut(recorded.place, Way.RESPONSE, at, end)


def offsets(data: bytes, dice: random.Random) -> Iterable[int]:
    """Numbers of bytes after which to cut."""
    if LONG and len(data) <= MANY:
        return range(len(data) + 1)
    chosen = {0, len(data) - 1, len(data)}
    ends = [found.end() for found in PARTS.finditer(data)]
    lines = sorted({found.end() for found in LINES.finditer(data)} - set(ends))
    for end in (*ends, *dice.sample(lines, min(len(lines), FEW_LINES))):
        chosen |= {end, end + dice.choice((-1, 1))}
    chosen |= {dice.randrange(len(data) + 1) for _ in range(MANY // 10 if LONG else SAMPLE)}
    return sorted(at for at in chosen if 0 <= at <= len(data))


@contextmanager
def signals_restored() -> Iterator[None]:
    """Put the handlers back that relays beside each other have taken over in turn."""
    before = {number: signal.getsignal(number) for number in signals.heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
