"""One message and what comes back for it, over as many HTTP exchanges as that takes.

Sends, reads JSON, an event stream or 202, tries again where the retry table allows it, resumes a
broken stream, and tells the server when nobody waits any more. The answer belongs to the request by
the rules kept here (T-3, T-10, T-15, T-40d, T-45 to T-47, T-52). Knows headers only through its
`Link`, and of sessions nothing.
"""

from __future__ import annotations

import logging
import random
import time
from contextlib import suppress
from dataclasses import dataclass

import trio

from mcp_stdio import jsonrpc, retry, sse
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    ConnectionLost,
    Refused,
    RelayError,
    SessionLost,
    Unreachable,
    quote,
)
from mcp_stdio.http import Exchange, Head, Lane, Request
from mcp_stdio.http.body import read_body
from mcp_stdio.http.url import Url
from mcp_stdio.jsonrpc import Message, NotAMessage
from mcp_stdio.spec import EVENT_STREAM, JSON, SAFE_METHODS
from mcp_stdio.upstream import Call
from mcp_stdio.upstream.link import Link
from mcp_stdio.upstream.patience import Patience

log = logging.getLogger(__name__)

LINGER = 1.0
"""Seconds that a withdrawn request may still be told off and listened to (T-61)."""

ONE_WRITE = 64 * 1024
"""Bytes that a connection takes in one go; a longer message does not hold up those behind it."""

ERROR_BODY = 1024 * 1024
"""Bytes of an error response that are read: enough for any JSON-RPC error."""


class HttpRefusal(Refused):
    """An HTTP error status; `answer` is the server's JSON-RPC error under the request's id."""

    def __init__(
        self,
        cause: str,
        *,
        status: int,
        text: str,
        hint: str | None,
        answer: Message | None,
        retry_after: float | None,
    ) -> None:
        super().__init__(cause, status=status, text=text, hint=hint)
        self.answer = answer
        self.retry_after = retry_after


class StreamBroken(ConnectionLost):
    """An event stream ended before the answer and cannot be resumed (T-47)."""


@dataclass(slots=True)
class Cursor:
    """Where a stream can be resumed, and how soon (`retry`, seconds)."""

    last_event_id: str | None = None
    retry: float | None = None

    def decoder(self, limit: int) -> sse.Decoder:
        """A decoder for the next connection of the stream."""
        return sse.Decoder(limit, self.last_event_id or "")

    def follow(self, decoder: sse.Decoder) -> None:
        """Take over what the stream said last; an id that no header can carry is none."""
        id = decoder.last_event_id
        self.last_event_id = id if id and id.isprintable() else None
        if decoder.retry is not None:
            self.retry = decoder.retry / 1000


class Messenger:
    """Sends messages to one URL under any link; `limit` bounds one message in bytes."""

    def __init__(self, http: Lane, url: Url, *, limit: int) -> None:
        self.http = http
        self.url = url
        self.limit = limit

    async def ask(self, message: Message, link: Link, call: Call, patience: Patience) -> None:
        """Send a request and emit all that comes back, the answer last.

        Raises RelayError where there is no answer; HttpRefusal may carry one that is not emitted.
        Enter `patience` around it.
        """
        await _Inquiry(self, message, link, call, patience).run()

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
        if len(message.raw) > ONE_WRITE or not self.http.is_ready(request):
            call.turn.over()
        patience.hold()  # connecting has a limit of its own
        exchange = await self.http.send(request)
        call.turn.over()
        patience.heard()
        return exchange


