"""The last step to the client: whole lines, one writer at a time, one response for each request.

What came together leaves in few writes, none of which ends within a line that a pipe would have
taken whole: while the client does not read, all may still end there, at a cancel or for good (P6).
Whether the client still waits is looked at once the lock is held, for a cancel may have been read
while another wrote. Knows nothing of where messages come from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from mcp_stdio.descriptors import PIPE_BUF
from mcp_stdio.in_flight import Relayed
from mcp_stdio.jsonrpc import Message
from mcp_stdio.redaction import beginning
from mcp_stdio.stdio import Output
from mcp_stdio.upstream import Receiver

log = logging.getLogger(__name__)


class ToClient(Receiver):
    """Takes to `output` what belongs to no request."""

    __slots__ = ("_output",)

    def __init__(self, output: Output) -> None:
        self._output = output

    async def __call__(self, message: Message) -> None:
        """Write one message."""
        await self.together([message])

    async def together(self, messages: Sequence[Message]) -> None:
        """Write messages that came together."""
        await self._output.lock.acquire()
        try:
            for lines in _lines(messages):
                await self._output.write_line(lines)
        finally:
            self._output.lock.release()


class ToRequest(Receiver):
    """Takes to `output` what came back for a request: one response, nothing once it is withdrawn.

    A second response is dropped, and all that the server says once the request was cut off: a
    client that still reads what was said before must not miss the last words behind it.
    """

    __slots__ = ("_output", "_relayed")

    def __init__(self, output: Output, relayed: Relayed) -> None:
        self._output = output
        self._relayed = relayed

    async def __call__(self, message: Message, *, is_ours: bool = False) -> None:
        """Write a response, or any other message; one that `is_ours` is never too late."""
        if not message.is_response:
            await self.together([message])
            return
        relayed = self._relayed
        await self._output.lock.acquire()
        try:
            if not relayed.is_open or (relayed.is_cut_off and not is_ours):
                return
            # Before the write: a quick client may use the id again before that has returned.
            relayed.is_answered = True
            try:
                if log.isEnabledFor(logging.DEBUG):
                    log.debug("to client: %s: %s", message, beginning(message.raw))
                await self._output.write_line(message.raw)
            except BaseException:
                relayed.is_answered = False
                raise
        finally:
            self._output.lock.release()

    async def together(self, messages: Sequence[Message]) -> None:
        """Write what came together and is no response."""
        await self._output.lock.acquire()
        try:
            for lines in _lines(messages):
                if self._relayed.withdrawn is not None or self._relayed.is_cut_off:
                    return
                await self._output.write_line(lines)
        finally:
            self._output.lock.release()


def _lines(messages: Sequence[Message]) -> Iterable[bytes]:
    if log.isEnabledFor(logging.DEBUG):
        for message in messages:
            log.debug("to client: %s: %s", message, beginning(message.raw))
    if len(messages) == 1:
        return (messages[0].raw,)
    return pieces([message.raw for message in messages])


def pieces(lines: Sequence[bytes], size: int = PIPE_BUF) -> Iterator[bytes]:
    """The lines in their order, joined as far as they fit into writes of `size` with newlines.

    A pipe takes so many bytes as one or not at all; what is longer is a piece of its own.
    """
    piece: list[bytes] = []
    room = size
    for line in lines:
        room -= len(line) + 1
        if room < 0 and piece:
            yield b"\n".join(piece)
            piece = []
            room = size - len(line) - 1
        piece.append(line)
    if piece:
        yield b"\n".join(piece)
