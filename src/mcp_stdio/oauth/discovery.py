"""From a challenge to the place where a sign-in happens: which documents are asked for, in order.

The protected resource says who may give tokens for it (A-2, A-4), the authorization server where it
does so (A-5). A server that publishes nothing of the kind is taken for one of 2025-03-26, whose
authorization server is its own origin (A-7). Nothing is cached: a sign-in is rare, and what has
changed meanwhile is the reason for it (A-8).
"""

from __future__ import annotations

from mcp_stdio import spec
from mcp_stdio.errors import AuthorizationFailed, quote
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import answers, metadata, urls
from mcp_stdio.oauth.challenge import Challenge
from mcp_stdio.oauth.commands import Fetch, Flow
from mcp_stdio.oauth.metadata import AuthorizationServer, IssuerDiffers, Place, ProtectedResource
from mcp_stdio.oauth.record import Record

RESOURCE = "/.well-known/oauth-protected-resource"
SERVER = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"

READ_RESOURCE = "read what the server says about signing in"
READ_SERVER = "read the metadata of the authorization server"


class NowhereToSignIn(AuthorizationFailed):
    """The server publishes nothing about signing in, and has nothing where it may be unsaid."""

    usual_hint = "it may want a token of another kind: `--bearer-token` or `--header`"

    def __init__(self, url: str) -> None:
        super().__init__(f"the server `{url}` does not say where to sign in")


def discover(server: Url, challenge: Challenge | None, known: Record) -> Flow[Place]:
    """Find the resource and the authorization server to sign in at, checked in every respect."""
    published = yield from protected_resource(server, challenge)
    if published is None:
        legacy = yield from legacy_server(server)
        return Place(resource=urls.canonical(server), server=legacy)
    issuer = chosen(published.issuers, known)
    found = yield from authorization_server(issuer, server)
    return Place(resource=published.resource, scopes=published.scopes, server=found)


def protected_resource(server: Url, challenge: Challenge | None) -> Flow[ProtectedResource | None]:
    """The server's protected resource metadata; None if it publishes none anywhere."""
    for url in resource_candidates(server, challenge):
        document = yield from answers.fetch_document(url, READ_RESOURCE)
        if document is not None:
            return metadata.protected_resource(document, server)
    return None


def resource_candidates(server: Url, challenge: Challenge | None) -> list[str]:
    """Where protected resource metadata may be, in order (A-2).

    The challenge may name a place at another origin (A-54): what it says there is still checked
    against the server that was contacted.
    """
    candidates = []
    if challenge is not None and challenge.resource_metadata is not None:
        named = urls.trusted(challenge.resource_metadata, "URL of the OAuth metadata", server)
        candidates.append(str(named))
    if urls.path(server) != "/":
        candidates.append(urls.root(server) + RESOURCE + urls.path(server))
    candidates.append(urls.root(server) + RESOURCE)
    return list(dict.fromkeys(candidates))


def chosen(issuers: tuple[str, ...], known: Record) -> str:
    """Of several authorization servers the one we know already, else the first (A-4)."""
    if known.tokens is not None and known.tokens.issuer in issuers:
        return known.tokens.issuer
    return next((issuer for issuer in issuers if issuer in known.registrations), issuers[0])


def authorization_server(issuer: str, server: Url) -> Flow[AuthorizationServer]:
    """The metadata that `issuer` publishes; documents of another issuer are discarded (A-6)."""
    differing: IssuerDiffers | None = None
    for url in server_candidates(urls.trusted(issuer, "authorization server", server)):
        document = yield from answers.fetch_document(url, READ_SERVER)
        if document is None:
            continue
        try:
            return metadata.authorization_server(document, (issuer,), server)
        except IssuerDiffers as failure:
            differing = differing or failure
    raise differing or AuthorizationFailed(
        f"the authorization server `{quote(issuer)}` publishes no metadata", hint=urls.TELL
    )


def server_candidates(issuer: Url) -> tuple[str, ...]:
    """Where an issuer's metadata may be, in order (A-5).

    A slash at its end is left out here and only here.
    """
    root, tenant = urls.root(issuer), urls.path(issuer).rstrip("/")
    if not tenant:
        return (root + SERVER, root + OPENID)
    return (root + SERVER + tenant, root + OPENID + tenant, root + tenant + OPENID)


def legacy_server(server: Url) -> Flow[AuthorizationServer]:
    """The authorization server of a server of 2025-03-26: its own origin (A-7).

    Nobody has spelled that issuer for us, so it may call itself by its origin with a slash or
    without. Only a 404 means the default endpoints; these are at the same origin by construction.
    """
    base = urls.root(server)
    headers = (answers.JSON, (spec.PROTOCOL_VERSION, spec.R2))
    fetched = yield Fetch("GET", base + SERVER, headers, purpose=READ_SERVER)
    if fetched.status == 404:
        return AuthorizationServer(
            issuer=base,
            authorization_endpoint=f"{base}/authorize",
            token_endpoint=f"{base}/token",
            registration_endpoint=f"{base}/register",
            is_legacy=True,
        )
    if answers.is_transient(fetched.status):
        raise answers.refused(fetched, base, READ_SERVER)
    document = answers.json_object(fetched.body) if fetched.status == 200 else None
    if document is None:
        raise NowhereToSignIn(server.public)
    return metadata.authorization_server(document, (base, base + "/"), server, is_legacy=True)
