"""The authorization code grant: the page a person visits, its redirect, the exchange of the code.

PKCE with S256 always (A-15), and only where the server says it knows it (A-16). The address of the
page is taken apart and built by us (A-24). The redirect is believed only after its issuer has been
compared with the one that was found before the page was opened (A-21), errors included.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from mcp_stdio.config import OAuth
from mcp_stdio.errors import AuthorizationFailed, Declined, NobodySignedIn, TimedOut, quote
from mcp_stdio.oauth import answers, tokens, urls
from mcp_stdio.oauth.commands import Flow, Visit
from mcp_stdio.oauth.metadata import AuthorizationServer, Place
from mcp_stdio.oauth.record import Registration, Tokens
from mcp_stdio.redaction import protect_replaceable

S256 = "S256"

AUTHORIZE = "sign in"

ENTROPY = 32
"""Random octets of a state (A-20 wants 16) and of a verifier, which become 43 characters (A-15)."""


def permitted(oauth: OAuth, server: AuthorizationServer) -> None:
    """Refuse an authorization server that this grant cannot be used with safely (A-16)."""
    if server.authorization_endpoint is None:
        raise AuthorizationFailed(
            f"the authorization server `{quote(server.issuer)}` has no page to sign in at",
            hint="try `--oauth-grant device-code` or `--oauth-grant client-credentials`",
        )
    methods = server.challenge_methods
    if methods is None:
        # 2025-03-26 did not ask servers to announce it.
        if server.is_legacy or oauth.assumes_pkce:
            return
        reason = "does not say that it supports PKCE"
    elif S256 in methods:
        return
    else:
        reason = "does not support PKCE with S256"
    hint = "if you know that it does, use `--oauth-assume-pkce`" if methods is None else None
    raise AuthorizationFailed(
        f"the authorization server `{quote(server.issuer)}` {reason}", hint=hint or urls.TELL
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """An authorization code and what its one exchange has to repeat (A-25)."""

    value: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str


class NobodyCameBack(NobodySignedIn):
    """The page was shown, and no browser came back from it in time."""


def ask(
    oauth: OAuth, place: Place, client: Registration, redirect_uri: str, scope: str | None
) -> Flow[Code]:
    """Have a person sign in; the code that the browser comes back with."""
    server = place.server
    assert server.authorization_endpoint is not None
    state, verifier = secrets.token_urlsafe(ENTROPY), secrets.token_urlsafe(ENTROPY)
    protect_replaceable(verifier)
    asked = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": code_challenge(verifier),
        "code_challenge_method": S256,
        **({"scope": scope} if scope else {}),
        **tokens.indicator(oauth, place.resource),
    }
    page = page_url(server.authorization_endpoint, asked, oauth.parameters)
    try:
        redirect = yield Visit(page, state)
    except TimedOut as failure:
        raise NobodyCameBack(str(failure), hint=failure.hint) from None
    # First of all: servers repeat what they refuse (P7).
    protect_replaceable(redirect.get("code", ""))
    code = code_of(redirect, server)
    return Code(value=code, verifier=verifier, redirect_uri=redirect_uri)


def exchange(
    oauth: OAuth, place: Place, client: Registration, code: Code, scope: str | None
) -> Flow[Tokens]:
    """The tokens for a code."""
    form = {
        "grant_type": "authorization_code",
        "code": code.value,
        "redirect_uri": code.redirect_uri,
        "code_verifier": code.verifier,
        **tokens.indicator(oauth, place.resource),
    }
    url = place.server.token_endpoint
    answer = yield from tokens.post(url, client, form, tokens.SIGN_IN)
    blank = tokens.wanted(oauth, place, client, scope)
    return (yield from tokens.granted(oauth, answer, blank, tokens.SIGN_IN))


def code_challenge(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636 section 4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def page_url(endpoint: str, asked: Mapping[str, str], extra: Iterable[tuple[str, str]]) -> str:
    """The page's URL: the endpoint's own query is kept (RFC 6749 section 3.1), ours counts."""
    base, _, query = endpoint.partition("?")
    kept = [*parse_qsl(query, keep_blank_values=True), *extra]
    pairs = [(name, value) for name, value in kept if name not in asked]
    return f"{base}?{answers.form_encoded([*pairs, *asked.items()])}"


def code_of(redirect: Mapping[str, str], server: AuthorizationServer) -> str:
    """The code that a redirect brings, once its issuer is known to be the right one."""
    came_from(redirect, server)
    if "error" in redirect:
        raise _declined(redirect)
    code = answers.text(redirect, "code")
    if code is None:
        raise answers.unusable(AUTHORIZE, "the browser came back without a code")
    return code


def _declined(redirect: Mapping[str, str]) -> Exception:
    failure = answers.declined(redirect, AUTHORIZE)
    if isinstance(failure, Declined) and failure.error == "access_denied":
        failure.hint = "the sign-in was cancelled or not allowed; try again when it is"
    return failure


def came_from(redirect: Mapping[str, str], server: AuthorizationServer) -> None:
    """Refuse a redirect of another issuer (RFC 9207): compared as strings, nothing normalised.

    What else such a redirect says is not shown (A-21).
    """
    issuer = redirect.get("iss")
    if issuer is None and server.sends_issuer:
        raise answers.unusable(
            AUTHORIZE, "the browser came back without the issuer that the server always names"
        )
    if issuer is not None and issuer != server.issuer:
        raise AuthorizationFailed(
            f"could not {AUTHORIZE}: the browser came back from `{quote(issuer)}`, "
            f"not from `{quote(server.issuer)}`",
            hint="another authorization server may be meddling; nothing was sent to either",
        )
