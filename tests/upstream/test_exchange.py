"""One request and all that may come back for it (T-3 to T-15, T-45 to T-48, T-52, T-61, T-63)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    ConnectionLost,
    RelayError,
    SessionLost,
    TimedOut,
    TooLarge,
    Unreachable,
)
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Receiver, own_call
from mcp_stdio.upstream.exchange import LINGER
from mcp_stdio.upstream.refusal import ERROR_BODY, ERROR_TIME, HttpRefusal
from tests.upstream.fakes import (
    FOREVER,
    LIMIT,
    Answer,
    Asked,
    Reply,
    Seen,
    Server,
    Step,
    answer,
    event,
    events,
    in_turn,
    lost,
    messaging,
    note,
    result,
    unreachable,
)

CALL = "tools/call"
LIST = "tools/list"


async def ask(
    *answers: Answer,
    method: str = CALL,
    id: str | int = 7,
    resume: Answer | None = None,
    session: str | None = None,
    silence: float | None = 120.0,
    total: float | None = None,
) -> tuple[Asked, Server]:
    """Send one request to a server that answers it so, and its GET by `resume`."""
    server = Server()
    server.rules[method] = in_turn(*answers)
    if resume is not None:
        server.rules["GET"] = resume
    async with messaging(server, session=session, silence=silence, total=total) as client:
        asked = client.ask(method, id=id)
        await client.done(asked)
    for seen in server.seen:
        assert seen.closed.is_set()
    return asked, server


def body(
    text: str | bytes, status: int = 200, media_type: str | None = "application/json"
) -> Reply:
    return Reply(status, [text.encode() if isinstance(text, str) else text], media_type)


def raw_event(data: str, **fields: str) -> bytes:
    lines = [f"{name}: {value}\n" for name, value in (fields | {"data": data}).items()]
    return "".join([*lines, "\n"]).encode()


# JSON


async def test_a_json_answer_crosses_as_it_came(autojump_clock: MockClock) -> None:
    raw = '{ "result": {"n": 1e400, "\\u00e9": 9007199254740993 }, "id":7,"jsonrpc": "2.0" }'
    asked, server = await ask(body(raw, media_type="Application/JSON; charset=utf-8"))
    assert [message.raw.decode() for message in asked.emitted] == [raw]
    [seen] = server.seen
    assert seen.request.url.target == "/mcp"
    assert seen.header("Accept") == "application/json, text/event-stream"
    assert seen.header("Content-Type") == "application/json"


async def test_a_body_in_pieces(autojump_clock: MockClock) -> None:
    pieces: list[Step] = [bytes([byte]) for byte in b'{"jsonrpc":"2.0",\r\n"id":7,"result":{}}']
    asked, _ = await ask(Reply(body=pieces))
    assert asked.emitted[0].raw == b'{"jsonrpc":"2.0",  "id":7,"result":{}}'


async def test_a_batch_of_the_server_is_split(autojump_clock: MockClock) -> None:
    batch = (
        '[{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"a"}},'
        ' {"jsonrpc":"2.0","id":7,"result":{}} ]'
    )
    asked, _ = await ask(body(batch))
    assert asked.notes == ["a"]
    assert asked.emitted[1].raw == b'{"jsonrpc":"2.0","id":7,"result":{}}'


@pytest.mark.parametrize(
    "reply, cause",
    [
        (body(""), "the server's answer is empty"),
        (body(" \n"), "the server's answer is empty"),
        (body('{"jsonrpc":"2.0","id":7,"resu'), "the server's answer is no JSON-RPC message"),
        (body(b'{"jsonrpc":"2.0","id":7,"result":"\xff"}'), "not valid UTF-8"),
        (body("[]"), "no JSON-RPC message"),
        (body("{}"), "no JSON-RPC message"),
        (body("null"), "no JSON-RPC message"),
        (body("[" * 100_000), "nested too deeply"),
        (body('{"jsonrpc":"2.0","id":8,"result":{}}'), "answered under another id"),
        (body('{"jsonrpc":"2.0","id":"7","result":{}}'), "answered under another id"),
        (body('{"jsonrpc":"2.0","id":null,"result":{}}'), "answered under another id"),
        (body('{"jsonrpc":"2.0","method":"notifications/x"}'), "answered under another id"),
        (body("<h1>Welcome</h1>", 200, "text/html"), "200 with text/html instead of JSON"),
        (body("hello", 200, None), "200 with no content type instead of JSON"),
        (body("hello", 201, "x/\x1by"), "201 with x/y instead of JSON"),
        (body("", 200, None), "the server's answer is empty (status 200)"),
        (body("", 200, "text/html"), "the server's answer is empty (status 200)"),
    ],
)
async def test_what_is_no_answer_is_said_so_and_not_asked_again(
    autojump_clock: MockClock, reply: Reply, cause: str
) -> None:
    for method in (CALL, LIST):
        asked, server = await ask(reply, method=method)
        assert isinstance(asked.failure, BadAnswer)
        assert cause in str(asked.failure)
        assert "\x1b" not in str(asked.failure)
        assert [message for message in asked.emitted if message.is_response] == []
        assert len(server.seen) == 1


@pytest.mark.parametrize("id", ["null", "8", '"7"', "0", None])
async def test_an_error_that_comes_back_for_a_request_is_its_own(
    autojump_clock: MockClock, id: str | None
) -> None:
    member = "" if id is None else f'"id":{id},'
    raw = f'{{"jsonrpc":"2.0",{member}"error":{{"code":-32600,"message":"no","data":1.0}}}}'
    for status in (200, 400, 500):
        asked, _ = await ask(body(raw, status))
        if status == 200:
            assert asked.answer["id"] == 7
            assert b'"error":{"code":-32600,"message":"no","data":1.0}' in asked.emitted[0].raw
        else:
            assert isinstance(asked.failure, HttpRefusal)
            assert asked.failure.answer is not None
            assert asked.failure.answer.id == 7


@pytest.mark.parametrize("id", [0, -1, 2**60, "", "7", "\u2028é"])
async def test_any_id_comes_back_with_its_type(autojump_clock: MockClock, id: str | int) -> None:
    asked, _ = await ask(result, id=id)
    assert asked.answer["id"] == id
    assert type(asked.answer["id"]) is type(id)


async def test_a_body_over_the_limit(autojump_clock: MockClock) -> None:
    asked, server = await ask(Reply(body=[b" " * 1000] * (LIMIT // 1000 + 1)), method=LIST)
    assert isinstance(asked.failure, TooLarge)
    assert "--max-message-size" in (asked.failure.hint or "")
    assert len(server.seen) == 1


# Event streams


async def test_a_stream_brings_everything_in_order_and_ends_with_the_answer(
    autojump_clock: MockClock,
) -> None:
    def stream(seen: Seen) -> Reply:
        return events(note("a"), 5.0, note("b"), answer(seen), note("late"), FOREVER)

    asked, _ = await ask(stream)
    assert asked.notes == ["a", "b"]
    assert asked.result == {"value": "done"}
    assert asked.emitted[-1].is_response
    assert asked.took == pytest.approx(5)


class Together(Receiver):
    """Notes what came together, by the texts of the notes."""

    def __init__(self) -> None:
        self.got: list[list[str]] = []

    async def __call__(self, message: Message) -> None:
        self.got.append([text_of(message)])

    async def together(self, messages: Sequence[Message]) -> None:
        self.got.append([text_of(message) for message in messages])


def text_of(message: Message) -> str:
    return "answer" if message.is_response else str(message.params["data"])


async def test_what_one_read_brings_before_the_answer_is_emitted_together(
    autojump_clock: MockClock,
) -> None:
    def stream(seen: Seen) -> Reply:
        several = event(note("a")) + event({"id": "other", "result": {}}) + event(note("b"))
        return events(several, 1.0, event(note("c")) + event(answer(seen)) + event(note("late")))

    server, together = Server(**{CALL: stream}), Together()
    async with messaging(server) as client:
        request = jsonrpc.request(1, CALL)
        await client.upstream.send(request, own_call(together))
    assert together.got == [["a"], ["b"], ["c"], ["answer"]]


async def test_each_message_is_emitted_when_it_comes(autojump_clock: MockClock) -> None:
    go_on = trio.Event()
    server = Server(**{CALL: lambda seen: events(note("a"), go_on, answer(seen))})
    async with messaging(server) as client:
        asked = client.ask(CALL)
        await wait_all_tasks_blocked()
        assert asked.notes == ["a"]
        go_on.set()
        await client.done(asked)
    assert asked.result == {"value": "done"}


async def test_events_that_are_no_messages_are_passed_over(autojump_clock: MockClock) -> None:
    def stream(seen: Seen) -> Reply:
        return events(
            raw_event("tick", event="ping"),
            raw_event("not json"),
            raw_event("{}"),
            raw_event(json.dumps(answer(seen) | {"jsonrpc": "2.0"}), event="other"),
            b": comment\n\n",
            b"id: 3\ndata:\n\n",
            b"data: \xff\n\n",
            event({"id": "foreign", "result": {}}),
            event({"id": "foreign", "error": {"code": 1, "message": "no"}}),
            answer(seen),
        )

    asked, _ = await ask(stream)
    assert len(asked.emitted) == 1
    assert asked.result == {"value": "done"}


async def test_an_event_over_several_lines_becomes_one_line(autojump_clock: MockClock) -> None:
    asked, _ = await ask(events(b'data: {"jsonrpc":"2.0",\ndata: "id":7,"result":{}}\n\n'))
    assert asked.emitted[0].raw == b'{"jsonrpc":"2.0", "id":7,"result":{}}'


async def test_a_batch_in_an_event_is_split(autojump_clock: MockClock) -> None:
    batch = [{"jsonrpc": "2.0"} | note("a"), {"jsonrpc": "2.0", "id": 7, "result": {}}]
    asked, _ = await ask(events(raw_event(json.dumps(batch))))
    assert asked.notes == ["a"]
    assert asked.result == {}


async def test_an_error_without_id_ends_the_stream(autojump_clock: MockClock) -> None:
    asked, _ = await ask(events({"id": None, "error": {"code": 1, "message": "no"}}, FOREVER))
    assert asked.answer["error"]["code"] == 1
    assert asked.answer["id"] == 7


async def test_an_event_over_the_limit(autojump_clock: MockClock) -> None:
    asked, server = await ask(
        events(event({}, id="1"), b"data: " + b"x" * (LIMIT + 1), FOREVER), resume=events(FOREVER)
    )
    assert isinstance(asked.failure, TooLarge)
    assert server.order() == [CALL]


async def test_what_came_before_an_event_over_the_limit_is_delivered(
    autojump_clock: MockClock,
) -> None:
    async def told(*steps: Step) -> tuple[Asked, Server]:
        return await ask(events(*steps, FOREVER))

    before, over = event(note("a")), b"data: " + b"x" * (LIMIT + 1) + b"\n"
    for steps in ([before + over], [before, over], [before + over[:9], over[9:]]):
        asked, _ = await told(*steps)
        assert asked.notes == ["a"]
        assert isinstance(asked.failure, TooLarge)


async def test_streams_are_not_limited_as_a_whole(autojump_clock: MockClock) -> None:
    def stream(seen: Seen) -> Reply:
        return events(*[note("x" * (LIMIT // 2))] * 20, answer(seen))

    asked, _ = await ask(stream)
    assert len(asked.notes) == 20


# Time


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(before=[FOREVER]), id="no head"),
        pytest.param(Reply(body=[FOREVER]), id="no body"),
        pytest.param(Reply(body=[b"{", FOREVER]), id="half a body"),
        pytest.param(events(FOREVER), id="silent stream"),
        pytest.param(events(note("a"), FOREVER), id="stream that falls silent"),
    ],
)
@pytest.mark.parametrize("method", [CALL, LIST])
async def test_silence_ends_and_the_server_is_told(
    autojump_clock: MockClock, reply: Reply, method: str
) -> None:
    asked, server = await ask(reply, method=method)
    assert isinstance(asked.failure, TimedOut)
    assert asked.took == pytest.approx(120)
    assert server.order() == [method, "notifications/cancelled"]
    assert server.seen[1].message["params"] == {"requestId": 7}


COMMENTS: list[Step] = [10.0, b": comment\n"]


async def test_any_byte_is_a_sign_of_life(autojump_clock: MockClock) -> None:
    def stream(seen: Seen) -> Reply:
        return events(*COMMENTS * 100, 10.0, answer(seen))

    asked, _ = await ask(stream)
    assert asked.result == {"value": "done"}
    assert asked.took == pytest.approx(1010)

    def slow(seen: Seen) -> Reply:
        text = json.dumps({"jsonrpc": "2.0"} | answer(seen)).encode()
        return Reply(body=[step for byte in text for step in (10.0, bytes([byte]))])

    asked, _ = await ask(slow)
    assert asked.result == {"value": "done"}


async def test_the_longest_a_call_may_take(autojump_clock: MockClock) -> None:
    asked, server = await ask(events(*COMMENTS * 20), total=35.0)
    assert isinstance(asked.failure, TimedOut)
    assert "--timeout-call" in (asked.failure.hint or "")
    assert asked.took == pytest.approx(35)
    assert server.order() == [CALL, "notifications/cancelled"]


async def test_without_limits_a_call_may_last(autojump_clock: MockClock) -> None:
    asked, _ = await ask(lambda seen: events(9999.0, answer(seen)), silence=None)
    assert asked.took == pytest.approx(9999)


async def test_a_notice_that_cannot_be_delivered_holds_nothing_up(
    autojump_clock: MockClock,
) -> None:
    server = Server(**{CALL: Reply(before=[FOREVER])})
    server.rules["notifications/cancelled"] = Reply(before=[FOREVER])
    async with messaging(server) as client:
        asked = client.ask(CALL)
        await client.done(asked)
    assert isinstance(asked.failure, TimedOut)
    assert asked.took == pytest.approx(120 + LINGER)


async def test_a_client_that_reads_slowly_is_not_a_silent_server(
    autojump_clock: MockClock,
) -> None:
    server = Server()
    async with messaging(server, silence=10.0) as client:
        client.slowness = 100.0
        for reply in (lambda seen: events(note("a"), 9.0, answer(seen)), answered):
            server.rules[CALL] = reply
            asked = client.ask(CALL)
            await client.done(asked)
            assert asked.result == {"value": "done"}


# Questions of the server


def question(id: str | int = "q1", method: str = "elicitation/create") -> dict[str, Any]:
    return {"id": id, "method": method, "params": {}}


async def test_a_question_suspends_the_silence(autojump_clock: MockClock) -> None:
    told = trio.Event()
    server = Server(
        **{CALL: lambda seen: events(question(), b": still here\n", told, answer(seen))}
    )
    async with messaging(server) as client:
        asked = client.ask(CALL)
        await trio.sleep(500)
        assert not asked.over.is_set()
        assert [message.id for message in asked.emitted] == ["q1"]
        told.set()
        await client.done(asked)
    assert asked.result == {"value": "done"}


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([question("q1", "ping")], id="ping"),
        pytest.param(
            [
                question(),
                {"method": "notifications/cancelled", "params": {"requestId": "q1"}},
            ],
            id="withdrawn",
        ),
        pytest.param(
            [note("a"), {"method": "notifications/cancelled", "params": {"requestId": ["q1"]}}],
            id="odd cancel",
        ),
    ],
)
async def test_what_leaves_the_server_to_act_does_not(
    autojump_clock: MockClock, after: list[dict[str, Any]]
) -> None:
    asked, _ = await ask(events(*after, FOREVER))
    assert isinstance(asked.failure, TimedOut)
    assert len(asked.emitted) == len(after)


# A stream that breaks


BROKEN = [
    pytest.param([], id="ended"),
    pytest.param([lost(answer_begun=True)], id="cut"),
]


@pytest.mark.parametrize("end", BROKEN)
async def test_a_stream_without_event_ids_cannot_be_resumed(
    autojump_clock: MockClock, end: list[Step]
) -> None:
    asked, server = await ask(events(note("a"), *end), resume=events(FOREVER))
    assert isinstance(asked.failure, ConnectionLost)
    assert asked.failure.code == -33002
    assert not asked.failure.retryable
    assert server.order() == [CALL]

    asked, server = await ask(events(note("a"), *end), answered, method=LIST)
    assert asked.result == {"value": "done"}
    assert server.order() == [LIST, LIST]


def answered(seen: Seen) -> Reply:
    return result(seen, {"value": "done"})


@pytest.mark.parametrize("end", BROKEN)
async def test_a_stream_with_event_ids_is_resumed(
    autojump_clock: MockClock, end: list[Step]
) -> None:
    asked, server = await ask(
        events(event(note("a"), id="id-1"), event(note("b"), id="ü-2"), *end),
        resume=in_turn(
            events(event(note("c")), *end),
            events(event(id="id-4"), *end),
            lambda seen: events(event(note("d"), id="id-5") + event({"id": 7, "result": {}})),
        ),
        session="s1",
    )
    assert asked.notes == ["a", "b", "c", "d"]
    assert asked.result == {}
    resumed = server.got("GET")
    assert [seen.header("Last-Event-ID") for seen in resumed] == ["ü-2", "ü-2", "id-4"]
    for seen in resumed:
        assert seen.header("Accept") == "text/event-stream"
        assert seen.header("Mcp-Session-Id") == "s1"
        assert seen.header("MCP-Protocol-Version") == "2025-11-25"
        assert seen.header("Content-Type") is None
        assert seen.request.body == b""
    assert len(server.got(CALL)) == 1


@pytest.mark.parametrize("id", ["a\x7fb", "  led", "trailed ", "", "a\x1b[2Jb", "x" * 4097])
async def test_an_id_that_no_header_can_carry_is_none(autojump_clock: MockClock, id: str) -> None:
    asked, server = await ask(events(event(note("a"), id=id)), resume=events(FOREVER))
    assert isinstance(asked.failure, ConnectionLost)
    assert server.order() == [CALL]


def times(server: Server) -> list[float]:
    return [seen.at for seen in server.got("GET")]


async def test_the_server_says_how_soon(autojump_clock: MockClock) -> None:
    asked, server = await ask(
        events(b"retry: 5000\n", event(id="1"), 1.0),
        resume=lambda seen: events({"id": 7, "result": {}}),
    )
    assert asked.result == {}
    [at] = times(server)
    assert 6 <= at <= 1 + 5 * 1.25


async def test_a_pause_that_the_server_asks_for_is_not_its_silence(
    autojump_clock: MockClock,
) -> None:
    asked, server = await ask(
        events(b"retry: 30000\n", event(id="1")),
        resume=lambda seen: events({"id": 7, "result": {}}),
        silence=10.0,
    )
    assert asked.result == {}
    assert times(server)[0] >= 30


async def test_pauses_grow_while_nothing_comes_and_begin_anew_when_something_did(
    autojump_clock: MockClock,
) -> None:
    asked, server = await ask(
        events(event(id="1")),
        resume=in_turn(
            events(),
            events(b": nothing\n"),
            events(event(id="2")),
            lambda seen: events({"id": 7, "result": {}}),
        ),
    )
    assert asked.result == {}
    moments = [0.0, *times(server)]
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    for pause, least in zip(pauses, [1, 2, 4, 1], strict=True):
        assert least <= pause <= least * 1.25


async def test_resuming_goes_on_until_the_silence_is_over(autojump_clock: MockClock) -> None:
    failures = (unreachable(), lost(), Reply(503, media_type=None), Reply(429, media_type=None))
    for failure in failures:
        for method in (CALL, LIST):
            asked, server = await ask(
                events(event(id="1"), 10.0), method=method, resume=failure, session="s1"
            )
            assert isinstance(asked.failure, TimedOut)
            assert 130 <= asked.took <= 132
            assert len(server.got(method)) == 1


async def test_a_server_that_comes_back_is_resumed(autojump_clock: MockClock) -> None:
    asked, _ = await ask(
        events(event(id="1")),
        resume=in_turn(
            unreachable(),
            lost(),
            Reply(502, [b"no"], "text/html"),
            lambda seen: events({"id": 7, "result": {}}),
        ),
    )
    assert asked.result == {}


async def test_a_resumed_stream_may_be_silent_as_long_as_any(autojump_clock: MockClock) -> None:
    asked, _ = await ask(
        events(event(id="1")),
        resume=in_turn(*[unreachable()] * 5, lambda seen: events(100.0, {"id": 7, "result": {}})),
    )
    assert asked.result == {}
    assert asked.took > 130


@pytest.mark.parametrize(
    "refused",
    [
        Reply(405, media_type=None),
        Reply(404, media_type=None),
        Reply(400, media_type=None),
        Reply(401, media_type=None),
        Reply(200, [b"{}"]),
        BadAnswer("redirected elsewhere"),
    ],
)
async def test_a_resume_that_is_refused(autojump_clock: MockClock, refused: Answer) -> None:
    asked, server = await ask(events(event(id="1")), resume=refused)
    assert isinstance(asked.failure, ConnectionLost)
    assert "unknown" in str(asked.failure)
    assert server.order() == [CALL, "GET"]
    asked, server = await ask(events(event(id="1")), answered, method=LIST, resume=refused)
    assert asked.result == {"value": "done"}
    assert server.order() == [LIST, "GET", LIST]


async def test_a_resume_that_finds_the_session_gone(autojump_clock: MockClock) -> None:
    asked, server = await ask(
        events(event(id="1")), resume=Reply(404, media_type=None), session="s1"
    )
    assert isinstance(asked.failure, SessionLost)
    assert server.order() == [CALL, "GET"]


async def test_giving_up_while_resuming_tells_the_server(autojump_clock: MockClock) -> None:
    asked, server = await ask(events(event(id="1")), resume=Reply(before=[FOREVER]))
    assert isinstance(asked.failure, TimedOut)
    assert server.order() == [CALL, "GET", "notifications/cancelled"]


# Error statuses


@pytest.mark.parametrize("status", [400, 403, 404, 405, 406, 409, 413, 415, 500, 501])
async def test_the_servers_own_error_in_an_http_error(
    autojump_clock: MockClock, status: int
) -> None:
    raw = '{"jsonrpc":"2.0","id":7,"error":{"code":-32042,"message":"m","data":{"n":1.0}}}'
    asked, server = await ask(body(raw, status))
    assert isinstance(asked.failure, HttpRefusal)
    assert asked.failure.answer is not None
    assert asked.failure.answer.raw.decode() == raw
    assert len(server.seen) == 1
    reply = Reply(status, [raw_event(raw)], "text/event-stream")
    asked, _ = await ask(reply)
    assert isinstance(asked.failure, HttpRefusal)
    assert asked.failure.answer is not None


@pytest.mark.parametrize(
    "status, kind",
    [
        (301, HttpRefusal),
        (400, HttpRefusal),
        (401, AuthorizationFailed),
        (403, AuthorizationFailed),
        (404, HttpRefusal),
        (405, HttpRefusal),
        (500, HttpRefusal),
    ],
)
@pytest.mark.parametrize("text", ["", "<h1>no\x1b[31m</h1>", '{"error":"no"}', "[]", "x" * 5000])
async def test_an_error_status_without_one(
    autojump_clock: MockClock, status: int, kind: type[RelayError], text: str
) -> None:
    for media_type in ("text/html", "application/json", "text/event-stream", None):
        asked, server = await ask(body(text, status, media_type), method=LIST)
        assert isinstance(asked.failure, kind)
        assert not (isinstance(asked.failure, HttpRefusal) and asked.failure.answer)
        assert asked.failure.status == status
        assert str(status) in str(asked.failure)
        assert "\x1b" not in str(asked.failure)
        assert len(str(asked.failure)) < 300
        assert len(server.seen) == 1


async def test_a_401_shows_the_server_s_own_words(autojump_clock: MockClock) -> None:
    reply = Reply(401, [b"sorry"], "text/plain", (("www-authenticate", 'Bearer realm="x"'),))
    asked, _ = await ask(reply)
    assert str(asked.failure).endswith(' (401): Bearer realm="x"; sorry')


@pytest.mark.parametrize("end", [FOREVER, lost(answer_begun=True), BadAnswer("damaged")])
async def test_an_error_is_said_though_its_body_never_ends(
    autojump_clock: MockClock, end: Step
) -> None:
    asked, _ = await ask(Reply(400, [b"what?", end], "text/plain"))
    assert isinstance(asked.failure, HttpRefusal)
    assert "what?" in str(asked.failure)
    assert asked.took <= ERROR_TIME


async def test_of_an_endless_error_only_the_beginning_is_read(autojump_clock: MockClock) -> None:
    asked, _ = await ask(Reply(400, [b"x" * ERROR_BODY, FOREVER], "text/plain"))
    assert isinstance(asked.failure, HttpRefusal)
    assert asked.took == 0


# P2: how often the server is given a request


def closed(text: str) -> Reply:
    """A body whose end nothing but the close tells."""
    return replace(body(text), is_ended_by_close=True)


def refused(status: int, retry_after: str | None = None) -> Reply:
    headers = () if retry_after is None else (("retry-after", retry_after),)
    return Reply(status, [b"no"], "text/plain", headers)


@pytest.mark.parametrize(
    "failure, calls, lists",
    [
        pytest.param(lost(), 1, 2, id="closed without an answer"),
        pytest.param(lost(answer_begun=True), 1, 2, id="closed in the head"),
        pytest.param(Reply(body=[b"{", lost(answer_begun=True)]), 1, 2, id="closed in the body"),
        pytest.param(events(note("a")), 1, 2, id="stream ended"),
        pytest.param(events(lost(answer_begun=True)), 1, 2, id="stream cut"),
        pytest.param(Reply(before=[FOREVER]), 1, 1, id="no head in time"),
        pytest.param(events(FOREVER), 1, 1, id="silent stream"),
        pytest.param(Reply(202, media_type=None), 1, 1, id="202"),
        pytest.param(body("x", 200, "text/html"), 1, 1, id="html"),
        pytest.param(body("", 200, None), 1, 1, id="empty"),
        pytest.param(body("{"), 1, 1, id="truncated JSON"),
        pytest.param(closed('{"jsonrpc":"2.0","id'), 1, 2, id="JSON cut by the close"),
        pytest.param(closed(""), 1, 2, id="closed before the body"),
        pytest.param(closed("{}"), 1, 1, id="closed after what is no answer"),
        pytest.param(closed("no"), 1, 1, id="closed after what is no JSON"),
        pytest.param(body('{"jsonrpc":"2.0","id":1,"result":{}}'), 1, 1, id="wrong id"),
        pytest.param(body("x" * (LIMIT + 1)), 1, 1, id="oversized"),
        pytest.param(BadAnswer("not HTTP"), 1, 1, id="not HTTP"),
        pytest.param(refused(307), 1, 1, id="redirect"),
        pytest.param(refused(400), 1, 1, id="400"),
        pytest.param(refused(401), 1, 1, id="401"),
        pytest.param(refused(403), 1, 1, id="403"),
        pytest.param(refused(404), 1, 1, id="404"),
        pytest.param(refused(500), 1, 1, id="500"),
        pytest.param(refused(500, "1"), 1, 1, id="500 with Retry-After"),
        pytest.param(refused(408), 1, 4, id="408"),
        pytest.param(refused(425), 1, 4, id="425"),
        pytest.param(refused(502), 1, 4, id="502"),
        pytest.param(refused(502, "1"), 1, 4, id="502 with Retry-After"),
        pytest.param(refused(503), 1, 4, id="503"),
        pytest.param(refused(503, "soon"), 1, 4, id="503 with odd Retry-After"),
        pytest.param(refused(504), 1, 4, id="504"),
        pytest.param(refused(429), 4, 4, id="429"),
        pytest.param(refused(429, "10"), 4, 4, id="429 with Retry-After"),
        pytest.param(refused(503, "10"), 4, 4, id="503 with Retry-After"),
        pytest.param(refused(503, "Thu, 01 Jan 1970 00:00:00 GMT"), 4, 4, id="503 with date"),
        pytest.param(refused(429, "61"), 1, 1, id="429, too late"),
        pytest.param(refused(503, "61"), 1, 1, id="503, too late"),
    ],
)
async def test_how_often_the_server_gets_a_request(
    autojump_clock: MockClock, failure: Answer, calls: int, lists: int
) -> None:
    for method, count in ((CALL, calls), (LIST, lists)):
        asked, server = await ask(failure, method=method)
        assert asked.failure is not None
        assert len(server.got(method)) == count, method


async def test_of_a_call_whose_answer_the_close_cut_off_the_outcome_is_unknown(
    autojump_clock: MockClock,
) -> None:
    whole = '{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'
    for at in range(len(whole)):
        asked, _ = await ask(closed(whole[:at]))
        assert isinstance(asked.failure, ConnectionLost)
        assert "whether the call ran is unknown" in str(asked.failure)
    asked, _ = await ask(closed(whole))
    assert asked.result == {"content": []}


async def test_what_never_left_is_tried_four_times(autojump_clock: MockClock) -> None:
    for method in (CALL, LIST):
        asked, server = await ask(unreachable(), method=method)
        assert isinstance(asked.failure, Unreachable)
        assert server.refused_connections == 4
        assert server.seen == []
        assert 3.5 <= asked.took <= 3.5 * 1.5


@pytest.mark.parametrize(
    "method",
    [
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "server/discover",
        "completion/complete",
        "resources/read",
        "prompts/get",
        "tasks/get",
        "ping",
        "initialize",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
    ],
)
async def test_methods_that_may_run_twice(autojump_clock: MockClock, method: str) -> None:
    asked, server = await ask(lost(), answered, method=method)
    assert asked.result == {"value": "done"}
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    "method", ["tools/call", "tasks/update", "tasks/cancel", "x/custom", "Tools/list", "Ping"]
)
async def test_all_others_may_not(autojump_clock: MockClock, method: str) -> None:
    asked, server = await ask(lost(), answered, method=method)
    assert isinstance(asked.failure, ConnectionLost)
    assert asked.failure.code == -33002
    assert len(server.seen) == 1


async def test_retry_after_is_waited_out(autojump_clock: MockClock) -> None:
    asked, server = await ask(refused(429, "20"), answered)
    assert asked.result == {"value": "done"}
    assert server.seen[1].at == pytest.approx(20, abs=0.5)


async def test_retry_after_beyond_the_time_of_the_request(autojump_clock: MockClock) -> None:
    for limits in ({"silence": 15.0}, {"total": 15.0}):
        asked, server = await ask(refused(429, "20"), answered, **limits)  # type: ignore[arg-type]
        assert isinstance(asked.failure, HttpRefusal)
        assert asked.failure.status == 429
        assert asked.failure.retryable
        assert asked.took < 1
        assert len(server.seen) == 1


async def test_waiting_for_the_next_attempt_is_not_the_servers_silence(
    autojump_clock: MockClock,
) -> None:
    slow = Reply(429, [b"later", FOREVER], "text/plain", (("retry-after", "18"),))
    asked, _ = await ask(slow, answered, silence=20.0)
    assert asked.result == {"value": "done"}
    assert asked.took > 20


async def test_only_a_failure_that_proves_it_did_not_run_is_called_retryable(
    autojump_clock: MockClock,
) -> None:
    for reply, retryable in (
        (refused(429, "61"), True),
        (refused(503, "61"), True),
        (refused(503), False),
        (refused(500), False),
    ):
        asked, _ = await ask(reply)
        assert asked.failure is not None
        assert asked.failure.retryable is retryable


async def test_what_has_no_effect_may_be_tried_again_whatever_became_of_it(
    autojump_clock: MockClock,
) -> None:
    """P2 forbids it for a call only: of that alone it is said that it may have run."""
    makers: list[Callable[[], Any]] = [lambda: refused(502), lost, lambda: Reply(body=[FOREVER])]
    for make in makers:
        harmless = (await ask(*[make() for _ in range(4)], method=LIST, silence=9.0))[0].failure
        call = (await ask(make(), silence=9.0))[0].failure
        assert harmless is not None
        assert call is not None
        assert harmless.retryable
        assert not call.retryable
        assert "check its effect" not in harmless.explanation
        if not isinstance(call, HttpRefusal):
            assert "check its effect before you call again" in call.explanation


async def test_a_json_rpc_error_that_remains_after_retries_is_the_answer(
    autojump_clock: MockClock,
) -> None:
    raw = '{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"busy"}}'
    asked, server = await ask(Reply(503, [raw.encode()]), method=LIST)
    assert isinstance(asked.failure, HttpRefusal)
    assert asked.failure.answer is not None
    assert len(server.seen) == 4


async def test_the_exchange_is_closed_before_the_pause(autojump_clock: MockClock) -> None:
    server = Server(**{CALL: in_turn(refused(429, "20"), answered)})
    async with messaging(server) as client:
        asked = client.ask(CALL)
        await trio.sleep(1)
        assert server.seen[0].closed.is_set()
        await client.done(asked)


# Notifications and responses


@pytest.mark.parametrize(
    "failure, notes, responses",
    [
        pytest.param(lost(), 1, 2, id="lost"),
        pytest.param(refused(500), 1, 1, id="500"),
        pytest.param(refused(503), 1, 4, id="503"),
        pytest.param(refused(429), 4, 4, id="429"),
        pytest.param(Reply(before=[FOREVER]), 1, 1, id="silence"),
    ],
)
async def test_how_often_what_wants_no_answer_is_sent(
    autojump_clock: MockClock, failure: Answer, notes: int, responses: int
) -> None:
    server = Server(response=failure)
    server.rules["notifications/x"] = failure
    async with messaging(server) as client:
        told = [client.tell("notifications/x"), client.reply("q1")]
        await client.done(*told)
        assert [asked.failure is None for asked in told] == [False, False]
    assert len(server.got("notifications/x")) == notes
    assert len(server.got("response")) == responses


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_success_takes_a_notification(autojump_clock: MockClock, status: int) -> None:
    server = Server()
    server.rules["notifications/x"] = Reply(status, [b"ignored", FOREVER], "text/plain")
    async with messaging(server) as client:
        told = client.tell("notifications/x")
        await client.done(told)
    assert told.failure is None
    assert told.emitted == []


# Withdrawal


async def test_a_withdrawn_request_is_called_off_once_it_was_sent(
    autojump_clock: MockClock,
) -> None:
    server = Server(**{CALL: lambda seen: events(note("a"), 0.5, note("b"), FOREVER)})
    async with messaging(server) as client:
        asked = client.ask(CALL, id="7")
        await wait_all_tasks_blocked()
        client.cancel(asked, "enough")
        await client.done(asked)
    assert server.order() == [CALL, "notifications/cancelled"]
    assert server.seen[1].message["params"] == {"requestId": "7", "reason": "enough"}
    assert server.seen[0].closed.is_set()
    assert asked.took == pytest.approx(LINGER)
    assert asked.notes == ["a"]
    assert asked.failure is None


async def test_a_withdrawn_request_without_a_head_is_not_listened_to(
    autojump_clock: MockClock,
) -> None:
    server = Server(**{CALL: Reply(before=[FOREVER])})
    async with messaging(server) as client:
        asked = client.ask(CALL)
        await wait_all_tasks_blocked()
        client.cancel(asked)
        await client.done(asked)
    assert server.order() == [CALL, "notifications/cancelled"]
    assert server.seen[0].closed.is_set()
    assert asked.took == 0


async def test_a_request_withdrawn_before_it_was_sent_is_not_mentioned(
    autojump_clock: MockClock,
) -> None:
    server = Server(**{CALL: unreachable()})
    async with messaging(server) as client:
        asked = client.ask(CALL)
        await trio.sleep(0.1)
        client.cancel(asked)
        await client.done(asked)
    assert server.seen == []


async def test_initialize_is_never_called_off(autojump_clock: MockClock) -> None:
    asked, server = await ask(Reply(before=[FOREVER]), method="initialize")
    assert isinstance(asked.failure, TimedOut)
    assert server.order() == ["initialize"]


async def test_the_end_of_the_program_is_no_withdrawal(autojump_clock: MockClock) -> None:
    server = Server(**{CALL: events(FOREVER)})
    async with messaging(server) as client:
        asked = client.ask(CALL)
        await wait_all_tasks_blocked()
        asked.relayed.scope.cancel()
        await client.done(asked)
    assert server.order() == [CALL]
    assert server.seen[0].closed.is_set()


# 202


async def test_202_to_a_request_without_any_stream(autojump_clock: MockClock) -> None:
    for reply in (Reply(202, media_type=None), Reply(202), Reply(204, media_type=None)):
        asked, _ = await ask(reply)
        assert isinstance(asked.failure, BadAnswer)
        assert "offers no stream" in str(asked.failure)
