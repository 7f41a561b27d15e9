"""The parts put together: which upstream a configuration asks for.

    MergedPages ─ Era ─┬─ Handshaking, for clients that shake hands; the first that accepts:
                       │    ├─ Parameters ─ Session over Streamable HTTP
                       │    ├─ LegacyClient ─ Parameters ─ Stateless
                       │    └─ Session over HTTP+SSE
                       └─ Probing, for clients that do not; one of:
                            ├─ Parameters ─ Stateless            (the same as above)
                            └─ ModernClient ─ Handshaking, without the bridge

The relay and the connection test stand on the same objects, so they are joined here, once. A way
that is not taken is never made, nor its modules loaded. Knows neither standard streams nor what
becomes of the messages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from mcp_stdio import jsonrpc
from mcp_stdio.config import Config
from mcp_stdio.era import Era
from mcp_stdio.era.candidates import Candidate, bridged, http_sse, streamable_http
from mcp_stdio.era.evidence import Verdict
from mcp_stdio.era.handshaking import Handshaking
from mcp_stdio.era.probing import Probing
from mcp_stdio.http import Lane
from mcp_stdio.http.client import Client, open_client
from mcp_stdio.http.url import Url
from mcp_stdio.jsonrpc import Message
from mcp_stdio.shaping import MergedPages
from mcp_stdio.upstream import Emit, Upstream
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.on_demand import OnDemand

Renewed = Callable[[], Awaitable[None]]


def connect(config: Config) -> Client:
    """The client for the server of these settings, with the credential they ask for.

    Connects to nothing yet. Raises UsageFailure, as `open_client` does.
    """
    if not config.sources:
        return open_client(config)
    from mcp_stdio.credentials.supplied import Supplied

    return open_client(config, authorizer=Supplied(config.headers, config.sources))


def assemble(config: Config, client: Lane, nursery: trio.Nursery, emit: Emit) -> Upstream:
    """The upstream of these settings; `emit` takes what belongs to no request."""
    parts = _Parts(config, client, nursery)
    upstream: Upstream = parts.era(emit)
    if config.merge_pages:
        upstream = MergedPages(upstream, parts.ids, limit=config.max_message_size)
    return upstream


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
