"""The seam between HTTP and credentials: whoever has them says which headers a request carries.

The client asks before each request and once more when the server refused; how a credential is
come by is not its business. The one here has what the user gave; a sign-in would be another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mcp_stdio.http import Head, Request


class Authorizer(Protocol):
    """Supplies the user's headers, `Authorization` among them, for one origin."""

    @property
    def is_ready(self) -> bool:
        """Whether `headers` would answer without waiting."""
        ...

    async def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers to send now; of a name given twice the last one counts."""
        ...

    async def renew(self, refused: Request, head: Head) -> bool:
        """Get a better credential after a 401 or 403; True when the request is worth a replay.

        `refused` is the request with the headers it was sent with: a credential that has been
        renewed meanwhile, for another request, need not be renewed again.
        """
        ...

    def accepted(self, request: Request) -> None:
        """The server has answered `request` with something else than a 401 or 403."""
        ...


class Fixed:
    """The headers of the settings, as they are."""

    is_ready = True

    def __init__(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        self._headers = tuple(headers)

    async def headers(self) -> tuple[tuple[str, str], ...]:
        """What was given."""
        return self._headers

    async def renew(self, refused: Request, head: Head) -> bool:
        """Never: there is nothing but what was given."""
        return False

    def accepted(self, request: Request) -> None:
        """What was given stays what it is."""
