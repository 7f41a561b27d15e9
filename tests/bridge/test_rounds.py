"""A result that asks, as requests to a client of the handshake era (B-13, B-14, T-73)."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc, spec
from mcp_stdio.bridge.rounds import MAX_QUESTIONS, MAX_ROUNDS, MAX_WAITS
from mcp_stdio.errors import BadAnswer, CannotBridge, ConnectionLost, TimedOut
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from tests.bridge.stateless import (
    Desk,
    Peer,
    Rule,
    answer,
    break_off,
    bridging,
    fail,
    in_turn,
    questions,
    silent,
)
from tests.upstream.fakes import Asked

ABLE: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}

FORM = {"method": "elicitation/create", "params": {"mode": "form", "message": "?"}}
PAGE = {
    "method": "elicitation/create",
    "params": {"mode": "url", "url": "https://u.example/x", "message": "open"},
}
ROOTS = {"method": "roots/list"}
SAMPLE = {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 5}}

YES = {"action": "accept", "content": {"n": 3}}
DONE = {"resultType": "complete", "content": []}


def need(state: str | None = None, **requests: Any) -> Rule:
    """A result that asks."""
    result: dict[str, Any] = {"resultType": "input_required"}
    if requests:
        result["inputRequests"] = requests
    if state is not None:
        result["requestState"] = state
    return answer(result)


def asking(*rules: Rule, method: str = "tools/call") -> Peer:
    return Peer(rules={method: in_turn(*rules)})


async def asked_of(asked: Asked, count: int = 1) -> list[Message]:
    """The first questions of a call, once there are as many."""
    await wait_all_tasks_blocked()
    found = questions(asked)
    assert len(found) == count
    return found


# Answered


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
async def test_a_question_is_asked_and_the_answer_sent(
    method: str, autojump_clock: MockClock
) -> None:
    """B-14, step 4: the same request under a new id, with this round's answers and state."""
    peer = asking(need("s1", qty=FORM), answer(DONE), method=method)
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask(method, {"name": "a", "arguments": {"x": 1}}, id=2)
        [question] = await asked_of(asked)
        assert question.method == "elicitation/create"
        assert question.params == FORM["params"]
        await client.done(client.give(question, YES), asked)
        assert asked.answer == {"jsonrpc": "2.0", "id": 2, "result": {"content": []}}
    first, second = peer.got(method)
    assert first.id == 2
    assert second.id not in (2, question.id)
    assert second.params == {
        "name": "a",
        "arguments": {"x": 1},
        "inputResponses": {"qty": YES},
        "requestState": "s1",
        "_meta": first.params["_meta"],
    }


async def test_only_the_answers_of_this_round_are_sent(autojump_clock: MockClock) -> None:
    """Q-7: and a state that was left out is left out."""
    peer = asking(need("s1", a=FORM), need(b=ROOTS), need("s3"), answer(DONE))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call", {"name": "a"})
        client.give((await asked_of(asked))[0], YES)
        client.give((await asked_of(asked, 2))[1], {"roots": []})
        await client.done(asked)
        assert asked.result == {"content": []}
    sent = [
        {key: value for key, value in message.params.items() if key not in ("name", "_meta")}
        for message in peer.got("tools/call")
    ]
    assert sent == [
        {},
        {"inputResponses": {"a": YES}, "requestState": "s1"},
        {"inputResponses": {"b": {"roots": []}}},
        {"requestState": "s3"},
    ]
    ids = [message.id for message in peer.got("tools/call")]
    assert len(set(ids)) == len(ids)


async def test_answers_and_state_cross_as_they_were_written(autojump_clock: MockClock) -> None:
    """B-14, steps 3 and 4: byte for byte."""
    state = r'"\u00e9\/"'

    async def ask(message: Message, call: Call) -> None:
        raw = (
            f'{{"jsonrpc":"2.0","id":{json.dumps(message.id)},"result":{{"requestState":{state},'
            '"resultType":"input_required","inputRequests":{"b":{"method":"roots/list"},'
            '"a":{"params":{"x":1e400,"messages":[]},"method":"sampling/createMessage"}}}}'
        )
        await call.emit(jsonrpc.parse(raw.encode()))

    peer = asking(ask, answer(DONE))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call", {"name": "a"})
        roots, sample = await asked_of(asked, 2)
        assert b'"params":{"x":1e400,"messages":[]}' in sample.raw
        for question, result in ((sample, '{ "z":1.0,"a":"\\/"}'), (roots, '{"roots":[] }')):
            raw = f'{{"result":{result},"id":"{question.id}","jsonrpc":"2.0"}}'
            client.put(jsonrpc.parse(raw.encode()))
        await client.done(asked)
    assert (
        r'"inputResponses":{"b":{"roots":[] },"a":{ "z":1.0,"a":"\/"}},"requestState":"\u00e9\/"'
    ) in peer.seen[-1].raw.decode()


