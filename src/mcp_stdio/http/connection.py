"""One HTTP/1.1 connection and the exchange that runs on it.

Owns the order on the wire: a request that fits goes out in one write; a larger one is written while
the answer is already looked for (RFC 9112 9.5); a body that breaks off is never taken for a whole
one. What the bytes of an answer mean is known to `response`; what happens to a connection between
exchanges, and to whom it belongs then, is the lane's business (`direct`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf

import trio

from mcp_stdio.errors import BadAnswer, ConnectionLost, RelayError, TlsFailure, Unreachable, quote
from mcp_stdio.http import Exchange, Head
from mcp_stdio.http.dial import Stream
from mcp_stdio.http.response import Response
from mcp_stdio.http.tls import client_certificate_refusal, reason
from mcp_stdio.http.transport import Transport
from mcp_stdio.http.url import Url

IDLE_LIMIT = 60.0
"""Seconds after which an unused connection is not trusted any more; proxies commonly give it 60."""

ONE_WRITE = 64 * 1024
"""Requests up to this size go out in one write; larger bodies in slices of it."""

FINISH_TIME = 0.05
FINISH_SIZE = 64 * 1024
"""How long and how much is waited for and read to save a connection whose answer is nearly over:
a new one costs at least a round trip, TLS two and 4 ms of CPU."""

_JUST_NOW = 0.001
"""Seconds for which a look at an idle connection holds: what has come since might as well still be
on its way. A request is asked after and then sent, which would look twice."""

_TICKET_TIME = 0.005
"""Seconds to read what already arrived on an unused TLS connection."""

_KEEP_ALIVE_TIMEOUT = re.compile(r"\btimeout\s*=\s*([0-9]{1,9})", re.IGNORECASE)


class Connection:
    """An open connection, and how long it may be used again.

    While it is idle, `idle_since` and `usable_until` are times of trio's clock. `uses` counts the
    exchanges.
    """

    __slots__ = (
        "_looked_at", "authority", "idle_since", "origin", "stream", "transport", "usable_until",
        "uses",
    )  # fmt: skip

    def __init__(self, url: Url, transport: Transport, stream: Stream) -> None:
        self.origin = url.origin
        self.authority = url.authority
        self.transport = transport
        self.stream = stream
        self.uses = 0
        self._looked_at = -inf
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
        self.uses += 1
        self._looked_at = -inf

    def news(self, now: float) -> bytes | None:
        """What the server has said unasked: None for nothing, `b""` once it has hung up."""
        if now - self._looked_at < _JUST_NOW:
            return None
        news = self.transport.peek()
        if news is None:
            self._looked_at = now
        return news

    def may_hold_tickets(self) -> bool:
        """Whether what an idle connection brought may be TLS session tickets.

        TLS 1.3 servers send them after the handshake (RFC 8446 4.6.1), and nobody has read yet.
        """
        return not self.uses and self.stream is not self.transport

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
    """A request with `method` on a connection of its own, which goes to `keep` to be used again."""

    def __init__(
        self, connection: Connection, method: str, keep: Callable[[Connection], None]
    ) -> None:
        self._connection = connection
        self._keep = keep
        self._response = Response(method)
        self._body = b""  # what has been read of it and nobody has taken yet
        self._failure: RelayError | None = None
        self._answer_begun = False
        self._is_over = False

    @property
    def is_kept(self) -> bool:
        """Whether the connection had been used before."""
        return self._connection.uses > 1

    async def send(self, head: bytes, body: bytes) -> None:
        """Write the request. Raises Unreachable, ConnectionLost.

        A failed write is no error yet when an answer may be waiting: `head` will tell.
        """
        connection = self._connection
        transport = connection.transport
        sent = transport.sent
        connection.take()
        is_sent = False
        try:
            if len(body) <= ONE_WRITE:
                await self._write(head + body)
            else:
                await self._write_watching(head, body)
            why = transport.write_failure
            if why is not None and self._response.head is None:
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
        while (head := self._response.head) is None:
            await self._read()
        return head

    async def receive_some(self) -> bytes:
        """The next bytes of the body, as many as one read brought; `b""` once it is complete."""
        while not self._body:
            if self._response.is_complete:
                return b""
            await self._read()
        body, self._body = self._body, b""
        return body

    async def aclose(self) -> None:
        """End the exchange: keep the connection if the answer is over, or is within a moment."""
        if self._is_over:
            return
        self._is_over = True
        is_kept = False
        connection = self._connection
        try:
            if await self._is_finished() and connection.transport.write_failure is None:
                is_kept = True
                head = self._response.head
                connection.rest(head.headers.get("keep-alive") if head else None)
                self._keep(connection)
        finally:
            if not is_kept:
                connection.close()

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

    async def _read(self) -> None:
        """Read once. Raises whatever has ended the answer before its end, now or earlier."""
        if self._failure is not None:
            raise self._failure
        try:
            data = await self._connection.stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            refusal = client_certificate_refusal(exc.__cause__, self._connection.authority)
            if refusal is not None and not self._answer_begun:
                self._failure = refusal
                raise refusal from exc
            raise self._lost(str(exc) or reason(exc.__cause__)) from exc
        response = self._response
        if not data:
            if not response.end():
                raise self._lost("")
            return
        if not self._answer_begun:
            if self.is_kept and not (data := data.lstrip(b"\r\n")):
                return  # what some servers write after the end of an answer
            if data[:5] != b"HTTP/"[: len(data)]:
                raise self._no_answer(data)
            self._answer_begun = True
        self._body += response.receive(bytes(data))
        if response.failure is not None:
            # Raised by the next call: what came before it is delivered first.
            self._bad_answer(f"is not valid HTTP: {response.failure}")

    async def _is_finished(self) -> bool:
        """Whether the answer is over, or nearly, and another may follow on the connection."""
        response = self._response
        if not response.is_complete and response.keeps_open:
            size = 0
            try:
                with trio.move_on_after(FINISH_TIME):
                    while size <= FINISH_SIZE and (data := await self.receive_some()):
                        size += len(data)
            except RelayError:
                return False
        return response.is_complete and response.keeps_open

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
        authority, advice = self._connection.authority, None
        if self._response.head is not None:
            cause = f"the answer of `{authority}` broke off"
        elif self._answer_begun:
            cause = f"the answer of `{authority}` broke off in its headers"
        else:
            cause = f"`{authority}` closed the connection without an answer"
            if self._connection.origin.scheme == "http" and not self.is_kept:
                advice = "if the server wants TLS, write `https://`"
        if why:
            cause = f"{cause}: {quote(why)}"
        failure = ConnectionLost(cause, advice=advice, answer_begun=self._answer_begun)
        self._failure = failure
        return failure

    def _no_answer(self, data: bytes | bytearray) -> RelayError:
        """Why the connection is of no use: what comes on it is no HTTP."""
        authority = self._connection.authority
        if self.is_kept:  # it was before: this belongs to an earlier answer, whatever comes to ours
            self._failure = ConnectionLost(f"`{authority}` went on with an earlier answer instead")
            return self._failure
        return self._bad_answer(
            "is not HTTP",
            hint="it speaks TLS: write `https://`"
            if data[:1] == b"\x15"
            else "check host and port, and that an MCP server runs there",
        )

    def _bad_answer(self, what: str, hint: str | None = None) -> BadAnswer:
        failure = BadAnswer(f"the answer of `{self._connection.authority}` {what}", hint=hint)
        self._failure = failure
        return failure
