"""A session over HTTP+SSE, the transport of 2024-11-05 (T-90 to T-93, T-61), and what becomes of
it when its one stream ends."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    ConnectionLost,
    RelayError,
    TimedOut,
    Unreachable,
)
from mcp_stdio.redaction import redact
from mcp_stdio.upstream.handshake import COMPLETION
from mcp_stdio.upstream.http_sse import ENDPOINT_TIME
from tests.upstream.fakes import (
    FOREVER,
    INITIALIZE,
    LIMIT,
    Answer,
    Asked,
    Client,
    Reply,
    Seen,
    Server,
    Step,
    event,
    events,
    in_turn,
    lost,
    note,
    unreachable,
)
from tests.upstream.sse_server import ACCEPTED, SseServer, message_event, over_sse_with

CALL = "tools/call"
LIST = "tools/list"
READ = "resources/read"
SET_LEVEL = "logging/setLevel"
SUBSCRIBE = "resources/subscribe"
INITIALIZED = "notifications/initialized"
CANCELLED = "notifications/cancelled"
OPENING = ["GET", "initialize", INITIALIZED]


def target(seen: Seen) -> str:
    return str(seen.request.url)


def version(client: Client) -> str | None:
    return client.upstream.version


async def running(client: Client, server: SseServer, method: str = CALL) -> Asked:
    """A request that the server has accepted and not answered."""
    server.rules[method] = ACCEPTED
    asked = client.ask(method)
    await wait_all_tasks_blocked()
    assert not asked.over.is_set()
    del server.rules[method]
    return asked


async def refused(server: Server) -> RelayError:
    """What an `initialize` fails with, which this server must never get."""
    async with over_sse_with(server) as client:
        asked = client.ask("initialize", INITIALIZE)
        await client.done(asked)
        await client.upstream.aclose()
    assert asked.failure is not None
    assert set(server.order()) <= {"GET"}
    assert all(seen.closed.is_set() for seen in server.seen)
    return asked.failure


# T-90: the stream and its endpoint


async def test_headers_of_each_request(autojump_clock: MockClock) -> None:
    """T-93: the version from the answer to `initialize` on; T-91: no session id anywhere."""
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        await client.done(client.ask(CALL))
        server.streams[-1].end()
        await client.done(client.ask(LIST))
    versions = {None: {"GET", "initialize"}, "2024-11-05": {INITIALIZED, CALL, LIST}}
    for seen in server.seen:
        assert seen.rule in versions[seen.header("MCP-Protocol-Version")]
        for name in ("Mcp-Session-Id", "Last-Event-ID", "Mcp-Method", "Mcp-Name", "Origin"):
            assert seen.header(name) is None
        if seen.request.method == "GET":
            assert seen.header("Accept") == "text/event-stream"
        else:
            assert seen.header("Content-Type") == "application/json"


@pytest.mark.parametrize(
    "endpoint, where",
    [
        ("/messages?session_id={name}", "http://server.example/messages?session_id=session-1"),
        ("messages/?session_id={name}", "http://server.example/messages/?session_id=session-1"),
        ("?session_id={name}", "http://server.example/sse?session_id=session-1"),
        (
            "http://server.example:80/a?session_id={name}",
            "http://server.example/a?session_id=session-1",
        ),
        ("//SERVER.example/a?session_id={name}", "http://server.example/a?session_id=session-1"),
        (" /a?session_id={name}", "http://server.example/a?session_id=session-1"),
    ],
)
async def test_an_ordinary_conversation(
    autojump_clock: MockClock, endpoint: str, where: str
) -> None:
    server = SseServer()
    server.endpoint = endpoint
    async with over_sse_with(server) as client:
        assert version(client) is None
        opening = await client.shake_hands()
        assert opening.result["serverInfo"] == {"name": "fake", "version": "1"}
        assert version(client) == "2024-11-05"
        asked = client.ask(CALL)
        await client.done(asked, client.tell("notifications/progress"))
        assert asked.result == {}
        assert asked.took == 0, "nothing to wait for"
        server.say(note("unasked"))
        await wait_all_tasks_blocked()
        assert [message.params["data"] for message in client.emitted] == ["unasked"]
        await client.upstream.aclose()
        await wait_all_tasks_blocked()
        assert server.streams[0].is_over
    assert server.order()[:3] == OPENING
    assert sorted(server.order()[3:]) == ["notifications/progress", CALL]
    stream, *posts = server.seen
    assert target(stream) == "http://server.example/sse"
    assert {target(seen) for seen in posts} == {where}


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://elsewhere.example/messages",
        "//elsewhere.example/messages",
        "https://server.example/messages",
        "http://server.example:8080/messages",
        "http://server.example.evil.example/messages",
        "http://server.example@elsewhere.example/messages",
    ],
)
async def test_an_endpoint_of_another_origin_gets_nothing(
    autojump_clock: MockClock, endpoint: str
) -> None:
    """T-90: it would receive the user's credentials."""
    server = SseServer()
    server.endpoint = endpoint
    failure = await refused(server)
    assert isinstance(failure, BadAnswer)
    assert "another origin" in str(failure)
    assert failure.hint is not None