class _Inquiry:
    """One request under way."""

    def __init__(
        self, messenger: Messenger, message: Message, link: Link, call: Call, patience: Patience
    ) -> None:
        self._messenger = messenger
        self._message = message
        self._link = link
        self._call = call
        self._patience = patience
        self._exchange: Exchange | None = None
        self._was_sent = False

    async def run(self) -> None:
        retries = retry.Retries(is_safe=self._message.method in SAFE_METHODS)
        self._link.opened(self._message, self._call, self._patience)
        try:
            while True:
                try:
                    await self._attempt()
                    return
                except RelayError as failure:
                    await _pause(retries, failure, self._call, self._patience)
        except trio.Cancelled:
            await self._abandon()
            raise
        finally:
            self._link.closed(self._message)
            await self._close()

    async def _attempt(self) -> None:
        await self._close()
        self._exchange = await self._messenger.post(
            self._message, self._link, self._call, self._patience
        )
        self._was_sent = True
        head = await self._exchange.head()
        self._patience.heard()
        if not 200 <= head.status < 300:
            raise await refusal(self._exchange, head, self._message.id)
        self._link.begun(self._message, head)
        if head.media_type == EVENT_STREAM:
            cursor = Cursor()
            if not await self._read_stream(self._exchange, cursor):
                await self._resume(cursor)
        elif head.media_type == JSON:
            await self._read_json(self._exchange)
        elif head.status in (202, 204):
            await self._close()
            await self._link.wait_elsewhere(self._message)
        else:
            raise await self._strange(self._exchange, head)

    async def _read_json(self, exchange: Exchange) -> None:
        body = await read_body(exchange, self._messenger.limit, self._patience.heard)
        try:
            messages = jsonrpc.parse_many(body)
        except NotAMessage as exc:
            if not body.strip():
                raise BadAnswer("the server's answer is empty") from None
            raise BadAnswer(f"the server's answer is no JSON-RPC message: {exc}") from None
        is_answered = False
        for message in messages:
            is_answered = await self._take(message, is_sole=len(messages) == 1) or is_answered
        if not is_answered:
            raise BadAnswer("the server answered under another id than the request's")

    async def _read_stream(self, exchange: Exchange, cursor: Cursor) -> bool:
        """Emit what the stream brings; whether the answer was among it."""
        decoder = cursor.decoder(self._messenger.limit)
        try:
            while chunk := await exchange.receive_some():
                self._patience.heard()
                for event in decoder.feed(chunk):
                    if await self._take_event(event):
                        return True
                cursor.follow(decoder)
        except ConnectionLost as exc:
            log.info("a response stream broke off: %s", exc)
        return False

    async def _take_event(self, event: sse.Event) -> bool:
        is_answer = False
        for message in messages_of(event):
            is_answer = await self._take(message, is_sole=False) or is_answer
        return is_answer

    async def _take(self, message: Message, *, is_sole: bool) -> bool:
        """Emit one message; whether it was the answer."""
        if message.is_response:
            if not jsonrpc.same_id(message.id, self._message.id):
                # An error without the request's id that came back on its POST is its own (T-15).
                if message.error is None or not (is_sole or message.id is None):
                    log.warning("dropped a response to another request on this one's stream")
                    return False
                assert self._message.id is not None
                message = message.with_id(self._message.id)
            await self._call.emit(message)
            return True
        if message.is_request:
            self._link.asked(message, self._message)
        await self._call.emit(message)
        return False

    async def _resume(self, cursor: Cursor) -> None:
        """Go on reading a broken stream where it ended (T-45, T-46)."""
        backoff = retry.Backoff()
        while True:
            headers = (
                None
                if cursor.last_event_id is None
                else self._link.resume_headers(cursor.last_event_id)
            )
            await self._close()
            if headers is None:
                raise StreamBroken(
                    "the response ended before the answer; whether the call ran is unknown",
                    hint="check the effect before you call again",
                    answer_begun=True,
                )
            await trio.sleep(backoff.delay(asked=cursor.retry, jitter=random.random()))
            request = Request("GET", self._messenger.url, headers, is_replayable=True)
            try:
                self._exchange = await self._messenger.http.send(request)
                head = await self._exchange.head()
            except (Unreachable, ConnectionLost) as exc:
                log.info("could not resume a response stream yet: %s", exc)
                continue
            self._patience.heard()
            if head.status == 200 and head.media_type == EVENT_STREAM:
                before = cursor.last_event_id
                if await self._read_stream(self._exchange, cursor):
                    return
                if cursor.last_event_id != before:
                    backoff.reset()
            elif retry.event_of_status(head.status, None) is None:
                await self._close()
                if head.status == 404 and self._link.has_session:
                    raise SessionLost("the session ended while the call was running")
                raise StreamBroken(
                    "the response broke off and the server does not resume it; "
                    "whether the call ran is unknown",
                    hint="check the effect before you call again",
                    status=head.status,
                    answer_begun=True,
                )

    async def _strange(self, exchange: Exchange, head: Head) -> RelayError:
        body = await _start_of_body(exchange)
        if not body.strip():
            return BadAnswer(f"the server's answer is empty (status {head.status})")
        kind = quote(head.media_type) or "no content type"
        return BadAnswer(
            f"the server answered {head.status} with {kind} instead of JSON or an event stream: "
            f"{quote(body.decode(errors='replace'))}",
            hint="check that the URL is that of an MCP endpoint",
        )

    async def _abandon(self) -> None:
        """Cancelled by the client or out of time: say so, then listen a moment longer (T-61)."""
        withdrawn = self._call.leave.withdrawn
        if not self._was_sent or not (withdrawn or self._patience.ended_by_time):
            return
        with self._call.leave.shielded(LINGER), suppress(RelayError):
            await self._link.abandon(self._message, withdrawn)
            if withdrawn is not None and self._exchange is not None:
                await self._exchange.head()
                while await self._exchange.receive_some():
                    pass

    async def _close(self) -> None:
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            await exchange.aclose()


