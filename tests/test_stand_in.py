"""Answers in the server's place while nobody has signed in (design.md, Sign-in)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc
from mcp_stdio.assembly import assemble
from mcp_stdio.config import Config
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    RelayError,
    SignInPending,
    TimedOut,
    Unreachable,
)
from mcp_stdio.jsonrpc import Message
from mcp_stdio.stand_in import StandIn
from mcp_stdio.upstream import Call, Upstream
from tests.era.fakes import FakeUpstream, Rule, Step
from tests.upstream.fakes import (
    URL,
    Asked,
    Client,
    Reply,
    Seen,
    Server,
    error,
    events,
    note,
    result,
)
from tests.upstream.modern import params

PAGE = "http://sign-in.example/authorize?client_id=c&state=s"
CALL = "tools/call"
INITIALIZED = "notifications/initialized"
LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
INITIALIZE: dict[str, Any] = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"roots": {}},
    "clientInfo": {"name": "test", "version": "1"},
}
ACCEPTED: dict[str, Any] = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}, "resources": {}},
}


def in_turn(*answers: Step) -> Step:
    """One answer after the other; the last one stays."""
    rest = list(answers)

    def next_one(message: Message) -> Any:
        answer = rest.pop(0) if len(rest) > 1 else rest[0]
        return answer(message) if callable(answer) else answer

    return next_one


def pending_first(*then: Step, **rules: Rule) -> FakeUpstream:
    """An upstream whose first `initialize` meets a sign-in; `then` becomes of later ones."""
    return FakeUpstream(
        "2025-06-18",
        **{"initialize": in_turn(SignInPending(PAGE), *(then or [ACCEPTED]))} | rules,
    )


class SignIn:
    """What the stand-in asks: waits for `come`, or fails with `failure`; then for `elsewhere`."""

    def __init__(self) -> None:
        self.come = trio.Event()
        self.elsewhere = trio.Event()
        self.failure: Exception | None = None
        self.waiting = 0
        self.asked = 0

    async def signed_in(self) -> None:
        self.asked += 1
        self.waiting += 1
        try:
            await self.come.wait()
        finally:
            self.waiting -= 1
        if self.failure is not None:
            raise self.failure

    async def signed_in_elsewhere(self) -> None:
        self.waiting += 1
        try:
            await self.elsewhere.wait()
        finally:
            self.waiting -= 1

    def fail(self, failure: Exception) -> None:
        """This attempt comes to nothing; the next one is waited for."""
        self.failure = failure
        self.come.set()

    def begin_anew(self) -> None:
        self.failure, self.come = None, trio.Event()


class World:
    """A client, the stand-in, and what is behind it."""

    def __init__(self, client: Client, sign_in: SignIn, nursery: trio.Nursery) -> None:
        self.client = client
        self.sign_in = sign_in
        self.nursery = nursery

    def ask(self, method: str, params: Any = None) -> Asked:
        return self.client.ask(method, params)

    async def answer(self, method: str, params: Any = None) -> Asked:
        asked = self.ask(method, params)
        await self.client.done(asked)
        return asked

    async def shake_hands(self, **changed: Any) -> Asked:
        asked = await self.answer("initialize", INITIALIZE | changed)
        await self.client.done(self.client.tell(INITIALIZED))
        return asked

    def told(self) -> list[str]:
        """What the client was told that belongs to no request."""
        return [message.method for message in self.client.emitted]

    async def sign_in_is_done(self) -> None:
        self.sign_in.come.set()
        await wait_all_tasks_blocked()


@asynccontextmanager
async def world(
    upstream: Upstream | None = None, server: Server | None = None
) -> AsyncIterator[World]:
    """A stand-in around an upstream, or around all that a relay has in front of a server."""
    with trio.fail_after(100_000):
        async with trio.open_nursery() as nursery:
            here = World(Client(nursery), SignIn(), nursery)
            if server is not None:
                config = Config(url=str(URL))
                upstream = assemble(config, server, nursery, here.client.emit)
            assert upstream is not None
            here.client.upstream = StandIn(
                upstream,
                ids=(f"own-{number}" for number in itertools.count(1)),
                nursery=nursery,
                emit=here.client.emit,
                server_name="server.example",
                sign_in=here.sign_in,
            )
            yield here
            nursery.cancel_scope.cancel()


# Without a sign-in


async def test_all_passes_through_where_no_sign_in_is_met(autojump_clock: MockClock) -> None:
    upstream = FakeUpstream("2025-06-18", initialize=ACCEPTED, **{CALL: {"by": "server"}})
    async with world(upstream) as here:
        messages = [
            jsonrpc.request(1, "initialize", INITIALIZE),
            jsonrpc.notification(INITIALIZED),
            jsonrpc.request("2", "tools/list"),
            jsonrpc.request(3, "ping"),
            jsonrpc.result(4, {}),
            jsonrpc.request(5, CALL, {"name": "x"}),
        ]
        for message in messages:
            asked = here.client.put(message)
            await here.client.done(asked)
        assert asked.result == {"by": "server"}
        assert here.client.upstream.version == "2025-06-18"
    assert [message.raw for message in upstream.seen] == [message.raw for message in messages]
    assert here.sign_in.asked == 0


@pytest.mark.parametrize("failure", [Unreachable("x"), AuthorizationFailed("403"), BadAnswer("x")])
async def test_another_failure_of_initialize_is_not_its_business(failure: RelayError) -> None:
    async with world(FakeUpstream(initialize=failure)) as here:
        assert (await here.answer("initialize", INITIALIZE)).failure is failure
        assert (await here.answer("tools/list")).result == {}


async def test_a_sign_in_met_in_mid_session_is_not_its_business() -> None:
    pending = SignInPending(PAGE)
    upstream = FakeUpstream(initialize=ACCEPTED, **{CALL: pending, "tools/list": pending})
    async with world(upstream) as here:
        await here.shake_hands()
        assert (await here.answer(CALL, {"name": "x"})).failure is pending
        assert (await here.answer("tools/list")).failure is pending


@pytest.mark.parametrize("is_waiting", [False, True])
async def test_the_stateless_era_is_not_its_business(is_waiting: bool) -> None:
    pending = SignInPending(PAGE)
    rules: dict[str, Rule] = {"server/discover": pending, "tools/list": {"by": "server"}}
    upstream = pending_first(**rules)
    async with world(upstream) as here:
        if is_waiting:
            await here.shake_hands()
        assert (await here.answer("server/discover", params())).failure is pending
        assert (await here.answer("tools/list", params())).result == {"by": "server"}


async def test_what_comes_behind_initialize_waits_for_its_answer_and_no_longer() -> None:
    """The order of reading holds (P4), and a ping is not held up."""
    proceed = trio.Event()
    upstream = FakeUpstream(initialize=[proceed, ACCEPTED])
    async with world(upstream) as here:
        opening = here.ask("initialize", INITIALIZE)
        here.client.tell(INITIALIZED)
        calls = [here.ask(CALL, {"name": str(number)}) for number in range(20)]
        await here.answer("ping")
        await here.client.done(here.client.reply(1))
        assert upstream.methods() == ["initialize", "ping", "response"]
        here.client.slowness = 1000  # a client that is slow to read does not delay the server
        proceed.set()
        await wait_all_tasks_blocked()
        assert not opening.over.is_set()
        sent = [message.id for message in upstream.seen if message.method == CALL]
        assert sent == [call.relayed.message.id for call in calls]
        assert upstream.methods()[3] == INITIALIZED


# Nobody has signed in


@pytest.mark.parametrize(
    "asked, told",
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("2019-01-01", "2025-11-25"),
        (None, "2025-11-25"),
        ([], "2025-11-25"),
    ],
)
async def test_initialize_is_answered_in_the_servers_place(asked: Any, told: str) -> None:
    async with world(pending_first()) as here:
        opening = await here.shake_hands(protocolVersion=asked)
        assert opening.result | {"instructions": ""} == {
            "protocolVersion": told,
            "capabilities": {
                "tools": {"listChanged": True},
                "prompts": {"listChanged": True},
                "resources": {"listChanged": True},
            },
            "serverInfo": {"name": "server.example", "version": "unknown"},
            "instructions": "",
        }
        assert PAGE in opening.result["instructions"]
        assert here.client.upstream.version == told


async def test_where_to_sign_in_may_not_be_known() -> None:
    async with world(FakeUpstream(initialize=SignInPending(""))) as here:
        opening = await here.shake_hands()
        assert opening.result["instructions"].endswith("signed in in the window that opens for it")


async def test_requests_are_answered_while_nobody_has_signed_in(autojump_clock: MockClock) -> None:
    upstream = pending_first()
    async with world(upstream) as here:
        await here.shake_hands()
        for method, items in LISTS.items():
            assert (await here.answer(method, {"cursor": "x"})).result == {items: []}
        assert (await here.answer("ping")).result == {}
        assert (await here.answer("logging/setLevel", {"level": "info"})).result == {}
        for method in (CALL, "prompts/get", "resources/subscribe", "completion/complete", "own/x"):
            failure = (await here.answer(method, {"name": "x"})).failure
            assert isinstance(failure, SignInPending)
            assert failure.url == PAGE
        await here.client.done(here.client.tell("notifications/roots/list_changed"))
        await here.client.done(here.client.reply(7))
        await trio.sleep(10_000)
        assert here.told() == []
    assert upstream.methods() == ["initialize"]


async def test_what_was_sent_right_behind_initialize_is_answered_after_it() -> None:
    proceed = trio.Event()
    pending = SignInPending(PAGE)
    upstream = FakeUpstream(initialize=[proceed, pending])
    async with world(upstream) as here:
        opening = here.ask("initialize", INITIALIZE)
        initialized = here.client.tell(INITIALIZED)
        listing, call = here.ask("tools/list"), here.ask(CALL, {"name": "x"})
        await wait_all_tasks_blocked()
        proceed.set()
        await here.client.done(opening, initialized, listing, call)
        assert opening.result["protocolVersion"] == "2025-06-18"
        assert listing.result == {"tools": []}
        assert isinstance(call.failure, SignInPending)
    assert upstream.methods() == ["initialize"]


async def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    upstream = pending_first()
    async with world(upstream) as here:
        await here.shake_hands()
        await wait_all_tasks_blocked()
        assert here.sign_in.waiting == 1
        here.client.upstream.refresh()
        await here.client.upstream.aclose()
        await wait_all_tasks_blocked()
        assert here.sign_in.waiting == 0
        assert here.nursery.child_tasks == frozenset()
    assert (upstream.refreshed, upstream.closed) == (1, 1)


async def test_a_client_that_leaves_ends_the_attempts_to_shake_hands(
    autojump_clock: MockClock,
) -> None:
    async with world(pending_first(Unreachable("x"))) as here:
        await here.shake_hands()
        await here.sign_in_is_done()
        assert here.nursery.child_tasks != frozenset()
        await here.client.upstream.aclose()
        await wait_all_tasks_blocked()
        assert here.nursery.child_tasks == frozenset()


# Somebody signs in


async def test_the_handshake_is_made_when_somebody_has_signed_in() -> None:
    upstream = pending_first(**{CALL: {"by": "server"}})
    async with world(upstream) as here:
        await here.shake_hands(capabilities={"sampling": {"x": 1.50}})
        await here.answer("logging/setLevel", {"level": "info"})
        await here.answer("logging/setLevel", {"level": "debug"})
        await here.sign_in_is_done()
        first, again, initialized, level = upstream.seen
        assert again.params == first.params
        assert (again.id, level.id) == ("own-1", "own-2")
        assert initialized.method == INITIALIZED
        assert (level.method, level.params) == ("logging/setLevel", {"level": "debug"})
        # Only of what the server has.
        assert here.told() == [
            "notifications/tools/list_changed",
            "notifications/resources/list_changed",
        ]
        assert (await here.answer(CALL, {"name": "x"})).result == {"by": "server"}
        assert (await here.answer("tools/list")).result == {}
        assert (await here.answer("ping")).result == {}
        await here.client.done(here.client.reply(7), here.client.tell("notifications/x"))
    assert upstream.methods()[4:] == [CALL, "tools/list", "ping", "response", "notifications/x"]
    assert here.sign_in.waiting == 0


async def test_in_doubt_the_client_looks_again_for_everything() -> None:
    async with world(pending_first({"protocolVersion": "2025-06-18"})) as here:
        await here.shake_hands()
        await here.sign_in_is_done()
        assert here.told() == [
            f"notifications/{name}/list_changed" for name in ("tools", "prompts", "resources")
        ]


async def test_what_the_client_was_not_told_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    capabilities = {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True, "listChanged": False},
        "logging": {},
    }
    real = {"protocolVersion": "2025-03-26", "capabilities": capabilities, "instructions": "x"}
    async with world(pending_first(real)) as here:
        await here.shake_hands()
        await here.sign_in_is_done()
        assert here.client.upstream.version == "2025-06-18"  # what it was told
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        "the server speaks 2025-03-26, and the client was told 2025-06-18 before the sign-in",
        (
            "the client was not told before the sign-in of: resources.subscribe, logging, "
            "instructions; it is when it connects again"
        ),
    ]


async def test_nothing_is_logged_of_a_server_that_is_as_promised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world(pending_first()) as here:
        await here.shake_hands()
        await here.sign_in_is_done()
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


async def test_what_the_server_says_meanwhile_reaches_the_client() -> None:
    class Talking(FakeUpstream):
        async def send(self, message: Message, call: Call) -> None:
            if message.id == "own-1":
                await call.emit(jsonrpc.notification("notifications/message", {"data": "hello"}))
                await call.emit(jsonrpc.request(1, "ping"))
            await super().send(message, call)

    proceed = trio.Event()
    accepted: list[Step] = [proceed, ACCEPTED]
    upstream = Talking(initialize=SignInPending(PAGE))
    async with world(upstream) as here:
        await here.shake_hands()
        upstream.rules["initialize"] = accepted
        await here.sign_in_is_done()
        assert here.told() == ["notifications/message", "ping"]
        await here.client.done(here.client.reply(1))
        assert upstream.methods() == ["initialize", "initialize", "response"]


async def test_messages_wait_for_the_handshake_in_their_order() -> None:
    """P4; only a ping is answered meanwhile."""
    proceed = trio.Event()
    upstream = FakeUpstream(initialize=SignInPending(PAGE))
    async with world(upstream) as here:
        await here.shake_hands()
        upstream.rules["initialize"] = [proceed, ACCEPTED]
        await here.sign_in_is_done()
        calls = [here.ask(CALL, {"name": str(number)}) for number in range(20)]
        note = here.client.tell("notifications/roots/list_changed")
        last = here.ask("logging/setLevel", {"level": "info"})
        await here.answer("ping")
        await wait_all_tasks_blocked()
        assert upstream.methods() == ["initialize", "initialize"]
        here.client.cancel(calls[3])
        await here.client.done(calls[3])
        proceed.set()
        late = here.ask("prompts/get")
        await here.client.done(*calls, note, last, late)
        expected = [call.relayed.message for call in calls if call is not calls[3]]
        expected += [each.relayed.message for each in (note, last, late)]
        assert upstream.seen[3:] == expected
        assert calls[0].result == {}


class Crowded(FakeUpstream):
    """Has no connection for a call until there is `room`, and keeps the others behind it."""

    def __init__(self, *answers: Step) -> None:
        super().__init__("2025-06-18", initialize=in_turn(SignInPending(PAGE), *answers))
        self.room = trio.Event()

    async def send(self, message: Message, call: Call) -> None:
        if message.method == CALL:
            await call.turn.come()
            await self.room.wait()
        await super().send(message, call)


async def test_nothing_overtakes_what_waits_for_its_turn() -> None:
    """P4."""
    upstream = Crowded(ACCEPTED)
    async with world(upstream) as here:
        await here.shake_hands()
        proceed = trio.Event()
        upstream.rules["initialize"] = [proceed, ACCEPTED]
        await here.sign_in_is_done()
        asked = [here.ask(CALL, {"name": "x"}), here.ask("tools/list")]
        await wait_all_tasks_blocked()
        proceed.set()
        await wait_all_tasks_blocked()
        asked.append(here.ask("prompts/list"))
        await wait_all_tasks_blocked()
        upstream.room.set()
        await here.client.done(*asked)
    assert upstream.seen[3:] == [each.relayed.message for each in asked]


async def test_what_waits_for_its_turn_hears_of_a_new_beginning() -> None:
    """Q-20."""
    upstream = Crowded()
    async with world(upstream) as here:
        await here.shake_hands()
        proceed = trio.Event()
        upstream.rules["initialize"] = [proceed, ACCEPTED]
        await here.sign_in_is_done()
        call, listing = here.ask(CALL, {"name": "x"}), here.ask("tools/list")
        await wait_all_tasks_blocked()
        proceed.set()
        await wait_all_tasks_blocked()
        here.sign_in.begin_anew()
        answers = trio.Event()
        upstream.rules["initialize"] = [answers, SignInPending(PAGE)]
        again = here.ask("initialize", INITIALIZE)
        await wait_all_tasks_blocked()
        upstream.room.set()
        await here.client.done(call)
        await wait_all_tasks_blocked()
        answers.set()
        await here.client.done(again, listing)
        assert listing.result == {"tools": []}


async def test_a_client_slow_to_read_an_answer_holds_up_nothing_behind_it() -> None:
    """P4."""

    class Refusing(FakeUpstream):
        async def send(self, message: Message, call: Call) -> None:
            if message.id == 1:
                raise SignInPending(PAGE)  # in turn
            await super().send(message, call)

    upstream = Refusing(initialize=ACCEPTED)
    async with world(upstream) as here:
        here.client.slowness = 1000
        here.client.ask("initialize", INITIALIZE, id=1)
        here.ask("server/discover")
        await wait_all_tasks_blocked()
        assert upstream.methods() == ["server/discover"]
    upstream = Refusing(initialize=ACCEPTED)
    async with world(upstream) as here:
        await here.client.done(here.client.ask("initialize", INITIALIZE, id=1))
        await here.client.done(here.client.tell(INITIALIZED))
        here.client.slowness = 1000
        here.ask("ping")
        here.ask(CALL, {"name": "x"})
        await here.sign_in_is_done()
        here.ask("prompts/list")
        await wait_all_tasks_blocked()
        assert upstream.methods()[-1] == "prompts/list"


async def test_nothing_comes_to_a_client_that_has_not_said_initialized(
    autojump_clock: MockClock,
) -> None:
    """S-9; whoever never says it is served with the first request."""
    upstream = pending_first()
    async with world(upstream) as here:
        here.sign_in.come.set()
        await here.answer("initialize", INITIALIZE)
        await here.answer("ping")
        await trio.sleep(10_000)
        assert (upstream.methods(), here.told()) == (["initialize"], [])
        assert (await here.answer("tools/list")).result == {"tools": []}
        await wait_all_tasks_blocked()
        assert upstream.methods() == ["initialize", "initialize", INITIALIZED]
        assert here.told()[0] == "notifications/tools/list_changed"
        # The client's own comes too late: the server has had one.
        await here.client.done(here.client.tell(INITIALIZED))
        await here.answer(CALL, {"name": "x"})
    assert upstream.methods() == ["initialize", "initialize", INITIALIZED, CALL]


async def test_a_sign_in_that_is_done_while_initialize_is_answered_is_not_missed() -> None:
    upstream = pending_first()
    async with world(upstream) as here:
        here.client.slowness = 0.01
        opening = here.ask("initialize", INITIALIZE)
        initialized = here.client.tell(INITIALIZED)
        listing = here.ask("tools/list")
        here.sign_in.come.set()
        await here.client.done(opening, initialized, listing)
        await wait_all_tasks_blocked()
        assert opening.result["serverInfo"]["name"] == "server.example"
        assert len(opening.emitted) == len(listing.emitted) == 1
        assert "notifications/tools/list_changed" in here.told()
    assert upstream.methods().count(INITIALIZED) == 1


async def test_a_log_level_that_is_refused_is_no_reason_to_give_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream = pending_first(**{"logging/setLevel": {"code": -32601, "message": "no such thing"}})
    async with world(upstream) as here:
        await here.shake_hands()
        await here.answer("logging/setLevel", {"level": "info"})
        await here.sign_in_is_done()
        assert here.told() != []
    assert "no such thing" in caplog.text


# The handshake fails


async def test_a_refused_handshake_is_tried_again_with_the_next_message(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = {"code": -32000, "message": "not you"}
    upstream = pending_first(refusal, AuthorizationFailed("403"), ACCEPTED)
    async with world(upstream) as here:
        await here.shake_hands()
        await here.sign_in_is_done()
        await trio.sleep(10_000)
        assert upstream.methods() == ["initialize", "initialize"]
        assert "not you" in caplog.text
        one, other = here.ask(CALL, {"name": "1"}), here.ask(CALL, {"name": "2"})
        await here.client.done(one, other)
        assert upstream.methods().count("initialize") == 3  # for both of them
        assert isinstance(one.failure, AuthorizationFailed)
        assert one.failure is other.failure
        assert (await here.answer("ping")).result == {}
        assert upstream.methods().count("initialize") == 3
        assert (await here.answer(CALL, {"name": "x"})).result == {}
        assert len(here.told()) == 2


@pytest.mark.parametrize("failure", [Unreachable("x"), TimedOut("x"), 1000.0])
async def test_a_network_that_fails_is_tried_again_for_an_idle_client(
    autojump_clock: MockClock, failure: Step
) -> None:
    upstream = pending_first(failure, failure, ACCEPTED)
    async with world(upstream) as here:
        await here.shake_hands()
        await here.sign_in_is_done()
        await trio.sleep(200)
        assert upstream.methods() == ["initialize"] * 4 + [INITIALIZED]
        assert here.told()[0] == "notifications/tools/list_changed"
        await trio.sleep(10_000)
        assert len(upstream.seen) == 5


async def test_a_server_that_wants_another_sign_in_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    other = "http://sign-in.example/other"
    upstream = pending_first(SignInPending(other), ACCEPTED)
    async with world(upstream) as here:
        await here.shake_hands()
        await wait_all_tasks_blocked()
        here.sign_in.come.set()
        here.sign_in.begin_anew()
        await wait_all_tasks_blocked()
        failure = (await here.answer(CALL, {"name": "x"})).failure
        assert isinstance(failure, SignInPending)
        assert failure.url == other
        assert (await here.answer("tools/list")).result == {"tools": []}
        here.sign_in.come.set()
        await trio.sleep(10)
        assert here.told()[0] == "notifications/tools/list_changed"
        assert (await here.answer(CALL, {"name": "x"})).result == {}


async def test_a_server_that_never_has_enough_is_not_asked_without_a_pause(
    autojump_clock: MockClock,
) -> None:
    upstream = pending_first(SignInPending(PAGE))
    async with world(upstream) as here:
        await here.shake_hands()
        here.sign_in.come.set()
        await trio.sleep(3600)
        assert len(upstream.seen) < 200


async def test_after_a_sign_in_that_came_to_nothing_the_next_message_asks_anew(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    other = "http://sign-in.example/other"
    upstream = pending_first(SignInPending(other), ACCEPTED)
    async with world(upstream) as here:
        await here.shake_hands()
        here.sign_in.fail(AuthorizationFailed("the window was closed"))
        await trio.sleep(10_000)
        assert upstream.methods() == ["initialize"]
        assert "the window was closed" in caplog.text
        here.sign_in.begin_anew()
        failure = (await here.answer(CALL, {"name": "x"})).failure
        assert isinstance(failure, SignInPending)
        assert failure.url == other
        assert upstream.methods() == ["initialize", "initialize"]
        here.sign_in.come.set()
        await trio.sleep(40)
        assert here.told()[0] == "notifications/tools/list_changed"


async def test_a_sign_in_elsewhere_is_told_to_a_client_that_says_nothing(
    autojump_clock: MockClock,
) -> None:
    """After the relay's own came to nothing, somebody may sign in by hand."""
    upstream = pending_first()
    async with world(upstream) as here:
        await here.shake_hands()
        here.sign_in.fail(AuthorizationFailed("nobody has signed in within 120 s"))
        await trio.sleep(10_000)
        assert here.told() == []
        here.sign_in.elsewhere.set()
        await wait_all_tasks_blocked()
        assert upstream.methods() == ["initialize", "initialize", INITIALIZED]
        assert here.told()[0] == "notifications/tools/list_changed"
        assert (await here.answer(CALL, {"name": "x"})).result == {}


