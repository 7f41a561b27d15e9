"""Clients that do not shake hands: native, refused or bridged (D-B to D-E, D-1, S-11)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc
from mcp_stdio.era.evidence import Verdict
from mcp_stdio.era.probing import LATE_PROBE, PROBE_TIME, Probing
from mcp_stdio.errors import (
    AuthorizationFailed,
    CannotBridge,
    ConnectionLost,
    TimedOut,
    Unreachable,
)
from tests.era.fakes import FakeUpstream, Rule, refused
from tests.upstream.fakes import Client

VERSION = "io.modelcontextprotocol/protocolVersion"
INFO = "io.modelcontextprotocol/clientInfo"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
META = {VERSION: "2026-07-28", INFO: {"name": "c", "version": "1"}, CAPABILITIES: {"roots": {}}}
PARAMS = {"_meta": META | {"progressToken": "t"}}
FOUND: dict[str, Any] = {"resultType": "complete", "supportedVersions": ["2026-07-28"]}
DISCOVER = "server/discover"
CALL = "tools/call"
LIST = "tools/list"


class World:
    def __init__(self, probing: Probing, client: Client, modern: FakeUpstream) -> None:
        self.probing = probing
        self.client = client
        self.modern = modern
        self.bridge = FakeUpstream(**{DISCOVER: {"by": "bridge"}, CALL: {"by": "bridge"}})


@asynccontextmanager
async def world(
    discover: Rule = FOUND, *, is_bridging: bool = True, **more: Any
) -> AsyncIterator[World]:
    modern = FakeUpstream(**{DISCOVER: discover, CALL: {"by": "modern"}, LIST: {"by": "modern"}})
    bridge = FakeUpstream(**{DISCOVER: {"by": "bridge"}, CALL: {"by": "bridge"}})
    bridge.rules[LIST] = {"by": "bridge"}
    with trio.fail_after(100_000):
        async with trio.open_nursery() as nursery:
            client = Client(nursery)
            client.upstream = probing = Probing(
                modern,
                bridge if is_bridging else None,
                ids=jsonrpc.mint_ids(),
                nursery=nursery,
                emit=client.emit,
                **more,
            )
            here = World(probing, client, modern)
            here.bridge = bridge
            yield here
            nursery.cancel_scope.cancel()


async def test_a_discover_goes_out_as_it_came_and_settles_the_era(
    autojump_clock: MockClock,
) -> None:
    async with world() as here:
        probe = here.client.ask(DISCOVER, PARAMS)
        await here.client.done(probe)
        assert probe.result == FOUND
        call = here.client.ask(CALL, PARAMS)
        await here.client.done(call)
        assert call.result == {"by": "modern"}
        assert here.modern.seen == [probe.relayed.message, call.relayed.message]
        assert here.bridge.seen == []


LEGACY_ANSWERS: list[Any] = [
    {"supportedVersions": ["2025-11-25"]},
    {"code": -32601, "message": "Method not found"},
    {"code": -32600, "message": "no session"},
    {"tools": []},
    refused(400),
    refused(400, -32600),
    refused(404, -32601),
    refused(405),
    refused(422),
]


@pytest.mark.parametrize("answer", LEGACY_ANSWERS)
async def test_the_probe_of_an_older_server_is_refused(
    autojump_clock: MockClock, answer: Any
) -> None:
    """D-1: -32601, on which a client of both eras falls back; what comes without is bridged."""
    async with world(answer) as here:
        await here.client.done(probe := here.client.ask(DISCOVER, PARAMS))
        assert probe.answer["error"]["code"] == -32601
        assert here.bridge.seen == []
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert call.result == {"by": "bridge"}
        assert here.modern.methods() == [DISCOVER]


async def test_a_probe_is_bridged_where_that_is_wanted(autojump_clock: MockClock) -> None:
    async with world(refused(400), bridges_probes=True) as here:
        await here.client.done(probe := here.client.ask(DISCOVER, PARAMS))
        assert probe.result == {"by": "bridge"}
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert call.result == {"by": "bridge"}


async def test_nothing_crosses_where_that_is_switched_off(autojump_clock: MockClock) -> None:
    async with world(refused(400), is_bridging=False) as here:
        await here.client.done(probe := here.client.ask(DISCOVER, PARAMS))
        assert probe.answer["error"]["code"] == -32601
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert isinstance(call.failure, CannotBridge)
        assert call.failure.hint is not None
        assert "--bridge" in call.failure.hint


@pytest.mark.parametrize("code", [-32020, -32021, -32022])
async def test_a_modern_error_is_the_answer_to_the_probe(
    autojump_clock: MockClock, code: int
) -> None:
    async with world(refused(400, code)) as here:
        await here.client.done(probe := here.client.ask(DISCOVER, PARAMS))
        assert probe.answer["error"]["code"] == code
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert call.result == {"by": "modern"}
        assert here.modern.methods() == [DISCOVER, CALL]


@pytest.mark.parametrize(
    "accident",
    [
        Unreachable("nobody"),
        ConnectionLost("gone"),
        TimedOut("silent"),
        AuthorizationFailed("401", status=401),
        refused(500),
        refused(503),
        refused(429),
    ],
    ids=repr,
)
async def test_an_accident_decides_no_era(autojump_clock: MockClock, accident: Any) -> None:
    """D-D: it is reported, and the next request finds out."""
    async with world(accident) as here:
        await here.client.done(probe := here.client.ask(DISCOVER, PARAMS))
        assert probe.failure is not None
        assert here.probing.verdict is Verdict.UNKNOWN
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert call.failure is not None
        assert here.modern.methods() == [DISCOVER, DISCOVER]
        assert here.bridge.seen == []
        here.modern.rules[DISCOVER] = FOUND
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert call.result == {"by": "modern"}


async def test_a_request_without_discover_costs_one_of_our_own(autojump_clock: MockClock) -> None:
    """D-B, P4: its `_meta` is the client's; many requests share it, and leave in their order."""
    async with world([1.0, FOUND]) as here:
        calls = [here.client.ask(CALL, PARAMS | {"n": number}) for number in range(20)]
        await here.client.done(*calls)
        assert [call.result for call in calls] == 20 * [{"by": "modern"}]
        assert here.modern.methods() == [DISCOVER, *20 * [CALL]]
        probe = here.modern.seen[0]
        assert probe.params == {"_meta": META}
        assert [each.params["n"] for each in here.modern.seen[1:]] == list(range(20))


