"""The end of a relay, with fakes and virtual time: nobody is left without an answer, or waiting."""

from __future__ import annotations

import json
import os
import signal

import pytest
import trio
import trio.testing

from mcp_stdio import jsonrpc
from mcp_stdio.errors import TimedOut
from mcp_stdio.jsonrpc import Message, parse
from mcp_stdio.upstream import Call, Emit
from tests.process import line
from tests.relay.rig import LIMIT, MAX_SIZE, FakeLane, FakeUpstream, Json, Rig, relaying

MAX_END = 1.9
"""Seconds from the end of input to the end of the program, below the 2 s that clients grant."""


class Farewell(FakeUpstream):
    """An upstream whose calls take as long as their parameter says, and its farewell as well."""

    def __init__(self, farewell: float = 0.0) -> None:
        super().__init__(self._take_time)
        self._farewell = farewell
        self.has_left = False

    async def _take_time(self, message: Message, call: Call) -> None:
        await trio.sleep(message.params.get("seconds", 0))
        if message.is_request:
            assert message.id is not None
            await call.emit(jsonrpc.result(message.id, {}))

    async def aclose(self) -> None:
        await super().aclose()
        await trio.sleep(self._farewell)
        self.has_left = True


def call(id: object, seconds: float) -> bytes:
    return line(id=id, method="tools/call", params={"seconds": seconds})


async def ended(client: Rig) -> tuple[dict[object, Json], float]:
    """End the input; the answers by id, and how long the relay took."""
    begin = trio.current_time()
    messages = await client.rest()
    assert len({message["id"] for message in messages}) == len(messages)
    return {message["id"]: message for message in messages}, trio.current_time() - begin


async def test_idle_it_is_gone_at_once(autojump_clock: trio.testing.MockClock) -> None:
    upstream = Farewell()
    async with relaying(upstream) as client:
        answers, seconds = await ended(client)
    assert answers == {}
    assert seconds < 0.1
    assert upstream.has_left


async def test_what_finishes_in_time_is_answered_and_the_rest_gets_errors(
    autojump_clock: trio.testing.MockClock,
) -> None:
    upstream = Farewell(farewell=100)
    async with relaying(upstream, limit=100) as client:
        await client.write(call("quick", 0.1) + call("just", 1.1) + call("slow", 50))
        await client.write(line(method="notifications/slow", params={"seconds": 50}))
        answers, seconds = await ended(client)
    assert "result" in answers["quick"]
    assert "result" in answers["just"]
    assert answers["slow"]["error"]["code"] == -33002
    assert seconds <= MAX_END
    assert upstream.is_closed
    assert not upstream.has_left


@pytest.mark.parametrize("drain", [0.0, 0.5, 5.0])
async def test_the_drain_timeout_is_honoured(
    drain: float, autojump_clock: trio.testing.MockClock
) -> None:
    async with relaying(Farewell(), drain_timeout=drain, limit=100) as client:
        await client.write(call("in time", drain * 0.9) + call("late", drain + 1))
        answers, seconds = await ended(client)
    if drain:
        assert "result" in answers["in time"]
    assert "error" in answers["late"]
    assert drain <= seconds <= drain + 0.1


async def test_a_client_that_does_not_read_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    over = trio.Event()

    async def send(message: Message, call: Call) -> None:
        assert message.id is not None
        await call.emit(jsonrpc.result(message.id, {"text": "x" * 1_000_000}))

    upstream = FakeUpstream(send)
    async with relaying(upstream, limit=100) as client, trio.open_nursery() as nursery:
        await client.write(call(1, 0) + call(2, 0))
        await trio.testing.wait_all_tasks_blocked()
        begin = trio.current_time()
        await client.hang_up()
        nursery.start_soon(waiting_for, client, over)
        await over.wait()
        assert trio.current_time() - begin <= MAX_END
    assert upstream.is_closed


LISTEN = line(id="l", method="subscriptions/listen", params={"seconds": 1e6})


@pytest.mark.parametrize("is_signal", [False, True])
async def test_a_listen_stream_ends_as_a_server_ends_one(
    is_signal: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """S-16, Q-3: its result, then `notifications/cancelled`; and it is no work to be waited for."""
    upstream = Farewell()
    async with relaying(upstream, limit=100) as client:
        await client.write(LISTEN)
        await trio.testing.wait_all_tasks_blocked()
        begin = trio.current_time()
        if is_signal:
            os.kill(os.getpid(), signal.SIGTERM)
        messages = await client.rest()
        assert trio.current_time() - begin < 0.1
    tag = {"io.modelcontextprotocol/subscriptionId": "l"}
    assert messages == [
        {"jsonrpc": "2.0", "id": "l", "result": {"resultType": "complete", "_meta": tag}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "l"}},
    ]
    assert upstream.has_left