@pytest.mark.parametrize("then", [ACCEPTED, SignInPending(PAGE)])
async def test_a_sign_in_elsewhere_is_waited_for_no_longer_than_it_matters(then: Step) -> None:
    """The next message was let in, or has begun another sign-in."""
    async with world(pending_first(then)) as here:
        await here.shake_hands()
        here.sign_in.fail(AuthorizationFailed("nobody has signed in within 120 s"))
        await wait_all_tasks_blocked()
        assert here.sign_in.waiting == 1
        here.sign_in.begin_anew()
        await here.answer(CALL, {"name": "x"})
        await wait_all_tasks_blocked()
        assert here.sign_in.waiting == (0 if then is ACCEPTED else 1)
        here.sign_in.elsewhere.set()
        await wait_all_tasks_blocked()
        assert here.sign_in.waiting == (0 if then is ACCEPTED else 1)


@pytest.mark.parametrize("failure", [None, AuthorizationFailed("not tried yet")])
async def test_a_sign_in_elsewhere_that_a_message_meets_makes_one_handshake(
    failure: RelayError | None,
) -> None:
    proceed = trio.Event()
    upstream = FakeUpstream(initialize=SignInPending(PAGE))
    async with world(upstream) as here:
        await here.shake_hands()
        here.sign_in.fail(AuthorizationFailed("nobody has signed in within 120 s"))
        await wait_all_tasks_blocked()
        upstream.rules["initialize"] = [proceed, failure or ACCEPTED]
        call = here.ask(CALL, {"name": "x"})
        await wait_all_tasks_blocked()
        here.sign_in.elsewhere.set()
        await wait_all_tasks_blocked()
        upstream.rules["initialize"] = ACCEPTED
        proceed.set()
        await here.client.done(call)
        await wait_all_tasks_blocked()
        assert call.failure is failure
        assert here.told()[0] == "notifications/tools/list_changed"
        assert here.sign_in.waiting == 0
    assert upstream.methods().count("initialize") == (2 if failure is None else 3)


