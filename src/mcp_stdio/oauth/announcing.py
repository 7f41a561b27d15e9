"""Tells the processes that wait for the lock of a sign-in where somebody is asked to sign in.

Owns the life of the `Notice`: there while somebody is asked, gone once they have signed in or the
asking was broken off, and left with the time where it was in vain. One that is there though nobody
holds the lock is that of a process that was killed; `store` removes it. It is a courtesy: where it
cannot be written, the sign-in goes on without.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

from mcp_stdio.errors import RelayError, StoreFailure
from mcp_stdio.oauth.notice import Notice
from mcp_stdio.oauth.performer import Show
from mcp_stdio.oauth.store import Entry

log = logging.getLogger(__name__)


class Announcing:
    """A `Show` around `show`; `with` it under the entry's lock, for one sign-in."""

    def __init__(self, entry: Entry, show: Show, clock: Callable[[], float] = time.time) -> None:
        self._entry = entry
        self._show = show
        self._clock = clock
        self._notice: Notice | None = None

    def __enter__(self) -> Announcing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._notice is not None:
            is_in_vain = isinstance(exc, RelayError)
            self._leave(replace(self._notice, in_vain_at=self._clock()) if is_in_vain else None)

    def page(self, url: str, *, is_opened: bool, within: float) -> None:
        """A page has to be visited."""
        self._show.page(url, is_opened=is_opened, within=within)
        self._announce(url)

    def code(self, url: str, code: str, complete_url: str | None, *, within: float) -> None:
        """A code has to be typed."""
        self._show.code(url, code, complete_url, within=within)
        self._announce(complete_url or f"{url} (code {code})")

    def _announce(self, url: str) -> None:
        self._notice = Notice(pid=os.getpid(), since=self._clock(), url=url)
        self._leave(self._notice)

    def _leave(self, notice: Notice | None) -> None:
        try:
            self._entry.announce(notice)
        except StoreFailure as failure:
            log.debug("other processes are not told of the sign-in: %s", failure)
