"""Tools that are not offered to the client: an upstream around an upstream.

Takes them out of each page of `tools/list`, and answers their calls as a server that does not have
them; everything else passes. Items are cut from the page's bytes; nothing is printed anew. What has
no name, or one that is no string, is no tool that anybody allowed. Knows neither HTTP nor stdio.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Iterable
from functools import partial

from mcp_stdio import spec, splice
from mcp_stdio.errors import UnknownTool, quote
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Emit, Sending, Upstream

log = logging.getLogger(__name__)

TOOLS = spec.LISTS[spec.LIST_TOOLS]
"""The member of a page that holds the tools."""


class Rules:
    """Which tools are offered, by patterns of their names as the server spells them.

    With any `allow`, only what one of them matches; never what one of `deny` matches.
    """

    def __init__(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        self._allow = [_compiled(pattern) for pattern in allow]
        self._deny = [_compiled(pattern) for pattern in deny]

    def allows(self, name: object) -> bool:
        """Whether the tool of this name is offered."""
        return (
            isinstance(name, str)
            and (not self._allow or any(pattern.match(name) for pattern in self._allow))
            and not any(pattern.match(name) for pattern in self._deny)
        )


class FilteredTools:
    """Offers of `upstream` those tools that the rules allow."""

    def __init__(self, upstream: Upstream, rules: Rules) -> None:
        self._upstream = upstream
        self._rules = rules
        # Of the list that is being read, which may come page by page.
        self._listed = 0
        self._offered = 0

    @property
    def version(self) -> str | None:
        """The protocol version agreed with the client."""
        return self._upstream.version

    def send(self, message: Message, call: Call) -> Sending:
        """Deliver one message; see `Upstream.send`. Raises UnknownTool."""
        if message.method == spec.CALL_TOOL and not self._rules.allows(message.params.get("name")):
            return _refuse(message)
        if message.method == spec.LIST_TOOLS and message.is_request:
            call = call.answering(partial(self._filter, call.emit, "cursor" not in message.params))
        return self._upstream.send(message, call)

    def refresh(self) -> None:
        """See `Upstream.refresh`."""
        self._upstream.refresh()

    async def aclose(self) -> None:
        """See `Upstream.aclose`."""
        await self._upstream.aclose()

    async def _filter(self, emit: Emit, is_first: bool, message: Message) -> None:
        await emit(self._allowed(message, is_first) if message.is_response else message)

    def _allowed(self, page: Message, is_first: bool) -> Message:
        """The page without the tools that are not offered; it may become empty."""
        tools = page.result.get(TOOLS)
        if not isinstance(tools, list):
            return page
        is_kept = [
            isinstance(tool, dict) and self._rules.allows(tool.get("name")) for tool in tools
        ]
        self._count(is_kept, is_first, is_last=page.result.get("nextCursor") is None)
        if all(is_kept):
            return page
        log.info("%d of %d tools are offered", sum(is_kept), len(tools))
        rest = iter(is_kept)

        def keep(tool: str) -> str | None:
            return tool if next(rest) else None

        return page.edited(lambda text: splice.edit_elements(text, keep, "result", TOOLS))

    def _count(self, is_kept: list[bool], is_first: bool, *, is_last: bool) -> None:
        if is_first:
            self._listed = self._offered = 0
        self._listed += len(is_kept)
        self._offered += sum(is_kept)
        if is_last and self._listed and not self._offered:
            log.warning("`--allow-tool` and `--deny-tool` leave none of %d tools", self._listed)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


async def _refuse(message: Message) -> None:
    name = message.params.get("name")
    raise UnknownTool(
        f"Unknown tool: {quote(name)}" if isinstance(name, str) else "Unknown tool",
        hint="`--allow-tool` and `--deny-tool` of mcp-stdio leave it out",
    )
