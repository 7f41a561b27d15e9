"""What every way to a server offers the relay, and what it is given: `Upstream` and `Call`.

An upstream is asked to `send` one message and brings whatever comes back for it through
`call.emit`. A wrapper (list pages merged, an era bridged) is an upstream around an upstream: it
hands on a call of its own whose `emit` is its own method.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import trio

from mcp_stdio.jsonrpc import Id, Message
from mcp_stdio.upstream.turn import Queue, Turn

Emit = Callable[[Message], Awaitable[None]]
"""Brings one message to the client; waits while the client does not read."""

EmitAll = Callable[[Sequence[Message]], Awaitable[None]]
"""Brings messages to the client that came together and answer nothing, in their order."""

Sending: TypeAlias = Coroutine[Any, Any, None]
"""What `send` of an upstream returns. One that does nothing with a message but hand it on returns
what the next one gives, so that a message that concerns nobody costs nobody a frame."""


class Receiver(Protocol):
    """An `Emit` that takes what came together as one, for a single write."""

    async def __call__(self, message: Message, /) -> None:
        """See `Emit`."""
        ...

    async def together(self, messages: Sequence[Message], /) -> None:
        """See `EmitAll`."""
        ...


def together(emit: Emit) -> EmitAll:
    """The way for messages that came together, where `emit` is that for single ones."""
    at_once: EmitAll | None = getattr(emit, "together", None)
    return partial(_one_by_one, emit) if at_once is None else at_once


async def _one_by_one(emit: Emit, messages: Sequence[Message]) -> None:
    for message in messages:
        await emit(message)


class Leave(Protocol):
    """What a call may still do after the client has withdrawn it."""

    withdrawn: Message | None

    def shielded(self, seconds: float) -> trio.CancelScope:
        """A scope that outlives the client's cancel but not the end of the program."""
        ...


class Call:
    """One message on its way to the server, and where the answers go.

    `emit` takes them; `emit_all` takes what came together and answers nothing, and goes by `emit`
    where it is not given. `turn` keeps messages in the order they were read: wait for it before the
    first byte, pass it on once sent or when waiting for something of one's own. `leave.withdrawn`
    is the client's `notifications/cancelled` once there is one; the call's cancel scope is
    cancelled with it.
    """

    __slots__ = ("emit", "emit_all", "leave", "turn")

    def __init__(
        self, emit: Emit, turn: Turn, leave: Leave, emit_all: EmitAll | None = None
    ) -> None:
        self.emit = emit
        self.turn = turn
        self.leave = leave
        self.emit_all = together(emit) if emit_all is None else emit_all

    def emitting(self, emit: Emit) -> Call:
        """The same call with another receiver: how an upstream wraps an upstream."""
        return Call(emit, self.turn, self.leave)

    def answering(self, take: Emit) -> Call:
        """The same call with another receiver for the response.

        What else comes by itself is for `take` to hand on; what comes together goes past it.
        """
        return Call(take, self.turn, self.leave, self.emit_all)

    def pass_to(self, queue: Queue) -> None:
        """The turn, which has come, is over, and the call has one in `queue` instead.

        For an upstream that keeps messages in an order of its own from here on; it sees to it that
        this turn is over at the end.
        """
        passed, self.turn = self.turn, queue.take()
        passed.over()


class _Staying:
    """The leave of the relay's own requests, which nobody withdraws."""

    withdrawn: Message | None = None

    def shielded(self, seconds: float) -> trio.CancelScope:
        return trio.CancelScope(shield=True, deadline=trio.current_time() + seconds)


def own_call(emit: Emit) -> Call:
    """The call of a message that the relay sends by itself, out of turn."""
    return Call(emit, Queue().take(), _Staying())


class Upstream(Protocol):
    """A server, seen through one transport and era."""

    @property
    def version(self) -> str | None:
        """The protocol version agreed with the client; None before there is one."""
        ...

    def send(self, message: Message, call: Call) -> Sending:
        """Deliver one message and emit what comes back.

        For a request, returns after its response was emitted. Raises RelayError where there will be
        none; the caller answers.
        """
        ...

    def refresh(self) -> None:
        """Open listening streams anew: the machine has slept and connections may be dead."""
        ...

    async def aclose(self) -> None:
        """Say goodbye to the server; bounded by the caller."""
        ...


async def ask(upstream: Upstream, request: Message, call: Call) -> Message | None:
    """Send a request and return its response; what else comes back meanwhile goes on to the client.

    For wrappers that have something to do with the answer. Raises RelayError, as `send` does.
    """
    response: Message | None = None

    async def take(message: Message) -> None:
        nonlocal response
        if message.is_response:
            response = message
        else:
            await call.emit(message)

    await upstream.send(request, call.answering(take))
    return response


def renamed(request: Message, call: Call, id: Id) -> tuple[Message, Call]:
    """The same request under another id, and a call that answers it under its own.

    For a request that goes out a second time, which is a new one to the server (T-13, T-35), and
    where the client's ids cannot be used (B-53). What is no response passes as it is.
    """

    async def restore(message: Message) -> None:
        if message.is_response and request.id is not None:
            message = message.with_id(request.id)
        await call.emit(message)

    return request.with_id(id), call.answering(restore)
