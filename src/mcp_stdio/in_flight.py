"""The messages that are being relayed: who may still answer, who was cancelled, who is left.

A cancel scope exists before the task that runs in it, so the very next line may cancel it. Ids are
compared with their type. Also knows when all of it has to end: what a call does after the client
withdrew it outlives the client's cancel, but never the shutdown.
"""

from __future__ import annotations

from math import inf
from typing import Any

import trio

from mcp_stdio import spec
from mcp_stdio.jsonrpc import Id, Message
from mcp_stdio.upstream.turn import Queue, Turn

WINDOW = 256
"""Messages of a file that are under way at once; each has a connection. Those of a pipe are not
counted: its reader must always see the next cancel and the end."""


class Relayed:
    """One message on its way. It is the `Leave` of its own call."""

    __slots__ = ("_in_flight", "is_answered", "message", "scope", "shields", "turn", "withdrawn")

    def __init__(self, in_flight: InFlight, message: Message, turn: Turn) -> None:
        self._in_flight = in_flight
        self.message = message
        self.scope = trio.CancelScope()
        self.turn = turn
        self.withdrawn: Message | None = None
        self.is_answered = not message.is_request
        self.shields: list[trio.CancelScope] = []

    @property
    def is_open(self) -> bool:
        """Whether the client still waits for a response to this."""
        return not self.is_answered and self.withdrawn is None

    @property
    def is_cut_off(self) -> bool:
        """Whether its time was over before it was: what the server says now is too late."""
        return trio.current_time() >= self._in_flight.deadline

    @property
    def ends_by_itself(self) -> bool:
        """Whether there is an end to wait for; a listen stream has none."""
        return self.message.method != spec.LISTEN

    def shielded(self, seconds: float) -> trio.CancelScope:
        """A scope that outlives the client's cancel but not the end of the program."""
        deadline = min(trio.current_time() + seconds, self._in_flight.deadline)
        shield = trio.CancelScope(shield=True, deadline=deadline)
        self.shields.append(shield)
        return shield

    def withdraw(self, cancel: Message) -> None:
        """The client wants no answer any more."""
        self.withdrawn = cancel
        self.scope.cancel()


class InFlight:
    """What has been read and is not over."""

    def __init__(self) -> None:
        self.deadline = inf
        self._all: set[Relayed] = set()
        self._endless = 0  # of them
        self._requests: dict[Id, Relayed] = {}
        self._turns = Queue()
        self._room = trio.Event()

    def __contains__(self, message: Message) -> bool:
        """Whether a request under the id of this one has not been answered yet (S-5).

        That includes a withdrawn one, as long as its task runs: the server may still know the id.
        """
        earlier = None if message.id is None else self._requests.get(message.id)
        return earlier is not None and not earlier.is_answered and message.is_request

    def open(self, message: Message) -> Relayed:
        """Enter a message, in the order of reading."""
        relayed = Relayed(self, message, self._turns.take())
        self._all.add(relayed)
        if not relayed.ends_by_itself:
            self._endless += 1
        if message.id is not None and message.is_request:
            self._requests[message.id] = relayed
        return relayed

    def cancel(self, cancel: Message) -> None:
        """Withdraw the request that a `notifications/cancelled` names; any other is ignored (S-14).

        `initialize` is never cancelled (T-16).
        """
        id: Any = cancel.params.get("requestId")
        if type(id) not in (str, int):
            return
        relayed = self._requests.get(id)
        if relayed is None or relayed.message.method == spec.INITIALIZE:
            return
        if relayed.is_open:
            relayed.withdraw(cancel)

    def close(self, relayed: Relayed) -> None:
        """The message is over."""
        relayed.turn.over()
        id = relayed.message.id
        if id is not None and self._requests.get(id) is relayed:
            del self._requests[id]
        self._all.remove(relayed)
        if not relayed.ends_by_itself:
            self._endless -= 1
        self._room.set()

    def open_requests(self) -> list[Relayed]:
        """The requests that the client still waits for."""
        return [relayed for relayed in self._requests.values() if relayed.is_open]

    async def fewer_than(self, limit: int) -> None:
        """Wait until fewer than `limit` messages are under way that end by themselves."""
        while len(self._all) - self._endless >= limit:
            self._room = trio.Event()
            await self._room.wait()

    def end_by(self, deadline: float) -> None:
        """Nothing of this may last longer than `deadline` (trio's clock)."""
        self.deadline = min(self.deadline, deadline)
        for relayed in self._all:
            for shield in relayed.shields:
                shield.deadline = min(shield.deadline, self.deadline)
