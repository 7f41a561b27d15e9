"""Which scopes are asked for: a list of words, in order, each once.

The user's word is final. Else the challenge decides, else what the resource publishes, else the
parameter is left out, never sent empty (A-18). Two words may be added to what was found, none to
nothing: a request that names no scope gets the server's default, and one word would replace it.
"""

from __future__ import annotations

from mcp_stdio.config import OAuth
from mcp_stdio.oauth.answers import scopes
from mcp_stdio.oauth.challenge import Challenge
from mcp_stdio.oauth.metadata import Place

OFFLINE_ACCESS = "offline_access"
OPENID = "openid"


def selected(oauth: OAuth, challenge: Challenge | None, place: Place) -> str | None:
    """The scope of a first sign-in; None to leave the parameter out."""
    if oauth.scope is not None:
        return joined(scopes(oauth.scope))
    found = scopes(challenge.scope) if challenge is not None else ()
    return extended(oauth, found or place.scopes, place)


def stepped_up(had: str | None, challenge: Challenge, oauth: OAuth, place: Place) -> str | None:
    """The scope that adds what a challenge misses to what was asked for before (A-40)."""
    both = scopes(had) + scopes(challenge.scope)
    return joined(both) if had else extended(oauth, both, place)


def extended(oauth: OAuth, found: tuple[str, ...], place: Place) -> str | None:
    """The scopes with those that bring a refresh token (A-19) and an ID token where it is used."""
    if oauth.grant != "client-credentials":
        if found and OFFLINE_ACCESS in place.server.scopes:
            found += (OFFLINE_ACCESS,)
        if oauth.uses_id_token:
            found += (OPENID,)
    return joined(found)


def joined(words: tuple[str, ...]) -> str | None:
    """The words as the parameter has them; None for none, so that it is never sent empty."""
    return " ".join(dict.fromkeys(words)) or None
