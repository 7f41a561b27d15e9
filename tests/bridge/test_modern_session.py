"""A stateless client in front of a real `Session` and a server made of rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc, spec
from tests.bridge.modern import in_session_with
from tests.upstream.fakes import (
    FOREVER,
    Answer,
    Reply,
    Server,
    answer,
    error,
    event,
    events,
    in_turn,
    note,
)

CLIENT_CALLS = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"order","arguments":'
    b'{"sku":"A1"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
    b'"io.modelcontextprotocol/clientInfo":{"name":"neo","version":"1"},'
    b'"io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}}}}}}'
)
RELAY_OPENS = (
    b'{"jsonrpc":"2.0","id":"r7f-1","method":"initialize","params":{"protocolVersion":'
    b'"2025-11-25","capabilities":{},"clientInfo":{"name":"neo","version":"1"}}}'
)
SERVER_OPENS = (
    b'{"jsonrpc":"2.0","id":"r7f-1","result":{"protocolVersion":"2025-11-25","capabilities":'
    b'{"tools":{"listChanged":true}},"serverInfo":{"name":"shop","version":"1.9"}}}'
)
RELAY_COMPLETES = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
RELAY_CALLS = (
    b'{"jsonrpc":"2.0","id":"r7f-2","method":"tools/call","params":{"name":"order",'
    b'"arguments":{"sku":"A1"}}}'
)
SERVER_ASKS = (
    b'{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{"mode":"form","message":'
    b'"How many?","requestedSchema":{"type":"object","properties":{"n":{"type":"integer"}}}}}'
)
SERVER_ANSWERS = (
    b'{"jsonrpc":"2.0","id":"r7f-2","result":{"content":[{"type":"text","text":"ordered 3"}]}}'
)
RELAY_ANSWERS = (
    b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text",'
    b'"text":"ordered 3"}],"_meta":{"io.modelcontextprotocol/serverInfo":'
    b'{"name":"shop","version":"1.9"}}}}'
)
CLIENT_LISTENS = (
    b'{"jsonrpc":"2.0","id":"w","method":"subscriptions/listen","params":{"notifications":'
    b'{"toolsListChanged":true,"resourceSubscriptions":["shop://stock"]},"_meta":'
    b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
    b'"io.modelcontextprotocol/clientCapabilities":{}}}}'
)
RELAY_SUBSCRIBES = (
    b'{"jsonrpc":"2.0","id":"r7f-3","method":"resources/subscribe","params":{"uri":"shop://stock"}}'
)
SERVER_REFUSES = (
    b'{"jsonrpc":"2.0","id":"r7f-3","error":{"code":-32601,"message":"Method not found"}}'
)
RELAY_ACKNOWLEDGES = (
    b'{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":'
    b'{"io.modelcontextprotocol/subscriptionId":"w"},"notifications":{"toolsListChanged":true}}}'
)


def said(raw: bytes) -> Reply:
    return Reply(body=[raw])


def streamed(*raw: bytes) -> Reply:
    return events(*(b"data: " + each + b"\n\n" for each in raw))


@pytest.mark.parametrize("asks", [True, False])
async def test_the_traffic_of_the_document(asks: bool, autojump_clock: MockClock) -> None:
    """protocol.md 2.4, without parking: the question is refused (B-50 to B-54, B-58, B-59)."""
    server = Server(
        **{
            "initialize": said(SERVER_OPENS),
            "tools/call": streamed(*([SERVER_ASKS] if asks else []), SERVER_ANSWERS),
            "resources/subscribe": said(SERVER_REFUSES),
        }
    )
    async with in_session_with(server) as client:
        calling = client.put(jsonrpc.parse(CLIENT_CALLS))
        await client.done(calling)
        await wait_all_tasks_blocked()
        listening = client.put(jsonrpc.parse(CLIENT_LISTENS))
        await wait_all_tasks_blocked()
        assert [message.raw for message in calling.emitted] == [RELAY_ANSWERS]
        assert [message.raw for message in listening.emitted] == [RELAY_ACKNOWLEDGES]
        assert client.emitted == []
    posted = [seen.request.body for seen in server.seen if seen.request.method == "POST"]
    refusals = [raw for raw in posted if b'"error"' in raw]
    assert [raw for raw in posted if raw not in refusals] == [
        *(RELAY_OPENS, RELAY_COMPLETES, RELAY_CALLS, RELAY_SUBSCRIBES),
    ]
    assert [(json.loads(raw)["id"], json.loads(raw)["error"]["code"]) for raw in refusals] == (
        [(0, -32601)] if asks else []
    )


async def test_all_of_it_is_said_in_one_session(autojump_clock: MockClock) -> None:
    """B-50, T-41"""
    server = Server()
    async with in_session_with(server) as client:
        await client.done(*(client.call() for _ in range(10)))
        await client.bridge.aclose()
    assert server.order().count("initialize") == 1
    assert {seen.header("Mcp-Session-Id") for seen in server.got("tools/call")} == {"session-1"}
    assert {seen.header("MCP-Protocol-Version") for seen in server.got("tools/call")} == {
        "2025-11-25"
    }
    assert len(server.got("DELETE")) == 1


async def test_a_cancel_is_told_under_the_id_the_server_knows(autojump_clock: MockClock) -> None:
    """B-56, T-61"""
    server = Server(**{"tools/call": lambda seen: Reply(before=[FOREVER])})
    async with in_session_with(server) as client:
        calling = client.call(id=1)
        await trio.sleep(5)
        client.cancel(calling)
        await client.done(calling)
        [told] = server.got("notifications/cancelled")
        [called] = server.got("tools/call")
        assert told.message["params"]["requestId"] == called.id == "r7f-2"
        assert calling.emitted == []
        # The client may use its id again, also while the server still knows the other one.
        server.rules.clear()
        again = client.call(id=1)
        await client.done(again)
        assert again.answer["id"] == 1


@pytest.mark.parametrize(
    "refusal",
    [
        lambda seen: error(seen, -32603, "not today", status=400),
        lambda seen: error(seen, -32603, "not today"),
    ],
    ids=["400", "200"],
)
async def test_a_server_that_refuses_to_open_is_quoted_and_asked_again(
    refusal: Any, autojump_clock: MockClock
) -> None:
    """B-50"""
    server = Server()
    server.rules["initialize"] = in_turn(refusal, server.opened)
    async with in_session_with(server) as client:
        asked = client.call(id="a")
        await client.done(asked)
        assert asked.answer == {
            "jsonrpc": "2.0",
            "id": "a",
            "error": {"code": -32603, "message": "not today"},
        }
        again = client.call()
        await client.done(again)
        assert again.result["resultType"] == "complete"


@pytest.mark.parametrize("is_on_get", [True, False])
async def test_what_the_server_says_reaches_who_listens_from_any_stream(
    is_on_get: bool, autojump_clock: MockClock
) -> None:
    """B-58, B-59, B-67"""
    now = trio.Event()
    messages: list[dict[str, Any]] = [
        {"id": "p", "method": "ping"},
        {"method": "notifications/elicitation/complete", "params": {"elicitationId": "e"}},
        note("unheard"),
        {"method": "notifications/tools/list_changed"},
    ]

    def call_tool(seen: Any) -> Reply:
        return events(*([] if is_on_get else messages), answer(seen))

    rules: dict[str, Answer] = {"tools/call": call_tool}
    if is_on_get:
        rules["GET"] = events(now, *messages, FOREVER)
    server = Server(**rules)
    server.capabilities = {"tools": {"listChanged": True}}
    async with in_session_with(server) as client:
        listening = client.listen(toolsListChanged=True)
        await trio.sleep(1)
        calling = client.call()
        now.set()
        await client.done(calling)
        await trio.sleep(1)
        assert [message.method for message in listening.emitted] == [
            *("notifications/subscriptions/acknowledged", "notifications/tools/list_changed"),
        ]
        assert len(calling.emitted) == 1
        assert client.emitted == []
    [pong] = server.got("response")
    assert pong.message == {"jsonrpc": "2.0", "id": "p", "result": {}}


async def test_a_session_that_is_lost_is_told_again_what_stands(
    autojump_clock: MockClock,
) -> None:
    """B-50, B-55, B-59, T-44: the client notices nothing."""
    server = Server()
    server.capabilities = {"logging": {}, "resources": {"subscribe": True}}
    async with in_session_with(server) as client:
        listening = client.listen(resourceSubscriptions=["a:1"])
        await client.done(client.call(level="info"))
        server.forget()
        server.seen.clear()
        again = client.call(level="info")
        await client.done(again)
        assert again.result["resultType"] == "complete"
        assert sorted(set(server.order()) & {spec.SET_LEVEL, spec.SUBSCRIBE, "initialize"}) == [
            *("initialize", "logging/setLevel", "resources/subscribe"),
        ]
        await wait_all_tasks_blocked()
        assert [message.params.get("uri") for message in listening.emitted] == [None, "a:1"]
        client.cancel(listening)
        await client.done(listening)
        [left] = server.got("resources/unsubscribe")
        assert left.header("Mcp-Session-Id") == "session-2"


async def test_a_server_may_say_something_before_it_has_answered_the_opening(
    autojump_clock: MockClock,
) -> None:
    """B-58, B-67"""
    server = Server()

    def opened(seen: Any) -> Reply:
        said = server.opened(seen)
        [body] = said.body
        assert isinstance(body, bytes)
        stream = [event(note("early")), event({"id": 1, "method": "ping"}), b"data: ", body]
        return Reply(body=[*stream, b"\n\n"], media_type="text/event-stream", headers=said.headers)

    server.rules["initialize"] = opened
    async with in_session_with(server) as client:
        asked = client.call(level="debug")
        await client.done(asked)
        assert len(asked.emitted) == 1
        assert client.emitted == []
    [pong] = server.got("response")
    assert pong.message["result"] == {}