@pytest.mark.parametrize("endpoint", ["http://[::1/", "ftp://server.example/", "/a b"])
async def test_an_endpoint_that_is_none(autojump_clock: MockClock, endpoint: str) -> None:
    server = SseServer()
    server.endpoint = endpoint
    failure = await refused(server)
    assert isinstance(failure, BadAnswer)
    assert "endpoint cannot be used" in str(failure)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(events(FOREVER), id="silence"),
        pytest.param(
            events(*[step for _ in range(50) for step in (1.0, b": ping\n\n")]), id="ping"
        ),
        pytest.param(Reply(before=[FOREVER]), id="no head"),
    ],
)
async def test_no_endpoint_in_time(autojump_clock: MockClock, reply: Reply) -> None:
    server = Server(GET=reply)
    began = trio.current_time()
    failure = await refused(server)
    assert isinstance(failure, TimedOut)
    assert "endpoint" in str(failure)
    assert trio.current_time() - began == pytest.approx(ENDPOINT_TIME)
    assert failure.status == (None if reply.before else 200)
    assert len(server.got("GET")) == 1


@pytest.mark.parametrize(
    "status, media_type",
    [(404, "text/html"), (405, None), (400, "application/json"), (200, "text/html"), (204, None)],
)
async def test_a_get_that_opens_no_stream(
    autojump_clock: MockClock, status: int, media_type: str | None
) -> None:
    failure = await refused(Server(GET=Reply(status, [b"<html>"], media_type)))
    assert isinstance(failure, BadAnswer)
    assert failure.status == status
    assert failure.hint is not None
    assert str(status) in failure.hint


@pytest.mark.parametrize("status", [401, 403])
async def test_a_get_that_wants_a_credential(autojump_clock: MockClock, status: int) -> None:
    failure = await refused(Server(GET=Reply(status, media_type=None)))
    assert isinstance(failure, AuthorizationFailed)
    assert failure.status == status


@pytest.mark.parametrize(
    "failures",
    [
        pytest.param([unreachable()] * 3, id="unreachable"),
        pytest.param([Reply(503, media_type=None)] * 2, id="503"),
        pytest.param([lost()], id="lost"),
    ],
)
async def test_a_get_is_tried_again_as_any_safe_request(
    autojump_clock: MockClock, failures: list[Answer]
) -> None:
    endpoint = b"event: endpoint\ndata: /m?session_id=none\n\n"
    server = SseServer(GET=in_turn(*failures, events(endpoint, FOREVER)))
    async with over_sse_with(server) as client:
        asked = client.ask("initialize", INITIALIZE)
        await client.done(asked)
    assert server.order()[-4:] == 2 * ["GET", "initialize"], "a 404 sends it to the next stream"
    assert len(server.got("GET")) + server.refused_connections == len(failures) + 2


async def test_a_server_that_is_not_there_yet(autojump_clock: MockClock) -> None:
    server = SseServer(GET=unreachable())
    async with over_sse_with(server) as client:
        opening = client.ask("initialize", INITIALIZE)
        await client.done(opening)
        assert isinstance(opening.failure, Unreachable)
        assert server.refused_connections == 4
        await trio.sleep(1000)
        assert server.refused_connections == 4, "nobody asks for it"
        del server.rules["GET"]
        await client.done(asked := client.ask(CALL))
        assert asked.result == {}
    assert server.order() == [*OPENING, CALL]


