"""A session from the client's `initialize` to the farewell (T-6, T-8, T-16, T-17, T-41 to T-49,
S-9, Q-19, Q-20, E-1, E-7), and the order in which messages leave (P4)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
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
    Unreachable,
)
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import own_call
from mcp_stdio.upstream.barrier import INITIALIZED_GRACE, LISTENING_GRACE
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.handshake import Handshake
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.questions import Questions
from mcp_stdio.upstream.refusal import HttpRefusal
from tests.upstream.fakes import (
    FOREVER,
    INITIALIZE,
    LIMIT,
    URL,
    Answer,
    Asked,
    Client,
    Reply,
    Seen,
    Server,
    Step,
    answer,
    error,
    event,
    events,
    in_session_with,
    in_turn,
    lost,
    note,
    result,
    unreachable,
)

CALL = "tools/call"
LIST = "tools/list"
INITIALIZED = "notifications/initialized"
CANCELLED = "notifications/cancelled"
OPENING = ["initialize", INITIALIZED, "GET"]


def methods(server: Server) -> list[str]:
    """What was sent, without the listening stream, whose place among the rest is by chance."""
    return [rule for rule in server.order() if rule != "GET"]


async def calls(client: Client, count: int, method: str = CALL) -> list[Asked]:
    asked = [client.ask(method, {"n": number}) for number in range(count)]
    await client.done(*asked)
    return asked


def numbers(server: Server, method: str = CALL) -> list[int]:
    return [seen.message["params"]["n"] for seen in server.got(method)]


def headers(seen: Seen) -> tuple[str | None, str | None]:
    return seen.header("MCP-Protocol-Version"), seen.header("Mcp-Session-Id")


def version(client: Client) -> str | None:
    return client.upstream.version


# The handshake


async def test_an_ordinary_conversation(autojump_clock: MockClock) -> None:
    server = Server(GET=events(event(note("unasked")), FOREVER))
    server.version = "2025-06-18"
    async with in_session_with(server) as client:
        assert version(client) is None
        opening = await client.shake_hands()
        assert opening.result["serverInfo"] == {"name": "fake", "version": "1"}
        assert version(client) == "2025-06-18"
        await client.done(client.ask(CALL), client.tell("notifications/progress"))
        await wait_all_tasks_blocked()
        assert [message.params["data"] for message in client.emitted] == ["unasked"]
        await client.upstream.aclose()
    assert sorted(server.order()) == sorted([*OPENING, CALL, "notifications/progress", "DELETE"])
    first, *later = server.seen
    assert headers(first) == (None, None)
    assert first.message["params"] == INITIALIZE
    for seen in later:
        assert headers(seen) == ("2025-06-18", "session-1")
        accept = "application/json, text/event-stream"
        wanted = {"POST": accept, "GET": "text/event-stream", "DELETE": None}
        assert seen.header("Accept") == wanted[seen.request.method]
        for name in ("Mcp-Method", "Mcp-Name", "Last-Event-ID", "Origin"):
            assert seen.header(name) is None
    assert server.sessions == set()


async def test_an_initialize_answered_by_a_stream(autojump_clock: MockClock) -> None:
    server = Server()

    def stream(seen: Seen) -> Reply:
        plain = server.opened(seen)
        [body] = plain.body
        assert isinstance(body, bytes)
        return Reply(
            body=[event(note("hello")), event(body.decode())],
            media_type="text/event-stream",
            headers=plain.headers,
        )

    server.rules["initialize"] = stream
    async with in_session_with(server) as client:
        opening = await client.shake_hands()
        assert opening.notes == ["hello"]
        await client.done(client.ask(CALL))
    assert headers(server.got(CALL)[0]) == ("2025-11-25", "session-1")


async def test_an_id_used_again_as_soon_as_it_is_answered(autojump_clock: MockClock) -> None:
    server = Server(**{CALL: lambda seen: result(seen, {"n": seen.message["params"]["n"]})})
    async with in_session_with(server) as client:
        await client.shake_hands()
        client.slowness = 1.0  # the answer is being written, and its task still there
        first = client.ask(CALL, {"n": 1}, id=7)
        await trio.sleep(0.5)
        second = client.ask(CALL, {"n": 2}, id=7)
        await client.done(first, second)
        assert [first.result, second.result] == [{"n": 1}, {"n": 2}]


async def test_a_server_that_asks_before_the_handshake_is_over(autojump_clock: MockClock) -> None:
    """S-9: it may ping and log; anything else is not for a client that has said nothing yet."""
    server = Server()

    def stream(seen: Seen) -> Reply:
        [body] = server.opened(seen).body
        assert isinstance(body, bytes)
        asked = [{"id": n, "method": m} for n, m in enumerate(["ping", "roots/list"])]
        return events(note("hello"), *asked, event(body.decode()))

    server.rules["initialize"] = stream
    async with in_session_with(server) as client:
        opening = await client.shake_hands()
        said = [message.method for message in opening.emitted]
        assert said == ["notifications/message", "ping", ""]


async def test_a_server_without_sessions(autojump_clock: MockClock) -> None:
    server = Server(**{CALL: Reply(404, [b"no such page"], "text/plain")})
    server.has_sessions = False
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
        assert isinstance(asked.failure, BadAnswer)
        assert asked.failure.status == 404
        await client.upstream.aclose()
    assert methods(server) == ["initialize", INITIALIZED, CALL]
    assert all(seen.header("Mcp-Session-Id") is None for seen in server.seen)


@pytest.mark.parametrize("name", ["Mcp-Session-Id", "MCP-Session-Id", "mcp-session-id"])
async def test_a_session_id_in_any_spelling_of_its_header(
    autojump_clock: MockClock, name: str
) -> None:
    """T-23: names of headers have no case, values have one."""
    server = Server()
    server.rules["initialize"] = lambda seen: result(
        seen, {"protocolVersion": "2025-11-25"}, headers=((name, "AbC"),)
    )
    server.sessions.add("AbC")
    async with in_session_with(server) as client:
        await client.shake_hands()
        await client.done(client.ask(CALL))
    assert headers(server.got(CALL)[0]) == ("2025-11-25", "AbC")


@pytest.mark.parametrize("session_id", ["", "a b", "é", "a\tb"])
async def test_a_session_id_that_none_may_be(autojump_clock: MockClock, session_id: str) -> None:
    server = Server()
    server.rules["initialize"] = lambda seen: result(
        seen, {"protocolVersion": "2025-11-25"}, headers=(("mcp-session-id", session_id),)
    )
    async with in_session_with(server) as client:
        asked = client.ask("initialize", INITIALIZE)
        await client.done(asked)
    assert isinstance(asked.failure, BadAnswer)


@pytest.mark.parametrize(
    "value",
    [{}, *({"protocolVersion": version} for version in (1, "a\r\nb: c", "", "x" * 65, "é", "a b"))],
)
async def test_an_answer_to_initialize_without_a_version(
    autojump_clock: MockClock, value: dict[str, Any]
) -> None:
    server = Server(initialize=lambda seen: result(seen, value))
    async with in_session_with(server) as client:
        asked = client.ask("initialize", INITIALIZE)
        await client.done(asked)
    assert isinstance(asked.failure, BadAnswer)
    assert server.order() == ["initialize"]


async def test_requests_wait_for_the_handshake_and_leave_in_order(
    autojump_clock: MockClock,
) -> None:
    for _ in range(20):
        server = Server()
        answer_it, accept_it = trio.Event(), trio.Event()
        server.rules["initialize"] = lambda seen: server.opened(seen, before=[answer_it])  # noqa: B023
        server.rules[INITIALIZED] = Reply(202, media_type=None, before=[accept_it])
        async with in_session_with(server) as client:
            opening = client.ask("initialize", INITIALIZE)
            early = [client.ask(CALL, {"n": number}) for number in range(10)]
            ping = client.ask("ping")
            await client.done(ping)
            assert ping.result == {}
            await wait_all_tasks_blocked()
            assert server.order() == ["initialize"]

            answer_it.set()
            await client.done(opening)
            initialized = client.tell(INITIALIZED)
            late = [client.ask(CALL, {"n": number}) for number in range(10, 20)]
            await trio.sleep(5 * INITIALIZED_GRACE)
            assert server.order() == ["initialize", INITIALIZED]

            accept_it.set()
            await client.done(initialized, *early, *late)
        assert numbers(server) == list(range(20))
        assert all(headers(seen)[1] == "session-1" for seen in server.got(CALL))


async def test_a_script_that_leaves_out_initialized_gets_its_answers(
    autojump_clock: MockClock,
) -> None:
    server = Server()
    async with in_session_with(server) as client:
        asked = [client.ask("initialize", INITIALIZE), *(client.ask(LIST) for _ in range(3))]
        await client.done(*asked)
        assert [one.failure for one in asked] == [None] * 4
        assert asked[-1].took == pytest.approx(INITIALIZED_GRACE)
        await client.done(client.ask(LIST))
        assert methods(server) == ["initialize", *[LIST] * 4]
        # It may still come.
        await client.done(client.tell(INITIALIZED))
        await wait_all_tasks_blocked()
    assert len(server.got("GET")) == 1


async def test_initialized_twice_opens_one_stream(autojump_clock: MockClock) -> None:
    for listening in (events(FOREVER), Reply(405, media_type=None)):
        server = Server(GET=listening)
        async with in_session_with(server) as client:
            await client.shake_hands()
            await wait_all_tasks_blocked()
            await client.done(client.tell(INITIALIZED))
            await wait_all_tasks_blocked()
        assert len(server.got("GET")) == 1


async def test_initialized_that_is_refused_holds_up_nobody(autojump_clock: MockClock) -> None:
    for refusal in (Reply(500, media_type=None), Reply(before=[FOREVER]), lost()):
        server = Server(**{INITIALIZED: refusal})
        async with in_session_with(server, silence=20.0) as client:
            await client.done(client.ask("initialize", INITIALIZE))
            client.tell(INITIALIZED)
            asked = client.ask(LIST)
            await client.done(asked)
        assert asked.failure is None


async def test_pings_before_the_handshake_are_ours_and_later_ones_are_not(
    autojump_clock: MockClock,
) -> None:
    server = Server()
    async with in_session_with(server) as client:
        before = client.ask("ping")
        await client.done(before)
        assert before.result == {}
        assert server.seen == []
        await client.shake_hands()
        await client.done(client.ask("ping"))
    assert len(server.got("ping")) == 1


async def test_a_request_without_a_handshake(autojump_clock: MockClock) -> None:
    server = Server()
    async with in_session_with(server) as client:
        asked = client.ask(CALL)
        await client.done(asked, client.tell("notifications/x"), client.tell(INITIALIZED))
        assert asked.answer["error"]["code"] == -32602
        assert "initialize" in asked.answer["error"]["message"]
        await client.upstream.aclose()
        client.upstream.refresh()
    assert server.seen == []


# A server that is not there yet


async def test_the_first_initialize_fails_and_the_next_message_brings_it_again(
    autojump_clock: MockClock,
) -> None:
    server = Server(initialize=unreachable())
    async with in_session_with(server) as client:
        opening = client.ask("initialize", INITIALIZE)
        await client.done(opening)
        assert isinstance(opening.failure, Unreachable)
        assert opening.failure.code == -33001
        assert version(client) is None
        asked = client.ask(CALL)
        await client.done(asked)
        assert isinstance(asked.failure, Unreachable)
        assert server.seen == []

        del server.rules["initialize"]
        asked = client.ask(CALL)
        await client.done(asked)
        assert asked.failure is None
        assert version(client) == "2025-11-25"
        await wait_all_tasks_blocked()
    assert methods(server) == ["initialize", INITIALIZED, CALL]
    assert server.seen[0].message["params"] == INITIALIZE
    assert len(server.got("GET")) == 1


@pytest.mark.parametrize("status", [200, 400])
async def test_an_initialize_that_is_refused_is_refused_again(
    autojump_clock: MockClock, status: int
) -> None:
    server = Server()
    server.rules["initialize"] = lambda seen: error(
        seen, -32602, "Unsupported protocol version", status
    )
    async with in_session_with(server) as client:
        opening = client.ask("initialize", INITIALIZE)
        await client.done(opening)
        if status == 200:
            assert opening.answer["error"]["code"] == -32602
        else:
            assert isinstance(opening.failure, HttpRefusal)
            assert opening.failure.answer is not None
            assert opening.failure.answer.error is not None
            assert opening.failure.answer.error["code"] == -32602
            assert opening.emitted == [], "what it means is decided above"
        asked = client.ask(CALL)
        await client.done(asked)
        assert isinstance(asked.failure, BadAnswer)
        assert "Unsupported protocol version" in str(asked.failure)
    assert server.order() == ["initialize", "initialize"]


async def test_a_renewed_session_is_told_of(autojump_clock: MockClock) -> None:
    """What happened while there was no session, nobody was told (B-59)."""
    server = Server()
    renewals: list[float] = []

    async def renewed() -> None:
        await trio.sleep(60)
        renewals.append(trio.current_time())

    async with in_session_with(server, renewed=renewed) as client:
        await client.shake_hands()
        await client.shake_hands()
        await trio.sleep(100)
        assert renewals == []
        server.forget()
        asked = client.ask(CALL)
        await client.done(asked)
        assert asked.took < 1, "nobody waits for it"
        await trio.sleep(100)
        assert len(renewals) == 1


async def test_headers_that_a_message_needs(autojump_clock: MockClock) -> None:
    """T-35 on a session: `Mcp-Param-*` where the server has asked for them."""

    def wanted(message: Message) -> tuple[tuple[str, str], ...]:
        return (("Mcp-Param-Region", "eu"),) if message.method == CALL else ()

    server = Server()
    async with in_session_with(server, headers=wanted) as client:
        await client.shake_hands()
        await client.done(client.ask(CALL), client.ask(LIST))
    sent = {seen.rule: seen.header("Mcp-Param-Region") for seen in server.seen}
    assert {rule for rule, value in sent.items() if value == "eu"} == {CALL}
    assert headers(server.got(CALL)[0]) == ("2025-11-25", "session-1")


async def test_initialize_again_in_one_process_is_a_new_session(
    autojump_clock: MockClock,
) -> None:
    server = Server(GET=events(FOREVER))
    async with in_session_with(server) as client:
        await client.shake_hands()
        await client.done(client.ask("logging/setLevel", {"level": "info"}))
        await client.shake_hands()
        await client.done(client.ask(CALL))
        await wait_all_tasks_blocked()
        assert [headers(seen)[1] for seen in server.got("GET")] == ["session-1", "session-2"]
        assert server.got("GET")[0].closed.is_set()
        assert not server.got("GET")[1].closed.is_set()
        assert [headers(seen)[1] for seen in server.got("DELETE")] == ["session-1"]
        server.forget()
        await client.done(client.ask(CALL))
        await wait_all_tasks_blocked()
    assert headers(server.got("initialize")[1]) == (None, None)
    assert len(server.got("logging/setLevel")) == 1, "the new session was never told a level"
    assert [headers(seen)[1] for seen in server.got(CALL)] == [
        "session-2",
        "session-2",
        "session-3",
    ]


# Losing the session


async def test_twenty_that_lost_the_session_renew_it_once(autojump_clock: MockClock) -> None:
    server = Server(GET=events(FOREVER))
    async with in_session_with(server) as client:
        await client.shake_hands()
        await client.done(
            client.ask("logging/setLevel", {"level": "info"}),
            client.ask("resources/subscribe", {"uri": "a:1"}),
            client.ask("resources/subscribe", {"uri": "a:2"}),
        )
        await client.done(
            client.ask("logging/setLevel", {"level": "debug"}),
            client.ask("resources/unsubscribe", {"uri": "a:1"}),
        )
        server.forget()
        server.thinking = 1.0
        before = len(server.seen)
        asked = await calls(client, 20)
        assert [one.failure for one in asked] == [None] * 20
        assert all(one.result == {} for one in asked)
        await wait_all_tasks_blocked()
        renewal = server.seen[before:]
        assert version(client) == "2025-11-25"

    assert [seen.rule for seen in renewal].count("initialize") == 1
    [opening] = server.got("initialize")[1:]
    assert opening.message["params"] == INITIALIZE
    assert opening.id != server.got("initialize")[0].id
    assert headers(opening) == (None, None)
    told = ["initialize", INITIALIZED, "logging/setLevel", "resources/subscribe"]
    order = [seen.rule for seen in renewal if seen.rule != "GET"]
    assert [rule for rule in order if rule != CALL] == told
    assert order[-20:] == [CALL] * 20
    [level, subscription] = [
        seen for seen in renewal if seen.rule in ("logging/setLevel", "resources/subscribe")
    ]
    assert level.message["params"] == {"level": "debug"}
    assert subscription.message["params"] == {"uri": "a:2"}
    assert [headers(seen)[1] for seen in server.got("GET")] == ["session-1", "session-2"]
    assert server.got("GET")[0].closed.is_set()
    sent = [(headers(seen)[1], seen.message["params"]["n"]) for seen in server.got(CALL)]
    assert sorted(sent) == [
        (session, number) for session in ("session-1", "session-2") for number in range(20)
    ]
    assert sent[:20] == [("session-1", number) for number in range(20)]


async def test_a_renewal_that_fails_fails_for_all_and_is_tried_again(
    autojump_clock: MockClock,
) -> None:
    server = Server()
    async with in_session_with(server) as client:
        await client.shake_hands()
        server.forget()
        server.thinking = 1.0
        server.rules["initialize"] = unreachable()
        asked = await calls(client, 20)
        assert all(isinstance(one.failure, Unreachable) for one in asked)
        assert server.refused_connections == 4
        del server.rules["initialize"]
        later = await calls(client, 3)
        assert [one.failure for one in later] == [None] * 3
    assert len(server.got("initialize")) == 2


async def test_a_renewal_that_is_lost_says_that_nothing_was_sent(autojump_clock: MockClock) -> None:
    """Its `initialize` may have run, but not the call that waits for it."""
    server = Server()
    async with in_session_with(server) as client:
        await client.shake_hands()
        server.forget()
        server.rules["initialize"] = lost()
        asked = client.ask(CALL)
        await client.done(asked)
    assert isinstance(asked.failure, Unreachable)
    assert asked.failure.retryable
    assert len(server.got("initialize")) == 3, "the first, and twice in vain"


async def test_what_is_read_during_a_renewal_leaves_after_it_in_order(
    autojump_clock: MockClock,
) -> None:
    for _ in range(20):
        server = Server()
        async with in_session_with(server) as client:
            await client.shake_hands()
            server.forget()
            go_on = trio.Event()
            server.rules["initialize"] = lambda seen: server.opened(seen, before=[go_on])  # noqa: B023
            loser = client.ask(LIST)
            await wait_all_tasks_blocked()
            asked = [
                client.ask(CALL, {"n": number}) if number % 3 else client.tell(CALL, {"n": number})
                for number in range(20)
            ]
            await wait_all_tasks_blocked()
            go_on.set()
            await client.done(loser, *asked)
        assert numbers(server) == list(range(20))


async def test_a_renewal_goes_on_while_the_server_refuses_what_it_is_told_again(
    autojump_clock: MockClock,
) -> None:
    server = Server()
    async with in_session_with(server) as client:
        await client.shake_hands()
        await client.done(client.ask("resources/subscribe", {"uri": "a:1"}))
        server.forget()
        server.rules["resources/subscribe"] = lambda seen: error(seen, -32602, "gone")
        asked = client.ask(CALL)
        await client.done(asked)
    assert asked.failure is None


async def test_a_renewal_ends_where_the_server_falls_silent(autojump_clock: MockClock) -> None:
    server = Server()
    async with in_session_with(server) as client:
        await client.shake_hands()
        for uri in ("a:1", "a:2", "a:3"):
            await client.done(client.ask("resources/subscribe", {"uri": uri}))
        server.forget()
        server.rules["resources/subscribe"] = Reply(before=[FOREVER])
        asked = client.ask(CALL)
        await client.done(asked)
    assert isinstance(asked.failure, TimedOut)
    assert asked.took < 35


@pytest.mark.parametrize(
    "name, value", [("version", "2025-06-18"), ("capabilities", {"prompts": {}})]
)
async def test_a_new_session_that_differs_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, name: str, value: Any
) -> None:
    """T-44: the client was told something else, and notices nothing."""
    server = Server()
    async with in_session_with(server) as client:
        await client.shake_hands()
        server.forget()
        await client.done(client.ask(CALL))
        assert "differs" not in caplog.text
        setattr(server, name, value)
        server.forget()
        await client.done(asked := client.ask(CALL))
        assert asked.result == {}
        assert version(client) == "2025-11-25"
    member = {"version": "protocolVersion"}.get(name, name)
    assert f"differs from the old one in `{member}`" in caplog.text


async def test_a_refused_subscription_is_not_repeated(autojump_clock: MockClock) -> None:
    server = Server(**{"resources/subscribe": lambda seen: error(seen, -32602, "unknown")})
    async with in_session_with(server) as client:
        await client.shake_hands()
        await client.done(client.ask("resources/subscribe", {"uri": "a:1"}))
        server.forget()
        await client.done(client.ask(CALL))
    assert len(server.got("resources/subscribe")) == 1


async def test_a_server_that_forgets_each_session(autojump_clock: MockClock) -> None:
    server = Server(**{CALL: Reply(404, [b"session not found"], "text/plain")})
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
    assert isinstance(asked.failure, SessionLost)
    assert len(server.got(CALL)) == 2
    assert len(server.got("initialize")) <= 3


class InJson(Server):
    """Says in JSON-RPC that a session is unknown, as the official servers do."""

    def _answer(self, seen: Seen) -> Reply | RelayError:
        reply = super()._answer(seen)
        if isinstance(reply, Reply) and reply.status == 404:
            return error(seen, -32001, "Session not found", 404)
        return reply


@pytest.mark.parametrize("kind", [Server, InJson])
@pytest.mark.parametrize("refusals", [2, 100])
async def test_a_call_that_finds_its_session_forgotten_after_each_back_off(
    autojump_clock: MockClock, refusals: int, kind: type[Server]
) -> None:
    """T-44: sessions expire while the call waits as the server told it to; not for ever, though."""
    server = kind()

    def refuse(seen: Seen) -> Reply:
        server.forget()
        return Reply(503, [b"later"], "text/plain", headers=(("retry-after", "2"),))

    server.rules[CALL] = in_turn(*[refuse] * refusals, result)
    async with in_session_with(server) as client:
        await client.shake_hands()
        server.forget()
        asked = client.ask(CALL)
        await client.done(asked)
    if refusals == 2:
        assert asked.result == {}
        assert len(server.got("initialize")) == 1 + 3
    else:
        assert isinstance(asked.failure, SessionLost)
        assert len(server.got("initialize")) < 8


@pytest.mark.parametrize("kind", [Server, InJson])
async def test_a_session_that_took_the_place_of_a_call_s_own_may_be_forgotten_as_well(
    autojump_clock: MockClock, kind: type[Server]
) -> None:
    """T-44: it was not opened for this call, so its end says nothing about this call."""
    busy = Reply(503, [b"later"], "text/plain", headers=(("retry-after", "2"),))
    server = kind(**{CALL: in_turn(busy, result)})
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await trio.sleep(1)
        server.forget()
        await client.done(client.ask(LIST))  # by which the session is opened anew
        server.forget()
        await client.done(asked)
    assert asked.result == {}
    assert [seen.header("Mcp-Session-Id") for seen in server.got(CALL)] == [
        "session-1",
        "session-1",
        "session-2",
        "session-3",
    ]


async def test_a_server_that_forgets_each_session_during_the_renewal(
    autojump_clock: MockClock,
) -> None:
    server = Server()
    async with in_session_with(server) as client:
        await client.shake_hands()
        server.forget()
        server.rules[INITIALIZED] = Reply(404, media_type=None)
        asked = client.ask(CALL)
        await client.done(asked)
        await wait_all_tasks_blocked()
    assert isinstance(asked.failure, SessionLost)
    assert server.got("DELETE") == [], "there is nothing to end"


@pytest.mark.parametrize("reply", [lost(), Reply(before=[FOREVER])], ids=["lost", "silence"])
async def test_a_renewal_goes_on_when_its_initialized_may_be_lost(
    autojump_clock: MockClock, reply: ConnectionLost | Reply
) -> None:
    """What waits for the new session was not sent, and is not told that it may have run (T-17)."""
    server = Server()
    async with in_session_with(server) as client:
        await client.shake_hands()
        server.forget()
        server.rules[INITIALIZED] = reply
        asked = client.ask(CALL)
        await client.done(asked)
    assert asked.failure is None
    assert asked.took < 11


async def test_a_notification_and_an_answer_notice_the_loss_as_well(
    autojump_clock: MockClock,
) -> None:
    server = Server(GET=events(event({"id": "q1", "method": "roots/list"}), FOREVER))
    async with in_session_with(server) as client:
        await client.shake_hands()
        server.forget()
        await client.done(client.tell("notifications/x"))
        assert [headers(seen)[1] for seen in server.got("notifications/x")] == [
            "session-1",
            "session-2",
        ]
        await wait_all_tasks_blocked()
        server.forget()
        await client.done(client.reply("q1"))
        await wait_all_tasks_blocked()
    assert len(server.got("initialize")) == 3
    assert len(server.got("response")) == 1, "a new session did not ask"


async def test_a_400_about_the_session_is_passed_on_and_the_next_message_opens_a_new_one(
    autojump_clock: MockClock,
) -> None:
    server = Server()
    replies: list[Answer] = [
        lambda seen: error(seen, -32000, "Bad Request: No valid Session ID provided", 400),
        Reply(400, [b"unknown session"], "text/plain"),
    ]
    async with in_session_with(server) as client:
        await client.shake_hands()
        for number, reply in enumerate(replies, 1):
            server.rules[CALL] = reply
            asked = client.ask(CALL)
            await client.done(asked)
            if asked.failure is None:
                assert asked.answer["error"]["code"] == -32000
            else:
                assert asked.failure.status == 400
            assert len(server.got("initialize")) == number
            assert len(server.got(CALL)) == 2 * number - 1
            del server.rules[CALL]
            await client.done(client.ask(CALL))
            assert len(server.got("initialize")) == number + 1


async def test_another_400_says_nothing_about_the_session(autojump_clock: MockClock) -> None:
    server = Server(**{CALL: Reply(400, [b"bad arguments"], "text/plain")})
    async with in_session_with(server) as client:
        await client.shake_hands()
        for _ in range(3):
            await client.done(client.ask(CALL))
    assert len(server.got("initialize")) == 1


async def test_streams_of_a_lost_session_end_and_others_are_sent_again(
    autojump_clock: MockClock,
) -> None:
    server = Server()
    server.rules["x/stream"] = events(note("a"), FOREVER)
    async with in_session_with(server) as client:
        await client.shake_hands()
        running = client.ask("x/stream")
        await wait_all_tasks_blocked()
        server.forget()
        asked = client.ask(CALL)
        await client.done(asked, running)
        assert asked.failure is None
        assert isinstance(running.failure, SessionLost)
        assert running.failure.code == -33007
        assert running.notes == ["a"]
        assert running.took < 1
    assert len(server.got("x/stream")) == 1
    assert CANCELLED not in server.order()


async def test_an_answer_in_json_that_has_begun_outlives_its_session(
    autojump_clock: MockClock,
) -> None:
    """It is on its way as a whole: a call that ran must not be reported as lost (P1)."""
    server = Server()

    def slowly(seen: Seen) -> Reply:
        [whole] = result(seen, {"n": 1}).body
        assert isinstance(whole, bytes)
        return Reply(body=[whole[:20], 5.0, whole[20:]])

    server.rules["x/slow"] = slowly
    async with in_session_with(server) as client:
        await client.shake_hands()
        running = client.ask("x/slow")
        await trio.sleep(1)
        server.forget()
        asked = client.ask(CALL)
        await client.done(asked, running)
    assert asked.failure is None
    assert running.result == {"n": 1}
    assert len(server.got("x/slow")) == 1


async def test_a_client_that_begins_anew_during_a_renewal(autojump_clock: MockClock) -> None:
    server = Server()
    async with in_session_with(server) as client:
        await client.shake_hands()
        await client.done(client.ask("resources/subscribe", {"uri": "a:1"}))
        server.forget()
        go_on = trio.Event()
        server.rules["resources/subscribe"] = lambda seen: result(seen, before=[go_on])
        loser = client.ask(CALL)
        await wait_all_tasks_blocked()
        await client.shake_hands()
        go_on.set()
        asked = client.ask(CALL)
        await client.done(loser, asked)
        await wait_all_tasks_blocked()
        assert loser.failure is None
        assert [headers(seen)[1] for seen in server.got(CALL)[-2:]] == ["session-3"] * 2
    assert [headers(seen)[1] for seen in server.got("DELETE")] == ["session-2"]


async def test_a_renewal_that_is_out_of_date_does_not_hide_the_one_under_way(
    autojump_clock: MockClock,
) -> None:
    server = Server()
    async with in_session_with(server) as client:
        await client.shake_hands()
        server.forget()
        first, second = trio.Event(), trio.Event()
        server.rules["initialize"] = in_turn(
            lambda seen: server.opened(seen, before=[first]),
            server.opened,
            lambda seen: server.opened(seen, before=[second]),
        )
        losers = [client.ask(CALL)]
        await wait_all_tasks_blocked()
        await client.shake_hands()
        server.sessions.remove("session-3")
        losers.append(client.ask(CALL))
        await wait_all_tasks_blocked()
        first.set()
        await wait_all_tasks_blocked()
        losers.append(client.ask(CALL))
        await wait_all_tasks_blocked()
        second.set()
        await client.done(*losers)
    assert [one.failure for one in losers] == [None] * 3
    assert len(server.got("initialize")) == 4


# Cancel


async def test_a_cancelled_call_is_called_off_under_the_session(
    autojump_clock: MockClock,
) -> None:
    server = Server(**{CALL: events(note("a"), 0.3, note("late"), FOREVER)})
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL, id="one")
        other = client.ask(LIST)
        await wait_all_tasks_blocked()
        client.cancel(asked, "enough")
        await client.done(asked, other)
    assert methods(server)[-3:] in ([CALL, LIST, CANCELLED], [LIST, CALL, CANCELLED])
    [notice] = server.got(CANCELLED)
    assert notice.message["params"] == {"requestId": "one", "reason": "enough"}
    assert headers(notice) == ("2025-11-25", "session-1")
    assert asked.notes == ["a"]
    assert server.got(CALL)[0].closed.is_set()


async def test_a_task_is_cancelled_as_its_client_does_it(autojump_clock: MockClock) -> None:
    """T-62: by `tasks/cancel`, to which nothing is added."""
    server = Server(**{CALL: lambda seen: result(seen, {"task": {"taskId": "k"}})})
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL, {"name": "x", "task": {"ttl": 60000}})
        await client.done(asked)
        assert asked.result == {"task": {"taskId": "k"}}
        await client.done(client.ask("tasks/cancel", {"taskId": "k"}))
    assert methods(server) == ["initialize", INITIALIZED, CALL, "tasks/cancel"]
    assert server.got("tasks/cancel")[0].message["params"] == {"taskId": "k"}


@pytest.mark.parametrize("extra", [{}, {"task": {"ttl": 60000}}], ids=["call", "task"])
async def test_a_task_is_not_called_off_when_the_time_is_out(
    autojump_clock: MockClock, extra: dict[str, Any]
) -> None:
    """T-62: its id, by which alone it could be cancelled, is not known yet."""
    server = Server(**{CALL: Reply(before=[FOREVER])})
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL, {"name": "x"} | extra)
        await client.done(asked)
        assert isinstance(asked.failure, TimedOut)
    assert len(server.got(CANCELLED)) == (0 if extra else 1)


@pytest.mark.parametrize("stage", ["initialize", INITIALIZED])
async def test_a_call_cancelled_behind_the_handshake_is_never_sent(
    autojump_clock: MockClock, stage: str
) -> None:
    server = Server()
    go_on = trio.Event()
    server.rules[stage] = (
        (lambda seen: server.opened(seen, before=[go_on]))
        if stage == "initialize"
        else Reply(202, media_type=None, before=[go_on])
    )
    async with in_session_with(server) as client:
        opening = client.ask("initialize", INITIALIZE)
        initialized = client.tell(INITIALIZED)
        asked = client.ask(CALL, {"n": 1})
        after = client.ask(CALL, {"n": 2})
        await wait_all_tasks_blocked()
        client.cancel(asked)
        client.cancel(opening)
        await client.done(asked)
        go_on.set()
        await client.done(opening, initialized, after)
        assert opening.failure is None
    assert numbers(server) == [2]
    assert CANCELLED not in server.order()


async def test_a_call_that_was_sent_again_is_called_off_in_the_new_session(
    autojump_clock: MockClock,
) -> None:
    server = Server()
    async with in_session_with(server) as client:
        await client.shake_hands()
        server.forget()
        server.rules[CALL] = events(FOREVER)
        asked = client.ask(CALL, id=5)
        await trio.sleep(1)  # until the new session lets requests through
        client.cancel(asked)
        await client.done(asked)
    [notice] = server.got(CANCELLED)
    assert headers(notice)[1] == "session-2"
    assert notice.message["params"]["requestId"] == 5


# The listening stream


async def test_what_the_listening_stream_brings_together_is_emitted_together() -> None:
    """In its order, with the answers that come on it in between."""
    got: list[str] = []

    async def emit_all(messages: Sequence[Message]) -> None:
        got.append(" ".join(message.method for message in messages))

    async def emit(message: Message) -> None:
        got.append(str(message.id))

    messenger = Messenger(Server(), URL, limit=LIMIT)
    handshake: Handshake = Handshake(messenger, Questions())
    with Patience(silence=None, total=None) as patience:
        handshake.opened(jsonrpc.request("id", "tools/call"), own_call(emit), patience)
        one, two = jsonrpc.notification("one"), jsonrpc.notification("two")
        await handshake.take([one, two, jsonrpc.result("id", {}), two, one, one], emit_all)
    assert got == ["one two", "id", "two one one"]


@pytest.mark.parametrize("status", [405, 404, 406, 501, 400, 401, 403])
async def test_a_stream_that_is_not_offered_is_not_asked_for_again(
    autojump_clock: MockClock, status: int
) -> None:
    server = Server(GET=Reply(status, media_type=None))
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(1000)
        await client.done(client.ask(CALL))
        client.upstream.refresh()
        await trio.sleep(1000)
    assert len(server.got("GET")) == 1
    assert len(server.got("initialize")) == 1


async def test_a_declined_stream_ends_no_running_call(autojump_clock: MockClock) -> None:
    decline = trio.Event()
    server = Server(GET=Reply(405, media_type=None, before=[decline]))
    server.rules[CALL] = lambda seen: events(note("a"), 5.0, answer(seen))
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await wait_all_tasks_blocked()
        decline.set()
        await client.done(asked)
    assert asked.result == {"value": "done"}


@pytest.mark.parametrize("listening", [events(FOREVER), Reply(405, media_type=None), lost()])
@pytest.mark.parametrize("delay", [0.0, 0.2, FOREVER])
async def test_requests_wait_a_moment_for_the_stream_on_which_they_may_be_asked(
    autojump_clock: MockClock, listening: Answer, delay: float
) -> None:
    if isinstance(listening, Reply):
        reply: Answer = replace(listening, before=[delay])
    else:
        reply = Reply(before=[delay, lost()])
    server = Server(GET=reply)
    async with in_session_with(server) as client:
        for _ in range(2):
            await client.shake_hands()
            asked = client.ask(CALL)
            await client.done(asked)
            assert asked.took == pytest.approx(min(delay, LISTENING_GRACE))
            server.forget()
            asked = client.ask(CALL)
            await client.done(asked)
            assert asked.took == pytest.approx(min(delay, LISTENING_GRACE))
    assert [rule for rule in server.order() if rule != INITIALIZED][:3] == [
        "initialize",
        "GET",
        CALL,
    ]


@pytest.mark.parametrize(
    "end", [pytest.param([], id="ended"), pytest.param([lost(answer_begun=True)], id="cut")]
)
async def test_a_stream_that_ends_is_opened_again_where_it_ended(
    autojump_clock: MockClock, end: list[Step]
) -> None:
    server = Server(
        GET=in_turn(
            events(event(note("a"), id="1"), *end),
            events(event(note("b"), id="2"), event(id="3"), *end),
            unreachable(),
            Reply(503, media_type=None),
            lost(),
            events(event(note("c")), FOREVER),
        )
    )
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(100)
        assert [message.params["data"] for message in client.emitted] == ["a", "b", "c"]
    assert [seen.header("Last-Event-ID") for seen in server.got("GET")] == [None, "1", *"333"]
    moments = [seen.at for seen in server.got("GET")]
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    for pause, least in zip(pauses, [1, 1 + 2, 4, 8], strict=True):
        assert least <= pause <= least * 1.25


@pytest.mark.parametrize("status", [400, 404, 409, 410])
async def test_a_stream_that_cannot_be_gone_on_with_begins_anew(
    autojump_clock: MockClock, status: int
) -> None:
    """T-49: a server that was started anew, or forgets events, would refuse it for ever."""

    def refusing(seen: Seen) -> Reply:
        if seen.header("Last-Event-ID") is not None:
            return Reply(status, [b"invalid event id"], "text/plain")
        return events(event(note("b")), FOREVER)

    server = Server(GET=in_turn(events(event(note("a"), id="1")), refusing))
    server.has_sessions = False
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(100)
        assert [message.params["data"] for message in client.emitted] == ["a", "b"]
    assert [seen.header("Last-Event-ID") for seen in server.got("GET")] == [None, "1", None]


@pytest.mark.parametrize("status", [401, 403])
async def test_who_is_not_let_in_for_a_while_goes_on_where_the_stream_was(
    autojump_clock: MockClock, status: int
) -> None:
    """T-49: a credential that has run out says nothing of the events."""
    refused = Reply(status, [b"who are you"], "text/plain")
    server = Server(
        GET=in_turn(events(event(note("a"), id="1")), refused, events(event(note("b")), FOREVER))
    )
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(100)
        assert [message.params["data"] for message in client.emitted] == ["a", "b"]
    assert [seen.header("Last-Event-ID") for seen in server.got("GET")] == [None, "1", "1"]


async def test_a_stream_that_wants_a_sign_in_waits_until_the_server_answers_again(
    autojump_clock: MockClock,
) -> None:
    """Trying again may open a page in a browser, with nobody there who asked for it."""
    server = Server(GET=in_turn(AuthorizationFailed("401"), events(note("a"), FOREVER)))
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(3600)
        assert len(server.got("GET")) == 1
        await client.done(client.ask(CALL))
        await trio.sleep(10)
        assert len(server.got("GET")) == 2
        assert [message.params["data"] for message in client.emitted] == ["a"]


async def test_what_comes_on_two_streams_is_told_twice(autojump_clock: MockClock) -> None:
    """T-9: a server sends a message on one stream only, so equal ones are two."""
    server = Server(GET=events(event(note("a"), id="1"), FOREVER))
    server.rules[CALL] = lambda seen: events(event(note("a"), id="1"), answer(seen))
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
        await wait_all_tasks_blocked()
        assert asked.notes == [message.params["data"] for message in client.emitted] == ["a"]


async def test_pauses_do_not_grow_while_the_stream_brings_something(
    autojump_clock: MockClock,
) -> None:
    server = Server(GET=events(event(note("a"))))
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(20)
    assert 20 / 1.25 <= len(server.got("GET")) <= 21


async def test_a_polling_server_is_asked_as_often_as_it_says(autojump_clock: MockClock) -> None:
    count = itertools.count(1)
    server = Server(GET=lambda seen: events(b"retry: 300\n", event(id=str(next(count)))))
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(30)
    assert 30 / (0.3 * 1.25) - 2 <= len(server.got("GET")) <= 101


async def test_a_stream_away_for_days_comes_back(autojump_clock: MockClock) -> None:
    server = Server(GET=unreachable())
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(80_000)
        server.rules["GET"] = events(event(note("back")), FOREVER)
        await trio.sleep(40)
        assert [message.params["data"] for message in client.emitted] == ["back"]


async def test_after_a_sleep_of_the_machine_the_stream_is_opened_at_once(
    autojump_clock: MockClock,
) -> None:
    server = Server(GET=events(event(note("a"), id="1"), FOREVER))
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(500)
        client.upstream.refresh()
        await wait_all_tasks_blocked()
        first, second = server.got("GET")
        assert first.closed.is_set()
        assert second.at == first.at + 500
        assert second.header("Last-Event-ID") == "1"

        server.rules["GET"] = unreachable()
        client.upstream.refresh()
        await trio.sleep(100)  # now it is in a long pause
        tries = server.refused_connections
        client.upstream.refresh()
        await trio.sleep(1.5)
        assert server.refused_connections == tries + 2
        await trio.sleep(100)
        server.rules["GET"] = events(FOREVER)
        now = trio.current_time()
        client.upstream.refresh()
        await wait_all_tasks_blocked()
        assert server.got("GET")[-1].at == now


async def test_a_stream_opened_anew_while_the_client_does_not_read_brings_nothing_twice(
    autojump_clock: MockClock,
) -> None:
    told = b"".join(event(note(text), id=text) for text in "abc")
    server = Server(GET=in_turn(events(told, FOREVER), events(event(note("d")), FOREVER)))
    async with in_session_with(server) as client:
        await client.shake_hands()
        client.slowness = 10.0
        await trio.sleep(15)  # the second of three is being written
        client.upstream.refresh()
        await trio.sleep(0.1)
        assert len(server.got("GET")) == 1
        await trio.sleep(100)
        assert [message.params["data"] for message in client.emitted] == ["a", "b", "c", "d"]
        assert server.got("GET")[1].header("Last-Event-ID") == "c"


@pytest.mark.parametrize("has_sessions", [True, False])
async def test_a_call_accepted_without_an_answer_ends_when_the_client_begins_anew(
    autojump_clock: MockClock, has_sessions: bool
) -> None:
    server = Server(GET=events(FOREVER))
    server.has_sessions = has_sessions
    server.rules[CALL] = Reply(202, media_type=None)
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await trio.sleep(1)
        await client.shake_hands()
        await client.done(asked)
        assert isinstance(asked.failure, ConnectionLost)
        assert "whether the call ran is unknown" in str(asked.failure)
        assert asked.took < 2
    assert len(server.got(CALL)) == 1
    assert len(server.got("DELETE")) == (1 if has_sessions else 0)


async def test_a_call_accepted_without_an_answer_ends_when_its_session_is_in_doubt(
    autojump_clock: MockClock,
) -> None:
    server = Server(GET=events(FOREVER))
    server.rules[CALL] = Reply(202, media_type=None)
    server.rules["tools/list"] = Reply(400, [b"invalid session"], "text/plain")
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await trio.sleep(1)
        await client.done(client.ask("tools/list"), asked)
        assert isinstance(asked.failure, ConnectionLost)
        assert asked.took < 2
    assert len(server.got(CALL)) == 1


@pytest.mark.parametrize("has_sessions", [True, False])
async def test_a_list_accepted_without_an_answer_is_answered_when_the_client_begins_anew(
    autojump_clock: MockClock, has_sessions: bool
) -> None:
    server = Server(GET=events(FOREVER))
    server.has_sessions = has_sessions
    server.rules["tools/list"] = in_turn(Reply(202, media_type=None), result)
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask("tools/list")
        await trio.sleep(1)
        await client.shake_hands()
        await client.done(asked)
        assert asked.result == {}


async def test_an_event_over_the_limit_does_not_come_again_and_again(
    autojump_clock: MockClock,
) -> None:
    server = Server(
        GET=in_turn(
            events(event(note("a"), id="1")),
            events(event(note("x" * LIMIT), id="2")),
            events(event(note("b")), FOREVER),
        )
    )
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(100)
        assert [message.params["data"] for message in client.emitted] == ["a", "b"]
    assert [seen.header("Last-Event-ID") for seen in server.got("GET")] == [None, "1", None]


async def test_what_is_no_message_on_the_stream_is_passed_over(autojump_clock: MockClock) -> None:
    server = Server(
        GET=events(
            b"event: ping\ndata: x\n\n",
            event("not json"),
            event({"id": 12345, "result": {}}),
            event({"id": None, "error": {"code": 1, "message": "no"}}),
            event(note("a")),
            FOREVER,
        )
    )
    async with in_session_with(server) as client:
        await client.shake_hands()
        await wait_all_tasks_blocked()
        assert [message.params.get("data") for message in client.emitted] == ["a"]


# Questions of the server


@pytest.mark.parametrize("where", ["POST", "GET"])
@pytest.mark.parametrize("id", ["q1", 1])
async def test_a_question_and_its_answer(
    autojump_clock: MockClock, where: str, id: str | int
) -> None:
    question = {"id": id, "method": "sampling/createMessage", "params": {"n": 1.0}}
    answered = trio.Event()

    def take(seen: Seen) -> Reply:
        answered.set()
        return Reply(202, media_type=None)

    server = Server(response=take)
    if where == "GET":
        server.rules["GET"] = events(0.5, question, FOREVER)
        server.rules[CALL] = lambda seen: result(seen, {"value": "done"}, before=[answered])
    else:
        server.rules[CALL] = lambda seen: events(0.5, question, answered, answer(seen))
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL, id=1)
        await trio.sleep(500)  # the user thinks, longer than any silence of a server may be
        assert not asked.over.is_set()
        emitted = client.emitted if where == "GET" else asked.emitted
        assert [(message.id, message.method) for message in emitted] == [
            (id, "sampling/createMessage")
        ]
        await client.done(client.reply("1" if id == 1 else "q2"))
        assert server.got("response") == []
        await client.done(client.reply(id), asked)
        assert asked.result == {"value": "done"}
        await client.done(client.reply(id))
    [response] = server.got("response")
    assert response.id == id
    assert type(response.id) is type(id)
    assert headers(response) == ("2025-11-25", "session-1")


async def test_once_answered_the_silence_counts_again(autojump_clock: MockClock) -> None:
    questions = [{"id": f"q{number}", "method": "elicitation/create"} for number in (1, 2)]
    server = Server(**{CALL: events(*questions, FOREVER)})
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await trio.sleep(500)
        await client.done(client.reply("q1"))
        await trio.sleep(500)
        assert not asked.over.is_set(), "the second question is still open"
        await client.done(client.reply("q2"))
        await client.done(asked)
    assert isinstance(asked.failure, TimedOut)
    assert asked.took == pytest.approx(1120)


async def test_a_question_suspends_only_the_call_it_belongs_to(
    autojump_clock: MockClock,
) -> None:
    server = Server(**{CALL: events({"id": "q1", "method": "elicitation/create"}, FOREVER)})
    server.rules[LIST] = events(FOREVER)
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        other = client.ask(LIST)
        await client.done(other)
        assert isinstance(other.failure, TimedOut)
        assert not asked.over.is_set()


async def test_an_answer_leaves_while_requests_wait_for_the_handshake(
    autojump_clock: MockClock,
) -> None:
    answered = trio.Event()

    def take(seen: Seen) -> Reply:
        answered.set()
        return Reply(202, media_type=None)

    def ask_first(seen: Seen) -> Reply:
        plain = server.opened(seen)
        [body] = plain.body
        assert isinstance(body, bytes)
        steps: list[Step] = [event({"id": "p1", "method": "ping"}), answered, event(body.decode())]
        return Reply(body=steps, media_type="text/event-stream", headers=plain.headers)

    server = Server(response=take, initialize=ask_first)
    async with in_session_with(server) as client:
        opening = client.ask("initialize", INITIALIZE)
        held = client.ask(CALL)
        await wait_all_tasks_blocked()
        reply = client.reply("p1")
        await client.done(opening, reply, held)
        assert opening.took == 0
    assert methods(server) == ["initialize", "response", CALL]
    assert headers(server.got("response")[0]) == (None, "session-1")


async def test_an_answer_overtakes_what_waits(autojump_clock: MockClock) -> None:
    server = Server(GET=events({"id": "q1", "method": "roots/list"}, FOREVER))
    async with in_session_with(server) as client:
        await client.shake_hands()
        await wait_all_tasks_blocked()
        server.rules[CALL] = Reply(404, media_type=None)
        server.rules["initialize"] = Reply(before=[FOREVER])
        blocked = [client.ask(CALL)]
        await wait_all_tasks_blocked()
        blocked.append(client.ask(LIST))
        await wait_all_tasks_blocked()
        assert not any(one.over.is_set() for one in blocked)
        with trio.fail_after(1):
            await client.done(client.reply("q1"))


async def test_a_question_of_a_lost_session_needs_no_answer(autojump_clock: MockClock) -> None:
    server = Server(
        GET=in_turn(events({"id": "q1", "method": "roots/list"}, FOREVER), events(FOREVER))
    )
    async with in_session_with(server) as client:
        await client.shake_hands()
        await wait_all_tasks_blocked()
        server.forget()
        await client.done(client.ask(CALL))
        await client.done(client.reply("q1"))
    assert server.got("response") == []


# 202: the answer comes on the listening stream


async def test_an_answer_on_the_listening_stream(autojump_clock: MockClock) -> None:
    go_on = trio.Event()
    server = Server(
        GET=events(
            *[step for _ in range(5) for step in (100.0, b": still here\n")],
            go_on,
            event({"id": "other", "result": {}}),
            event({"id": 7, "result": {"value": "there"}}),
            FOREVER,
        )
    )
    server.rules[CALL] = Reply(202, media_type=None)
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL, id=7)
        await trio.sleep(550)
        assert not asked.over.is_set()
        go_on.set()
        await client.done(asked)
        assert asked.result == {"value": "there"}
        assert client.emitted == []
    assert len(server.got(CALL)) == 1


async def test_an_answer_that_overtakes_its_202(autojump_clock: MockClock) -> None:
    sent = trio.Event()

    def accept(seen: Seen) -> Reply:
        sent.set()
        return Reply(202, media_type=None, before=[5.0])

    server = Server(**{CALL: accept})
    server.rules["GET"] = in_turn(
        events(sent, event({"id": 7, "result": {}})), Reply(405, media_type=None)
    )
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL, id=7)
        await client.done(asked)
    assert asked.result == {}
    assert asked.took < 5, "nothing is left to wait for"


@pytest.mark.parametrize("before", [0.0, 5.0])
async def test_202_without_a_listening_stream(autojump_clock: MockClock, before: float) -> None:
    server = Server(GET=Reply(405, media_type=None, before=[before]))
    server.rules[CALL] = Reply(202, media_type=None)
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
    assert isinstance(asked.failure, BadAnswer)
    assert asked.took <= 5


async def test_202_to_initialize_is_no_answer(autojump_clock: MockClock) -> None:
    server = Server(initialize=Reply(202, media_type=None))
    async with in_session_with(server) as client:
        asked = client.ask("initialize", INITIALIZE)
        await client.done(asked)
    assert isinstance(asked.failure, BadAnswer)
    assert asked.took < 1


# Order and ends


async def test_messages_leave_in_the_order_they_were_read(autojump_clock: MockClock) -> None:
    for _ in range(50):
        server = Server()
        async with in_session_with(server) as client:
            await client.shake_hands()
            asked = [
                client.ask(CALL, {"n": number}) if number % 2 else client.tell(CALL, {"n": number})
                for number in range(20)
            ]
            await client.done(*asked)
        assert numbers(server) == list(range(20))


async def test_a_slow_call_delays_nobody(autojump_clock: MockClock) -> None:
    server = Server(**{"x/slow": lambda seen: result(seen, before=[50.0])})
    async with in_session_with(server) as client:
        await client.shake_hands()
        slow = client.ask("x/slow")
        fast = await calls(client, 100)
        assert all(one.took == 0 for one in fast)
        await client.done(slow)
        assert slow.took == pytest.approx(50)


async def test_a_call_in_back_off_delays_nobody(autojump_clock: MockClock) -> None:
    busy = Reply(429, media_type=None, headers=(("retry-after", "30"),))
    server = Server(**{"x/busy": in_turn(busy, result)})
    async with in_session_with(server) as client:
        await client.shake_hands()
        slow = client.ask("x/busy")
        fast = await calls(client, 10)
        assert all(one.took == 0 for one in fast)
        await client.done(slow)
    assert slow.failure is None


async def test_a_call_that_cannot_be_delivered_yet_delays_nobody(
    autojump_clock: MockClock,
) -> None:
    server = Server(**{"x/away": in_turn(unreachable(), result)})
    async with in_session_with(server) as client:
        await client.shake_hands()
        slow = client.ask("x/away")
        fast = await calls(client, 10)
        assert all(one.took == 0 for one in fast)
        await client.done(slow)
    assert slow.failure is None


async def test_a_call_whose_outcome_is_unknown_is_not_repeated_in_a_session(
    autojump_clock: MockClock,
) -> None:
    server = Server(**{CALL: lost()})
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
    assert isinstance(asked.failure, ConnectionLost)
    assert len(server.got(CALL)) == 1


@pytest.mark.parametrize(
    "reply", [Reply(405, media_type=None), lost(), unreachable(), Reply(before=[FOREVER])]
)
async def test_the_farewell_takes_any_outcome(autojump_clock: MockClock, reply: Answer) -> None:
    server = Server(DELETE=reply)
    async with in_session_with(server) as client:
        await client.shake_hands()
        with trio.move_on_after(0.5):
            await client.upstream.aclose()
    assert len(server.got("DELETE")) + server.refused_connections == 1
