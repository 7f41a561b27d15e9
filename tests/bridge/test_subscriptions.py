"""`subscriptions/listen` in front of an upstream that knows `resources/subscribe` (B-59)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc, spec
from mcp_stdio.bridge.modern_client import OWN_REQUEST
from mcp_stdio.bridge.subscriptions import LEAVING
from mcp_stdio.errors import TimedOut, Unreachable
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from tests.bridge.modern import Era, Modern, bridging
from tests.upstream.fakes import Asked

ALL = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
}

TOOLS_CHANGED = jsonrpc.notification("notifications/tools/list_changed")


def updated(uri: str) -> Message:
    return jsonrpc.notification("notifications/resources/updated", {"uri": uri})


def heard(listen: Asked) -> list[Any]:
    """What a listen brought after its acknowledgement: URIs, otherwise methods."""
    for message in listen.emitted:
        assert message.params["_meta"] == {spec.META_SUBSCRIPTION: listen.relayed.message.id}
    assert listen.emitted[0].method == "notifications/subscriptions/acknowledged"
    return [message.params.get("uri", message.method) for message in listen.emitted[1:]]


def acknowledged(listen: Asked) -> Any:
    [message] = [each for each in listen.emitted if each.method == spec.ACKNOWLEDGED]
    return message.params["notifications"]


def asked_for(upstream: Era) -> list[tuple[str, str]]:
    return [
        (message.method.removeprefix("resources/"), message.params["uri"])
        for message in upstream.got
        if message.method in (spec.SUBSCRIBE, spec.UNSUBSCRIBE)
    ]


async def leave(client: Modern, *listens: Asked) -> None:
    for listen in listens:
        client.cancel(listen)
    await client.done(*listens)


async def test_a_listen_is_acknowledged_and_stays_open(autojump_clock: MockClock) -> None:
    """B-59"""
    upstream = Era(ALL)
    async with bridging(upstream) as client:
        listen = client.listen(
            toolsListChanged=True, resourceSubscriptions=["a:1", "a:2"], taskIds=["t"]
        )
        await trio.sleep(10_000)
        assert acknowledged(listen) == {
            "toolsListChanged": True,
            "resourceSubscriptions": ["a:1", "a:2"],
        }
        assert heard(listen) == []
        assert not listen.over.is_set()
        assert asked_for(upstream) == [("subscribe", "a:1"), ("subscribe", "a:2")]


async def test_only_what_was_granted_is_acknowledged(autojump_clock: MockClock) -> None:
    """B-59"""

    async def subscribe(message: Message, call: Call) -> Any:
        assert message.id is not None
        if message.params["uri"] == "a:2":
            return jsonrpc.error(message.id, -32002, "no such thing")
        return {}

    upstream = Era({"prompts": {"listChanged": True}}, **{"resources/subscribe": subscribe})
    async with bridging(upstream) as client:
        listen = client.listen(
            toolsListChanged=True, promptsListChanged=True, resourceSubscriptions=["a:1", "a:2"]
        )
        await wait_all_tasks_blocked()
        assert acknowledged(listen) == {
            "promptsListChanged": True,
            "resourceSubscriptions": ["a:1"],
        }
        for message in (TOOLS_CHANGED, updated("a:2"), updated("a:1")):
            await client.bridge.overhear(message)
        assert heard(listen) == ["a:1"]
        await leave(client, listen)
    assert asked_for(upstream)[2:] == [("unsubscribe", "a:1")]


async def test_a_change_goes_to_all_that_asked_for_it(autojump_clock: MockClock) -> None:
    """B-59, S-15: from whichever stream it came."""

    async def call_tool(message: Message, call: Call) -> Any:
        await call.emit(updated("a:1"))
        await call.emit(TOOLS_CHANGED)
        return {}

    upstream = Era(ALL, **{"tools/call": call_tool})
    async with bridging(upstream) as client:
        tools = client.listen("t", toolsListChanged=True)
        one = client.listen(1, resourceSubscriptions=["a:1"])
        both = client.listen("1", toolsListChanged=True, resourceSubscriptions=["a:1", "a:2"])
        await wait_all_tasks_blocked()
        calling = client.call()
        await client.done(calling)
        await client.bridge.overhear(updated("a:2"))
        await client.bridge.overhear(TOOLS_CHANGED)
        await client.bridge.overhear(jsonrpc.notification("notifications/prompts/list_changed"))
        assert len(calling.emitted) == 1
        assert heard(tools) == [TOOLS_CHANGED.method] * 2
        assert heard(one) == ["a:1"]
        assert heard(both) == ["a:1", TOOLS_CHANGED.method, "a:2", TOOLS_CHANGED.method]
        assert client.emitted == []


async def test_what_changes_before_the_acknowledgement_comes_after_it_once(
    autojump_clock: MockClock,
) -> None:
    """B-59, S-15"""

    async def subscribe(message: Message, call: Call) -> Any:
        await call.emit(updated("a:1"))
        await call.emit(TOOLS_CHANGED)
        await trio.sleep(1)
        await call.emit(updated("a:1"))
        return {}

    async with bridging(Era(ALL, **{"resources/subscribe": subscribe})) as client:
        listen = client.listen(resourceSubscriptions=["a:1"], toolsListChanged=True)
        await trio.sleep(0.5)
        assert listen.emitted == []
        await trio.sleep(1)
        assert heard(listen) == ["a:1", TOOLS_CHANGED.method]


async def test_a_resource_is_subscribed_to_once_and_left_with_the_last(
    autojump_clock: MockClock,
) -> None:
    """B-59: ref-counted over all listens."""
    upstream = Era(ALL)
    async with bridging(upstream) as client:
        listens = [
            client.listen(number, resourceSubscriptions=["a:1", f"b:{number}"])
            for number in range(3)
        ]
        await wait_all_tasks_blocked()
        assert [acknowledged(listen)["resourceSubscriptions"][0] for listen in listens] == (
            ["a:1"] * 3
        )
        assert sorted(asked_for(upstream)) == [
            ("subscribe", uri) for uri in ("a:1", "b:0", "b:1", "b:2")
        ]
        upstream.got.clear()
        await leave(client, listens[0], listens[2])
        assert sorted(asked_for(upstream)) == [("unsubscribe", "b:0"), ("unsubscribe", "b:2")]
        upstream.got.clear()
        await client.bridge.overhear(updated("a:1"))
        assert [len(listen.emitted) for listen in listens] == [1, 2, 1]
        await leave(client, listens[1])
        assert sorted(asked_for(upstream)) == [("unsubscribe", "a:1"), ("unsubscribe", "b:1")]
        upstream.got.clear()
        client.listen(resourceSubscriptions=["a:1"])
        await wait_all_tasks_blocked()
        assert asked_for(upstream) == [("subscribe", "a:1")]


async def test_a_cancelled_listen_has_no_answer(autojump_clock: MockClock) -> None:
    """B-59, S-14"""
    async with bridging(Era(ALL)) as client:
        listen = client.listen(toolsListChanged=True)
        await wait_all_tasks_blocked()
        await leave(client, listen)
        await client.bridge.overhear(TOOLS_CHANGED)
        assert [message.method for message in listen.emitted] == [spec.ACKNOWLEDGED]
        assert listen.failure is None


async def test_who_subscribes_while_another_leaves_is_subscribed(
    autojump_clock: MockClock,
) -> None:
    """B-59"""

    async def unsubscribe(message: Message, call: Call) -> Any:
        await trio.sleep(0.5)
        return {}

    upstream = Era(ALL, **{"resources/unsubscribe": unsubscribe})
    async with bridging(upstream) as client:
        leaving = client.listen("a", resourceSubscriptions=["a:1"])
        await wait_all_tasks_blocked()
        client.cancel(leaving)
        await wait_all_tasks_blocked()
        listen = client.listen("b", resourceSubscriptions=["a:1"])
        await trio.sleep(1)
        assert acknowledged(listen) == {"resourceSubscriptions": ["a:1"]}
        await leave(client, listen)
    assert asked_for(upstream) == [("subscribe", "a:1"), ("unsubscribe", "a:1")] * 2


async def test_leaving_takes_no_longer_than_it_may(autojump_clock: MockClock) -> None:
    """B-59: the id is free again when the listen is over."""

    async def never(message: Message, call: Call) -> Any:
        await trio.sleep_forever()

    upstream = Era(ALL, **{"resources/unsubscribe": never})
    async with bridging(upstream) as client:
        listen = client.listen(resourceSubscriptions=["a:1", "a:2"])
        await wait_all_tasks_blocked()
        await leave(client, listen)
        assert listen.took == LEAVING
        again = client.listen(resourceSubscriptions=["a:1"])
        await wait_all_tasks_blocked()
        assert acknowledged(again) == {"resourceSubscriptions": ["a:1"]}
    assert asked_for(upstream).count(("subscribe", "a:1")) == 2


async def test_a_listen_cancelled_while_it_subscribes_takes_that_back(
    autojump_clock: MockClock,
) -> None:
    """B-59: the server may have subscribed, whether or not the answer came."""

    async def never(message: Message, call: Call) -> Any:
        await trio.sleep_forever()

    upstream = Era(ALL, **{"resources/subscribe": never})
    async with bridging(upstream) as client:
        listen = client.listen(resourceSubscriptions=["a:1", "a:2"])
        await wait_all_tasks_blocked()
        await leave(client, listen)
        assert listen.emitted == []
    assert asked_for(upstream) == [("subscribe", "a:1"), ("unsubscribe", "a:1")]


async def test_a_listen_that_cannot_subscribe_fails(autojump_clock: MockClock) -> None:
    """B-59, B-50: what was lost is no refusal; the client may listen again."""

    async def subscribe(message: Message, call: Call) -> Any:
        if message.params["uri"] == "a:2":
            raise Unreachable("nobody there")
        if message.params["uri"] == "a:3":
            await trio.sleep_forever()
        return {}

    upstream = Era(ALL, **{"resources/subscribe": subscribe})
    async with bridging(upstream) as client:
        listen = client.listen("a", resourceSubscriptions=["a:1", "a:2"])
        slow = client.listen("b", resourceSubscriptions=["a:3"])
        await client.done(listen, slow)
        assert isinstance(listen.failure, Unreachable)
        assert isinstance(slow.failure, TimedOut)
        assert slow.took == OWN_REQUEST
        assert listen.emitted == slow.emitted == []
    assert ("unsubscribe", "a:1") in asked_for(upstream)


async def test_a_session_opened_anew_has_everything_read_again(
    autojump_clock: MockClock,
) -> None:
    """B-59"""
    async with bridging(Era(ALL)) as client:
        one = client.listen(1, toolsListChanged=True, promptsListChanged=True)
        other = client.listen(2, resourceSubscriptions=["a:1", "a:2"])
        gone = client.listen(3, toolsListChanged=True)
        await wait_all_tasks_blocked()
        await leave(client, gone)
        await client.bridge.renewed()
        assert heard(one) == [
            "notifications/tools/list_changed",
            "notifications/prompts/list_changed",
        ]
        assert heard(other) == ["a:1", "a:2"]
        assert heard(gone) == []


@pytest.mark.parametrize("is_renewed", [True, False])
async def test_a_listen_that_leaves_while_others_are_told_is_told_no_more(
    is_renewed: bool, autojump_clock: MockClock
) -> None:
    """B-59"""
    async with bridging(Era(ALL)) as client:
        listens = []
        for number in range(3):
            listens.append(client.listen(number, toolsListChanged=True))
            await wait_all_tasks_blocked()
        client.slowness = 1.0
        async with trio.open_nursery() as nursery:
            if is_renewed:
                nursery.start_soon(client.bridge.renewed)
            else:
                nursery.start_soon(client.bridge.overhear, TOOLS_CHANGED)
            await trio.sleep(0.5)
            await leave(client, *listens[1:])
        assert [len(listen.emitted) for listen in listens] == [2, 1, 1]
