"""Asking a lane for one whole answer, as most tests of the HTTP layer do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from mcp_stdio.http import Head, Lane, Request
from tests.http.raw_server import TIMEOUT, RawServer


@dataclass(frozen=True)
class Answer:
    """A response that was read to its end."""

    head: Head
    body: bytes


def get(server: RawServer, *, is_replayable: bool = True) -> Request:
    return Request("GET", server.url(), is_replayable=is_replayable)


def post(server: RawServer, body: bytes = b"{}", *headers: tuple[str, str]) -> Request:
    return Request("POST", server.url(), headers, body)


async def fetch(lane: Lane, request: Request) -> Answer:
    """Send, read to the end, close; fails instead of waiting for ever."""
    with trio.fail_after(TIMEOUT):
        exchange = await lane.send(request)
        try:
            head = await exchange.head()
            body = b""
            while data := await exchange.receive_some():
                body += data
            return Answer(head, body)
        finally:
            await exchange.aclose()


async def until(claim: Callable[[], bool]) -> None:
    """Wait until the claim holds; for what the kernel brings about in its own time."""
    with trio.fail_after(TIMEOUT):
        while not claim():  # noqa: ASYNC110 - nothing in this process knows
            await trio.sleep(0.001)
