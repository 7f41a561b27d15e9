"""Answers that are no answers: each request gets exactly one response all the same (P1).

The process lives on, and a `tools/call` never runs twice (P2): `relaying` and `serving` see to it
that this is checked at the end of each test.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import trio

from mcp_stdio import spec
from tests.faults.driver import (
    LANES,
    LIMIT,
    NOT_UNDERSTOOD,
    SILENT,
    UNAUTHORIZED,
    UNKNOWN,
    opening,
    relaying,
)
from tests.faults.server import (
    END,
    EVENTS,
    JSON,
    Behaviour,
    Json,
    Visit,
    answering,
    chunk,
    cut_off,
    dumps,
    event,
    hang_up,
    http,
    in_turn,
    never,
    notification,
    server_description,
    serving,
    stream_head,
    welcome,
    well,
)

HTML = b"<!doctype html><title>Sign in</title><p>Please sign in"


def body(make: Any, *, kind: str | None = JSON, status: int = 200) -> Behaviour:
    """Answer with what `make` says of the right answer."""

    async def behave(visit: Visit) -> None:
        value = make(visit.result())
        data = value if isinstance(value, bytes) else dumps(value)
        await visit.send(http(status, data, kind=kind))

    return behave


def stream(*makes: Any, ends: bool = True, kind: str = EVENTS) -> Behaviour:
    """Answer with a stream of what each of `makes` says of the right answer; then hang up."""

    async def behave(visit: Visit) -> None:
        parts = [make(visit.result()) for make in makes]
        await visit.send(b"".join([stream_head(kind=kind), *parts, END if ends else b""]))
        if not ends:
            await visit.close()

    return behave


def an_error(code: int = -32000, **ids: Any) -> Json:
    return {"jsonrpc": "2.0", **ids, "error": {"code": code, "message": "no"}}


def truncated(answer: Json) -> bytes:
    return dumps(answer)[:-8]


FAULTS: dict[str, tuple[Behaviour, int]] = {
    # 200, and nothing in it that could be used
    "html": (answering(http(body=HTML, kind="text/html")), NOT_UNDERSTOOD),
    "html as json": (answering(http(body=HTML)), NOT_UNDERSTOOD),
    "empty": (answering(http(kind=None)), NOT_UNDERSTOOD),
    "empty json": (answering(http(headers=[f"Content-Type: {JSON}"])), NOT_UNDERSTOOD),
    "white space": (answering(http(body=b" \r\n ")), NOT_UNDERSTOOD),
    "204": (answering(http(204)), NOT_UNDERSTOOD),
    "truncated json": (body(truncated), NOT_UNDERSTOOD),
    "two values": (body(lambda a: dumps(a) * 2), NOT_UNDERSTOOD),
    "not utf-8": (body(lambda a: b'{"\xff":' + dumps(a) + b"}"), NOT_UNDERSTOOD),
    "a number": (body(lambda a: 1), NOT_UNDERSTOOD),
    "an empty array": (body(lambda a: []), NOT_UNDERSTOOD),
    "no jsonrpc": (body(lambda a: {**a, "jsonrpc": "1.0"}), NOT_UNDERSTOOD),
    "result and error": (body(lambda a: {**a, **an_error()}), NOT_UNDERSTOOD),
    "deeply nested": (body(lambda a: b"[" * 100_000), NOT_UNDERSTOOD),
    "only a notification": (body(lambda a: notification("x")), NOT_UNDERSTOOD),
    "odd type": (body(dumps, kind="application/octet-stream"), NOT_UNDERSTOOD),
    "no type": (body(dumps, kind=None), NOT_UNDERSTOOD),
    "unreadable type": (body(dumps, kind=";;; charset"), NOT_UNDERSTOOD),
    "json called a stream": (body(dumps, kind=EVENTS), UNKNOWN),
    "unknown coding": (
        answering(http(body=b"x", headers=["Content-Encoding: br"])),
        NOT_UNDERSTOOD,
    ),
    # 200 with an answer to something else
    "wrong id": (body(lambda a: {**a, "id": 4711}), NOT_UNDERSTOOD),
    "id as a string": (body(lambda a: {**a, "id": str(a["id"])}), NOT_UNDERSTOOD),
    "id as a fraction": (body(lambda a: {**a, "id": a["id"] + 0.5}), NOT_UNDERSTOOD),
    "id null": (body(lambda a: {**a, "id": None}), NOT_UNDERSTOOD),
    "id an object": (body(lambda a: {**a, "id": {}}), NOT_UNDERSTOOD),
    "wrong id on a stream": (stream(lambda a: event({**a, "id": 4711})), UNKNOWN),
    "another's in an array": (body(lambda a: [{**a, "id": 4711}]), NOT_UNDERSTOOD),
    # Streams that say nothing of use
    "empty stream": (stream(), UNKNOWN),
    "comments": (stream(lambda a: chunk(b": hello\n\n")), UNKNOWN),
    "no json on the stream": (stream(lambda a: chunk(b"data: <html>\n\n")), UNKNOWN),
    "another type of event": (
        stream(lambda a: chunk(b"event: result\ndata: " + dumps(a) + b"\n\n")),
        UNKNOWN,
    ),
    "unfinished event": (stream(lambda a: chunk(b"data: " + dumps(a) + b"\n")), UNKNOWN),
    # Connections that end
    "hung up": (hang_up, UNKNOWN),
    "reset": (cut_off, UNKNOWN),
    "cut in the head": (answering(b"HTTP/1.1 200 OK\r\nContent-Ty", closes=True), UNKNOWN),
    "cut in the body": (answering(http(body=b"{", size=100), closes=True), UNKNOWN),
    "cut in a chunk": (
        answering(stream_head(kind=JSON) + b"ff\r\n{", closes=True),
        UNKNOWN,
    ),
    "cut stream": (stream(lambda a: event(notification("x")), ends=False), UNKNOWN),
    # Not HTTP
    "no http": (answering(b"SSH-2.0-OpenSSH_9.0\r\n\r\n", closes=True), NOT_UNDERSTOOD),
    "negative length": (answering(http(size=-1)), NOT_UNDERSTOOD),
    "two lengths": (
        answering(http(body=b"{}", headers=["Content-Length: 9"])),
        NOT_UNDERSTOOD,
    ),
    "endless head": (answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 600_000), NOT_UNDERSTOOD),
    "switching protocols": (
        answering(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", closes=True),
        NOT_UNDERSTOOD,
    ),
    # Redirects that are not followed; 307 and 308 within the origin are
    **{
        f"{status} to {name}": (
            answering(http(status, headers=[f"Location: {where}"])),
            NOT_UNDERSTOOD,
        )
        for status in (301, 302, 303, 307, 308)
        for name, where in (
            ("another host", "http://localhost:1/mcp"),
            ("another port", "http://127.0.0.1:1/mcp"),
            ("a file", "file:///etc/passwd"),
            ("nowhere", "http://[::1"),
        )
    },
    **{
        f"{status} here": (answering(http(status, headers=["Location: /mcp"])), NOT_UNDERSTOOD)
        for status in (301, 302, 303)
    },
    "307 without location": (answering(http(307)), NOT_UNDERSTOOD),
    "300": (answering(http(300, HTML, kind="text/html")), NOT_UNDERSTOOD),
    "304": (answering(http(304)), NOT_UNDERSTOOD),
}

NO_HTTP = "no http"
"""On a kept connection it may as well belong to an earlier answer, as far as the lane can tell."""

STATUSES = [400, 402, 404, 405, 406, 408, 409, 410, 411, 413, 414, 415, 418, 421, 422, 425, 426,
            428, 431, 451, 500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 599]  # fmt: skip


@pytest.mark.parametrize("lane", LANES)
async def test_every_fault_is_answered_once(lane: str) -> None:
    async with serving() as server, relaying(server.url, env=LANES[lane]) as relay:
        for name, (behaviour, code) in FAULTS.items():
            server.tools[name] = behaviour
            error = (await relay.call(name))["error"]
            assert error["code"] in (code, UNKNOWN if name == NO_HTTP else code), (name, error)
            assert error["data"]["origin"] == "mcp-stdio"
            assert error["data"]["retryable"] is False
            await relay.lives()


@pytest.mark.parametrize("lane", LANES)
async def test_all_faults_at_once_are_answered_once_each(lane: str) -> None:
    async with serving() as server, relaying(server.url, env=LANES[lane]) as relay:
        ids = {}
        for name, (behaviour, _) in FAULTS.items():
            server.tools[name] = behaviour
            ids[name] = await relay.start_call(name)
        for name, (_, code) in FAULTS.items():
            answer = await relay.answer(ids[name])
            codes = (code, UNKNOWN if name == NO_HTTP else code)
            assert answer["error"]["code"] in codes, (name, answer)
        await relay.lives()


async def test_error_statuses_without_a_message_of_the_protocol() -> None:
    async with serving(has_sessions=False) as server, relaying(server.url) as relay:
        for status in STATUSES:
            server.tools["fault"] = answering(http(status, HTML, kind="text/html"))
            error = (await relay.call("fault"))["error"]
            assert error["code"] == NOT_UNDERSTOOD, error
            assert error["data"]["status"] == status
            assert "Please sign in" in error["message"]
        for status in 401, 403:
            server.tools["fault"] = answering(http(status, HTML, kind="text/html"), runs=False)
            error = (await relay.call("fault"))["error"]
            assert error["code"] == UNAUTHORIZED, error
            assert error["data"]["status"] == status
        await relay.lives()


@pytest.mark.parametrize("kind", [JSON, EVENTS, "text/plain"])
async def test_error_statuses_with_a_message_of_the_protocol_pass_it_on(kind: str) -> None:
    def answer_to(status: int, **ids: Any) -> Behaviour:
        message = an_error(-32000 - status, **ids)
        data = b"data: " + dumps(message) + b"\n\n" if kind == EVENTS else dumps(message)
        return answering(http(status, data, kind=kind))

    async with serving(has_sessions=False) as server, relaying(server.url) as relay:
        for status in STATUSES:
            for ids in {}, {"id": None}, {"id": "server-error"}:
                server.tools["fault"] = answer_to(status, **ids)
                answer = await relay.call("fault")
                assert answer["error"] == {"code": -32000 - status, "message": "no"}
        await relay.lives()


@pytest.mark.parametrize(
    "make",
    [
        partial(an_error),
        partial(an_error, id=None),
        partial(an_error, id="server-error"),
    ],
)
async def test_an_error_without_the_right_id_belongs_to_its_request(make: Any) -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.tools["fault"] = body(lambda a: make())
        assert (await relay.call("fault"))["error"] == make()["error"]
        await relay.lives()


async def _hinting(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    await visit.answer()


GOOD: dict[str, Behaviour] = {
    "charset": body(dumps, kind="Application/JSON; charset=UTF-8"),
    "pretty": body(lambda a: json.dumps(a, indent=4).replace("\n", "\r\n").encode()),
    "array": body(lambda a: [notification("x"), a]),
    "stream with charset": stream(event, kind="TEXT/Event-Stream;charset=utf-8"),
    "id in an odd place": body(lambda a: {"result": a["result"], "id": a["id"], "jsonrpc": "2.0"}),
    "status 201": body(dumps, status=201),
    "hints before": _hinting,
    "other events": stream(
        lambda a: chunk(b": hello\n\nevent: ping\ndata: 1\n\nid: 1\ndata\n\ndata: {\n\n"),
        lambda a: event({**a, "id": 4711}),
        event,
    ),
    "crlf and a byte order mark": stream(
        lambda a: chunk(b"\xef\xbb\xbfdata: " + dumps(a)),
        lambda a: chunk(b"\r"),
        lambda a: chunk(b"\n\r\n"),
    ),
    "data in lines": stream(
        lambda a: chunk(
            b"".join(b"data: %b\n" % line for line in json.dumps(a, indent=1).encode().split(b"\n"))
            + b"\n"
        )
    ),
    "late fault": stream(event, ends=False),
}


@pytest.mark.parametrize("lane", LANES)
async def test_an_odd_answer_is_an_answer(lane: str) -> None:
    async with serving() as server, relaying(server.url, env=LANES[lane]) as relay:
        for name, behaviour in GOOD.items():
            server.tools[name] = behaviour
            answer = await relay.call(name)
            assert "result" in answer, (name, answer)
            await relay.lives()


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_within_the_origin_is_followed_and_remembered(status: int) -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.tools["moved"] = in_turn(
            answering(http(status, headers=["Location: /elsewhere"]), runs=False), well
        )
        for _ in range(2):
            assert "result" in await relay.call("moved")
        targets = [r.target for r in server.requests("tools/call")]
        assert targets == ["/mcp", "/elsewhere", "/elsewhere"]
        moved = server.requests("tools/call")
        assert moved[0].body == moved[1].body
        assert moved[0].get("mcp-session-id") == moved[1].get("mcp-session-id") is not None


async def test_redirects_in_a_circle_end() -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.tools["moved"] = answering(http(308, headers=["Location: /mcp"]), runs=False)
        assert (await relay.call("moved"))["error"]["code"] == NOT_UNDERSTOOD
        assert len(server.requests("tools/call")) < 10
        await relay.lives()


@pytest.mark.parametrize(
    "status, wait", [(429, "1"), (503, "0"), (429, "Thu, 01 Jan 1970 00:00:00 GMT")]
)
async def test_retry_after_is_honoured_also_for_calls(status: int, wait: str) -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.tools["busy"] = in_turn(
            answering(http(status, headers=[f"Retry-After: {wait}"]), runs=False), well
        )
        start = trio.current_time()
        assert "result" in await relay.call("busy")
        if wait == "1":
            assert trio.current_time() - start >= 1.0
        assert len(server.requests("tools/call")) == 2


@pytest.mark.parametrize(
    "status, headers",
    [
        (429, ["Retry-After: 3600"]),
        (503, ["Retry-After: 61"]),
        (503, []),
        (503, ["Retry-After: x"]),
    ],
)
async def test_a_long_or_unknown_wait_is_answered_at_once(status: int, headers: list[str]) -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.tools["busy"] = answering(http(status, headers=headers))
        error = (await relay.call("busy"))["error"]
        assert (error["code"], error["data"]["status"]) == (NOT_UNDERSTOOD, status)
        assert len(server.requests("tools/call")) == 1
        await relay.lives()


async def test_an_unavailable_server_is_asked_again_for_what_is_safe() -> None:
    async with serving() as server, relaying(server.url) as relay:
        for status in 502, 503, 504:
            server.methods["resources/read"] = in_turn(answering(http(status)), well)
            assert "result" in await relay.ask("resources/read", {"uri": "x:y"})


@pytest.mark.parametrize("behaviour", [hang_up, cut_off, stream(ends=False)])
async def test_a_lost_answer_is_asked_for_again_where_that_is_safe(behaviour: Behaviour) -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.methods["resources/read"] = in_turn(behaviour, well)
        assert "result" in await relay.ask("resources/read", {"uri": "x:y"})
        server.methods["resources/read"] = behaviour
        answer = await relay.ask("resources/read", {"uri": "x:y"})
        assert answer["error"]["code"] == UNKNOWN
        await relay.lives()


async def test_an_answer_that_never_comes_is_a_time_out() -> None:
    async with serving() as server, relaying(server.url, "--timeout-read", "0.5") as relay:
        server.tools["silent"] = never
        server.tools["silent after its head"] = _silent_after_head
        for tool in "silent", "silent after its head":
            answer = await relay.call(tool)
            assert answer["error"]["code"] == SILENT, answer
            with trio.fail_after(LIMIT):  # and the server is told (T-61, T-63)
                await server.saw(spec.CANCELLED, len(server.requests("tools/call")))
        cancelled = [r.message["params"]["requestId"] for r in server.requests(spec.CANCELLED)]
        assert cancelled == [r.message["id"] for r in server.requests("tools/call")]
        await relay.lives()


async def _silent_after_head(visit: Visit) -> None:
    await visit.send(stream_head())
    await trio.sleep_forever()


async def test_bytes_that_keep_coming_are_no_silence() -> None:
    async def slowly(visit: Visit) -> None:
        data = dumps(visit.result())
        head = http(body=data).removesuffix(data)
        await visit.send(head)
        for at in range(len(data)):
            await trio.sleep(0.02)
            await visit.send(data[at : at + 1])

    async with serving() as server, relaying(server.url, "--timeout-read", "0.9") as relay:
        server.tools["slow"] = slowly
        slow = await relay.start_call("slow")
        await relay.lives()  # in the meantime
        assert "result" in await relay.answer(slow)


async def test_a_head_that_trickles_in_does_not_outlast_the_time_out() -> None:
    async def trickle(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            await trio.sleep(0.1)
            await visit.send(b"x")

    async with serving() as server, relaying(server.url, "--timeout-read", "0.5") as relay:
        server.tools["slow"] = trickle
        assert (await relay.call("slow"))["error"]["code"] == SILENT
        await relay.lives()


async def test_the_longest_a_call_may_take_holds_for_a_talkative_server() -> None:
    async def talk(visit: Visit) -> None:
        await visit.send(stream_head())
        while True:
            await visit.send(event(notification("still at it")))
            await trio.sleep(0.05)

    async with serving() as server, relaying(server.url, "--timeout-call", "0.5") as relay:
        server.tools["talk"] = talk
        assert (await relay.call("talk"))["error"]["code"] == SILENT
        await relay.lives()


async def test_a_server_of_http_1_0() -> None:
    def old(data: bytes) -> bytes:
        return b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + data

    async def behave(visit: Visit) -> None:
        await visit.send(old(dumps(visit.result())))
        await visit.close()

    async def cut(visit: Visit) -> None:
        await visit.send(old(dumps(visit.result())[:-5]))
        await visit.close()

    async with serving() as server:
        server.methods[spec.INITIALIZED] = answering(http(202, version="1.0"), closes=True)
        async with relaying(server.url) as relay:
            server.tools["old"], server.tools["old and cut"] = behave, cut
            for _ in range(3):
                assert "result" in await relay.call("old")
            assert (await relay.call("old and cut"))["error"]["code"] in (UNKNOWN, NOT_UNDERSTOOD)
            await relay.lives()


async def test_202_to_a_request_where_no_stream_could_bring_the_answer() -> None:
    async with serving() as server, relaying(server.url) as relay:
        with trio.fail_after(LIMIT):
            await server.saw("GET")
        server.tools["later"] = answering(http(202))
        assert (await relay.call("later"))["error"]["code"] == NOT_UNDERSTOOD
        await relay.lives()


async def test_202_to_a_request_whose_answer_comes_on_the_listening_stream() -> None:
    answers: list[Json] = []
    asked = trio.Event()

    async def listen(visit: Visit) -> None:
        await visit.send(stream_head())
        await asked.wait()
        await visit.send(event(answers[0]))
        await trio.sleep_forever()

    async def later(visit: Visit) -> None:
        answers.append(visit.result())
        await visit.send(http(202))
        asked.set()

    async with serving(methods={"GET": listen}) as server, relaying(server.url) as relay:
        with trio.fail_after(LIMIT):
            await server.saw("GET")
        server.tools["later"] = later
        assert "result" in await relay.call("later")
        await relay.lives()


async def test_a_server_that_speaks_while_it_initializes() -> None:
    question = {"jsonrpc": "2.0", "id": "q1", "method": "ping"}

    async def talk(visit: Visit) -> None:
        session = visit.server.mint_session()
        await visit.send(stream_head(f"{spec.SESSION_ID}: {session}"))
        await visit.send(event(notification("warming up")))
        await visit.send(event(question))
        await visit.send(event({"jsonrpc": "2.0", "id": 4711, "result": {}}))
        await visit.send(event(visit.result(server_description())) + END)

    methods = {spec.INITIALIZE: talk}
    async with serving(methods=methods) as server, relaying(server.url) as relay:
        await relay.heard("warming up")
        assert await relay.heard("q1") == question
        await relay.send({"jsonrpc": "2.0", "id": "q1", "result": {}})
        with trio.fail_after(LIMIT):
            (response,) = await server.saw("response")
        assert response.message["id"] == "q1"
        await relay.lives()


async def _odd_session(visit: Visit) -> None:
    await visit.answer(server_description(), f"{spec.SESSION_ID}: white space")


INITIALIZE_FAULTS: dict[str, tuple[Behaviour, int]] = {
    **{
        name: FAULTS[name]
        for name in ("html", "empty", "truncated json", "wrong id", "302 to another host")
    },
    "hung up": (hang_up, UNKNOWN),
    "500": (answering(http(500, HTML)), NOT_UNDERSTOOD),
    "401": (answering(http(401)), UNAUTHORIZED),
    "404": (answering(http(404)), NOT_UNDERSTOOD),
    "no version": (body(lambda a: {**a, "result": {}}), NOT_UNDERSTOOD),
    "odd session id": (_odd_session, NOT_UNDERSTOOD),
    "an error": (body(lambda a: an_error(-32602, id=a["id"])), -32602),
}


async def test_an_initialize_that_fails_can_be_tried_again() -> None:
    async with serving() as server, relaying(server.url, initialize=False) as relay:
        for name, (behaviour, code) in INITIALIZE_FAULTS.items():
            server.methods[spec.INITIALIZE] = behaviour
            answer = await relay.ask(spec.INITIALIZE, opening())
            assert answer["error"]["code"] == code, (name, answer)
            server.methods[spec.INITIALIZE] = welcome
            await relay.initialize()
            await relay.lives()


@pytest.mark.parametrize("name", ["html", "500", "hung up"])
async def test_a_message_after_a_failed_initialize_opens_the_session(name: str) -> None:
    behaviour, _ = INITIALIZE_FAULTS[name]
    async with serving() as server, relaying(server.url, initialize=False) as relay:
        server.methods[spec.INITIALIZE] = behaviour
        assert "error" in await relay.ask(spec.INITIALIZE, opening())
        server.methods[spec.INITIALIZE] = welcome
        await relay.lives()


async def test_a_notification_that_is_refused_is_not_answered() -> None:
    async with serving() as server, relaying(server.url) as relay:
        server.methods["notifications/roots/list_changed"] = answering(http(500, HTML))
        await relay.notify("notifications/roots/list_changed")
        with trio.fail_after(LIMIT):
            await server.saw("notifications/roots/list_changed")
        await relay.lives()
