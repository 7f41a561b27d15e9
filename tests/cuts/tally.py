"""What was cut, counted over the whole test run; how much that is, and what it says at the end."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

LONG = os.environ.get("MCP_STDIO_LONG") == "1"
SEED = int(os.environ.get("MCP_STDIO_SEED") or random.SystemRandom().randrange(10**6))
"""Of the sample of offsets; a failure names it."""


@dataclass
class Row:
    """What was run of one exchange; `bytes` is what it has in both halves."""

    exchange: str
    eras: str
    bytes: int
    lanes: list[str] = field(default_factory=list)
    cases: int = 0
    passed: int = 0


ROWS: dict[tuple[str, str], Row] = {}


def row_of(exchange: str, eras: str, size: int) -> Row:
    """The row for an exchange, the same for each of its lanes."""
    return ROWS.setdefault((exchange, eras), Row(exchange, eras, size))


def table() -> Iterator[str]:
    """The rows, and their sum."""
    kind = "every byte" if LONG else f"a spread of offsets, MCP_STDIO_SEED={SEED}"
    yield f"closed, reset or stalled after n bytes of either half: {kind}"
    yield "lanes: our own HTTP is `direct`, httpx is `proxied`, and `proxy` is httpx behind one"
    lines: list[tuple[object, ...]] = [("exchange", "eras", "lanes", "bytes", "cases", "passed")]
    for row in ROWS.values():
        lanes = ", ".join(row.lanes)
        lines.append((row.exchange, row.eras, lanes, row.bytes, row.cases, row.passed))
    wide, broad, many = (max(len(str(line[column])) for line in lines) for column in range(3))
    for exchange, eras, ways, size, cases, passed in lines:
        words = f"{exchange:<{wide}}  {eras:<{broad}}  {ways:<{many}}"
        yield f"{words}  {size:>6}  {cases:>6}  {passed:>6}"
    total = sum(row.cases for row in ROWS.values())
    good = sum(row.passed for row in ROWS.values())
    yield f"{len(ROWS)} exchanges, {total} cases, {good} passed"
