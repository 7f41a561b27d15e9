"""The settings of one run, frozen: what `cli` makes of arguments and environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

MIB = 1024 * 1024


Transport = Literal["auto", "streamable-http", "sse"]
ProtocolEra = Literal["auto", "legacy", "modern"]
Bridging = Literal["auto", "always", "never"]
Gives = Literal["token", "headers"]
Grant = Literal["authorization-code", "device-code", "client-credentials"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How the server's certificate is judged and which one we show."""

    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """How to sign in. Durations are seconds.

    `resource` overrides what the server's metadata says of itself, unless the parameter is left out
    altogether. `parameters` go into the authorize request besides the protocol's own. `timeout` is
    how long a sign-in may take, `start_wait` how long a client's message is held for one.
    """

    grant: Grant = "authorization-code"
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    client_metadata_url: str | None = None
    scope: str | None = None
    resource: str | None = None
    sends_resource: bool = True
    parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    uses_id_token: bool = False
    assumes_pkce: bool = False
    allows_private: bool = False
    callback_port: int | None = None
    opens_browser: bool = True
    profile: str = "default"
    timeout: float = 120.0
    start_wait: float = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where headers are read from, at the start and again when the server refuses them.

    That is the file at `path`, or what `command` prints. `option` is the user's name for it,
    `gives` says what is found there: a bearer token, or lines of `Key: Value`.
    """

    option: str
    gives: Gives
    path: str | None = None
    command: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything the relay needs to know. Durations are seconds; None means no limit.

    `headers` are the user's own, `Authorization` among them; they go to the server's origin only,
    and no representation shows them. A header of `sources` replaces one of the same name in
    `headers`, and one of an earlier source. `oauth` is None unless the user wants to sign in. `url`
    holds no user information. `transport` and `protocol_era` are the server's, found out by `auto`;
    `bridge` says whether a client and a server of different eras are brought together: where
    needed, also where a client only asks (`always`), or not at all.
    """

    url: str = field(repr=False)  # its path or query may hold a secret
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    sources: tuple[Source, ...] = ()
    oauth: OAuth | None = None
    tls: Tls = field(default_factory=Tls)
    timeout_connect: float = 10.0
    timeout_read: float | None = 120.0
    timeout_call: float | None = None
    drain_timeout: float = 1.2
    max_message_size: int = 64 * MIB
    merge_pages: bool = True
    transport: Transport = "auto"
    protocol_era: ProtocolEra = "auto"
    bridge: Bridging = "auto"
