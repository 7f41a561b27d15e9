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

    __slots__ = ("_come", "_is_over", "_queue")

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._come: trio.Event | None = None
        self._is_over = False

    async def come(self) -> None:
        """Wait until every earlier turn is over."""
        if self._queue.first is not self and not self._is_over:
            self._come = trio.Event()
            await self._come.wait()

    def over(self) -> None:
        """Let those behind go: this message has left, or waits for something of its own."""
        if not self._is_over:
            self._is_over = True
            self._queue.advance()

    @property
    def is_over(self) -> bool:
        """Whether the turn has been passed on."""
        return self._is_over

    def call(self) -> None:
        """Wake whoever waits for this turn."""
        if self._come is not None:
            self._come.set()


class Queue:
    """The turns that are not over yet, in the order they were taken."""

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque()

    @property
    def first(self) -> Turn | None:
        """The turn that has come."""
        return self._turns[0] if self._turns else None

    def take(self) -> Turn:
        """The next place at the end."""
        turn = Turn(self)
        self._turns.append(turn)
        return turn

    def advance(self) -> None:
        """Leave out the turns at the head that are over and call the next one."""
        while self._turns and self._turns[0].is_over:
            self._turns.popleft()
        if self._turns:
            self._turns[0].call()
