"""The ways of standard input and output: the event loop's, and the threads that Windows needs.

The event loop's has two ways with pipes; `asked` is the one where none can be opened once more.
"""

from __future__ import annotations

import sys

import pytest

from mcp_stdio import descriptors
from mcp_stdio.descriptors import THREADS


@pytest.fixture(params=["loop", "asked", "threads"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the test once for each way."""
    way: str = request.param
    if way != "threads" and sys.platform == "win32":
        pytest.skip("Windows has threads only")
    monkeypatch.setenv(THREADS, "1" if way == "threads" else "0")
    if way == "asked":
        monkeypatch.setattr(descriptors, "OPEN_FILES", "/nowhere")
    return way
