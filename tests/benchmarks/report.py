"""Samples to medians and ratios, as a Markdown table and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence

from tests.benchmarks.phases import Figures

Samples = dict[str, dict[str, list[float]]]
"""For each row and each contestant, one figure a round."""

UNITS = {
    "start": ("spawn → first `initialize` answer", "ms"),
    "call p50": ("sequential small call, p50", "µs"),
    "call p99": ("sequential small call, p99", "µs"),
    "call p50 added": ("… of that added by the relay, p50", "µs"),
    "call p99 added": ("… of that added by the relay, p99", "µs"),
    "event call p50": ("sequential small call answered by an event, p50", "µs"),
    "event call p50 added": ("… of that added by the relay, p50", "µs"),
    "held": ("effective parallelism of held calls", "calls"),
    "behind": ("fast calls behind a slow one", "ms"),
    "notes/s": ("notifications on one stream", "1/s"),
    "cpu note": ("CPU per notification", "µs"),
    "tick p50": ("delay of one streamed event, p50", "µs"),
    "json": ("large JSON result", "ms"),
    "json peak": ("… peak RSS", "MB"),
    "event peak": ("… peak RSS of the largest", "MB"),
    "rss idle": ("RSS idle", "MB"),
    "rss used": ("RSS after calls", "MB"),
    "end": ("end of input → exit, idle, no session", "ms"),
    "idle cpu": ("CPU while idle", "ms/s"),
    "idle wake-ups": ("wake-ups while idle", "1/s"),
    "leak": ("growth of RSS per call", "B"),
    "leak median": ("… in the median step", "B"),
}


def collect(samples: Samples, contestant: str, figures: Figures) -> None:
    for row, value in figures.items():
        samples.setdefault(row, {}).setdefault(contestant, []).append(value)


def with_differences(samples: Samples, direct: str) -> Samples:
    """The same with what a relay adds to a call: the difference to the direct call of its round."""
    whole: Samples = {}
    for row, by in samples.items():
        whole[row] = by
        base = by.get(direct, [])
        if row.endswith(("call p50", "call p99")):
            whole[f"{row} added"] = {
                name: [value - least for value, least in zip(values, base, strict=True)]
                for name, values in by.items()
                if name != direct and len(values) == len(base)
            }
    return whole


def medians(samples: Samples) -> dict[str, dict[str, float]]:
    return {
        row: {contestant: statistics.median(values) for contestant, values in by.items()}
        for row, by in samples.items()
    }


def markdown(samples: Samples, contestants: Sequence[str], ours: str) -> str:
    """One line for each row: medians, and what ours is as a multiple of each other relay's."""
    others = [name for name in contestants if name not in (ours, "direct")]
    ratios = [f"{ours} / {name}" for name in others]
    lines = [
        "| " + " | ".join(["figure", "unit", *contestants, *ratios]) + " |",
        "|" + "---|" * (2 + len(contestants) + len(ratios)),
    ]
    for row, values in medians(samples).items():
        title, unit = _title(row)
        cells = [_number(values.get(name)) for name in contestants]
        for name in others:
            mine, its = values.get(ours), values.get(name)
            has_ratio = mine is not None and its is not None and mine > 0 and its > 0
            cells.append(f"{mine / its:.2f} ×" if has_ratio and mine and its else "–")
        lines.append("| " + " | ".join([title, unit, *cells]) + " |")
    return "\n".join(lines) + "\n"


def as_json(samples: Samples, about: Mapping[str, object]) -> str:
    rows = {
        row: {
            "title": _title(row)[0],
            "unit": _title(row)[1],
            "medians": by,
            "samples": samples[row],
        }
        for row, by in medians(samples).items()
    }
    return json.dumps({**about, "rows": rows}, ensure_ascii=False)


def _title(row: str) -> tuple[str, str]:
    if row in UNITS:
        return UNITS[row]
    if row.startswith("tls "):
        title, unit = _title(row.removeprefix("tls "))
        return f"TLS: {title}", unit
    name, _, number = row.partition(" ")
    if name == "event":
        return f"{int(number):,} bytes as one event", "ms"
    of = f", {number} in flight" if number else ", 64 in flight"
    return ("calls" + of, "1/s") if name == "calls/s" else ("CPU per call" + of, "µs")


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
