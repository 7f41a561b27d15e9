"""The settings of one run, frozen: what `cli` makes of arguments and environment.

They are named tuples, since creating a frozen dataclass takes four times as long, at each start.
Annotations are evaluated here, since those kept as strings would be compiled one by one.
"""

from typing import Any, Literal, NamedTuple

MIB = 1024 * 1024


Transport = Literal["auto", "streamable-http", "sse"]
ProtocolEra = Literal["auto", "legacy", "modern"]
Bridging = Literal["auto", "always", "never"]
Gives = Literal["token", "headers"]
Grant = Literal["authorization-code", "device-code", "client-credentials"]


def shown(values: NamedTuple, *hidden: str) -> str:
    """The representation of a named tuple, without the members that must never be printed."""
    members: dict[str, Any] = values._asdict()
    parts = (f"{name}={value!r}" for name, value in members.items() if name not in hidden)
    return f"{type(values).__name__}({', '.join(parts)})"


class Tls(NamedTuple):
    """How the server's certificate is judged and which one we show."""

    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False


class OAuth(NamedTuple):
    """How to sign in. Durations are seconds.

    `resource` overrides what the server's metadata says of itself, unless the parameter is left out
    altogether. `parameters` go into the authorize request besides the protocol's own. `timeout` is
    how long a sign-in may take, `start_wait` how long a client's message is held for one.
    """

    grant: Grant = "authorization-code"
    client_id: str | None = None
    client_secret: str | None = None
    client_metadata_url: str | None = None
    scope: str | None = None
    resource: str | None = None
    sends_resource: bool = True
    parameters: tuple[tuple[str, str], ...] = ()
    uses_id_token: bool = False
    assumes_pkce: bool = False
    allows_private: bool = False
    callback_port: int | None = None
    opens_browser: bool = True
    profile: str = "default"
    timeout: float = 120.0
    start_wait: float = 8.0

    def __repr__(self) -> str:
        return shown(self, "client_secret", "parameters")


class Source(NamedTuple):
    """Where headers are read from, at the start and again when the server refuses them.

    That is the file at `path`, or what `command` prints. `option` is the user's name for it,
    `gives` says what is found there: a bearer token, or lines of `Key: Value`.
    """

    option: str
    gives: Gives
    path: str | None = None
    command: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return shown(self, "command")


class Config(NamedTuple):
    """Everything the relay needs to know. Durations are seconds; None means no limit.

    `headers` are the user's own, `Authorization` among them; they go to the server's origin only,
    and no representation shows them. A header of `sources` replaces one of the same name in
    `headers`, and one of an earlier source. `oauth` is None unless the user wants to sign in. `url`
    holds no user information. `allow_tools` and `deny_tools` are patterns of names, the latter
    stronger; without any of the former every tool is allowed. `transport` and `protocol_era` are
    the server's, found out by `auto`; `bridge` says whether a client and a server of different eras
    are brought together: where needed, also where a client only asks (`always`), or not at all.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    sources: tuple[Source, ...] = ()
    oauth: OAuth | None = None
    tls: Tls = Tls()
    timeout_connect: float = 10.0
    timeout_read: float | None = 120.0
    timeout_call: float | None = None
    drain_timeout: float = 1.2
    max_message_size: int = 64 * MIB
    merge_pages: bool = True
    allow_tools: tuple[str, ...] = ()
    deny_tools: tuple[str, ...] = ()
    transport: Transport = "auto"
    protocol_era: ProtocolEra = "auto"
    bridge: Bridging = "auto"

    def __repr__(self) -> str:
        return shown(self, "url", "headers")  # the path or query of the URL may hold a secret
