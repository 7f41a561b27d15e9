"""Defects that a review found in sessions and exchanges, each shown to be gone.

Most of them hid behind a question of the server: it suspends the silence that a request may last.
"""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio.errors import ConnectionLost, TimedOut
from mcp_stdio.upstream.patience import ANSWER_TIME, LONGEST_PAUSE
from tests.upstream.fakes import (
    FOREVER,
    INITIALIZE,
    Reply,
    Seen,
    Server,
    answer,
    error,
    event,
    events,
    in_session_with,
    in_turn,
    lost,
    result,
)

CALL = "tools/call"
LIST = "tools/list"
READ = "resources/read"
QUESTION = {"id": "q1", "method": "elicitation/create", "params": {}}
SILENCE = 120.0  # what the client of these tests allows


async def test_an_answer_goes_back_to_the_session_that_asked(autojump_clock: MockClock) -> None:
    answered = trio.Event()

    def take(seen: Seen) -> Reply:
        answered.set()
        return Reply(202, media_type=None)

    server = Server(response=take)
    server.rules[CALL] = lambda seen: events(QUESTION, answered, answer(seen))
    server.rules[LIST] = lambda seen: error(seen, text="unknown session_name", status=400)
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await wait_all_tasks_blocked()
        await client.done(client.ask(LIST))  # from here on the session is in doubt
        await client.done(client.ask(READ))  # and renewed
        await client.done(client.reply("q1"), asked)
    assert asked.result == {"value": "done"}
    [response] = server.got("response")
    assert response.header("Mcp-Session-Id") == "session-1"


async def test_a_session_in_doubt_is_left_when_nothing_is_under_way_in_it(
    autojump_clock: MockClock,
) -> None:
    """Not only at the end: a server that says so often would be left a thousand sessions then."""
    server = Server()
    server.rules[LIST] = lambda seen: error(seen, text="no such session", status=400)
    server.rules[CALL] = lambda seen: events(10.0, answer(seen))
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await wait_all_tasks_blocked()
        await client.done(client.ask(LIST))
        await client.done(client.ask(READ))
        assert server.sessions == {"session-1", "session-2"}
        await client.done(asked)
        await wait_all_tasks_blocked()
        assert asked.result == {"value": "done"}
        assert server.sessions == {"session-2"}


async def test_a_session_in_doubt_is_told_goodbye_as_well(autojump_clock: MockClock) -> None:
    server = Server()
    server.rules[LIST] = lambda seen: error(seen, text="no such session", status=400)
    async with in_session_with(server) as client:
        await client.shake_hands()
        await client.done(client.ask(LIST))
        await client.done(client.ask(CALL))
        await client.upstream.aclose()
    assert server.sessions == set()


@pytest.mark.parametrize("where", ["POST", "GET"])
async def test_a_question_that_nobody_answers_ends_as_well(
    autojump_clock: MockClock, where: str
) -> None:
    server = Server(GET=events(0.5, QUESTION, FOREVER) if where == "GET" else events(FOREVER))
    server.rules[CALL] = events(QUESTION, FOREVER) if where == "POST" else events(FOREVER)
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
    assert isinstance(asked.failure, TimedOut)
    assert asked.took <= ANSWER_TIME + 1


async def test_a_question_for_no_person_suspends_nothing(autojump_clock: MockClock) -> None:
    server = Server(GET=events(0.5, {"id": "q1", "method": "roots/list"}, FOREVER))
    server.rules[CALL] = events(FOREVER)
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
    assert asked.took == pytest.approx(SILENCE)


async def test_the_question_of_a_dead_server_suspends_nothing(autojump_clock: MockClock) -> None:
    server = Server()
    server.rules[CALL] = events(event({"id": "x"}, id="1"), QUESTION, lost(answer_begun=True))
    server.rules["GET"] = in_turn(Reply(405, media_type=None), lost())
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
    assert isinstance(asked.failure, TimedOut | ConnectionLost)
    assert asked.took < 2 * SILENCE


