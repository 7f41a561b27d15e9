"""What may be sent again, and when: one table of what happened against what the request may do.

A `tools/call` is never sent twice unless it provably did not run (P2), so a row says whether it
holds for every method or only for those that are safe to repeat (`spec.SAFE_METHODS`). Knows
neither who sleeps nor what time it is.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

FIRST_DELAY = 0.5
"""Seconds before the first retry; each further one doubles it (0.5, 1, 2)."""

LONGEST_RETRY_AFTER = 60.0
"""Seconds of `Retry-After` that are waited out; a server asking for more is answered instead."""


class Event(Enum):
    """What became of an attempt."""

    NOT_SENT = "no byte left: DNS, connect, TLS, proxy"
    LOST = "the connection closed after the request and before a byte of the response"
    BROKEN = "the response broke off and cannot be resumed"
    RATE_LIMITED = "429"
    UNAVAILABLE = "503 with Retry-After"
    TRANSIENT = "408, 425, 502, 504, 503 without Retry-After"


class Rule(NamedTuple):
    """How often to try again, for whom, and after a growing delay or at once."""

    retries: int
    safe_methods_only: bool
    waits: bool


TABLE = {
    Event.NOT_SENT: Rule(retries=3, safe_methods_only=False, waits=True),
    Event.LOST: Rule(retries=1, safe_methods_only=True, waits=False),
    Event.BROKEN: Rule(retries=1, safe_methods_only=True, waits=False),
    Event.RATE_LIMITED: Rule(retries=3, safe_methods_only=False, waits=True),
    Event.UNAVAILABLE: Rule(retries=3, safe_methods_only=False, waits=True),
    Event.TRANSIENT: Rule(retries=3, safe_methods_only=True, waits=True),
}

_TRANSIENT_STATUSES = frozenset({408, 425, 502, 503, 504})


def event_of_status(status: int, retry_after: float | None) -> Event | None:
    """The row for an HTTP error status; None for a status that is an answer."""
    if status == 429:
        return Event.RATE_LIMITED
    if status == 503 and retry_after is not None:
        return Event.UNAVAILABLE
    return Event.TRANSIENT if status in _TRANSIENT_STATUSES else None


class Retries:
    """The retries of one request; counts each kind of event by itself."""

    def __init__(self, *, is_safe: bool) -> None:
        self._is_safe = is_safe
        self._seen: dict[Event, int] = {}

    def delay(
        self, event: Event, *, remaining: float, jitter: float, retry_after: float | None = None
    ) -> float | None:
        """Seconds to wait before the next attempt; None when there must not be one.

        `remaining` is the request's own time in seconds, `jitter` a random number in [0, 1) that
        lengthens the delay by up to a half, so that many clients do not return at once.
        """
        rule = TABLE[event]
        earlier = self._seen.get(event, 0)
        if earlier >= rule.retries or (rule.safe_methods_only and not self._is_safe):
            return None
        delay = FIRST_DELAY * 2**earlier * (1 + jitter / 2) if rule.waits else 0.0
        if retry_after is not None:
            if retry_after > LONGEST_RETRY_AFTER:
                return None
            delay = max(delay, retry_after)
        if delay > remaining:
            return None
        self._seen[event] = earlier + 1
        return delay


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110 section 10.2.3); None without one.

    `now` is the wall clock in seconds since the epoch, for the form that names a date.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    from calendar import timegm  # both heavy, and dates are rare
    from email.utils import parsedate

    date = parsedate(value)
    try:
        return None if date is None else max(0.0, timegm(date) - now)
    except (ValueError, OverflowError):
        return None


class Backoff:
    """Delays between attempts to have a stream again (T-45): 1 s growing to 30 s.

    After something has arrived a server may ask for a shorter one; its `retry` is a minimum.
    """

    SHORTEST = 0.1
    FIRST = 1.0
    LONGEST = 30.0

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Something arrived: begin anew."""
        self._is_first = True
        self._own = self.FIRST

    def delay(self, *, asked: float | None, jitter: float) -> float:
        """Seconds to wait, lengthened by up to a quarter by `jitter`, a number in [0, 1).

        `asked` is the server's `retry` in seconds, None without one.
        """
        if asked is not None and self._is_first:
            delay = max(asked, self.SHORTEST)
        else:
            delay = max(asked or 0.0, self._own)
            self._own = min(2 * self._own, self.LONGEST)
        self._is_first = False
        return delay * (1 + jitter / 4)
