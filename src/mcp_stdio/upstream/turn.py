"""First in, first out: the order in which messages start towards the server (P4).

Trio runs tasks that became ready together in random order, so the order of the lines read must be
carried by something. A `Queue` gives out turns in that order; a turn comes when all earlier ones
are over.
"""

from __future__ import annotations

from collections import deque

import trio


class Turn:
    """A place in the queue. `over` may be called at any time, any number of times."""

    __slots__ = ("_come", "_is_over", "_turns")

    def __init__(self, turns: deque[Turn]) -> None:
        self._turns = turns
        self._come: trio.Event | None = None
        self._is_over = False

    async def come(self) -> None:
        """Wait until every earlier turn is over."""
        while not self._is_over and self._turns[0] is not self:
            self._come = trio.Event()
            await self._come.wait()

    def over(self) -> None:
        """Let those behind go: this message has left, or waits for something of its own.

        Two of them are called: if trio runs them in the right order, both go on in one pass of its
        loop. Called one at a time, a line that has once formed would never end while each call that
        is answered brings another.
        """
        if self._is_over:
            return
        self._is_over = True
        turns = self._turns
        if turns[0] is not self:
            return
        while turns and turns[0]._is_over:
            turns.popleft()
        if turns:
            turns[0]._call()
            if len(turns) > 1:
                turns[1]._call()

    @property
    def is_over(self) -> bool:
        """Whether the turn has been passed on."""
        return self._is_over

    def _call(self) -> None:
        if self._come is not None:
            self._come.set()


class Queue:
    """The turns that are not over yet, in the order they were taken."""

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque()

    @property
    def first(self) -> Turn | None:
        """The turn that has come."""
        return self._turns[0] if self._turns else None

    def take(self) -> Turn:
        """The next place at the end."""
        turn = Turn(self._turns)
        self._turns.append(turn)
        return turn
