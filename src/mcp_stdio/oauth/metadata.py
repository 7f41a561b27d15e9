"""The two metadata documents as values: the protected resource's and the authorization server's.

Reading one is checking it: the resource must be the server that was contacted (A-3), the issuer the
one that was asked for, to the letter (A-6), and every URL acceptable (A-50). What a value holds may
be used without another look. Fetches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_stdio.errors import AuthorizationFailed, quote
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import answers, urls


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedResource:
    """What a server publishes of itself (RFC 9728); `resource` is exactly as published (A-17)."""

    resource: str
    issuers: tuple[str, ...]
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationServer:
    """An authorization server's metadata (RFC 8414), checked.

    `is_legacy` marks one that no protected resource named (A-7): what came with later revisions
    cannot be asked of it.
    """

    issuer: str
    token_endpoint: str
    authorization_endpoint: str | None = None
    registration_endpoint: str | None = None
    revocation_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    scopes: tuple[str, ...] = ()
    methods: tuple[str, ...] | None = None
    challenge_methods: tuple[str, ...] | None = None
    sends_issuer: bool = False
    knows_client_metadata: bool = False
    is_legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a sign-in happens: the resource it is for and the authorization server it is at."""

    resource: str
    server: AuthorizationServer
    scopes: tuple[str, ...] = field(default=())


def protected_resource(document: Mapping[str, Any], server: Url) -> ProtectedResource:
    """Read a protected resource's metadata; AuthorizationFailed if it is not `server`'s (A-3)."""
    resource = document.get("resource")
    if not isinstance(resource, str) or not urls.denotes(resource, server):
        shown = f"`{quote(resource)}`" if isinstance(resource, str) else "nothing"
        raise AuthorizationFailed(
            f"the OAuth metadata for `{server.public}` is for another resource, {shown}",
            hint="a token for one server must not be shown to another; check the URL",
        )
    issuers = answers.words(document, "authorization_servers")
    if not issuers:
        raise AuthorizationFailed(
            f"the OAuth metadata for `{server.public}` names no authorization server",
            hint=urls.TELL,
        )
    if document.get("dpop_bound_access_tokens_required") is True:
        raise dpop_needed()
    return ProtectedResource(
        resource=resource,
        issuers=issuers,
        scopes=answers.scopes(" ".join(answers.words(document, "scopes_supported") or ())),
    )


def dpop_needed() -> AuthorizationFailed:
    """The refusal of a server that wants tokens bound to a key (design 8)."""
    return AuthorizationFailed(
        "the server accepts only DPoP-bound tokens, which mcp-stdio does not support",
        hint="ask who runs the server whether it also accepts Bearer tokens",
    )


class IssuerDiffers(AuthorizationFailed):
    """A metadata document is another issuer's (A-6); names both, as they are often alike (Q-21)."""

    def __init__(self, named: object, expected: str) -> None:
        shown = f"`{quote(named)}`" if isinstance(named, str) else "nothing"
        super().__init__(
            f"the authorization server `{quote(expected)}` calls itself {shown} in its metadata",
            hint="the two must be the same to the last slash; tell who runs the server",
        )


ENDPOINTS = {
    "authorization_endpoint": "authorization endpoint",
    "token_endpoint": "token endpoint",
    "registration_endpoint": "registration endpoint",
    "revocation_endpoint": "revocation endpoint",
    "device_authorization_endpoint": "device authorization endpoint",
}


def authorization_server(
    document: Mapping[str, Any], issuers: tuple[str, ...], server: Url, *, is_legacy: bool = False
) -> AuthorizationServer:
    """Read an authorization server's metadata, which must be of one of `issuers`."""
    issuer = document.get("issuer")
    if not isinstance(issuer, str) or issuer not in issuers:
        raise IssuerDiffers(issuer, issuers[0])
    endpoints = {
        name: str(urls.trusted(document[name], what, server))
        for name, what in ENDPOINTS.items()
        if document.get(name) is not None
    }
    if "token_endpoint" not in endpoints:
        raise AuthorizationFailed(
            f"the authorization server `{quote(issuer)}` names no token endpoint", hint=urls.TELL
        )
    return AuthorizationServer(
        issuer=issuer,
        scopes=answers.words(document, "scopes_supported") or (),
        methods=answers.words(document, "token_endpoint_auth_methods_supported"),
        challenge_methods=answers.words(document, "code_challenge_methods_supported"),
        sends_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        knows_client_metadata=document.get("client_id_metadata_document_supported") is True,
        is_legacy=is_legacy,
        **endpoints,
    )
