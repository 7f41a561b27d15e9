"""What is measured, one function for each phase: a way to start a peer in, figures by row out.

Each starts peers of its own, so that none finds what another has left, warms them up where a first
call is not what is measured, and looks afterwards whether the answers were right.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

from tests.benchmarks.peers import Peer, Relay, Stuck

Figures = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the more, the steadier."""

    rounds: int
    starts: int
    calls: int
    windows: tuple[int, ...]
    held: tuple[int, int]
    slow: int
    behind: int
    notes: int
    ticks: int
    json: int
    events: tuple[int, ...]
    memory_calls: int
    idle: float
    leak_calls: int


FULL = Sizes(
    rounds=5,
    starts=5,
    calls=1500,
    windows=(1, 64, 256, 1024),
    held=(64, 50),
    slow=2000,
    behind=100,
    notes=20_000,
    ticks=200,
    json=10_000_000,
    events=(1_000, 100_000, 1_000_000, 10_000_000, 50_000_000),
    memory_calls=5_000,
    idle=5.0,
    leak_calls=50_000,
)
QUICK = Sizes(
    rounds=2,
    starts=3,
    calls=500,
    windows=(1, 64, 1024),
    held=(64, 50),
    slow=500,
    behind=100,
    notes=20_000,
    ticks=100,
    json=10_000_000,
    events=(1_000, 1_000_000, 10_000_000, 50_000_000),
    memory_calls=2_000,
    idle=2.0,
    leak_calls=10_000,
)
TINY = Sizes(
    rounds=1,
    starts=1,
    calls=20,
    windows=(1, 8),
    held=(4, 10),
    slow=50,
    behind=5,
    notes=50,
    ticks=5,
    json=100_000,
    events=(1_000, 100_000),
    memory_calls=50,
    idle=0.1,
    leak_calls=100,
)


# Messages

_ids = count(1)
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":"first","method":"initialize","params":{"protocolVersion":"2025-06-18",'
    b'"capabilities":{},"clientInfo":{"name":"benchmark","version":"1"}}}\n'
)
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n'


def call(name: str, amount: int = 0, pause: int = 0) -> bytes:
    """A line that asks the server for that much work."""
    return (
        b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"%s","arguments":'
        b'{"amount":%d,"pause":%d}}}\n' % (next(_ids), name.encode(), amount, pause)
    )


def small_calls(number: int) -> list[bytes]:
    return [call("text", 100) for _ in range(number)]


# Talking to a peer

Start = Callable[[], Peer]


@contextmanager
def started(start: Start) -> Iterator[Peer]:
    """A peer that has shaken hands."""
    peer = start()
    try:
        ask(peer, INITIALIZE)
        if isinstance(peer, Relay):  # there is no answer to it, hence nothing for the direct call
            peer.send([INITIALIZED])
        yield peer
    finally:
        peer.close()


def ask(peer: Peer, line: bytes, answers: int = 1) -> bytes:
    """Send a line and wait for so many."""
    peer.send([line])
    data = peer.receive()
    if answers == 1 and data.endswith(b"\n"):  # the way of nearly all
        return data
    parts, got = [data], data.count(b"\n")
    while got < answers:
        parts.append(peer.receive())
        got += parts[-1].count(b"\n")
    return b"".join(parts)


def ask_all(peer: Peer, lines: Sequence[bytes], window: int) -> float:
    """Send all, so many on their way at a time, and get a result for each; seconds."""
    elapsed, received = exchange(peer, lines, window)
    check(lines, received)
    return elapsed


def exchange(peer: Peer, lines: Sequence[bytes], window: int) -> tuple[float, bytes]:
    """The same whatever comes back for a line; also that."""
    received = []
    begun, sent, got = time.perf_counter(), min(window, len(lines)), 0
    peer.send(lines[:sent])
    while got < len(lines):
        data = peer.receive()
        received.append(data)
        number = data.count(b"\n")
        got += number
        peer.send(lines[sent : sent + number])
        sent += number
    return time.perf_counter() - begun, b"".join(received)


def check(lines: Sequence[bytes], received: bytes) -> None:
    """Each request has its result. Raises Stuck."""
    answers = [json.loads(line) for line in received.splitlines()]
    got = {answer["id"] for answer in answers if "result" in answer}
    missing = {json.loads(line)["id"] for line in lines} - got
    if missing:
        raise Stuck(f"{len(missing)} of {len(lines)} calls failed: {received[-300:]!r}")


