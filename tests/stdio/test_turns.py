"""The turns of those who write to standard output."""

from __future__ import annotations

from functools import partial

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio.stdio.turns import Turns


async def test_turns_come_in_the_order_of_asking_and_last_words_before_them() -> None:
    turns, served = Turns(), list[str]()

    async def ask(name: str, *, first: bool = False) -> None:
        await turns.acquire(first=first)
        served.append(name)
        await trio.lowlevel.checkpoint()
        turns.release()

    await turns.acquire()
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(ask, name)
            await wait_all_tasks_blocked()
        nursery.start_soon(partial(ask, "last words", first=True))
        await wait_all_tasks_blocked()
        turns.release()
    assert served == ["last words", *"abc"]
    with trio.fail_after(5):
        await turns.acquire()  # nobody holds it any more


async def test_one_who_gives_up_waiting_is_passed_over(autojump_clock: MockClock) -> None:
    turns, served = Turns(), list[int]()

    async def ask(number: int, patience: float) -> None:
        with trio.move_on_after(patience):
            await turns.acquire()
            served.append(number)
            turns.release()

    await turns.acquire()
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(ask, number, 1 if number % 2 else 3)
            await wait_all_tasks_blocked()
        await trio.sleep(2)
        turns.release()
    assert served == [0, 2, 4, 6, 8]


async def test_a_turn_that_was_handed_over_is_not_lost_in_a_cancel() -> None:
    turns = Turns()
    await turns.acquire()

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            await turns.acquire()
            turns.release()

    for _ in range(20):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(ask, scope)
            await wait_all_tasks_blocked()
            turns.release()
            scope.cancel()  # too late: it has the turn
        with trio.fail_after(5):
            await turns.acquire()
