"""The story from a challenge to tokens, and on: sign in, renew, step up, revoke.

Each is a flow (see `commands`): a caller performs what it yields and keeps the record it returns.
Nothing that belongs to one authorization server is ever used with another (A-31): what was granted
by one that the server no longer names is left behind. Failures: `AuthorizationFailed` with a hint
where a person or an operator has to act, `InvalidGrant` where only a new sign-in helps, and the
failures of the network, and `Refused`, where the grant is as good as it was.
"""

from __future__ import annotations

import dataclasses

from mcp_stdio.config import OAuth
from mcp_stdio.errors import (
    AuthorizationFailed,
    Declined,
    InvalidGrant,
    Refused,
    RelayError,
    Unusable,
    quote,
)
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import (
    answers,
    authorization,
    device,
    discovery,
    metadata,
    registration,
    scopes,
    tokens,
    urls,
)
from mcp_stdio.oauth.challenge import Challenge
from mcp_stdio.oauth.commands import Flow, Keep
from mcp_stdio.oauth.metadata import Place
from mcp_stdio.oauth.record import Record, Registration, Tokens


def sign_in(
    oauth: OAuth, server_url: str, challenge: Challenge | None, known: Record
) -> Flow[Record]:
    """Obtain tokens anew; `challenge` is what the server answered to a request without one."""
    server = _begun(oauth, server_url, challenge)
    place = yield from discovery.discover(server, challenge, known)
    scope = scopes.selected(oauth, challenge, place)
    try:
        return (yield from _obtain(oauth, server, place, known, scope))
    except authorization.NobodyCameBack:
        # The page of a server that no longer knows a client never leads back, so a stored one is
        # not relied on again. One that was registered just now is kept for the next time.
        issuer = place.server.issuer
        if oauth.client_id is None and issuer in known.registrations:
            yield Keep(known.forgetting(issuer))
        raise


def step_up(oauth: OAuth, server_url: str, challenge: Challenge, known: Record) -> Flow[Record]:
    """Obtain tokens that reach as far as a challenge with `insufficient_scope` asks (A-40).

    A page is opened only where one may be opened unasked (A-41). What is held stays in use
    meanwhile, and afterwards if nobody answers.
    """
    if oauth.grant == "authorization-code" and not oauth.opens_browser:
        wanted = scopes.joined(answers.scopes(challenge.scope))
        raise AuthorizationFailed(
            f"the server asks for more rights: {quote(wanted or 'it does not say which')}",
            hint="sign in for them with `mcp-stdio login --oauth-scope`",
        )
    server = _begun(oauth, server_url, challenge)
    place = yield from discovery.discover(server, challenge, known)
    had = known.tokens
    if had is not None and had.issuer == place.server.issuer:
        asked = had.requested_scope or had.scope
        scope = scopes.stepped_up(asked, challenge, oauth, place)
    else:
        scope = scopes.selected(oauth, challenge, place)
    return (yield from _obtain(oauth, server, place, known, scope))


def refresh(
    oauth: OAuth, server_url: str, known: Record, challenge: Challenge | None = None
) -> Flow[Record]:
    """Renew the tokens without a person (A-32).

    After a refusal its `challenge` is given: the server may have moved to another authorization
    server, to which nothing of the old one is carried (A-31). A refresh token that is dead is
    forgotten before this raises, lest it be shown again.
    """
    server = _begun(oauth, server_url, challenge)
    old = known.tokens
    if old is None:
        raise InvalidGrant("there is no token to renew")
    if challenge is not None:
        published = yield from discovery.protected_resource(server, challenge)
        if published is not None and old.issuer not in published.issuers:
            yield Keep(known.holding(None))
            raise InvalidGrant(
                f"the server has moved from `{quote(old.issuer)}` "
                f"to the authorization server `{quote(published.issuers[0])}`"
            )
    client = registration.renewing(oauth, known, old.issuer, old.client_id)
    try:
        renewed = yield from _renew(oauth, client, old)
    except Refused as failure:
        moved = yield from _moved(server, challenge, known, old, failure)
        renewed = yield from _renew(oauth, client, moved)
    except (Declined, Unusable) as failure:
        # Only what the server itself has said is final; an address that is refused, say, is not.
        is_dead = isinstance(failure, Declined) and failure.error in registration.DEAD_CLIENT
        if is_dead and oauth.client_id is not None:
            failure.hint = CHECK_CLIENT
            raise
        if oauth.grant == "client-credentials":
            raise
        if is_dead and client == known.registrations.get(old.issuer):
            yield Keep(known.unregistered(old.issuer))
        else:
            yield Keep(known.holding(dataclasses.replace(old, refresh_token=None)))
        raise InvalidGrant(str(failure), status=failure.status) from None
    return known.holding(renewed)


def _moved(
    server: Url, challenge: Challenge | None, known: Record, old: Tokens, failure: Refused
) -> Flow[Tokens]:
    """The tokens with the endpoint that is named now, if that is another one (A-8).

    Raises `failure` otherwise.
    """
    if failure.status not in (404, 405, 410):
        raise failure
    try:
        place = yield from discovery.discover(server, challenge, known)
    except RelayError:
        raise failure from None
    if place.server.issuer != old.issuer or place.server.token_endpoint == old.token_endpoint:
        raise failure
    return dataclasses.replace(old, token_endpoint=place.server.token_endpoint)