async def test_a_stream_that_ends_before_its_endpoint(autojump_clock: MockClock) -> None:
    failure = await refused(Server(GET=events(b": hello\n\n")))
    assert isinstance(failure, ConnectionLost)


async def test_what_precedes_the_endpoint_is_passed_over(autojump_clock: MockClock) -> None:
    server = SseServer()
    server.endpoint = None
    async with over_sse_with(server) as client:
        opening = client.ask("initialize", INITIALIZE)
        await wait_all_tasks_blocked()
        stream = server.streams[-1]
        stream.push(b": hello\n\nevent: ping\ndata: 1\n\n" + event(note("early")))
        stream.push(b"event: endpo")
        stream.push(b"int\ndata: /m?session_id=session-1\n\nevent: endpoint\ndata: /n\n\n")
        await client.done(opening)
        assert opening.result["protocolVersion"] == "2024-11-05"
        assert client.emitted == []
    assert server.got("initialize")[0].request.url.target == "/m?session_id=session-1"


async def test_the_session_in_the_endpoint_is_a_secret(autojump_clock: MockClock) -> None:
    server = SseServer()
    server.endpoint = "/messages?key=f00d-f00d-f00d&session_id={name}"
    async with over_sse_with(server) as client:
        await client.shake_hands()
    assert "f00d" not in redact("unknown f00d-f00d-f00d")


# T-91: answers on the stream


async def test_answers_out_of_order_and_in_between(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        first = await running(client, server)
        second = await running(client, server)
        assert isinstance(first.relayed.message.id, int)
        both = [{"id": one.relayed.message.id, "result": {"n": 1}} for one in (second, first)]
        foreign = {"id": str(first.relayed.message.id), "result": {"n": 2}}
        server.streams[-1].push(
            b"".join(map(message_event, [note("a"), foreign, both[0], note("b"), both[1]]))
            + b"event: ping\ndata: {}\n\nevent: message\ndata: no json\n\n"
            + message_event(note("c"))
        )
        await client.done(second, first)
        assert [first.result, second.result] == [{"n": 1}] * 2
        await wait_all_tasks_blocked()
        assert [message.params["data"] for message in client.emitted] == ["a", "b", "c"]


async def test_an_answer_crosses_as_it_came(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        asked = await running(client, server)
        raw = f'{{ "result": {{"n": 1e400}}, "id":{asked.relayed.message.id},"jsonrpc": "2.0" }}'
        server.streams[-1].push(f"data: {raw}\n\n".encode())
        await client.done(asked)
    assert asked.emitted[0].raw == raw.encode()


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize(
    "body, media_type",
    [
        ([b"Accepted"], "text/plain"),
        ([], None),
        ([b"{}"], "application/json"),
        ([b'{"jsonrpc":"2.0","id":"other","result":{}}'], "application/json"),
        ([b'{"jsonrpc":"2.0","method":"x"}'], "application/json"),
        ([b"\xff{"], "application/json"),
        ([b"x" * (LIMIT + 1)], "text/plain"),
        ([b"Acc", lost(answer_begun=True)], "text/plain"),
        ([b": ping\n\n", FOREVER], "text/event-stream"),
    ],
)
async def test_what_a_post_is_answered_with_does_not_matter(
    autojump_clock: MockClock, status: int, body: list[Step], media_type: str | None
) -> None:
    server = SseServer(**{CALL: Reply(status, body, media_type)})
    async with over_sse_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await trio.sleep(5)
        assert not asked.over.is_set()
        server.say({"id": asked.relayed.message.id, "result": {"value": "there"}})
        await client.done(asked)
    assert asked.result == {"value": "there"}
    assert len(server.got(CALL)) == 1
    assert server.got(CALL)[0].closed.is_set()


@pytest.mark.parametrize("on_stream_too", [False, True])
async def test_a_response_in_the_body_of_a_post(
    autojump_clock: MockClock, on_stream_too: bool
) -> None:
    def answer_twice(seen: Seen) -> Reply:
        body = {"jsonrpc": "2.0", "id": seen.id, "result": {"value": "here"}}
        return Reply(200, [json.dumps(body).encode()])

    server = SseServer(**{CALL: answer_twice})
    async with over_sse_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
        if on_stream_too:
            server.say({"id": asked.relayed.message.id, "result": {"value": "there"}})
            await wait_all_tasks_blocked()
        assert asked.result == {"value": "here"}
        assert client.emitted == []


@pytest.mark.parametrize(
    "held, then",
    [
        pytest.param(0.1, [], id="accepted"),
        pytest.param(FOREVER, [], id="held"),
        pytest.param(0.1, [lost()], id="lost"),
    ],
)
@pytest.mark.parametrize("method", [CALL, READ])
async def test_an_answer_that_overtakes_its_202(
    autojump_clock: MockClock, method: str, held: float, then: list[Step]
) -> None:
    """Some servers accept a POST only when its answer has been said."""

    def hold(seen: Seen) -> Reply:
        server.say(note("working"))
        server.say({"id": seen.id, "result": {}})
        return Reply(202, media_type=None, before=[held, *then])

    server = SseServer(**{method: hold})
    async with over_sse_with(server) as client:
        await client.shake_hands()
        asked = client.ask(method)
        await wait_all_tasks_blocked()
        assert asked.result == {}, "the client need not wait for the rest"
        await client.done(asked)
        assert asked.result == {}
        assert asked.took == pytest.approx(min(held, COMPLETION))
    assert len(server.got(method)) == 1
    assert server.got(method)[0].closed.is_set()


@pytest.mark.parametrize("before", [0.0, 250.0])
async def test_any_sign_of_life_on_the_stream_ends_the_silence(
    autojump_clock: MockClock, before: float
) -> None:
    server = SseServer(**{CALL: Reply(202, media_type=None, before=[before])})
    async with over_sse_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        for _ in range(4):
            await trio.sleep(100)
            assert not asked.over.is_set()
            server.streams[-1].push(b": still here\n\n")
        await client.done(asked)
        assert isinstance(asked.failure, TimedOut)
        assert asked.took == pytest.approx(400 + 120)
        await wait_all_tasks_blocked()
    assert len(server.streams) == 1, "the stream may be silent as long as it likes"


async def test_a_post_that_is_refused(autojump_clock: MockClock) -> None:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "session limit"}}
    refusals: list[Answer] = [
        Reply(400, [json.dumps(error).encode()]),
        Reply(400, [b"No transport found for sessionId"], "text/plain"),
        Reply(500, [b"oops"], "text/plain"),
    ]
    server = SseServer(**{CALL: in_turn(*refusals)})
    async with over_sse_with(server) as client:
        await client.shake_hands()
        other = await running(client, server, READ)
        first, second, third = [client.ask(CALL) for _ in refusals]
        await client.done(first, second, third)
        assert first.answer["error"]["code"] == -32000
        assert isinstance(second.failure, BadAnswer)
        assert second.failure.status == 400
        assert isinstance(third.failure, BadAnswer)
        assert third.failure.status == 500
        assert not other.over.is_set(), "the stream says that there is a session"
    assert len(server.streams) == 1


