"""S-14: what the client has withdrawn is stopped at once, and nothing more is written for it."""

from __future__ import annotations

import itertools
from math import inf

import pytest
import trio
import trio.testing

from mcp_stdio import errors, jsonrpc
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from tests.process import line
from tests.relay.rig import FakeUpstream, Json, relaying


def cancelling(id: object) -> bytes:
    return line(method="notifications/cancelled", params={"requestId": id})


class Calls:
    """An upstream whose calls of `wait` run until they are told to finish."""

    def __init__(self) -> None:
        self.begun: list[Message] = []
        self.withdrawn: list[Message | None] = []
        self.finish = trio.Event()
        self._news = trio.Event()

    async def send(self, message: Message, call: Call) -> None:
        if not message.is_request:
            return
        assert message.id is not None
        self.begun.append(message)
        self._tell()
        try:
            if message.method in ("wait", "initialize"):
                await self.finish.wait()
        except trio.Cancelled:
            self.withdrawn.append(call.leave.withdrawn)
            self._tell()
            raise
        await call.emit(jsonrpc.result(message.id, {}))

    async def until(self, begun: int = 0, withdrawn: int = 0) -> None:
        while len(self.begun) < begun or len(self.withdrawn) < withdrawn:
            await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


def result(id: object) -> Json:
    return {"jsonrpc": "2.0", "id": id, "result": {}}


async def test_a_running_call_is_stopped_and_told_by_whose_word() -> None:
    calls = Calls()
    async with relaying(FakeUpstream(calls.send)) as client:
        await client.send(id=1, method="wait")
        await calls.until(begun=1)
        notice = cancelling(1)
        await client.write(notice)
        await calls.until(withdrawn=1)
        (withdrawn,) = calls.withdrawn
        assert withdrawn is not None
        assert withdrawn.raw + b"\n" == notice
        await client.send(id=2, method="ping")
        assert await client.rest() == [result(2)]


async def test_a_call_withdrawn_before_its_task_ran_never_reaches_the_upstream() -> None:
    calls = Calls()
    async with relaying(FakeUpstream(calls.send)) as client:
        for id in range(100):
            await client.write(line(id=id, method="ping") + cancelling(id))
        await client.send(id="last", method="ping")
        assert await client.rest() == [result("last")]
    assert [message.id for message in calls.begun] == ["last"]


async def test_a_cancel_after_the_answer_does_nothing() -> None:
    """Even while the call is still being wound up, and for the next call under the same id."""
    wound_up = trio.Event()
    was_cancelled = False

    async def send(message: Message, call: Call) -> None:
        nonlocal was_cancelled
        assert message.id is not None
        await call.emit(jsonrpc.result(message.id, {}))
        try:
            await wound_up.wait()
        except trio.Cancelled:
            was_cancelled = True
            raise

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="x")
        assert await client.read() == result(1)
        await client.write(cancelling(1))
        await client.send(id=1, method="x")
        assert await client.read() == result(1)
        assert not was_cancelled
        wound_up.set()
        assert await client.rest() == []
    assert not was_cancelled


@pytest.mark.parametrize(
    "params",
    [
        {"requestId": 2},
        {"requestId": "1"},
        {"requestId": 1.0},
        {"requestId": True},
        {"requestId": None},
        {"requestId": {}},
        {"requestId": [1]},
        {"request": 1},
        {},
        [1],
        1,
        None,
    ],
    ids=repr,
)
async def test_a_cancel_that_names_nothing_under_way_is_ignored(params: object) -> None:
    calls = Calls()
    async with relaying(FakeUpstream(calls.send)) as client:
        await client.send(id=1, method="wait")
        await calls.until(begun=1)
        await client.send(method="notifications/cancelled", params=params)
        await client.send(method="notifications/cancelled")
        await client.send(id="after", method="ping")
        assert await client.read() == result("after")
        calls.finish.set()
        assert await client.rest() == [result(1)]
    assert calls.withdrawn == []


async def test_initialize_cannot_be_cancelled() -> None:
    """T-16."""
    calls = Calls()
    async with relaying(FakeUpstream(calls.send)) as client:
        await client.send(id=1, method="initialize")
        await client.write(cancelling(1))
        await client.send(id="after", method="ping")
        assert await client.read() == result("after")
        calls.finish.set()
        assert await client.rest() == [result(1)]
    assert calls.withdrawn == []


