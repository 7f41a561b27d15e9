"""The tokens in use: when they expire, when to renew them, and whether they differ from others.

All by the wall clock, which goes on while the machine sleeps. Knows no store and no flow, and
decides nothing: `bearer` asks it and acts.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio

from mcp_stdio.config import OAuth
from mcp_stdio.http import Request
from mcp_stdio.oauth.record import Record, Tokens

AUTHORIZATION = "Authorization"

Headers = tuple[tuple[str, str], ...]

MARGIN = 60.0
"""Seconds before its expiry at which a token is renewed; less for one that lives for minutes."""


class Holding:
    """`tokens` are those to be sent; `has_changed` is set when others replace them."""

    def __init__(self, oauth: OAuth, clock: Callable[[], float]) -> None:
        self._oauth = oauth
        self._clock = clock
        self._renew_at = inf
        self.tokens: Tokens | None = None
        self.has_changed = trio.Event()

    def take_over(self, record: Record | None) -> None:
        """Hold from now on what a record holds."""
        self.tokens = tokens = None if record is None else record.tokens
        self._renew_at = inf
        if tokens is not None and tokens.expires_at is not None and self.is_renewable:
            left = tokens.expires_at - self._clock()
            self._renew_at = tokens.expires_at - min(MARGIN, max(left, 0.0) / 4)
        self.has_changed.set()
        self.has_changed = trio.Event()

    def put_off(self, seconds: float) -> None:
        """Renew not before so many seconds have passed."""
        self._renew_at = max(self._renew_at, self._clock() + seconds)

    @property
    def is_renewable(self) -> bool:
        """Whether others can be had in their place without a person."""
        if self.tokens is None:
            return False
        has_grant = self.tokens.refresh_token is not None
        return has_grant or self._oauth.grant == "client-credentials"

    def may_run_out(self, seconds: float) -> bool:
        """Whether a token that could be renewed without a person will not last for so long."""
        held = self.tokens
        if held is None or held.refresh_token is None or held.expires_at is None:
            return False
        return held.expires_at - self._clock() < seconds

    @property
    def due_in(self) -> float:
        """Seconds until they are to be renewed, 0 when that is due."""
        return max(self._renew_at - self._clock(), 0.0)

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew them."""
        return self.due_in == 0

    @property
    def has_expired(self) -> bool:
        """Whether there are tokens that nobody takes any more."""
        return self.tokens is not None and self.is_over(self.tokens)

    def is_over(self, tokens: Tokens) -> bool:
        """Whether tokens have expired, held or not."""
        return tokens.expires_at is not None and self._clock() >= tokens.expires_at

    def replaces(self, sent: str | None) -> bool:
        """Whether there is a token to be sent that is not the one that was `sent`."""
        held = self.tokens
        return held is not None and held.bearer != sent and not self.is_over(held)


def shown_by(request: Request) -> str | None:
    """The bearer token that a request was sent with."""
    for name, value in request.headers:
        if name.lower() == "authorization" and value.startswith("Bearer "):
            return value.removeprefix("Bearer ")
    return None


def with_authorization_of(given: Headers, request: Request) -> Request:
    """The request with the `Authorization` of these headers, if any, in place of its own."""
    kept = [each for each in request.headers if each[0].lower() != AUTHORIZATION.lower()]
    kept += [each for each in given if each[0].lower() == AUTHORIZATION.lower()]
    return request._replace(headers=tuple(kept))
