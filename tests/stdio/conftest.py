"""Both ways of standard input and output: the event loop's, and the threads that Windows needs."""

from __future__ import annotations

import sys

import pytest

from mcp_stdio.descriptors import THREADS


@pytest.fixture(params=["loop", "threads"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the test once for each way."""
    way: str = request.param
    if way == "loop" and sys.platform == "win32":
        pytest.skip("Windows has threads only")
    monkeypatch.setenv(THREADS, "1" if way == "threads" else "0")
    return way
