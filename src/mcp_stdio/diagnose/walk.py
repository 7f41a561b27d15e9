"""The walk to the server, stage by stage, until one fails.

Owns the order of the stages and what each tells, from the settings to the farewell; those that a
connection itself tells are `arrival`'s. Refuses to have ways of its own to a server: it uses the
very objects the relay consists of, behind a lane that takes notes. A session that was opened is
ended, whatever happens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import trio

from mcp_stdio import log, spec
from mcp_stdio.assembly import Access
from mcp_stdio.config import Config
from mcp_stdio.diagnose import likely
from mcp_stdio.diagnose.arrival import Arrival
from mcp_stdio.diagnose.peer import Peer, refused
from mcp_stdio.diagnose.report import (
    FAREWELL,
    INITIALIZE,
    LISTENING,
    PROTOCOL,
    SETTINGS,
    Report,
)
from mcp_stdio.era.evidence import Verdict, of_discovery
from mcp_stdio.errors import CannotBridge, RelayError, quote
from mcp_stdio.http.client import names_proxy
from mcp_stdio.http.observer import listen_to_resolver
from mcp_stdio.http.url import Url
from mcp_stdio.jsonrpc import Message

LISTS = ("tools", "resources", "prompts")
"""What a server may offer a list of, as its capabilities, its methods and the stages are called."""

GOODBYE = 5.0
"""Seconds that ending the session may take."""

PROBE_TIME = 5.0
"""Seconds for a server to say whether it speaks the other era as well."""

LISTEN_TIME = 5.0
"""Seconds until a listening stream must have begun: some begin with the first thing to be said."""


async def walk(config: Config, report: Report, source: str | None = None) -> None:
    """Walk the stages and have `report` told. `source` is the setting that gives the credential."""
    report.begin(SETTINGS)
    is_proxied = names_proxy(os.environ, sys.platform)
    arrival = Arrival(
        report, Url.parse(config.url), config.tls, names_proxy=is_proxied, source=source
    )
    try:
        access = Access(config, arrival)
    except RelayError as failure:
        report.failed(SETTINGS, failure)
        report.skip_the_rest(arrival.left_out)
        return
    report.passed(SETTINGS, settings(config, source), is_timed=False)
    _load()
    listen_to_resolver(arrival)
    try:
        await _Walk(config, report, arrival, access).go()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await access.aclose()


def _load() -> None:
    # On demand, as the relay has it, the loading would be taken for time that it takes to connect.
    from mcp_stdio.mirroring import Catalogue  # noqa: F401
    from mcp_stdio.upstream import parameters, session, streamable_http  # noqa: F401


class _Walk:
    def __init__(self, config: Config, report: Report, arrival: Arrival, access: Access) -> None:
        self._config = config
        self._report = report
        self._arrival = arrival
        self._access = access
        self._is_prepared = trio.Event()
        self._transport = ""

    async def go(self) -> None:
        report = self._report
        async with trio.open_nursery() as nursery:
            self._access.attend(nursery)
            self._arrival.begin()
            nursery.start_soon(self._prepare)
            peer = Peer(self._config, self._access.client, nursery)
            try:
                try:
                    await self._converse(peer)
                except RelayError as failure:
                    await self._fail(failure)
                nursery.cancel_scope.cancel()
            finally:
                if report.exit_code or sys.exc_info()[0] is not None:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                        await peer.leave()
        if not report.exit_code:
            await self._say_goodbye(peer)

    async def _prepare(self) -> None:
        await self._access.client.prepare(Url.parse(self._config.url))
        self._is_prepared.set()

    async def _fail(self, failure: RelayError) -> None:
        if self._report.under_way in ("name", "tcp", "tls"):
            # A credential that cannot be had is known sooner than what the connection is like.
            await self._is_prepared.wait()
        place, cause = self._arrival.place_of(failure)
        hint = await likely.hint_for(cause, self._config)
        self._report.failed(place, cause, hint)
        self._report.skip_the_rest(self._arrival.left_out)

    async def _converse(self, peer: Peer) -> None:
        answer = await peer.open()
        await self._tell_of_protocol(peer, answer)
        self._report.begin(INITIALIZE)
        self._introduce(answer)
        await peer.tell(spec.INITIALIZED)
        self._report.passed(INITIALIZE, self._introduction())
        await self._count(peer)
        await self._listen(peer)

    async def _tell_of_protocol(self, peer: Peer, answer: Message) -> None:
        if answer.error is not None:
            raise self._unwanted(answer.error)
        way = peer.era.accepted
        assert way is not None
        eras, known = [], ""
        is_over_sse = way.name == "HTTP+SSE"
        if way.verdict is Verdict.LEGACY:
            eras.append("legacy")
            if not is_over_sse and self._config.protocol_era == "auto":
                is_modern = await self._is_modern_as_well(peer)
                if is_modern:
                    eras.append("modern")
                elif is_modern is None:
                    known = " as far as is known"
        else:
            eras.append("modern")
        self._transport = "HTTP+SSE" if is_over_sse else "Streamable HTTP"
        self._report.facts["protocol"] = {
            "eras": eras,
            "transport": self._transport,
            "bridged": not way.is_native,
        }
        self._report.passed(PROTOCOL, self._protocol(eras, known, is_native=way.is_native))

    def _protocol(self, eras: list[str], known: str, *, is_native: bool) -> str:
        words = {
            "legacy": "the server shakes hands (legacy era)",
            "modern": f"the server is stateless (modern era, {spec.R5})",
            "legacy modern": f"the server speaks both eras, up to {spec.R5}",
        }[" ".join(eras)]
        text = f"{words}{known}, over {self._transport}"
        if self._config.bridge == "never":
            return text
        if not is_native:
            return f"{text}; clients that shake hands are bridged"
        return text if len(eras) > 1 else f"{text}; modern clients are bridged"

    async def _is_modern_as_well(self, peer: Peer) -> bool | None:
        """Whether a server that shakes hands can do without; None where it does not say."""
        with trio.move_on_after(PROBE_TIME):
            try:
                return of_discovery(await peer.discover()) is Verdict.MODERN
            except RelayError:
                pass
        return None

    def _unwanted(self, error: Mapping[str, Any]) -> RelayError:
        data = error.get("data")
        supported = data.get("supported") if isinstance(data, dict) else None
        if self._config.bridge == "never" and isinstance(supported, list):
            names = quote(", ".join(map(str, supported)))
            return CannotBridge(
                f"the server speaks {names} only, and `--bridge never` keeps away from it clients "
                "that open with `initialize`",
                hint="leave out `--bridge never`, or use a client that speaks the same",
            )
        return refused(spec.INITIALIZE, error)

    # Initialize and what is offered

    def _introduce(self, answer: Message) -> None:
        result = answer.result
        server = result.get("serverInfo")
        server = server if isinstance(server, dict) else {}
        capabilities = result.get("capabilities")
        known = capabilities if isinstance(capabilities, dict) else {}
        self._listens_to = [
            name
            for name, offered in known.items()
            if isinstance(offered, dict)
            and (offered.get("listChanged") or offered.get("subscribe"))
        ]
        self._report.facts |= {
            "server": {key: quote(str(server.get(key, ""))) for key in ("name", "version")},
            "protocol_version": quote(str(result.get("protocolVersion"))),
            "capabilities": sorted(map(quote, known)),
            "session": self._arrival.has_session,
        }

    def _introduction(self) -> str:
        facts = self._report.facts
        server = facts["server"]
        name = " ".join(filter(None, (server["name"], server["version"])))
        offers = ", ".join(facts["capabilities"]) or "nothing"
        session = "with a session" if facts["session"] else "without session"
        return (
            f"{name or 'a server without name'}, MCP {facts['protocol_version']}, {session}, "
            f"offers {offers}"
        )

    async def _count(self, peer: Peer) -> None:
        report = self._report
        for name in LISTS:
            if name not in report.facts["capabilities"]:
                continue
            report.begin(name)
            count, pages = await peer.count(f"{name}/list")
            report.facts[name] = count
            text = f"{count} {name.removesuffix('s') if count == 1 else name}"
            report.passed(name, f"{text} on {pages} pages" if pages > 1 else text)

    async def _listen(self, peer: Peer) -> None:
        """Tell whether the server can speak by itself. What the relay itself does is looked at."""
        report, listening = self._report, self._arrival.listening
        report.begin(LISTENING)
        way = peer.era.accepted
        if way is not None and not way.is_native and not self._listens_to:
            text = "not needed: the server announces no changes"
        else:
            with trio.move_on_after(LISTEN_TIME):
                await listening.is_decided.wait()
            text = self._listening()
        report.passed(LISTENING, text)

    def _listening(self) -> str:
        listening = self._arrival.listening
        head = listening.head
        is_open = False
        if not listening.is_asked.is_set():
            text = "not tried"
        elif head is not None:
            is_open = head.status == 200 and head.media_type == spec.EVENT_STREAM
            text = "open: the server can speak by itself"
            if not is_open:
                text = f"not offered (status {head.status})"
        elif listening.failure is not None:
            text = f"not open: {listening.failure}"
        else:
            text = f"not begun within {LISTEN_TIME:g} s; it may begin when there is news"
        self._report.facts["listening"] = is_open
        return text

    async def _say_goodbye(self, peer: Peer) -> None:
        report = self._report
        report.begin(FAREWELL)
        with trio.move_on_after(GOODBYE) as waiting:
            await peer.leave()
        if waiting.cancelled_caught:
            text = f"the server did not end the session within {GOODBYE:g} s"
        elif self._transport == "HTTP+SSE":
            text = "the event stream is closed"
        elif self._arrival.has_session:
            text = "the session is over"
        else:
            text = "there is no session to end"
        report.passed(FAREWELL, text, is_timed=self._arrival.has_session)


def settings(config: Config, source: str | None) -> str:
    """What of the settings matters here, in words; no value of a header is shown."""
    parts = [f"credential of {source}" if source else "no credential"]
    names = [f"`{name}`" for name, _ in config.headers if name.lower() != "authorization"]
    if names:
        parts.append(f"headers {', '.join(names)}")
    parts += [f"`{one.option}`" for one in config.sources if f"`{one.option}`" != source]
    tls = config.tls
    if tls.cacert is not None:
        parts.append(f"`--cacert {tls.cacert}`")
    if tls.cert is not None:
        parts.append(f"`--cert {tls.cert}`")
    if tls.insecure:
        parts.append("`--insecure`")
    for option, value, default in (
        ("--transport", config.transport, "auto"),
        ("--protocol-era", config.protocol_era, "auto"),
        ("--bridge", config.bridge, "auto"),
    ):
        if value != default:
            parts.append(f"`{option} {value}`")
    silence = "any silence" if config.timeout_read is None else f"{config.timeout_read:g} s"
    parts.append(f"time-outs {config.timeout_connect:g} s to connect and {silence} for an answer")
    return log.redact("; ".join(parts))