async def test_a_person_sees_one_form_at_a_time(autojump_clock: MockClock) -> None:
    """B-14, step 2: roots and sampling at once, elicitations one by one, in the map's order."""
    peer = asking(need(z=FORM, b=SAMPLE, y=PAGE, a=ROOTS, x=FORM, c=SAMPLE), answer(DONE))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        first = await asked_of(asked, 4)
        assert [question.method for question in first] == [
            "sampling/createMessage",
            "roots/list",
            "sampling/createMessage",
            "elicitation/create",
        ]
        client.give(first[3], {"action": "accept", "content": {"z": 1}})
        client.give(first[1], {"roots": []})
        page = (await asked_of(asked, 5))[4]
        assert page.params["mode"] == "url"
        client.give(page, {"action": "decline"})
        form = (await asked_of(asked, 6))[5]
        for question in (first[2], form, first[0]):
            client.give(question, {"to": question.id})
        await client.done(asked)
    assert list(peer.seen[-1].params["inputResponses"].items()) == [
        ("z", {"action": "accept", "content": {"z": 1}}),
        ("b", {"to": first[0].id}),
        ("y", {"action": "decline"}),
        ("a", {"roots": []}),
        ("x", {"to": form.id}),
        ("c", {"to": first[2].id}),
    ]


async def test_two_calls_ask_at_once(autojump_clock: MockClock) -> None:
    """B-14, S-3: each answer finds the call that asked, in whatever order they come."""
    peer = Peer()

    @peer.on("tools/call")
    async def ask(message: Message, call: Call) -> None:
        name, params = message.params["name"], message.params
        rule = answer({"got": params["inputResponses"]}) if "inputResponses" in params else None
        await (rule or need(name, **{name: FORM}))(message, call)

    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        calls = [client.ask("tools/call", {"name": name}) for name in "abcde"]
        asked = [(await asked_of(one))[0] for one in calls]
        assert len({question.id for question in asked}) == 5
        for one, question in reversed(list(zip(calls, asked, strict=True))):
            client.give(question, {"for": question.id})
            await client.done(one)
        for name, one, question in zip("abcde", calls, asked, strict=True):
            assert one.result == {"got": {name: {"for": question.id}}}


async def test_others_go_on_while_a_person_thinks(autojump_clock: MockClock) -> None:
    """P4."""
    peer = asking(need(a=FORM), answer(DONE))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        thinking, other = client.ask("tools/call"), client.ask("tools/list")
        await client.done(other)
        assert not thinking.over.is_set()


# Declined, answered with an error


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_declined_question_is_an_answer(action: str, autojump_clock: MockClock) -> None:
    """B-14, step 3."""
    peer = asking(need(a=FORM), answer(DONE))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        client.give((await asked_of(asked))[0], {"action": action})
        await client.done(asked)
    assert peer.seen[-1].params["inputResponses"] == {"a": {"action": action}}


@pytest.mark.parametrize("request_", [FORM, PAGE], ids=["form", "page"])
async def test_an_elicitation_answered_with_an_error_is_cancelled(
    request_: Any, autojump_clock: MockClock
) -> None:
    """B-14, step 3."""
    peer = asking(need("s", a=request_), answer(DONE))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        client.refuse((await asked_of(asked))[0])
        await client.done(asked)
        assert asked.result == {"content": []}
        assert [message for message in asked.emitted if message.method == COMPLETE] == []
    assert peer.seen[-1].params["inputResponses"] == {"a": {"action": "cancel"}}


@pytest.mark.parametrize("request_", [ROOTS, SAMPLE], ids=["roots", "sampling"])
async def test_other_questions_answered_with_an_error_end_the_call(
    request_: Any, autojump_clock: MockClock
) -> None:
    """B-14, step 3, and Q-8: in the client's words; what else is asked is off (B-13)."""
    peer = asking(need(a=FORM, b=request_, c=ROOTS))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        refused, other, form = await asked_of(asked, 3)
        client.refuse(refused, "the user said no")
        await client.done(asked)
        assert isinstance(asked.failure, CannotBridge)
        assert str(asked.failure).endswith(" with an error: the user said no")
        assert asked.took == 0  # the others are not waited for
        assert set(withdrawn(client)) == {other.id, form.id}
        await client.done(client.give(form, YES))  # too late; dropped
    assert len(peer.got("tools/call")) == 1


