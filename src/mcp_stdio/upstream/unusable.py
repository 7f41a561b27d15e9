"""What a server with a good status sent in place of an answer: a page, nothing, half of one.

Owns the words for it, and the doubt: JSON that only the close ended may have been cut off there.
"""

from __future__ import annotations

from mcp_stdio import jsonrpc
from mcp_stdio.errors import BadAnswer, quote
from mcp_stdio.http import Exchange, Head
from mcp_stdio.http.body import read_beginning
from mcp_stdio.jsonrpc import NotAMessage
from mcp_stdio.upstream.refusal import ERROR_BODY, ERROR_TIME

NO_ENDPOINT = "check that the URL is that of an MCP server; its path is often `/mcp`"
A_PAGE = (
    "a web page is there: check the path of the URL, which is often `/mcp`, and whether a sign-in "
    "page stands in between"
)
"""What to do about an answer that is none."""


async def strange(exchange: Exchange, head: Head) -> BadAnswer:
    """The failure for a body that is neither JSON nor an event stream; reads its beginning."""
    body = await read_beginning(exchange, ERROR_BODY, ERROR_TIME)
    if not body.strip():
        return BadAnswer(f"the server's answer is empty (status {head.status})", hint=NO_ENDPOINT)
    kind = quote(head.media_type) or "no content type"
    return BadAnswer(
        f"the server answered {head.status} with {kind} instead of JSON or an event stream: "
        f"{quote(body.decode(errors='replace'))}",
        hint=A_PAGE if "html" in kind else NO_ENDPOINT,
    )


def no_message(body: bytes, head: Head, why: NotAMessage) -> BadAnswer | None:
    """The failure for a body that should have been a message; None if it may be the half of one."""
    begins_well = body.strip()[:1] in (b"", b"{", b"[")
    if head.is_body_ended_by_close and why.code == jsonrpc.PARSE_ERROR and begins_well:
        return None
    if not body.strip():
        return BadAnswer("the server's answer is empty")
    return BadAnswer(f"the server's answer is no JSON-RPC message: {why}")
