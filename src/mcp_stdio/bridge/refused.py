"""No bridge for a client that shakes hands, where the user wants none (S-21).

Asks the server which revisions it speaks, as a bridge would, and tells the client instead of
serving it, so that whoever reads the refusal knows what to change.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcp_stdio import jsonrpc
from mcp_stdio.bridge.discovery import are_of_handshake_era, versions_in
from mcp_stdio.bridge.introduction import Introduction
from mcp_stdio.errors import CannotBridge, quote
from mcp_stdio.jsonrpc import INVALID_PARAMS, Message
from mcp_stdio.upstream import Call, Upstream, ask


class Refused:
    """Stands where a bridge to `upstream`, a server of the stateless era, would stand."""

    version: str | None = None

    def __init__(self, upstream: Upstream, *, ids: Iterator[str]) -> None:
        self._upstream = upstream
        self._ids = ids

    async def send(self, message: Message, call: Call) -> None:
        """Refuse `initialize`, which is all that is ever sent here.

        Raises CannotBridge when the server is not of the stateless era, and whatever its
        `server/discover` raises.
        """
        assert message.id is not None
        introduction = Introduction.of(message)
        question = introduction.discover(next(self._ids))
        found = await ask(self._upstream, question, call)
        versions = [] if found is None else versions_in(found)
        if are_of_handshake_era(versions):
            raise CannotBridge(
                "the server does not speak the protocol revision 2026-07-28",
                hint="leave out `--protocol-era modern`",
            )
        names = ", ".join(quote(name, 20) for name in versions[:10])
        text = (
            f"Unsupported protocol version: the remote server speaks {names}; "
            "leave out `--bridge never` to have the client bridged"
        )
        data = {"supported": versions, "requested": introduction.requested}
        await call.emit(jsonrpc.error(message.id, INVALID_PARAMS, text, data))

    def refresh(self) -> None:
        """See `Upstream.refresh`."""
        self._upstream.refresh()

    async def aclose(self) -> None:
        """See `Upstream.aclose`."""
        await self._upstream.aclose()
