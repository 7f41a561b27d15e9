"""A server of the handshake era (2024-11-05 to 2025-11-25), over either of its transports.

Owns the way into a session: the client's `initialize` and its replay when the server has forgotten
us, requests kept behind the handshake, the farewell. One renewal serves all requests that lost the
session at the same time; it is tried again with the next message when it fails (T-41 to T-44, S-9,
T-17). Knows nothing of the stateless era, nor how messages travel.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.errors import (
    RelayError,
    SessionLost,
    Unreachable,
)
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Emit
from mcp_stdio.upstream.background import guarded
from mcp_stdio.upstream.forgotten import Forgotten, is_over, may_come_again, speaks_of_session
from mcp_stdio.upstream.handshake import Handshake
from mcp_stdio.upstream.link import LinkLost
from mcp_stdio.upstream.opening import OWN_REQUEST, Opening
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.questions import Questions
from mcp_stdio.upstream.refusal import HandshakeRefused, HttpRefusal
from mcp_stdio.upstream.renewal import Renewal
from mcp_stdio.upstream.transport import Transport
from mcp_stdio.upstream.turn import Queue

log = logging.getLogger(__name__)


class Session:
    """The upstream of the handshake era. `nursery` runs renewals and farewells.

    `emit` brings what belongs to no request to the client; `ids` mints the relay's own ids.
    Time-outs are seconds, None without limit. `renewed` is run each time that a new session has
    taken the place of a lost one: what happened in between, nobody was told.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        nursery: trio.Nursery,
        emit: Emit,
        ids: Iterator[str],
        timeout_read: float | None,
        timeout_call: float | None,
        renewed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._transport = transport
        self._nursery = nursery
        self._timeout_read = timeout_read
        self._timeout_call = timeout_call
        self._departures = Queue()
        self._opening = Opening(emit=emit, ids=ids, timeout_read=timeout_read)
        self._opened_over = trio.Event()  # the client's own handshake is not under way
        self._opened_over.set()
        self._handshake: Handshake | None = None
        self._unfinished: set[Handshake] = set()  # begun, and not there yet or not left yet
        self._questions: Questions[Handshake] = Questions()
        self._renewed = renewed
        self._renewal = Renewal(nursery, self._open_anew)

    @property
    def version(self) -> str | None:
        """The protocol version the client was told."""
        version = self._opening.result.get("protocolVersion")
        return version if isinstance(version, str) else None

    async def send(self, message: Message, call: Call) -> None:
        """Deliver one message; see `Upstream.send`.

        A refused `initialize` is raised, whatever its body: it tells of the server's era.
        """
        # Messages pass the handshake's state in the order they were read, and leave in the order
        # in which they passed it: what waits for the handshake must not stop what completes it.
        await call.turn.come()
        call.pass_to(self._departures)
        try:
            if message.is_request:
                await self._send_request(message, call)
            else:
                await self._send_unanswered(message, call)
        finally:
            call.turn.over()

    def refresh(self) -> None:
        """Connect the stream anew on which the server speaks of its own accord."""
        if self._handshake is not None:
            self._handshake.reopen()

    async def aclose(self) -> None:
        """Leave each session (T-43), also one whose opening was cut short."""
        self._renewal.relent()
        handshakes = set(self._unfinished)
        if self._handshake is not None:
            handshakes.add(self._handshake)
        async with trio.open_nursery() as nursery:
            for handshake in handshakes:
                nursery.start_soon(self._say_goodbye, handshake)

    # Client to server

    def _send_request(self, message: Message, call: Call) -> Awaitable[None]:
        assert message.id is not None
        if message.method == spec.INITIALIZE:
            return self._initialize(message, call)
        if message.method == spec.PING and not self._opening.result:
            return call.emit(jsonrpc.result(message.id, {}))  # S-9
        return self._request(message, call)

    async def _request(self, message: Message, call: Call) -> None:
        begun = trio.current_time()
        if self._opening.standing.concerns(message):
            call = call.answering(self._opening.standing.noting(message, call.emit))
        try:
            losses = 0
            while True:
                is_anew = losses > 0 and self._handshake is None  # in a session opened for it
                try:
                    await self._attempt(message, call, begun, is_anew=is_anew)
                    return
                except (Forgotten, LinkLost) as loss:
                    if not may_come_again(message, loss, losses, is_anew=is_anew):
                        raise
                    losses += 1
                    call.turn.over()
        except _NotInitialized:
            text = "Send `initialize` first: the remote server needs a handshake"
            await call.emit(jsonrpc.error(message.id, jsonrpc.INVALID_PARAMS, text))

    async def _attempt(self, message: Message, call: Call, begun: float, *, is_anew: bool) -> None:
        patience = self._patience(begun)
        patience.heard()  # waiting for the handshake counts as well
        with patience:
            handshake = await self._current()
            try:
                await handshake.messenger.ask(message, handshake, call, patience)
            except HttpRefusal as refusal:
                # What is refused in a new session as well is not about the session.
                if not is_anew or refusal.came_later or refusal.answer is None:
                    self._judge(refusal, handshake)
                if refusal.answer is None:
                    raise
                await call.emit(refusal.answer)
            except SessionLost:
                self._lose(handshake)
                raise

    async def _send_unanswered(self, message: Message, call: Call) -> None:
        try:
            if message.is_response:
                await self._respond(message, call)
            elif message.method == spec.INITIALIZED:
                await self._initialized(message, call)
            else:
                await self._notify(message, call)
        except (RelayError, _NotInitialized) as exc:
            log.warning("could not deliver a %s: %s", message.kind.value, exc)

    async def _notify(self, message: Message, call: Call) -> None:
        try:
            await self._tell(message, await self._current(), call)
        except Forgotten:
            await self._tell(message, await self._current(), call)

    async def _respond(self, message: Message, call: Call) -> None:
        call.turn.over()  # a server may need it to answer the request that holds up the others
        asker = self._questions.settle(message.id)
        if asker is None:
            log.warning("dropped a response to a question that nobody asks")
            return
        await self._tell(message, asker, call)

    async def _tell(self, message: Message, handshake: Handshake, call: Call) -> None:
        silence = self._timeout_read or OWN_REQUEST
        with Patience(silence=silence, total=self._timeout_call) as patience:
            try:
                await handshake.messenger.tell(message, handshake, call, patience)
            except HttpRefusal as refusal:
                self._judge(refusal, handshake)
                raise

    # The client's own handshake

    async def _initialize(self, message: Message, call: Call) -> None:
        call.turn.over()
        if self._handshake is not None:  # again in one process: a new session
            self._handshake.stop_listening()
            self._leave(self._handshake)
        self._opening.begin(message)
        self._opened_over = over = trio.Event()
        self._handshake = None
        self._renewal.relent()
        begun = trio.current_time()
        try:
            try:
                await self._introduce(message, call, begun)
            except (LinkLost, Forgotten):  # `initialize` is safe to repeat
                await self._introduce(message, call, begun, is_last=True)
        finally:
            over.set()

    async def _introduce(
        self, message: Message, call: Call, begun: float, *, is_last: bool = False
    ) -> None:
        with self._patience(begun) as patience:
            handshake = await self._begin()
            try:
                await self._present(message, handshake, call, patience)
            except HttpRefusal as refusal:
                if not is_last:
                    self._judge(refusal, handshake)
                raise

    async def _present(
        self, message: Message, handshake: Handshake, call: Call, patience: Patience
    ) -> None:
        call = call.answering(self._opening.noting(handshake, call.emit))
        try:
            await handshake.messenger.ask(message, handshake, call, patience)
        finally:
            self._unfinished.discard(handshake)
            if handshake.version is None or self._opening.request is not message:
                self._leave(handshake)
            elif handshake.is_lost:  # answered, and over since
                self._renewal.insist()
            else:
                self._take_over(handshake)

    async def _begin(self) -> Handshake:
        handshake = await self._transport.connect(self._questions, self._lose)
        self._unfinished.add(handshake)
        return handshake

    def _take_over(self, handshake: Handshake) -> None:
        self._handshake = handshake
        self._unfinished.discard(handshake)

    async def _initialized(self, message: Message, call: Call) -> None:
        call.turn.over()
        if not self._opened_over.is_set():  # requests must not get ahead in a checkpoint
            await self._opened_over.wait()
        handshake = self._handshake
        if handshake is None:
            log.warning("dropped `%s`: there is no session", message.method)
            return
        handshake.barrier.begin()
        try:
            await self._tell(message, handshake, call)
        finally:
            self._open(handshake)

    def _open(self, handshake: Handshake) -> None:
        """Listen, now that `initialized` was accepted, and let requests through (T-6, T-17)."""
        barrier = handshake.barrier
        barrier.begin()
        if handshake.has_listener:
            return
        handshake.has_listener = True
        self._transport.listen(handshake)
        self._nursery.start_soon(guarded, barrier.open_after, handshake.listening_decided)

    async def _current(self) -> Handshake:
        """The session to use, opened anew if need be. Raises _NotInitialized, RelayError."""
        while True:
            if not self._opened_over.is_set():
                await self._opened_over.wait()
            handshake = self._handshake
            if handshake is None:
                if self._opening.request is None:
                    raise _NotInitialized
                await self._renewal.join()
                continue
            if not handshake.barrier.is_open:
                await handshake.barrier.wait()
            if self._handshake is handshake:
                return handshake

    # Losing and renewing

    def _judge(self, refusal: HttpRefusal, handshake: Handshake) -> None:
        """What an error status says about the session. Raises Forgotten if the session is over."""
        if not handshake.has_session:
            return
        if refusal.status == 404:
            self._lose(handshake)
            raise Forgotten(came_later=refusal.came_later) from None
        # Over HTTP+SSE the open stream says that there is a session.
        if not handshake.answers_elsewhere and speaks_of_session(refusal):
            self._doubt(handshake)

    def _lose(self, handshake: Handshake) -> None:
        """The server forgot the session: open it anew, once for all that noticed (T-44)."""
        handshake.lose()
        if self._handshake is not handshake:
            return
        self._handshake = None
        if handshake.answers_elsewhere:  # all that the server says by itself is missed as well
            self._renewal.insist()
        else:
            self._renewal.start()

    def _doubt(self, handshake: Handshake) -> None:
        """The session seems to be forgotten: open it anew before the next message (Q-19)."""
        handshake.stop_listening()
        if self._handshake is handshake:
            self._handshake = None
            self._unfinished.add(handshake)  # it may well live on, and what is under way there too
            self._nursery.start_soon(guarded, self._leave_unused, handshake)

    async def _open_anew(self) -> None:
        request, handshake = self._opening.request, await self._begin()
        try:
            await self._opening.replay(handshake, self._tell)
            if handshake.is_lost:
                raise LinkLost("the connection ended at once")
            if self._opening.request is request:  # else the client has begun anew meanwhile
                self._take_over(handshake)
        except (LinkLost, HandshakeRefused) as exc:  # whatever waits for the session was not sent
            if isinstance(exc, HandshakeRefused) and not is_over(exc, handshake):
                raise
            text = "the server hung up while the session was being opened anew"
            raise Unreachable(text, hint="try again; the server may have just restarted") from exc
        finally:
            if self._handshake is not handshake:
                self._leave(handshake)
        if self._handshake is handshake:
            self._open(handshake)
            log.info("opened the session anew")
            if self._renewed is not None:
                self._nursery.start_soon(guarded, self._renewed)

    # Leaving

    def _leave(self, handshake: Handshake) -> None:
        """Leave a session while others go on; cut short, that is made up for at the end."""
        self._unfinished.add(handshake)
        self._nursery.start_soon(guarded, self._say_goodbye, handshake)

    async def _leave_unused(self, handshake: Handshake) -> None:
        await handshake.unused()
        await self._say_goodbye(handshake)

    async def _say_goodbye(self, handshake: Handshake) -> None:
        await self._transport.leave(handshake)
        self._unfinished.discard(handshake)

    def _patience(self, begun: float) -> Patience:
        return Patience(silence=self._timeout_read, total=self._timeout_call, begun=begun)


class _NotInitialized(Exception):
    """The client sent a request without ever having sent `initialize`."""