async def test_an_initialize_whose_post_is_refused_is_raised(autojump_clock: MockClock) -> None:
    server = SseServer(initialize=Reply(405, media_type=None))
    async with over_sse_with(server) as client:
        asked = client.ask("initialize", INITIALIZE)
        await client.done(asked)
        assert isinstance(asked.failure, BadAnswer)
        assert asked.failure.status == 405
        await wait_all_tasks_blocked()
        assert server.streams[-1].is_over, "nobody needs it"


async def test_an_initialize_whose_stream_is_over_is_sent_to_the_next_one(
    autojump_clock: MockClock,
) -> None:
    """The stream may end between its endpoint and the POST, which then gets a 404 (T-92)."""

    def forgotten(seen: Seen) -> Reply:
        server.streams[-1].end()
        return Reply(404, [b"Could not find session"], "text/plain")

    server = SseServer()
    server.rules["initialize"] = in_turn(forgotten, server._default)
    async with over_sse_with(server) as client:
        opening = await client.shake_hands()
        assert opening.failure is None
    assert server.order() == ["GET", "initialize", *OPENING]

    server = SseServer(initialize=Reply(404, media_type=None))
    async with over_sse_with(server) as client:
        asked = client.ask("initialize", INITIALIZE)
        await client.done(asked)
        assert isinstance(asked.failure, BadAnswer)
        assert asked.failure.status == 404, "what is refused twice is not about the stream"
    assert len(server.streams) == 2


