"""One HTTP/1.1 connection and the exchange that runs on it: h11 between a request and a stream.

Owns the wire rules: a request that fits goes out in one write; a larger one is written while the
answer is already looked for (RFC 9112 9.5); any final head ends the waiting, 1xx ones are passed
over; a body that breaks off is never taken for a whole one. What happens to a connection between
exchanges, and to whom it belongs then, is the lane's business (`direct`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import h11
import trio

from mcp_stdio.errors import BadAnswer, ConnectionLost, RelayError, TlsFailure, Unreachable, quote
from mcp_stdio.http import Exchange, Head, Headers
from mcp_stdio.http.dial import Stream
from mcp_stdio.http.tls import client_certificate_refusal, reason
from mcp_stdio.http.transport import Transport
from mcp_stdio.http.url import Url

MAX_HEAD_SIZE = 256 * 1024
"""Bytes of a response head: what servers accept ranges from 8 to 64 KiB, some cookies are large."""

IDLE_LIMIT = 60.0
"""Seconds after which an unused connection is not trusted any more; proxies commonly give it 60."""

ONE_WRITE = 64 * 1024
"""Requests up to this size go out in one write; larger bodies in slices of it."""

FINISH_TIME = 0.05
FINISH_SIZE = 64 * 1024
"""How long and how much is waited for and read to save a connection whose answer is nearly over:
a new one costs at least a round trip, TLS two and 4 ms of CPU."""

_TICKET_TIME = 0.005
"""Seconds to read what already arrived on an unused TLS connection."""

_KEEP_ALIVE_TIMEOUT = re.compile(r"\btimeout\s*=\s*(\d+)", re.IGNORECASE)


class Connection:
    """An open connection: where bytes go and the HTTP state they leave behind.

    While it is idle, `idle_since` and `usable_until` are times of trio's clock.
    """

    __slots__ = (
        "_is_used", "authority", "http", "idle_since", "origin", "stream", "transport",
        "usable_until",
    )  # fmt: skip

    def __init__(self, url: Url, transport: Transport, stream: Stream) -> None:
        self.origin = url.origin
        self.authority = url.authority
        self.transport = transport
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_SIZE)
        self._is_used = False
        self.rest(None)

    def rest(self, keep_alive: str | None) -> None:
        """Begin to idle; `keep_alive` is the server's header of that name, if it gave one."""
        self.idle_since = trio.current_time()
        limit = IDLE_LIMIT
        if keep_alive is not None and (found := _KEEP_ALIVE_TIMEOUT.search(keep_alive)):
            # One second is for the request to arrive before the server acts.
            limit = min(limit, int(found[1]) - 1)
        self.usable_until = self.idle_since + limit

    def take(self) -> None:
        """End the idling: an exchange begins."""
        self._is_used = True

    def renew(self) -> bool:
        """Make ready for another exchange; False if HTTP or the server does not allow one."""
        http = self.http
        if (
            http.our_state is not h11.DONE
            or http.their_state is not h11.DONE
            or self.transport.write_failure is not None
            or http.trailing_data[0]
        ):
            return False
        http.start_next_cycle()
        return True

    def may_hold_tickets(self) -> bool:
        """Whether what an idle connection brought may be TLS session tickets.

        TLS 1.3 servers send them after the handshake (RFC 8446 4.6.1), and nobody has read yet.
        """
        return not self._is_used and self.stream is not self.transport

    async def read_tickets(self) -> bool:
        """Take in what TLS has to say to itself; closes and says False if it was anything else."""
        is_alive = False
        try:
            with trio.move_on_after(_TICKET_TIME) as moment:
                await self.stream.receive_some()
            is_alive = moment.cancelled_caught
        except trio.BrokenResourceError:
            pass
        finally:
            if not is_alive:
                self.close()
        return is_alive

    def close(self) -> None:
        """Close at once, without a word to the server."""
        self.transport.close()


