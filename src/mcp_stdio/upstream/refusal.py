"""What an HTTP error status means to the client: the server's own words, or ours about them.

A JSON-RPC error in the body is the server's answer to the request, under whatever id it came
(T-15); anything else becomes an error of ours that quotes the body. Knows no session.
"""

from __future__ import annotations

import re
import time

from mcp_stdio import jsonrpc, retry, sse
from mcp_stdio.errors import AuthorizationFailed, BadAnswer, Refused, RelayError, quote
from mcp_stdio.http import Exchange, Head
from mcp_stdio.http.body import read_beginning
from mcp_stdio.jsonrpc import Message, NotAMessage
from mcp_stdio.spec import EVENT_STREAM
from mcp_stdio.upstream.stream import messages_in

ERROR_BODY = 1024 * 1024
"""Bytes of an error response that are read: enough for any JSON-RPC error."""

ERROR_TIME = 5.0
"""Seconds for the same; the status alone says what matters most."""

_HINTS = {
    404: "check the path of the URL; MCP endpoints are often at `/mcp`",
    405: "the URL takes no POST; check its path, MCP endpoints are often at `/mcp`",
    406: "the URL has no answer in the forms of MCP; check that it is that of an MCP server",
    410: "nothing is there any more; ask who runs the server for its new URL",
    413: "the server takes no message of this size; send less at a time",
    415: "the URL takes no JSON; check that it is that of an MCP server",
    429: "the server limits the rate; try again later",
    502: "a gateway could not reach the server; try again later",
    503: "the server is not available; try again later",
    504: "a gateway waited in vain for the server; try again later",
}

_SIGN_IN = "sign in with `--oauth`, or give a token with `MCP_BEARER_TOKEN`"

_ANOTHER_TOKEN = (
    "what was given is wrong, has expired or is for another server; give another token with "
    "`MCP_BEARER_TOKEN`, or sign in with `--oauth`"
)

_HARMLESS = re.compile(
    r"accept-.*|dnt|from|referer|traceparent|tracestate|user-agent", re.IGNORECASE
)
"""Headers of the user's that no server takes for a credential."""

_NAMED = 3
"""Headers that are named in a hint."""

_BASIC = "the server wants a user and a password: give them with `-H 'Authorization: Basic ...'`"

_SCHEME = re.compile(r"(?:^|,)\s*([\w-]+)(?=\s+[^\s=,]|\s*(?:,|$))")
_SCOPES = re.compile(r'(?:^|[\s,])scope="?([\w.:/+*~@ -]{1,200})"')
"""Only of characters that can be pasted into any shell between quotes."""

_AROUND_PROXY = "; or, if it is the proxy that refuses, name the host in `NO_PROXY`"

_OF_PROXIES = frozenset({403, 502, 503, 504})
"""Statuses that a proxy which reads the request may have given in the server's place."""

_PERMISSION = "the credential may lack a permission; ask who runs the server for it"


class HttpRefusal(Refused):
    """An HTTP error status; `answer` is the server's JSON-RPC error under the request's id.

    `event` is its row in the retry table, if it has one, `retry_after` in seconds. `came_later`
    says that the request had waited for another attempt before.
    """

    def __init__(
        self,
        cause: str,
        *,
        status: int,
        text: str,
        answer: Message | None,
        retry_after: float | None,
    ) -> None:
        super().__init__(cause, status=status, text=text, hint=_HINTS.get(status))
        self.answer = answer
        self.retry_after = retry_after
        self.came_later = False
        self.event = retry.event_of_status(status, retry_after)
        # What may be repeated whatever it was did not run.
        self.retryable = self.event is not None and not retry.TABLE[self.event].safe_methods_only


class HandshakeRefused(BadAnswer):
    """The server does not open a session any more with the `initialize` that it once accepted."""


