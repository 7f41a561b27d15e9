"""The plot of the benchmark: what `python -m tests.benchmarks` has printed, as ratios.

Owns which figures are shown and under which name. Kept here: a figure in which the other relay is
better is drawn to the other side, not left out; the axis is logarithmic, so that twice as good and
half as good are equally long.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

from drawing import BLUE, FAINT, LINE, ORANGE, Picture

DATA = Path(__file__).parent.parent / "assets" / "benchmark.json"
"""The last line of a run of the benchmark with `--against` the other relay."""

OURS, THEIRS = "mcp-stdio", "sync-httpx"


class Row(NamedTuple):
    """A figure of the run; `more` says that more of it is better."""

    figure: str
    label: str
    unit: str
    more: bool = False


ROWS = [
    Row("behind", "100 quick calls behind one of 2 s", "ms"),
    Row("held", "of 64 calls of 50 ms, at once", "", more=True),
    Row("notes/s", "notifications per second", "", more=True),
    Row("end", "end of input until it is gone", "ms"),
    Row("calls/s 64", "calls per second, 64 at a time", "", more=True),
    Row("cpu 64", "CPU for a call, 64 at a time", "µs"),
    Row("tls call p50 added", "time added to a call over TLS", "µs"),
    Row("call p50 added", "time added to a call", "µs"),
    Row("json", "a result of 10 MB", "ms"),
    Row("event 50000000", "an event of 50 MB", "ms"),
    Row("rss used", "memory after 5,000 calls", "MB"),
    Row("start", "start until the first answer", "ms"),
    Row("tick p50", "delay of a streamed event", "µs"),
    Row("tls start", "start over TLS", "ms"),
]

TICKS = [0.5, 1, 2, 4, 8, 16, 32, 64, 128]
LEFT, RIGHT, TOP, STEP, WIDTH = 290.0, 660.0, 74.0, 25.0, 860.0


def draw() -> Picture:
    """The plot, from the data beside it."""
    rows = json.loads(DATA.read_text(encoding="utf-8"))["rows"]
    bottom = TOP + STEP * len(ROWS)
    picture = Picture(WIDTH, bottom + 44, "mcp-stdio beside the synchronous relay 0.3.0")
    picture.text(
        20, 30, "How many times as good as the synchronous relay 0.3.0", size=15, bold=True
    )
    picture.text(
        20, 50, "medians of three rounds; to the left of 1 the other one is better", fill=FAINT
    )
    picture.text(WIDTH - 20, 50, "this one / 0.3.0", fill=FAINT, anchor="end")
    for tick in TICKS:
        colour = FAINT if tick == 1 else LINE
        picture.line([(_x(tick), TOP - 6), (_x(tick), bottom + 4)], stroke=colour, width=1)
        picture.text(_x(tick), bottom + 22, f"{tick:g} ×", size=12, fill=FAINT, anchor="middle")
    for index, row in enumerate(ROWS):
        medians = rows[row.figure]["medians"]
        _draw_row(picture, row, medians[OURS], medians[THEIRS], TOP + STEP * index)
    return picture


def _draw_row(picture: Picture, row: Row, ours: float, theirs: float, y: float) -> None:
    good = ours / theirs if row.more else theirs / ours
    start, end = sorted((_x(1), _x(good)))
    colour = BLUE if good >= 1 else ORANGE
    picture.text(LEFT - 38, y + 14, row.label, anchor="end")
    picture.rect(round(start, 1), y + 2, round(end - start, 1), 15, fill=colour, radius=2)
    picture.text(round(max(end, _x(1)), 1) + 6, y + 14, _number(good) + " ×", bold=True)
    values = f"{_number(ours)} / {_number(theirs)} {row.unit}".rstrip()
    picture.text(WIDTH - 20, y + 14, values, fill=FAINT, anchor="end")


def _x(ratio: float) -> float:
    span = math.log2(TICKS[-1] / TICKS[0])
    return round(LEFT + (RIGHT - LEFT) * math.log2(ratio / TICKS[0]) / span, 1)


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