class DirectExchange(Exchange):
    """A request on a connection of its own; the connection goes to `keep` when it can be reused."""

    def __init__(self, connection: Connection, keep: Callable[[Connection], None]) -> None:
        self._connection = connection
        self._http = connection.http
        self._keep = keep
        self._head: Head | None = None
        self._failure: RelayError | None = None
        self._answer_begun = False
        self._has_ended = False
        self._is_complete = False
        self._is_over = False

    async def send(self, event: h11.Request, body: bytes) -> None:
        """Write the request. Raises Unreachable, ConnectionLost.

        A failed write is no error yet when an answer may be waiting: `head` will tell.
        """
        connection = self._connection
        transport = connection.transport
        sent = transport.sent
        connection.take()
        is_sent = False
        try:
            head = self._encode(event, body)
            if len(body) <= ONE_WRITE:
                await self._write(head + body)
            else:
                await self._write_watching(head, body)
            why = transport.write_failure
            if why is not None and self._head is None:
                if transport.sent == sent:
                    raise await self._unsent(why)
                if transport.has_stalled and self._failure is None and transport.peek() is None:
                    raise self._lost(why)
            is_sent = True
        finally:
            if not is_sent:
                self._is_over = True
                connection.close()

    async def head(self) -> Head:
        """Wait for the final response head.

        Raises ConnectionLost, BadAnswer, and TlsFailure when the server refused our certificate
        instead of reading the request.
        """
        while self._head is None:
            event = self._next_event()
            if event is h11.NEED_DATA:
                await self._fill()
            elif isinstance(event, h11.Response):
                self._head = Head(event.status_code, Headers(event.headers))
        return self._head

    async def receive_some(self) -> bytes:
        """The next bytes of the body, as many as one read brought; `b""` once it is complete."""
        if self._head is None:
            await self.head()
        while not self._is_complete:
            if data := self._buffered():
                return data
            if not self._is_complete:
                await self._fill()
        return b""

    async def aclose(self) -> None:
        """End the exchange: keep the connection if the answer is over, or is within a moment."""
        if self._is_over:
            return
        self._is_over = True
        is_kept = False
        try:
            if await self._is_finished() and self._connection.renew():
                is_kept = True
                self._connection.rest(self._head.headers.get("keep-alive") if self._head else None)
                self._keep(self._connection)
        finally:
            if not is_kept:
                self._connection.close()

    def _encode(self, event: h11.Request, body: bytes) -> bytes:
        # h11 is told of the whole request here; what becomes of the bytes, the transport knows.
        head = self._http.send(event)
        if body:
            self._http.send_with_data_passthrough(h11.Data(data=body))
        self._http.send(h11.EndOfMessage())
        return head

    async def _write(self, data: bytes | memoryview) -> None:
        try:
            await self._connection.stream.send_all(data)
        except trio.BrokenResourceError:
            self._connection.transport.stop_sending()  # TLS has come to an end.

    async def _write_watching(self, head: bytes, body: bytes) -> None:
        transport = self._connection.transport
        rest = memoryview(body)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_refusal)
            await self._write(head)
            while rest and transport.write_failure is None:
                await self._write(rest[:ONE_WRITE])
                rest = rest[ONE_WRITE:]
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    async def _watch_for_refusal(self) -> None:
        # Whoever answers with an error before the end does not want the rest and may be about to
        # hang up; whoever answers with a success may still be reading (RFC 9112 9.5).
        try:
            head = await self.head()
        except RelayError:
            self._connection.transport.stop_sending()
        else:
            if head.status >= 400:
                self._connection.transport.stop_sending()

    def _next_event(self) -> object:
        if self._failure is not None:
            raise self._failure
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as exc:
            if self._has_ended:
                # All that was read before had been understood: what is wrong is the end.
                raise self._lost("") from exc
            raise self._bad_answer(f"is not valid HTTP: {quote(str(exc))}") from exc

    def _buffered(self) -> bytes:
        """What can be had of the body without reading; notices its end."""
        chunks: list[bytes] = []
        while not self._is_complete:
            try:
                event = self._next_event()
            except RelayError:
                if chunks:
                    break  # It is raised again after what came before it has been delivered.
                raise
            if isinstance(event, h11.Data):
                chunks.append(event.data)
            elif event is h11.NEED_DATA:
                break
            else:
                self._is_complete = True
        return b"".join(chunks)

    async def _fill(self) -> None:
        """One read, handed to h11."""
        try:
            data = await self._connection.stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            refusal = client_certificate_refusal(exc.__cause__, self._connection.authority)
            if refusal is not None and not self._answer_begun:
                self._failure = refusal
                raise refusal from exc
            raise self._lost(str(exc) or reason(exc.__cause__)) from exc
        if not data:
            self._has_ended = True
        elif not self._answer_begun:
            self._answer_begun = True
            if data[:5] != b"HTTP/"[: len(data)]:
                raise self._bad_answer(
                    "is not HTTP",
                    hint="use `https://`" if data[:1] == b"\x15" else "check host and port",
                )
        self._http.receive_data(bytes(data))

    async def _is_finished(self) -> bool:
        if self._head is None or self._failure is not None:
            return False
        try:
            size = len(self._buffered())
            if self._is_complete:
                return True
            if "close" in (self._head.headers.get("connection") or "").lower():
                return False  # Nothing to save.
            with trio.move_on_after(FINISH_TIME):
                while size <= FINISH_SIZE:
                    data = await self.receive_some()
                    if not data:
                        return True
                    size += len(data)
        except RelayError:
            pass
        return False

    async def _unsent(self, why: str) -> Unreachable:
        # Only TLS has a reason to give that is worth looking for.
        with trio.move_on_after(FINISH_TIME):
            try:
                await self.head()
            except TlsFailure as refusal:
                return refusal
            except RelayError:
                pass
        return Unreachable(
            f"the connection to `{self._connection.authority}` broke before the request left: "
            f"{why}",
            hint="try again",
        )

    def _lost(self, why: str) -> ConnectionLost:
        authority = self._connection.authority
        if self._head is not None:
            cause = f"the answer of `{authority}` broke off"
        elif self._answer_begun:
            cause = f"the answer of `{authority}` broke off in its headers"
        else:
            cause = f"`{authority}` closed the connection without an answer"
        if why:
            cause = f"{cause}: {quote(why)}"
        failure = ConnectionLost(
            cause,
            hint="whether the request was carried out is unknown; look before you repeat it",
            answer_begun=self._answer_begun,
        )
        self._failure = failure
        return failure

    def _bad_answer(self, what: str, hint: str | None = None) -> BadAnswer:
        failure = BadAnswer(f"the answer of `{self._connection.authority}` {what}", hint=hint)
        self._failure = failure
        return failure