def revoke(oauth: OAuth, known: Record) -> Flow[None]:
    """Tell the authorization server to forget the tokens, where it offers that (RFC 7009)."""
    if known.tokens is not None:
        held = known.tokens
        client = registration.renewing(oauth, known, held.issuer, held.client_id)
        yield from tokens.revoke(client, held)


CHECK_CLIENT = "check `--client-id` and `MCP_OAUTH_CLIENT_SECRET`"


def _begun(oauth: OAuth, server_url: str, challenge: Challenge | None) -> Url:
    """The server's URL, once nothing speaks against asking it anything."""
    if challenge is not None and challenge.offers_only_dpop:
        raise metadata.dpop_needed()
    if oauth.grant == "client-credentials":
        registration.with_secret(oauth)
    return urls.contacted(server_url)


def _renew(oauth: OAuth, client: Registration, old: Tokens) -> Flow[Tokens]:
    resource = tokens.indicator(oauth, old.resource)
    if oauth.grant == "client-credentials":
        return (yield from _with_credentials(oauth, client, old))
    if old.refresh_token is None:
        raise InvalidGrant("the authorization server gave no refresh token")
    # Without `scope`: what was granted stays granted.
    form = {"grant_type": "refresh_token", "refresh_token": old.refresh_token, **resource}
    answer = yield from tokens.post(old.token_endpoint, client, form, tokens.RENEW)
    return (yield from tokens.granted(oauth, answer, old, tokens.RENEW))


def _obtain(
    oauth: OAuth, server: Url, place: Place, known: Record, scope: str | None
) -> Flow[Record]:
    match oauth.grant:
        case "client-credentials":
            return (yield from _by_credentials(oauth, place, known, scope))
        case "device-code":
            device.permitted(place.server)
        case "authorization-code":
            authorization.permitted(oauth, place.server)
    return (yield from _by_a_person(oauth, server, place, known, scope))


def _by_a_person(
    oauth: OAuth, server: Url, place: Place, known: Record, scope: str | None
) -> Flow[Record]:
    issuer, kind = place.server.issuer, registration.KINDS[oauth.grant]
    client = registration.given(oauth, place.server, known)
    redirect_uri: str | None = None
    if oauth.grant == "authorization-code":
        # Before anything that a person sees: the page's redirect must find it open.
        earlier = None if client else known.registrations.get(issuer)
        redirect_uri = yield from registration.listening(oauth, earlier)
    stored = None
    if client is not None:
        known = registration.remembered(oauth, known, issuer, client)
    elif (stored := (yield from registration.usable(known, issuer, redirect_uri))) is not None:
        client = stored
    else:
        try:
            found = yield from registration.register(place.server, known, kind, redirect_uri)
        except Refused as failure:
            # The endpoints of 2025-03-26 were a guess, and there is nothing.
            if place.server.is_legacy and failure.status in (404, 405):
                raise discovery.NowhereToSignIn(server.public) from None
            raise
        known, client = found
    try:
        obtained = yield from _granted(oauth, server, place, client, redirect_uri, scope)
    except Declined as failure:
        if failure.error not in registration.DEAD_CLIENT:
            raise
        if stored is None:
            failure.hint = CHECK_CLIENT if oauth.client_id else registration.BY_HAND
            raise
    else:
        return known.holding(obtained)
    # The server has forgotten the client. Once: one that forgets faster is beyond help.
    known = known.unregistered(issuer)
    yield Keep(known)
    if redirect_uri is not None:
        redirect_uri = yield from registration.listening(oauth, None)
    known, client = yield from registration.register(place.server, known, kind, redirect_uri)
    obtained = yield from _granted(oauth, server, place, client, redirect_uri, scope)
    return known.holding(obtained)


def _granted(
    oauth: OAuth,
    server: Url,
    place: Place,
    client: Registration,
    redirect_uri: str | None,
    scope: str | None,
) -> Flow[Tokens]:
    if redirect_uri is None:
        return (yield from device.authorize(oauth, place, client, scope, server))
    back = client.redirect_uri or redirect_uri
    code = yield from authorization.ask(oauth, place, client, back, scope)
    return (yield from authorization.exchange(oauth, place, client, code, scope))


def _by_credentials(oauth: OAuth, place: Place, known: Record, scope: str | None) -> Flow[Record]:
    client = registration.given(oauth, place.server, known)
    assert client is not None
    known = registration.remembered(oauth, known, place.server.issuer, client)
    blank = tokens.wanted(oauth, place, client, scope)
    return known.holding((yield from _with_credentials(oauth, client, blank)))


def _with_credentials(oauth: OAuth, client: Registration, asked: Tokens) -> Flow[Tokens]:
    """The client credentials grant (A-60): no person, no refresh token, asked for again instead."""
    form = {
        "grant_type": "client_credentials",
        **({"scope": asked.requested_scope} if asked.requested_scope else {}),
        **tokens.indicator(oauth, asked.resource),
    }
    try:
        answer = yield from tokens.post(asked.token_endpoint, client, form, tokens.SIGN_IN)
    except Declined as failure:
        # Some servers say `invalid_grant`: id and secret are all the grant there is.
        if failure.error in {*registration.DEAD_CLIENT, "invalid_grant", "access_denied"}:
            failure.hint = CHECK_CLIENT
        raise
    return (yield from tokens.granted(oauth, answer, asked, tokens.SIGN_IN))
