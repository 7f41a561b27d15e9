"""Streamable HTTP as the handshake era has it (2025-03-26 to 2025-11-25).

Nothing is open before `initialize`, whose answer may name a session. The server is listened to on a
GET stream, where it offers one (T-6, see `listening`); a session is left with a DELETE (T-43).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from mcp_stdio.errors import RelayError
from mcp_stdio.http import Request
from mcp_stdio.upstream import Emit
from mcp_stdio.upstream.background import guarded
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.handshake import Handshake
from mcp_stdio.upstream.link import HeadersOf, no_headers
from mcp_stdio.upstream.listening import listen
from mcp_stdio.upstream.questions import Questions

log = logging.getLogger(__name__)

FAREWELL = 30.0
"""Seconds that a server may take to end a session; at the end of the program it has less."""


class StreamableHttp:
    """A transport; `nursery` runs the listening streams, `emit` takes what comes on them.

    `headers` gives what a message needs besides the headers of its session.
    """

    def __init__(
        self,
        messenger: Messenger,
        *,
        nursery: trio.Nursery,
        emit: Emit,
        headers: HeadersOf = no_headers,
    ) -> None:
        self._messenger = messenger
        self._nursery = nursery
        self._emit = emit
        self._headers = headers

    async def connect(
        self, questions: Questions[Handshake], lost: Callable[[Handshake], None]
    ) -> Handshake:
        """Nothing to do: every message is a POST of its own, and a session outlives them all."""
        return Handshake(self._messenger, questions, self._headers)

    def listen(self, handshake: Handshake) -> None:
        """Open the GET stream."""
        handshake.is_listening = True
        self._nursery.start_soon(guarded, listen, handshake, self._emit)

    async def leave(self, handshake: Handshake) -> None:
        """Send the DELETE, if there is a session."""
        handshake.listening.cancel()
        if not handshake.has_session or handshake.is_lost:
            return
        headers = handshake.farewell_headers()
        request = Request("DELETE", self._messenger.url, headers, is_replayable=True)
        with trio.move_on_after(FAREWELL):
            try:
                exchange = await self._messenger.http.send(request)
                try:
                    await exchange.head()
                finally:
                    await exchange.aclose()
            except RelayError as exc:
                log.info("could not end the session: %s", exc)
