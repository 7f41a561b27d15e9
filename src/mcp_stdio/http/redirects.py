"""Which redirects are followed: where a request may go on with its method, body and credentials.

307 and 308 within the same origin, and from http to https of the same host. Everything else ends
in a `BadAnswer` that names the target, for what is sent is neither to be changed (301, 302 and
303 would make a GET of a POST) nor to reach another origin. A decision only: no I/O.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from mcp_stdio.errors import BadAnswer
from mcp_stdio.http import Head
from mcp_stdio.http.url import Origin, Url

MAX_HOPS = 5
"""Redirects followed for one request; more of them are a circle or a mistake."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPING_METHOD = frozenset({307, 308})

_SIGN_IN_HOST = re.compile(
    r"(accounts?|auth|idp|log-?in|sign-?in|sso)\.|.*\.cloudflareaccess\.com$"
)
_SIGN_IN_PATH = re.compile(
    r"/(authorize|log[-_]?in|saml2?|sign[-_]?in|sso)(?![^/.])", re.IGNORECASE
)
_ENDPOINT = re.compile(r"/(mcp|sse)/?$")
"""What the pages are called that a web site sends strangers to, and what is none in any case."""

_SIGN_IN_HINT = (
    "a sign-in in a browser seems to stand before the server: sign in with `--oauth`, give a token "
    "with `MCP_BEARER_TOKEN`, or ask who runs it how programs get in"
)

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


def is_redirect(head: Head) -> bool:
    """Whether the response sends the request elsewhere (RFC 9110 section 15.4)."""
    return head.status in _REDIRECTS


def is_home(origin: Origin, other: Origin) -> bool:
    """Whether what is meant for `origin` may be sent to `other`: itself or its https upgrade."""
    return origin == other or (
        origin.scheme == "http" and other.scheme == "https" and origin.host == other.host
    )


def target(url: Url, head: Head, hops: int) -> Url:
    """Where the request to `url` goes on, after `hops` redirects before. Raises BadAnswer."""
    where = location(url, head)
    if hops >= MAX_HOPS:
        raise BadAnswer(
            f"the server redirects more than {MAX_HOPS} times, lastly to `{where.public}`",
            hint="check the URL; the server seems to send requests round in a circle",
            status=head.status,
        )
    if url.scheme == "https" and where.scheme == "http":
        raise BadAnswer(
            f"the server redirects from https to `{where.public}`",
            hint="credentials must not travel unencrypted; the server or a proxy before it is "
            "set up wrongly",
            status=head.status,
        )
    if head.status not in _KEEPING_METHOD or not is_home(url.origin, where.origin):
        raise BadAnswer(
            f"the server redirects to `{where.public}` (status {head.status})",
            hint=_SIGN_IN_HINT
            if looks_like_sign_in(where)
            else f"use `{where.public}` as the URL if you trust it",
            status=head.status,
        )
    return where


def looks_like_sign_in(url: Url) -> bool:
    """Whether a web site's sign-in is at this place, as far as names tell."""
    path = url.target.partition("?")[0]
    if _ENDPOINT.search(path):
        return False
    return bool(_SIGN_IN_HOST.match(url.host) or _SIGN_IN_PATH.search(path))


def location(url: Url, head: Head) -> Url:
    """Where a redirect of the request to `url` points, for good or ill. Raises BadAnswer."""
    given = head.headers.get("location")
    if given is None:
        raise BadAnswer(
            f"the server redirects (status {head.status}) without saying where",
            hint="check the URL; `-vv` shows the redirect",
            status=head.status,
        )
    try:
        # Bytes beyond ASCII are percent-encoded as they came, whatever encoding they are in.
        return url.join(quote(given.strip().encode("latin-1"), safe=_PRINTABLE))
    except ValueError as exc:
        raise BadAnswer(
            f"the server redirects (status {head.status}) to an address that cannot be used: {exc}",
            hint="check the URL; `-vv` shows the redirect",
            status=head.status,
        ) from None
