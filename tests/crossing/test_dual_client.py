"""A client of both eras, the SDK's 2.x as it is by default: it probes and goes by the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crossing.worked import connected
from tests.peers.process import Peer


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


async def test_it_falls_back_to_the_handshake(sdk_server: Peer, errors: Path) -> None:
    """D-1: the probe is refused, so that what follows passes through with nothing lost."""
    answer = {"action": "accept", "content": {"colour": "red"}}
    async with connected(sdk_server.url, errors, answer=answer) as client:
        about = await client.do("about")
        assert about["protocolVersion"] == "2025-11-25"
        assert about["serverInfo"]["name"] == "sdk-peer"
        assert await client.text("ask", question="Which colour?") == "red"
        assert await client.text("sample", prompt="hm") == "a sampled word"
        assert "file:///projects/one" in await client.text("roots")


async def test_it_falls_back_with_the_reference_server(everything: Peer, errors: Path) -> None:
    """D-1"""
    answer = {"action": "accept", "content": {"name": "Ada"}}
    async with connected(everything.url, errors, answer=answer) as client:
        about = await client.do("about")
        assert about["protocolVersion"] == "2025-11-25"
        assert await client.text("echo", message="hi") == "Echo: hi"
        assert "Ada" in await client.text("trigger-elicitation-request")
