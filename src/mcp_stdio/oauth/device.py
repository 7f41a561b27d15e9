"""The device authorization grant: a code that a person types in on another device (RFC 8628).

Owns the patience: the interval that the server asks for, slower when it says so, and the end of it.
"""

from __future__ import annotations

from mcp_stdio.config import OAuth
from mcp_stdio.errors import (
    AuthorizationFailed,
    ConnectionLost,
    Declined,
    NobodySignedIn,
    Refused,
    TimedOut,
    Unreachable,
    quote,
)
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import answers, registration, tokens, urls
from mcp_stdio.oauth.commands import Flow, Now, ShowCode, Wait
from mcp_stdio.oauth.metadata import AuthorizationServer, Place
from mcp_stdio.oauth.record import Registration, Tokens
from mcp_stdio.redaction import protect_replaceable

HURRY = 0.8
"""Part of the time there is after which it is asked at the latest, be the interval longer."""

ASK = "get a code to sign in with"

INTERVAL = 5.0
"""Seconds between two questions when the server names none (RFC 8628 section 3.2)."""

MORE = 5.0
"""Seconds that `slow_down` adds, for this and all later questions (section 3.5)."""

SHORTEST = 1.0
"""Seconds between two questions however few the server names: the endpoint that is asked may be
somebody else's, and is not to be flooded at its word."""

MAX_CODE = 64
"""Characters of a code that a person types; more of them would be a message to that person."""

LIFETIME = 600.0
"""Seconds a code is taken to be valid for when the server does not say, though it must."""


def permitted(server: AuthorizationServer) -> None:
    """Refuse an authorization server that does not offer this grant."""
    if server.device_authorization_endpoint is None:
        raise AuthorizationFailed(
            f"the authorization server `{quote(server.issuer)}` does not offer sign-in by code",
            hint="leave out `--oauth-device` or `--oauth-grant device-code`",
        )


def authorize(
    oauth: OAuth, place: Place, client: Registration, scope: str | None, server: Url
) -> Flow[Tokens]:
    """Show a person a code and ask for the tokens until they are there or the code is over."""
    endpoint = place.server.device_authorization_endpoint
    assert endpoint is not None
    resource = tokens.indicator(oauth, place.resource)
    form = {**({"scope": scope} if scope else {}), **resource}
    answer = yield from tokens.post(endpoint, client, form, ASK)
    device_code, user_code = answers.text(answer, "device_code"), answers.text(answer, "user_code")
    if device_code is None or user_code is None:
        raise answers.unusable(ASK, "the answer holds no code")
    if len(user_code) > MAX_CODE:
        raise answers.unusable(ASK, f"the code to be typed has more than {MAX_CODE} characters")
    protect_replaceable(device_code)  # the other one is there to be seen
    # Google's name for it is older than the standard's.
    page = answer.get("verification_uri", answer.get("verification_url"))
    url = str(urls.trusted(page, "page to type the code in at", server))
    complete = answer.get("verification_uri_complete")
    if complete is not None:
        complete = str(urls.trusted(complete, "page that holds the code", server))
    lifetime = answers.seconds(answer, "expires_in") or LIFETIME
    patience = min(lifetime, oauth.timeout)
    deadline = (yield Now()) + patience
    yield ShowCode(url, user_code, complete, patience)
    form = {"grant_type": registration.DEVICE_CODE, "device_code": device_code, **resource}
    interval = max(SHORTEST, answers.seconds(answer, "interval") or INTERVAL)
    # The interval is one between two questions (section 3.5): the first may come sooner.
    pause = min(interval, patience * HURRY)
    while (yield Now()) + pause < deadline:
        yield Wait(pause)
        try:
            answer = yield from tokens.post(
                place.server.token_endpoint, client, form, tokens.SIGN_IN
            )
        except Declined as failure:
            if failure.error == "slow_down":
                interval += MORE
            elif failure.error != "authorization_pending":
                raise
        except (Unreachable, ConnectionLost, TimedOut, Refused) as failure:
            if isinstance(failure, Refused) and not answers.is_transient(failure.status):
                raise
            interval *= 2  # section 3.5: exponential backoff
        else:
            blank = tokens.wanted(oauth, place, client, scope)
            return (yield from tokens.granted(oauth, answer, blank, tokens.SIGN_IN))
        pause = interval
    raise NobodySignedIn(f"nobody has signed in within {patience:.0f} s")