async def test_a_pause_of_a_day_is_silence(autojump_clock: MockClock) -> None:
    server = Server()
    server.rules[CALL] = events(b"id: 1\nretry: 86400000\ndata:\n\n")
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
    assert isinstance(asked.failure, TimedOut)
    assert asked.took == pytest.approx(SILENCE + LONGEST_PAUSE)


async def test_waiting_for_the_handshake_is_silence_as_well(autojump_clock: MockClock) -> None:
    server = Server(initialize=Reply(before=[FOREVER]))
    async with in_session_with(server) as client:
        client.ask("initialize", INITIALIZE)
        asked = client.ask(CALL)
        await client.done(asked)
    assert isinstance(asked.failure, TimedOut)
    assert asked.took == pytest.approx(SILENCE)


async def test_an_initialize_that_is_tried_again_goes_out_bare(autojump_clock: MockClock) -> None:
    server = Server()

    def breaks_off(seen: Seen) -> Reply:
        whole = server.opened(seen)
        return Reply(headers=whole.headers, body=[lost(answer_begun=True)])

    server.rules["initialize"] = in_turn(breaks_off, server.opened)
    async with in_session_with(server) as client:
        await client.shake_hands()
        await client.done(client.ask(CALL))
    first, second = server.got("initialize")
    assert second.header("Mcp-Session-Id") is None
    assert second.header("MCP-Protocol-Version") is None
    assert first.message == second.message


async def test_an_opening_that_was_cut_short_is_told_goodbye(autojump_clock: MockClock) -> None:
    server = Server()

    def begins(seen: Seen) -> Reply:
        return Reply(headers=server.opened(seen).headers, body=[FOREVER])

    server.rules["initialize"] = begins
    async with in_session_with(server) as client:
        client.ask("initialize", INITIALIZE)
        await wait_all_tasks_blocked()
        assert server.sessions == {"session-1"}
        await client.upstream.aclose()
    assert server.sessions == set()


async def test_a_server_error_under_404_reaches_the_client(autojump_clock: MockClock) -> None:
    server = Server()
    server.rules[READ] = lambda seen: error(seen, -32002, "Resource not found", status=404)
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(READ)
        await client.done(asked)
        await client.done(client.ask(CALL))
    assert asked.answer["error"]["code"] == -32002
    assert len(server.got("initialize")) == 2, "no third session for the second 404"


@pytest.mark.parametrize("status", [500, 520, 503])
async def test_a_failing_listening_stream_is_asked_for_again(
    autojump_clock: MockClock, status: int
) -> None:
    server = Server(GET=in_turn(Reply(status, media_type=None), events(FOREVER)))
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(60)
    assert len(server.got("GET")) == 2


async def test_a_stream_that_was_open_is_given_up_for_405_only(autojump_clock: MockClock) -> None:
    page = Reply(200, [b"<html>maintenance</html>"], "text/html")
    gone = Reply(404, media_type=None)
    server = Server(GET=in_turn(events(), page, gone, Reply(405, media_type=None)))
    async with in_session_with(server) as client:
        await client.shake_hands()
        await trio.sleep(600)
    assert len(server.got("GET")) == 4


async def test_a_bad_element_of_a_batch_spoils_no_other(autojump_clock: MockClock) -> None:
    def batch(seen: Seen) -> Reply:
        good = {"jsonrpc": "2.0", **answer(seen)}
        return Reply(body=[json.dumps([{"method": "x", "id": None}, good]).encode()])

    server = Server(**{CALL: batch})
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
    assert asked.result == {"value": "done"}


async def test_an_answer_with_a_byte_order_mark_is_an_answer(autojump_clock: MockClock) -> None:
    server = Server()
    server.rules[CALL] = lambda seen: Reply(body=[b"\xef\xbb\xbf", *result(seen).body])
    async with in_session_with(server) as client:
        await client.shake_hands()
        asked = client.ask(CALL)
        await client.done(asked)
    assert asked.result == {}
