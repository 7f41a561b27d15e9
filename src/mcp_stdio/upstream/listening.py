"""The listening stream of a session: a GET that stays open as long as the server offers it.

Reconnects with the last event id and the delays of T-45, at once after the machine has slept, and
stops for good when the server declines (T-6, T-8, T-49). A 404 here says nothing about the session.
"""

from __future__ import annotations

import logging
import random

import trio

from mcp_stdio import retry, sse
from mcp_stdio.errors import ConnectionLost, RelayError
from mcp_stdio.http import Exchange, Request
from mcp_stdio.spec import EVENT_STREAM
from mcp_stdio.upstream import Emit
from mcp_stdio.upstream.exchange import Cursor, Messenger, messages_of
from mcp_stdio.upstream.handshake import Handshake

log = logging.getLogger(__name__)


async def listen(messenger: Messenger, handshake: Handshake, emit: Emit) -> None:
    """Emit what the server says of its own accord until the session ends or it declines."""
    stream = _Listening(messenger, handshake, emit)
    with handshake.listening:
        while await stream.connect():
            pass


class _Listening:
    def __init__(self, messenger: Messenger, handshake: Handshake, emit: Emit) -> None:
        self._messenger = messenger
        self._handshake = handshake
        self._emit = emit
        self._cursor = Cursor()
        self._backoff = retry.Backoff()

    async def connect(self) -> bool:
        """One connection and the pause after it; False when the server offers no such stream."""
        is_offered = True
        with self._handshake.attempt() as attempt:
            try:
                is_offered = await self._read_one()
            except RelayError as exc:
                log.info("the listening stream is not open: %s", exc)
            if not is_offered:
                self._handshake.decline_listening()
                return False
            await trio.sleep(self._backoff.delay(asked=self._cursor.retry, jitter=random.random()))
        if attempt.cancelled_caught:
            self._backoff.reset()
        return True

    async def _read_one(self) -> bool:
        headers = self._handshake.listen_headers(self._cursor.last_event_id)
        request = Request("GET", self._messenger.url, headers, is_replayable=True)
        exchange = await self._messenger.http.send(request)
        try:
            head = await exchange.head()
            if head.status == 200 and head.media_type == EVENT_STREAM:
                log.info("the listening stream is open")
                await self._read_events(exchange)
                return True
            log.info("the listening stream is answered with status %d", head.status)
            return retry.event_of_status(head.status, None) is not None
        finally:
            await exchange.aclose()

    async def _read_events(self, exchange: Exchange) -> None:
        decoder = self._cursor.decoder(self._messenger.limit)
        try:
            while chunk := await exchange.receive_some():
                events = decoder.feed(chunk)
                if events:
                    self._backoff.reset()
                for event in events:
                    await self._take(event)
                self._cursor.follow(decoder)
        except ConnectionLost as exc:
            log.info("the listening stream broke off: %s", exc)

    async def _take(self, event: sse.Event) -> None:
        for message in messages_of(event):
            if message.is_response:
                if not await self._handshake.answered_elsewhere(message):
                    log.info("dropped a response to no request on the listening stream")
                continue
            if message.is_request:
                self._handshake.asked(message, None)
            await self._emit(message)
