"""A client of both eras, the SDK's 2.x as it is by default: it probes and goes by the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crossing.worked import MODERN, Mode, Refused, connected
from tests.peers.process import Peer

RED = {"action": "accept", "content": {"colour": "red"}}


def requests(peer: Peer, before: int) -> list[str]:
    """What the server was asked since then, by its own account."""
    lines = peer.printed()[before:].splitlines()
    return [line.removeprefix("request ") for line in lines if line.startswith("request ")]


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


async def test_it_falls_back_to_the_handshake(sdk_server: Peer, errors: Path) -> None:
    """D-1: the probe is refused, so that what follows passes through with nothing lost."""
    async with connected(sdk_server.url, errors, answer=RED) as client:
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


async def test_it_falls_back_over_http_sse(everything_sse: Peer, errors: Path) -> None:
    """D-1, Q-13"""
    async with connected(everything_sse.url, errors) as client:
        about = await client.do("about")
        assert about["protocolVersion"] == "2025-11-25"
        assert await client.text("echo", message="hi") == "Echo: hi"


@pytest.mark.parametrize("peer", ["dual_server", "modern_server", "curt_modern_server"])
async def test_it_finds_the_modern_era(
    peer: str, errors: Path, request: pytest.FixtureRequest
) -> None:
    """Both speak it, and nothing is asked that the client did not ask."""
    server: Peer = request.getfixturevalue(peer)
    before = len(server.printed())
    async with connected(server.url, errors, answer=RED) as client:
        about = await client.do("about")
        assert about["protocolVersion"] == MODERN
        assert about["serverInfo"]["name"] == "sdk2-peer"
        assert about["instructions"] == "For tests"
        assert await client.text("ask", question="Which colour?") == "red"
    assert requests(server, before) == [
        f"POST {MODERN} server/discover",
        f"POST {MODERN} tools/call",
        f"POST {MODERN} tools/call",
        f"POST {MODERN} tools/list",  # to check the result against the tool's schema
    ]


async def test_with_bridge_always_its_probe_is_answered(sdk_server: Peer, errors: Path) -> None:
    """B-52"""
    async with connected(sdk_server.url, errors, "--bridge", "always") as client:
        about = await client.do("about")
        assert about["protocolVersion"] == MODERN
        assert about["serverInfo"]["name"] == "sdk-peer"
        assert "tasks" not in about["capabilities"]
        assert await client.text("echo", text="hi") == "hi"
        assert await client.text("progress", steps=3) == "3 steps"
        assert [step["at"] for step in client.progress] == [1, 2, 3]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_with_the_era_given_no_other_is_tried(
    mode: Mode, dual_server: Peer, errors: Path
) -> None:
    before = len(dual_server.printed())
    options = ("--protocol-era", "legacy")
    async with connected(dual_server.url, errors, *options, mode=mode, answer=RED) as client:
        assert (await client.do("about"))["protocolVersion"] == "2025-11-25"
        assert await client.text("ask", question="Which colour?") == "red"
    assert not any(MODERN in line for line in requests(dual_server, before))


async def test_a_handshake_is_carried_over_where_the_era_is_given(
    dual_server: Peer, errors: Path
) -> None:
    before = len(dual_server.printed())
    options = ("--protocol-era", "modern")
    async with connected(dual_server.url, errors, *options, mode="legacy", answer=RED) as client:
        assert (await client.do("about"))["protocolVersion"] == "2025-11-25"
        assert await client.text("ask", question="Which colour?") == "red"
    assert all(MODERN in line for line in requests(dual_server, before))


async def test_with_bridge_never_a_handshake_is_refused(modern_server: Peer, errors: Path) -> None:
    """S-21: the refusal names the server's versions, and the option."""
    with pytest.raises(Refused) as caught:
        async with connected(modern_server.url, errors, "--bridge", "never", mode="legacy"):
            raise AssertionError("let in")
    assert MODERN in caught.value.message
    assert "--bridge" in caught.value.message
