"""What is kept of the sign-in in use, as this process last saw it.

Owns whether others have written since: other relays renew the same tokens, and people sign in and
out by hand. Nobody tells of that, so it is looked for, by what a directory says of the file; it is
read only when that has changed. What cannot be written, as in a home that is read-only, is kept
here, for as long as this program runs and nobody else writes, or until there is room. No secret of
a record is shown in the log once it was here. When to look, and what to make of it, is the business
of `bearer`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from math import inf

import trio

from mcp_stdio.errors import StoreFailure
from mcp_stdio.oauth.private import Unwritable
from mcp_stdio.oauth.record import Record
from mcp_stdio.oauth.store import Entry
from mcp_stdio.redaction import protect_replaceable

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between looks of those who come often: one takes some 50 µs, a third of a small call."""


class Kept:
    """The record of `entry`; raises as `Entry` does."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._seen: object = None
        self._unwritten: Record | None = None
        self._unwritable: StoreFailure | None = None
        self._looked_at = -inf  # trio's clock

    def read(self) -> Record | None:
        """What is kept now; it has changed when that is no longer so."""
        # Before the reading: what is written in between is then found later.
        mark = self.entry.mark()
        if self._unwritten is not None and mark == self._seen:
            return self._unwritten
        self._seen, self._unwritten = mark, None
        record = self.entry.read()
        if record is not None:
            _protect(record)
        return record

    def known(self) -> Record:
        """What is kept now, or a record that holds nothing yet, without having seen it."""
        if self._unwritten is not None and self.entry.mark() == self._seen:
            return self._unwritten
        record = self.entry.known()
        _protect(record)
        return record

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[StoreFailure | None]:
        """Hold the entry's lock; or know why not, where no process can write and so undo a thing.

        Raises StoreFailure where it cannot be had for another reason.
        """
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.entry.locked())
                self._unwritable = None
            except Unwritable as failure:
                self._unwritable = failure
            yield self._unwritable

    def write(self, record: Record) -> None:
        """Keep this record from now on, if only here; while `alone`."""
        _protect(record)
        try:
            if self._unwritable is not None:
                raise self._unwritable
            self.entry.write(record)
        except StoreFailure as failure:
            # What it replaces may be of no use any more, and a person may have signed in for it.
            if self._unwritten is None:
                log.warning("signed in for as long as this program runs only: %s", failure)
            self._unwritten = record
            with suppress(StoreFailure):  # what lies there came before this, seen or not
                self._seen = self.entry.mark()
        else:
            self._seen, self._unwritten = self.entry.mark(), None

    async def catch_up(self) -> None:
        """Write what could not be written when it came, if there is room now and nobody else has.

        What lies there may be of no use any more, and the next start would need a person again.
        """
        if self._unwritten is not None:
            with suppress(StoreFailure), trio.move_on_after(PAUSE):
                async with self.alone() as unwritable:
                    if unwritable is None:
                        self._write_late()

    def _write_late(self) -> None:
        record = self._unwritten  # which may have been written meanwhile, for a newer one
        if record is not None and self.entry.mark() == self._seen:
            self.entry.write(record)
            self._seen, self._unwritten = self.entry.mark(), None
            log.warning("the sign-in is kept now, also beyond this run")

    def has_changed(self) -> bool:
        """Whether it is another one than was read or written here, as far as was looked."""
        now = trio.current_time()
        if now - self._looked_at < PAUSE:
            return False
        self._looked_at = now
        try:
            return self.entry.mark() != self._seen
        except StoreFailure:
            return False  # said when the next attempt needs it

    def page_elsewhere(self) -> str:
        """Where another process has somebody sign in now; empty if none has."""
        notice = self.entry.announced()
        return notice.url if notice is not None and notice.in_vain_at is None else ""

    def was_in_vain_elsewhere(self, begun: float, now: float) -> bool:
        """Whether another process has asked somebody in vain since, and was not just killed."""
        notice = self.entry.announced()
        at = -inf if notice is None or notice.in_vain_at is None else notice.in_vain_at
        # A time to come was written before the clock was put back, and would hold until then.
        return begun < at <= now


def _protect(record: Record) -> None:
    for secret in record.secrets():
        protect_replaceable(secret)  # each renewal brings others