# The client begins anew


async def test_a_second_initialize_starts_over_while_nobody_has_signed_in() -> None:
    """Q-20."""
    other = "http://sign-in.example/other"
    upstream = pending_first(SignInPending(other), ACCEPTED)
    async with world(upstream) as here:
        await here.shake_hands()
        await here.answer("logging/setLevel", {"level": "info"})
        opening = await here.shake_hands(protocolVersion="2025-03-26")
        assert other in opening.result["instructions"]
        assert here.client.upstream.version == "2025-03-26"
        await wait_all_tasks_blocked()
        assert here.sign_in.waiting == 1
        await here.sign_in_is_done()
        assert upstream.methods() == ["initialize"] * 3 + [INITIALIZED]
        assert upstream.seen[2].params["protocolVersion"] == "2025-03-26"


async def test_a_second_initialize_ends_the_handshake_for_the_first() -> None:
    """Q-20."""
    upstream = pending_first()
    async with world(upstream) as here:
        await here.shake_hands()
        upstream.rules["initialize"] = trio.Event()
        await here.sign_in_is_done()
        held = here.ask(CALL, {"name": "x"})
        await wait_all_tasks_blocked()
        upstream.rules["initialize"] = ACCEPTED
        opening = await here.shake_hands()
        assert opening.result == ACCEPTED
        await here.client.done(held)
        assert held.result == {}
        assert [message.id for message in upstream.cancelled] == ["own-1"]
        assert upstream.methods()[2] == "initialize"
        assert sorted(upstream.methods()[3:]) == [INITIALIZED, CALL]
        assert here.told() == []
        assert here.client.upstream.version == "2025-06-18"