async def test_a_listen_stream_does_not_prolong_a_drain(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with relaying(Farewell(), drain_timeout=900, limit=1000) as client:
        await client.write(LISTEN + call("slow", 30))
        messages = await client.rest()
        assert trio.current_time() < 31
    assert [message.get("id") for message in messages] == ["slow", "l", None]


async def waiting_for(client: Rig, over: trio.Event) -> None:
    await client.over()
    over.set()


async def test_a_closed_standard_output_ends_it_quietly() -> None:
    upstream = Farewell()
    async with relaying(upstream) as client:
        await client.write(call("slow", 50))
        await client.stop_reading()
        await client.write(call("quick", 0))
        await client.over()
    assert upstream.has_left


async def test_a_defect_in_the_background_ends_it_with_all_answered() -> None:
    """Outside of a request there is nobody to tell: the program ends, but not without a word."""
    upstream = Farewell()
    broken = trio.Event()

    async def break_down() -> None:
        await broken.wait()
        raise ZeroDivisionError("a defect")

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with relaying(upstream, background=break_down) as client:
            await client.write(b"".join(call(number, 50) for number in range(20)))
            await trio.testing.wait_all_tasks_blocked()
            broken.set()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                answers = [await client.read() for _ in range(20)]
    assert {answer["id"] for answer in answers} == set(range(20))
    assert {answer["error"]["code"] for answer in answers} == {-33002}
    assert upstream.has_left


async def test_the_last_words_do_not_queue_behind_all_that_was_still_to_be_said() -> None:
    """P1, while hundreds of calls stream more than a client takes in its last moment."""
    told = [parse(line(method="notifications/message", params={"data": "x" * 60_000}))] * 4
    waiting = 0

    async def send(message: Message, call: Call) -> None:
        nonlocal waiting
        waiting += 1
        while True:
            await call.emit_all(told)
            await trio.lowlevel.checkpoint()

    async with relaying(FakeUpstream(send), drain_timeout=0.1, limit=30) as client:
        await client.write(b"".join(call(id, 0) for id in range(600)))
        while waiting < 600:
            await client.read_line()
        answers = [message for message in await client.rest() if "id" in message]
    assert sorted(message["id"] for message in answers) == list(range(600))
    assert {message["error"]["code"] for message in answers} == {-33002}


@pytest.mark.parametrize("drain", [0.0, 0.5])
async def test_what_is_answered_in_the_very_moment_of_the_end_is_answered_once(
    drain: float, autojump_clock: trio.testing.MockClock
) -> None:
    """P1: too late to be delivered, and too early to be among the last words."""

    async def send(message: Message, call: Call) -> None:
        for _ in range(message.params["passes"]):
            await trio.lowlevel.checkpoint()
        await trio.sleep_until(ends_at)
        assert message.id is not None
        await call.emit(jsonrpc.result(message.id, {}))

    for hangs_up_after in range(4):
        async with relaying(FakeUpstream(send), drain_timeout=drain, limit=100) as client:
            ends_at = trio.current_time() + drain
            params = ({"passes": passes} for passes in range(20))
            await client.write(
                b"".join(line(id=id, method="x", params=each) for id, each in enumerate(params))
            )
            for _ in range(hangs_up_after):
                await trio.lowlevel.checkpoint()
            answers, _ = await ended(client)
        assert answers.keys() == set(range(20))
        codes = {answer["error"]["code"] for answer in answers.values() if "error" in answer}
        assert codes <= {-33002}


async def test_an_answer_whose_time_ran_out_before_a_full_pipe_has_its_last_words(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """P1: it was about to be written when the last words were chosen, and could not be."""
    note = parse(line(method="notifications/message", params={"data": "x" * 3000}))

    async def send(message: Message, call: Call) -> None:
        if message.id == "fills the pipe":
            while True:
                await call.emit(note)
        if message.id == "late":
            assert message.id is not None
            with trio.move_on_after(0.15):
                await call.emit(jsonrpc.result(message.id, {"text": "x" * 3000}))
            raise TimedOut("too late")

    async with relaying(FakeUpstream(send), drain_timeout=0.1, limit=30) as client:
        await client.send(id="fills the pipe", method="tools/call")
        await trio.sleep(0.01)
        await client.send(method="notifications/cancelled", params={"requestId": "fills the pipe"})
        await trio.sleep(0.01)
        await client.send(id="late", method="tools/call")
        await trio.sleep(0.01)
        await client.hang_up()
        await trio.sleep(0.2)
        got = []
        while raw := await client.read_line():
            got.append(json.loads(raw))
    assert [message["id"] for message in got if "id" in message] == ["late"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_answers_the_unfinished_and_says_goodbye(
    number: int, autojump_clock: trio.testing.MockClock
) -> None:
    upstream = Farewell(farewell=100)
    async with relaying(upstream, limit=100) as client:
        await client.write(call(1, 50) + call("two", 50))
        await trio.testing.wait_all_tasks_blocked()
        begin = trio.current_time()
        os.kill(os.getpid(), number)
        got = [await client.read(), await client.read()]
        assert await client.read_line() == b""
        await client.over()
        assert trio.current_time() - begin < 2
    assert {message["id"] for message in got} == {1, "two"}
    assert upstream.is_closed


@pytest.mark.parametrize("at", [0, 5, 100])
async def test_what_was_read_and_not_begun_when_a_signal_came_is_answered_and_not_sent(
    at: int,
) -> None:
    """P1: a thousand lines come with one read, and are begun a few at a time."""
    begun: list[Message] = []

    async def send(message: Message, call: Call) -> None:
        if len(begun) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        begun.append(message)
        await trio.sleep_forever()

    async with relaying(FakeUpstream(send)) as client:
        await client.write(b"".join(call(id, 0) for id in range(500)) + b"no message\n")
        got = []
        while raw := await client.read_line():
            got.append(json.loads(raw))
        await client.over()
    assert len(got) == 501
    assert {message.get("id") for message in got} == {*range(500), None}
    assert len(begun) < at + 50


async def test_last_words_go_before_what_belongs_to_no_request() -> None:
    """P1: a client that hardly reads has little time, and has to hear its answers in it."""
    news = jsonrpc.notification("notifications/message", {"level": "info", "data": "x" * 70_000})

    async def send(message: Message, call: Call) -> None:
        await trio.sleep_forever()

    def open_upstream(nursery: trio.Nursery, emit: Emit) -> FakeUpstream:
        for _ in range(20):
            nursery.start_soon(emit, news)
        return FakeUpstream(send)

    rig = Rig(
        open_upstream,
        lane=FakeLane(),
        drain_timeout=1.0,
        wall_clock=trio.current_time,
        max_size=MAX_SIZE,
    )
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.run)
            await rig.send(id="call", method="tools/call")
            await trio.testing.wait_all_tasks_blocked()
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.testing.wait_all_tasks_blocked(0.05)
            heard = [await rig.read() for _ in range(2)]  # one is being written already
            assert "call" in [message.get("id") for message in heard]
            await rig.aclose()


async def test_a_defect_does_not_wait_for_a_client_that_does_not_read() -> None:
    broken = trio.Event()

    async def send(message: Message, call: Call) -> None:
        assert message.id is not None
        await call.emit(jsonrpc.result(message.id, {"text": "x" * 1_000_000}))

    async def break_down() -> None:
        await broken.wait()
        raise ZeroDivisionError("a defect")

    upstream = FakeUpstream(send)
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with relaying(upstream, background=break_down) as client:
            await client.write(call(1, 0) + call(2, 0))
            await trio.testing.wait_all_tasks_blocked()
            broken.set()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await client.over()
    assert upstream.is_closed


async def test_a_signal_cuts_a_drain_short(autojump_clock: trio.testing.MockClock) -> None:
    async with relaying(Farewell(), drain_timeout=60, limit=100) as client:
        await client.write(call(1, 50))
        await trio.testing.wait_all_tasks_blocked()
        await client.hang_up()
        await trio.sleep(1)
        begin = trio.current_time()
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await client.read())["error"]["code"] == -33002
        await client.over()
        assert trio.current_time() - begin < 2


async def test_a_signal_during_the_farewell_does_no_harm(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A client that closes the pipes and sends the signal at once."""
    upstream = Farewell(farewell=0.4)
    async with relaying(upstream, limit=100) as client:
        await client.hang_up()
        await trio.testing.wait_all_tasks_blocked()
        assert upstream.is_closed
        os.kill(os.getpid(), signal.SIGTERM)
        await client.over()
    assert upstream.has_left


async def test_a_second_signal_waits_for_nothing(autojump_clock: trio.testing.MockClock) -> None:
    upstream = Farewell(farewell=0.4)
    async with relaying(upstream, limit=100) as client:
        await client.write(call(1, 50))
        await trio.testing.wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGTERM)
        await client.read()
        await trio.testing.wait_all_tasks_blocked()
        assert upstream.is_closed
        begin = trio.current_time()
        os.kill(os.getpid(), signal.SIGTERM)
        await client.over()
        assert trio.current_time() == begin
    assert not upstream.has_left


async def test_a_large_number_of_unfinished_requests_is_answered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with relaying(Farewell(), limit=100) as client:
        await client.write(b"".join(call(number, 50) for number in range(2000)))
        answers, _ = await ended(client)
    assert set(answers) == set(range(2000))
    assert all("error" in answer for answer in answers.values())
