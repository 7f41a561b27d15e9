"""Listen streams that outlive their connections (T-71, T-72, S-15)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio.errors import AuthorizationFailed, ConnectionLost, TimedOut, Unreachable
from tests.upstream.fakes import (
    FOREVER,
    Answer,
    Reply,
    Seen,
    Server,
    Step,
    error,
    events,
    in_turn,
    lost,
    unreachable,
)
from tests.upstream.modern import TAG, params, stateless

LISTEN = "subscriptions/listen"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
TOOLS = "notifications/tools/list_changed"
PROMPTS = "notifications/prompts/list_changed"
RESOURCES = "notifications/resources/list_changed"
UPDATED = "notifications/resources/updated"

FILTER = {"toolsListChanged": True, "resourceSubscriptions": ["a:1", "a:2"]}


def told(seen: Seen, method: str, **members: Any) -> dict[str, Any]:
    return {"method": method, "params": {"_meta": {TAG: seen.id}} | members}


def acknowledged(seen: Seen, granted: Any = FILTER) -> dict[str, Any]:
    return told(seen, ACKNOWLEDGED, notifications=granted)


def completed(seen: Seen) -> dict[str, Any]:
    return {"id": seen.id, "result": {"resultType": "complete", "_meta": {TAG: seen.id}}}


def listening(*steps: Step | str, granted: Any = FILTER) -> Answer:
    """A stream that is acknowledged; a text is a notification of that method."""

    def stream(seen: Seen) -> Reply:
        said = [told(seen, step) if isinstance(step, str) else step for step in steps]
        return events(acknowledged(seen, granted), *said)

    return stream


def ends(seen: Seen) -> Reply:
    return events(acknowledged(seen), completed(seen))


def what(asked: Any) -> list[tuple[str, Any]]:
    """Method and tag of each message."""
    found = []
    for message in asked.emitted:
        body = message.body.get("params") or message.body.get("result")
        found.append((message.method or "result", body["_meta"][TAG]))
    return found


async def test_a_stream_passes_as_it_is(autojump_clock: MockClock) -> None:
    sent: list[bytes] = []

    def stream(seen: Seen) -> Reply:
        reply = events(acknowledged(seen), told(seen, TOOLS, x=1.5), completed(seen))
        sent.extend(bytes(part)[6:-2] for part in reply.body)  # type: ignore[arg-type]
        return reply

    server = Server(**{LISTEN: stream})
    async with stateless(server) as client:
        asked = client.ask(LISTEN, params(notifications=FILTER), id="l1")
        await client.done(asked)
        assert [message.raw for message in asked.emitted] == sent
        assert what(asked) == [(ACKNOWLEDGED, "l1"), (TOOLS, "l1"), ("result", "l1")]


@pytest.mark.parametrize("id", ["1", 1], ids=repr)
@pytest.mark.parametrize("drop", [[], [lost(answer_begun=True)]], ids=["end", "cut"])
async def test_a_stream_that_breaks_is_opened_again_unnoticed(
    autojump_clock: MockClock, id: str | int, drop: list[Step]
) -> None:
    """S-15: the tag is the client's own id with its type; the second acknowledgement is swallowed,
    and one change of each kind is told."""
    server = Server(
        **{LISTEN: in_turn(listening(TOOLS, *drop), listening(*drop), listening(TOOLS), ends)}
    )
    async with stateless(server) as client:
        asked = client.ask(LISTEN, params(notifications=FILTER), id=id)
        await client.done(asked)
        gap = [(TOOLS, id), (UPDATED, id), (UPDATED, id)]
        assert what(asked) == [
            (ACKNOWLEDGED, id),
            (TOOLS, id),
            *gap,
            *gap,
            (TOOLS, id),
            *gap,
            ("result", id),
        ]
        assert asked.answer["id"] == id
        uris = [message.params["uri"] for message in asked.emitted if message.method == UPDATED]
        assert uris == 3 * ["a:1", "a:2"]
    ids = [seen.id for seen in server.seen]
    assert ids[0] == id
    assert len(set(map(repr, ids))) == 4
    for seen in server.seen:
        assert seen.message["params"] == params(notifications=FILTER)


@pytest.mark.parametrize(
    "granted, methods",
    [
        ({"promptsListChanged": True, "toolsListChanged": False}, [PROMPTS]),
        ({"resourcesListChanged": True}, [RESOURCES]),
        ({}, []),
        ("odd", []),
    ],
)
async def test_only_what_is_granted_is_told_after_a_gap(
    autojump_clock: MockClock, granted: Any, methods: list[str]
) -> None:
    def regranted(seen: Seen) -> Reply:
        return events(acknowledged(seen, granted), completed(seen))

    server = Server(**{LISTEN: in_turn(listening(lost(answer_begun=True)), lost(), regranted)})
    async with stateless(server) as client:
        await client.done(asked := client.ask(LISTEN, params(notifications=FILTER), id="l"))
        assert [method for method, _ in what(asked)] == [ACKNOWLEDGED, *methods, "result"]


async def test_a_server_may_say_nothing_for_days(autojump_clock: MockClock) -> None:
    day = 24 * 3600.0
    server = Server(**{LISTEN: listening(3 * day, TOOLS, FOREVER)})
    async with stateless(server, silence=120, total=300) as client:
        asked = client.ask(LISTEN, params(notifications=FILTER), id="l")
        await trio.sleep(4 * day)
        assert what(asked) == [(ACKNOWLEDGED, "l"), (TOOLS, "l")]
        client.cancel(asked)
        await client.done(asked)
        assert asked.failure is None
    assert len(server.seen) == 1
    assert server.seen[0].closed.is_set()


async def test_but_it_has_to_acknowledge(autojump_clock: MockClock) -> None:
    server = Server(**{LISTEN: events(b": ping\n\n", FOREVER)})
    async with stateless(server, silence=120) as client:
        await client.done(asked := client.ask(LISTEN, params(notifications=FILTER)))
        assert isinstance(asked.failure, TimedOut)
        assert asked.took == 120


async def test_a_server_that_is_away_for_long(autojump_clock: MockClock) -> None:
    """A gateway may say anything meanwhile: only the server's own words end a stream."""
    gateway = [Reply(status, [b"<h1>Oops</h1>"], "text/html") for status in (500, 404, 400)]
    gone: list[Answer] = [Reply(503), Reply(429), *10 * [unreachable()], lost(), *gateway]
    server = Server(**{LISTEN: in_turn(listening(), *gone, listening(FOREVER))})
    async with stateless(server) as client:
        asked = client.ask(LISTEN, params(notifications=FILTER), id="l")
        await trio.sleep(600)
        assert what(asked)[:2] == [(ACKNOWLEDGED, "l"), (TOOLS, "l")]
        assert not asked.over.is_set()
        client.cancel(asked)
        await client.done(asked)