@pytest.mark.parametrize("value", [{}, {"protocolVersion": 1}])
async def test_an_answer_to_initialize_without_a_version(
    autojump_clock: MockClock, value: dict[str, Any]
) -> None:
    server = SseServer()
    server.rules["initialize"] = lambda seen: server.answer_it(seen, value)
    async with over_sse_with(server) as client:
        asked = client.ask("initialize", INITIALIZE)
        await client.done(asked)
        assert isinstance(asked.failure, BadAnswer)
        await wait_all_tasks_blocked()
        assert len(server.streams) == 1
        assert server.streams[-1].is_over


async def test_an_initialize_that_is_answered_with_an_error(autojump_clock: MockClock) -> None:
    def refuse(seen: Seen) -> Reply:
        server.say({"id": seen.id, "error": {"code": -32602, "message": "no"}})
        return ACCEPTED

    server = SseServer(initialize=refuse)
    async with over_sse_with(server) as client:
        asked = client.ask("initialize", INITIALIZE)
        await client.done(asked)
        assert asked.answer["error"]["code"] == -32602
        await wait_all_tasks_blocked()
        assert server.streams[-1].is_over


# What else travels


async def test_a_question_and_its_answer(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        asked = await running(client, server)
        server.say({"id": "q1", "method": "sampling/createMessage", "params": {}})
        await trio.sleep(500)  # the user thinks
        assert [message.id for message in client.emitted] == ["q1"]
        await client.done(client.reply("q1"), client.reply("q1"), client.reply(1))
        [response] = server.got("response")
        assert response.id == "q1"
        assert response.header("MCP-Protocol-Version") == "2024-11-05"
        server.say({"id": asked.relayed.message.id, "result": {}})
        await client.done(asked)
    assert asked.result == {}


async def test_progress(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        asked = await running(client, server)
        for step in (1, 2):
            params = {"progressToken": "t", "progress": step}
            server.say({"method": "notifications/progress", "params": params})
        server.say({"id": asked.relayed.message.id, "result": {}})
        await client.done(asked)
        assert [message.params["progress"] for message in client.emitted] == [1, 2]


async def test_a_cancelled_call_is_called_off(autojump_clock: MockClock) -> None:
    """T-61; late answers are dropped."""
    server = SseServer()

    def answer_late(seen: Seen) -> Reply:
        server.say({"id": seen.message["params"]["requestId"], "result": {}})
        return Reply(202, media_type=None, before=[0.5])

    server.rules[CANCELLED] = answer_late
    async with over_sse_with(server) as client:
        await client.shake_hands()
        asked = await running(client, server)
        client.cancel(asked, "enough")
        await client.done(asked)
        await wait_all_tasks_blocked()
        id = asked.relayed.message.id
        [notice] = server.got(CANCELLED)
        assert notice.message["params"] == {"requestId": id, "reason": "enough"}
        server.say({"id": id, "error": {"code": -32800, "message": "cancelled"}})
        await wait_all_tasks_blocked()
        assert asked.emitted == client.emitted == []
        await client.done(client.ask(LIST))
    assert len(server.streams) == 1


async def test_messages_leave_in_the_order_they_were_read(autojump_clock: MockClock) -> None:
    for _ in range(20):
        server = SseServer()
        async with over_sse_with(server) as client:
            opening = client.ask("initialize", INITIALIZE)
            early = [client.ask(CALL, {"n": number}) for number in range(5)]
            await client.done(opening)
            late = [client.tell(INITIALIZED)]
            late += [client.ask(CALL, {"n": number}) for number in range(5, 10)]
            await client.done(*early, *late)
        assert [seen.message["params"]["n"] for seen in server.got(CALL)] == list(range(10))


# T-92: the end of the stream


ENDS = [
    pytest.param(None, id="ended"),
    pytest.param(lost(answer_begun=True), id="cut"),
]


@pytest.mark.parametrize("end", ENDS)
async def test_calls_in_flight_when_the_stream_ends(
    autojump_clock: MockClock, end: RelayError | None
) -> None:
    """E-2 for what may have had an effect; what is safe is asked once more."""
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        call, reading = await running(client, server), await running(client, server, READ)
        server.streams[-1].end(end)
        await client.done(call, reading)
        assert isinstance(call.failure, ConnectionLost)
        assert (call.failure.code, call.failure.kind) == (-33002, "outcome_unknown")
        assert "whether the call ran is unknown" in str(call.failure)
        assert reading.result == {}
        assert call.took == reading.took == 0
    assert server.order() == [*OPENING, CALL, READ, *OPENING, READ]
    assert CANCELLED not in server.order()


async def test_a_call_whose_post_is_pending_when_the_stream_ends(
    autojump_clock: MockClock,
) -> None:
    """Some servers never answer a POST for a session that is over."""
    server = SseServer(**{CALL: Reply(before=[FOREVER])})
    async with over_sse_with(server) as client:
        await client.shake_hands()
        call = await running(client, server)
        server.streams[-1].end()
        await client.done(call)
        assert isinstance(call.failure, ConnectionLost)
        assert call.took == 0
    assert server.order().count(CALL) == 1


async def test_an_id_used_again_while_the_first_post_completes(autojump_clock: MockClock) -> None:
    server = SseServer()

    def slow(seen: Seen) -> Reply:
        server.answer_it(seen, {"n": seen.message["params"]["n"]})
        return Reply(202, media_type=None, before=[0.5])

    server.rules[CALL] = slow
    async with over_sse_with(server) as client:
        await client.shake_hands()
        first = client.ask(CALL, {"n": 1}, id=7)
        await trio.sleep(0.1)
        assert first.result == {"n": 1}
        assert not first.over.is_set()
        second = client.ask(CALL, {"n": 2}, id=7)
        await client.done(first, second)
        assert second.result == {"n": 2}


async def test_what_is_safe_is_asked_only_once_more(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        reading = await running(client, server, READ)
        server.rules[READ] = ACCEPTED
        for _ in range(2):
            server.streams[-1].end()
            await trio.sleep(20)
        await client.done(reading)
    assert isinstance(reading.failure, ConnectionLost)
    assert len(server.got(READ)) == 2
    # Nothing is to be feared of a request that is safe.
    assert str(reading.failure) == "the server ended its event stream"
    assert reading.failure.hint == "try again; the log of the server may tell why"
    assert reading.failure.retryable


async def test_an_event_over_the_limit_ends_the_connection_only(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        asked = await running(client, server)
        server.say({"id": asked.relayed.message.id, "result": {"x": "x" * LIMIT}})
        await client.done(asked)
        assert isinstance(asked.failure, ConnectionLost)
        assert "exceeds" in str(asked.failure)
        await client.done(again := client.ask(CALL))
        assert again.result == {}


async def test_an_idle_session_is_opened_anew_at_once(autojump_clock: MockClock) -> None:
    """What the server says of its own accord is not to be missed."""
    server = SseServer()
    renewals: list[float] = []

    async def renewed() -> None:
        renewals.append(trio.current_time())

    async with over_sse_with(server, renewed=renewed) as client:
        await client.shake_hands()
        await client.done(
            client.ask(SET_LEVEL, {"level": "info"}), client.ask(SUBSCRIBE, {"uri": "a:1"})
        )
        await trio.sleep(100)
        before, now = len(server.seen), trio.current_time()
        server.streams[-1].end()
        await wait_all_tasks_blocked()
        renewal = server.seen[before:]
        assert sorted(seen.rule for seen in renewal) == sorted([*OPENING, SET_LEVEL, SUBSCRIBE])
        assert [seen.rule for seen in renewal][:3] == OPENING
        assert renewals == [now]
        opening = renewal[1]
        assert opening.message["params"] == INITIALIZE
        assert opening.id != server.got("initialize")[0].id
        assert renewal[-1].message["params"] in ({"level": "info"}, {"uri": "a:1"})
        assert {target(seen)[-9:] for seen in renewal[1:]} == {"session-2"}
        server.say(note("back"))
        await wait_all_tasks_blocked()
        assert [message.params["data"] for message in client.emitted] == ["back"]


async def test_a_renewal_that_meets_the_end_of_its_stream_says_that_nothing_was_sent(
    autojump_clock: MockClock,
) -> None:
    """A 404 to its `initialize` is no refusal of the handshake: the stream is over again (T-92)."""

    def forgotten(seen: Seen) -> Reply:
        server.streams[-1].end()
        return Reply(404, [b"Could not find session"], "text/plain")

    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        server.rules["initialize"] = in_turn(forgotten, server._default)
        server.streams[-1].end()
        await wait_all_tasks_blocked()
        asked = client.ask(CALL)
        await client.done(asked)
        if asked.failure is not None:
            assert isinstance(asked.failure, Unreachable)
            await client.done(asked := client.ask(CALL))
        assert asked.result == {}


async def test_messages_wait_for_the_new_session(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        server.endpoint = None
        server.streams[-1].end()
        await wait_all_tasks_blocked()
        asked = [
            client.ask(CALL, {"n": number}) if number % 2 else client.tell(CALL, {"n": number})
            for number in range(6)
        ]
        await trio.sleep(5)
        assert server.got(CALL) == []
        server.streams[-1].say_endpoint("/m?session_id=session-2")
        await client.done(*asked)
    assert [seen.message["params"]["n"] for seen in server.got(CALL)] == list(range(6))


async def test_a_renewal_that_fails_is_tried_again_with_the_next_message(
    autojump_clock: MockClock,
) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        server.rules["GET"] = unreachable()
        server.streams[-1].end()
        await wait_all_tasks_blocked()
        held = client.ask(CALL)
        await client.done(held)
        assert isinstance(held.failure, Unreachable), "it was never sent"
        await trio.sleep(200)  # long pauses by now
        del server.rules["GET"]
        asked = client.ask(CALL)
        await client.done(asked)
        assert asked.took < 4, "an attempt has pauses of its own, the next one does not wait"
        await trio.sleep(200)
        assert asked.result == {}
    assert len(server.streams) == 2
    assert len(server.got(CALL)) == 1


async def test_a_server_away_for_hours_is_found_again(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        server.rules["GET"] = Reply(404, media_type=None)
        server.streams[-1].end()
        await trio.sleep(10_000)
        assert len(server.got("GET")) < 10_000 / 30 + 10
        moments = [seen.at for seen in server.got("GET")][1:8]
        pauses = [later - earlier for earlier, later in pairwise(moments)]
        for pause, least in zip(pauses, [1, 2, 4, 8, 16, 30], strict=True):
            assert least <= pause <= least * 1.25
        del server.rules["GET"]
        await trio.sleep(40)
        assert len(server.streams) == 2
        assert len(server.got(INITIALIZED)) == 2


async def test_a_stream_that_keeps_ending_is_opened_ever_more_rarely(
    autojump_clock: MockClock,
) -> None:
    server = SseServer()

    def accept_and_end(seen: Seen) -> Reply:
        server.streams[-1].end()
        return ACCEPTED

    async with over_sse_with(server) as client:
        await client.shake_hands()
        server.rules[INITIALIZED] = accept_and_end
        server.streams[-1].end()
        await trio.sleep(300)
        assert 4 < len(server.streams) < 20
        asked = client.ask(CALL)
        await client.done(asked)
        assert isinstance(asked.failure, Unreachable), "it was never sent"
        del server.rules[INITIALIZED]
        await client.done(asked := client.ask(CALL))
        assert asked.failure is None
        await trio.sleep(100)
        before = len(server.streams)
        server.streams[-1].end()
        await wait_all_tasks_blocked()
        assert len(server.streams) == before + 1, "this one has lasted"
        now = trio.current_time()
        server.streams[-1].end()
        await trio.sleep(20)
        assert 1 <= server.streams[-1].seen.at - now <= 1.25


async def test_a_stream_that_ends_during_the_handshake(autojump_clock: MockClock) -> None:
    """`initialize` is safe to repeat."""

    def end(seen: Seen) -> Reply:
        server.streams[-1].end()
        return ACCEPTED

    server = SseServer()
    server.rules["initialize"] = in_turn(end, server._default)
    async with over_sse_with(server) as client:
        opening = await client.shake_hands()
        assert opening.result["protocolVersion"] == "2024-11-05"
        await client.done(asked := client.ask(CALL))
        assert asked.result == {}
    assert server.order() == ["GET", "initialize", *OPENING, CALL]

    server = SseServer(initialize=end)
    async with over_sse_with(server) as client:
        opening = client.ask("initialize", INITIALIZE)
        await client.done(opening)
        assert isinstance(opening.failure, ConnectionLost)
        await trio.sleep(1000)
        assert len(server.streams) == 2
        del server.rules["initialize"]
        await client.done(asked := client.ask(CALL))
        assert asked.result == {}


async def test_a_stream_that_ends_with_the_answer_to_initialize(autojump_clock: MockClock) -> None:
    def answer_and_end(seen: Seen) -> Reply:
        server._default(seen)
        server.streams[-1].end()
        return Reply(202, media_type=None, before=[0.5])

    server = SseServer()
    server.rules["initialize"] = in_turn(answer_and_end, server._default)
    async with over_sse_with(server) as client:
        opening = client.ask("initialize", INITIALIZE)
        await client.done(opening)
        assert opening.failure is None
        await trio.sleep(1)
        assert len(server.streams) == 2
        await client.done(asked := client.ask(CALL))
        assert asked.result == {}
    assert len(server.streams) == 2


async def test_a_session_that_the_server_does_not_know_any_more(autojump_clock: MockClock) -> None:
    """A 404 at the endpoint, which names the session: nothing was processed (T-44)."""
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        other = await running(client, server)
        server.streams[-1].is_over = True  # forgotten, without a word on the stream
        asked = client.ask(CALL)
        await client.done(asked, other)
        assert asked.result == {}
        assert isinstance(other.failure, ConnectionLost)
        await wait_all_tasks_blocked()
        assert server.streams[0].seen.closed.is_set()
    assert len(server.streams) == 2


async def test_a_question_of_a_lost_connection_needs_no_answer(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        server.say({"id": "q1", "method": "roots/list"})
        await wait_all_tasks_blocked()
        server.streams[-1].end()
        await wait_all_tasks_blocked()
        await client.done(client.reply("q1"))
    assert server.got("response") == []


async def test_after_a_sleep_of_the_machine_the_stream_is_opened_at_once(
    autojump_clock: MockClock,
) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        client.upstream.refresh()
        await client.shake_hands()
        reading = await running(client, server, READ)
        await trio.sleep(50)
        client.upstream.refresh()
        await client.done(reading)
        assert reading.took == 50
        assert server.streams[0].seen.closed.is_set()
        assert len(server.streams) == 2


async def test_initialize_again_in_one_process_is_a_new_connection(
    autojump_clock: MockClock,
) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        await client.done(client.ask(SET_LEVEL, {"level": "info"}))
        call = await running(client, server)
        await client.shake_hands()
        await client.done(call)
        assert isinstance(call.failure, ConnectionLost)
        await wait_all_tasks_blocked()
        assert [stream.is_over for stream in server.streams] == [True, False]
        await client.done(asked := client.ask(CALL))
        assert asked.result == {}
        await trio.sleep(100)
    assert len(server.streams) == 2
    assert len(server.got(SET_LEVEL)) == 1


async def test_initialize_again_while_the_connection_is_lost(autojump_clock: MockClock) -> None:
    server = SseServer()
    async with over_sse_with(server) as client:
        await client.shake_hands()
        server.rules["GET"] = Reply(404, media_type=None)
        server.streams[-1].end()
        await trio.sleep(100)
        del server.rules["GET"]
        await client.shake_hands()
        await trio.sleep(100)
        await client.done(asked := client.ask(CALL))
        assert asked.result == {}
    assert len(server.streams) == 2


@pytest.mark.parametrize("stage", ["connecting", "initialize", "open", "lost"])
async def test_the_farewell_ends_it_at_any_time(autojump_clock: MockClock, stage: str) -> None:
    server = SseServer()
    if stage == "connecting":
        server.endpoint = None
    if stage == "initialize":
        server.rules["initialize"] = ACCEPTED
    async with over_sse_with(server) as client:
        if stage in ("connecting", "initialize"):
            client.ask("initialize", INITIALIZE)
        else:
            await client.shake_hands()
        if stage == "lost":
            server.rules["GET"] = unreachable()
            server.streams[-1].end()
        await wait_all_tasks_blocked()
        with trio.fail_after(0.5):
            await client.upstream.aclose()
        if stage == "open":
            await trio.sleep(200)
            assert server.streams[0].seen.closed.is_set()
            assert len(server.got("GET")) == 1
        if stage == "lost":
            await trio.sleep(10)
            refused_connections = server.refused_connections
            await trio.sleep(200)
            assert server.refused_connections == refused_connections
    assert all(seen.closed.is_set() for seen in server.seen)
    assert "DELETE" not in server.order()
