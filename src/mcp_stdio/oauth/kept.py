"""What is kept of the sign-in in use, as this process last saw it.

Owns whether others have written since: other relays renew the same tokens, and people sign in and
out by hand. Nobody tells of that, so it is looked for, by what a directory says of the file; it is
read only when that has changed. No secret of a record is shown in the log once it was here. When to
look, and what to make of it, is `bearer`'s business.
"""

from __future__ import annotations

from math import inf

import trio

from mcp_stdio.errors import StoreFailure
from mcp_stdio.oauth.record import Record
from mcp_stdio.oauth.store import Entry
from mcp_stdio.redaction import protect_passing

PAUSE = 1.0
"""Seconds between looks of those who come often: one takes some 50 µs, a third of a small call."""


class Kept:
    """The record of `entry`; raises as `Entry` does."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._seen: object = None
        self._looked_at = -inf  # trio's clock

    def read(self) -> Record | None:
        """What is kept now; it has changed when that is no longer so."""
        # Before the reading: what is written in between is then found later.
        self._seen = self.entry.mark()
        record = self.entry.read()
        if record is not None:
            _protect(record)
        return record

    def known(self) -> Record:
        """What is kept now, or a record that holds nothing yet, without having seen it."""
        record = self.entry.known()
        _protect(record)
        return record

    def write(self, record: Record) -> None:
        """Keep this record from now on; under the entry's lock."""
        _protect(record)
        self.entry.write(record)
        self._seen = self.entry.mark()

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


def _protect(record: Record) -> None:
    for secret in record.secrets():
        protect_passing(secret)  # each renewal brings others
