"""Which URLs of a server's choosing are acceptable, and which resource they may speak of.

Everything in challenges and metadata is the choice of whoever runs the server (A-50): https only,
plain http on loopback for a server that is on loopback itself, no user information, no fragment.
Which addresses a name may resolve to is checked where connections are made (A-51).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from mcp_stdio.errors import AuthorizationFailed, UsageFailure, quote
from mcp_stdio.http.url import Url

TELL = "the server's OAuth metadata is wrong; tell who runs it"


def contacted(text: str) -> Url:
    """The MCP server's URL, when a token may be sent there at all (A-44)."""
    server = Url.parse(text)
    if server.scheme != "https" and not server.is_loopback:
        raise UsageFailure(
            f"OAuth tokens are not sent over plain http, as to `{server.public}`",
            hint="use the `https://` URL of the server",
        )
    return server


def trusted(text: object, what: str, server: Url) -> Url:
    """A URL from a challenge or from metadata, checked (A-26, A-50); `what` names its role."""
    if not isinstance(text, str):
        raise AuthorizationFailed(f"the {what} is not a URL", hint=TELL)
    reason = None
    try:
        url = Url.parse(text)
    except ValueError as failure:
        reason = str(failure)
    else:
        if "@" in urlsplit(text).netloc:
            reason = "it holds user information"
        elif "#" in text:
            reason = "it has a fragment"
        elif url.scheme != "https" and not (url.is_loopback and server.is_loopback):
            reason = "it must begin with https://"
    if reason:
        raise AuthorizationFailed(
            f"the {what} `{quote(text)}` cannot be used: {reason}",
            hint=TELL,
        )
    return url


def root(url: Url) -> str:
    """Scheme and authority, without a path and without a slash."""
    return f"{url.scheme}://{url.authority}"


def path(url: Url) -> str:
    """The path without query, `/` if it is empty."""
    return url.target.partition("?")[0]


def canonical(server: Url) -> str:
    """The MCP server's resource identifier where nothing publishes one (A-17).

    Without query. Only the slash of an empty path is dropped: another one may be significant.
    """
    return root(server) + ("" if path(server) == "/" else path(server))


def denotes(resource: object, server: Url) -> bool:
    """Whether a published resource identifier speaks of the server that was contacted (A-3).

    Identical, or broader by whole segments of the path (Q-10); a slash at the end makes no
    difference. One with a query must agree in it.
    """
    if not isinstance(resource, str) or "#" in resource:
        return False
    try:
        url = Url.parse(resource)
        if "@" in urlsplit(resource).netloc:
            return False
    except ValueError:
        return False
    if url.origin != server.origin:
        return False
    if "?" in url.target:
        return url.target == server.target
    return (path(server).rstrip("/") + "/").startswith(path(url).rstrip("/") + "/")
