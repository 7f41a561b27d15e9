"""What whoever signs in leaves beside the lock: where, who, since when, and whether in vain.

A value and its JSON. Others wait for the lock meanwhile, in processes of their own, and the person
in front of one of them may not see the page of the other. The page's URL is no secret from that
person: without the verifier, which is kept in memory, nobody gains anything by it. Knows no file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

MAX_URL = 64 * 1024
"""Characters of a page's URL that are believed."""

MAX_TIME = 1e12
"""Seconds since the epoch that are believed: no clock shows more, and no sum with it fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Process `pid` asks somebody to sign in at `url` since `since`; it has failed at `in_vain_at`.

    Both times are the wall clock's.
    """

    pid: int
    since: float
    url: str = field(repr=False)
    in_vain_at: float | None = None

    def to_json(self) -> bytes:
        """The notice as a JSON document."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, raw: bytes) -> Notice:
        """Read what `to_json` wrote; ValueError for anything else."""
        try:
            document = json.loads(raw)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        match document:
            case {
                "pid": int(pid),
                "since": int() | float() as since,
                "url": str(url),
                "in_vain_at": int() | float() | None as in_vain_at,
            } if (
                url.isprintable()
                and len(url) <= MAX_URL
                and 0 <= since <= MAX_TIME
                and (in_vain_at is None or 0 <= in_vain_at <= MAX_TIME)
            ):
                return cls(pid=pid, since=since, url=url, in_vain_at=in_vain_at)
        raise ValueError("it is no notice")
