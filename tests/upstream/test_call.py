"""Who gets what a call brings back, through wrappers of either kind."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_stdio import jsonrpc
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Receiver, own_call
from mcp_stdio.upstream.turn import Queue

ONE, TWO = jsonrpc.notification("one"), jsonrpc.notification("two")
ANSWER = jsonrpc.result(1, {})


class Log(Receiver):
    """Notes what came, and what came together as one."""

    def __init__(self) -> None:
        self.got: list[Message | list[Message]] = []

    async def __call__(self, message: Message) -> None:
        self.got.append(message)

    async def together(self, messages: Sequence[Message]) -> None:
        self.got.append([*messages])


async def test_what_came_together_goes_on_together() -> None:
    log = Log()
    call = own_call(log)
    await call.emit_all([ONE, TWO])
    await call.emit(ANSWER)
    assert log.got == [[ONE, TWO], ANSWER]


async def test_a_receiver_of_single_messages_gets_them_one_by_one() -> None:
    got: list[Message] = []

    async def emit(message: Message) -> None:
        got.append(message)

    await own_call(emit).emit_all([ONE, TWO])
    assert got == [ONE, TWO]


async def test_a_wrapper_of_all_sees_each_message() -> None:
    log = Log()
    call = own_call(log)

    async def twice(message: Message) -> None:
        await call.emit(message)
        await call.emit(message)

    await call.emitting(twice).emit_all([ONE, TWO])
    assert log.got == [ONE, ONE, TWO, TWO]


async def test_what_came_together_goes_past_a_wrapper_of_the_answer() -> None:
    log = Log()
    call = own_call(log)
    seen: list[Message] = []

    async def take(message: Message) -> None:
        seen.append(message)

    answering = call.answering(take)
    await answering.emit_all([ONE, TWO])
    await answering.emit(ANSWER)
    assert log.got == [[ONE, TWO]]
    assert seen == [ANSWER]


def test_a_call_passed_on_holds_its_new_place_and_leaves_the_old_one() -> None:
    call = own_call(Log())
    first, queue = call.turn, Queue()
    queue.take().over()
    earlier = queue.take()
    call.pass_to(queue)
    later = queue.take()
    assert first.is_over
    assert queue.first is earlier
    earlier.over()
    assert queue.first is call.turn
    call.turn.over()
    assert queue.first is later


async def test_each_wrapped_call_keeps_the_turn_of_the_one_it_wraps() -> None:
    call = own_call(Log())
    wrapped: list[Call] = [call.emitting(Log()), call.answering(Log())]
    assert all(each.turn is call.turn and each.leave is call.leave for each in wrapped)
