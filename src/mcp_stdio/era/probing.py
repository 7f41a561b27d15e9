"""The face for clients of the stateless era: native where the server is modern, bridged where not.

A client's `server/discover` is the probe and goes out as it came, every time. Only a client that
opens with another request, while the era is unknown, costs one discover of our own first, since a
lax server of the handshake era might execute the request under other rules (D-B). A server that
refuses to be discovered is of the handshake era; the client is told -32601, on which those who know
both eras fall back to `initialize` (D-1), and what it sends without one is bridged. What an answer
proves is decided in `evidence`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import trio

from mcp_stdio import __version__, jsonrpc, spec, splice
from mcp_stdio.era import evidence
from mcp_stdio.era.doubt import Doubt
from mcp_stdio.era.evidence import Outcome, Verdict
from mcp_stdio.errors import CannotBridge, RelayError, TimedOut
from mcp_stdio.jsonrpc import METHOD_NOT_FOUND, Message
from mcp_stdio.last_words import last_words
from mcp_stdio.upstream import Call, Emit, Sending, Upstream, ask, own_call
from mcp_stdio.upstream.refusal import HttpRefusal
from mcp_stdio.upstream.renewal import Renewal
from mcp_stdio.upstream.turn import Queue

log = logging.getLogger(__name__)

PROBE_TIME = 10.0
"""Seconds for an answer to a discover of our own; then the handshake is tried (D-D)."""

LATE_PROBE = 1.0
"""Seconds that a client's discover may still take once its `initialize` was accepted."""

_OWN_INFO = {"name": "mcp-stdio", "version": __version__}

_OF_EVERY_REQUEST = frozenset(
    {spec.META_VERSION, spec.META_CLIENT_INFO, spec.META_CLIENT_CAPABILITIES}
)


class _Way(NamedTuple):
    """See `doubt.Served`."""

    upstream: Upstream
    verdict: Verdict