@pytest.mark.parametrize(
    "refusal, failure",
    [
        (unreachable(), Unreachable),
        (Reply(401), AuthorizationFailed),
        (events(), ConnectionLost),
    ],
    ids=["unreachable", "401", "no stream"],
)
async def test_what_never_opened_is_a_failure(
    autojump_clock: MockClock, refusal: Answer, failure: type[Exception]
) -> None:
    server = Server(**{LISTEN: refusal})
    async with stateless(server) as client:
        await client.done(asked := client.ask(LISTEN, params(notifications=FILTER)))
        assert isinstance(asked.failure, failure)


@pytest.mark.parametrize("status", [200, 400, 404])
@pytest.mark.parametrize("was_open", [True, False])
async def test_an_error_is_the_answer(
    autojump_clock: MockClock, status: int, was_open: bool
) -> None:
    def refuse(seen: Seen) -> Reply:
        return error(seen, -32601, "no such thing", status)

    server = Server(**{LISTEN: in_turn(listening(), refuse) if was_open else refuse})
    async with stateless(server) as client:
        await client.done(asked := client.ask(LISTEN, params(notifications=FILTER), id="l"))
        assert asked.answer["error"]["code"] == -32601
        assert asked.answer["id"] == "l"


async def test_what_belongs_to_a_request_is_not_told(autojump_clock: MockClock) -> None:
    """T-72."""

    def stream(seen: Seen) -> Reply:
        log = {"method": "notifications/message", "params": {"level": "info", "data": "x"}}
        told = {"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
        return events(acknowledged(seen), log, told, completed(seen))

    server = Server(**{LISTEN: stream})
    async with stateless(server) as client:
        await client.done(asked := client.ask(LISTEN, params(notifications=FILTER), id="l"))
        assert [method for method, _ in what(asked)] == [ACKNOWLEDGED, "result"]


async def test_what_is_told_of_tasks_passes(autojump_clock: MockClock) -> None:
    """T-80: the filter goes out as it came, the whole task comes with each notification."""
    granted = {"taskIds": ["k"]}
    task = {"taskId": "k", "status": "working", "ttlMs": 60000}

    def stream(seen: Seen) -> Reply:
        changed = told(seen, "notifications/tasks", **task)
        return events(acknowledged(seen, granted), changed, completed(seen))

    server = Server(**{LISTEN: stream})
    async with stateless(server) as client:
        asked = client.ask(LISTEN, params(notifications=granted), id="l")
        await client.done(asked)
        assert what(asked) == [
            *((ACKNOWLEDGED, "l"), ("notifications/tasks", "l"), ("result", "l")),
        ]
        assert asked.emitted[1].params == task | {"_meta": {TAG: "l"}}
    assert server.seen[0].message["params"]["notifications"] == granted


async def test_a_stream_that_breaks_at_once_each_time_is_opened_ever_less_often(
    autojump_clock: MockClock,
) -> None:
    server = Server(**{LISTEN: listening()})
    async with stateless(server) as client:
        asked = client.ask(LISTEN, params(notifications=FILTER), id="l")
        await trio.sleep(300)
        assert 10 <= len(server.seen) <= 20
        client.cancel(asked)
        await client.done(asked)


async def test_after_a_sleep_the_stream_is_opened_anew_at_once(autojump_clock: MockClock) -> None:
    server = Server(**{LISTEN: listening(FOREVER)})
    async with stateless(server) as client:
        asked = client.ask(LISTEN, params(notifications=FILTER), id="l")
        await trio.sleep(1000)
        client.upstream.refresh()
        await wait_all_tasks_blocked()
        assert [seen.at for seen in server.seen] == [0, 1000]
        assert server.seen[0].closed.is_set()
        assert what(asked)[1:] == [(TOOLS, "l"), (UPDATED, "l"), (UPDATED, "l")]


async def test_many_streams_at_once_keep_to_themselves(autojump_clock: MockClock) -> None:
    server = Server(**{LISTEN: in_turn(*5 * [listening(TOOLS)], *5 * [ends])})
    async with stateless(server) as client:
        asked = [client.ask(LISTEN, params(notifications=FILTER), id=f"l{n}") for n in range(5)]
        await client.done(*asked)
        for number, each in enumerate(asked):
            assert {tag for _, tag in what(each)} == {f"l{number}"}