async def test_a_second_initialize_after_the_handshake_passes_through() -> None:
    """Q-20."""
    upstream = pending_first()
    async with world(upstream) as here:
        await here.shake_hands()
        await here.sign_in_is_done()
        assert (await here.shake_hands()).result == ACCEPTED
        await here.answer(CALL, {"name": "x"})
    assert upstream.methods()[3:] == ["initialize", INITIALIZED, CALL]


async def test_of_two_initialize_at_once_the_later_one_counts() -> None:
    """Q-20."""
    first_waits = trio.Event()
    upstream = FakeUpstream(initialize=[first_waits, SignInPending(PAGE)])
    async with world(upstream) as here:
        first = here.ask("initialize", INITIALIZE)
        await wait_all_tasks_blocked()
        upstream.rules["initialize"] = ACCEPTED
        assert (await here.shake_hands()).result == ACCEPTED
        first_waits.set()
        await here.client.done(first)
        assert isinstance(first.failure, SignInPending)
        await here.answer(CALL, {"name": "x"})
    assert upstream.methods()[2:] == [INITIALIZED, CALL]
    assert here.sign_in.asked == 0


@pytest.mark.parametrize("attempt", range(20))
async def test_a_handshake_about_to_begin_gives_way_to_a_second_initialize(attempt: int) -> None:
    """Q-20; ready tasks run in random order, so it is tried often."""
    upstream = pending_first()
    async with world(upstream) as here:
        await here.shake_hands()
        here.sign_in.fail(AuthorizationFailed("the window was closed"))
        await wait_all_tasks_blocked()
        call, again = here.ask(CALL, {"name": "x"}), here.ask("initialize", INITIALIZE)
        await here.client.done(call, again)
        assert again.result == ACCEPTED
        openings = [each.id for each in upstream.seen if each.method == "initialize"]
        assert openings[-1] == again.relayed.message.id
        assert INITIALIZED not in upstream.methods()


