"""Company for a client while nobody has signed in yet: answers in the server's place.

An upstream around an upstream (design.md, Sign-in). No client waits as long for the answer to its
`initialize` as a person may take to sign in, so one that met the sign-in is answered here, in the
name of a server that has nothing and will tell of changes. Once somebody has signed in, the
handshake is made with the real server in the client's words and the client is told to look again;
from then on all passes through, as it does where no sign-in is met. So do messages of the stateless
era at all times. Knows no credential, nor how anybody signs in.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.era import is_self_describing
from mcp_stdio.errors import (
    BadAnswer,
    ConnectionLost,
    RelayError,
    SignInPending,
    TimedOut,
    Unreachable,
    quote,
)
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Emit, Upstream, ask, own_call
from mcp_stdio.upstream.background import guarded
from mcp_stdio.upstream.opening import OWN_REQUEST
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.renewal import Renewal
from mcp_stdio.upstream.turn import Queue

log = logging.getLogger(__name__)

PROMISED = {name: {"listChanged": True} for name, _ in spec.LIST_CHANGES.values()}
"""What a client must expect of a server to ask again later."""


class SignIn(Protocol):
    """Knows when somebody has signed in."""

    async def signed_in(self) -> None:
        """Wait for the sign-in under way; returns at once if it was done before the call.

        Raises RelayError when nobody will finish it.
        """
        ...

    async def signed_in_elsewhere(self) -> None:
        """Wait, when nobody has finished it, for another one that somebody makes by themselves."""
        ...


class _Interlude:
    """From an `initialize` answered here to the handshake with the real server, and after it.

    `is_pending` says that nobody has signed in yet, `is_over` that the real server has accepted. In
    between the handshake is under way, or due with the client's next message.
    """

    def __init__(
        self,
        initialize: Message,
        nursery: trio.Nursery,
        shake_hands: Callable[[_Interlude], Awaitable[None]],
    ) -> None:
        requested = initialize.params.get("protocolVersion")
        self.initialize = initialize
        self.version = requested if requested in spec.HANDSHAKE_VERSIONS else spec.R4
        self.url = ""
        self.is_pending = False
        self.is_over = False
        self.has_begun = trio.Event()  # the client has said more than `initialize`
        self.level: Message | None = None  # its latest `logging/setLevel`
        self.handshake = Renewal(
            nursery, partial(shake_hands, self), "shake hands with the server after the sign-in"
        )
        self.waiting = trio.CancelScope()
        self.shaking_hands = trio.CancelScope()

    def leave(self) -> None:
        """Stop what runs for it in the background."""
        self.handshake.relent()
        self.waiting.cancel()
        self.shaking_hands.cancel()


class StandIn:
    """The upstream that keeps a client company; see `Upstream`.

    `upstream` raises SignInPending where a message met a sign-in that nobody has finished, and
    `sign_in` tells when somebody has; where nobody will, the client's next message asks the server
    again.
    `nursery` runs what waits for it, `ids` mints ids of the relay's own, `emit` brings what belongs
    to no request to the client, and `server_name` is what it is told that it speaks to.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        ids: Iterator[str],
        nursery: trio.Nursery,
        emit: Emit,
        server_name: str,
        sign_in: SignIn,
    ) -> None:
        self._upstream = upstream
        self._ids = ids
        self._nursery = nursery
        self._emit = emit
        self._server_name = server_name
        self._sign_in = sign_in
        self._interlude: _Interlude | None = None
        self._opened = trio.Event()  # no `initialize` of the client is under way
        self._opened.set()
        self._held = Queue()

    @property
    def version(self) -> str | None:
        """The protocol version the client was told."""
        return self._upstream.version if self._interlude is None else self._interlude.version

    async def send(self, message: Message, call: Call) -> None:
        """Deliver one message, or answer it; see `Upstream.send`."""
        await call.turn.come()  # an `initialize` read before has to be known of here
        if message.is_request and message.method == spec.INITIALIZE:
            await self._initialize(message, call)
        elif self._is_unconcerned(message):
            await self._upstream.send(message, call)
        else:
            # Messages that wait do so in a line of their own, and hold up none that need not.
            call.pass_to(self._held)
            try:
                await self._deliver(message, call)
            finally:
                call.turn.over()

    def refresh(self) -> None:
        """See `Upstream.refresh`."""
        self._upstream.refresh()

    async def aclose(self) -> None:
        """Wait for no sign-in any more, and close the upstream."""
        self._leave()
        await self._upstream.aclose()

    def _is_unconcerned(self, message: Message) -> bool:
        """Whether a message passes through whatever the client is waiting for."""
        interlude = self._interlude
        is_served = interlude is None or interlude.is_over
        if is_served and self._opened.is_set() and self._held.first is None:
            return interlude is None or message.method != spec.INITIALIZED
        if message.is_request and (message.method == spec.DISCOVER or is_self_describing(message)):
            return True
        if message.is_response:  # the real server may need it to finish the handshake
            return interlude is None or not interlude.is_pending
        return is_served and message.is_request and message.method == spec.PING

    # The client's initialize

    async def _initialize(self, message: Message, call: Call) -> None:
        self._leave()
        self._opened = opened = trio.Event()

        async def note(incoming: Message) -> None:
            if incoming.is_response:
                opened.set()
            await call.emit(incoming)

        try:
            await self._upstream.send(message, call.answering(note))
        except SignInPending as pending:
            if self._opened is not opened:  # the client has begun anew meanwhile
                raise
            call.turn.over()
            log.info("nobody has signed in yet: answering in the server's place")
            self._interlude = _Interlude(message, self._nursery, self._shake_hands)
            self._wait(self._interlude, pending.url)
            await call.emit(self._introduction(self._interlude))
        finally:
            opened.set()

    def _introduction(self, interlude: _Interlude) -> Message:
        assert interlude.initialize.id is not None
        name = self._server_name
        where = f"here: {interlude.url}" if interlude.url else "in the window that opens for it"
        text = (
            f"Nobody has signed in to {name} yet, so nothing is on offer. What it offers will "
            f"appear as soon as the user has signed in {where}"
        )
        result = {
            "protocolVersion": interlude.version,
            "capabilities": PROMISED,
            "serverInfo": {"name": name, "version": "unknown"},
            "instructions": text,
        }
        return jsonrpc.result(interlude.initialize.id, result)

    def _leave(self) -> None:
        if self._interlude is not None:
            self._interlude.leave()
            self._interlude = None

    # Everything else

    async def _deliver(self, message: Message, call: Call) -> None:
        interlude = self._interlude
        if interlude is not None and message.is_request and message.method == spec.PING:
            await self._answer(message, call, interlude)  # S-9
            return
        await self._settle()  # before the turn comes: what all wait for may fail for all at once
        await call.turn.come()
        await self._settle()  # the client may have begun anew meanwhile
        interlude = self._interlude
        if interlude is None or not (interlude.is_pending or message.method == spec.INITIALIZED):
            await self._upstream.send(message, call)
        else:
            await self._answer(message, call, interlude)

    async def _settle(self) -> None:
        """Wait until it is known who answers: the server, or the stand-in. Raises RelayError."""
        while True:
            interlude = self._interlude
            if not self._opened.is_set():
                await self._opened.wait()
            elif interlude is None or interlude.is_pending or interlude.is_over:
                return
            else:
                await interlude.handshake.join()

    async def _answer(self, message: Message, call: Call, interlude: _Interlude) -> None:
        """Answer in the server's place; the handshake with it takes care of `initialized`."""
        call.turn.over()
        method, id = message.method, message.id
        if method == spec.INITIALIZED or (message.is_request and method != spec.PING):
            interlude.has_begun.set()
        if not message.is_request or id is None:
            log.debug("dropped a %s: nobody has signed in yet", message.kind.value)
        elif method in spec.LISTS:
            await call.emit(jsonrpc.result(id, {spec.LISTS[method]: []}))
        elif method in (spec.PING, spec.SET_LEVEL):
            if method == spec.SET_LEVEL:
                interlude.level = message
            await call.emit(jsonrpc.result(id, {}))
        else:
            raise SignInPending(interlude.url)

    # The sign-in, and the handshake after it

    def _wait(self, interlude: _Interlude, url: str) -> None:
        interlude.url, interlude.is_pending = url, True
        interlude.waiting.cancel()  # for a sign-in elsewhere, after the last one
        interlude.waiting = trio.CancelScope()
        self._nursery.start_soon(guarded, self._await_sign_in, interlude, interlude.waiting)

    async def _await_sign_in(self, interlude: _Interlude, waiting: trio.CancelScope) -> None:
        with waiting:
            # Nothing may come to a client that has not said `initialized` (S-9).
            await interlude.has_begun.wait()
            try:
                await self._sign_in.signed_in()
            except RelayError as failure:
                log.warning("nobody has signed in: %s", failure)
                interlude.is_pending = False
                await self._sign_in.signed_in_elsewhere()
                if interlude.handshake.is_under_way:  # a message did not wait for that
                    with suppress(RelayError):
                        await interlude.handshake.join()
            interlude.is_pending = False
            interlude.handshake.insist()

    async def _shake_hands(self, interlude: _Interlude) -> None:
        """Make the handshake with the real server, unless that is of no use any more."""
        if self._interlude is not interlude:
            return
        interlude.shaking_hands = trio.CancelScope()
        may_pass = False
        with interlude.shaking_hands:
            try:
                result = await self._open(interlude)
            except SignInPending as pending:
                if self._interlude is interlude:
                    self._wait(interlude, pending.url)
                return
            except (ConnectionLost, TimedOut, Unreachable):
                may_pass = True
                raise
            finally:
                if not may_pass:  # only the next message gives reason to try again
                    interlude.handshake.relent()
            interlude.is_over = True
            interlude.waiting.cancel()
            log.info("signed in: the server itself answers from now on")
            _warn(interlude, result)
            self._nursery.start_soon(guarded, self._tell_changes, result.get("capabilities"))

    async def _open(self, interlude: _Interlude) -> Mapping[str, Any]:
        """The result of `initialize`; `initialized` and the log level are sent as well."""
        with Patience(silence=None, total=OWN_REQUEST):
            response = await self._ask(interlude.initialize)
            await self._upstream.send(jsonrpc.notification(spec.INITIALIZED), own_call(self._emit))
        if interlude.level is not None:
            try:
                with Patience(silence=None, total=OWN_REQUEST):
                    await self._ask(interlude.level)
            except RelayError as failure:
                log.warning("the server's log level could not be set: %s", failure)
        return response.result

    async def _ask(self, request: Message) -> Message:
        """The successful response to a request of the client's, sent as one of the relay's own."""
        own = own_call(self._emit)
        response = await ask(self._upstream, request.with_id(next(self._ids)), own)
        if response is None:
            raise BadAnswer("the server's answer is missing")
        if response.error is not None:
            text = quote(str(response.error.get("message", "")))
            raise BadAnswer(f"the server refuses `{request.method}`: {text}")
        return response

    async def _tell_changes(self, capabilities: object) -> None:
        """Have the client ask again for all that the server has, or may have."""
        for name, method in spec.LIST_CHANGES.values():
            if not isinstance(capabilities, dict) or name in capabilities:
                await self._emit(jsonrpc.notification(method))


def _warn(interlude: _Interlude, result: Mapping[str, Any]) -> None:
    """Log what the client would have been told by the server, and was not."""
    version = result.get("protocolVersion")
    if version != interlude.version:
        log.warning(
            "the server speaks %s, and the client was told %s before the sign-in",
            quote(str(version)),
            interlude.version,
        )
    untold = _untold(result.get("capabilities"))
    if "instructions" in result:
        untold.append("instructions")
    if untold:
        log.warning(
            "the client was not told before the sign-in of: %s; it is when it connects again",
            quote(", ".join(untold)),
        )


def _untold(capabilities: object) -> list[str]:
    """Capabilities beyond the promised ones, by their paths."""
    untold: list[str] = []
    for name, value in capabilities.items() if isinstance(capabilities, dict) else ():
        if name not in PROMISED:
            untold.append(name)
        elif isinstance(value, dict):
            more = (each for each in value if each not in PROMISED[name] and value[each])
            untold.extend(f"{name}.{each}" for each in more)
    return untold
