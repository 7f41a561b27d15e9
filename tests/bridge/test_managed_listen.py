"""What a handshake client is told unasked, over one listen stream at a time (B-4, B-11, B-12)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc, spec
from mcp_stdio.bridge.managed_listen import untagged
from mcp_stdio.errors import BadAnswer, ConnectionLost, RelayError, TimedOut, Unreachable
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from tests.bridge.stateless import Desk, Peer, Rule, answer, break_off, bridging, fail, in_turn

OFFERS = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": False},
    "resources": {"subscribe": True, "listChanged": True},
}
LISTS = {"toolsListChanged": True, "resourcesListChanged": True}

SOON = 0.2
"""Seconds in which a wish has become a stream, with nothing in the way."""


def told(client: Desk) -> list[tuple[str, Any]]:
    """What the client was told unasked, and the resources concerned."""
    return [(message.method, message.params.get("uri")) for message in client.emitted]


async def subscribe(client: Desk, *uris: str) -> list[Any]:
    asked = [client.ask("resources/subscribe", {"uri": uri}) for uri in uris]
    await client.done(*asked)
    return [one.answer for one in asked]


# The filter (B-4, B-12)


@pytest.mark.parametrize(
    "offers, asked",
    [
        (OFFERS, LISTS),
        ({"tools": {"listChanged": True}}, {"toolsListChanged": True}),
        ({"prompts": {"listChanged": True}}, {"promptsListChanged": True}),
        ({"tools": {}, "resources": {"subscribe": True}}, None),
        ({"tools": {"listChanged": "yes"}, "prompts": True}, None),
        ({}, None),
    ],
)
async def test_one_stream_brings_what_the_server_offers(
    offers: dict[str, Any], asked: dict[str, Any] | None, autojump_clock: MockClock
) -> None:
    """B-4, B-12: and there is none without anything to listen for."""
    peer = Peer(offers)
    async with bridging(peer) as client:
        opening = client.ask("initialize", {"capabilities": {}})
        await client.done(opening)
        await trio.sleep(SOON)
        assert peer.listens == []
        await client.done(client.tell("notifications/initialized"))
        await trio.sleep(1000)
        assert [listen.asked for listen in peer.open_listens] == ([] if asked is None else [asked])
        await client.done(client.tell("notifications/initialized"))
        await trio.sleep(1000)
    assert len(peer.listens) == (asked is not None)


async def test_changes_reach_the_client_without_their_subscription(
    autojump_clock: MockClock,
) -> None:
    """B-12: what only concerns the stream, or belongs to none (T-72), does not."""
    peer = Peer(OFFERS)
    async with bridging(peer) as client:
        await client.open()
        await trio.sleep(SOON)
        [listen] = peer.listens
        assert client.emitted == []
        await listen.tell(spec.TOOLS_CHANGED)
        await listen.tell(spec.PROGRESS, {"progressToken": 1, "progress": 1})
        await listen.tell(spec.LOG_MESSAGE, {"level": "info", "data": "x"})
        await listen.tell("notifications/x", {"y": 1})
        await listen.acknowledge()
    assert [message.raw for message in client.emitted] == [
        b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}',
        b'{"jsonrpc":"2.0","method":"notifications/x","params":{"y":1}}',
    ]


@pytest.mark.parametrize(
    "tagged, plain",
    [
        (
            '{"method":"m","params":{"_meta":{TAG}},"jsonrpc":"2.0"}',
            '{"method":"m","jsonrpc":"2.0"}',
        ),
        (
            '{"jsonrpc":"2.0","method":"m","params":{"n":1.0, "_meta":{TAG}}}',
            '{"jsonrpc":"2.0","method":"m","params":{"n":1.0}}',
        ),
        (
            '{"jsonrpc":"2.0","method":"m","params":{"_meta":{"n":1e400,TAG},"uri":"a"}}',
            '{"jsonrpc":"2.0","method":"m","params":{"_meta":{"n":1e400},"uri":"a"}}',
        ),
        ('{"jsonrpc":"2.0","method":"m"}', None),
        ('{"jsonrpc":"2.0","method":"m","params":{"_meta":{}, "n":1.0}}', None),
        ('{"jsonrpc":"2.0","method":"m","params":{"_meta":7}}', None),
        ('{"jsonrpc":"2.0","method":"m","params":[1.0]}', None),
    ],
)
def test_only_the_tag_is_taken_off(tagged: str, plain: str | None) -> None:
    """B-12."""
    raw = tagged.replace("TAG", '"io.modelcontextprotocol/subscriptionId":"r-1"')
    assert untagged(jsonrpc.parse(raw.encode())).raw.decode() == (plain or raw)


# Resources (B-11)


async def test_a_subscription_is_answered_once_it_is_granted(autojump_clock: MockClock) -> None:
    """B-11."""
    peer, granted = Peer(OFFERS), trio.Event()
    peer.rules[spec.LISTEN] = in_turn(peer.listened, slow(peer, granted))
    async with bridging(peer) as client:
        await client.open()
        await trio.sleep(SOON)
        asked = client.ask("resources/subscribe", {"uri": "a:1"})
        await trio.sleep(SOON)
        assert asked.emitted == []
        granted.set()
        await client.done(asked)
        assert asked.result == {}
        assert await subscribe(client, "a:1") == [
            {"jsonrpc": "2.0", "id": 102, "result": {}}  # at once: it is granted already
        ]
        await peer.listens[-1].updated("a:1")
        await peer.listens[-1].updated("a:1/sub")
    assert [listen.asked for listen in peer.listens] == [
        LISTS,
        LISTS | {"resourceSubscriptions": ["a:1"]},
    ]
    assert told(client) == [(spec.RESOURCE_UPDATED, "a:1"), (spec.RESOURCE_UPDATED, "a:1/sub")]
    assert peer.got("resources/subscribe") == []


def slow(peer: Peer, granted: trio.Event) -> Rule:
    async def rule(message: Message, call: Call) -> None:
        await granted.wait()
        await peer.listened(message, call)

    return rule


async def test_many_wishes_make_one_stream(autojump_clock: MockClock) -> None:
    """B-12: debounced."""
    peer = Peer(OFFERS)
    async with bridging(peer) as client:
        await client.open()
        await trio.sleep(SOON)
        uris = [f"a:{number}" for number in range(50)]
        answers = await subscribe(client, *uris, *uris)
        assert all(one["result"] == {} for one in answers)
    assert len(peer.listens) == 2
    assert sorted(peer.listens[-1].asked["resourceSubscriptions"]) == sorted(uris)


async def test_what_is_not_granted_is_refused_and_not_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    """B-11."""
    peer = Peer(OFFERS)

    @peer.on(spec.LISTEN)
    async def grant(message: Message, call: Call) -> None:
        wanted = message.params["notifications"].get("resourceSubscriptions", [])
        serving = trio.open_nursery()
        async with serving as nursery:
            nursery.start_soon(lambda: peer.listen(message, call, acknowledge=False))
            await wait_all_tasks_blocked()
            good = [uri for uri in wanted if uri.startswith("a:")]
            await peer.listens[-1].acknowledge({"resourceSubscriptions": good})

    async with bridging(peer) as client:
        await client.open()
        bad, good = await subscribe(client, "b:1", "a:1")
        assert bad["error"]["code"] == -32602
        assert good["result"] == {}
        await trio.sleep(1000)
        assert len(peer.listens) == 1
        assert (await subscribe(client, "a:2"))[0]["result"] == {}
    assert peer.listens[-1].asked == LISTS | {"resourceSubscriptions": ["a:1", "a:2"]}


async def test_unsubscribing_is_answered_at_once(autojump_clock: MockClock) -> None:
    """B-11: and the stream follows; the last wish closes it."""
    peer = Peer({"resources": {"subscribe": True}})
    async with bridging(peer) as client:
        await client.open()
        await subscribe(client, "a:1", "a:2")
        for uri, left in (("a:1", ["a:2"]), ("a:9", ["a:2"]), ("a:2", None)):
            gone = client.ask("resources/unsubscribe", {"uri": uri})
            await client.done(gone)
            assert gone.result == {}
            assert gone.took == 0
            await trio.sleep(SOON)
            asked = [listen.asked for listen in peer.open_listens]
            assert asked == ([] if left is None else [{"resourceSubscriptions": left}])
    assert len(peer.listens) == 2


async def test_unsubscribing_ends_the_wait_of_a_subscription(autojump_clock: MockClock) -> None:
    """B-11."""
    peer = Peer(OFFERS, {spec.LISTEN: slow(Peer(), trio.Event())})
    async with bridging(peer) as client:
        await client.open()
        waiting = client.ask("resources/subscribe", {"uri": "a:1"})
        await trio.sleep(SOON)
        await client.done(client.ask("resources/unsubscribe", {"uri": "a:1"}), waiting)
        assert waiting.result == {}
        assert waiting.took == SOON


@pytest.mark.parametrize(
    "offers, params, code",
    [
        ({"resources": {}}, {"uri": "a:1"}, -32601),
        ({}, {"uri": "a:1"}, -32601),
        (OFFERS, {}, -32602),
        (OFFERS, {"uri": 7}, -32602),
    ],
)
@pytest.mark.parametrize("method", ["resources/subscribe", "resources/unsubscribe"])
async def test_what_is_not_offered_cannot_be_subscribed_to(
    method: str, offers: dict[str, Any], params: dict[str, Any], code: int
) -> None:
    """B-11."""
    async with bridging(Peer(offers)) as client:
        await client.open()
        asked = client.ask(method, params)
        await client.done(asked)
    assert asked.answer["error"]["code"] == code


async def test_a_waiting_subscription_holds_up_nobody(autojump_clock: MockClock) -> None:
    """P4."""
    peer = Peer(OFFERS, {spec.LISTEN: slow(Peer(), trio.Event())})
    async with bridging(peer) as client:
        await client.open()
        waiting, call = client.ask("resources/subscribe", {"uri": "a:1"}), client.ask("tools/call")
        await client.done(call)
        assert call.took == 0
        client.cancel(waiting)
        await client.done(waiting)
        assert waiting.emitted == []


# One stream after the other (B-12)


async def test_the_new_stream_is_open_before_the_old_one_is_closed(
    autojump_clock: MockClock,
) -> None:
    """B-12: make before break, and what both tell is told once."""
    peer, granted = Peer(OFFERS), trio.Event()
    peer.rules[spec.LISTEN] = in_turn(peer.listened, slow(peer, granted))
    async with bridging(peer) as client:
        await client.open()
        await trio.sleep(SOON)
        asked = client.ask("resources/subscribe", {"uri": "a:1"})
        await trio.sleep(SOON)
        [old] = peer.open_listens
        await old.tell(spec.TOOLS_CHANGED)
        await old.tell(spec.RESOURCES_CHANGED)
        granted.set()
        await wait_all_tasks_blocked()
        [new] = peer.open_listens
        assert new is not old
        await new.tell(spec.TOOLS_CHANGED)
        await new.updated("a:1")
        await client.done(asked)
        await trio.sleep(SOON)
        assert told(client) == [
            (spec.TOOLS_CHANGED, None),
            (spec.RESOURCES_CHANGED, None),
            (spec.RESOURCE_UPDATED, "a:1"),
        ]
        await new.tell(spec.TOOLS_CHANGED)  # a change of its own
        assert told(client)[3:] == [(spec.TOOLS_CHANGED, None)]


async def test_a_wish_that_comes_while_a_stream_is_opened_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    """B-12."""
    peer, granted = Peer(OFFERS), trio.Event()
    peer.rules[spec.LISTEN] = in_turn(peer.listened, slow(peer, granted), peer.listened)
    async with bridging(peer) as client:
        await client.open()
        await trio.sleep(SOON)
        first = client.ask("resources/subscribe", {"uri": "a:1"})
        await trio.sleep(SOON)
        second = client.ask("resources/subscribe", {"uri": "a:2"})
        await trio.sleep(SOON)
        granted.set()
        await client.done(first, second)
        assert first.result == second.result == {}
        await trio.sleep(SOON)
        [listen] = peer.open_listens
    assert listen.asked["resourceSubscriptions"] == ["a:1", "a:2"]


async def test_a_new_handshake_begins_with_a_stream_of_its_own(autojump_clock: MockClock) -> None:
    """Q-20: what was wished for before is forgotten."""
    peer = Peer(OFFERS)
    async with bridging(peer) as client:
        await client.open()
        await subscribe(client, "a:1")
        await client.open()
        await trio.sleep(SOON)
        [listen] = peer.open_listens
        assert listen.asked == LISTS


async def test_a_cancelled_bridge_leaves_nobody_waiting(autojump_clock: MockClock) -> None:
    peer = Peer(OFFERS, {spec.LISTEN: slow(Peer(), trio.Event())})
    async with bridging(peer) as client:
        await client.open()
        waiting = client.ask("resources/subscribe", {"uri": "a:1"})
        await trio.sleep(SOON)
        await client.upstream.aclose()
        await client.done(waiting)
        assert waiting.answer["error"]["code"] == -32602


# Streams that fail or end


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(fail(-32601, "Method not found"), id="error"),
        pytest.param(break_off(BadAnswer("no stream")), id="bad answer"),
        pytest.param(answer(), id="ended without acknowledgement"),
    ],
)
async def test_a_server_that_refuses_to_tell_is_not_asked_again(
    rule: Rule, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """B-12: logged once; the client simply gets no notifications."""
    peer = Peer(OFFERS, {spec.LISTEN: rule})
    async with bridging(peer) as client:
        await client.open()
        await trio.sleep(50_000)
        assert len(peer.got(spec.LISTEN)) == 1
        asked = client.ask("resources/subscribe", {"uri": "a:1"})
        await client.done(asked)
        assert client.emitted == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert isinstance(asked.failure, BadAnswer) or asked.answer["error"]["code"] == -32602


async def test_a_refused_wish_leaves_the_old_stream(autojump_clock: MockClock) -> None:
    """B-12: make before break."""
    peer = Peer(OFFERS)
    peer.rules[spec.LISTEN] = in_turn(peer.listened, fail(-32603, "too many streams"))
    async with bridging(peer) as client:
        await client.open()
        await trio.sleep(SOON)
        asked = client.ask("resources/subscribe", {"uri": "a:1"})
        await wait_all_tasks_blocked()
        await client.done(asked)
        assert asked.answer["error"]["code"] == -32602
        await trio.sleep(1000)
        [listen] = peer.open_listens
        await listen.tell(spec.TOOLS_CHANGED)
        assert told(client) == [(spec.TOOLS_CHANGED, None)]


async def test_a_subscription_that_the_network_prevents_says_so(autojump_clock: MockClock) -> None:
    """B-11, E-1."""
    peer = Peer(OFFERS)
    peer.rules[spec.LISTEN] = in_turn(break_off(Unreachable("nobody there")), peer.listened)
    async with bridging(peer) as client:
        client.ask("initialize")
        asked = client.ask("resources/subscribe", {"uri": "a:1"})
        await client.done(asked)
        assert isinstance(asked.failure, Unreachable)
        await trio.sleep(10)
        [listen] = peer.open_listens
        assert listen.asked == LISTS


async def test_a_server_that_does_not_acknowledge_keeps_nobody_waiting(
    autojump_clock: MockClock,
) -> None:
    """B-11: bounded; and it is tried again."""
    peer = Peer(OFFERS)

    @peer.on(spec.LISTEN)
    async def mute(message: Message, call: Call) -> None:
        await peer.listen(message, call, acknowledge=len(peer.listens) > 0)

    async with bridging(peer) as client:
        await client.open()
        asked = client.ask("resources/subscribe", {"uri": "a:1"})
        await client.done(asked)
        assert isinstance(asked.failure, TimedOut)
        assert asked.took < 20
        await trio.sleep(10)
        [listen] = peer.open_listens
        assert listen is peer.listens[1]


@pytest.mark.parametrize(
    "failure", [None, ConnectionLost("gone"), Unreachable("gone"), TimedOut("gone")]
)
async def test_a_stream_that_the_server_ends_is_opened_again(
    failure: RelayError | None, autojump_clock: MockClock
) -> None:
    """B-12, T-71: and what may have changed meanwhile is told."""
    peer = Peer(OFFERS)
    async with bridging(peer) as client:
        await client.open()
        await subscribe(client, "a:1")
        [first] = peer.open_listens
        await trio.sleep(3600)
        first.end(failure)
        await trio.sleep(5)
        [second] = peer.open_listens
        assert second.asked == first.asked
        assert told(client) == [
            (spec.TOOLS_CHANGED, None),
            (spec.RESOURCES_CHANGED, None),
            (spec.RESOURCE_UPDATED, "a:1"),
        ]


async def test_a_server_that_ends_every_stream_is_left_in_peace(autojump_clock: MockClock) -> None:
    peer = Peer(OFFERS)

    @peer.on(spec.LISTEN)
    async def brief(message: Message, call: Call) -> None:
        await call.emit(jsonrpc.notification(spec.ACKNOWLEDGED, {"notifications": LISTS}))
        await answer()(message, call)

    async with bridging(peer) as client:
        await client.open()
        await trio.sleep(3600)
        assert 5 < len(peer.got(spec.LISTEN)) < 25
        # One that lasts is a reason to be quick again.
        peer.rules[spec.LISTEN] = peer.listened
        await trio.sleep(3600)
        [listen] = peer.open_listens
        listen.end()
        await trio.sleep(2)
        assert peer.open_listens != []


async def test_what_a_stream_granted_that_has_ended_is_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    """B-11."""
    peer = Peer({"resources": {"subscribe": True}})

    @peer.on(spec.LISTEN)
    async def brief(message: Message, call: Call) -> None:
        granted = {"notifications": message.params["notifications"]}
        await call.emit(jsonrpc.notification(spec.ACKNOWLEDGED, granted))
        await answer()(message, call)

    async with bridging(peer) as client:
        await client.open()
        await subscribe(client, "a:1")
        assert len(peer.got(spec.LISTEN)) == 1
        await subscribe(client, "a:1")
        assert len(peer.got(spec.LISTEN)) == 2


async def test_a_stream_that_ends_is_replaced_at_once_when_something_is_wished(
    autojump_clock: MockClock,
) -> None:
    peer = Peer(OFFERS)
    async with bridging(peer) as client:
        await client.open()
        await trio.sleep(SOON)
        peer.listens[0].end()
        await wait_all_tasks_blocked()
        [answered] = await subscribe(client, "a:1")
        assert answered["result"] == {}
        await trio.sleep(1000)
    assert len(peer.listens) == 2


async def test_a_defect_below_ends_only_the_stream(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """P1."""

    async def defect(message: Message, call: Call) -> None:
        raise ZeroDivisionError

    peer = Peer(OFFERS, {spec.LISTEN: defect})
    async with bridging(peer) as client:
        await client.open()
        [answered] = await subscribe(client, "a:1")
        assert answered["error"]["code"] == -32602
        await client.done(client.ask("tools/list"))
    assert "ZeroDivisionError" in caplog.text
