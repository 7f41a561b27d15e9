"""Telling that the machine has slept: connections may be dead then, though nobody closed them.

The wall clock goes on during a sleep and the monotonic one, which is trio's, stands still. Owns the
comparison of the two; what is done about it is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

SLEPT = 30.0
"""Seconds by which the clocks must come apart: less than servers and NATs keep idle connections,
more than a correction of the time moves a clock."""


class SleepDetector:
    """Compares the wall clock, in seconds since any time, with trio's."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._offset = self._difference()

    def has_slept(self) -> bool:
        """Whether the clocks have come apart since the last look, in either direction."""
        before, self._offset = self._offset, self._difference()
        return abs(self._offset - before) > SLEPT

    def _difference(self) -> float:
        return self._wall_clock() - trio.current_time()
