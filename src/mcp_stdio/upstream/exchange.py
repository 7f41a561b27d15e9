"""One message and what comes back for it, over as many HTTP exchanges as that takes.

Sends, reads JSON, an event stream or 202, tries again where the retry table allows it, resumes a
broken stream, and tells the server when nobody waits any more. The answer belongs to the request by
the rules kept here (T-3, T-10, T-15, T-45 to T-47, T-52). Knows headers only through its `Link`,
and of sessions nothing.
"""

from __future__ import annotations

import logging
import random
from contextlib import suppress

import trio

from mcp_stdio import jsonrpc, retry
from mcp_stdio.errors import (
    BadAnswer,
    ConnectionLost,
    RelayError,
    SessionLost,
    Unreachable,
)
from mcp_stdio.http import Exchange, Head, Lane, Request
from mcp_stdio.http.body import read_body
from mcp_stdio.http.url import Url
from mcp_stdio.jsonrpc import Message, NotAMessage
from mcp_stdio.spec import EVENT_STREAM, JSON, LISTEN, SAFE_METHODS
from mcp_stdio.upstream import Call, Sending
from mcp_stdio.upstream.link import Link, LinkLost
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.refusal import HttpRefusal, refusal
from mcp_stdio.upstream.stream import EventStream
from mcp_stdio.upstream.unusable import no_message, strange

log = logging.getLogger(__name__)

LINGER = 1.0
"""Seconds that a withdrawn request may still be told off and listened to (T-61)."""

MAY_HAVE_RUN = frozenset({retry.Event.LOST, retry.Event.BROKEN, retry.Event.TRANSIENT})
"""What leaves it open whether the server has acted: the next attempt is another request (T-13)."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""JSON has none (RFC 8259 section 8.1), but some servers write it and a reader may ignore it."""


class Messenger:
    """Sends messages to one URL under any link; `limit` bounds one message in bytes."""

    def __init__(self, http: Lane, url: Url, *, limit: int) -> None:
        self.http = http
        self.url = url
        self.limit = limit

    def ask(self, message: Message, link: Link, call: Call, patience: Patience) -> Sending:
        """Send a request and emit all that comes back, the answer last.

        Raises RelayError where there is no answer; HttpRefusal may carry one that is not emitted.
        Enter `patience` around it.
        """
        return _Inquiry(self, message, link, call, patience).run()

    async def tell(self, message: Message, link: Link, call: Call, patience: Patience) -> None:
        """Send a notification or a response; the body of the reply is of no interest (T-5).

        A response may arrive twice without harm, so that one is sent again when it may be lost.
        """
        retries = retry.Retries(is_safe=message.is_response)
        while True:
            try:
                exchange = await self.post(message, link, call, patience)
                try:
                    head = await exchange.head()
                    if not 200 <= head.status < 300:
                        raise await refusal(exchange, head, None)
                    return
                finally:
                    await exchange.aclose()
            except RelayError as failure:
                await _pause(retries, failure, call, patience)

    async def post(self, message: Message, link: Link, call: Call, patience: Patience) -> Exchange:
        """Put a message on its way when its turn has come."""
        request = Request(
            "POST",
            self.url,
            link.headers(message),
            message.raw,
            is_replayable=message.method in SAFE_METHODS,
        )
        await call.turn.come()
        if not self.http.is_ready(request):
            call.turn.over()
            patience.hold()  # connecting has a limit of its own
        exchange = await self.http.send(request)
        call.turn.over()
        patience.heard()
        return exchange


