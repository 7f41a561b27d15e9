"""Clients that shake hands: who accepts their `initialize`, and who takes over (D-A, D-D, D-E)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc
from mcp_stdio.era import candidates
from mcp_stdio.era.handshaking import Handshaking
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    CannotBridge,
    ConnectionLost,
    RelayError,
    TimedOut,
    Unreachable,
)
from mcp_stdio.upstream.on_demand import OnDemand
from tests.era.fakes import FakeUpstream, refused
from tests.upstream.fakes import Client

INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
ACCEPTED: dict[str, Any] = {"protocolVersion": "2025-06-18", "capabilities": {}}
INITIALIZED = "notifications/initialized"
CALL = "tools/call"
LIST = "tools/list"


class World:
    """A client, and the three ways to serve it."""

    def __init__(self, session: FakeUpstream, bridge: FakeUpstream, sse: FakeUpstream) -> None:
        self.session = session
        self.bridge = bridge
        self.sse = sse
        self.made: list[str] = []
        self.handshaking: Handshaking
        self.client: Client

    def tried(self) -> list[str]:
        ways = {"session": self.session, "bridge": self.bridge, "sse": self.sse}
        return [name for name, way in ways.items() if "initialize" in way.methods()]

    async def shake_hands(self) -> Any:
        asked = self.client.ask("initialize", INITIALIZE)
        await self.client.done(asked)
        await self.client.done(self.client.tell(INITIALIZED))
        return asked


@asynccontextmanager
async def world(
    session: FakeUpstream | None = None,
    bridge: FakeUpstream | None = None,
    sse: FakeUpstream | None = None,
) -> AsyncIterator[World]:
    """Without a rule of the test: a session that accepts, and two ways that refuse."""
    here = World(
        session or FakeUpstream("2025-06-18", initialize=ACCEPTED),
        bridge or FakeUpstream("2025-06-18", initialize=CannotBridge("not modern")),
        sse or FakeUpstream("2024-11-05", initialize=BadAnswer("no event stream")),
    )

    def made(name: str, upstream: FakeUpstream) -> FakeUpstream:
        here.made.append(name)
        return upstream

    async with trio.open_nursery() as nursery:
        here.client = Client(nursery)
        here.client.upstream = here.handshaking = Handshaking(
            [
                candidates.streamable_http(OnDemand(lambda: made("session", here.session))),
                candidates.bridged(OnDemand(lambda: made("bridge", here.bridge))),
                candidates.http_sse(OnDemand(lambda: made("sse", here.sse))),
            ],
            ids=jsonrpc.mint_ids(),
            nursery=nursery,
            emit=here.client.emit,
        )
        yield here
        nursery.cancel_scope.cancel()


async def test_who_accepts_is_all_that_is_made(autojump_clock: MockClock) -> None:
    async with world() as here:
        asked = await here.shake_hands()
        assert asked.result == ACCEPTED
        assert here.handshaking.version == "2025-06-18"
        assert here.handshaking.is_native
        await here.client.done(here.client.ask(CALL))
        assert here.made == ["session"]
        assert here.session.methods() == ["initialize", INITIALIZED, CALL]
        assert here.session.seen[0] is asked.relayed.message  # as it came


@pytest.mark.parametrize(
    "refusal, tried",
    [
        (refused(400), ["session", "bridge", "sse"]),
        (refused(404), ["session", "bridge", "sse"]),
        (refused(405), ["session", "bridge", "sse"]),
        (refused(400, -32600), ["session", "bridge", "sse"]),
        (refused(400, -32022), ["session", "bridge"]),
        (refused(406), ["session", "bridge"]),
        (refused(422), ["session", "bridge"]),
        ({"code": -32602, "message": "no"}, ["session", "bridge"]),
        (refused(500), ["session"]),
        (refused(503), ["session"]),
        (refused(429), ["session"]),
        (AuthorizationFailed("401", status=401), ["session"]),
        (AuthorizationFailed("403", status=403), ["session"]),
        (Unreachable("nobody"), ["session"]),
        (ConnectionLost("gone"), ["session"]),
        (TimedOut("silent"), ["session"]),
        (BadAnswer("HTML"), ["session"]),
    ],
)
async def test_what_is_tried_after_which_refusal(
    autojump_clock: MockClock, refusal: Any, tried: list[str]
) -> None:
    """D-A; an accident decides nothing (D-D)."""
    async with world(FakeUpstream(initialize=refusal)) as here:
        asked = here.client.ask("initialize", INITIALIZE)
        await here.client.done(asked)
        assert here.tried() == tried
        # Where nobody accepts, the client gets the first answer: it is about its own request.
        match refusal:
            case RelayError():
                assert asked.failure is refusal
            case dict():
                assert asked.answer["error"] == refusal
            case _:
                first = refusal(asked.relayed.message)
                if first.answer is None:
                    assert isinstance(asked.failure, RelayError)
                    assert asked.failure.status == first.status
                else:
                    assert asked.answer == first.answer.body


async def test_a_modern_server_is_bridged(autojump_clock: MockClock) -> None:
    bridge = FakeUpstream("2025-06-18", initialize=ACCEPTED)
    async with world(FakeUpstream(initialize=refused(400, -32022)), bridge) as here:
        assert (await here.shake_hands()).result == ACCEPTED
        await here.client.done(here.client.ask(CALL))
        assert here.bridge.methods() == ["initialize", INITIALIZED, CALL]
        assert here.session.methods() == ["initialize"]
        assert here.sse.seen == []
        assert not here.handshaking.is_native


async def test_an_old_endpoint_is_found(autojump_clock: MockClock) -> None:
    sse = FakeUpstream("2024-11-05", initialize=ACCEPTED)
    async with world(FakeUpstream(initialize=refused(405)), sse=sse) as here:
        assert (await here.shake_hands()).result == ACCEPTED
        await here.client.done(here.client.ask(CALL))
        assert here.sse.methods() == ["initialize", INITIALIZED, CALL]


async def test_what_a_modern_server_says_to_the_bridge_is_the_answer(
    autojump_clock: MockClock,
) -> None:
    unsupported = {"supported": ["2031-01-01"], "requested": "2026-07-28"}
    bridge = FakeUpstream(initialize={"code": -32602, "message": "v", "data": unsupported})
    async with world(FakeUpstream(initialize=refused(400)), bridge) as here:
        asked = here.client.ask("initialize", INITIALIZE)
        await here.client.done(asked)
        assert asked.answer["error"]["data"] == unsupported
        assert here.sse.seen == []


async def test_a_discovery_that_wants_a_credential_says_so(autojump_clock: MockClock) -> None:
    """A server that refuses `initialize` before it asks who is there."""
    wanted = AuthorizationFailed("401", status=401)
    async with world(
        FakeUpstream(initialize=refused(405)), FakeUpstream(initialize=wanted)
    ) as here:
        await here.client.done(asked := here.client.ask("initialize", INITIALIZE))
        assert asked.failure is wanted
        assert here.sse.seen == []


@pytest.mark.parametrize("failure", [Unreachable("nobody"), TimedOut("silent"), refused(503)])
async def test_a_discovery_that_fails_by_accident_proves_nothing(
    autojump_clock: MockClock, failure: Any
) -> None:
    session = FakeUpstream(initialize=refused(405))
    async with world(session, FakeUpstream(initialize=failure)) as here:
        asked = here.client.ask("initialize", INITIALIZE)
        await here.client.done(asked)
        assert asked.failure is not None
        assert asked.failure.status == 405
        assert here.sse.seen == []
        # The next one begins anew, and finds what there is then.
        here.bridge.rules["initialize"] = ACCEPTED
        assert (await here.shake_hands()).result == ACCEPTED


async def test_messages_wait_for_the_handshake_in_their_order(autojump_clock: MockClock) -> None:
    session = FakeUpstream(initialize=[2.0, refused(400)])
    bridge = FakeUpstream(initialize=[2.0, ACCEPTED])
    async with world(session, bridge) as here:
        asked = [here.client.ask("initialize", INITIALIZE), here.client.ask("ping")]
        asked += [here.client.tell(INITIALIZED)]
        asked += [here.client.ask(CALL, {"n": number}) for number in range(50)]
        await here.client.done(asked[1])
        assert (asked[1].result, asked[1].took) == ({}, 0)  # S-9
        await here.client.done(*asked)
        assert here.bridge.methods() == ["initialize", INITIALIZED] + 50 * [CALL]
        assert [each.params["n"] for each in here.bridge.seen[2:]] == list(range(50))


async def test_an_initialize_that_failed_by_accident_is_played_again(
    autojump_clock: MockClock,
) -> None:
    session = FakeUpstream("2025-06-18", initialize=[1.0, Unreachable("nobody")])
    async with world(session) as here:
        asked = here.client.ask("initialize", INITIALIZE)
        await here.client.done(asked)
        assert isinstance(asked.failure, Unreachable)
        failing = [here.client.ask(CALL) for _ in range(3)]
        await here.client.done(*failing)
        assert all(isinstance(each.failure, Unreachable) for each in failing)
        assert here.session.methods() == 2 * ["initialize"]  # one for all three

        here.session.rules["initialize"] = [1.0, ACCEPTED]
        calls = [here.client.ask(CALL, {"n": number}) for number in range(20)]
        await here.client.done(*calls)
        assert [each.result for each in calls] == 20 * [{}]
        assert here.session.methods()[2:] == ["initialize", INITIALIZED, *20 * [CALL]]
        assert [each.params["n"] for each in here.session.seen[4:]] == list(range(20))  # P4
        again = here.session.seen[2]
        assert again.params == INITIALIZE
        assert again.id != asked.relayed.message.id
        assert here.handshaking.version == "2025-06-18"


async def test_nothing_is_open_for_what_expects_no_answer(autojump_clock: MockClock) -> None:
    async with world(FakeUpstream(initialize=Unreachable("nobody"))) as here:
        await here.client.done(here.client.ask("initialize", INITIALIZE))
        await here.client.done(here.client.tell(INITIALIZED), here.client.reply("x"))
        assert here.session.methods() == ["initialize"]
        await here.client.done(here.client.tell("notifications/roots/list_changed"))
        assert here.session.methods() == 2 * ["initialize"]


async def test_a_second_initialize_asks_who_accepted_first(autojump_clock: MockClock) -> None:
    """Q-20."""
    bridge = FakeUpstream("2025-06-18", initialize=ACCEPTED)
    async with world(FakeUpstream(initialize=refused(400)), bridge) as here:
        await here.shake_hands()
        await here.shake_hands()
        assert here.session.methods() == ["initialize"]
        assert here.bridge.methods() == 2 * ["initialize", INITIALIZED]


@pytest.mark.parametrize("code, method", [(-32022, CALL), (-32022, LIST), (-32020, LIST)])
async def test_a_server_that_has_become_modern(
    autojump_clock: MockClock, method: str, code: int
) -> None:
    """D-E: healed within the request, a call included, since such an error says it did not run."""
    bridge = FakeUpstream("2025-06-18", initialize=ACCEPTED, **{method: {"by": "bridge"}})
    async with world(bridge=bridge) as here:
        await here.shake_hands()
        here.session.rules[method] = {"code": code, "message": "modern"}
        asked = [here.client.ask(method) for _ in range(3)]
        await here.client.done(*asked)
        assert [each.result for each in asked] == 3 * [{"by": "bridge"}]
        assert here.bridge.methods() == ["initialize", INITIALIZED, *3 * [method]]
        assert not here.handshaking.is_native


async def test_a_server_that_has_become_one_of_the_handshake_era(
    autojump_clock: MockClock,
) -> None:
    bridge = FakeUpstream("2025-06-18", initialize=ACCEPTED)
    session = FakeUpstream("2025-06-18", initialize=refused(400), **{LIST: {"by": "session"}})
    async with world(session, bridge) as here:
        await here.shake_hands()
        here.session.rules["initialize"] = ACCEPTED
        for method in (CALL, LIST):
            here.bridge.rules[method] = {"code": -32000, "message": "no session"}
        asked = here.client.ask(CALL)
        await here.client.done(asked)
        assert asked.answer["error"]["code"] == -32000  # it may have run: never twice
        assert here.session.methods() == ["initialize", "initialize", INITIALIZED]
        await here.client.done(listed := here.client.ask(LIST))
        assert listed.result == {"by": "session"}


@pytest.mark.parametrize("code", [-32020, -32021])
async def test_a_session_that_wants_headers_or_a_capability_stays(
    autojump_clock: MockClock, code: int
) -> None:
    """Design 4: the era stays, also where the server knows both."""
    async with world(bridge=FakeUpstream("2025-06-18", initialize=ACCEPTED)) as here:
        await here.shake_hands()
        here.session.rules[CALL] = {"code": code, "message": "wanting"}
        await here.client.done(asked := here.client.ask(CALL))
        assert asked.answer["error"]["code"] == code
        assert here.bridge.seen == []


async def test_what_was_in_force_is_carried_over(autojump_clock: MockClock) -> None:
    """Nothing is hidden: log level and subscriptions go along, and changes may have been missed."""
    known = {"tools": {"listChanged": True}, "prompts": {"listChanged": False}, "logging": {}}
    session = FakeUpstream("2025-06-18", initialize=ACCEPTED | {"capabilities": known})
    async with world(session, FakeUpstream("2025-06-18", initialize=ACCEPTED)) as here:
        await here.shake_hands()
        setting = [("logging/setLevel", {"level": "debug"}), ("resources/subscribe", {"uri": "a"})]
        setting += [("resources/subscribe", {"uri": "b"}), ("resources/unsubscribe", {"uri": "b"})]
        for method, params in setting:
            await here.client.done(here.client.ask(method, params))
        here.session.rules[LIST] = {"code": -32022, "message": "modern"}
        await here.client.done(here.client.ask(LIST))
        sent = [(each.method, dict(each.params)) for each in here.bridge.seen]
        assert sent[2:] == [*setting[:2], (LIST, {})]
        assert [(each.method, dict(each.params)) for each in here.client.emitted] == [
            ("notifications/tools/list_changed", {}),
            ("notifications/resources/updated", {"uri": "a"}),
        ]


async def test_an_odd_answer_is_looked_at_once_in_a_while(autojump_clock: MockClock) -> None:
    async with world() as here:
        await here.shake_hands()
        here.session.rules[CALL] = {"code": -32022, "message": "odd"}
        for _ in range(5):
            await here.client.done(asked := here.client.ask(CALL))
            assert asked.answer["error"]["code"] == -32022
        assert here.bridge.methods() == ["initialize"]
        await trio.sleep(60)
        await here.client.done(here.client.ask(CALL))
        assert here.bridge.methods() == 2 * ["initialize"]
        assert here.session.methods().count("initialize") == 1  # the session in use is left alone
        assert here.handshaking.is_native


async def test_a_withdrawn_call_is_withdrawn_below(autojump_clock: MockClock) -> None:
    async with world(FakeUpstream(initialize=ACCEPTED, **{CALL: 1000.0})) as here:
        await here.shake_hands()
        asked = here.client.ask(CALL)
        await wait_all_tasks_blocked()
        here.client.cancel(asked)
        await here.client.done(asked)
        assert here.session.cancelled == [asked.relayed.message]


async def test_farewell_and_waking_reach_all_that_was_made(autojump_clock: MockClock) -> None:
    bridge = FakeUpstream("2025-06-18", initialize=ACCEPTED)
    async with world(FakeUpstream(initialize=refused(400)), bridge) as here:
        await here.shake_hands()
        here.handshaking.refresh()
        await here.handshaking.aclose()
        assert [each.refreshed for each in (here.session, here.bridge, here.sse)] == [1, 1, 0]
        assert [each.closed for each in (here.session, here.bridge, here.sse)] == [1, 1, 0]