def withdrawn(client: Desk) -> list[Any]:
    """The questions that the client was told are off."""
    assert {message.method for message in client.emitted} <= {"notifications/cancelled"}
    return [message.params["requestId"] for message in client.emitted]


# Questions that must not be asked


@pytest.mark.parametrize(
    "requests",
    [{"a": FORM}, {"a": ROOTS, "b": SAMPLE}, {"a": ROOTS, "b": PAGE}, {"a": {"method": "x/y"}}],
)
async def test_nothing_is_asked_that_the_client_did_not_declare(
    requests: dict[str, Any], autojump_clock: MockClock
) -> None:
    """B-14, step 1: not even the questions that it did."""
    peer = asking(need("s", **requests))
    async with bridging(peer) as client:
        await client.open(capabilities={"roots": {}})
        asked = client.ask("tools/call")
        await client.done(asked)
    assert isinstance(asked.failure, BadAnswer)
    assert asked.emitted == client.emitted == []
    assert len(peer.got("tools/call")) == 1


@pytest.mark.parametrize(
    "result", [{}, {"inputRequests": [1]}, {"inputRequests": {}}, {"requestState": 7}]
)
async def test_a_question_without_content_is_a_bad_answer(result: Any) -> None:
    """T-73."""
    peer = asking(answer({"resultType": "input_required", **result}))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        await client.done(asked)
    assert isinstance(asked.failure, BadAnswer)


# Cancelled


async def test_a_call_cancelled_while_a_person_thinks_takes_its_questions_along(
    autojump_clock: MockClock,
) -> None:
    """B-13: for each open question a cancel; then nothing more, and no answer."""
    peer = asking(need(a=FORM, b=ROOTS, c=FORM, d=SAMPLE))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        roots, sample, form = await asked_of(asked, 3)
        await client.done(client.give(sample, {"role": "assistant"}))
        client.cancel(asked)
        await client.done(asked)
        assert set(withdrawn(client)) == {roots.id, form.id}
        await client.done(client.give(form, YES), client.give(roots, {"roots": []}))
        await trio.sleep(1000)
        assert questions(asked) == [roots, sample, form]
        assert not any(message.is_response for message in asked.emitted)
    assert len(peer.got("tools/call")) == 1


async def test_a_call_cancelled_while_the_server_works_has_asked_all_it_asks(
    autojump_clock: MockClock,
) -> None:
    """B-13: the upstream closes the stream of the second attempt; no question is open."""
    peer = asking(need(a=FORM), silent)
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        client.give((await asked_of(asked))[0], YES)
        await trio.sleep(1)
        client.cancel(asked)
        await client.done(asked)
    assert client.emitted == []
    assert len(peer.got("tools/call")) == 2


async def test_a_client_that_reads_slowly_does_not_hold_up_the_cancel(
    autojump_clock: MockClock,
) -> None:
    """B-13: shielded, and bounded."""
    peer = asking(need(a=FORM))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        await asked_of(asked)
        client.reads = False
        client.cancel(asked)
        began = trio.current_time()
        await client.done(asked)
        assert trio.current_time() - began <= 1


# Limits


async def test_sixteen_rounds_are_enough(autojump_clock: MockClock) -> None:
    """B-14, step 5."""
    peer = asking(*[need(a=ROOTS)] * MAX_ROUNDS, answer(DONE))
    asked = await play(peer)
    assert asked.result == {"content": []}
    assert len(peer.got("tools/call")) == MAX_ROUNDS + 1 == 17


async def test_seventeen_rounds_are_too_many(autojump_clock: MockClock) -> None:
    """B-14, step 5."""
    peer = asking(need("s", a=ROOTS))
    asked = await play(peer)
    assert isinstance(asked.failure, BadAnswer)
    assert "too many rounds" in str(asked.failure)
    assert len(questions(asked)) == 16
    assert len(peer.got("tools/call")) == 17


async def test_a_round_asks_no_hundred_and_one_things(autojump_clock: MockClock) -> None:
    peer = asking(need(None, **{f"q{number}": ROOTS for number in range(MAX_QUESTIONS + 1)}))
    asked = await play(peer)
    assert isinstance(asked.failure, BadAnswer)
    assert "more than 100 things at once" in str(asked.failure)
    assert questions(asked) == []
    assert len(peer.got("tools/call")) == 1


