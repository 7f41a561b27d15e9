"""Which era a message is of, and who serves it: one server with a face for each kind of client.

A client that shakes hands is served by `handshaking`, one that says everything with each request by
`probing`; both kinds of message may come in one process, as from a client that probes with
`server/discover` and falls back to `initialize` without waiting. Each face keeps its messages in
order and holds up none of the other's (P4). What the server speaks is for the faces to find out.
"""

from __future__ import annotations

import logging

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.era.candidates import Candidate
from mcp_stdio.era.evidence import Verdict
from mcp_stdio.era.handshaking import Handshaking
from mcp_stdio.era.probing import Probing
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Sending
from mcp_stdio.upstream.turn import Queue

log = logging.getLogger(__name__)


class Era:
    """The upstream that knows both kinds of client."""

    def __init__(self, handshaking: Handshaking, probing: Probing) -> None:
        self._handshaking = handshaking
        self._probing = probing
        self._queues = {True: Queue(), False: Queue()}

    @property
    def version(self) -> str | None:
        """The protocol version agreed with a client that has shaken hands."""
        return self._handshaking.version

    @property
    def accepted(self) -> Candidate | None:
        """The way by which a client that shakes hands is served, once there is one."""
        return self._handshaking.accepted

    @property
    def verdict(self) -> Verdict:
        """The era of the server, as far as anything sent has told."""
        return self._probing.verdict

    async def send(self, message: Message, call: Call) -> None:
        """Deliver one message; see `Upstream.send`."""
        await call.turn.come()
        is_modern = self._is_modern(message)
        call.pass_to(self._queues[is_modern])
        try:
            await (self._probing.send if is_modern else self._shaken)(message, call)
        finally:
            call.turn.over()

    def refresh(self) -> None:
        """See `Upstream.refresh`."""
        self._handshaking.refresh()
        self._probing.refresh()

    async def aclose(self) -> None:
        """See `Upstream.aclose`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._handshaking.aclose)
            nursery.start_soon(self._probing.aclose)

    def _is_modern(self, message: Message) -> bool:
        """Whether a message is one of a client that does not shake hands, at least not for it."""
        if message.is_request:
            if message.method == spec.INITIALIZE:
                return False
            if message.method == spec.DISCOVER or is_self_describing(message):
                return True
        # To a modern server what describes itself badly goes as it is: it knows what to say (S-11).
        return not self._handshaking.has_begun and self._probing.verdict is Verdict.MODERN

    def _shaken(self, message: Message, call: Call) -> Sending:
        if message.method == spec.INITIALIZE and message.is_request:
            return self._shake_hands(message, call)
        is_expected = message.method == spec.PING and message.is_request
        if self._handshaking.has_begun or is_expected:
            return self._handshaking.send(message, call)
        return self._turn_down(message, call)

    async def _turn_down(self, message: Message, call: Call) -> None:
        if not message.is_request:
            log.warning("dropped a %s: nothing has been opened", message.kind.value)
            return
        call.turn.over()
        text = (
            "Send `initialize` first, or name the protocol version in "
            f"`params._meta[{spec.META_VERSION!r}]`"
        )
        await call.emit(jsonrpc.error(message.id, jsonrpc.INVALID_PARAMS, text))

    async def _shake_hands(self, message: Message, call: Call) -> None:
        await self._handshaking.send(message, call)
        # What it has shown matters to the other face as well.
        if self._handshaking.is_native:
            self._probing.hasten()
        else:
            self._probing.learn(self._handshaking.verdict)


def is_self_describing(message: Message) -> bool:
    """Whether a request names its protocol version itself (2026-07-28 basic, _meta)."""
    return spec.META_VERSION in spec.meta_of(message)
