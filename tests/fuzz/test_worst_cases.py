"""What a parser takes grows with the length of what it reads and no faster, whatever that is.

`MCP_STDIO_LONG=1` in the environment asks for a megabyte instead of a quarter.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.fuzz.worst_cases import CASES, Reader

SIZES = (1 << 14, 1 << 16, 1 << 18, *([1 << 20] if os.environ.get("MCP_STDIO_LONG") == "1" else []))

LIMIT = 10.0
"""Seconds of this process for a size: hundreds of times what it takes, and much less than a
quadratic reader takes for the last one. Smaller ones come first, so that it is found out soon."""


@pytest.mark.parametrize(
    "read, piece",
    [
        pytest.param(read, piece, id=f"{name}: {piece[:12]!r}")
        for name, (read, pieces) in CASES.items()
        for piece in pieces
    ],
)
def test_time_grows_with_length_only(read: Reader, piece: bytes) -> None:
    for size in SIZES:
        begun = time.process_time()
        read(piece * (size // len(piece) + 1))
        assert time.process_time() - begun < LIMIT, size
