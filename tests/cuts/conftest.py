"""The clock of the cuts, their lanes, and the table that the test run prints of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import trio.testing

from mcp_stdio.http import tls
from tests.cuts.matrix import LONG, ROWS, SEED
from tests.faults.driver import LANES

IDLE = 0.004
"""Seconds of real time without anything to do after which the clock jumps: what one side of the
loopback has sent must have come to the other by then."""


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=IDLE)


@pytest.fixture(params=LANES)
def lane(request: pytest.FixtureRequest, machine: pytest.MonkeyPatch) -> str:
    """The environment of one of the two ways to send requests."""
    name: str = request.param
    for variable, value in LANES[name].items():
        machine.setenv(variable, value)
    return name


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without proxies, and nobody has signed in."""
    for variable in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    for variable in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(tmp_path))
    # Reading the certificates takes longer than all else in a case.
    monkeypatch.setattr(tls, "context", cache(tls.context))
    return monkeypatch


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was cut."""
    if not ROWS:
        return
    terminalreporter.section("cut everywhere")
    kind = "every byte" if LONG else f"a spread of offsets, MCP_STDIO_SEED={SEED}"
    terminalreporter.line(f"closed, reset or stalled after n bytes of either half: {kind}")
    titles = ("exchange", "eras", "lanes", "bytes", "cases", "passed")
    lines: list[tuple[object, ...]] = [titles]
    for row in ROWS.values():
        lanes = ", ".join(row.lanes)
        lines.append((row.exchange, row.eras, lanes, row.bytes, row.cases, row.passed))
    wide, broad, many = (max(len(str(line[column])) for line in lines) for column in range(3))
    for exchange, eras, ways, size, cases, passed in lines:
        words = f"{exchange:<{wide}}  {eras:<{broad}}  {ways:<{many}}"
        terminalreporter.line(f"{words}  {size:>6}  {cases:>6}  {passed:>6}")
    total = sum(row.cases for row in ROWS.values())
    good = sum(row.passed for row in ROWS.values())
    terminalreporter.line(f"{len(ROWS)} exchanges, {total} cases, {good} passed")
