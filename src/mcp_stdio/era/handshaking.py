"""The face for clients that shake hands: the first candidate that accepts their `initialize`.

The client's `initialize` is the probe and goes out as it came; what is refused leads on to the next
candidate (D-A). Whoever accepts serves the client from then on, until an answer contradicts that
and another candidate accepts the same `initialize` in its place (D-E). Messages are held meanwhile,
in their order, but for the client's own answers. An `initialize` that failed for other reasons is
kept, and played again before the next message. What an answer proves is decided in `evidence` and
`candidates`; era and transport are not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.era.candidates import Candidate, Step
from mcp_stdio.era.doubt import Doubt, Served
from mcp_stdio.era.evidence import Outcome, Verdict
from mcp_stdio.errors import BadAnswer, RelayError, quote
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Emit, Upstream, ask, own_call
from mcp_stdio.upstream.refusal import HttpRefusal
from mcp_stdio.upstream.renewal import Renewal
from mcp_stdio.upstream.standing import Standing
from mcp_stdio.upstream.turn import Queue

log = logging.getLogger(__name__)

Deliver = Callable[[Message, Call], Awaitable[None]]


class Handshaking:
    """The upstream of handshake clients; `candidates` are tried in their order.

    `nursery` runs the replay of an `initialize`, `emit` takes what belongs to no request.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        *,
        ids: Iterator[str],
        nursery: trio.Nursery,
        emit: Emit,
    ) -> None:
        self._candidates = candidates
        self._ids = ids
        self._emit = emit
        self._accepted: Candidate | None = None
        self._trying: Candidate | None = None  # is being offered the client's `initialize`
        self._initialize: Message | None = None  # the client's own
        self._settled = trio.Event()  # no `initialize` of the client is under way
        self._settled.set()
        self._departures = Queue()  # of what waits until somebody serves the client
        self._standing = Standing()
        self._told: Mapping[str, Any] = {}  # the capabilities that the client knows of
        self._replay = Renewal(nursery, self._play_again, "open the connection to the server")
        self._doubt = Doubt(nursery, self._look_anew)

    @property
    def version(self) -> str | None:
        """The protocol version the client was told."""
        return None if self._accepted is None else self._accepted.upstream.version

    @property
    def accepted(self) -> Candidate | None:
        """Who serves the client, if anybody does yet."""
        return self._accepted

    @property
    def verdict(self) -> Verdict:
        """The era of the server that accepted."""
        return Verdict.UNKNOWN if self._accepted is None else self._accepted.verdict

    @property
    def is_native(self) -> bool:
        """Whether the server itself has accepted the handshake."""
        return self._accepted is not None and self._accepted.is_native

    @property
    def has_begun(self) -> bool:
        """Whether the client has sent `initialize`."""
        return self._initialize is not None

    async def send(self, message: Message, call: Call) -> None:
        """Deliver one message; see `Upstream.send`."""
        if not message.is_request:
            await self._send_unanswered(message, call)
            return
        if self._accepted is None and message.method == spec.PING:
            assert message.id is not None
            call.turn.over()
            await call.emit(jsonrpc.result(message.id, {}))  # S-9
            return
        await call.turn.come()  # an `initialize` read before has to be known of here
        if message.method == spec.INITIALIZE:
            await self._begin(message, call)
            return
        await self._keep_order(self._request, message, call)

    def refresh(self) -> None:
        """See `Upstream.refresh`."""
        for candidate in self._candidates:
            candidate.upstream.refresh()

    async def aclose(self) -> None:
        """Say goodbye by every way that was tried."""
        async with trio.open_nursery() as nursery:
            for candidate in self._candidates:
                nursery.start_soon(candidate.upstream.aclose)

    async def _keep_order(self, deliver: Deliver, message: Message, call: Call) -> None:
        """Deliver a message whose turn has come, behind an `initialize` that is under way.

        What waits for a server that can be reached leaves in the order in which it was read, and
        stops no further `initialize` meanwhile (P4).
        """
        if not self._settled.is_set():
            await self._settled.wait()
        if self._accepted is not None and self._departures.first is None:
            await deliver(message, call)
            return
        call.pass_to(self._departures)
        try:
            await deliver(message, call)
        finally:
            call.turn.over()

    async def _request(self, message: Message, call: Call) -> None:
        if self._standing.concerns(message):
            call = call.answering(self._standing.noting(message, call.emit))
        await self._doubt.send(message, call, self._current)

    # The client's initialize

    async def _begin(self, message: Message, call: Call) -> None:
        call.turn.over()
        self._initialize = message
        self._standing.clear()
        self._settled = settled = trio.Event()
        try:
            answer = _answer(await self._try(self._in_order(), message, call), message)
            capabilities = answer.result.get("capabilities")
            self._told = capabilities if isinstance(capabilities, dict) else {}
            await call.emit(answer)
        finally:
            settled.set()

    def _in_order(self) -> list[Candidate]:
        """Who accepted before is asked first."""
        if self._accepted is None:
            return list(self._candidates)
        return [self._accepted] + [each for each in self._candidates if each != self._accepted]

    async def _try(
        self,
        candidates: Sequence[Candidate],
        message: Message,
        call: Call,
        first: Outcome | None = None,
    ) -> Outcome:
        """Offer `initialize` to the candidates; the outcome is for the client.

        `first` is what has come already of one that is not among them.
        """
        for candidate in candidates:
            if first is not None and not candidate.follows(first):
                continue
            self._trying = candidate
            try:
                outcome = await _outcome(candidate, message, call)
            finally:
                self._trying = None
            step = candidate.judge(outcome)
            if step is Step.STAY:
                if self._accepted not in (candidate, None) or first is not None:
                    log.info("the server is reached by way of %s", candidate.name)
                self._accepted = candidate
                return outcome
            first = outcome if first is None else first
            if step is Step.STOP:
                return outcome
            if step is Step.STOP_AT_FIRST:
                break
            log.info("`initialize` was refused by way of %s", candidate.name)
        assert first is not None
        return first

    # Everything else

    async def _respond(self, message: Message, call: Call) -> None:
        """Pass on an answer of the client, which may be what its `initialize` waits for."""
        call.turn.over()
        asker = self._accepted or self._trying
        if asker is None:
            log.warning("dropped a response: there is no session")
        else:
            await asker.upstream.send(message, call)

    async def _send_unanswered(self, message: Message, call: Call) -> None:
        if message.is_response:
            await self._respond(message, call)
            return
        await call.turn.come()
        await self._keep_order(self._notify, message, call)

    async def _notify(self, message: Message, call: Call) -> None:
        if self._accepted is None and message.method == spec.INITIALIZED:
            # Playing `initialize` again sends its own.
            log.warning("dropped `%s`: there is no session", message.method)
            return
        try:
            await (await self._current(call)).upstream.send(message, call)
        except RelayError as exc:
            log.warning("could not deliver a %s: %s", message.kind.value, exc)

    async def _current(self, call: Call) -> Served:
        """Who serves the client; found anew if nobody does yet. Raises RelayError."""
        while self._accepted is None:
            await self._replay.join()
        return self._accepted

    async def _play_again(self) -> None:
        """Offer the client's `initialize` anew: nobody has accepted it yet."""
        assert self._initialize is not None
        answer = _answer(await self._offer(self._candidates), self._initialize)
        if answer.error is not None:
            text = quote(str(answer.error.get("message", "")))
            raise BadAnswer(f"the server refuses `initialize`: {text}")

    async def _look_anew(self, reason: Outcome) -> None:
        """Offer the client's `initialize` to those who do not serve it."""
        accepted = self._accepted
        others = [each for each in self._candidates if each is not accepted]
        await self._offer(others, reason)
        if self._accepted is not None and self._accepted is not accepted:
            await self._carry_over(self._accepted.upstream)

    async def _carry_over(self, upstream: Upstream) -> None:
        """Have what was in force with the old way in force with the new one, and nothing missed."""
        own = own_call(self._emit)
        for request in self._standing:
            try:
                response = await ask(upstream, request.with_id(next(self._ids)), own)
            except RelayError as exc:
                log.warning("`%s` could not be carried over: %s", request.method, exc)
            else:
                if response is None or response.error is not None:
                    log.warning("the server does not take `%s` any more", request.method)
        for name, method in spec.LIST_CHANGES.values():
            capability = self._told.get(name)
            if isinstance(capability, dict) and capability.get("listChanged") is True:
                await self._emit(jsonrpc.notification(method))
        for uri in self._standing.uris:
            await self._emit(jsonrpc.notification(spec.RESOURCE_UPDATED, {"uri": uri}))

    async def _offer(
        self, candidates: Sequence[Candidate], first: Outcome | None = None
    ) -> Outcome:
        assert self._initialize is not None
        own = own_call(self._emit)
        opening = self._initialize.with_id(next(self._ids))
        outcome = await self._try(candidates, opening, own, first)
        if isinstance(outcome, Message) and outcome.error is None:
            assert self._accepted is not None
            await self._accepted.upstream.send(jsonrpc.notification(spec.INITIALIZED), own)
        return outcome


def _answer(outcome: Outcome, request: Message) -> Message:
    """What came of an `initialize` as the response to `request`. Raises RelayError for failures."""
    answer: Outcome | None = outcome
    if isinstance(outcome, HttpRefusal):
        answer = outcome.answer
    if answer is None or isinstance(answer, RelayError):
        assert isinstance(outcome, RelayError)
        raise outcome
    assert request.id is not None
    return answer if jsonrpc.same_id(answer.id, request.id) else answer.with_id(request.id)


async def _outcome(candidate: Candidate, message: Message, call: Call) -> Outcome:
    try:
        response = await ask(candidate.upstream, message, call)
    except RelayError as failure:
        return failure
    return BadAnswer("the server's answer is missing") if response is None else response
