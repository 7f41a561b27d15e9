"""One attempt shared by all that need its outcome, and made anew by the next one when it failed.

Many requests notice at the same time that the session is gone; it is opened again once, in a task
that belongs to none of them, so that none of them can take it away from the others (T-44).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from math import inf

import trio

from mcp_stdio import retry
from mcp_stdio.errors import (
    AuthorizationFailed,
    ConnectionLost,
    Defect,
    OutputClosed,
    RelayError,
    Unreachable,
    shortage,
)

log = logging.getLogger(__name__)


class _Attempt:
    def __init__(self) -> None:
        self.done = trio.Event()
        self.failure: RelayError | None = None


class Renewal:
    """Runs `open_anew` in `nursery`, at most once at a time; `purpose` says in the log what for."""

    def __init__(
        self,
        nursery: trio.Nursery,
        open_anew: Callable[[], Awaitable[None]],
        purpose: str = "open the session anew",
    ) -> None:
        self._nursery = nursery
        self._open_anew = open_anew
        self._purpose = purpose
        self._attempt: _Attempt | None = None
        self._insisting: trio.CancelScope | None = None
        self._backoff = retry.Backoff()
        self._succeeded_at = -inf
        self._has_failed = False

    @property
    def is_under_way(self) -> bool:
        """Whether an attempt is being made."""
        return self._attempt is not None

    def start(self) -> None:
        """Begin an attempt of its own; one that runs was begun for an earlier loss."""
        self._attempt = attempt = _Attempt()
        self._nursery.start_soon(self._run, attempt)

    async def join(self) -> None:
        """Wait for the attempt under way, or for a new one. Raises the RelayError it ended in."""
        if self._attempt is None:
            self.start()
        attempt = self._attempt
        assert attempt is not None
        await attempt.done.wait()
        if attempt.failure is not None:
            raise attempt.failure

    def insist(self) -> None:
        """Try until it works, for nobody may come to ask for it.

        Begins at once, unless what the last success brought has not lasted.
        """
        if self._insisting is not None:
            return
        has_lasted = trio.current_time() - self._succeeded_at >= retry.Backoff.LONGEST
        if has_lasted:
            self._backoff.reset()
            self.start()
        self._insisting = trio.CancelScope()
        self._nursery.start_soon(self._insist, self._insisting, not has_lasted)

    def relent(self) -> None:
        """There is nothing to be had anew any more."""
        if self._insisting is not None:
            self._insisting.cancel()
            self._insisting = None

    async def _insist(self, scope: trio.CancelScope, waits: bool) -> None:
        with scope:  # until a success cancels it
            while True:
                if waits:
                    await trio.sleep(self._backoff.delay(asked=None, jitter=random.random()))
                try:
                    await self.join()
                except AuthorizationFailed:  # trying again may open a page that nobody asked for
                    self._insisting = None
                    return
                except RelayError:
                    pass
                waits = True

    async def _run(self, attempt: _Attempt) -> None:
        try:
            await self._open_anew()
        except RelayError as failure:
            level = logging.INFO if self._has_failed else logging.WARNING  # hours would be a lot
            log.log(level, "could not %s: %s", self._purpose, failure)
            self._has_failed = True
            attempt.failure = self._of_those_who_wait(failure)
        except OutputClosed:
            raise
        except Exception as exc:
            attempt.failure = shortage(exc)
            if attempt.failure is None:
                log.exception("could not %s", self._purpose)
                attempt.failure = Defect(f"internal error: could not {self._purpose}")
        else:
            self._has_failed = False
            if self._attempt is attempt:
                self._succeeded_at = trio.current_time()
                self.relent()
        finally:
            if self._attempt is attempt:
                self._attempt = None
            attempt.done.set()

    def _of_those_who_wait(self, failure: RelayError) -> RelayError:
        """What is lost is the attempt: of what waits for it, nothing was sent."""
        if isinstance(failure, ConnectionLost):
            text = f"could not {self._purpose}: {failure}"
            return Unreachable(text, hint="try again; the server may have just restarted")
        return failure