class Probing:
    """The upstream of modern clients.

    `modern` speaks to a server of the stateless era, `bridge` to any other; None where crossing is
    switched off. With `bridges_probes` a client's `server/discover` is bridged as well. `verdict`
    is what is known of the server before anything was sent; with `is_certain` it is never doubted.
    """

    version: str | None = None

    def __init__(
        self,
        modern: Upstream,
        bridge: Upstream | None,
        *,
        ids: Iterator[str],
        nursery: trio.Nursery,
        emit: Emit,
        verdict: Verdict = Verdict.UNKNOWN,
        is_certain: bool = False,
        bridges_probes: bool = False,
    ) -> None:
        self._modern = modern
        self._bridge = bridge
        self._ids = ids
        self._emit = emit
        self.verdict = verdict
        self._is_certain = is_certain
        self._bridges_probes = bridges_probes
        self._own_probe = Renewal(nursery, self._probe, "find out the server's protocol era")
        self._doubt = Doubt(nursery, self._look_anew)
        self._example: Message | None = None  # whose `_meta` a probe of our own borrows
        self._pending: set[trio.CancelScope] = set()  # discovers of the client
        self._listens: set[trio.CancelScope] = set()
        self._discovered = trio.Event()  # the last of them is over
        self._discovered.set()
        self._departures = Queue()  # of what waits until the era is known

    async def send(self, message: Message, call: Call) -> None:
        """Deliver one message; see `Upstream.send`."""
        if not message.is_request:
            await self._send_unanswered(message, call)
        elif message.method == spec.DISCOVER:
            await self._discover(message, call)
        elif self.verdict is Verdict.UNKNOWN or self._departures.first is not None:
            await self._when_settled(message, call)
        else:
            await self._deliver(message, call)

    def refresh(self) -> None:
        """See `Upstream.refresh`."""
        self._modern.refresh()
        if self._bridge is not None:
            self._bridge.refresh()

    async def aclose(self) -> None:
        """See `Upstream.aclose`."""
        await self._modern.aclose()
        if self._bridge is not None:
            await self._bridge.aclose()

    def learn(self, verdict: Verdict) -> None:
        """Take over what an answer, here or elsewhere, says about the server."""
        if verdict in (Verdict.UNKNOWN, self.verdict) or self._is_certain:
            return
        self.verdict = verdict
        for scope in self._listens:
            scope.cancel()

    def hasten(self) -> None:
        """The client has shaken hands with the server: a discover still pending matters no more."""
        for scope in self._pending:
            scope.deadline = min(scope.deadline, trio.current_time() + LATE_PROBE)

    # server/discover

    async def _discover(self, message: Message, call: Call) -> None:
        if self._is_certain and self.verdict is Verdict.LEGACY:
            await self._refuse(message, call)
            return
        self._discovered = discovered = trio.Event()
        with trio.CancelScope() as scope:
            self._pending.add(scope)
            try:
                outcome = await self._asked(message, call)
            finally:
                self._pending.discard(scope)
                discovered.set()
        if scope.cancelled_caught or self.verdict is Verdict.LEGACY:
            await self._refuse(message, call)
        elif isinstance(outcome, HttpRefusal) and outcome.answer is not None:
            await call.emit(outcome.answer)
        elif isinstance(outcome, RelayError):
            raise outcome
        else:
            await call.emit(outcome)

    async def _asked(self, message: Message, call: Call) -> Outcome:
        """Send a discover and learn from what becomes of it."""
        try:
            response = await ask(self._modern, message, call)
        except RelayError as failure:
            self.learn(evidence.of_failed_discovery(failure))
            return failure
        if response is None:
            return TimedOut(
                "`server/discover` was not answered",
                hint="name what the server speaks with `--protocol-era`",
            )
        self.learn(evidence.of_discovery(response))
        return response

    async def _refuse(self, message: Message, call: Call) -> None:
        """Answer the probe for a server of the handshake era (D-1)."""
        assert message.id is not None
        call.turn.over()
        if self._bridges_probes and self._bridge is not None:
            await self._bridge.send(message, call)
        else:
            text = "server/discover is not supported by the remote server"
            await call.emit(jsonrpc.error(message.id, METHOD_NOT_FOUND, text))

    # Other requests

    async def _when_settled(self, message: Message, call: Call) -> None:
        """Deliver a request once the era is known.

        What waits for that leaves in the order in which it was read, and stops no discover of the
        client meanwhile (P4).
        """
        await call.turn.come()
        call.pass_to(self._departures)
        try:
            if self.verdict is Verdict.UNKNOWN:
                self._example = message
                await self._settle()
            await self._deliver(message, call)
        finally:
            call.turn.over()

    def _deliver(self, message: Message, call: Call) -> Sending:
        self._example = message
        deliver = self._listen if message.method == spec.LISTEN else self._request
        return deliver(message, call)

    async def _request(self, message: Message, call: Call) -> None:
        if self._is_certain:
            await (await self._current(call)).upstream.send(message, call)
        else:
            await self._doubt.send(message, call, self._current)

    async def _listen(self, message: Message, call: Call) -> None:
        """Listen until the client cancels, or until the way to the server is another one.

        Then the stream ends as a server ends one (S-16), for nothing would come on it any more.
        """
        with trio.CancelScope() as scope:
            self._listens.add(scope)
            try:
                await self._request(message, call)
            finally:
                self._listens.discard(scope)
        if scope.cancelled_caught:
            for word in last_words(message, _changed()):
                await call.emit(word)

    async def _settle(self) -> None:
        """Find out the era: by a discover of the client that is under way, or by one of our own.

        Raises RelayError where the server cannot be asked; one that does not answer in time is
        taken for one of the handshake era, until it says otherwise (D-D).
        """
        with trio.move_on_after(PROBE_TIME):
            await self._discovered.wait()
        with trio.move_on_after(PROBE_TIME):
            if self.verdict is Verdict.UNKNOWN:
                await self._own_probe.join()
        if self.verdict is Verdict.UNKNOWN:
            self.verdict = Verdict.LEGACY

    async def _probe(self) -> None:
        assert self._example is not None
        meta = {spec.META_CLIENT_INFO: splice.encode(_OWN_INFO)}
        given = splice.get(self._example.raw.decode(), "params", "_meta") or ""
        if given.startswith("{"):
            spans = splice.spans(given).items()
            meta |= {name: given[a:b] for name, (a, b) in spans if name in _OF_EVERY_REQUEST}
        members = ",".join(f"{splice.encode(name)}:{value}" for name, value in meta.items())
        probe = jsonrpc.request(next(self._ids), spec.DISCOVER, {}).edited(
            lambda text: splice.put(text, f"{{{members}}}", "params", "_meta")
        )
        outcome = await self._asked(probe, own_call(self._emit))
        if self.verdict is Verdict.UNKNOWN and isinstance(outcome, RelayError):
            raise outcome

    async def _current(self, call: Call) -> _Way:
        if self.verdict is Verdict.MODERN:
            return _Way(self._modern, Verdict.MODERN)
        if self._bridge is None:
            raise CannotBridge(
                "the remote server does not speak the protocol revision of this request",
                hint="it opens with `initialize`; leave out `--bridge never` to have it bridged",
            )
        return _Way(self._bridge, self.verdict)

    async def _look_anew(self, reason: Outcome) -> None:
        if evidence.is_about_version(reason):
            self.learn(Verdict.MODERN)  # it has said so; a discover may not even be answered
        else:
            await self._own_probe.join()

    async def _send_unanswered(self, message: Message, call: Call) -> None:
        is_open = self.verdict is Verdict.MODERN or self._bridge is not None
        if message.is_response or self.verdict is Verdict.UNKNOWN or not is_open:
            log.warning("dropped a %s: there is no session", message.kind.value)
            return
        await (await self._current(call)).upstream.send(message, call)


def _changed() -> CannotBridge:
    return CannotBridge("the server has changed its era", hint="listen anew")
