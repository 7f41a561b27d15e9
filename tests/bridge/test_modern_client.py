"""A stateless client in front of an upstream of the handshake era."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc, spec
from mcp_stdio.bridge.log_level import PATIENCE
from mcp_stdio.errors import CannotBridge, Refused, RelayError, TimedOut, Unreachable
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from mcp_stdio.upstream.refusal import HttpRefusal
from tests.bridge.modern import INFO, Era, Rule, bridging


def raising(*failures: RelayError) -> Rule:
    """Fails in turn, then opens."""
    rest = list(failures)

    async def rule(message: Message, call: Call) -> Any:
        if rest:
            raise rest.pop(0)
        return {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": INFO}

    return rule


def telling(*messages: Message) -> Rule:
    """Says something before it answers."""

    async def rule(message: Message, call: Call) -> Any:
        for told in messages:
            await call.emit(told)
        return {}

    return rule


def slowly(seconds: float, answer: Any = None) -> Rule:
    async def rule(message: Message, call: Call) -> Any:
        await trio.sleep(seconds)
        return answer or {}

    return rule


def log_message(level: str) -> Message:
    return jsonrpc.notification("notifications/message", {"level": level, "data": level})


# Opening


async def test_the_first_request_opens_the_session(autojump_clock: MockClock) -> None:
    """B-50, B-51"""
    upstream = Era()
    async with bridging(upstream) as client:
        assert upstream.got == []
        await client.done(client.call(meta={spec.META_CLIENT_INFO: INFO}))
        await client.done(client.call("tools/list"))
    assert upstream.order() == [
        "initialize",
        "notifications/initialized",
        "tools/call",
        "tools/list",
    ]
    assert upstream.got[0].params == {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": INFO,
    }


async def test_all_that_wait_share_one_opening_and_leave_in_order(
    autojump_clock: MockClock,
) -> None:
    """B-50, P4"""
    upstream = Era(initialize=slowly(1, {"capabilities": {}}))
    async with bridging(upstream) as client:
        discovering, listening = client.call("server/discover"), client.listen()
        asked = [client.call(params={"name": str(number)}) for number in range(20)]
        await wait_all_tasks_blocked()
        for one in (discovering, listening, *asked):
            assert one.relayed.turn.is_over  # who needs no opening is not held up
        client.put(jsonrpc.notification("notifications/x"))
        await client.done(*asked)
    assert upstream.order()[:2] == ["initialize", "notifications/initialized"]
    names = [message.params.get("name") for message in upstream.got[2:]]
    assert names == [*map(str, range(20)), None]


async def test_what_comes_after_the_opening_overtakes_nothing(autojump_clock: MockClock) -> None:
    """P4"""
    upstream = Era()
    async with bridging(upstream) as client:
        await client.done(client.call("tools/list"))
        asked = [client.call(params={"name": str(number)}) for number in range(20)]
        await client.done(*asked)
    assert [message.params["name"] for message in upstream.got[3:]] == [*map(str, range(20))]


async def test_a_refused_opening_is_the_answer_of_all_and_tried_again(
    autojump_clock: MockClock,
) -> None:
    """B-50"""
    refused = jsonrpc.error("r7f-1", -32000, "not today", {"until": "tomorrow"})
    answers: list[Any] = [refused, {"capabilities": {}}]

    async def initialize(message: Message, call: Call) -> Any:
        await trio.sleep(1)
        return answers.pop(0)

    upstream = Era(initialize=initialize)
    async with bridging(upstream) as client:
        asked = [client.call(id=1), client.call("server/discover", id="1"), client.listen(id="w")]
        await client.done(*asked)
        for one in asked:
            assert one.answer["error"] == refused.error
            assert jsonrpc.same_id(one.answer["id"], one.relayed.message.id)
        again = client.call()
        await client.done(again)
        assert again.result["resultType"] == "complete"
    assert upstream.order() == [
        *("initialize", "initialize", "notifications/initialized", "tools/call"),
    ]


@pytest.mark.parametrize("has_answer", [True, False])
async def test_an_opening_refused_by_http_is_told_in_the_servers_words_if_any(
    has_answer: bool, autojump_clock: MockClock
) -> None:
    """B-50"""
    error = jsonrpc.error("r7f-1", -32600, "no") if has_answer else None
    refusal = HttpRefusal("no", status=400, text="no", answer=error, retry_after=None)
    async with bridging(Era(initialize=raising(refusal))) as client:
        asked = client.call(id=7)
        await client.done(asked)
        if has_answer:
            assert asked.answer == {
                "jsonrpc": "2.0",
                "id": 7,
                "error": {"code": -32600, "message": "no"},
            }
        else:
            assert isinstance(asked.failure, Refused)


async def test_an_opening_that_fails_fails_all_that_need_it_and_is_tried_again(
    autojump_clock: MockClock,
) -> None:
    """B-50: E-1"""
    upstream = Era(initialize=raising(Unreachable("nobody there")))
    async with bridging(upstream) as client:
        asked = [client.call(), client.call("server/discover"), client.listen()]
        await client.done(*asked)
        assert [type(one.failure) for one in asked] == [Unreachable] * 3
        again = client.call()
        await client.done(again)
        assert again.result["resultType"] == "complete"


async def test_who_leaves_takes_the_opening_from_nobody(autojump_clock: MockClock) -> None:
    """B-50, B-56"""
    upstream = Era(initialize=slowly(1, {"capabilities": {}}))
    async with bridging(upstream) as client:
        first, second = client.call(params={"name": "first"}), client.call(params={"name": "b"})
        await wait_all_tasks_blocked()
        client.cancel(first)
        await client.done(first, second)
        assert first.emitted == []
        assert second.result["resultType"] == "complete"
    assert [message.params.get("name") for message in upstream.got[2:]] == ["b"]


async def test_a_server_is_discovered_without_being_asked(autojump_clock: MockClock) -> None:
    """B-52"""
    upstream = Era({"tools": {"listChanged": True}, "tasks": {}})
    async with bridging(upstream) as client:
        one, other = client.call("server/discover", id="d"), client.call("server/discover", id="e")
        await client.done(one, other)
        assert other.result == one.result
        assert one.answer == {
            "jsonrpc": "2.0",
            "id": "d",
            "result": {
                "resultType": "complete",
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {"listChanged": True}},
                "ttlMs": 0,
                "cacheScope": "private",
                "_meta": {spec.META_SERVER_INFO: INFO},
            },
        }
    assert upstream.order() == ["initialize", "notifications/initialized"]


# Messages of the client


@pytest.mark.parametrize(
    "method, params, code",
    [
        ("tools/call", {}, -32602),
        ("tools/call", {"_meta": {spec.META_VERSION: spec.R5}}, -32602),
        ("server/discover", {"_meta": {spec.META_VERSION: "2027-01-01"}}, -32022),
        *(
            (
                method,
                {"_meta": {spec.META_VERSION: spec.R5, spec.META_CLIENT_CAPABILITIES: {}}},
                -32601,
            )
            for method in ("ping", "logging/setLevel", "resources/subscribe")
        ),
    ],
)
async def test_what_is_not_for_the_server_is_answered_at_once(
    method: str, params: Any, code: int, autojump_clock: MockClock
) -> None:
    """S-11, S-12, B-53, B-57"""
    upstream = Era()
    async with bridging(upstream) as client:
        asked = client.ask(method, params, id="a")
        await client.done(asked)
        assert asked.answer["id"] == "a"
        assert asked.answer["error"]["code"] == code
    assert upstream.got == []


async def test_an_id_used_again_is_another_one_for_the_server(autojump_clock: MockClock) -> None:
    """B-53"""
    upstream = Era()
    async with bridging(upstream) as client:
        for _ in range(2):
            asked = client.call(id=1, meta={"progressToken": "t", "traceparent": "00-1"})
            await client.done(asked)
            assert asked.answer["id"] == 1
    calls = [message for message in upstream.got if message.method == "tools/call"]
    assert [message.id for message in calls] == ["r7f-2", "r7f-3"]
    assert calls[0].params == {"_meta": {"progressToken": "t", "traceparent": "00-1"}}


@pytest.mark.parametrize(
    "message",
    [
        jsonrpc.result("q1", {}),
        jsonrpc.error("q1", -1, "no"),
        jsonrpc.notification("notifications/cancelled", {"requestId": 1}),
        jsonrpc.notification("notifications/initialized"),
        jsonrpc.notification("notifications/roots/list_changed"),
        jsonrpc.notification("notifications/progress", {"progressToken": 1, "progress": 1}),
    ],
    ids=str,
)
async def test_what_a_stateless_client_does_not_say_goes_nowhere(
    message: Message, autojump_clock: MockClock
) -> None:
    """S-4, B-56"""
    upstream = Era()
    async with bridging(upstream) as client:
        await client.done(client.put(message))
    assert upstream.got == []


async def test_a_notification_that_is_not_known_is_passed_on(autojump_clock: MockClock) -> None:
    """T-70"""
    upstream = Era()
    async with bridging(upstream) as client:
        meta = {spec.META_VERSION: spec.R5, "k": 1}
        await client.done(client.tell("notifications/x", {"_meta": meta, "a": 1}))
    assert upstream.order() == ["initialize", "notifications/initialized", "notifications/x"]
    assert upstream.got[-1].params == {"_meta": {"k": 1}, "a": 1}


async def test_results_and_errors_are_the_servers_in_other_words(
    autojump_clock: MockClock,
) -> None:
    """B-54, B-60, B-66"""

    async def read(message: Message, call: Call) -> Any:
        assert message.id is not None
        return jsonrpc.error(message.id, -32002, "Resource not found")

    async def get(message: Message, call: Call) -> Any:
        assert message.id is not None
        return jsonrpc.error(message.id, -32042, "needs browser", {"elicitations": []})

    async def tools(message: Message, call: Call) -> Any:
        return {"tools": [{"name": "a", "execution": {"taskSupport": "optional"}}]}

    upstream = Era(**{"resources/read": read, "prompts/get": get, "tools/list": tools})
    async with bridging(upstream) as client:
        reading = client.call("resources/read", {"uri": "file:///a"}, id=8)
        getting, listing = client.call("prompts/get"), client.call("tools/list")
        await client.done(reading, getting, listing)
        assert reading.answer == {
            "jsonrpc": "2.0",
            "id": 8,
            "error": {
                "code": -32602,
                "message": "Resource not found",
                "data": {"uri": "file:///a"},
            },
        }
        assert isinstance(getting.failure, CannotBridge)
        assert listing.result == {
            "resultType": "complete",
            "tools": [{"name": "a"}],
            "ttlMs": 0,
            "cacheScope": "private",
            "_meta": {spec.META_SERVER_INFO: INFO},
        }


async def test_a_failure_of_the_upstream_is_that_of_the_request(
    autojump_clock: MockClock,
) -> None:
    upstream = Era(**{"tools/call": raising(TimedOut("too long"))})
    async with bridging(upstream) as client:
        asked = client.call()
        await client.done(asked)
        assert isinstance(asked.failure, TimedOut)


async def test_refreshing_and_leaving_are_passed_down(autojump_clock: MockClock) -> None:
    upstream = Era(initialize=slowly(0))
    async with bridging(upstream) as client:
        assert client.bridge.version is None
        client.bridge.refresh()
        await client.bridge.aclose()
    assert upstream.refreshed == 1
    assert upstream.rules == {}


# Log levels


async def levels_set(upstream: Era) -> list[Any]:
    return [message.params["level"] for message in upstream.got if message.method == spec.SET_LEVEL]


async def test_the_session_is_as_verbose_as_any_request_under_way(
    autojump_clock: MockClock,
) -> None:
    """B-55"""
    upstream = Era({"logging": {}}, **{"tools/call": slowly(10)})
    async with bridging(upstream) as client:
        asked = []
        for level in ("warning", "error", None, "info", "notice", "debug"):
            asked.append(client.call(level=level))
            await trio.sleep(1)
        await client.done(*asked)
        await client.done(client.call(level="debug"))
        await client.done(client.call(level="alert"))
    assert await levels_set(upstream) == ["warning", "info", "debug", "alert"]
    assert upstream.order()[2:4] == ["logging/setLevel", "tools/call"]


@pytest.mark.parametrize("seconds", [0, 1])
async def test_requests_at_the_same_time_set_the_level_once_and_keep_their_order(
    seconds: float, autojump_clock: MockClock
) -> None:
    """B-55, P4"""
    rules = {"logging/setLevel": slowly(seconds), "tools/call": slowly(10)}
    upstream = Era({"logging": {}}, **rules)
    async with bridging(upstream) as client:
        asked = [client.call(params={"n": number}, level="info") for number in range(10)]
        await client.done(*asked)
    assert await levels_set(upstream) == ["info"]
    first_calls = [message.method for message in upstream.got[2:]]
    assert first_calls == ["logging/setLevel"] + ["tools/call"] * 10
    assert [message.params["n"] for message in upstream.got[3:]] == list(range(10))


async def test_who_needs_no_other_level_does_not_wait_for_one(autojump_clock: MockClock) -> None:
    """B-55, P4"""
    upstream = Era({"logging": {}}, **{"logging/setLevel": slowly(1)})
    async with bridging(upstream) as client:
        verbose, quiet = client.call(level="debug"), client.call()
        await client.done(verbose, quiet)
        assert (verbose.took, quiet.took) == (1, 0)


async def test_a_server_without_logging_is_told_no_level(autojump_clock: MockClock) -> None:
    """B-55"""
    upstream = Era(**{"tools/call": telling(log_message("error"))})
    async with bridging(upstream) as client:
        asked = client.call(level="debug")
        await client.done(asked)
        assert asked.notes == ["error"]
    assert await levels_set(upstream) == []


@pytest.mark.parametrize("refuses", [True, False])
async def test_a_level_that_cannot_be_set_holds_up_nothing(
    refuses: bool, autojump_clock: MockClock
) -> None:
    """B-55"""

    async def set_level(message: Message, call: Call) -> Any:
        assert message.id is not None
        if refuses:
            return jsonrpc.error(message.id, -32603, "no")
        return await trio.sleep_forever()

    upstream = Era({"logging": {}}, **{"logging/setLevel": set_level})
    async with bridging(upstream) as client:
        asked = client.call(level="debug")
        await client.done(asked)
        assert asked.result["resultType"] == "complete"
        assert asked.took == (0 if refuses else PATIENCE)
        await client.done(client.call(level="debug"))
        # Neither is asked for again: a silent server would hold up each request.
        calls = [client.call(level="debug") for _ in range(5)]
        await client.done(*calls)
        assert [each.took for each in calls] == 5 * [0]
    assert await levels_set(upstream) == ["debug"]


async def test_a_level_whose_answer_never_came_is_not_taken_for_set(
    autojump_clock: MockClock,
) -> None:
    """B-55"""
    upstream = Era({"logging": {}}, **{"logging/setLevel": slowly(5)})
    async with bridging(upstream) as client:
        await client.done(client.call(level="debug"))
        leaving = client.call(level="error")
        await trio.sleep(1)
        client.cancel(leaving)
        await client.done(leaving)
        await client.done(client.call(level="debug"))
    assert await levels_set(upstream) == ["debug", "error", "debug"]


class Unhurried(Era):
    """Takes a while until a list request has left."""

    async def send(self, message: Message, call: Call) -> None:
        if message.method == "tools/list":
            await trio.sleep(5)
        await super().send(message, call)


async def test_who_leaves_before_its_turn_takes_the_level_from_nobody(
    autojump_clock: MockClock,
) -> None:
    """B-55, P4"""
    upstream = Unhurried({"logging": {}}, **{"tools/call": slowly(10)})
    async with bridging(upstream) as client:
        under_way = client.call(level="debug")
        await trio.sleep(1)
        first, leaving = client.call("tools/list"), client.call(level="debug")
        await trio.sleep(1)
        client.cancel(leaving)
        await client.done(leaving, first, client.call("tools/list", level="error"), under_way)
    assert await levels_set(upstream) == ["debug"]


@pytest.mark.parametrize(
    "level, heard", [(None, []), ("error", ["alert"]), ("info", ["info", "alert"])]
)
async def test_log_messages_reach_only_who_asked_for_them(
    level: str | None, heard: list[str], autojump_clock: MockClock
) -> None:
    """B-55, T-76"""
    told = [log_message("debug"), log_message("info"), log_message("alert")]
    upstream = Era({"logging": {}}, **{"tools/call": telling(*told)})
    async with bridging(upstream) as client:
        other = client.call("tools/list", level="debug")
        asked = client.call(level=level)
        await client.done(asked, other)
        await client.bridge.overhear(log_message("alert"))
        assert asked.notes == heard
        assert other.notes == []
        assert client.emitted == []


# What the server says by itself


@pytest.mark.parametrize("is_on_its_stream", [True, False])
async def test_the_server_is_answered_in_the_clients_place(
    is_on_its_stream: bool, autojump_clock: MockClock
) -> None:
    """B-58, B-61: a ping is answered, what nobody can carry is refused at once."""
    questions = [jsonrpc.request(0, "ping"), jsonrpc.request("e", "elicitation/create", {})]
    upstream = Era(**{"tools/call": telling(*questions)})
    async with bridging(upstream) as client:
        asked = client.call("tools/call" if is_on_its_stream else "tools/list")
        await client.done(asked)
        if not is_on_its_stream:
            for question in questions:
                await client.bridge.overhear(question)
        await wait_all_tasks_blocked()
        assert [message.is_response for message in asked.emitted] == [True]
        assert client.emitted == []
    answers = {message.id: message for message in upstream.got if message.is_response}
    assert answers[0].body == {"jsonrpc": "2.0", "id": 0, "result": {}}
    error = answers["e"].error
    assert error is not None
    assert error["code"] == -32601
    assert len(answers) == 2


async def test_a_server_that_takes_no_answer_breaks_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """B-58"""

    class Deaf(Era):
        async def send(self, message: Message, call: Call) -> None:
            if message.is_response:
                raise Unreachable("nobody there")
            await super().send(message, call)

    async with bridging(Deaf(**{"tools/call": telling(jsonrpc.request(0, "ping"))})) as client:
        asked = client.call()
        await client.done(asked)
        await wait_all_tasks_blocked()
        assert asked.result["resultType"] == "complete"
    assert "internal error" not in caplog.text


async def test_progress_and_what_is_not_known_pass_on_the_stream_of_their_request(
    autojump_clock: MockClock,
) -> None:
    """T-64, T-70"""
    told = [
        jsonrpc.notification("notifications/progress", {"progressToken": "t", "progress": 1}),
        jsonrpc.notification("notifications/x", {"a": 1}),
    ]
    dropped = [
        jsonrpc.notification("notifications/cancelled", {"requestId": 0}),
        jsonrpc.notification("notifications/elicitation/complete", {"elicitationId": "e"}),
    ]
    upstream = Era(**{"tools/call": telling(*dropped, *told, *dropped)})
    async with bridging(upstream) as client:
        asked = client.call()
        await client.done(asked)
        assert [message.raw for message in asked.emitted[:-1]] == [each.raw for each in told]
        assert client.emitted == []


async def test_what_belongs_to_no_request_is_progress_or_nothing(
    autojump_clock: MockClock,
) -> None:
    """B-67"""
    progress = jsonrpc.notification("notifications/progress", {"progressToken": 1, "progress": 1})
    async with bridging(Era()) as client:
        for message in (
            jsonrpc.notification("notifications/cancelled", {"requestId": 0}),
            jsonrpc.notification("notifications/elicitation/complete", {"elicitationId": "e"}),
            jsonrpc.notification("notifications/tasks/status", {"taskId": "k"}),
            jsonrpc.notification("notifications/tools/list_changed"),
            log_message("emergency"),
            progress,
        ):
            await client.bridge.overhear(message)
        assert [message.raw for message in client.emitted] == [progress.raw]
