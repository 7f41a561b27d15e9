"""What a long run shows: samples of the relay's process, their trend, and a table to print."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field

import trio

from tests.faults.proc import Holdings, cpu_seconds, holdings
from tests.load.flood import Tally
from tests.load.server import Ledger

MIB = 1024 * 1024


@dataclass(frozen=True)
class Sample:
    at: float
    calls: int
    cpu: float
    held: Holdings


@dataclass
class Samples:
    """Samples of one process, taken by `watch`."""

    pid: int
    taken: list[Sample] = field(default_factory=list)

    def take(self, calls: int) -> Sample:
        sample = Sample(time.perf_counter(), calls, cpu_seconds(self.pid), holdings(self.pid))
        self.taken.append(sample)
        return sample

    async def watch(self, tally: Tally, interval: float) -> None:
        """Until cancelled."""
        while True:
            self.take(tally.calls)
            await trio.sleep(interval)

    @property
    def second_half(self) -> list[Sample]:
        middle = (self.taken[0].at + self.taken[-1].at) / 2
        return [sample for sample in self.taken if sample.at >= middle]

    @property
    def growth(self) -> float:
        """Bytes of memory per call, in the second half of the run."""
        half = self.second_half
        memory = [float(sample.held.memory) for sample in half]
        return statistics.linear_regression([sample.calls for sample in half], memory).slope


def table(samples: Samples, tally: Tally, ledger: Ledger) -> str:
    """The figures of a run, one in a line."""
    first, last = samples.taken[0], samples.taken[-1]
    seconds, calls = last.at - first.at, last.calls - first.calls
    latencies = sorted(tally.latencies)
    memory = [sample.held.memory for sample in samples.taken]
    descriptors = [sample.held.descriptors for sample in samples.taken]
    threads = {sample.held.threads for sample in samples.taken}
    rows = {
        "calls": f"{tally.calls:,} in {seconds:,.0f} s, {calls / seconds:,.0f}/s",
        "latency": f"p50 {_at(latencies, 0.5):.2f} ms, p99 {_at(latencies, 0.99):.2f} ms",
        "connections dropped": f"{ledger.dropped:,}",
        "answered 503 or 429, then done": f"{ledger.busy:,}",
        "sessions expired": f"{ledger.expired:,}",
        "lost with their session": f"{tally.lost:,}",
        "streams resumed": f"{ledger.resumed:,}",
        "questions to the client": f"{tally.questions:,}",
        "cancelled": f"{tally.ends['withdrawn']:,}",
        "notifications on streams of their own": f"{tally.notes:,} on {ledger.listened:,}",
        "memory": f"{memory[0] / MIB:.1f} MiB at first, {memory[-1] / MIB:.1f} at last, "
        f"{max(memory) / MIB:.1f} at most; {samples.growth:+.2f} bytes per call in the second half",
        "descriptors": f"{min(descriptors)} to {max(descriptors)}",
        "threads": " or ".join(map(str, sorted(threads))),
        "CPU per call": f"{(last.cpu - first.cpu) / calls * 1e6:.0f} µs",
    }
    return "".join(f"  {name + ':':<40}{value}\n" for name, value in rows.items())


def _at(ordered: list[float], share: float) -> float:
    return ordered[int(share * (len(ordered) - 1))] * 1e3
