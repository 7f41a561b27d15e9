"""Who writes next: one at a time, in the order of asking, but for who has the last word.

`trio.Lock` serves strictly in order. When all ends, a thousand writers may stand before the last
words, only to find out one after the other, each in a pass of the loop of its own, that it is too
late for them; the client would wait for its answers meanwhile.
"""

from __future__ import annotations

import trio


class Turns:
    """A lock. Whoever releases it hands it over, so that nobody can come in between."""

    __slots__ = ("_first", "_is_held", "_waiting")

    def __init__(self) -> None:
        self._is_held = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._first = trio.lowlevel.ParkingLot()

    async def acquire(self, *, first: bool = False) -> None:
        """Wait for the turn; `first` is served before all others.

        A free lock is had without a checkpoint, which would cost as much as a small write.
        """
        if not self._is_held:
            self._is_held = True
        elif first:
            await self._first.park()
        else:
            await self._waiting.park()

    def release(self) -> None:
        """Hand over to the next."""
        for lot in (self._first, self._waiting):
            if lot:
                lot.unpark()
                return
        self._is_held = False
