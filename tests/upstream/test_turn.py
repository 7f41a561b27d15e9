"""The order in which messages leave (P4)."""

from __future__ import annotations

import random

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio.upstream import own_call
from mcp_stdio.upstream.turn import Queue, Turn


async def test_turns_come_in_the_order_they_were_taken_whoever_asks_first() -> None:
    for _ in range(50):
        queue = Queue()
        turns = [queue.take() for _ in range(20)]
        order: list[int] = []

        async def wait(number: int, turn: Turn, order: list[int] = order) -> None:
            await turn.come()
            order.append(number)
            turn.over()

        async with trio.open_nursery() as nursery:
            shuffled = list(enumerate(turns))
            random.shuffle(shuffled)
            for number, turn in shuffled:
                nursery.start_soon(wait, number, turn)
        assert order == list(range(20))
        assert queue.first is None


async def test_a_turn_holds_back_those_behind_it_until_it_is_over() -> None:
    queue = Queue()
    first, second = queue.take(), queue.take()
    passed = trio.Event()

    async def wait() -> None:
        await second.come()
        passed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert not passed.is_set()
        first.over()
        first.over()
        await wait_all_tasks_blocked()
        assert passed.is_set()
        assert queue.first is second


async def test_a_line_that_has_formed_is_shorter_after_each_pass() -> None:
    """While one more comes with each that leaves, as in a loop of calls; else it would stay."""
    queue = Queue()
    waiting = 0

    async def pass_through(turn: Turn) -> None:
        nonlocal waiting
        waiting += 1
        await turn.come()
        waiting -= 1
        turn.over()

    async with trio.open_nursery() as nursery:
        first = queue.take()
        for _ in range(100):
            nursery.start_soon(pass_through, queue.take())
        await wait_all_tasks_blocked()
        first.over()
        for _ in range(1000):
            nursery.start_soon(pass_through, queue.take())
            await trio.lowlevel.checkpoint()
        assert waiting < 50


async def test_a_turn_given_up_in_the_middle_is_skipped() -> None:
    queue = Queue()
    first, second, third = queue.take(), queue.take(), queue.take()
    second.over()
    assert queue.first is first
    first.over()
    assert queue.first is third
    await third.come()


async def test_a_turn_that_is_over_need_not_be_waited_for(autojump_clock: MockClock) -> None:
    queue = Queue()
    queue.take()
    second = queue.take()
    second.over()
    with trio.fail_after(1):
        await second.come()


async def test_a_call_of_our_own_waits_for_nobody(autojump_clock: MockClock) -> None:
    async def emit(message: object) -> None: ...

    with trio.fail_after(1):
        await own_call(emit).turn.come()