def messages_of(event: sse.Event) -> list[Message]:
    """The messages of one event; none for what Streamable HTTP does not define (T-40c, T-40d)."""
    if event.type != "message" or not event.data:
        return []
    try:
        return jsonrpc.parse_many(event.data)
    except NotAMessage as exc:
        log.warning("skipped an event that is no JSON-RPC message: %s", exc)
        return []


async def refusal(exchange: Exchange, head: Head, id: jsonrpc.Id | None) -> RelayError:
    """What an HTTP error status means; the server's own JSON-RPC error is kept (T-15)."""
    body = await _start_of_body(exchange)
    text = quote(body.decode(errors="replace"))
    if head.status == 401:
        return _unauthorized(head, text)
    answer = None if id is None else _error_in(body, head, id)
    if head.status == 403 and answer is None:
        return AuthorizationFailed(
            _with_text("the server refused access (403)", text),
            hint="the credential may lack a permission",
            status=403,
        )
    return HttpRefusal(
        _with_text(f"the server answered with status {head.status}", text),
        status=head.status,
        text=text,
        hint=_HINTS.get(head.status),
        answer=answer,
        retry_after=retry.parse_retry_after(head.headers.get("retry-after"), time.time()),
    )


_HINTS = {
    404: "check the path of the URL; MCP endpoints are often at `/mcp`",
    405: "the URL takes no POST; check its path, MCP endpoints are often at `/mcp`",
    406: "the server wants another form of answer than MCP defines",
    413: "the server takes no message of this size",
    429: "the server limits the rate; try again later",
    502: "a gateway could not reach the server; try again later",
    503: "the server is not available; try again later",
    504: "a gateway waited in vain for the server; try again later",
}


def _unauthorized(head: Head, text: str) -> AuthorizationFailed:
    challenge = quote(", ".join(head.headers.get_all("www-authenticate")))
    return AuthorizationFailed(
        _with_text("the server wants a valid credential (401)", challenge or text),
        hint="give a token with `MCP_BEARER_TOKEN` or `--bearer-token`; signing in with "
        "`--oauth` is not available yet",
        status=401,
    )


def _error_in(body: bytes, head: Head, id: jsonrpc.Id) -> Message | None:
    try:
        if head.media_type == EVENT_STREAM:
            decoder = sse.Decoder(ERROR_BODY)
            messages = [m for event in decoder.feed(body) for m in messages_of(event)]
        else:
            messages = jsonrpc.parse_many(body)
    except (NotAMessage, BadAnswer):
        return None
    for message in messages:
        if message.is_response and message.error is not None:
            return message if jsonrpc.same_id(message.id, id) else message.with_id(id)
    return None


def _with_text(cause: str, text: str) -> str:
    return f"{cause}: {text}" if text else cause


async def _start_of_body(exchange: Exchange) -> bytes:
    body = b""
    try:
        while len(body) < ERROR_BODY and (chunk := await exchange.receive_some()):
            body += chunk
    except RelayError:
        pass  # what arrived is all that is known
    return body


async def _pause(
    retries: retry.Retries, failure: RelayError, call: Call, patience: Patience
) -> None:
    """Wait until the next attempt; raises `failure` when there must be none."""
    delay = None
    event, retry_after = _event_of(failure)
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


def _event_of(failure: RelayError) -> tuple[retry.Event | None, float | None]:
    match failure:
        case Unreachable():
            return retry.Event.NOT_SENT, None
        case ConnectionLost():
            return (retry.Event.BROKEN if failure.answer_begun else retry.Event.LOST), None
        case HttpRefusal(status=int(status)):
            return retry.event_of_status(status, failure.retry_after), failure.retry_after
    return None, None
