"""What a request may meet at a server that treats it badly, and what that means for it."""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """What the next request meets."""

    LOST = "the connection closes without an answer"
    STALLS = "there is no answer"
    GARBAGE = "the answer is no JSON"
    PAGE = "the answer is a web page"
    EMPTY = "the answer is empty"
    RATE_LIMITED = "429"
    UNAVAILABLE = "503 with Retry-After"
    DOWN = "503"
    BROKEN = "500"
    GATEWAY = "502"
    NOT_FOUND = "404"
    FORBIDDEN = "403"
    SCOPE = "403, as the scope of the credential is insufficient"
    BAD_SESSION = "400 about the session"


STATUSES = {
    Fault.RATE_LIMITED: (429, "1"),
    Fault.UNAVAILABLE: (503, "1"),
    Fault.DOWN: (503, None),
    Fault.BROKEN: (500, None),
    Fault.GATEWAY: (502, None),
    Fault.NOT_FOUND: (404, None),
    Fault.FORBIDDEN: (403, None),
    Fault.SCOPE: (403, None),
    Fault.BAD_SESSION: (400, None),
}


DECLINING = {Fault.RATE_LIMITED, Fault.UNAVAILABLE, Fault.NOT_FOUND, Fault.SCOPE}
"""After these a call may be sent again (P2)."""


MISLEADING = {
    Fault.STALLS, Fault.GARBAGE, Fault.PAGE, Fault.EMPTY, Fault.NOT_FOUND, Fault.BAD_SESSION,
}  # fmt: skip
"""After these the server is taken for one of the other era."""