class _Inquiry:
    """One request under way; `_sent` is how the server knows it, `_message` how the client does."""

    __slots__ = (
        "_call", "_exchange", "_has_head", "_link", "_message", "_messenger", "_patience", "_sent",
        "_was_sent",
    )  # fmt: skip

    def __init__(
        self, messenger: Messenger, message: Message, link: Link, call: Call, patience: Patience
    ) -> None:
        self._messenger = messenger
        self._message = message
        self._sent = message
        self._link = link
        self._call = call
        self._patience = patience
        self._exchange: Exchange | None = None
        self._has_head = False
        self._was_sent = False

    async def run(self) -> None:
        retries: retry.Retries | None = None
        self._patience.is_harmless = self._message.method in SAFE_METHODS
        self._link.opened(self._sent, self._call, self._patience)
        try:
            while True:
                try:
                    await self._attempt()
                    return
                except RelayError as failure:
                    await self._close()
                    if self._patience.is_done:
                        return
                    method = self._message.method
                    if method in SAFE_METHODS:
                        _harmless(failure)
                    if retries is None:
                        # Whoever listens has a pace of his own.
                        retries = retry.Retries(is_safe=method in SAFE_METHODS - {LISTEN})
                    elif isinstance(failure, HttpRefusal):
                        failure.came_later = True
                    await _pause(retries, failure, self._call, self._patience)
                    if event_of(failure)[0] in MAY_HAVE_RUN:
                        self._begin_anew()
        except trio.Cancelled:
            await self._abandon()
            raise
        finally:
            self._link.closed(self._sent)
            await self._close()

    def _begin_anew(self) -> None:
        """The request may have run and is sent again: under the id that the era wants for that."""
        anew = self._link.anew(self._message)
        if anew is not self._sent:
            self._link.closed(self._sent)
            self._sent = anew
            self._link.opened(self._sent, self._call, self._patience)

    async def _attempt(self) -> None:
        exchange = await self._messenger.post(self._sent, self._link, self._call, self._patience)
        head = await self._head(exchange)
        self._was_sent = True
        self._patience.heard()
        if not 200 <= head.status < 300:
            raise await refusal(exchange, head, self._message.id)
        self._link.begun(self._sent, head)
        media_type = head.media_type
        if self._link.answers_elsewhere:
            if not await self._read_aside(exchange):
                await self._close()
                await self._link.wait_elsewhere(self._sent)
        elif media_type == EVENT_STREAM:
            await self._read_stream(exchange)
        elif head.status in (202, 204):
            await self._close()
            await self._link.wait_elsewhere(self._sent)
        elif media_type == JSON:
            await self._read_json(exchange, head)
        else:
            raise await strange(exchange, head)

    async def _head(self, exchange: Exchange) -> Head:
        self._exchange = exchange
        head = await exchange.head()
        self._has_head = True
        return head

    async def _close(self) -> None:
        if self._exchange is not None:
            exchange, self._exchange, self._has_head = self._exchange, None, False
            await exchange.aclose()

    # One JSON body

    async def _read_json(self, exchange: Exchange, head: Head) -> None:
        body = await read_body(exchange, self._messenger.limit, self._patience.heard)
        try:
            messages = jsonrpc.parse_many(body.removeprefix(BYTE_ORDER_MARK))
        except NotAMessage as exc:
            failure = no_message(body, head, exc)
            raise failure or self._outcome_unknown("the server's answer broke off") from None
        self._patience.hold()  # the client may take its time to read
        is_answered = False
        for message in messages:
            if message.is_response:
                is_sole = len(messages) == 1
                is_answered = await self._answer(message, is_sole=is_sole) or is_answered
            elif self._link.overheard(message, self._sent):
                await self._call.emit(message)
        if not is_answered:
            raise BadAnswer("the server answered under another id than the request's")

    async def _read_aside(self, exchange: Exchange) -> bool:
        """Whether the answer was in the body, where as a rule none is (T-91)."""
        try:
            body = await read_body(exchange, self._messenger.limit, self._patience.heard)
            messages = jsonrpc.parse_many(body.removeprefix(BYTE_ORDER_MARK))
        except (NotAMessage, RelayError):  # `Accepted`, or whatever a server likes to say
            return False
        for message in messages:
            if message.is_response and await self._answer(message, is_sole=len(messages) == 1):
                return True
        return False

    # An event stream

    async def _read_stream(self, exchange: Exchange) -> None:
        stream = EventStream(self._messenger.limit)
        while not await stream.read(exchange, self._take_some):
            exchange = await self._resume(stream)

    async def _take_some(self, messages: list[Message]) -> bool:
        self._patience.hold()  # the client may take its time to read
        run: list[Message] = []  # what came together is emitted together
        for message in messages:
            if not message.is_response:
                if self._link.overheard(message, self._sent):
                    run.append(message)
                continue
            if run:
                await self._call.emit_all(run)
                run = []
            if await self._answer(message, is_sole=False):
                return True
        if run:
            await self._call.emit_all(run)
        self._patience.heard()
        return False

    async def _resume(self, stream: EventStream) -> Exchange:
        """The next connection of a stream that ended before the answer (T-45, T-46)."""
        pause = stream.pause()
        self._patience.heard(pause)
        while True:
            await self._close()
            headers = None
            if stream.last_event_id is not None:
                headers = self._link.resume_headers(stream.last_event_id)
            if headers is None:
                cause = stream.broken_by or "the response ended before the answer"
                raise self._outcome_unknown(cause)
            await trio.sleep(pause)
            request = Request("GET", self._messenger.url, headers, is_replayable=True)
            try:
                exchange = await self._messenger.http.send(request)
                head = await self._head(exchange)
            except (Unreachable, ConnectionLost) as exc:
                log.info("could not resume a response stream yet: %s", exc)
                self._patience.unasked()
            except RelayError as exc:
                raise self._outcome_unknown(
                    f"the response broke off and cannot be resumed: {exc}"
                ) from exc
            else:
                if head.status == 200 and head.media_type == EVENT_STREAM:
                    self._patience.heard()
                    return exchange
                if head.status == 404 and self._link.has_session:
                    raise SessionLost("the session ended while the call was running")
                if retry.event_of_status(head.status, None) is None:
                    text = "the response broke off and the server does not resume it"
                    raise self._outcome_unknown(text, head.status)
            pause = stream.pause()

    def _outcome_unknown(
        self, cause: str | ConnectionLost, status: int | None = None
    ) -> ConnectionLost:
        advice = None if isinstance(cause, str) else cause.advice
        if not self._patience.is_harmless:
            cause = f"{cause}; whether the call ran is unknown"
        return ConnectionLost(str(cause), status=status, answer_begun=True, advice=advice)

    # Messages

    async def _answer(self, response: Message, *, is_sole: bool) -> bool:
        """Emit a response if it is the answer; whether it was."""
        if not self._is_answer(response, is_sole=is_sole):
            log.warning("dropped a response to another request on this one's stream")
            return False
        assert self._message.id is not None
        if not jsonrpc.same_id(response.id, self._message.id):
            response = response.with_id(self._message.id)
        await self._call.emit(response)
        return True

    def _is_answer(self, response: Message, *, is_sole: bool) -> bool:
        # An error without the request's id that came back on its POST is its own (T-15).
        is_orphan = response.error is not None and (is_sole or response.id is None)
        return is_orphan or jsonrpc.same_id(response.id, self._sent.id)

    # The end before the answer

    async def _abandon(self) -> None:
        """Cancelled by the client or out of time: say so, then listen a moment longer (T-61)."""
        if self._link.closing_cancels:
            return
        withdrawn = self._call.leave.withdrawn
        was_sent = self._was_sent or (self._exchange is not None and self._exchange.was_sent)
        if not was_sent or not (withdrawn or self._patience.ended_by_time):
            return
        with self._call.leave.shielded(LINGER), suppress(RelayError):
            await self._link.abandon(self._sent, withdrawn)
            # Only what has begun to answer is listened to: asking a lane for the head once more
            # may send the request once more.
            if withdrawn is not None and self._exchange is not None and self._has_head:
                while await self._exchange.receive_some():
                    pass


