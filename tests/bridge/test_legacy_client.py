"""A client that shakes hands in front of a server that knows no handshake (protocol.md 2.3)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc, spec
from mcp_stdio.errors import BadAnswer, CannotBridge, ConnectionLost, TimedOut, TooDeep, Unreachable
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from mcp_stdio.upstream.refusal import HttpRefusal
from tests.bridge.stateless import Peer, Rule, answer, break_off, bridging, fail, in_turn, silent

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "desk", "version": "4"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def discovers(*versions: str) -> Rule:
    return answer({"supportedVersions": versions, "capabilities": {"tools": {}}})


def refused(status: int, code: int | None = None, data: dict[str, Any] | None = None) -> Rule:
    """An HTTP error status, as the upstream raises it for an opening request."""

    async def rule(message: Message, call: Call) -> None:
        raise HttpRefusal(
            "the server refuses",
            status=status,
            text="",
            answer=None if code is None else jsonrpc.error(message.id, code, "no", data),
            retry_after=None,
        )

    return rule


def version_refused(*supported: str) -> Rule:
    data = {"supported": supported, "requested": "2026-07-28"}
    return fail(spec.UNSUPPORTED_VERSION, "Unsupported protocol version", data)


# The handshake


async def test_a_handshake_is_a_discovery() -> None:
    """B-1, B-2, B-3, B-4."""
    peer = Peer({"tools": {}, "tasks": {}})
    async with bridging(peer) as client:
        opening = await client.open("2025-06-18")
        assert opening.result == {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "peer", "version": "1"},
        }
        assert client.upstream.version == "2025-06-18"
        # `initialized` is not for the server, and there is nothing to listen for.
        await trio.sleep(1)
    [discover] = peer.seen
    assert discover.params == {"_meta": META}


@pytest.mark.parametrize("requested", ["2026-07-28", "1.0"])
async def test_a_client_of_another_revision_is_offered_the_last_with_a_handshake(
    requested: str,
) -> None:
    """B-2."""
    async with bridging(Peer()) as client:
        assert (await client.open(requested)).result["protocolVersion"] == "2025-11-25"


async def test_a_second_handshake_is_answered_again() -> None:
    """Q-20."""
    peer = Peer({"logging": {}})
    async with bridging(peer) as client:
        await client.open()
        await client.done(client.ask("logging/setLevel", {"level": "debug"}))
        second = await client.open("2024-11-05", {"sampling": {}})
        assert second.result["protocolVersion"] == "2024-11-05"
        await client.done(client.ask("tools/list"))
    capabilities: dict[str, Any] = {spec.META_CLIENT_CAPABILITIES: {"sampling": {}}}
    assert peer.seen[-1].params["_meta"] == {
        **META,
        **capabilities,
    }  # and nobody asked for a log level


async def test_what_is_said_during_the_handshake_waits_for_it_in_order() -> None:
    """S-9, P4; a ping is answered at once."""
    peer, discovered = Peer(), trio.Event()

    @peer.on(spec.DISCOVER)
    async def slow(message: Message, call: Call) -> None:
        await discovered.wait()
        await peer.discovered(message, call)

    async with bridging(peer) as client:
        opening = client.ask("initialize", {"protocolVersion": "2025-11-25"})
        calls = [client.ask("tools/call", {"name": str(number)}) for number in range(20)]
        ping = client.ask("ping")
        await client.done(ping)
        assert ping.result == {}
        await wait_all_tasks_blocked()
        assert len(peer.seen) == 1
        discovered.set()
        await client.done(opening, *calls)
    assert [message.params["name"] for message in peer.got("tools/call")] == [
        str(number) for number in range(20)
    ]


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(discovers("2025-11-25", "2025-06-18"), id="handshake versions only"),
        pytest.param(discovers(), id="no versions"),
        pytest.param(answer({"tools": []}), id="another result"),
        pytest.param(answer([1]), id="no result"),
        pytest.param(version_refused("2025-11-25"), id="refusal naming handshake versions"),
        pytest.param(
            refused(400, spec.UNSUPPORTED_VERSION, {"supported": ["2025-11-25"]}),
            id="the same, 400",
        ),
    ],
)
async def test_a_server_of_the_handshake_era_is_not_bridged(rule: Rule) -> None:
    """D-B, D-C: what follows is decided by the layer above."""
    async with bridging(Peer(rules={spec.DISCOVER: rule})) as client:
        opening = client.ask("initialize", {"protocolVersion": "2025-11-25"})
        await client.done(opening)
        assert isinstance(opening.failure, CannotBridge)
        assert opening.emitted == []
        assert client.upstream.version is None


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(discovers("2031-01-01", "2025-11-25"), id="result"),
        pytest.param(version_refused("2031-01-01", "2025-11-25"), id="error"),
        pytest.param(
            refused(400, spec.UNSUPPORTED_VERSION, {"supported": ["2031-01-01", "2025-11-25"]}),
            id="error status",
        ),
    ],
)
async def test_without_a_common_version_the_client_is_told_which_there_are(rule: Rule) -> None:
    """B-31, S-21."""
    async with bridging(Peer(rules={spec.DISCOVER: rule})) as client:
        opening = client.ask("initialize", {"protocolVersion": "2025-06-18"})
        await client.done(opening)
    assert opening.answer["error"] == {
        "code": -32602,
        "message": "Unsupported protocol version",
        "data": {"supported": ["2031-01-01", "2025-11-25"], "requested": "2025-06-18"},
    }


@pytest.mark.parametrize(
    "rule", [version_refused, lambda v: refused(400, -32022, {"supported": [v]})]
)
async def test_a_version_that_is_refused_and_offered_is_tried_once_more(rule: Any) -> None:
    """B-31, D-C: some servers complain about the first request whatever it says."""
    peer = Peer()
    peer.rules[spec.DISCOVER] = in_turn(rule("2026-07-28"), peer.discovered)
    async with bridging(peer) as client:
        assert (await client.open()).result["serverInfo"]["name"] == "peer"
    first, second = peer.got(spec.DISCOVER)
    assert first.id != second.id
    peer = Peer(rules={spec.DISCOVER: rule("2026-07-28")})
    async with bridging(peer) as client:
        opening = await client.open()
        assert opening.answer["error"]["code"] == -32022
    assert len(peer.seen) == 2


async def test_an_error_is_the_clients_answer() -> None:
    """B-1."""
    async with bridging(Peer(rules={spec.DISCOVER: fail(-32603, "down", {"x": 1})})) as client:
        opening = client.ask("initialize", id="a")
        await client.done(opening)
    assert opening.answer == {
        "jsonrpc": "2.0",
        "id": "a",
        "error": {"code": -32603, "message": "down", "data": {"x": 1}},
    }


@pytest.mark.parametrize(
    "rule, kind",
    [
        pytest.param(break_off(Unreachable("nobody there")), Unreachable, id="unreachable"),
        pytest.param(break_off(TimedOut("silent")), TimedOut, id="silent"),
        pytest.param(refused(503), HttpRefusal, id="503"),
        pytest.param(refused(404, -32601), HttpRefusal, id="404"),
    ],
)
async def test_a_failed_discovery_is_left_to_the_layer_above(
    rule: Rule, kind: type[Exception]
) -> None:
    """B-1, D-D: and the next `initialize` begins from the start."""
    peer = Peer()
    peer.rules[spec.DISCOVER] = in_turn(rule, peer.discovered)
    async with bridging(peer) as client:
        opening = client.ask("initialize")
        await client.done(opening)
        assert isinstance(opening.failure, kind)
        assert opening.emitted == []
        assert (await client.open()).result["protocolVersion"] == "2025-11-25"


async def test_a_request_before_the_handshake_is_refused() -> None:
    peer = Peer()
    async with bridging(peer) as client:
        early, note = client.ask("tools/list"), client.tell("notifications/x")
        await client.done(early, note)
        assert early.answer["error"]["code"] == -32602
        ping = client.ask("ping")
        await client.done(ping)
        assert ping.result == {}
        await client.upstream.aclose()
    assert peer.seen == []
    assert peer.closed == 1


# Requests and notifications


async def test_a_request_says_who_asks_and_keeps_its_id() -> None:
    """B-6, B-8, B-16: and so does one that nobody here knows."""
    peer = Peer(
        rules={"x/y": answer({"resultType": "complete", "ttlMs": 1, "_meta": {"a": 1}, "z": 2})}
    )
    async with bridging(peer) as client:
        await client.open()
        asked = client.ask("x/y", {"q": 1, "_meta": {"progressToken": "t"}}, id="mine")
        await client.done(asked)
    assert asked.answer == {"jsonrpc": "2.0", "id": "mine", "result": {"_meta": {"a": 1}, "z": 2}}
    [sent] = peer.got("x/y")
    assert sent.id == "mine"
    assert sent.params == {"q": 1, "_meta": {"progressToken": "t"} | META}


async def test_ping_is_answered_here() -> None:
    """B-5."""
    peer = Peer()
    async with bridging(peer) as client:
        await client.open()
        ping = client.ask("ping")
        await client.done(ping)
    assert ping.result == {}
    assert peer.got("ping") == []


@pytest.mark.parametrize("method", ["tasks/get", "tasks/list", "tasks/result", "tasks/cancel"])
async def test_tasks_are_not_offered(method: str) -> None:
    """B-15, B-40."""
    peer = Peer()
    async with bridging(peer) as client:
        await client.open()
        asked = client.ask(method, {"taskId": "k"})
        await client.done(asked)
    assert asked.answer["error"]["code"] == -32601
    assert peer.got(method) == []


async def test_notifications_without_a_counterpart_are_swallowed() -> None:
    """B-9; any other is forwarded with what a request has (B-16)."""
    peer = Peer()
    async with bridging(peer) as client:
        await client.open()
        for method in ("roots/list_changed", "progress", "cancelled", "x"):
            await client.done(client.tell(f"notifications/{method}"))
    assert [message.method for message in peer.seen] == ["server/discover", "notifications/x"]
    assert peer.seen[-1].params == {"_meta": META}


async def test_what_comes_with_a_response_passes() -> None:
    """P4: progress and log messages flow while the call runs."""
    peer, go_on = Peer(), trio.Event()

    @peer.on("tools/call")
    async def work(message: Message, call: Call) -> None:
        await call.emit(jsonrpc.notification(spec.LOG_MESSAGE, {"level": "info", "data": "x"}))
        await go_on.wait()
        await answer()(message, call)

    async with bridging(peer) as client:
        await client.open()
        asked = client.ask("tools/call", {"name": "a"})
        await wait_all_tasks_blocked()
        assert asked.notes == ["x"]
        go_on.set()
        await client.done(asked)
    assert asked.result == {}


async def test_a_slow_call_holds_up_nobody() -> None:
    """P4."""
    peer = Peer(rules={"tools/call": silent})
    async with bridging(peer) as client:
        await client.open()
        slow, quick = client.ask("tools/call"), client.ask("tools/list")
        await client.done(quick)
        client.cancel(slow)
        await client.done(slow)
    assert slow.emitted == []


async def test_failures_of_the_upstream_pass() -> None:
    peer = Peer(rules={"tools/call": break_off(ConnectionLost("gone"))})
    async with bridging(peer) as client:
        await client.open()
        asked = client.ask("tools/call")
        await client.done(asked)
    assert isinstance(asked.failure, ConnectionLost)


@pytest.mark.parametrize("kind", ["task", "x", 7, {}])
@pytest.mark.parametrize("method", ["tools/call", "tools/list"])
async def test_a_result_of_an_unknown_type_is_a_bad_answer(method: str, kind: object) -> None:
    """B-8, T-74."""
    async with bridging(Peer(rules={method: answer({"resultType": kind})})) as client:
        await client.open()
        asked = client.ask(method)
        await client.done(asked)
    assert isinstance(asked.failure, BadAnswer)
    assert asked.emitted == []


@pytest.mark.parametrize("kind", [None, "complete"])
async def test_a_result_without_a_type_is_complete(kind: object) -> None:
    """T-74."""
    async with bridging(Peer(rules={"tools/call": answer({"resultType": kind, "x": 1})})) as client:
        await client.open()
        asked = client.ask("tools/call")
        await client.done(asked)
    assert asked.result == {"x": 1}


async def test_only_some_methods_may_ask() -> None:
    """T-73."""
    result = {"resultType": "input_required", "requestState": "s"}
    async with bridging(Peer(rules={"tools/list": answer(result)})) as client:
        await client.open()
        asked = client.ask("tools/list")
        await client.done(asked)
    assert isinstance(asked.failure, BadAnswer)


async def test_results_and_errors_fit_the_revision_of_the_client() -> None:
    """B-20 to B-24, B-30 to B-34: the tables are elsewhere."""
    peer = Peer()
    peer.rules["tools/call"] = answer({"content": [{"type": "audio", "mimeType": "audio/wav"}]})
    peer.rules["resources/read"] = fail(-32602, "no", {"uri": "a:b"})
    peer.rules["x/unknown"] = fail(-32601, "Method not found")
    async with bridging(peer) as client:
        await client.open("2024-11-05")
        asked = client.ask("tools/call")
        read = client.ask("resources/read", {"uri": "a:b"})
        unknown = client.ask("x/unknown")
        await client.done(asked, read, unknown)
        assert asked.result == {"content": [{"type": "text", "text": "[audio: audio/wav]"}]}
        assert read.answer["error"]["code"] == -32002
        assert unknown.answer["error"] == {"code": -32601, "message": "Method not found"}
        await client.open("2025-03-26")
        asked = client.ask("tools/call")
        await client.done(asked)
        assert asked.result == {"content": [{"type": "audio", "mimeType": "audio/wav"}]}


async def test_a_header_mismatch_is_logged_as_our_defect(caplog: pytest.LogCaptureFixture) -> None:
    """B-33."""
    async with bridging(Peer(rules={"tools/call": fail(-32020, "Mcp-Name")})) as client:
        await client.open()
        asked = client.ask("tools/call")
        await client.done(asked)
    assert asked.answer["error"] == {"code": -32020, "message": "Mcp-Name"}
    assert "defect" in caplog.text


async def test_a_version_refused_later_is_tried_once_more() -> None:
    """B-31, P2: such a request was not processed."""
    peer = Peer()
    peer.rules["tools/call"] = in_turn(version_refused("2026-07-28", "x"), answer({"x": 1}))
    async with bridging(peer) as client:
        await client.open()
        asked = client.ask("tools/call", {"name": "a"}, id=5)
        await client.done(asked)
    assert asked.answer == {"jsonrpc": "2.0", "id": 5, "result": {"x": 1}}
    first, second = peer.got("tools/call")
    assert (first.id, first.params) == (5, second.params)
    assert second.id != 5


@pytest.mark.parametrize("supported, times", [(("2026-07-28",), 2), (("2031-01-01",), 1), ((), 1)])
async def test_a_version_that_stays_refused_cannot_be_bridged(
    supported: tuple[str, ...], times: int
) -> None:
    """B-31."""
    peer = Peer(rules={"tools/call": version_refused(*supported)})
    async with bridging(peer) as client:
        await client.open()
        asked = client.ask("tools/call")
        await client.done(asked)
    assert isinstance(asked.failure, CannotBridge)
    assert len(peer.got("tools/call")) == times


async def test_a_server_that_is_too_slow_in_all_runs_out_of_time(autojump_clock: MockClock) -> None:
    """`--timeout-call`, over whatever the upstream allows."""
    peer = Peer(rules={"tools/call": silent})
    async with bridging(peer, timeout_call=30) as client:
        await client.open()
        asked = client.ask("tools/call")
        await client.done(asked)
    assert isinstance(asked.failure, TimedOut)
    assert asked.took == 30


# The log


async def test_the_log_level_is_said_with_each_later_request() -> None:
    """B-10, P4: from the next message on, in the order in which the client wrote them."""
    peer = Peer({"logging": {}})
    async with bridging(peer) as client:
        await client.open()
        sent = [client.ask("tools/call")]
        for level in spec.LOG_LEVELS * 3:
            sent.append(client.ask("logging/setLevel", {"level": level}))
            sent.append(client.ask("tools/call"))
        sent.append(client.tell("notifications/x"))
        await client.done(*sent)
        assert sent[1].result == {}
    levels = [message.params["_meta"].get(spec.META_LOG_LEVEL) for message in peer.seen[1:]]
    assert levels == [None, *spec.LOG_LEVELS * 3, spec.LOG_LEVELS[-1]]
    assert peer.got("logging/setLevel") == []


@pytest.mark.parametrize("level", ["loud", None, 7, ["info"], {}])
async def test_an_unknown_log_level_is_refused(level: object) -> None:
    """B-10."""
    peer = Peer({"logging": {}})
    async with bridging(peer) as client:
        await client.open()
        asked = client.ask("logging/setLevel", {"level": level})
        await client.done(asked)
        assert asked.answer["error"]["code"] == -32602
        await client.done(client.ask("tools/list"))
    assert spec.META_LOG_LEVEL not in peer.seen[-1].params["_meta"]


async def test_there_is_no_log_level_without_a_log() -> None:
    """B-10."""
    async with bridging(Peer()) as client:
        await client.open()
        asked = client.ask("logging/setLevel", {"level": "info"})
        await client.done(asked)
    assert asked.answer["error"]["code"] == -32601


# Leaving


async def test_sleep_and_the_end_reach_the_upstream(autojump_clock: MockClock) -> None:
    peer = Peer({"tools": {"listChanged": True}})
    async with bridging(peer) as client:
        await client.open()
        await trio.sleep(1)
        assert len(peer.open_listens) == 1
        client.upstream.refresh()
        await client.upstream.aclose()
        await wait_all_tasks_blocked()
        assert peer.open_listens == []
    assert (peer.refreshed, peer.closed) == (1, 1)


async def test_a_response_that_nobody_asked_for_is_dropped() -> None:
    """S-3."""
    peer = Peer()
    async with bridging(peer) as client:
        await client.open()
        await client.done(client.reply("r7f-99"), client.reply(1))
    assert len(peer.seen) == 1


@pytest.mark.parametrize("depth", [10, 500, 900, 960, 980, 2000, 5000, 50_000])
async def test_what_is_nested_deeply_has_an_answer(depth: int) -> None:
    """P1: also what can just be read."""
    nest = "[" * depth + "]" * depth
    raw = f'{{"jsonrpc":"2.0","id":7,"method":"m","params":{{"a":{nest}}}}}'
    async with bridging(Peer()) as client:
        await client.open()
        try:
            asked = client.put(jsonrpc.parse(raw.encode()))
        except jsonrpc.NotAMessage:
            return
        await client.done(asked)
    assert isinstance(asked.failure, TooDeep) or asked.result == {}
