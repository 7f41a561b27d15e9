"""The listening stream of a session: a GET that stays open as long as the server offers it.

Reconnects with the last event id and the delays of T-45, at once after the machine has slept, and
stops for good when the server declines (T-6, T-8, T-49). A 404 here says nothing about the session.
"""

from __future__ import annotations

import logging

import trio

from mcp_stdio import retry
from mcp_stdio.errors import AuthorizationFailed, RelayError, TooLarge
from mcp_stdio.http import Request
from mcp_stdio.jsonrpc import Message
from mcp_stdio.spec import EVENT_STREAM
from mcp_stdio.upstream import Emit, together
from mcp_stdio.upstream.handshake import Handshake
from mcp_stdio.upstream.stream import EventStream

log = logging.getLogger(__name__)


async def listen(handshake: Handshake, emit: Emit) -> None:
    """Emit what the server says of its own accord until the session ends or it declines."""
    stream = _Listening(handshake, emit)
    with handshake.listening:
        while await stream.connect():
            pass


class _Listening:
    def __init__(self, handshake: Handshake, emit: Emit) -> None:
        self._handshake = handshake
        self._emit_all = together(emit)
        self._stream = EventStream(handshake.messenger.limit)
        self._was_open = False

    async def connect(self) -> bool:
        """One connection and the pause after it; False when the server offers no such stream."""
        is_refused = False
        with self._handshake.attempt() as attempt:
            try:
                if not await self._read_one():
                    self._handshake.decline_listening()
                    return False
            except TooLarge as exc:
                log.warning("the listening stream begins anew: %s", exc)
                self._stream.forget()  # resumed, it would bring the same again
            except RelayError as exc:
                log.info("the listening stream is not open: %s", exc)
                is_refused = isinstance(exc, AuthorizationFailed)
            finally:
                self._handshake.listening_decided.set()
            if is_refused:  # trying again may open a page, with nobody there to ask for it
                await self._handshake.next_answer()
            await trio.sleep(self._stream.pause())
        if attempt.cancelled_caught:
            self._stream.reset()
        return True

    async def _read_one(self) -> bool:
        messenger = self._handshake.messenger
        headers = self._handshake.listen_headers(self._stream.last_event_id)
        request = Request("GET", messenger.url, headers, is_replayable=True)
        exchange = await messenger.http.send(request)
        try:
            head = await exchange.head()
            self._handshake.listening_decided.set()
            if head.status == 200 and head.media_type == EVENT_STREAM:
                log.info("the listening stream is open")
                self._was_open = True
                await self._stream.read(exchange, self._take)
                return True
            log.info("the listening stream is answered with status %d", head.status)
            if _is_for_good(head.status) and head.status not in (401, 403):
                self._stream.forget()  # started anew, a server does not know what it should resume
            return not self._declines(head.status)
        finally:
            await exchange.aclose()

    def _declines(self, status: int) -> bool:
        """Whether there is no such stream; where there was one, only 405 takes it back."""
        if self._was_open or status == 405:
            return status == 405
        return status == 501 or _is_for_good(status)

    async def _take(self, messages: list[Message]) -> bool:
        await self._handshake.take(messages, self._emit_all)
        return False


def _is_for_good(status: int) -> bool:
    """Whether the same request would be answered in the same way again."""
    return status < 500 and retry.event_of_status(status, None) is None
