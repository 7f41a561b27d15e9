"""What is kept of a sign-in: the registered clients and the tokens, as values and as JSON.

One record belongs to one server URL, client id and profile. Registrations are keyed by issuer and
never used with another (A-13); tokens carry the issuer and the resource they are for (A-30, A-31).
No representation shows a secret (A-43). Knows no file and no clock.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

FORMAT = 1
"""The version of what `to_json` writes; a change that an older release would misread raises it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A client as one authorization server knows it.

    `method` is how it proves who it is at the token endpoint, when the server has said so;
    `secret_expires_at` is None for a secret that lasts.
    """

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    secret_expires_at: float | None = None
    method: str | None = None
    redirect_uri: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a grant has brought, and everything that renewing or revoking it takes.

    `scope` is what was granted, `requested_scope` what was asked for; they are remembered
    separately (A-42). `expires_at` is None when the server did not say. `id_token` is set only when
    it is what the protected resource is shown. `grant` is the one that the user has signed in by,
    None where nobody has noted it.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    id_token: str | None = field(default=None, repr=False)
    token_type: str = "Bearer"
    expires_at: float | None = None
    scope: str | None = None
    requested_scope: str | None = None
    issuer: str
    client_id: str
    resource: str | None = None
    token_endpoint: str
    revocation_endpoint: str | None = None
    grant: str | None = None

    @property
    def bearer(self) -> str:
        """The token that the protected resource is shown."""
        return self.id_token or self.access_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """All that is kept of one server URL, client id and profile."""

    server_url: str = field(repr=False)  # its path or query may hold a secret
    client_id: str | None = None
    profile: str = "default"
    registrations: Mapping[str, Registration] = field(default_factory=dict)
    tokens: Tokens | None = None

    def registered(self, issuer: str, registration: Registration) -> Record:
        """The record with what `issuer` knows of us."""
        known = {**self.registrations, issuer: registration}
        return dataclasses.replace(self, registrations=known)

    def unregistered(self, issuer: str) -> Record:
        """The record without the client at `issuer`, nor tokens that were given to it."""
        tokens = self.tokens if self.tokens and self.tokens.issuer != issuer else None
        return self.forgetting(issuer).holding(tokens)

    def forgetting(self, issuer: str) -> Record:
        """The record without the client at `issuer`; the tokens may outlive it."""
        left = {key: value for key, value in self.registrations.items() if key != issuer}
        return dataclasses.replace(self, registrations=left)

    def holding(self, tokens: Tokens | None) -> Record:
        """The record with these tokens in place of what it has."""
        return dataclasses.replace(self, tokens=tokens)

    def secrets(self) -> list[str]:
        """All in it that nobody else may see."""
        found = [client.client_secret for client in self.registrations.values()]
        if (tokens := self.tokens) is not None:
            found += [tokens.access_token, tokens.refresh_token, tokens.id_token]
        return [secret for secret in found if secret]

    def to_json(self) -> bytes:
        """The record as a JSON document with its format version, without what is unset."""
        document = {"version": FORMAT, **_written(self)}
        return json.dumps(document, indent=2, sort_keys=False).encode() + b"\n"

    @classmethod
    def from_json(cls, raw: bytes) -> Record:
        """Read what `to_json` wrote; ValueError for anything else, newer formats included."""
        try:
            document = json.loads(raw)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(document, dict) or document.get("version") != FORMAT:
            raise ValueError(f"it is not of format version {FORMAT}")
        clients = document.get("registrations", {})
        if not isinstance(clients, dict):
            raise ValueError("its `registrations` is not an object")
        tokens = document.get("tokens")
        return _read(
            cls,
            document,
            registrations={key: _read(Registration, value) for key, value in clients.items()},
            tokens=None if tokens is None else _read(Tokens, tokens),
        )


def _written(value: Any) -> dict[str, Any]:
    return {
        key: _without_unset(member) for key, member in dataclasses.asdict(value).items() if member
    }


def _without_unset(member: Any) -> Any:
    if isinstance(member, dict):
        return {key: _without_unset(value) for key, value in member.items() if value is not None}
    return member


T = TypeVar("T", Registration, Tokens, Record)


def _read(kind: type[T], document: Any, **built: Any) -> T:
    """A dataclass from an object; unknown members are passed over, wrong types are a ValueError."""
    if not isinstance(document, dict):
        raise ValueError(f"its {kind.__name__.lower()} is not an object")
    types = get_type_hints(kind)
    for name, value in document.items():
        if name not in types or name in built:
            continue
        expected = types[name]
        if expected == float | None:
            expected = float | int | None
        if not isinstance(value, expected) or isinstance(value, bool):
            raise ValueError(f"its `{name}` is not of the right type")
        if isinstance(value, float | int) and not abs(value) <= sys.float_info.max:
            raise ValueError(f"its `{name}` is no number to calculate with")
        built[name] = value
    try:
        return kind(**built)
    except TypeError:
        raise ValueError(f"its {kind.__name__.lower()} is not complete") from None
