"""The barrier that keeps requests behind a handshake (S-9, T-17).

It opens when the server has accepted `notifications/initialized` and had a moment to offer its
listening stream. Kept here: a client or a server that breaks these rules loses time, not answers.
"""

from __future__ import annotations

import trio

INITIALIZED_GRACE = 0.3
"""Seconds that requests wait for the client's `notifications/initialized`. A client sends it before
them; a script may leave it out and still deserves its answers before the drain is over."""

ACCEPTED_GRACE = 10.0
"""Seconds that requests wait for the server to accept it."""

LISTENING_GRACE = 0.5
"""Seconds that requests wait for the listening stream: as a rule it is open, or declined, after one
round trip. Some servers say nothing on it before their first event."""


class Barrier:
    """Closed while `notifications/initialized` has yet to come or is on its way."""

    def __init__(self) -> None:
        self._begun = trio.Event()
        self._is_open = trio.Event()

    @property
    def is_open(self) -> bool:
        """Whether nobody waits any more."""
        return self._is_open.is_set()

    def begin(self) -> None:
        """The notification is on its way: wait until it is accepted."""
        self._begun.set()

    async def open_after(self, listening_decided: trio.Event) -> None:
        """Let requests through once the server said whether it offers a stream to listen to.

        A server that asks something during the first call, and not on its stream, drops the
        question when nobody listens yet.
        """
        with trio.move_on_after(LISTENING_GRACE):
            await listening_decided.wait()
        self._is_open.set()

    async def wait(self) -> None:
        """Wait until it is open, as long as that makes sense; afterwards it is."""
        if self.is_open:
            return
        with trio.move_on_after(INITIALIZED_GRACE) as grace:
            await self._begun.wait()
        if not grace.cancelled_caught:
            with trio.move_on_after(ACCEPTED_GRACE):
                await self._is_open.wait()
        self._is_open.set()