async def play(peer: Peer) -> Asked:
    """A call whose questions are all answered."""
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        for number in itertools.count():
            await wait_all_tasks_blocked()
            if asked.over.is_set():
                return asked
            client.give(questions(asked)[number], {"roots": []})
    raise AssertionError


async def test_a_server_that_wants_time_is_called_again_and_again(
    autojump_clock: MockClock,
) -> None:
    """B-14, step 5: at once, then after 1 s, doubled to 30 s."""
    peer, times = Peer(), []

    @peer.on("tools/call")
    async def wait(message: Message, call: Call) -> None:
        times.append(trio.current_time())
        await (need(f"s{len(times)}") if len(times) < 10 else answer(DONE))(message, call)

    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        await client.done(asked)
        assert asked.result == {"content": []}
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses == pytest.approx([0, 1, 2, 4, 8, 16, 30, 30, 30])
    states = [message.params.get("requestState") for message in peer.got("tools/call")]
    assert states == [None, *(f"s{number}" for number in range(1, 10))]
    assert all("inputResponses" not in message.params for message in peer.seen)


async def test_the_pauses_begin_anew_after_a_question(autojump_clock: MockClock) -> None:
    peer = asking(need("1"), need("2"), need(a=ROOTS), need("3"), need("4"), answer(DONE))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        await trio.sleep(10)
        client.give((await asked_of(asked))[0], {"roots": []})
        began = trio.current_time()
        await client.done(asked)
        assert trio.current_time() - began == pytest.approx(1)


async def test_a_server_that_wants_time_for_ever_is_given_up(autojump_clock: MockClock) -> None:
    """B-14, step 5."""
    peer = asking(need("s"))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        await client.done(asked)
    assert isinstance(asked.failure, BadAnswer)
    assert "too many rounds" in str(asked.failure)
    assert len(peer.got("tools/call")) == 1 + MAX_WAITS == 101


@pytest.mark.parametrize("rule", [need("s"), need(a=FORM)], ids=["state", "question"])
async def test_all_rounds_together_have_the_time_of_one_call(
    rule: Rule, autojump_clock: MockClock
) -> None:
    """B-14, step 5: `--timeout-call`."""
    async with bridging(asking(rule), timeout_call=100) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        await client.done(asked)
        assert isinstance(asked.failure, TimedOut)
        assert asked.took == 100
        assert withdrawn(client) == [question.id for question in questions(asked)]


async def test_a_person_who_never_answers_is_not_waited_for(autojump_clock: MockClock) -> None:
    """B-14: ten minutes; and the question is off then (B-13)."""
    async with bridging(asking(need(a=FORM))) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        await client.done(asked)
        assert isinstance(asked.failure, TimedOut)
        assert asked.took == 600
        assert withdrawn(client) == [questions(asked)[0].id]


async def test_each_person_asked_has_the_time_anew(autojump_clock: MockClock) -> None:
    peer = asking(need(a=FORM, b=FORM), answer(DONE))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        for number in (1, 2):
            await trio.sleep(500)
            client.give((await asked_of(asked, number))[-1], YES)
        await client.done(asked)
        assert asked.result == {"content": []}


@pytest.mark.parametrize(
    "rule, outcome",
    [(fail(-32603, "broken"), None), (break_off(ConnectionLost("gone")), ConnectionLost)],
)
async def test_a_round_that_fails_is_the_answer(
    rule: Rule, outcome: type[Exception] | None, autojump_clock: MockClock
) -> None:
    """P1."""
    async with bridging(asking(need(a=FORM), rule)) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call", id="mine")
        client.give((await asked_of(asked))[0], YES)
        await client.done(asked)
    if outcome is None:
        assert asked.answer["id"] == "mine"
        assert asked.answer["error"] == {"code": -32603, "message": "broken"}
    else:
        assert isinstance(asked.failure, outcome)


async def test_a_version_refused_in_a_round_is_tried_once_more(autojump_clock: MockClock) -> None:
    """B-31."""
    refused = fail(-32022, "no", {"supported": ["2026-07-28"], "requested": "2026-07-28"})
    peer = asking(need("s", a=FORM), refused, answer(DONE))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        client.give((await asked_of(asked))[0], YES)
        await client.done(asked)
        assert asked.result == {"content": []}
    _, second, third = peer.got("tools/call")
    assert second.params == third.params
    assert second.id != third.id


