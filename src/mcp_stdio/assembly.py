"""The parts put together: which upstream a configuration asks for.

    MergedPages ─ Era ─┬─ Handshaking, for clients that shake hands; the first that accepts:
                       │    ├─ Parameters ─ Session over Streamable HTTP
                       │    ├─ LegacyClient ─ Parameters ─ Stateless
                       │    └─ Session over HTTP+SSE
                       └─ Probing, for clients that do not; one of:
                            ├─ Parameters ─ Stateless            (the same as above)
                            └─ ModernClient ─ Handshaking, without the bridge

Around all of it, where they are asked for: StandIn ─ FilteredTools.

The relay and the connection test stand on the same objects, so they are joined here, once. A way
that is not taken is never made, nor its modules loaded. Knows neither standard streams nor what
becomes of the messages.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from mcp_stdio import jsonrpc
from mcp_stdio.config import Config
from mcp_stdio.era import Era
from mcp_stdio.era.candidates import Candidate, bridged, http_sse, streamable_http
from mcp_stdio.era.evidence import Verdict
from mcp_stdio.era.handshaking import Handshaking
from mcp_stdio.era.probing import Probing
from mcp_stdio.http import Lane
from mcp_stdio.http.authorizer import Authorizer, Fixed
from mcp_stdio.http.client import open_client
from mcp_stdio.http.url import Url
from mcp_stdio.jsonrpc import Message
from mcp_stdio.shaping import MergedPages, Tell, warn
from mcp_stdio.upstream import Emit, Upstream
from mcp_stdio.upstream.background import guarded
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.on_demand import OnDemand

if TYPE_CHECKING:
    from mcp_stdio.http.observer import Observer
    from mcp_stdio.oauth.bearer import Bearer
    from mcp_stdio.oauth.fetch import Fetcher
    from mcp_stdio.stand_in import SignIn

Renewed = Callable[[], Awaitable[None]]


HELD = 0.75
"""Part of `--timeout-read` that a message may be held for a sign-in, at the most."""


def given(config: Config) -> Authorizer:
    """The credential that the user gives, in the settings or by files and commands."""
    if not config.sources:
        return Fixed(config.headers)
    from mcp_stdio.credentials.supplied import Supplied

    return Supplied(config.headers, config.sources)


class Access:
    """The way to the server: `client` reaches it, with the credential that the settings ask for.

    Connects to nothing yet. Raises UsageFailure, as `open_client` does, and StoreFailure where
    there is no place to keep a sign-in. `observer` is told of the connections.
    """

    def __init__(self, config: Config, observer: Observer | None = None) -> None:
        authorizer = given(config)
        self.bearer: Bearer | None = None
        self._fetcher: Fetcher | None = None
        if config.oauth is not None:
            from mcp_stdio.oauth.bearer import Bearer
            from mcp_stdio.oauth.fetch import Fetcher
            from mcp_stdio.oauth.store import Store, default_directory

            oauth = config.oauth
            self._fetcher = Fetcher(config)
            store = Store(default_directory(os.environ))
            entry = store.entry(config.url, oauth.client_id, oauth.profile)
            if config.timeout_read is not None:  # held longer, a message would run out of time
                patience = min(oauth.start_wait, HELD * config.timeout_read)
                oauth = oauth._replace(start_wait=patience)
            authorizer = self.bearer = Bearer(oauth, entry, authorizer, self._fetcher.fetch)
            self.bearer.recall()
        self.client = open_client(config, authorizer=authorizer, observer=observer)

    def attend(self, nursery: trio.Nursery, grace: Callable[[], float] | None = None) -> None:
        """Run in `nursery` what signing in takes.

        `grace` says how many seconds it has when the nursery is cancelled.
        """
        if self.bearer is not None:
            attend = partial(self.bearer.attend, *([] if grace is None else [grace]))
            nursery.start_soon(guarded, attend)

    async def aclose(self) -> None:
        """Close what is left open."""
        await self.client.aclose()
        if self._fetcher is not None:
            await self._fetcher.aclose()


def assemble(
    config: Config,
    client: Lane,
    nursery: trio.Nursery,
    emit: Emit,
    sign_in: SignIn | None = None,
) -> Upstream:
    """The upstream of these settings; `emit` takes what belongs to no request.

    With `sign_in`, which tells when somebody has, a client is kept company until then.
    """
    parts = _Parts(config, client, nursery)
    upstream = parts.shaped(parts.era(emit))
    if sign_in is not None:
        upstream = parts.stand_in(upstream, emit, sign_in)
    return upstream


def assemble_for_a_test(
    config: Config, client: Lane, nursery: trio.Nursery, emit: Emit, tell: Tell
) -> tuple[Upstream, Era]:
    """The same, for whoever wants to know as well which way to the server is taken.

    `tell` hears what is wrong with the pages of a list, in place of the log.
    """
    parts = _Parts(config, client, nursery)
    era = parts.era(emit)
    return parts.shaped(era, tell), era


class _Parts:
    """What the parts have in common; each method makes one of them."""

    def __init__(self, config: Config, client: Lane, nursery: trio.Nursery) -> None:
        self.ids = jsonrpc.mint_ids()
        self._config = config
        self._nursery = nursery
        self._url = Url.parse(config.url)
        self._messenger = Messenger(client, self._url, limit=config.max_message_size)
        self._modern = OnDemand(self._stateless)

    def era(self, emit: Emit) -> Era:
        """Both faces, as far as the settings leave a choice."""
        config = self._config
        is_sse, era = config.transport == "sse", config.protocol_era
        verdict = Verdict.UNKNOWN
        if is_sse or era == "legacy":
            verdict = Verdict.LEGACY
        elif era == "modern":
            verdict = Verdict.MODERN
        bridge = bridged(OnDemand(lambda: self._legacy_client(emit)))
        match verdict:
            case Verdict.UNKNOWN:
                session, *rest = self._native(emit, None)
                candidates = [session, bridge, *rest]
            case Verdict.LEGACY:
                candidates = self._native(emit, None)
            case Verdict.MODERN:
                candidates = [bridge]
        probing = Probing(
            self._modern,
            None if config.bridge == "never" else OnDemand(lambda: self._modern_client(emit)),
            ids=self.ids,
            nursery=self._nursery,
            emit=emit,
            verdict=verdict,
            is_certain=verdict is not Verdict.UNKNOWN,
            bridges_probes=config.bridge == "always",
        )
        return Era(self._handshaking(candidates, emit), probing)

    def shaped(self, upstream: Upstream, tell: Tell = warn) -> Upstream:
        """With what the client gets in another form."""
        config = self._config
        if config.merge_pages:
            upstream = MergedPages(upstream, self.ids, limit=config.max_message_size, tell=tell)
        if config.allow_tools or config.deny_tools:
            from mcp_stdio.filtering import FilteredTools, Rules

            # Above the bridges and the merging: what they make passes here as well.
            upstream = FilteredTools(upstream, Rules(config.allow_tools, config.deny_tools))
        return upstream

    def stand_in(self, upstream: Upstream, emit: Emit, sign_in: SignIn) -> Upstream:
        """What answers while nobody has signed in."""
        from mcp_stdio.stand_in import StandIn

        return StandIn(
            upstream,
            ids=self.ids,
            nursery=self._nursery,
            emit=emit,
            server_name=self._url.host,
            sign_in=sign_in,
        )

    def _handshaking(self, candidates: list[Candidate], emit: Emit) -> Handshaking:
        return Handshaking(candidates, ids=self.ids, nursery=self._nursery, emit=emit)

    def _native(self, emit: Emit, renewed: Renewed | None) -> list[Candidate]:
        """The transports of the handshake era."""
        over_http = streamable_http(OnDemand(lambda: self._session(emit, renewed)))
        over_sse = http_sse(OnDemand(lambda: self._sse_session(emit, renewed)))
        return {
            "auto": [over_http, over_sse],
            "streamable-http": [over_http],
            "sse": [over_sse],
        }[self._config.transport]

    def _session(self, emit: Emit, renewed: Renewed | None) -> Upstream:
        from mcp_stdio.mirroring import Catalogue
        from mcp_stdio.upstream.parameters import Parameters
        from mcp_stdio.upstream.session import Session
        from mcp_stdio.upstream.streamable_http import StreamableHttp

        catalogue = Catalogue(is_active=False)  # until the server wants it
        session = Session(
            StreamableHttp(
                self._messenger, nursery=self._nursery, emit=emit, headers=catalogue.headers
            ),
            nursery=self._nursery,
            emit=emit,
            ids=self.ids,
            timeout_read=self._config.timeout_read,
            timeout_call=self._config.timeout_call,
            renewed=renewed,
        )
        return Parameters(session, catalogue, self.ids)

    def _sse_session(self, emit: Emit, renewed: Renewed | None) -> Upstream:
        from mcp_stdio.upstream.http_sse import HttpSse
        from mcp_stdio.upstream.session import Session

        return Session(
            HttpSse(self._messenger, nursery=self._nursery, emit=emit),
            nursery=self._nursery,
            emit=emit,
            ids=self.ids,
            timeout_read=self._config.timeout_read,
            timeout_call=self._config.timeout_call,
            renewed=renewed,
        )

    def _stateless(self) -> Upstream:
        from mcp_stdio.mirroring import Catalogue
        from mcp_stdio.upstream.parameters import Parameters
        from mcp_stdio.upstream.stateless import Stateless

        catalogue = Catalogue(is_active=True)
        stateless = Stateless(
            self._messenger,
            parameter_headers=catalogue.headers,
            ids=self.ids,
            timeout_read=self._config.timeout_read,
            timeout_call=self._config.timeout_call,
        )
        return Parameters(stateless, catalogue, self.ids)

    def _legacy_client(self, emit: Emit) -> Upstream:
        if self._config.bridge == "never":
            from mcp_stdio.bridge.refused import Refused

            return Refused(self._modern, ids=self.ids)
        from mcp_stdio.bridge.legacy_client import LegacyClient

        return LegacyClient(
            self._modern,
            ids=self.ids,
            nursery=self._nursery,
            emit=emit,
            server_name=self._url.host,
            timeout_call=self._config.timeout_call,
        )

    def _modern_client(self, emit: Emit) -> Upstream:
        from mcp_stdio.bridge.modern_client import ModernClient

        async def overhear(message: Message) -> None:
            await bridge.overhear(message)

        async def renewed() -> None:
            await bridge.renewed()

        handshaking = self._handshaking(self._native(overhear, renewed), overhear)
        bridge = ModernClient(handshaking, ids=self.ids, nursery=self._nursery, emit=emit)
        return bridge
