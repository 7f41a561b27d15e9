"""Mirrored parameters kept right: an upstream around an upstream.

Learns the tools from each page of `tools/list` that passes, removes those that must not be offered
(T-32), and where a server finds a call's headers wrong lists the tools anew and calls once more
(T-35). The headers themselves are put on the POST by the upstream within, from the same catalogue;
what annotations mean is `mirroring`'s. Knows no HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import trio

from mcp_stdio import jsonrpc, spec, splice
from mcp_stdio.errors import RelayError, quote
from mcp_stdio.jsonrpc import Message
from mcp_stdio.mirroring import Catalogue
from mcp_stdio.upstream import Call, Emit, Sending, Upstream, ask, renamed
from mcp_stdio.upstream.progress import Rising

log = logging.getLogger(__name__)

TOOLS = spec.LISTS[spec.LIST_TOOLS]
"""The member of a page that holds the tools."""

MAX_PAGES = 100
"""Pages of our own listing, as many as `shaping` merges."""

MAX_WARNED = 1000
"""Tools and headers that are remembered as warned about; a server must not fill our memory."""

LISTING = 30.0
"""Seconds for all of it: a call waits, and it is a request of our own (T-63)."""


class Parameters:
    """Keeps `catalogue` up to date for `upstream`, and calls of tools in keeping with it.

    An inactive catalogue becomes active by the first complaint about headers.
    """

    def __init__(self, upstream: Upstream, catalogue: Catalogue, ids: Iterator[str]) -> None:
        self._upstream = upstream
        self._catalogue = catalogue
        self._ids = ids
        self._warned: set[str] = set()
        self._listing = trio.Lock()
        self._begun = 0  # listings of our own
        self._listed = 0  # the number of the last one that is over

    @property
    def version(self) -> str | None:
        """The protocol version agreed with the client."""
        return self._upstream.version

    def send(self, message: Message, call: Call) -> Sending:
        """Deliver one message; see `Upstream.send`. Raises Unsendable as `Catalogue.headers`."""
        if message.is_request and message.method == spec.CALL_TOOL:
            return self._call(message, call)
        if message.is_request and message.method == spec.LIST_TOOLS:
            call = call.answering(partial(self._learn, call.emit))
        return self._upstream.send(message, call)

    def refresh(self) -> None:
        """See `Upstream.refresh`."""
        self._upstream.refresh()

    async def aclose(self) -> None:
        """See `Upstream.aclose`."""
        await self._upstream.aclose()

    # Pages

    async def _learn(self, emit: Emit, message: Message) -> None:
        await emit(self._fitting(message) if message.is_response else message)

    def _fitting(self, page: Message) -> Message:
        """The page without the tools that must not be offered; empty if need be."""
        tools = page.result.get(TOOLS)
        if not isinstance(tools, list):
            return page
        is_valid = [self._is_valid(tool) for tool in tools]
        if all(is_valid) or not self._catalogue.is_active:
            return page
        kept = iter(is_valid)

        def keep(tool: str) -> str | None:
            return tool if next(kept) else None

        return page.edited(lambda text: splice.edit_elements(text, keep, "result", TOOLS))

    def _is_valid(self, tool: object) -> bool:
        reason = self._catalogue.learn(tool)
        if reason is None or not isinstance(tool, dict):
            return True
        name = tool.get("name")
        name = name if isinstance(name, str) else ""
        if self._catalogue.is_active and self._is_news(f"tool {name}"):
            log.warning("the tool `%s` is left out: %s", quote(name), quote(reason))
        return False

    def _is_news(self, subject: str) -> bool:
        """Whether nothing has been said about this yet."""
        if subject in self._warned:
            return False
        if len(self._warned) >= MAX_WARNED:
            self._warned.clear()
        self._warned.add(subject)
        return True

    # Calls

    async def _call(self, message: Message, call: Call) -> None:
        headers = self._catalogue.headers(message)
        for header in self._catalogue.inexact(message):
            if self._is_news(f"header {header}"):
                log.warning("the integer in `%s` is too large for some servers", quote(header))
        begun = self._begun
        progress = Rising(call.emit, call.emit_all)
        complaint: Message | None = None

        async def take(incoming: Message) -> None:
            nonlocal complaint
            if _is_complaint(incoming):
                complaint = incoming
            else:
                await progress.first(incoming)

        first = Call(take, call.turn, call.leave, progress.first_all)
        await self._upstream.send(message, first)
        if complaint is None:
            return
        call.turn.over()
        self._catalogue.is_active = True
        await self._list_since(begun, message, call)
        if self._catalogue.headers(message) == headers:
            await _forward(complaint, call)
            return

        async def take_again(incoming: Message) -> None:
            if _is_complaint(incoming):
                await _forward(incoming, call)
            else:
                await progress.emit(incoming)

        log.info("calling the tool again, with other headers")
        again = Call(take_again, call.turn, call.leave, progress.emit_all)
        await self._upstream.send(*renamed(message, again, next(self._ids)))

    async def _list_since(self, begun: int, message: Message, call: Call) -> None:
        """Have the tools listed anew after the `begun`th time; one listing serves all who wait.

        It runs in the task of the first of them: when that one is cancelled, the next takes over.
        """
        async with self._listing:
            if self._listed > begun:
                return
            self._begun = number = self._begun + 1
            try:
                with trio.fail_after(LISTING):
                    await self._list(message, call)
            except RelayError as exc:
                log.warning("could not list the tools anew: %s", exc)
            except trio.TooSlowError:
                log.warning("could not list the tools anew within %g seconds", LISTING)
            self._listed = number

    async def _list(self, message: Message, call: Call) -> None:
        cursor: str | None = None
        seen: set[str | None] = set()
        while cursor not in seen:
            if len(seen) >= MAX_PAGES:
                log.warning("`%s` has more than %d pages", spec.LIST_TOOLS, MAX_PAGES)
                return
            seen.add(cursor)
            page = await ask(self, _list_request(next(self._ids), cursor, message), call)
            if page is None or page.error is not None:
                log.warning("could not list the tools anew: the server refuses")
                return
            cursor = page.result.get("nextCursor")
            if not isinstance(cursor, str):  # the empty string is a cursor as well
                return


def _is_complaint(message: Message) -> bool:
    error = message.error if message.is_response else None
    return error is not None and error.get("code") == spec.HEADER_MISMATCH


def _list_request(id: str, cursor: str | None, message: Message) -> Message:
    """A request for a page, in the name of the client that sent `message`."""
    request = jsonrpc.request(id, spec.LIST_TOOLS, None if cursor is None else {"cursor": cursor})
    meta = splice.get(message.raw.decode(), "params", "_meta")
    if meta is None:
        return request
    meta = splice.drop(meta, "progressToken")  # it belongs to one request only (T-64)
    return request.edited(lambda text: splice.put(text, meta, "params", "_meta"))


async def _forward(complaint: Message, call: Call) -> None:
    """Let the client see what should not be: the headers are ours."""
    log.error("the server finds the headers of a call at odds with its body, as they are now")
    await call.emit(complaint)