# Progress


def progressing(*values: float, then: Rule) -> Rule:
    async def rule(message: Message, call: Call) -> None:
        token = message.params["_meta"]["progressToken"]
        for value in values:
            params = {"progressToken": token, "progress": value}
            await call.emit(jsonrpc.notification(spec.PROGRESS, params))
        await then(message, call)

    return rule


def progress(asked: Asked) -> list[tuple[float, str | None]]:
    return [
        (message.params["progress"], message.params.get("message"))
        for message in asked.emitted
        if message.method == spec.PROGRESS
    ]


async def test_progress_never_falls_over_all_rounds(autojump_clock: MockClock) -> None:
    """B-14, step 4, and T-64: the same token in each round."""
    peer = asking(
        progressing(1, 2, then=need("s")),
        progressing(1, 2, 2.5, then=need(a=ROOTS)),
        progressing(0.5, 3, then=answer(DONE)),
    )
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call", {"_meta": {"progressToken": "t"}})
        client.give((await asked_of(asked))[0], {"roots": []})
        await client.done(asked)
    assert progress(asked) == [(1, None), (2, None), (2.5, None), (3, None)]
    tokens = {message.params["_meta"]["progressToken"] for message in peer.got("tools/call")}
    assert tokens == {"t"}


async def test_a_client_sees_signs_of_life_while_a_person_thinks(autojump_clock: MockClock) -> None:
    """B-14, step 7: and the server's own progress goes on above them."""
    peer = asking(need(a=FORM), progressing(0.000001, 0.5, then=answer(DONE)))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call", {"_meta": {"progressToken": 5}})
        await trio.sleep(35)
        waiting = "waiting for input"
        expected = [(0, waiting), (pytest.approx(1e-6), waiting), (pytest.approx(2e-6), waiting)]
        assert progress(asked) == expected
        client.give((await asked_of(asked))[0], YES)
        await client.done(asked)
    assert progress(asked) == [*expected, (0.5, None)]


async def test_signs_of_life_begin_above_the_servers_progress(autojump_clock: MockClock) -> None:
    """B-14, step 7."""
    async with bridging(asking(progressing(1e20, then=need(a=FORM)))) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call", {"_meta": {"progressToken": 5}})
        await trio.sleep(25)
        values = [value for value, _ in progress(asked)]
        assert len(values) == 3
        assert values == sorted(set(values))


@pytest.mark.parametrize("meta", [{}, {"_meta": {}}, {"_meta": {"progressToken": None}}])
async def test_without_a_token_there_is_no_sign_of_life(
    meta: Any, autojump_clock: MockClock
) -> None:
    async with bridging(asking(need(a=FORM))) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call", meta)
        await trio.sleep(500)
    assert progress(asked) == []


# Pages to visit

COMPLETE = "notifications/elicitation/complete"


@pytest.mark.parametrize("action", ["accept", "decline", "cancel"])
async def test_a_visited_page_is_complete_when_the_call_is(
    action: str, autojump_clock: MockClock
) -> None:
    """B-14, step 6."""
    peer = asking(need("s1", a=PAGE, b=FORM), need("s2"), answer(DONE))
    async with bridging(peer) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        [page] = await asked_of(asked)
        client.give(page, {"action": action})
        client.give((await asked_of(asked, 2))[1], YES)
        await client.done(asked)
        assert asked.result == {"content": []}
    complete = [message for message in asked.emitted if message.method == COMPLETE]
    assert [message.params for message in complete] == (
        [{"elicitationId": page.params["elicitationId"]}] if action == "accept" else []
    )


async def test_a_page_is_not_complete_when_the_call_fails(autojump_clock: MockClock) -> None:
    """B-14, step 6."""
    async with bridging(asking(need(a=PAGE), fail(-32603))) as client:
        await client.open(capabilities=ABLE)
        asked = client.ask("tools/call")
        client.give((await asked_of(asked))[0], {"action": "accept"})
        await client.done(asked)
    assert [message for message in asked.emitted if message.method == COMPLETE] == []


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_questions_fit_the_revision_of_the_client(
    version: str, autojump_clock: MockClock
) -> None:
    """B-14, step 2, and B-23: the tables are elsewhere."""
    async with bridging(asking(need(a=FORM))) as client:
        await client.open(version, ABLE)
        asked = client.ask("tools/call")
        [question] = await asked_of(asked)
        assert ("mode" in question.params) is (version == "2025-11-25")
