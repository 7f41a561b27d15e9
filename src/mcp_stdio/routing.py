"""The headers by which a modern POST can be routed without its body being read.

They are derived from the message as it goes out, never from what it once was, so that header and
body cannot differ (T-20 to T-22, Q-4; 2026-07-28 streamable-http, Request Metadata). Owns the
encoding of header values (protocol.md 1.4, Q-5), which mirrored parameters use as well. Judges
nothing: what is missing in the body is missing in the headers, and the server says so.
"""

from __future__ import annotations

import base64

from mcp_stdio import spec
from mcp_stdio.errors import Unsendable
from mcp_stdio.jsonrpc import Message
from mcp_stdio.splice import Endless

NAMED_BY = {
    spec.CALL_TOOL: "name",
    spec.GET_PROMPT: "name",
    spec.READ_RESOURCE: "uri",
    spec.GET_TASK: "taskId",
    spec.UPDATE_TASK: "taskId",
    spec.CANCEL_TASK: "taskId",
}
"""The methods that name what they are about in a header, and the parameter it is taken from."""

MARK, END = "=?base64?", "?="
"""Around a value that is Base64 of UTF-8; lower case exactly."""


def headers(message: Message) -> tuple[tuple[str, str], ...]:
    """The request metadata of a POST. Raises Unsendable for what no header can carry."""
    if message.is_response:
        return ()
    found: tuple[tuple[str, str], ...] = ()
    version = spec.meta_of(message).get(spec.META_VERSION)
    if isinstance(version, str) and spec.is_visible_ascii(version):
        found += ((spec.PROTOCOL_VERSION, version),)
    if not spec.is_visible_ascii(message.method):
        # The encoding of values is not defined for this header (1.4).
        raise Unsendable(
            "the method has characters that no header can carry",
            hint="name the method in printable ASCII",
        )
    found += ((spec.METHOD, message.method),)
    if (source := NAMED_BY.get(message.method)) is not None:
        name = message.params.get(source)
        if isinstance(name, str) and not isinstance(name, Endless):
            found += ((spec.NAME, encode_value(name)),)
    return found


def encode_value(text: str) -> str:
    """The text as a header value: as it is, or as marked Base64 where that would not survive.

    Raises Unsendable for a lone surrogate, which has no UTF-8.
    """
    if _is_plain(text):
        return text
    try:
        return f"{MARK}{base64.b64encode(text.encode()).decode()}{END}"
    except UnicodeEncodeError:
        raise Unsendable(
            "a value for a header has half of a surrogate pair",
            hint="send whole characters: the escape of the other half is missing",
        ) from None


def _is_plain(text: str) -> bool:
    if text.startswith(MARK) and text.endswith(END):
        return False
    return all("\x20" <= ch <= "\x7e" for ch in text) and text.strip(" ") == text
