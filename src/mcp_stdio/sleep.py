"""Telling that the machine has slept: connections may be dead then, though nobody closed them.

The wall clock goes on during a sleep. The monotonic one, which is trio's, stands still on Linux and
macOS, so that the two come apart; on Windows it goes on as well, and there a sleep shows as a time
in which nobody has looked. Owns the comparison of the clocks; what is done about it is the caller's
business.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

SLEPT = 30.0
"""Seconds by which the clocks must come apart, or a look be late: less than servers and NATs keep
idle connections, more than a correction of the time moves a clock."""

INTERVAL = 5.0
"""Seconds from one look to the next, unless the caller says otherwise."""


class SleepDetector:
    """Compares the wall clock, in seconds since any time, with trio's.

    Promised that somebody looks every `interval` seconds at least, it takes a look that is much
    too late for a sleep too: the process did not run in between, whatever the reason.
    """

    def __init__(self, wall_clock: Callable[[], float], interval: float = INTERVAL) -> None:
        self._wall_clock = wall_clock
        self._interval = interval
        self._looked = trio.current_time()
        self._wall_looked = wall_clock()

    def has_slept(self) -> bool:
        """Whether the clocks have come apart since the last look, in either direction, or the look
        is late by more than `SLEPT`.
        """
        now, wall_now = trio.current_time(), self._wall_clock()
        passed, wall_passed = now - self._looked, wall_now - self._wall_looked
        self._looked, self._wall_looked = now, wall_now
        return abs(wall_passed - passed) > SLEPT or passed > self._interval + SLEPT