async def refusal(exchange: Exchange, head: Head, id: jsonrpc.Id | None) -> RelayError:
    """The failure that a response with an error status is, to the request of this id if any."""
    body = await read_beginning(exchange, ERROR_BODY, ERROR_TIME)
    text = quote(body.decode(errors="replace"))
    challenge = quote(", ".join(head.headers.get_all("www-authenticate")))
    said = "; ".join(filter(None, (challenge, text)))
    if head.status == 401:
        return _unauthorized(head, said)
    answer = None if id is None else _error_in(body, head, id)
    if answer is not None and answer.error is not None:
        text = quote(str(answer.error.get("message", "")))
    if head.status == 403 and answer is None:
        return _forbidden(head, said)
    failure = HttpRefusal(
        _with_text(f"{_who(head)} answered with status {head.status}", text),
        status=head.status,
        text=text,
        answer=answer,
        retry_after=retry.parse_retry_after(head.headers.get("retry-after"), time.time()),
    )
    if failure.hint is not None:
        failure.hint += _around(head)
    return failure


def _who(head: Head) -> str:
    """Whose answer this is, as far as that can be known."""
    return f"the server or the proxy `{head.proxy}`" if _around(head) else "the server"


def _around(head: Head) -> str:
    """What to add to a hint where a proxy may have answered."""
    is_doubtful = head.proxy is not None and head.status in _OF_PROXIES
    return _AROUND_PROXY if is_doubtful else ""


def _unauthorized(head: Head, said: str) -> AuthorizationFailed:
    if head.is_to_credential:
        cause, hint = "the server refuses the credential (401)", _ANOTHER_TOKEN
    elif own := _own_credential(head):
        cause = "the server wants a credential, or another one (401)"
        hint = f"{own} may be wrong or expired, or not what the server looks at; else {_SIGN_IN}"
    else:
        cause, hint = "the server wants a credential (401)", _SIGN_IN
    if _schemes(head) == {"basic"}:
        hint = _BASIC
    return AuthorizationFailed(_with_text(cause, said), hint=hint, status=401)


def _forbidden(head: Head, said: str) -> AuthorizationFailed:
    if "insufficient_scope" in said:
        hint = _more_scope(head)
    else:
        hint = _PERMISSION if head.is_to_credential else _SIGN_IN
        if not head.is_to_credential and (own := _own_credential(head)):
            hint = f"{own} may be wrong or lack a permission; else {_SIGN_IN}"
    return AuthorizationFailed(
        _with_text(f"{_who(head)} refuses access (403)", said),
        hint=hint + _around(head),
        status=403,
    )


def may_be_credential(name: str) -> bool:
    """Whether a server may take a header of this name, given by the user, for a credential."""
    return not _HARMLESS.fullmatch(name)


def _own_credential(head: Head) -> str:
    """What of the user's own headers may be a credential; empty if there is none."""
    names = [f"`{name}`" for name in head.shown if may_be_credential(name)]
    return ", ".join(names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")


def _schemes(head: Head) -> set[str]:
    """The ways to show a credential that the server names, in lower case."""
    challenges = head.headers.get_all("www-authenticate")
    return {name.lower() for each in challenges for name in _SCHEME.findall(each)}


def _more_scope(head: Head) -> str:
    found = _SCOPES.search(", ".join(head.headers.get_all("www-authenticate")))
    sign_in = f"`--oauth --oauth-scope '{found[1].strip()}'`" if found else ""
    sign_in = sign_in or "`--oauth --oauth-scope SCOPE`"
    if head.is_to_credential:
        return f"the token lacks a scope; get one that has it, or sign in for it with {sign_in}"
    return f"sign in with {sign_in}, or give a token with `MCP_BEARER_TOKEN`"


def _error_in(body: bytes, head: Head, id: jsonrpc.Id) -> Message | None:
    try:
        if head.media_type == EVENT_STREAM:
            decoder = sse.Decoder(ERROR_BODY)
            messages = messages_in(decoder.feed(body))
        else:
            messages = jsonrpc.parse_many(body)
    except NotAMessage:
        return None
    for message in messages:
        if message.is_response and message.error is not None:
            return message if jsonrpc.same_id(message.id, id) else message.with_id(id)
    return None


def _with_text(cause: str, text: str) -> str:
    return f"{cause}: {text}" if text else cause