def _harmless(failure: RelayError) -> None:
    """What becomes of a request that may be repeated in any case: nothing is to be feared."""
    if isinstance(failure, ConnectionLost):
        failure.of_harmless_request()
    elif isinstance(failure, HttpRefusal):
        failure.retryable = failure.event is not None


async def _pause(
    retries: retry.Retries, failure: RelayError, call: Call, patience: Patience
) -> None:
    """Wait until the next attempt; raises `failure` when there must be none."""
    event, retry_after = event_of(failure)
    delay = None
    if event is not None:
        delay = retries.delay(
            event,
            remaining=patience.remaining,
            jitter=random.random(),
            retry_after=retry_after,
        )
    if delay is None:
        raise failure
    call.turn.over()
    patience.hold()
    log.info("trying again in %.1f s: %s", delay, failure)
    await trio.sleep(delay)


def event_of(failure: RelayError) -> tuple[retry.Event | None, float | None]:
    """The row of the retry table for a failure, if it has one, and its `Retry-After`."""
    match failure:
        case LinkLost():
            return None, None
        case Unreachable():
            return retry.Event.NOT_SENT, None
        case ConnectionLost():
            return (retry.Event.BROKEN if failure.answer_begun else retry.Event.LOST), None
        case HttpRefusal():
            return failure.event, failure.retry_after
    return None, None