async def test_a_string_and_a_number_are_different_requests() -> None:
    calls = Calls()
    async with relaying(FakeUpstream(calls.send)) as client:
        await client.send(id=1, method="wait")
        await client.send(id="1", method="wait")
        await calls.until(begun=2)
        await client.write(cancelling("1"))
        await calls.until(withdrawn=1)
        calls.finish.set()
        assert await client.rest() == [result(1)]


async def test_nothing_is_written_after_the_cancel_whatever_the_upstream_still_says() -> None:
    async def send(message: Message, call: Call) -> None:
        assert message.id is not None
        try:
            await call.emit(jsonrpc.notification("begun"))
            await trio.sleep_forever()
        finally:
            with call.leave.shielded(5):
                await call.emit(jsonrpc.notification("notifications/progress"))
                await call.emit(jsonrpc.result(message.id, {}))
                await call.emit(jsonrpc.request("q", "roots/list"))

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="x")
        assert (await client.read())["method"] == "begun"
        await client.write(cancelling(1))
        assert await client.rest() == []


@pytest.mark.parametrize("failure", [errors.BadAnswer("cause"), ZeroDivisionError("a defect")])
async def test_a_failure_after_the_cancel_is_silent(failure: Exception) -> None:
    async def send(message: Message, call: Call) -> None:
        try:
            await call.emit(jsonrpc.notification("begun"))
            await trio.sleep_forever()
        except trio.Cancelled:
            raise failure from None

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="x")
        assert (await client.read())["method"] == "begun"
        await client.write(cancelling(1))
        assert await client.rest() == []


async def test_a_defect_beside_a_cancel_ends_nothing_but_its_call() -> None:
    async def send(message: Message, call: Call) -> None:
        if message.method == "ping":
            assert message.id is not None
            await call.emit(jsonrpc.result(message.id, {}))
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await call.emit(jsonrpc.notification("begun"))
                await trio.sleep_forever()
            except trio.Cancelled:
                raise ZeroDivisionError("a defect") from None

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="x")
        assert (await client.read())["method"] == "begun"
        await client.write(cancelling(1))
        await client.send(id=2, method="ping")
        assert await client.rest() == [result(2)]


async def test_what_a_withdrawn_call_still_does_ends_with_the_program(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def send(message: Message, call: Call) -> None:
        try:
            await call.emit(jsonrpc.notification("begun"))
            await trio.sleep_forever()
        finally:
            with call.leave.shielded(1000):
                await trio.sleep_forever()

    async with relaying(FakeUpstream(send), drain_timeout=1.0, limit=inf) as client:
        await client.send(id=1, method="x")
        assert (await client.read())["method"] == "begun"
        await client.write(cancelling(1))
        await trio.testing.wait_all_tasks_blocked()
        begin = trio.current_time()
        assert await client.rest() == []
        assert trio.current_time() - begin <= 1.9


async def test_an_id_may_be_used_again_once_the_withdrawn_call_is_over() -> None:
    calls = Calls()
    async with relaying(FakeUpstream(calls.send)) as client:
        for round in range(1, 4):
            await client.send(id=1, method="wait")
            await calls.until(begun=round)
            await client.write(cancelling(1))
            await calls.until(withdrawn=round)
        await client.send(id=1, method="ping")
        assert await client.rest() == [result(1)]


async def test_cancelling_while_answers_are_written_tears_no_line() -> None:
    """P6, 500 times: the pipe is full, an answer is half written, its call is withdrawn."""

    async def send(message: Message, call: Call) -> None:
        assert isinstance(message.id, int)
        text = "x" * (3_000 + 40_000 * (message.id % 5))
        await call.emit(jsonrpc.result(message.id, {"text": text}))

    async with relaying(FakeUpstream(send), limit=60) as client:
        reads = itertools.cycle([0, 1, 4_096, 30_000, 70_000, 150_000])
        for id in range(500):
            await client.send(id=id, method="tools/call")
            await client.read_some(next(reads))
            await client.write(cancelling(id))
        answers = await client.rest()
    ids = [answer["id"] for answer in answers]
    assert len(ids) == len(set(ids))
    for answer in answers:
        assert len(answer["result"]["text"]) == 3_000 + 40_000 * (answer["id"] % 5)
