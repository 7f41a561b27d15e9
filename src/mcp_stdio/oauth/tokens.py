"""Requests to the token and revocation endpoints, and reading the tokens that come back.

Every request carries the resource it is for, unless the user has it left out (A-17), and proves who
the client is (A-14). What was granted is remembered next to what was asked for (A-42).
"""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from mcp_stdio.config import OAuth
from mcp_stdio.errors import quote
from mcp_stdio.oauth import answers, registration
from mcp_stdio.oauth.commands import Fetch, Flow, Now
from mcp_stdio.oauth.metadata import Place
from mcp_stdio.oauth.record import Registration, Tokens

FORM = ("Content-Type", answers.FORM)

SIGN_IN = "get a token from the authorization server"
RENEW = "renew the token"
REVOKE = "revoke the token"

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""What fits into an `Authorization` header."""


def post(
    url: str, client: Registration, form: Mapping[str, str], purpose: str
) -> Flow[dict[str, Any]]:
    """Send a form with the client's credential and read the answer; raises Declined or Refused."""
    fetched = yield posting(url, client, form, purpose)
    return answers.answer(fetched, url, purpose)


def posting(url: str, client: Registration, form: Mapping[str, str], purpose: str) -> Fetch:
    """The request of `post`, for flows that read the answer themselves."""
    headers, members = registration.authenticated(client, form)
    body = answers.form_encoded(members.items()).encode()
    return Fetch("POST", url, (answers.JSON, FORM, *headers), body, purpose=purpose)


def indicator(oauth: OAuth, resource: str | None) -> dict[str, str]:
    """The `resource` parameter: the user's, else exactly what was published, or none at all."""
    value = oauth.resource or resource
    return {"resource": value} if value and oauth.sends_resource else {}


def wanted(oauth: OAuth, place: Place, client: Registration, scope: str | None) -> Tokens:
    """What is asked for, as tokens that nobody has given yet."""
    return Tokens(
        access_token="",
        requested_scope=scope,
        issuer=place.server.issuer,
        client_id=client.client_id,
        resource=indicator(oauth, place.resource).get("resource"),
        token_endpoint=place.server.token_endpoint,
        revocation_endpoint=place.server.revocation_endpoint,
    )


def granted(oauth: OAuth, answer: Mapping[str, Any], asked: Tokens, purpose: str) -> Flow[Tokens]:
    """The tokens of an answer; `asked` says what they were asked for and what is left otherwise.

    An old refresh token is kept only if no new one came (A-32); a scope that is not named is the
    one that was asked for, or was had (RFC 6749 sections 5.1 and 6).
    """
    token_type = answer.get("token_type")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        shown = f"`{quote(token_type)}`" if isinstance(token_type, str) else "no type"
        raise answers.unusable(purpose, f"the token is of {shown}, not `Bearer`")
    access = _token(answer, "access_token")
    if access is None:
        raise answers.unusable(purpose, "the answer holds no access token")
    id_token = _token(answer, "id_token") if oauth.uses_id_token else None
    if oauth.uses_id_token and id_token is None:
        raise answers.unusable(purpose, "the answer holds no ID token")
    lifetime = answers.seconds(answer, "expires_in")
    expires_at = None if lifetime is None else (yield Now()) + lifetime
    return dataclasses.replace(
        asked,
        access_token=access,
        refresh_token=answers.text(answer, "refresh_token") or asked.refresh_token,
        id_token=id_token,
        token_type="Bearer",
        # An ID token says itself how long it lasts; `expires_in` speaks of the access token.
        expires_at=(expiry_of(id_token) if id_token else None) or expires_at,
        scope=answers.text(answer, "scope") or asked.scope or asked.requested_scope,
        grant=oauth.grant,
    )


def _token(answer: Mapping[str, Any], name: str) -> str | None:
    token = answers.text(answer, name)
    return token if token is not None and _TOKEN.fullmatch(token) else None


def expiry_of(id_token: str) -> float | None:
    """When an ID token expires, as it says; not verified, since only the resource relies on it."""
    try:
        payload = id_token.split(".")[1]
        claims = answers.json_object(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return None
    return answers.seconds(claims or {}, "exp")


def revoke(client: Registration, tokens: Tokens) -> Flow[None]:
    """Revoke the tokens where that is offered, the refresh token first (RFC 7009)."""
    if tokens.revocation_endpoint is None:
        return
    for hint, token in (
        ("refresh_token", tokens.refresh_token),
        ("access_token", tokens.access_token),
    ):
        if token is None:
            continue
        form = {"token": token, "token_type_hint": hint}
        fetched = yield posting(tokens.revocation_endpoint, client, form, REVOKE)
        # The body of a success says nothing (RFC 7009 section 2.2).
        if fetched.status != 200:
            answers.answer(fetched, tokens.revocation_endpoint, REVOKE)
