"""HTTP+SSE, the transport of the revision 2024-11-05: one stream that brings every answer.

A GET opens the stream, whose `endpoint` event says where to POST (T-90, T-91); the stream is the
connection, and its end is that of the session (T-92). Kept here: messages and credentials go to no
other origin than the stream's. What a lost session means is not known here.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from math import inf

import trio

from mcp_stdio import retry, spec, sse
from mcp_stdio.errors import BadAnswer, ConnectionLost, RelayError, TimedOut, quote
from mcp_stdio.http import Exchange, Head, Request
from mcp_stdio.http.url import Url, secrets_in
from mcp_stdio.jsonrpc import Message
from mcp_stdio.redaction import protect_passing
from mcp_stdio.upstream import Call, Emit, together
from mcp_stdio.upstream.background import guarded
from mcp_stdio.upstream.exchange import Messenger, event_of
from mcp_stdio.upstream.handshake import Handshake
from mcp_stdio.upstream.link import HeaderList, LinkLost
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.questions import Questions
from mcp_stdio.upstream.refusal import refusal
from mcp_stdio.upstream.stream import messages_in

log = logging.getLogger(__name__)

ENDPOINT_TIME = 10.0
"""Seconds until the stream must have said where to POST (T-90): it is the first thing it says."""


class HttpSse:
    """A transport; `messenger` has the URL of the stream, `nursery` runs the reading of it.

    `emit` takes what belongs to no request.
    """

    def __init__(
        self,
        messenger: Messenger,
        *,
        nursery: trio.Nursery,
        emit: Emit,
    ) -> None:
        self._http = messenger.http
        self._url = messenger.url
        self._limit = messenger.limit
        self._nursery = nursery
        self._emit_all = together(emit)

    async def connect(
        self, questions: Questions[Handshake], lost: Callable[[Handshake], None]
    ) -> Handshake:
        """Open the stream and learn the endpoint; tried again as any safe request is."""
        retries = retry.Retries(is_safe=True)
        while True:
            try:
                connection: Handshake = await self._nursery.start(self._hold, questions, lost)
                return connection
            except RelayError as failure:
                event, retry_after = event_of(failure)
                delay = None
                if event is not None:
                    delay = retries.delay(
                        event, remaining=inf, jitter=random.random(), retry_after=retry_after
                    )
                if delay is None:
                    raise
                log.info("trying again in %.1f s: %s", delay, failure)
            await trio.sleep(delay)

    def listen(self, handshake: Handshake) -> None:
        """Nothing more to open: the one stream brings it all."""
        handshake.listening_decided.set()

    async def leave(self, handshake: Handshake) -> None:
        """Close the stream; whoever still waits for an answer gets none."""
        handshake.lose()

    async def _hold(
        self,
        questions: Questions[Handshake],
        lost: Callable[[Handshake], None],
        *,
        task_status: trio.TaskStatus[Handshake],
    ) -> None:
        """Have one connection from its beginning to its end."""
        request = Request("GET", self._url, spec.GET_HEADERS, is_replayable=True)
        exchange = await self._http.send(request)
        try:
            stream = _Stream(exchange, self._limit)
            with trio.move_on_after(ENDPOINT_TIME) as waiting:
                endpoint = await self._endpoint(stream)
            if waiting.cancelled_caught:
                raise TimedOut(
                    f"the server named no endpoint within {ENDPOINT_TIME:g} s of the GET",
                    hint="check that the URL is one of HTTP+SSE; it often ends in `/sse`",
                    status=stream.status,
                )
            messenger = Messenger(self._http, endpoint, limit=self._limit)
            connection = Connection(messenger, questions)
            with connection.listening, connection.attempt():
                task_status.started(connection)
                await guarded(self._read, stream, connection)
            if not connection.is_lost:
                lost(connection)
        finally:
            await exchange.aclose()

    async def _endpoint(self, stream: _Stream) -> Url:
        """Where messages go. Raises BadAnswer for anything but an endpoint of the same origin."""
        await stream.begin()
        reference = await stream.endpoint()
        try:
            endpoint = self._url.join(reference)
        except ValueError as exc:
            raise BadAnswer(f"the server's endpoint cannot be used: {quote(str(exc))}") from None
        if endpoint.origin != self._url.origin:
            raise BadAnswer(
                f"the server wants messages to go to `{endpoint.public}`, another origin than that "
                f"of `{self._url.public}`",
                hint="credentials stay with the origin of the URL; a server behind a proxy may "
                "announce its inner address",
            )
        for secret in secrets_in(str(endpoint)):
            protect_passing(secret)
        log.info("the event stream is open, messages go to %s", endpoint.public)
        return endpoint

    async def _read(self, stream: _Stream, connection: Connection) -> None:
        try:
            while True:
                events = await stream.read()
                await connection.take(messages_in(events), self._emit_all)
        except RelayError as exc:
            log.info("the event stream is over: %s", exc)
            connection.end = str(exc)


class Connection(Handshake):
    """A session that lives as long as its stream, on which each answer comes.

    `end` is what ended it, once it is lost.
    """

    answers_elsewhere = True
    has_session = True
    """The endpoint names it: a 404 there means that it is over."""

    def __init__(self, messenger: Messenger, questions: Questions[Handshake]) -> None:
        super().__init__(messenger, questions)
        self.end = "the event stream was closed"
        self.is_listening = True

    def resume_headers(self, last_event_id: str) -> HeaderList | None:
        """No stream is resumed: each connection is a session of its own."""
        return None

    def opened(self, message: Message, call: Call, patience: Patience) -> None:
        """Remember a request. A server may answer, or show that it works, before its 202."""
        super().opened(message, call, patience)
        assert message.id is not None
        self._open[message.id].waits_elsewhere = True

    def begun(self, message: Message, head: Head) -> None:
        """A POST is answered with nothing of interest in its head."""

    def lose(self) -> None:
        """The stream is over: no answer comes any more (E-2)."""
        self.is_lost = True
        self.is_listening = False
        self.listening.cancel()
        self._questions.forget(self)
        for waiting in self._open.values():
            if not waiting.is_over.is_set():
                waiting.patience.give_up(self._unanswerable(waiting.patience))

    def _unanswerable(self, patience: Patience) -> RelayError:
        if not patience.is_harmless:
            return LinkLost(f"{self.end}; whether the call ran is unknown")
        failure = LinkLost(self.end)
        failure.of_harmless_request()
        return failure


class _Stream:
    """The events of one connection, the `endpoint` before all others."""

    def __init__(self, exchange: Exchange, limit: int) -> None:
        self._exchange = exchange
        self._decoder = sse.Decoder(limit)
        self._read: list[sse.Event] = []
        self.status: int | None = None

    async def begin(self) -> None:
        """Wait for the head. Raises RelayError unless it begins an event stream."""
        head = await self._exchange.head()
        self.status = head.status
        if head.status == 200 and head.media_type == spec.EVENT_STREAM:
            return
        if 200 <= head.status < 300:
            kind = quote(head.media_type) or "no content type"
            failure: RelayError = BadAnswer(
                f"the server answered GET with {kind} instead of an event stream",
                status=head.status,
            )
        else:
            failure = await refusal(self._exchange, head, None)
        if isinstance(failure, BadAnswer):
            failure.hint = (
                f"an HTTP+SSE server answers GET with 200 and an event stream, not with status "
                f"{head.status}; check the path of the URL, it is often `/sse`"
            )
        raise failure

    async def endpoint(self) -> str:
        """The reference that the `endpoint` event holds; what comes before it is passed over."""
        while True:
            for number, event in enumerate(events := await self._next()):
                if event.type == "endpoint":
                    self._read = events[number + 1 :]
                    return event.data.decode(errors="replace").strip()

    async def read(self) -> list[sse.Event]:
        """What came next, perhaps nothing. Raises ConnectionLost at the end, TooLarge."""
        events, self._read = self._read, []
        return events or await self._next()

    async def _next(self) -> list[sse.Event]:
        if self._decoder.failure is not None:
            raise self._decoder.failure
        chunk = await self._exchange.receive_some()
        if not chunk:
            raise ConnectionLost("the server ended its event stream")
        return self._decoder.feed(chunk)
