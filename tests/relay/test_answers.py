"""P1: exactly one answer for each request, whatever becomes of it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from mcp_stdio import errors, jsonrpc
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from tests.process import line
from tests.relay.rig import FakeUpstream, relaying

FAILURES = [
    (errors.Unreachable("cause"), -33001, "unreachable"),
    (errors.TlsFailure("cause"), -33001, "unreachable"),
    (errors.ProxyFailure("cause"), -33001, "unreachable"),
    (errors.ConnectionLost("cause"), -33002, "outcome_unknown"),
    (errors.TimedOut("cause"), -33003, "timeout"),
    (errors.AuthorizationFailed("cause", status=401), -33004, "authorization"),
    (errors.BadAnswer("cause"), -33005, "bad_answer"),
    (errors.Refused("cause", status=500), -33005, "bad_answer"),
    (errors.TooLarge("cause"), -33005, "bad_answer"),
    (errors.UsageFailure("cause"), -33001, "settings"),
    (errors.CannotBridge("cause"), -33006, "cannot_bridge"),
    (errors.SessionLost("cause"), -33007, "session_lost"),
]


def answering(message: Message) -> Message:
    assert message.id is not None
    return jsonrpc.result(message.id, {"to": message.method})


async def answer(message: Message, call: Call) -> None:
    if message.is_request:
        await call.emit(answering(message))


@pytest.mark.parametrize(
    "failure, code, kind",
    FAILURES,
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_a_failure_becomes_its_error_answer(
    failure: errors.RelayError, code: int, kind: str
) -> None:
    async def send(message: Message, call: Call) -> None:
        raise failure

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=7, method="tools/call")
        (answer,) = await client.rest()
    assert answer["id"] == 7
    assert answer["error"]["code"] == code
    assert answer["error"]["message"] == "cause"
    assert answer["error"]["data"]["kind"] == kind
    assert answer["error"]["data"]["origin"] == "mcp-stdio"


async def test_a_failure_after_the_answer_adds_nothing() -> None:
    async def send(message: Message, call: Call) -> None:
        await answer(message, call)
        raise errors.ConnectionLost("too late to matter")

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="x")
        assert await client.rest() == [{"jsonrpc": "2.0", "id": 1, "result": {"to": "x"}}]


async def test_an_upstream_that_forgets_the_answer_is_found_out() -> None:
    async def send(message: Message, call: Call) -> None:
        pass

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="x")
        (got,) = await client.rest()
    assert (got["id"], got["error"]["code"]) == (1, -33005)


def bare(_: trio.Nursery) -> None:
    raise ZeroDivisionError("a defect")


def in_a_group(_: trio.Nursery) -> None:
    raise ExceptionGroup("of two", [ZeroDivisionError("a defect"), KeyError("another")])


def beside_a_failure(_: trio.Nursery) -> None:
    raise ExceptionGroup("mixed", [errors.BadAnswer("cause"), ZeroDivisionError("a defect")])


@pytest.mark.parametrize("defect", [bare, in_a_group, beside_a_failure])
async def test_a_defect_is_answered_and_logged_and_the_rest_lives_on(
    defect: Callable[[object], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def send(message: Message, call: Call) -> None:
        if message.method == "bad":
            defect(None)
        await answer(message, call)

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="bad")
        bad = await client.read()
        await client.send(id=2, method="good")
        good = await client.read()
        assert await client.rest() == []
    assert bad["id"] == 1
    assert bad["error"]["code"] in (-32603, -33005)
    assert good == {"jsonrpc": "2.0", "id": 2, "result": {"to": "good"}}
    (record,) = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert "ZeroDivisionError" in caplog.text


async def test_a_defect_is_answered_with_32603() -> None:
    async def send(message: Message, call: Call) -> None:
        raise ZeroDivisionError("secret details")

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id="a", method="x")
        (got,) = await client.rest()
    assert (got["id"], got["error"]["code"]) == ("a", -32603)
    assert "secret details" not in got["error"]["message"]


@pytest.mark.parametrize(
    "lack, words",
    [
        (MemoryError(), "not enough memory"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (ExceptionGroup("", [OSError(errno.ENFILE, "Too many open files in system")]), "in system"),
    ],
)
async def test_a_want_of_memory_or_files_is_no_defect(
    lack: Exception, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def send(message: Message, call: Call) -> None:
        raise lack

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="tools/call")
        await client.send(id=2, method="tools/list")
        answers = {answer["id"]: answer["error"] for answer in await client.rest()}
    assert answers.keys() == {1, 2}
    for error in answers.values():
        assert (error["code"], error["data"]["kind"]) == (-32603, "exhausted")
        assert words in error["message"]
        assert "`ulimit -a`" in error["data"]["hint"]
    assert "whether the call ran is unknown" in answers[1]["data"]["hint"]  # P2
    assert "whether the call ran" not in answers[2]["data"]["hint"]
    assert not [entry for entry in caplog.records if entry.exc_info]


async def test_a_want_of_memory_hides_no_defect_beside_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def send(message: Message, call: Call) -> None:
        raise ExceptionGroup("", [MemoryError(), ZeroDivisionError("a defect")])

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="x")
        (got,) = await client.rest()
    assert got["error"]["data"]["kind"] == "internal"
    assert "ZeroDivisionError" in caplog.text


async def test_a_failure_out_of_an_upstreams_nursery_keeps_its_meaning() -> None:
    async def send(message: Message, call: Call) -> None:
        async with trio.open_nursery():
            raise errors.TimedOut("cause")

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="x")
        (got,) = await client.rest()
    assert got["error"]["code"] == -33003


async def test_only_the_first_response_counts() -> None:
    async def send(message: Message, call: Call) -> None:
        await answer(message, call)
        await call.emit(jsonrpc.result(1, {"to": "somebody else"}))
        await call.emit(jsonrpc.error(1, -1, "no"))

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="x")
        assert await client.rest() == [{"jsonrpc": "2.0", "id": 1, "result": {"to": "x"}}]


async def test_of_responses_emitted_at_once_one_is_written() -> None:
    async def send(message: Message, call: Call) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(call.emit, answering(message))

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="x")
        assert await client.rest() == [{"jsonrpc": "2.0", "id": 1, "result": {"to": "x"}}]


async def test_what_belongs_to_a_request_comes_before_its_answer_in_order() -> None:
    async def send(message: Message, call: Call) -> None:
        for number in range(100):
            await call.emit(jsonrpc.notification("n", {"number": number}))
        await call.emit(jsonrpc.request("q", "roots/list"))
        await answer(message, call)

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="x")
        got = await client.rest()
    assert [message.get("params", {}).get("number") for message in got[:100]] == [*range(100)]
    assert got[100]["method"] == "roots/list"
    assert got[101]["result"] == {"to": "x"}


async def test_notifications_and_responses_get_no_answer() -> None:
    seen = []

    async def send(message: Message, call: Call) -> None:
        seen.append(message.kind.value)
        raise errors.BadAnswer("cause")

    async with relaying(FakeUpstream(send)) as client:
        await client.send(method="notifications/roots/list_changed")
        await client.send(id=1, result={})
        assert await client.rest() == []
    assert sorted(seen) == ["notification", "response"]


@pytest.mark.parametrize(
    "id", [0, -1, 2**53 + 1, 10**400, "", "1", 'ü \u2028 "', "\ud800"], ids=ascii
)
async def test_ids_come_back_with_their_type(id: object) -> None:
    async def send(message: Message, call: Call) -> None:
        raise errors.BadAnswer("cause")

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=id, method="x")
        (got,) = await client.rest()
    assert type(got["id"]) is type(id)
    assert got["id"] == id


async def test_ids_of_different_types_are_different() -> None:
    arrived: list[Message] = []
    both = trio.Event()

    async def send(message: Message, call: Call) -> None:
        arrived.append(message)
        if len(arrived) == 2:
            both.set()
        await both.wait()
        await answer(message, call)

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="number")
        await client.send(id="1", method="string")
        got = [await client.read(), await client.read()]
        assert await client.rest() == []
    assert {type(message["id"]): message["result"]["to"] for message in got} == {
        int: "number",
        str: "string",
    }


async def test_an_id_in_flight_is_refused_and_its_first_owner_answered() -> None:
    release = trio.Event()

    async def send(message: Message, call: Call) -> None:
        await release.wait()
        await answer(message, call)

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="first")
        await client.send(id=1, method="second")
        refused = await client.read()
        assert (refused["id"], refused["error"]["code"]) == (1, -32600)
        release.set()
        assert (await client.read())["result"] == {"to": "first"}
        assert await client.rest() == []


async def test_an_id_is_free_as_soon_as_its_answer_is_written() -> None:
    """Even while the exchange of the first request is still being wound up."""
    wind_up = trio.Event()

    async def send(message: Message, call: Call) -> None:
        await answer(message, call)
        await wind_up.wait()

    async with relaying(FakeUpstream(send)) as client:
        for method in ("first", "second", "third"):
            await client.send(id=1, method=method)
            assert (await client.read())["result"] == {"to": method}
        wind_up.set()
        assert await client.rest() == []


async def test_a_cancelled_notification_with_an_id_is_a_request() -> None:
    async with relaying(FakeUpstream(answer)) as client:
        await client.write(line(id=3, method="notifications/cancelled", params={"requestId": 1}))
        (got,) = await client.rest()
    assert got["id"] == 3


async def test_a_thousand_requests_with_mixed_fates_get_one_answer_each(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fates: list[Callable[[Message, Call], Awaitable[None]]] = []

    async def forget(message: Message, call: Call) -> None:
        await trio.lowlevel.checkpoint()

    async def fail(message: Message, call: Call) -> None:
        await trio.sleep(0.001)
        raise errors.ConnectionLost("cause")

    async def twice(message: Message, call: Call) -> None:
        await answer(message, call)
        await answer(message, call)

    async def break_down(message: Message, call: Call) -> None:
        raise RuntimeError("a defect")

    async def never(message: Message, call: Call) -> None:
        await trio.sleep_forever()

    fates += [answer, forget, fail, twice, break_down, never]

    async def send(message: Message, call: Call) -> None:
        assert isinstance(message.id, int)
        await fates[message.id % len(fates)](message, call)

    async with relaying(FakeUpstream(send)) as client:
        await client.write(b"".join(line(id=number, method="x") for number in range(1000)))
        got = await client.rest()
    assert sorted(message["id"] for message in got) == [*range(1000)]