async def test_what_comes_when_the_era_is_known_overtakes_nothing_that_waited(
    autojump_clock: MockClock,
) -> None:
    """P4"""
    known = trio.Event()
    async with world([known, FOUND]) as here:
        calls = [here.client.ask(CALL, PARAMS | {"n": number}) for number in range(20)]
        await wait_all_tasks_blocked()
        known.set()
        while here.probing.verdict is Verdict.UNKNOWN:
            await trio.lowlevel.checkpoint()
        calls.append(here.client.ask(CALL, PARAMS | {"n": 20}))
        await here.client.done(*calls)
        assert [each.params["n"] for each in here.modern.seen[1:]] == list(range(21))


async def test_a_probe_of_our_own_says_who_we_are_if_the_client_does_not(
    autojump_clock: MockClock,
) -> None:
    async with world() as here:
        meta = {VERSION: "2026-07-28", CAPABILITIES: {}, "traceparent": "00-1-2-00"}
        await here.client.done(here.client.ask(CALL, {"_meta": meta}))
        sent = here.modern.seen[0].params["_meta"]
        assert sent.pop(INFO)["name"] == "mcp-stdio"
        assert sent == {VERSION: "2026-07-28", CAPABILITIES: {}}


async def test_requests_wait_for_the_clients_own_discover(autojump_clock: MockClock) -> None:
    async with world([3.0, FOUND]) as here:
        probe = here.client.ask(DISCOVER, PARAMS)
        await wait_all_tasks_blocked()
        calls = [here.client.ask(CALL, PARAMS) for _ in range(3)]
        await here.client.done(probe, *calls)
        assert here.modern.methods() == [DISCOVER, *3 * [CALL]]


