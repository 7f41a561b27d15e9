"""What the person at the terminal is told while they wait: what for, where to go, how long.

Owns the words and the live line under them. In a pipe only whole lines are written, so each says
all that stays true; so does the one above a prompt, where no line may count. Pages and codes are
shown as they are: they are there to be followed. Refuses to know what comes after what.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import TypeVar
from urllib.parse import urlsplit

import trio

from mcp_stdio import log
from mcp_stdio.errors import quote
from mcp_stdio.oauth.commands import Fetch, Fetched
from mcp_stdio.terminal import AFTER, LiveLine, is_live

T = TypeVar("T")

PROMPT = "address: "
"""What an address is pasted behind."""


class Narrator:
    """Tells the person at the terminal what to do, and what goes on meanwhile.

    With `may_paste` they may answer with the address that a browser ended at.
    """

    def __init__(self, *, may_paste: bool = False, line: LiveLine | None = None) -> None:
        self.may_paste = may_paste
        self._line = line or LiveLine(sys.stderr, is_live=is_live(sys.stderr))
        self._what = ""
        self._until = inf
        self._fetch: Fetch | None = None
        self._fetching_since = inf

    def tell(self, text: str) -> None:
        """Write whole lines that stay."""
        self._line.tell(text)

    def page(self, url: str, *, is_opened: bool, within: float) -> None:
        """A page has to be visited."""
        how = "a window opens to sign in; if none does," if is_opened else "to sign in,"
        limit = "" if self.may_paste else _within(within)
        self.tell(f"{how} open this page{limit}:\n\n    {url}\n")
        self._wait("" if self.may_paste else "waiting for the browser to come back", within)
        if self.may_paste:
            self._tell_what_to_paste()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Let them paste: nothing is drawn meanwhile."""
        with self._line.asking(PROMPT):
            yield

    def entered(self, line: str) -> None:
        """They have pressed Enter after `line`; an empty one wants to know how things are."""
        self._line.entered()
        if not line.strip():
            self._tell_what_to_paste()

    def code(self, url: str, code: str, complete_url: str | None, *, within: float) -> None:
        """A code has to be typed."""
        self.tell(
            f"open this page{_within(within)}:\n\n    {complete_url or url}\n\n"
            f"and confirm the code:\n\n    {code}\n"
        )
        self._wait(f"waiting until the code {code} is confirmed", within)

    async def during(self, work: Callable[[], Awaitable[T]], what: str = "") -> T:
        """What `work` returns or raises; the line says what it waits for, `what` at first."""
        self._wait(what, inf)
        with log.making_way(self._line.clear):
            return await self._line.during(work, self._says)

    def fetching(
        self, fetch: Callable[[Fetch], Awaitable[Fetched]]
    ) -> Callable[[Fetch], Awaitable[Fetched]]:
        """A `fetch` of which the line tells if it takes long."""

        async def told(command: Fetch) -> Fetched:
            self._fetch, self._fetching_since = command, trio.current_time()
            try:
                return await fetch(command)
            finally:
                self._fetch = None

        return told

    def _tell_what_to_paste(self) -> None:
        limit = "" if self._until == inf else f" up to {self._left()}"
        self.tell(
            f"waiting{limit} for the browser to come back;\n"
            "or paste here where it was sent in the end, and press Enter"
        )

    def _wait(self, what: str, within: float) -> None:
        self._what = what
        self._until = trio.current_time() + within

    def _says(self, elapsed: float) -> str:
        now = trio.current_time()
        if self._fetch is not None and now - self._fetching_since >= AFTER:
            seconds = now - self._fetching_since
            host = quote(urlsplit(self._fetch.url).netloc)
            return f"waiting for {host} to {self._fetch.purpose}: {seconds:.0f} s"
        if not self._what:
            return ""
        if self._until == inf:
            return f"{self._what}: {elapsed:.0f} s"
        return f"{self._what}: {self._left()} left"

    def _left(self) -> str:
        left = max(0, round(self._until - trio.current_time()))
        return f"{left // 60}:{left % 60:02}"


def _within(seconds: float) -> str:
    if seconds == inf:
        return ""
    if seconds < 90:
        return f" within {seconds:.0f} seconds"
    return f" within {seconds / 60:.0f} minutes"
