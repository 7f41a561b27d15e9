"""The clock of the cuts, their lanes, and the table that the test run prints of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import trio.testing

from mcp_stdio.http import tls
from tests.cuts import tally
from tests.faults.driver import LANES

IDLE = 0.006
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
    if tally.ROWS:
        terminalreporter.section("cut everywhere")
        for line in tally.table():
            terminalreporter.line(line)
