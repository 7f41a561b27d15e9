"""A stateless client in front of the SDK's server of the handshake era, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from mcp_stdio import spec
from mcp_stdio.config import Config
from mcp_stdio.http.client import open_client
from mcp_stdio.http.url import Url
from tests.bridge.modern import Modern, in_session_with
from tests.peers.process import Peer
from tests.real.client import until

COUNTER = "test://counter"


@pytest.fixture(
    params=["sdk_server", "sdk_server_stateless", "sdk_server_json", "sdk_server_resumable"]
)
def any_sdk_server(request: pytest.FixtureRequest) -> Peer:
    return cast("Peer", request.getfixturevalue(request.param))


@asynccontextmanager
async def connected(peer: Peer) -> AsyncIterator[Modern]:
    lane = open_client(Config(url=peer.url), environ={})
    async with in_session_with(lane, Url.parse(peer.url), within=60) as client:
        yield client
        await client.bridge.aclose()
    await lane.aclose()


async def test_the_basics(any_sdk_server: Peer) -> None:
    """B-50, B-52 to B-54"""
    async with connected(any_sdk_server) as client:
        discovering = client.call("server/discover")
        calling = client.call(params={"name": "echo", "arguments": {"text": "grüß"}})
        listing = client.call("tools/list")
        reading = client.call("resources/read", {"uri": "test://greeting/you"})
        await client.done(discovering, calling, listing, reading)
        assert discovering.result["supportedVersions"] == ["2026-07-28"]
        assert discovering.result["instructions"] == "For tests"
        about = discovering.result["_meta"]
        assert about[spec.META_SERVER_INFO]["name"] == "sdk-peer"
        assert calling.result["content"][0]["text"] == "grüß"
        assert "echo" in {tool["name"] for tool in listing.result["tools"]}
        assert reading.result["contents"][0]["text"] == "hello you"
        for asked in (calling, listing, reading):
            assert asked.result["resultType"] == "complete"
            assert asked.result["_meta"] == about


async def test_what_a_server_wants_of_the_client_it_does_not_get(sdk_server: Peer) -> None:
    """B-51, B-58, B-61: the call ends at once, whichever stream the question travels on."""
    async with connected(sdk_server) as client:
        asked = [
            client.call(params={"name": "ask", "arguments": {"question": "colour?"}}),
            client.call(params={"name": "sample", "arguments": {"prompt": "hi"}}),
            client.call(params={"name": "roots", "arguments": {}}),
        ]
        await client.done(*asked)
        assert [one.result["isError"] for one in asked] == [True] * 3
        assert [len(one.emitted) for one in asked] == [1] * 3
        assert client.emitted == []


async def test_progress_and_log_messages_reach_who_asked(sdk_server: Peer) -> None:
    """B-55, T-64"""
    async with connected(sdk_server) as client:
        progress = client.call(
            params={"name": "progress", "arguments": {"steps": 3}}, meta={"progressToken": "t"}
        )
        log = {"name": "log", "arguments": {"text": "well"}}
        heard, unheard = client.call(params=log, level="info"), client.call(params=log)
        await client.done(progress, heard, unheard)
        assert [message.params.get("progress") for message in progress.emitted[:-1]] == [1, 2, 3]
        assert heard.notes == ["well"]
        assert unheard.notes == []


async def test_a_listen_brings_changes_of_a_resource(sdk_server: Peer) -> None:
    """B-59: the change is told on the GET stream."""
    async with connected(sdk_server) as client:
        listening = client.listen(resourceSubscriptions=[COUNTER])
        await until(lambda: bool(listening.emitted))
        await client.done(client.call(params={"name": "touch", "arguments": {}}))
        await until(lambda: len(listening.emitted) == 2)
        [_, change] = listening.emitted
        assert change.method == "notifications/resources/updated"
        assert change.params == {"_meta": {spec.META_SUBSCRIPTION: "w"}, "uri": COUNTER}
        client.cancel(listening)
        await client.done(listening)
    await until(lambda: f"unsubscribed {COUNTER}" in sdk_server.printed())


async def test_a_cancel_reaches_the_server(sdk_server: Peer) -> None:
    """B-56"""
    async with connected(sdk_server) as client:
        calling = client.call(params={"name": "slow", "arguments": {"seconds": 54.25}})
        await until(lambda: "slow begins 54.25" in sdk_server.printed())
        client.cancel(calling)
        await client.done(calling)
        await until(lambda: "slow cancelled 54.25" in sdk_server.printed())