def ask_more(peer: Peer) -> bytes:
    """What comes next, up to the end of a line."""
    data = peer.receive()
    while not data.endswith(b"\n"):
        data += peer.receive()
    return data


def result(received: bytes) -> dict[str, Any]:
    """The result in the last line. Raises Stuck."""
    answer = json.loads(received.splitlines()[-1])
    if "result" not in answer:
        raise Stuck(f"no result: {received[-300:]!r}")
    found: dict[str, Any] = answer["result"]
    return found


# Phases


def start(begin: Start, sizes: Sizes) -> Figures:
    times = []
    for _ in range(sizes.starts):
        peer = begin()
        try:
            received = ask(peer, INITIALIZE)
            times.append(time.perf_counter() - peer.begun)
            result(received)
        finally:
            peer.close()
    return {"start": statistics.median(times) * 1e3}


def latency(begin: Start, sizes: Sizes) -> Figures:
    with started(begin) as peer:
        p50, p99 = sequential(peer, small_calls(sizes.calls))
        figures = {"call p50": p50, "call p99": p99}
        lines = [call("event", 100) for _ in range(sizes.calls // 2)]
        figures["event call p50"] = sequential(peer, lines)[0]
    return figures


def sequential(peer: Peer, lines: list[bytes]) -> tuple[float, float]:
    """Median and 99th percentile in µs, without the first tenth."""
    times = []
    for line in lines:
        begun = time.perf_counter()
        ask(peer, line)
        times.append(time.perf_counter() - begun)
    times = sorted(times[len(times) // 10 :])
    return times[len(times) // 2] * 1e6, times[len(times) * 99 // 100] * 1e6


def throughput(begin: Start, sizes: Sizes) -> Figures:
    figures = {}
    for window in sizes.windows:
        with started(begin) as peer:
            ask_all(peer, small_calls(window + sizes.calls // 10), window)
            lines = small_calls(max(sizes.calls, 2 * window))
            used = _cpu(peer)
            elapsed = ask_all(peer, lines, window)
            figures[f"calls/s {window}"] = len(lines) / elapsed
            if isinstance(peer, Relay):
                figures[f"cpu {window}"] = (_cpu(peer) - used) / len(lines) * 1e6
    return figures


def _cpu(peer: Peer) -> float:
    return peer.cpu() if isinstance(peer, Relay) else 0.0


def held(begin: Start, sizes: Sizes) -> Figures:
    number, pause = sizes.held
    with started(begin) as peer:
        for _ in range(2):  # small calls would be over before each had a connection of its own
            elapsed = ask_all(peer, [call("held", 0, pause) for _ in range(number)], number)
    return {"held": number * pause / 1e3 / elapsed}


def behind(begin: Start, sizes: Sizes) -> Figures:
    with started(begin) as peer:
        ask(peer, call("text", 100))
        slow, lines = call("held", 0, sizes.slow), small_calls(sizes.behind)
        slow_id = b'"id":%d,' % json.loads(slow)["id"]
        peer.send([slow])
        begun = time.perf_counter()
        peer.send(lines)
        received = b""
        while received.count(b"\n") < len(lines) + (slow_id in received.replace(b" ", b"")):
            received += peer.receive()
        elapsed = time.perf_counter() - begun
        check(lines, received[: received.rindex(b"\n")])
    return {"behind": elapsed * 1e3}


def notes(begin: Start, sizes: Sizes) -> Figures:
    with started(begin) as peer:
        ask(peer, call("notes", sizes.notes // 10), sizes.notes // 10 + 1)
        line = call("notes", sizes.notes)
        used, begun = _cpu(peer), time.perf_counter()
        received = ask(peer, line, sizes.notes + 1)
        elapsed = time.perf_counter() - begun
        used = _cpu(peer) - used
        result(received)
    figures = {"notes/s": sizes.notes / elapsed}
    if isinstance(peer, Relay):
        figures["cpu note"] = used / sizes.notes * 1e6
    return figures


def ticks(begin: Start, sizes: Sizes) -> Figures:
    with started(begin) as peer:
        peer.send([call("ticks", sizes.ticks, 3)])
        delays: list[float] = []
        got = 0
        while got <= sizes.ticks:
            data = ask_more(peer)
            arrived = time.monotonic_ns()
            for line in data.splitlines():
                got += 1
                message = json.loads(line)
                if "method" in message:
                    delays.append((arrived - int(message["params"]["data"])) / 1e3)
    return {"tick p50": statistics.median(delays[len(delays) // 10 :])}


def large(begin: Start, sizes: Sizes) -> Figures:
    with started(begin) as peer:
        ask(peer, call("text", 100))
        begun = time.perf_counter()
        received = ask(peer, call("text", sizes.json))
        elapsed = time.perf_counter() - begun
        _check_size(received, sizes.json)
        figures = {"json": elapsed * 1e3}
        if isinstance(peer, Relay):
            figures["json peak"] = peer.peak() / 1e6
    return figures


def events(begin: Start, sizes: Sizes) -> Figures:
    figures: Figures = {}
    for size in sizes.events:
        with started(begin) as peer:
            ask(peer, call("event", 100))
            times = []
            for _ in range(20 if size < 1_000_000 else 1):
                begun = time.perf_counter()
                received = ask(peer, call("event", size))
                times.append(time.perf_counter() - begun)
            _check_size(received, size)
            figures[f"event {size}"] = statistics.median(times) * 1e3
            if isinstance(peer, Relay) and size == max(sizes.events):
                figures["event peak"] = peer.peak() / 1e6
    return figures


def _check_size(received: bytes, size: int) -> None:
    if len(result(received)["content"][0]["text"]) != size:
        raise Stuck("the result is not whole")


def memory(begin: Start, sizes: Sizes) -> Figures:
    with started(begin) as peer:
        if not isinstance(peer, Relay):
            return {}
        time.sleep(0.3)
        figures = {"rss idle": peer.resident() / 1e6}
        ask_all(peer, small_calls(sizes.memory_calls), 8)
        figures["rss used"] = peer.resident() / 1e6
    return figures


def leak(begin: Start, sizes: Sizes) -> Figures:
    with started(begin) as peer:
        if not isinstance(peer, Relay):
            return {}
        step = sizes.leak_calls // 10
        ask_all(peer, small_calls(step), 16)
        taken = []
        for _ in range(9):
            ask_all(peer, small_calls(step), 16)
            taken.append(peer.resident())
        # The median step, so that one new arena of the allocator does not count for a leak.
        steps = [later - earlier for earlier, later in pairwise(taken)]
    return {
        "leak": (taken[-1] - taken[0]) / (step * len(steps)),
        "leak median": statistics.median(steps) / step,
    }


def idle(begin: Start, sizes: Sizes) -> Figures:
    with started(begin) as peer:
        if not isinstance(peer, Relay):
            return {}
        ask_all(peer, small_calls(20), 4)
        time.sleep(0.3)
        used, switches = peer.cpu(), peer.switches()
        time.sleep(sizes.idle)
        return {
            "idle cpu": (peer.cpu() - used) / sizes.idle * 1e3,
            "idle wake-ups": (peer.switches() - switches) / sizes.idle,
        }


def end(begin: Start, sizes: Sizes) -> Figures:
    times = []
    for _ in range(sizes.starts):
        with started(begin) as peer:
            if not isinstance(peer, Relay):
                return {}
            ask(peer, call("text", 100))
            time.sleep(0.1)
            times.append(peer.end() * 1e3)
    return {"end": statistics.median(times)}


def tls(begin: Start, sizes: Sizes) -> Figures:
    figures = start(begin, sizes)
    with started(begin) as peer:
        p50, p99 = sequential(peer, small_calls(sizes.calls))
        figures |= {"call p50": p50, "call p99": p99}
        window = 64 if 64 in sizes.windows else sizes.windows[-1]
        ask_all(peer, small_calls(window), window)
        used, lines = _cpu(peer), small_calls(sizes.calls)
        figures["calls/s"] = len(lines) / ask_all(peer, lines, window)
        if isinstance(peer, Relay):
            figures["cpu"] = (_cpu(peer) - used) / len(lines) * 1e6
        ask(peer, call("text", sizes.json))
        begun = time.perf_counter()
        ask(peer, call("text", sizes.json))
        figures["json"] = (time.perf_counter() - begun) * 1e3
    return {f"tls {name}": value for name, value in figures.items()}


PHASES: dict[str, Callable[[Start, Sizes], Figures]] = {
    "start": start,
    "latency": latency,
    "throughput": throughput,
    "held": held,
    "behind": behind,
    "notes": notes,
    "ticks": ticks,
    "large": large,
    "events": events,
    "memory": memory,
    "end": end,
    "idle": idle,
    "leak": leak,
    "tls": tls,
}
