"""A lane that answers from a list, for what lies above the lanes, and a system without sockets."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Any

import trio

from mcp_stdio.http import Exchange, Head, Headers, Lane, Request
from mcp_stdio.http.url import Url


class Answer:
    """What a fake lane answers: a head, the parts of a body, what is raised where it breaks."""

    def __init__(
        self,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
        body: Iterable[bytes] = (),
        breaks: Exception | None = None,
    ) -> None:
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        self.head = Head(status, Headers(pairs))
        self.body = list(body)
        self.breaks = breaks


class FakeLane(Lane):
    """Gives the answers in turn and remembers the requests; exceptions are raised by `send`."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.prepared: list[Url] = []
        self.open_exchanges = 0
        self.idle_drops = 0
        self.is_closed = False
        self.ready = True

    @property
    def urls(self) -> list[str]:
        return [str(request.url) for request in self.requests]

    def headers(self, index: int = -1) -> dict[str, str]:
        """The headers of a request; fails when one was sent twice."""
        pairs = [(name.lower(), value) for name, value in self.requests[index].headers]
        assert len(dict(pairs)) == len(pairs), pairs
        return dict(pairs)

    def is_ready(self, request: Request) -> bool:
        return self.ready

    async def send(self, request: Request) -> Exchange:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else Answer()
        if isinstance(answer, Exception):
            raise answer
        self.open_exchanges += 1
        return _FakeExchange(self, answer)

    async def prepare(self, url: Url) -> None:
        self.prepared.append(url)

    def drop_idle(self) -> None:
        self.idle_drops += 1

    async def aclose(self) -> None:
        self.is_closed = True


class _FakeExchange(Exchange):
    def __init__(self, lane: FakeLane, answer: Answer) -> None:
        self._lane = lane
        self._answer = answer
        self._is_open = True

    async def head(self) -> Head:
        return self._answer.head

    async def receive_some(self) -> bytes:
        if self._answer.body:
            return self._answer.body.pop(0)
        if self._answer.breaks is not None:
            raise self._answer.breaks
        return b""

    async def aclose(self) -> None:
        self._lane.open_exchanges -= self._is_open
        self._is_open = False


class NoSockets(trio.abc.SocketFactory):
    """All descriptors that a process may have are taken."""

    def socket(self, family: int = -1, type: int = -1, proto: int = -1) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
