"""The stateless era, message by message (T-7, T-10, T-13, T-20 to T-22, T-30, T-60, T-70, T-80,
S-4, P2). What listens is in `test_subscription`."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    ConnectionLost,
    TimedOut,
    Unreachable,
    Unsendable,
)
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream.link import HeaderList
from mcp_stdio.upstream.refusal import HttpRefusal
from tests.upstream.fakes import (
    FOREVER,
    Answer,
    Reply,
    Seen,
    Server,
    answer,
    error,
    event,
    events,
    in_turn,
    lost,
    note,
    result,
    unreachable,
)
from tests.upstream.modern import params, stateless

CALL = "tools/call"
LIST = "tools/list"
READ = "resources/read"


def header_names(seen: Seen) -> set[str]:
    return {name for name, _ in seen.request.headers}


async def test_headers_say_what_the_body_says(autojump_clock: MockClock) -> None:
    server = Server()
    async with stateless(server) as client:
        await client.done(client.ask(CALL, params(name="grüß dich", arguments={"a": 1})))
        await client.done(client.ask(READ, params(uri="file:///a%20b")))
        await client.done(client.ask("tasks/get", params(taskId="k")))  # T-80
        await client.done(client.ask(LIST, params()))
        await client.done(client.tell("notifications/x", params()))
    for seen in server.seen:
        assert seen.request.method == "POST"
        assert seen.header("Accept") == "application/json, text/event-stream"
        assert seen.header("Content-Type") == "application/json"
        assert seen.header("MCP-Protocol-Version") == "2026-07-28"
        assert seen.header("Mcp-Method") == seen.rule
        assert "Mcp-Session-Id" not in header_names(seen)  # T-7
    names = [seen.header("Mcp-Name") for seen in server.seen]
    assert names == ["=?base64?Z3LDvMOfIGRpY2g=?=", "file:///a%20b", "k", None, None]


async def test_bodies_cross_as_they_are(autojump_clock: MockClock) -> None:
    """T-70, P3: unknown methods, keys and future versions included."""
    raw = (
        b'{"x":1.0,"id":9007199254740993 ,"jsonrpc":"2.0","method":"future/thing","params":'
        b'{"_meta":{"io.modelcontextprotocol/protocolVersion":"2031-01-01","b":1e400},"\\u00e9":[]}}'
    )
    back = b'{"jsonrpc":"2.0","result":{"n":1E2},"extra":null,"id":9007199254740993}'
    server = Server(**{"future/thing": Reply(body=[back])})
    async with stateless(server) as client:
        asked = client.put(jsonrpc.parse(raw))
        await client.done(asked)
        assert [message.raw for message in asked.emitted] == [back]
    [seen] = server.seen
    assert seen.request.body == raw
    assert seen.header("MCP-Protocol-Version") == "2031-01-01"


async def test_a_post_has_the_headers_of_its_era_and_no_other(autojump_clock: MockClock) -> None:
    """T-7, T-78: what is in `_meta` for the tracing of calls stays there."""
    traced = params(name="x")
    traced["_meta"] = traced["_meta"] | {"traceparent": "00-1-2-01", "tracestate": "a=b"}
    server = Server()
    async with stateless(server) as client:
        await client.done(client.ask(CALL, traced))
    [seen] = server.seen
    assert header_names(seen) == {
        *("Accept", "Content-Type", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"),
    }
    assert seen.message["params"] == traced


RESULTS = [
    '{"content":[ ],"n":1.0}',
    '{"resultType":"complete","content":[],"_meta":{"io.modelcontextprotocol/serverInfo":{}}}',
    '{"resultType":"input_required","inputRequests":{"q":{"method":"roots/list"}},"requestState":"s"}',
    '{"resultType":"input_required","requestState":"\\u0073"}',
    '{"resultType":"task","taskId":"k","status":"working","ttlMs":6e4}',
    '{"resultType":"of later days"}',
]


@pytest.mark.parametrize("value", RESULTS)
async def test_results_of_any_type_cross_as_they_are(autojump_clock: MockClock, value: str) -> None:
    """T-73 to T-75, T-80: the client knows what to do with them, rounds included."""
    answers: list[str] = []

    def run(seen: Seen) -> Reply:
        answers.append(f'{{"jsonrpc":"2.0","id":"{seen.id}","result":{value}}}')
        return Reply(body=[answers[-1].encode()])

    again = params(name="x", requestState="s", inputResponses={"q": {"roots": []}})
    server = Server(**{CALL: run})
    async with stateless(server) as client:
        asked = [client.ask(CALL, params(name="x"), id="1"), client.ask(CALL, again, id="2")]
        await client.done(*asked)
        assert [one.emitted[0].raw.decode() for one in asked] == answers
    assert [(seen.id, seen.message["params"]) for seen in server.seen] == [
        ("1", params(name="x")),
        ("2", again),
    ]


async def test_no_result_is_kept_for_later(autojump_clock: MockClock) -> None:
    """T-77: the client may keep one as long as it says, the relay keeps none."""
    value = {"resultType": "complete", "ttlMs": 1e9, "cacheScope": "public"}
    methods = ["server/discover", LIST, "prompts/list", READ]
    server = Server(**{method: lambda seen: result(seen, value) for method in methods})
    async with stateless(server) as client:
        for method in 2 * methods:
            await client.done(asked := client.ask(method, params(uri="a")))
            assert asked.result == value
    assert server.order() == 2 * methods


@pytest.mark.parametrize("method", ["ping", "logging/setLevel", "initialize"])
async def test_methods_of_the_other_era_are_the_servers_to_refuse(
    autojump_clock: MockClock, method: str
) -> None:
    """T-66."""
    server = Server(**{method: lambda seen: error(seen, -32601, "Method not found", 404)})
    async with stateless(server) as client:
        await client.done(asked := client.ask(method, params()))
        assert asked.answer["error"] == {"code": -32601, "message": "Method not found"}
    assert server.order() == [method]


async def test_a_session_id_of_the_server_means_nothing(autojump_clock: MockClock) -> None:
    def with_session(seen: Seen) -> Reply:
        return result(seen, headers=(("mcp-session-id", "s"),))

    server = Server(**{CALL: with_session})
    async with stateless(server) as client:
        for _ in range(2):
            await client.done(client.ask(CALL, params(name="x")))
        await client.upstream.aclose()
    assert server.order() == [CALL, CALL]
    assert all(seen.header("Mcp-Session-Id") is None for seen in server.seen)


async def test_parameter_headers_are_added(autojump_clock: MockClock) -> None:
    server = Server()

    def region(message: Message) -> HeaderList:
        return (("Mcp-Param-Region", message.method),)

    async with stateless(server, parameter_headers=region) as client:
        await client.done(client.ask(CALL, params(name="x")))
    assert server.seen[0].header("Mcp-Param-Region") == CALL


async def test_what_no_header_can_carry_is_not_sent(autojump_clock: MockClock) -> None:
    """1.4: a lone surrogate has no UTF-8."""
    server = Server()
    async with stateless(server) as client:
        await client.done(asked := client.ask(CALL, params(name="\ud800")))
        assert isinstance(asked.failure, Unsendable)
        assert asked.failure.code == -32602
        await client.done(asked := client.ask(CALL, params(name="x")))
        assert asked.result == {}
    assert len(server.seen) == 1


async def test_notifications_of_a_request_come_before_its_answer(
    autojump_clock: MockClock,
) -> None:
    server = Server(
        **{CALL: lambda seen: events(note("a"), b": ping\n\n", note("b"), answer(seen))}
    )
    async with stateless(server) as client:
        await client.done(asked := client.ask(CALL, params(name="x")))
        assert asked.notes == ["a", "b"]
        assert asked.result == {"value": "done"}


async def test_a_request_of_the_server_is_dropped(autojump_clock: MockClock) -> None:
    """S-4, T-10: there is none in this era, and the client could not answer it."""
    question = {"id": 7, "method": "elicitation/create", "params": {}}
    server = Server(**{CALL: lambda seen: events(question, note("a"), answer(seen))})
    async with stateless(server) as client:
        await client.done(asked := client.ask(CALL, params(name="x")))
        assert [message.is_request for message in asked.emitted] == [False, False]
        await client.done(client.reply(7))
    assert server.order() == [CALL]


@pytest.mark.parametrize("is_stream", [True, False])
async def test_closing_is_cancelling(autojump_clock: MockClock, is_stream: bool) -> None:
    """T-60: at once, without a message, also where the answer would be plain JSON."""
    server = Server(**{CALL: events(note("a"), FOREVER) if is_stream else Reply(before=[FOREVER])})
    async with stateless(server) as client:
        asked = client.ask(CALL, params(name="x"))
        await wait_all_tasks_blocked()
        [seen] = server.seen
        client.cancel(asked)
        await client.done(asked)
        assert seen.closed.is_set()
        assert asked.took == 0
    assert server.order() == [CALL]


@pytest.mark.parametrize("silence, total", [(5.0, None), (None, 5.0)])
async def test_time_that_runs_out_closes_as_well(
    autojump_clock: MockClock, silence: float | None, total: float | None
) -> None:
    server = Server(**{CALL: Reply(before=[FOREVER])})
    async with stateless(server, silence=silence, total=total) as client:
        await client.done(asked := client.ask(CALL, params(name="x")))
        assert isinstance(asked.failure, TimedOut)
        assert asked.took == 5
        assert server.seen[0].closed.is_set()
    assert server.order() == [CALL]


async def test_an_error_under_an_error_status_is_the_answer(autojump_clock: MockClock) -> None:
    server = Server(**{CALL: lambda seen: error(seen, -32021, "needs elicitation", 400)})
    async with stateless(server) as client:
        await client.done(asked := client.ask(CALL, params(name="x")))
        assert asked.answer["error"] == {"code": -32021, "message": "needs elicitation"}


@pytest.mark.parametrize("status", [400, 404])
async def test_a_refused_discover_is_raised_with_its_answer(
    autojump_clock: MockClock, status: int
) -> None:
    """What it says about the era is for others to judge."""
    server = Server(**{"server/discover": lambda seen: error(seen, -32601, "no", status)})
    async with stateless(server) as client:
        await client.done(asked := client.ask("server/discover", params()))
        assert isinstance(asked.failure, HttpRefusal)
        assert asked.failure.status == status
        assert asked.failure.answer is not None
        assert asked.failure.answer.id == asked.relayed.message.id


@pytest.mark.parametrize(
    "broken",
    [
        events(note("a")),
        events(note("a"), lost(answer_begun=True)),
        events(event(note("a"), id="17")),  # an event id means nothing in this era
        lost(),
        lost(answer_begun=True),
    ],
    ids=["ends", "cut", "resumable", "before", "after"],
)
async def test_a_lost_answer_is_asked_for_under_a_new_id(
    autojump_clock: MockClock, broken: Answer
) -> None:
    """T-13: a re-issue is a new request with a new id, and never a resumed stream."""
    server = Server(**{READ: in_turn(broken, lambda seen: events(note("b"), answer(seen)))})
    async with stateless(server) as client:
        asked = client.ask(READ, params(uri="a"), id="mine")
        await client.done(asked)
        assert asked.answer["id"] == "mine"
    assert [seen.id for seen in server.seen] == ["mine", "relay-1"]
    assert all(seen.request.method == "POST" for seen in server.seen)


@pytest.mark.parametrize("status", [408, 502, 504])
async def test_what_may_have_run_behind_a_gateway_is_a_new_request(
    autojump_clock: MockClock, status: int
) -> None:
    server = Server(**{READ: in_turn(Reply(status), lambda seen: result(seen))})
    async with stateless(server) as client:
        await client.done(asked := client.ask(READ, params(uri="a"), id="mine"))
        assert asked.answer["id"] == "mine"
    assert [seen.id for seen in server.seen] == ["mine", "relay-1"]


@pytest.mark.parametrize("broken", [events(note("a")), lost()], ids=["ends", "before"])
async def test_a_call_is_never_asked_for_again(autojump_clock: MockClock, broken: Answer) -> None:
    server = Server(**{CALL: broken})
    async with stateless(server) as client:
        await client.done(asked := client.ask(CALL, params(name="x")))
        assert isinstance(asked.failure, ConnectionLost)
    assert server.order() == [CALL]


async def test_what_did_not_leave_keeps_its_id(autojump_clock: MockClock) -> None:
    server = Server(**{CALL: in_turn(unreachable(), lambda seen: result(seen))})
    async with stateless(server) as client:
        await client.done(asked := client.ask(CALL, params(name="x"), id="mine"))
        assert asked.result == {}
    assert [seen.id for seen in server.seen] == ["mine"]


async def test_progress_does_not_begin_anew(autojump_clock: MockClock) -> None:
    """T-64."""

    def progress(value: float) -> dict[str, Any]:
        told = {"progressToken": "t", "progress": value}
        return {"method": "notifications/progress", "params": told}

    server = Server(
        **{
            READ: in_turn(
                events(progress(1), progress(2)),
                lambda seen: events(progress(1), progress(2), progress(3), answer(seen)),
            )
        }
    )
    async with stateless(server) as client:
        await client.done(asked := client.ask(READ, params(uri="a")))
        told = [message.params["progress"] for message in asked.emitted if message.params]
        assert told == [1, 2, 3]


@pytest.mark.parametrize("status", [202, 204])
async def test_an_accepted_request_without_answer_is_a_failure(
    autojump_clock: MockClock, status: int
) -> None:
    server = Server(**{CALL: Reply(status, media_type=None)})
    async with stateless(server) as client:
        await client.done(asked := client.ask(CALL, params(name="x")))
        assert isinstance(asked.failure, BadAnswer)


async def test_a_refused_notification_is_nobodys_business(autojump_clock: MockClock) -> None:
    answers = in_turn(Reply(400), unreachable())
    server = Server(**{"notifications/x": answers})
    async with stateless(server) as client:
        for _ in range(2):
            await client.done(told := client.tell("notifications/x", params()))
            assert told.failure is None
            assert told.emitted == []


async def test_failures_are_ours(autojump_clock: MockClock) -> None:
    refusals: dict[str, Answer] = {CALL: Reply(401), LIST: unreachable()}
    server = Server(**refusals)
    async with stateless(server) as client:
        await client.done(asked := client.ask(CALL, params(name="x")))
        assert isinstance(asked.failure, AuthorizationFailed)
        await client.done(asked := client.ask(LIST, params()))
        assert isinstance(asked.failure, Unreachable)


async def test_messages_leave_in_the_order_they_were_read(autojump_clock: MockClock) -> None:
    """P4."""
    server = Server()
    async with stateless(server) as client:
        await client.done(*[client.ask(CALL, params(n=number)) for number in range(100)])
    assert [seen.message["params"]["n"] for seen in server.seen] == list(range(100))


async def test_a_call_that_waits_holds_up_no_other(autojump_clock: MockClock) -> None:
    slow = trio.Event()
    server = Server(**{CALL: lambda seen: events(slow, answer(seen))})
    async with stateless(server) as client:
        waiting = client.ask(CALL, params(name="x"))
        await client.done(*[client.ask(LIST, params()) for _ in range(10)])
        slow.set()
        await client.done(waiting)
