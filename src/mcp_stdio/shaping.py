"""Results made to fit the client: an upstream around an upstream.

Merges the pages of the four list methods, since widespread clients read only the first one. Items
are cut from the pages' bytes and joined; nothing is parsed and printed anew. Knows neither HTTP nor
stdio.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from mcp_stdio import splice
from mcp_stdio.errors import RelayError
from mcp_stdio.jsonrpc import Message
from mcp_stdio.spec import LISTS
from mcp_stdio.upstream import Call, Sending, Upstream, ask

log = logging.getLogger(__name__)

MAX_PAGES = 100
"""Pages that are merged; what is beyond stays reachable through the last page's `nextCursor`."""


Tell = Callable[[str], None]
"""Is told in words what is wrong with the pages of a list."""


def warn(text: str) -> None:
    """Tell whoever reads the log."""
    log.warning("%s", text)


class MergedPages:
    """Answers a list request without a cursor by all pages in one.

    A later page that fails ends the merging: the client gets what there is, with the cursor of the
    page that is missing. A cursor that comes again ends the list. `limit` bounds the merged answer
    in bytes; `tell` hears of what is left out.
    """

    def __init__(
        self, upstream: Upstream, ids: Iterator[str], *, limit: int, tell: Tell = warn
    ) -> None:
        self._upstream = upstream
        self._tell = tell
        self._ids = ids
        self._limit = limit

    @property
    def version(self) -> str | None:
        """The protocol version agreed with the client."""
        return self._upstream.version

    def send(self, message: Message, call: Call) -> Sending:
        """Deliver one message; see `Upstream.send`."""
        items = LISTS.get(message.method)
        if items is None or not message.is_request or "cursor" in message.params:
            return self._upstream.send(message, call)
        return self._list(message, call, items)

    def refresh(self) -> None:
        """See `Upstream.refresh`."""
        self._upstream.refresh()

    async def aclose(self) -> None:
        """See `Upstream.aclose`."""
        await self._upstream.aclose()

    async def _list(self, message: Message, call: Call, items: str) -> None:
        first = await ask(self._upstream, message, call)
        if first is not None:
            await call.emit(await self._merged(first, message, items, call))

    async def _merged(self, first: Message, request: Message, items: str, call: Call) -> Message:
        merged = _Pages(first, items)
        seen: set[str] = set()
        while (cursor := merged.next_cursor) is not None:
            if cursor in seen:
                self._tell(f"the pages of `{request.method}` go in circles")
                merged.next_cursor = None
                break
            seen.add(cursor)
            if len(seen) >= MAX_PAGES:
                self._tell(f"`{request.method}` has more than {MAX_PAGES} pages")
                break
            try:
                following = _next_request(request, next(self._ids), cursor)
                page = await ask(self._upstream, following, call)
            except RelayError as exc:
                self._tell(f"a further page of `{request.method}` is missing: {exc}")
                break
            if page is not None and merged.has(page):
                # A server that takes its own last cursor, say `""`, for none begins again.
                self._tell(f"the pages of `{request.method}` begin again")
                merged.next_cursor = None
                break
            if page is None or not merged.append(page, self._limit):
                self._tell(f"a further page of `{request.method}` is missing")
                break
        return merged.message()


class _Pages:
    """The first page, and the items of those after it."""

    def __init__(self, first: Message, items: str) -> None:
        self.next_cursor = _next_cursor(first) if _has_items(first, items) else None
        self._first = first
        self._items = items
        self._parts = [self._part(first)] if _has_items(first, items) else []
        self._size = len(first.raw)

    def has(self, page: Message) -> bool:
        """Whether a page brings the very items of another one."""
        return _has_items(page, self._items) and self._part(page) in filter(None, self._parts)

    def append(self, page: Message, limit: int) -> bool:
        """Take over another page; False when it is none, or makes the answer too large."""
        if not _has_items(page, self._items) or self._size + len(page.raw) > limit:
            return False
        self._size += len(page.raw)
        self._parts.append(self._part(page))
        self.next_cursor = _next_cursor(page)
        return True

    def message(self) -> Message:
        """The first page with all items in it, and the cursor of what is still missing."""
        if len(self._parts) < 2:
            return self._first
        array = f"[{','.join(filter(None, self._parts))}]"

        def merge(text: str) -> str:
            text = splice.put(text, array, "result", self._items)
            if self.next_cursor is None:
                return splice.drop(text, "result", "nextCursor")
            return splice.put(text, splice.encode(self.next_cursor), "result", "nextCursor")

        return self._first.edited(merge)

    def _part(self, page: Message) -> str:
        """The items of a page as they stand in its bytes, without the brackets."""
        array = splice.get(page.raw.decode(), "result", self._items)
        assert array is not None
        return array[1:-1].strip()


def _has_items(page: Message, items: str) -> bool:
    return isinstance(page.result.get(items), list)


def _next_cursor(page: Message) -> str | None:
    cursor = page.result.get("nextCursor")
    return cursor if isinstance(cursor, str) else None


def _next_request(request: Message, id: str, cursor: str) -> Message:
    def change(text: str) -> str:
        # A progress token belongs to one request only (T-64); the rest of `_meta` goes along.
        text = splice.drop(text, "params", "_meta", "progressToken")
        text = splice.put(text, splice.encode(cursor), "params", "cursor")
        return splice.put(text, splice.encode(id), "id")

    return request.edited(change)
