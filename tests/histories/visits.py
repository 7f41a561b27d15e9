"""What comes to the server, and what it says there: requests, and streams over many connections.

A `Visit` is an exchange at the seam of the lanes: the server pushes the parts of its answer, the
relay takes them. Decides nothing by itself.
"""

from __future__ import annotations

import json
from enum import Enum
from math import inf
from typing import Any

import trio

from mcp_stdio import spec
from mcp_stdio.errors import ConnectionLost, RelayError
from mcp_stdio.http import Exchange, Head, Headers, Request

Json = dict[str, Any]

PENDING_METHODS = (spec.CALL_TOOL, spec.READ_RESOURCE)
"""What waits for a step to be answered."""


class Fate(Enum):
    """What became of a call at the server."""

    OPEN = "nothing yet"
    DECLINED = "did not run, and the relay may know it"
    RAN = "ran"


class Visit(Exchange):
    """One request at the server, and the connection for its answer."""

    def __init__(self, number: int, request: Request) -> None:
        self.number = number
        self.request = request
        self.message: Json = json.loads(request.body) if request.body else {}
        self.method = self.message.get("method") or ("response" if self.message else request.method)
        self.fate = Fate.OPEN
        self.stream: Stream | None = None
        self.is_closed = False  # the relay is done with it
        self.closed_at = inf
        self.is_accepted = False  # with 202: the answer comes elsewhere
        self.answered_on: tuple[Visit, int] | None = None  # the connection, and its part
        self.pushed = 0  # parts of what this connection brings
        self.taken = 0
        self.asked_for: str | None = None  # the state of the input that was asked for
        self._has_head = False
        self._send, self._parts = trio.open_memory_channel[Head | bytes | RelayError](inf)

    @property
    def n(self) -> int | None:
        """The number of the call, which no other call of the client has."""
        params = self.message.get("params") or {}
        found: int | None = params.get("arguments", {}).get("n")
        if found is None and (uri := params.get("uri")) is not None:
            found = int(uri.rpartition("/")[2])
        return found

    @property
    def token(self) -> Any:
        return ((self.message.get("params") or {}).get("_meta") or {}).get("progressToken")

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.request.headers if key.lower() == name.lower()]
        assert len(found) <= 1, f"{name} was sent twice"
        return found[0] if found else None

    @property
    def is_pending(self) -> bool:
        """Whether it is a call without an answer, whose connection is open."""
        is_call = self.method in PENDING_METHODS
        return is_call and self.fate is Fate.OPEN and not (self.is_closed or self._has_head)

    @property
    def is_answered(self) -> bool:
        """Whether the relay has the answer, or will have it when it goes on reading."""
        if self.answered_on is None:
            return False
        connection, part = self.answered_on
        return connection.taken >= part or not connection.is_closed

    # What the server does

    def push(self, part: Head | bytes | RelayError) -> None:
        self._send.send_nowait(part)
        self.pushed += 1

    def begin(self, status: int = 200, media_type: str | None = spec.JSON, **more: str) -> None:
        headers = [(name.replace("_", "-"), value) for name, value in more.items()]
        if media_type is not None:
            headers.append(("content-type", media_type))
        self._has_head = True
        self.push(Head(status, Headers((k.encode(), v.encode()) for k, v in headers)))

    def reply(
        self, status: int, body: bytes = b"", media_type: str | None = None, **more: str
    ) -> None:
        """Answer in one go."""
        self.begin(status, media_type, **more)
        if body:
            self.push(body)
        self.push(b"")

    def answer(self, message: Json, **headers: str) -> None:
        self.reply(200, line(message), spec.JSON, **headers)

    def lose(self) -> None:
        """Close the connection without an answer, or within it."""
        self.push(ConnectionLost("gone", answer_begun=self._has_head))

    # What the relay does

    async def head(self) -> Head:
        part = await self._next()
        assert isinstance(part, Head)
        return part

    async def receive_some(self) -> bytes:
        part = await self._next()
        assert isinstance(part, bytes)
        return part

    async def aclose(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.closed_at = trio.current_time()
            if self.stream is not None:
                self.stream.left(self)

    async def _next(self) -> Head | bytes:
        part = await self._parts.receive()
        self.taken += 1
        if isinstance(part, RelayError):
            raise part
        return part

    def __str__(self) -> str:
        n = "" if self.n is None else f" of call {self.n}"
        return f"#{self.number} {self.method}{n}"


def line(message: Json) -> bytes:
    return json.dumps({"jsonrpc": "2.0"} | message).encode()


class Stream:
    """What the server says on one event stream, over however many connections that takes.

    `visit` is the connection; without one, what is said is lost, unless streams can be resumed.
    """

    def __init__(self, number: int, visit: Visit, *, session: str | None, has_ids: bool) -> None:
        self.number = number
        self.origin = visit
        self.visit: Visit | None = visit
        self.session = session
        self.has_ids = has_ids
        self.said = 0  # messages with a number of their own
        self.progress = 0
        self.events: list[bytes] = []
        self.is_over = False
        self.is_forgotten = False  # by a server that was started anew
        visit.stream = self
        visit.begin(200, spec.EVENT_STREAM)

    @property
    def is_listening(self) -> bool:
        """Whether it belongs to no call."""
        return self.origin.method not in PENDING_METHODS

    @property
    def can_say(self) -> bool:
        return not self.is_over and (self.visit is not None or self.has_ids)

    def push(self, message: Json | None, type: str | None = None) -> None:
        """Say a message; None is an event that only has an id."""
        data = b"" if message is None else line(message)
        self.say_event(data, type)

    def say_event(self, data: bytes, type: str | None = None) -> None:
        id = f"id: s{self.number}-{len(self.events) + 1}\n".encode() if self.has_ids else b""
        kind = f"event: {type}\n".encode() if type else b""
        event = id + kind + b"data: " + data + b"\n\n"
        self.events.append(event)
        if self.visit is not None:
            self.visit.push(event)

    def cut(self, *, orderly: bool) -> None:
        """End the connection."""
        if self.visit is not None:
            self.visit.push(b"") if orderly else self.visit.lose()
            self.visit = None

    def end(self, *, orderly: bool = True) -> None:
        """Say nothing any more."""
        self.cut(orderly=orderly)
        self.is_over = True

    def resume(self, visit: Visit, last: str) -> None:
        self.cut(orderly=True)
        self.visit, visit.stream = visit, self
        visit.begin(200, spec.EVENT_STREAM)
        for event in self.events[int(last.partition("-")[2]) :]:
            visit.push(event)
        if self.is_over:
            self.cut(orderly=True)

    def left(self, visit: Visit) -> None:
        if self.visit is visit:
            self.visit = None

    def __str__(self) -> str:
        return f"stream {self.number} ({self.origin})"
