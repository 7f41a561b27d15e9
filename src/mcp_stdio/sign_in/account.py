"""One sign-in as it is shown: to people in a few lines, to programs as an object.

Owns what may be seen of a record: who, where, how far, how long; never a token, nor a part of one
(A-43). Knows no store and no clock.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mcp_stdio.config import OAuth
from mcp_stdio.errors import quote
from mcp_stdio.http.url import Url
from mcp_stdio.oauth.record import Record

MAX_SCOPES = 2000
"""Characters of scopes that are shown; some servers have hundreds."""

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What is kept of one server URL, client id and profile, at `path`.

    `issuer` is None when nobody is signed in, `scopes` when nobody has said what was granted,
    `expires_at` (seconds since the epoch) when the server has not said. `problem` is why the file
    tells nothing.
    """

    url: str
    profile: str
    path: str
    client_id: str | None = None
    issuer: str | None = None
    scopes: tuple[str, ...] | None = None
    expires_at: float | None = None
    is_renewable: bool = False
    problem: str | None = None

    @classmethod
    def of(cls, record: Record, path: str) -> Account:
        """What may be seen of a record."""
        tokens = record.tokens
        account = cls(
            url=shown(record.server_url),
            profile=record.profile,
            path=path,
            client_id=record.client_id,
        )
        if tokens is None:
            return account
        # A client by itself asks again, for which it needs no refresh token.
        is_renewable = tokens.refresh_token is not None or tokens.grant == "client-credentials"
        scope = None if tokens.scope is None else quote(tokens.scope, MAX_SCOPES)
        return cls(
            url=account.url,
            profile=account.profile,
            path=path,
            client_id=quote(tokens.client_id),
            issuer=_unmistakable(tokens.issuer),
            scopes=None if scope is None else tuple(scope.split()),
            expires_at=tokens.expires_at,
            is_renewable=is_renewable,
        )


def shown(url: str) -> str:
    """A server's URL without what may be secret in it."""
    try:
        return Url.parse(url).public
    except ValueError:
        return quote(url)


def _unmistakable(issuer: str) -> str:
    """The issuer as it calls itself; with a host in ASCII, lest it look like another one."""
    with suppress(ValueError):
        if not issuer.isascii():
            return str(Url.parse(issuer))
    return quote(issuer)


def as_object(account: Account, now: float) -> dict[str, Any]:
    """The account for machines; times are UTC (RFC 3339) and seconds from `now`."""
    expires_at = expires_in = None
    if account.expires_at is not None:
        expires_in = round(account.expires_at - now)
        expires_at = _moment(account.expires_at)
    members = {
        "url": account.url,
        "profile": account.profile,
        "signed_in": account.issuer is not None,
        "issuer": account.issuer,
        "client_id": account.client_id,
        "scopes": None if account.scopes is None else list(account.scopes),
        "expires_at": expires_at,
        "expires_in": expires_in,
        "renewable": account.is_renewable if account.issuer is not None else None,
        "problem": account.problem,
        "path": account.path,
    }
    return {name: value for name, value in members.items() if value is not None}


def as_text(account: Account, now: float) -> str:
    """The account for people."""
    is_other = account.profile != OAuth().profile
    head = account.url + (f" (profile `{account.profile}`)" if is_other else "")
    lines: list[tuple[str, str]] = []
    if account.problem is not None:
        lines.append(("unknown", account.problem))
    elif account.issuer is None:
        lines.append(("signed out", "what is kept is a registration only"))
    else:
        lines.append(("signed in at", account.issuer))
        lines.append(("scopes", _scopes(account.scopes)))
        lines.append(("expires", _expiry(account, now)))
    if account.client_id is not None:
        lines.append(("client", account.client_id))
    lines.append(("kept in", account.path))
    return "\n".join([head, *(f"    {name:<14}{text}" for name, text in lines)])


def _scopes(scopes: tuple[str, ...] | None) -> str:
    if scopes is None:
        return "the server did not say"
    return " ".join(scopes) or "none"


def _expiry(account: Account, now: float) -> str:
    if account.expires_at is None:
        return "the server did not say"
    left = account.expires_at - now
    if left > 0:
        rest = "renewed by itself" if account.is_renewable else "then it takes a new sign-in"
        return f"in {in_words(left)}; {rest}"
    rest = "renewed with the next use" if account.is_renewable else "it takes a new sign-in"
    return f"{in_words(-left)} ago; {rest}"


def in_words(seconds: float) -> str:
    """A duration as one says it, rounded down."""
    for size, name in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    return "less than a minute"


def _moment(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):  # a server may say anything
        return None