@pytest.mark.parametrize("attempt", range(20))
async def test_no_sign_in_is_waited_for_that_a_second_initialize_needs_not(attempt: int) -> None:
    """Q-20; ready tasks run in random order, so it is tried often."""
    proceed = trio.Event()

    class Late(FakeUpstream):
        async def send(self, message: Message, call: Call) -> None:
            if message.id == "own-1":
                await proceed.wait()
                raise SignInPending(PAGE)
            await super().send(message, call)

    upstream = Late(initialize=in_turn(SignInPending(PAGE), ACCEPTED))
    async with world(upstream) as here:
        await here.shake_hands()
        await here.sign_in_is_done()
        here.sign_in.begin_anew()
        again = here.ask("initialize", INITIALIZE)
        for _ in range(attempt % 3):
            await trio.lowlevel.checkpoint()
        proceed.set()
        await here.client.done(again)
        await wait_all_tasks_blocked()
        assert again.result == ACCEPTED
        assert here.sign_in.waiting == 0


# With all the rest behind it


async def test_a_native_session_after_a_late_sign_in(autojump_clock: MockClock) -> None:
    server = Server(initialize=SignInPending(PAGE))
    async with world(server=server) as here:
        opening = await here.shake_hands()
        assert PAGE in opening.result["instructions"]
        assert (await here.answer("tools/list")).result == {"tools": []}
        del server.rules["initialize"]
        server.rules[CALL] = lambda seen: events(note("working"), {"id": seen.id, "result": {}})
        await here.sign_in_is_done()
        call = await here.answer(CALL, {"name": "x"})
        assert (call.result, call.notes) == ({}, ["working"])
        assert here.told() == ["notifications/tools/list_changed"]
    posts = [rule for rule in server.order() if rule not in ("GET", "DELETE")]
    assert posts == ["initialize", "initialize", INITIALIZED, CALL]


async def test_a_bridged_server_after_a_late_sign_in(autojump_clock: MockClock) -> None:
    def refuse(seen: Seen) -> Reply | RelayError:
        return error(seen, -32022, "Unsupported protocol version", 400)

    discovered = {"supportedVersions": ["2026-07-28"], "capabilities": {"prompts": {}}}
    server = Server(initialize=SignInPending(PAGE))
    async with world(server=server) as here:
        await here.shake_hands()
        server.rules = {
            "initialize": refuse,
            "server/discover": lambda seen: result(seen, {"resultType": "complete"} | discovered),
            CALL: lambda seen: result(seen, {"resultType": "complete", "by": "modern"}),
        }
        await here.sign_in_is_done()
        assert here.told() == ["notifications/prompts/list_changed"]
        assert (await here.answer(CALL, {"name": "x"})).result == {"by": "modern"}
