"""Servers of the oldest transport, HTTP+SSE: found as the newer is refused, or given by option."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from mcp import types
from pydantic import AnyUrl

from tests.peers.process import Peer
from tests.process import running
from tests.real.client import ROOT, Client, connected

DYNAMIC = "demo://resource/dynamic/text/7"


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


@pytest.fixture(params=[(), ("--transport", "sse")], ids=["found", "given"])
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    given: tuple[str, ...] = request.param
    return given


async def test_the_reference_server(
    everything_sse: Peer, errors: Path, options: tuple[str, ...]
) -> None:
    """T-90, T-91"""
    seen: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    client = Client(answers={"name": "Ada"})
    async with connected(everything_sse.url, errors, *options, client=client):
        assert client.server.serverInfo.name == "mcp-servers/everything"
        assert await client.text("echo", message="grüß dich \u2028 \U0001f600") == (
            "Echo: grüß dich \u2028 \U0001f600"
        )
        await client.session.call_tool(
            "trigger-long-running-operation",
            {"duration": 0.3, "steps": 3},
            progress_callback=on_progress,
        )
        assert seen == [1, 2, 3]
        assert await client.read(DYNAMIC)
        assert (await client.session.list_prompts()).prompts
        assert "Ada" in await client.text("trigger-elicitation-request")
        assert "a sampled word" in await client.text("trigger-sampling-request", prompt="hm")
        assert str(ROOT.uri) in await client.text("get-roots-list")


async def test_what_the_server_says_unasked(
    everything_sse: Peer, errors: Path, options: tuple[str, ...]
) -> None:
    """T-91: all of it comes on the one stream."""
    async with connected(everything_sse.url, errors, *options) as client:
        await client.session.subscribe_resource(AnyUrl(DYNAMIC))
        await client.call("toggle-subscriber-updates")
        update = await client.wait_to_hear(types.ResourceUpdatedNotification)
        assert str(update.params.uri) == DYNAMIC
        await client.session.set_logging_level("debug")
        await client.call("toggle-simulated-logging")
        await client.wait_to_hear(types.LoggingMessageNotification)


async def test_many_calls_at_once(everything_sse: Peer, options: tuple[str, ...]) -> None:
    """T-91: the answers share a stream and find their calls."""
    async with running(everything_sse.url, *options) as relay:
        await relay.shake_hands()
        calls = {
            await relay.request("tools/call", {"name": "echo", "arguments": {"message": str(n)}}): n
            for n in range(50)
        }
        while calls:
            message = await relay.read()
            if "method" not in message:
                text = message["result"]["content"][0]["text"]
                assert text == f"Echo: {calls.pop(message['id'])}"
        await relay.close_stdin()
        assert await relay.rest() == []
        assert await relay.wait() == 0


async def test_the_server_learns_that_the_client_has_left(everything_sse: Peer) -> None:
    """T-92: there is no session to end; the stream's end is it."""
    left = everything_sse.printed().count("Client Disconnected")
    async with running(everything_sse.url) as relay:
        await relay.shake_hands()
        await relay.close_stdin()
        assert await relay.wait() == 0
        with trio.fail_after(10):
            while everything_sse.printed().count("Client Disconnected") == left:  # noqa: ASYNC110
                await trio.sleep(0.02)