async def test_a_server_that_never_answers_the_probe_is_tried_with_a_handshake(
    autojump_clock: MockClock,
) -> None:
    async with world(1e6) as here:
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert call.result == {"by": "bridge"}
        assert call.took == pytest.approx(PROBE_TIME)
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert (call.result, call.took) == ({"by": "bridge"}, 0)
        # A later discover tells more.
        here.modern.rules[DISCOVER] = FOUND
        await here.client.done(probe := here.client.ask(DISCOVER, PARAMS))
        assert probe.result == FOUND
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert call.result == {"by": "modern"}


async def test_a_discover_still_pending_is_refused_once_hands_are_shaken(
    autojump_clock: MockClock,
) -> None:
    async with world(1e6) as here:
        probe = here.client.ask(DISCOVER, PARAMS)
        await trio.sleep(10)
        here.probing.hasten()
        await here.client.done(probe)
        assert probe.answer["error"]["code"] == -32601
        assert probe.took == pytest.approx(10 + LATE_PROBE)
        assert here.modern.cancelled == [probe.relayed.message]
        assert here.probing.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("method", [LIST, CALL])
async def test_a_server_that_is_not_modern_any_more(autojump_clock: MockClock, method: str) -> None:
    """D-E; a call is not sent again, since nothing proves that it did not run (P2)."""
    async with world() as here:
        await here.client.done(here.client.ask(DISCOVER, PARAMS))
        here.modern.rules |= {DISCOVER: refused(404), method: {"code": -32600, "message": "?"}}
        await here.client.done(asked := here.client.ask(method, PARAMS))
        if method == LIST:
            assert asked.result == {"by": "bridge"}
        else:
            assert asked.answer["error"]["code"] == -32600
        await here.client.done(asked := here.client.ask(method, PARAMS))
        assert asked.result == {"by": "bridge"}


async def test_a_server_that_has_become_modern(autojump_clock: MockClock) -> None:
    async with world(refused(404)) as here:
        await here.client.done(here.client.ask(DISCOVER, PARAMS))
        here.modern.rules[DISCOVER] = FOUND
        here.bridge.rules[CALL] = {"code": -32022, "message": "?"}
        await here.client.done(asked := here.client.ask(CALL, PARAMS))
        assert asked.result == {"by": "modern"}


async def test_what_the_user_says_of_the_server_is_not_doubted(autojump_clock: MockClock) -> None:
    async with world(verdict=Verdict.LEGACY, is_certain=True) as here:
        await here.client.done(probe := here.client.ask(DISCOVER, PARAMS))
        assert probe.answer["error"]["code"] == -32601
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert call.result == {"by": "bridge"}
        assert here.modern.seen == []
    async with world(refused(404), verdict=Verdict.MODERN, is_certain=True) as here:
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert call.result == {"by": "modern"}
        await here.client.done(probe := here.client.ask(DISCOVER, PARAMS))
        assert probe.failure is not None
        here.modern.rules[CALL] = {"code": -32600, "message": "?"}
        await here.client.done(call := here.client.ask(CALL, PARAMS))
        assert call.answer["error"]["code"] == -32600
        assert here.bridge.seen == []


async def test_what_expects_no_answer_goes_to_who_serves_the_client(
    autojump_clock: MockClock,
) -> None:
    async with world() as here:
        await here.client.done(here.client.tell("notifications/x"))
        assert here.modern.seen == []
        await here.client.done(here.client.ask(DISCOVER, PARAMS))
        await here.client.done(here.client.tell("notifications/x"), here.client.reply("y"))
        assert here.modern.methods() == [DISCOVER, "notifications/x"]
    async with world(refused(404)) as here:
        await here.client.done(here.client.ask(DISCOVER, PARAMS))
        await here.client.done(here.client.tell("notifications/x"), here.client.reply("y"))
        assert here.bridge.methods() == ["notifications/x"]
    async with world(refused(404), is_bridging=False) as here:
        await here.client.done(here.client.ask(DISCOVER, PARAMS))
        await here.client.done(here.client.tell("notifications/x"))
        assert here.modern.methods() == [DISCOVER]
