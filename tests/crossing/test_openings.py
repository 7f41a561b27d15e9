"""The ways in which clients open, message by message, with servers of every era."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import trio

from tests.crossing.worked import MODERN
from tests.peers.process import Peer
from tests.process import INITIALIZE, Relay, line, running

Json = dict[str, Any]

META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
ECHO = {"name": "echo", "arguments": {"text": "hi"}}
SAID = [{"type": "text", "text": "hi"}]

EVERY = ["dual_server", "modern_server", "curt_modern_server", "sdk_server"]


@pytest.fixture(params=EVERY)
def server(request: pytest.FixtureRequest) -> Peer:
    peer: Peer = request.getfixturevalue(request.param)
    return peer


@pytest.fixture(params=EVERY[:-1])
def modern(request: pytest.FixtureRequest) -> Peer:
    peer: Peer = request.getfixturevalue(request.param)
    return peer


async def answers(relay: Relay, ids: Iterable[object]) -> dict[object, Json]:
    """The answers to these requests, in whatever order they come."""
    missing, found = set(ids), {}
    while missing:
        message = await relay.read()
        if "method" not in message:
            missing.remove(message["id"])
            found[message["id"]] = message
    return found


async def go_on_in_the_legacy_era(relay: Relay, opened: Json) -> None:
    assert opened["result"]["protocolVersion"] == INITIALIZE["protocolVersion"]
    await relay.send(method="notifications/initialized")
    answer = await relay.ask("tools/call", ECHO)
    assert answer["result"]["content"] == SAID
    assert "resultType" not in answer["result"]


async def go_on_in_the_modern_era(relay: Relay) -> None:
    answer = await relay.ask("tools/call", ECHO | {"_meta": META})
    assert answer["result"]["content"] == SAID
    assert answer["result"]["resultType"] == "complete"


async def test_a_handshake_that_does_not_wait_for_the_probes_answer(server: Peer) -> None:
    """D-1"""
    async with running(server.url) as relay:
        await relay.write(
            line(id="d", method="server/discover", params={"_meta": META})
            + line(id="i", method="initialize", params=INITIALIZE)
        )
        found = await answers(relay, ["d", "i"])
        assert "result" in found["d"] or found["d"]["error"]["code"] == -32601
        await go_on_in_the_legacy_era(relay, found["i"])


async def test_a_handshake_after_a_good_probe(modern: Peer) -> None:
    async with running(modern.url) as relay:
        discovered = await relay.ask("server/discover", {"_meta": META})
        assert discovered["result"]["supportedVersions"] == [MODERN]
        await go_on_in_the_legacy_era(relay, await relay.ask("initialize", INITIALIZE))


async def test_a_handshake_after_a_refused_probe(sdk_server: Peer) -> None:
    """D-1"""
    async with running(sdk_server.url) as relay:
        refused = await relay.ask("server/discover", {"_meta": META})
        assert refused["error"]["code"] == -32601
        await go_on_in_the_legacy_era(relay, await relay.ask("initialize", INITIALIZE))


async def test_a_modern_client_that_goes_on_after_a_refused_probe(sdk_server: Peer) -> None:
    """D-1: it sends no handshake, so it is carried over."""
    async with running(sdk_server.url) as relay:
        refused = await relay.ask("server/discover", {"_meta": META})
        assert refused["error"]["code"] == -32601
        await go_on_in_the_modern_era(relay)


async def test_modern_requests_without_a_probe(server: Peer) -> None:
    """D-B"""
    async with running(server.url) as relay:
        await go_on_in_the_modern_era(relay)
        await go_on_in_the_modern_era(relay)


async def test_a_probe_after_the_handshake(server: Peer) -> None:
    async with running(server.url) as relay:
        await relay.shake_hands()
        discovered = await relay.ask("server/discover", {"_meta": META})
        assert "result" in discovered or discovered["error"]["code"] == -32601
        answer = await relay.ask("tools/call", ECHO)
        assert answer["result"]["content"] == SAID


async def test_a_server_that_never_answers_the_probe(mute_server: Peer) -> None:
    """D-1: the handshake works while the probe waits, and then the probe is answered."""
    async with running(mute_server.url) as relay:
        await relay.send(id="d", method="server/discover", params={"_meta": META})
        await trio.sleep(0.5)  # the client's patience
        await relay.send(id="i", method="initialize", params=INITIALIZE)
        found = await answers(relay, ["d", "i"])
        assert found["d"]["error"]["code"] == -32601
        await go_on_in_the_legacy_era(relay, found["i"])


async def test_a_modern_request_to_a_server_that_never_answers_the_probe(
    mute_server: Peer,
) -> None:
    """D-D: after some 10 s the relay tries the handshake, which decides."""
    async with running(mute_server.url) as relay:
        await go_on_in_the_modern_era(relay)


async def test_what_is_no_opening_is_refused(server: Peer) -> None:
    """Neither a handshake nor a modern request, but `ping`."""
    async with running(server.url) as relay:
        assert (await relay.ask("ping"))["result"] == {}
        error = (await relay.ask("tools/list"))["error"]
        assert error["code"] == -32602


async def test_two_processes_at_once(server: Peer) -> None:
    async with running(server.url) as one, running(server.url) as other:
        for relay in (one, other):
            await relay.send(id="i", method="initialize", params=INITIALIZE)
        for relay in (one, other):
            await go_on_in_the_legacy_era(relay, await relay.answer_to("i"))
