"""The walk to the server, stage by stage, until one fails.

Owns the order of the stages and what each tells, from the settings to the farewell; those that a
connection itself tells are `arrival`'s. Refuses to have ways of its own to a server: it uses the
very objects the relay consists of, behind a lane that takes notes. A session that was opened is
ended, whatever happens.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import trio

from mcp_stdio import spec
from mcp_stdio.assembly import Access
from mcp_stdio.config import Config, OAuth
from mcp_stdio.diagnose import facts, likely
from mcp_stdio.diagnose.arrival import Arrival
from mcp_stdio.diagnose.facts import Found
from mcp_stdio.diagnose.peer import Peer, refused
from mcp_stdio.diagnose.report import (
    FAREWELL,
    INITIALIZE,
    LISTENING,
    PROTOCOL,
    SETTINGS,
    TLS,
    NotModern,
    Report,
)
from mcp_stdio.era.evidence import Verdict, of_discovery, of_error
from mcp_stdio.errors import (
    AskedInVain,
    AuthorizationFailed,
    CannotBridge,
    Distrusted,
    NobodySignedIn,
    RelayError,
    SignInPending,
    quote,
)
from mcp_stdio.http.client import names_proxy
from mcp_stdio.http.observer import listen_to_resolver
from mcp_stdio.http.url import Url
from mcp_stdio.jsonrpc import INTERNAL_ERROR, Message

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
    arrival = Arrival(report, config, names_proxy=is_proxied, source=source)
    try:
        access = Access(config, arrival)
    except RelayError as failure:
        report.failed(SETTINGS, failure)
        report.skip_the_rest(arrival.left_out)
        return
    report.passed(SETTINGS, facts.settings(config, source), is_timed=False)
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
        self._transport = facts.OVER_HTTP

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
        cause = _of_nobody(cause, self._config.oauth) or cause
        is_understood = self._report.has_told(PROTOCOL)  # so this URL is the server's
        hint = None if is_understood else await likely.hint_for(cause, self._config)
        self._report.failed(place, cause, hint, await self._seen_in_vain(place, cause))
        self._report.skip_the_rest(self._arrival.left_out)

    async def _seen_in_vain(self, place: str, cause: RelayError) -> Found | None:
        """The certificate, where that is what is wrong."""
        if place != TLS or not isinstance(cause, Distrusted):
            return None
        from mcp_stdio.http.unverified import look

        certificate = await look(self._config, os.environ, sys.platform)
        return None if certificate is None else facts.distrusted(certificate, time.time())

    async def _converse(self, peer: Peer) -> None:
        answer = await self._open(peer)
        if answer.error is not None:
            raise self._unwanted(answer.error)
        await self._tell_of_protocol(peer)
        report, result = self._report, answer.result
        report.begin(INITIALIZE)
        await peer.tell(spec.INITIALIZED)
        has_session = self._arrival.has_session
        report.found(INITIALIZE, facts.introduction(result, has_session=has_session))
        for name in LISTS:
            if name in facts.capabilities(result):
                report.begin(name)
                report.found(name, facts.count(name, *await peer.count(f"{name}/list")))
        report.begin(LISTENING)
        report.found(LISTENING, await self._listen(peer, result))

    async def _open(self, peer: Peer) -> Message:
        """Open the conversation, after the end of a sign-in that took longer than a message may."""
        try:
            return await peer.open()
        except RelayError as failure:
            bearer = self._access.bearer
            if bearer is None or not isinstance(self._arrival.place_of(failure)[1], SignInPending):
                raise
        await bearer.signed_in()
        return await peer.open()

    async def _tell_of_protocol(self, peer: Peer) -> None:
        way = peer.era.accepted
        assert way is not None
        eras, is_certain = ["modern"], True
        if way.name == facts.OVER_SSE:
            self._transport = facts.OVER_SSE
        if way.verdict is Verdict.LEGACY:
            eras = ["legacy"]
            if self._transport == facts.OVER_HTTP and self._config.protocol_era == "auto":
                is_modern = await self._is_modern_as_well(peer)
                eras += ["modern"] if is_modern else []
                is_certain = is_modern is not None
        found = facts.protocol(
            eras,
            self._transport,
            is_native=way.is_native,
            is_certain=is_certain,
            may_bridge=self._config.bridge != "never",
        )
        self._report.found(PROTOCOL, found)

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
        failure = refused(spec.INITIALIZE, error, self._arrival.status)
        is_broken = error.get("code") == INTERNAL_ERROR  # which says nothing of the era
        if self._config.protocol_era != "modern" or is_broken or of_error(error) is Verdict.MODERN:
            return failure
        return NotModern(
            "the server does not answer as one of the modern era does: "
            f"error {error.get('code')}: {quote(str(error.get('message', '')))}"
        )

    async def _listen(self, peer: Peer, result: Mapping[str, Any]) -> Found:
        """Whether the server can speak by itself. The relay's own stream is looked at."""
        listening, way = self._arrival.listening, peer.era.accepted
        assert way is not None
        if self._transport == facts.OVER_SSE:
            return Found("the event stream brings everything", {"listening": True})
        if way.is_native or facts.tells_changes(result):
            with trio.move_on_after(LISTEN_TIME):
                await listening.is_decided.wait()
            if listening.head is not None:
                return facts.listening(listening.head)
            text = f"not begun within {LISTEN_TIME:g} s; it may begin when there is news"
            if listening.failure is not None:
                text = f"not open: {listening.failure}"
        else:
            text = "not needed: the server announces no changes"
        return Found(text, {"listening": False})

    async def _say_goodbye(self, peer: Peer) -> None:
        report = self._report
        report.begin(FAREWELL)
        with trio.move_on_after(GOODBYE) as waiting:
            await peer.leave()
        if waiting.cancelled_caught:
            text = f"the server did not end the session within {GOODBYE:g} s"
        elif self._transport == facts.OVER_SSE:
            text = "the event stream is closed"
        elif self._arrival.has_session:
            text = facts.farewell(self._arrival.farewell)
        else:
            text = "there is no session to end"
        report.passed(FAREWELL, text, is_timed=self._arrival.has_session)


def _of_nobody(failure: RelayError, oauth: OAuth | None) -> RelayError | None:
    """What it means here, where the page dies with the test, that nobody has signed in."""
    cause: BaseException | None = failure
    while cause is not None and not isinstance(cause, NobodySignedIn | SignInPending):
        cause = cause.failure if isinstance(cause, AskedInVain) else cause.__cause__
    if cause is None or oauth is None:
        return None
    hint = "run `mcp-stdio login URL`, or test again and open the page"
    if oauth.grant == "authorization-code":
        hint += "; `--oauth-device` where no browser is"
    within = f"within {oauth.timeout:g} s (`--oauth-timeout`)"
    return AuthorizationFailed(f"nobody signed in {within}", hint=hint)
