"""One attempt to have a token, and what those who wait for it get to know.

Owns the moments in its life that somebody waits for, and what a request is told of its failure. How
an attempt is made, and when, is `bearer`'s business.
"""

from __future__ import annotations

import logging
from enum import Enum

import trio

from mcp_stdio.errors import AskedInVain, AuthorizationFailed, RelayError, Unreachable
from mcp_stdio.log import TO_BE_FOLLOWED
from mcp_stdio.oauth.challenge import Challenge

log = logging.getLogger(__name__)


class Aim(Enum):
    """What an attempt is for."""

    RENEWAL = "a token that lasts"
    SIGN_IN = "a token"
    STEP_UP = "a token that reaches farther"


class Attempt:
    """An attempt; `refused` is the token that will not do, `challenge` what the server said of it.

    As the `Show` of its flow it tells the user of a sign-in on stderr, and those who wait where it
    is: `url`, once `is_shown`. `is_ours` once no other process is at it.
    """

    def __init__(self, aim: Aim, refused: str | None, challenge: Challenge | None) -> None:
        self.aim = aim
        self.refused = refused
        self.challenge = challenge
        self.url = ""
        self.is_ours = trio.Event()
        self.is_shown = trio.Event()
        self.is_over = trio.Event()
        self.failure: RelayError | None = AuthorizationFailed("the sign-in was broken off")

    def page(self, url: str, *, is_opened: bool, within: float) -> None:
        """A page has to be visited."""
        log.warning("sign in at %s", url, extra=TO_BE_FOLLOWED)
        self.url = url
        self.is_shown.set()

    def code(self, url: str, code: str, complete_url: str | None, *, within: float) -> None:
        """A code has to be typed."""
        text = "sign in at %s with the code %s"
        log.warning(text, complete_url or url, code, extra=TO_BE_FOLLOWED)
        self.url = complete_url or f"{url} (code {code})"
        self.is_shown.set()

    def end(self, failure: RelayError | None) -> None:
        """Tell who waits what came of it."""
        self.failure = failure
        self.is_shown.set()
        self.is_over.set()

    async def outcome(self) -> None:
        """Wait for the end. Raises what a request is told of a failure."""
        await self.is_over.wait()
        if self.failure is not None:
            raise told_again(self.failure)


def told_again(failure: RelayError) -> RelayError:
    """What a request, one of many perhaps, is told of a failure of a sign-in or renewal.

    It was refused, so it had no effect: nothing but the way to the authorization server may have
    it sent again, and its outcome is never unknown.
    """
    if isinstance(failure, AskedInVain):
        return AskedInVain(failure.failure)
    kind = type(failure) if isinstance(failure, Unreachable) else AuthorizationFailed
    again = kind(str(failure), hint=failure.hint, status=failure.status)
    again.retryable = failure.retryable and isinstance(failure, Unreachable)
    again.__cause__ = failure
    return again
