"""The while for which nobody is asked to sign in again, after somebody was in vain.

Owns how long that is and what is said meanwhile. Whether somebody was asked, and by whom, is
`bearer`'s business.
"""

from __future__ import annotations

from math import inf

import trio

from mcp_stdio.errors import AskedInVain, RelayError

COOLDOWN = 60.0
"""Seconds in which a person who was asked in vain is not asked again."""


class Cooldown:
    """`in_vain` is how somebody was asked the last time, None when it was not in vain yet."""

    def __init__(self) -> None:
        self.in_vain: RelayError | None = None
        self._lasts_until = -inf  # trio's clock

    def begin(self, failure: RelayError) -> None:
        """Ask nobody for a while."""
        self.in_vain = failure
        self._lasts_until = trio.current_time() + COOLDOWN

    def check(self) -> None:
        """Raise AskedInVain while nobody is to be asked."""
        if self.in_vain is not None and trio.current_time() < self._lasts_until:
            raise AskedInVain(self.in_vain)
