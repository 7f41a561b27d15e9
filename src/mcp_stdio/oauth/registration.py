"""Who we are to an authorization server: the client, and how it proves that at the token endpoint.

In order: the id the user has, a client metadata document the user names, dynamic registration
(A-10). A client belongs to the issuer it was made by and is shown to no other (A-13). What the
server answers to a registration is believed: id, secret, method, expiry (A-12).
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlsplit

from mcp_stdio.config import OAuth
from mcp_stdio.errors import AuthorizationFailed, Declined, PortTaken, Refused, UsageFailure, quote
from mcp_stdio.oauth import answers
from mcp_stdio.oauth.commands import Fetch, Flow, Keep, Listen, Now
from mcp_stdio.oauth.metadata import AuthorizationServer
from mcp_stdio.oauth.record import Record, Registration
from mcp_stdio.redaction import protect

NONE, BASIC, POST = "none", "client_secret_basic", "client_secret_post"

AUTHORIZATION_CODE = "authorization_code"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
REFRESH_TOKEN = "refresh_token"

KINDS = {"authorization-code": AUTHORIZATION_CODE, "device-code": DEVICE_CODE}
"""The grants that a registered client may use, as a registration calls them."""

CLIENT_NAME = "mcp-stdio"
"""What the page that asks for consent calls us."""

REGISTER = "register with the authorization server"

BY_HAND = "register a client with the server by hand and give its id with `--client-id`"

RETRIED_ELSEWHERE = frozenset({"invalid_redirect_uri", "invalid_client_metadata"})
"""Errors of servers that know a redirect to `localhost` but none to 127.0.0.1 (A-22)."""

DEAD_CLIENT = frozenset({"invalid_client", "unauthorized_client"})
"""Errors that a client gets which the server has forgotten."""


def given(oauth: OAuth, server: AuthorizationServer, known: Record) -> Registration | None:
    """The client that the settings name, by id or by the URL of its metadata document."""
    if oauth.client_id is not None:
        if known.registrations and server.issuer not in known.registrations:
            earlier = ", ".join(f"`{quote(issuer)}`" for issuer in known.registrations)
            raise AuthorizationFailed(
                f"the client id was given for {earlier}; "
                f"now the server names `{quote(server.issuer)}`",
                hint="if that is right, `logout` and sign in anew with an id for that server",
            )
        method = method_of(oauth.client_secret, None, server.methods)
        return Registration(
            client_id=oauth.client_id, client_secret=oauth.client_secret, method=method
        )
    if oauth.client_metadata_url is not None and server.knows_client_metadata:
        return Registration(client_id=oauth.client_metadata_url, method=NONE)
    return None


def remembered(oauth: OAuth, known: Record, issuer: str, client: Registration) -> Record:
    """The record that knows which issuer a given client belongs to; its secret is not kept."""
    if client.client_id == oauth.client_id:
        return known.registered(issuer, dataclasses.replace(client, client_secret=None))
    return known


def renewing(oauth: OAuth, known: Record, issuer: str, client_id: str) -> Registration:
    """The client that a token of ours was given to, as a renewal or revocation needs it."""
    stored = known.registrations.get(issuer)
    if stored is None or stored.client_id != client_id:
        stored = Registration(client_id=client_id, method=NONE)
    if oauth.client_id != client_id:
        return stored
    secret = oauth.client_secret
    method = stored.method if secret and stored.method != NONE else method_of(secret, None, None)
    return dataclasses.replace(stored, client_secret=secret, method=method)


def listening(oauth: OAuth, known: Registration | None) -> Flow[str]:
    """Open the listener, on the port that a registered client has if it is free (A-23)."""
    port = oauth.callback_port
    if port is None and known is not None and known.redirect_uri is not None:
        port = urlsplit(known.redirect_uri).port
    redirect_uri: str
    try:
        redirect_uri = yield Listen(port)
    except PortTaken:
        if port is None or oauth.callback_port is not None:
            raise
        redirect_uri = yield Listen(None)
    return redirect_uri


def usable(known: Record, issuer: str, redirect_uri: str | None) -> Flow[Registration | None]:
    """The registered client that may be used again, with this redirect; None if there is none."""
    stored = known.registrations.get(issuer)
    if stored is None or not serves(stored, redirect_uri):
        return None
    if stored.secret_expires_at is not None and stored.secret_expires_at <= (yield Now()):
        return None
    return stored


def serves(client: Registration, redirect_uri: str | None) -> bool:
    """Whether the server compares equal what the client was registered with and what it needs."""
    return redirect_uri is None or client.redirect_uri in (redirect_uri, elsewhere(redirect_uri))


def elsewhere(redirect_uri: str) -> str:
    """The same redirect with the loopback host by its name (A-22)."""
    return redirect_uri.replace("127.0.0.1", "localhost", 1)


def register(
    server: AuthorizationServer, known: Record, grant: str, redirect_uri: str | None
) -> Flow[tuple[Record, Registration]]:
    """Register a client and keep it, whatever becomes of the sign-in (A-12)."""
    if server.registration_endpoint is None:
        raise AuthorizationFailed(
            f"the authorization server `{quote(server.issuer)}` does not register clients",
            hint=BY_HAND,
        )
    try:
        client = yield from _register(server, grant, redirect_uri)
    except Declined as failure:
        if redirect_uri is None or failure.error not in RETRIED_ELSEWHERE:
            raise
        client = yield from _register(server, grant, elsewhere(redirect_uri))
    record = known.registered(server.issuer, client)
    yield Keep(record)
    return record, client


def _register(
    server: AuthorizationServer, grant: str, redirect_uri: str | None
) -> Flow[Registration]:
    assert server.registration_endpoint is not None
    url = server.registration_endpoint
    wish = metadata(server, grant, redirect_uri)
    headers = (answers.JSON, ("Content-Type", "application/json"))
    fetched = yield Fetch("POST", url, headers, json.dumps(wish).encode(), purpose=REGISTER)
    try:
        answer = answers.answer(fetched, url, REGISTER)
    except (Declined, Refused) as failure:
        failure.hint = BY_HAND
        raise
    client_id = answers.text(answer, "client_id")
    if client_id is None:
        raise answers.unusable(REGISTER, "the server's answer holds no client id")
    secret = answers.text(answer, "client_secret")
    if secret is not None:
        protect(secret)
    said = answers.text(answer, "token_endpoint_auth_method")
    return Registration(
        client_id=client_id,
        client_secret=secret,
        # 0 means never (RFC 7591 section 3.2.1), as does a secret that is not there.
        secret_expires_at=answers.seconds(answer, "client_secret_expires_at") if secret else None,
        method=method_of(secret, said, server.methods),
        redirect_uri=redirect_uri,
    )


def metadata(server: AuthorizationServer, grant: str, redirect_uri: str | None) -> dict[str, Any]:
    """What a registration asks for. No scope: a client limited to some could never step up."""
    return {
        "client_name": CLIENT_NAME,
        "application_type": "native",
        "grant_types": [grant, REFRESH_TOKEN],
        "response_types": ["code"] if redirect_uri else [],
        "redirect_uris": [redirect_uri] if redirect_uri else [],
        "token_endpoint_auth_method": best_offered(server.methods),
    }


def best_offered(offered: tuple[str, ...] | None) -> str:
    """The method to register with: none if that is offered, for a secret of ours is no secret."""
    if offered is None:
        return NONE
    return next((method for method in (NONE, BASIC, POST) if method in offered), NONE)


def method_of(secret: str | None, said: str | None, offered: tuple[str, ...] | None) -> str:
    """How the client proves who it is (A-14).

    `said` is what the server answered to the registration; `offered` what it lists.
    """
    if secret is None or said == NONE:
        return NONE
    if said is not None and said not in (BASIC, POST):
        raise AuthorizationFailed(
            f"the authorization server wants clients to sign in by `{quote(said)}`, "
            "which mcp-stdio does not support",
            hint=BY_HAND,
        )
    return said or (BASIC if offered is None or BASIC in offered else POST)


def authenticated(
    client: Registration, form: Mapping[str, str]
) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    """Headers and form of a request to the token endpoint that proves who the client is (A-14)."""
    if client.client_secret is None or client.method == NONE:
        return (), {**form, "client_id": client.client_id}
    if client.method == POST:
        secret = {"client_id": client.client_id, "client_secret": client.client_secret}
        return (), {**form, **secret}
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    return (("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"),), dict(form)


def with_secret(oauth: OAuth) -> None:
    """Refuse a grant that needs the user's own client when none is given (A-60)."""
    if oauth.client_id is None or oauth.client_secret is None:
        raise UsageFailure(
            "`--oauth-grant client-credentials` needs a client id and a client secret",
            hint="give `--client-id`, and the secret in `MCP_OAUTH_CLIENT_SECRET`",
        )
