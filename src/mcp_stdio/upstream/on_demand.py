"""An upstream that is made when something is sent to it: a way that is not taken costs nothing.

Most runs need one of several ways to the server, and the modules of the others are never loaded.
"""

from __future__ import annotations

from collections.abc import Callable

from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Sending, Upstream


class OnDemand:
    """Stands for the upstream that `make` makes, once."""

    def __init__(self, make: Callable[[], Upstream]) -> None:
        self._make = make
        self._made: Upstream | None = None

    @property
    def version(self) -> str | None:
        """See `Upstream.version`."""
        return None if self._made is None else self._made.version

    def send(self, message: Message, call: Call) -> Sending:
        """See `Upstream.send`."""
        if self._made is None:
            self._made = self._make()
        return self._made.send(message, call)

    def refresh(self) -> None:
        """See `Upstream.refresh`."""
        if self._made is not None:
            self._made.refresh()

    async def aclose(self) -> None:
        """See `Upstream.aclose`."""
        if self._made is not None:
            await self._made.aclose()
