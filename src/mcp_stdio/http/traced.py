"""What crosses the wire, told line by line to whoever asked for it with `-vv`.

Owns what is shown of an exchange: method, URL, headers, sizes, times, whether the connection is a
new one, and the beginning of each body or event. A number says which lines belong together, for
many exchanges run at once. Made and loaded only for those who read it. Kept here: of a header that
is not known to be harmless only the name is told, and a body is shown once all of it is there, for
half a secret would not be known as one (P7).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import count

import trio

from mcp_stdio import sse
from mcp_stdio.errors import RelayError
from mcp_stdio.http import Head, Request
from mcp_stdio.http.client import Client, ClientExchange
from mcp_stdio.redaction import HIDDEN, MAX_BEGINNING, beginning, longest_secret

log = logging.getLogger(__name__)

HARMLESS = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "allow", "cache-control", "connection"),
        *("content-encoding", "content-length", "content-type", "date", "keep-alive"),
        *("last-event-id", "location", "mcp-method", "mcp-name", "mcp-protocol-version", "origin"),
        *("retry-after", "server", "transfer-encoding", "user-agent", "vary", "via"),
        *("www-authenticate", "x-accel-buffering", "x-powered-by"),
    }
)
"""Headers whose values are shown; what is known to be secret is hidden in these as well."""

EVENT_STREAM = "text/event-stream"

_numbers = count(1)


class Traced(ClientExchange):
    """An exchange of the client that tells what it does."""

    def __init__(self, client: Client, request: Request) -> None:
        super().__init__(client, request)
        self._number = next(_numbers)
        self._begun = trio.current_time()
        self._beginning = bytearray()
        self._size = 0
        self._events: sse.Decoder | None = None
        self._is_reading = False

    async def send(self, request: Request) -> None:
        """Send the request, or what has become of it."""
        self._begun = trio.current_time()
        body = f": {beginning(request.body)}" if request.body else ""
        size = len(request.body)
        self._tell(f"> {request.method} {request.url.public}, {size} bytes{body}")
        try:
            await super().send(request)
        except RelayError as exc:
            self._tell(f"< failed after {self._time()}: {exc}")
            raise
        self._tell_headers(">", self._sent.headers)

    async def _next_head(self) -> Head:
        try:
            head = await super()._next_head()
        except RelayError as exc:
            self._tell(f"< failed after {self._time()}: {exc}")
            raise
        is_kept = None if self._inner is None else self._inner.is_kept
        how = {True: ", on a kept connection", False: ", on a new connection", None: ""}[is_kept]
        self._tell(f"< {head.status} after {self._time()}{how}")
        self._tell_headers("<", head.headers.combined().items())
        self._is_reading = True
        self._events = sse.Decoder(2**62) if head.media_type == EVENT_STREAM else None
        return head

    async def receive_some(self) -> bytes:
        """The next bytes of the body, decoded."""
        try:
            data = await super().receive_some()
        except RelayError as exc:
            self._tell(f"< the body failed: {exc}")
            self._end(is_whole=False)
            raise
        if data:
            self._take(data)
        else:
            self._end(is_whole=True)
        return data

    async def aclose(self) -> None:
        """End the exchange."""
        self._end(is_whole=False)
        await super().aclose()

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._events is None:
            # As much as is shown, and the longest secret that could begin in it.
            if len(self._beginning) <= MAX_BEGINNING + longest_secret() + 1024:
                self._beginning += data
            return
        for event in self._events.feed(data):
            id = f", id {event.id}" if event.id else ""
            size = len(event.data)
            self._tell(f"< event {event.type}{id}, {size} bytes: {beginning(event.data)}")

    def _end(self, *, is_whole: bool) -> None:
        if not self._is_reading:
            return
        self._is_reading = False
        what = "the end" if is_whole else "closed"
        is_whole = is_whole and len(self._beginning) == self._size
        body = beginning(bytes(self._beginning), is_whole=is_whole) if self._beginning else ""
        self._tell(f"< {what} after {self._time()}, {self._size} bytes{body and f': {body}'}")
        self._size = 0
        self._beginning.clear()

    def _time(self) -> str:
        return f"{(trio.current_time() - self._begun) * 1000:.1f} ms"

    def _tell_headers(self, way: str, headers: Iterable[tuple[str, str]]) -> None:
        for name, value in headers:
            self._tell(f"{way} {name}: {value if name.lower() in HARMLESS else HIDDEN}")

    def _tell(self, text: str) -> None:
        log.debug("#%d %s", self._number, text)
