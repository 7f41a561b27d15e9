"""The client's part in a connection test, spoken to the relay's own upstream.

Owns ids and waiting for answers, and answers what the server itself asks. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

import trio

from mcp_stdio import __version__, jsonrpc, spec
from mcp_stdio.assembly import assemble_for_a_test
from mcp_stdio.config import Config
from mcp_stdio.diagnose.report import ServerError
from mcp_stdio.errors import BadAnswer, Refused, RelayError, TimedOut, quote
from mcp_stdio.http import Lane
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import own_call
from mcp_stdio.upstream.refusal import HttpRefusal

Facts = Mapping[str, Any]

ABOUT = {"name": "mcp-stdio", "version": __version__}

MAX_PAGES = 100
"""Pages of a list that are read: as many as the relay merges."""

LIST_TIME = 60.0
"""Seconds for all pages of a list, beyond those that a single answer may take."""


OF_FORMS = (406, 415)
CHANGED = (
    "what MCP wants was sent; a proxy or gateway before the server may have changed the `Accept` "
    "or `Content-Type` header"
)
"""Statuses about the form of a message, whatever JSON-RPC comes with them, and what to do."""


class Listed(NamedTuple):
    """How many items a list has, and on how many pages they came here.

    `fault` says in what the pages, or what the server says of them, are wrong, if they are.
    """

    items: int
    pages: int
    fault: str = ""


class Peer:
    """A client's part of the conversation; `era` knows the way that it takes."""

    def __init__(self, config: Config, client: Lane, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        silence = config.timeout_read
        self._list_time = inf if silence is None else silence + LIST_TIME
        self._ids = jsonrpc.mint_ids()
        self._faults: list[str] = []
        self._upstream, self.era = assemble_for_a_test(
            config, client, nursery, self._overhear, self._faults.append
        )

    async def open(self) -> Message:
        """Offer to shake hands, and return the server's response. Raises RelayError."""
        params = {"protocolVersion": spec.R4, "capabilities": {}, "clientInfo": ABOUT}
        return await self.answer(spec.INITIALIZE, params)

    async def discover(self) -> Message:
        """Ask as a client of the stateless era does. Raises RelayError."""
        meta = {
            spec.META_VERSION: spec.R5,
            spec.META_CLIENT_INFO: ABOUT,
            spec.META_CLIENT_CAPABILITIES: {},
        }
        return await self.answer(spec.DISCOVER, {"_meta": meta})

    async def count(self, method: str) -> Listed:
        """Read a list, for as long as the relay itself would go on. Raises RelayError."""
        with trio.move_on_after(self._list_time):
            return await self._count(method)
        raise TimedOut(
            f"the pages of `{method}` had not ended after {self._list_time:g} s",
            hint="the server is slow, or its pages do not end: its own log may tell more",
        )

    async def _count(self, method: str) -> Listed:
        self._faults.clear()
        items, pages = 0, 0
        cursor: object = None
        seen: set[str] = set()
        while pages < MAX_PAGES:
            params = {} if cursor is None else {"cursor": cursor}
            response = await self.answer(method, params)
            error = response.error
            if error is not None and error.get("code") == jsonrpc.METHOD_NOT_FOUND:
                return Listed(0, 0, _unknown(method, error))
            if error is not None:
                raise refused(method, error)
            result = response.result
            listed = result.get(spec.LISTS[method])
            if not isinstance(listed, list):
                name = spec.LISTS[method]
                raise BadAnswer(f"the server's answer to `{method}` holds no list of {name}")
            items, pages = items + len(listed), pages + 1
            cursor = result.get("nextCursor")
            if not isinstance(cursor, str):
                return Listed(items, pages, "; ".join(self._faults))
            if cursor in seen:
                return Listed(items, pages, "the server's pages begin again")
            seen.add(cursor)
        return Listed(items, pages, "the server's pages do not end")

    async def answer(self, method: str, params: Facts | None = None) -> Message:
        """Send a request and wait for its response. Raises RelayError."""
        answers: list[Message] = []

        async def emit(message: Message) -> None:
            if message.is_response:
                answers.append(message)
            else:
                await self._overhear(message)

        request = jsonrpc.request(next(self._ids), method, params)
        try:
            await self._upstream.send(request, own_call(emit))
        except HttpRefusal as refusal:
            if refusal.answer is None:
                raise
            answers.append(refusal.answer)
        if not answers:
            raise BadAnswer(f"`{method}` was not answered")
        return answers[0]

    async def tell(self, method: str) -> None:
        """Send a notification."""
        await self._upstream.send(jsonrpc.notification(method), own_call(self._overhear))

    async def leave(self) -> None:
        """End the session."""
        await self._upstream.aclose()

    async def _overhear(self, message: Message) -> None:
        """What the server says by itself matters only where it waits for an answer."""
        if message.is_request and message.id is not None:
            if message.method == spec.PING:
                answer = jsonrpc.result(message.id, {})
            else:
                text = "a connection test answers no questions"
                answer = jsonrpc.error(message.id, jsonrpc.METHOD_NOT_FOUND, text)
            self._nursery.start_soon(self._upstream.send, answer, own_call(self._overhear))


def refused(method: str, error: Facts, status: int | None = None) -> RelayError:
    """The failure that a JSON-RPC error is, under this status of HTTP if that is known."""
    said = quote(str(error.get("message", "")))
    if status in OF_FORMS:
        return Refused(
            f"the server answered with status {status}: {said}", status=status, hint=CHANGED
        )
    return ServerError(
        f"`{method}` was answered with error {error.get('code')}: {said}",
        hint="the server's own log may tell more",
    )


def _unknown(method: str, error: Facts) -> str:
    return (
        f"the server announces {spec.LISTS[method]} and does not know `{method}`: error "
        f"{error.get('code')}: {quote(str(error.get('message', '')))}"
    )
