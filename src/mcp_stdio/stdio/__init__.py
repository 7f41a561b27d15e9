"""The client's side: lines from standard input, whole lines to standard output.

Works on descriptors 0 and 1 alone. `sys.stdin` and `sys.stdout` are never touched: a thread blocked
in one of them aborts the interpreter at exit, one blocked in `os.read` does not. Nothing here
blocks the event loop, and no descriptor's mode is changed, for others share it. A line that has
begun is finished, and after a torn one nothing more is written (P6). Knows nothing of what the
lines mean.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import stat
from collections import deque
from typing import Protocol

import trio

from mcp_stdio.descriptors import needs_threads, outlet
from mcp_stdio.errors import OutputClosed
from mcp_stdio.framing import Lines, Oversized
from mcp_stdio.stdio.posix import OutletWriter, PollingReader
from mcp_stdio.stdio.threads import ThreadReader, ThreadWriter
from mcp_stdio.stdio.turns import Turns

_log = logging.getLogger(__name__)


_GONE = {errno.EPIPE, errno.EBADF, errno.ECONNRESET}
"""What a write says when nobody is left to read."""

_LARGE = 64 * 1024
"""Bytes of a line that is not copied only to have its newline in the same write."""


class Reader(Protocol):
    """A way to read a descriptor."""

    async def read(self) -> bytes:
        """Wait for the next bytes; `b""` at the end. Raises OSError."""
        ...


class Writer(Protocol):
    """A way to write to a descriptor.

    `may_tear` says that a cancelled `push` may have written something.
    """

    may_tear: bool

    def write(self, data: memoryview) -> int:
        """Write what is taken at once; 0 when that is nothing. Raises OSError."""
        ...

    async def push(self, data: memoryview) -> int:
        """Wait for room and write; may return 0 to be asked again. Raises OSError."""
        ...

    def close(self) -> None:
        """Release what was opened for it; the descriptor itself stays open."""
        ...


class Input:
    """The lines read from a descriptor, as an async iterator that ends at the end of input.

    Idle it can be cancelled at once. A descriptor that cannot be read is at its end. Lines that
    came together are handed out without a checkpoint in between. `is_regular_file` tells a file
    from a live client. Blank lines are handed out with `keeps_blank` alone.
    """

    def __init__(self, fd: int, max_size: int, *, keeps_blank: bool = False) -> None:
        self.is_regular_file = _is_regular_file(fd)
        self._reader: Reader = (
            ThreadReader(fd)
            if needs_threads()
            else PollingReader(fd, can_wait=not self.is_regular_file)
        )
        self._lines = Lines(max_size, keeps_blank=keeps_blank)
        self._ready: deque[bytes | Oversized] = deque()
        self._is_over = False

    def __aiter__(self) -> Input:
        return self

    async def __anext__(self) -> bytes | Oversized:
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            data = await self._read()
            if data:
                self._ready.extend(self._lines.feed(data))
            else:
                self._is_over = True
                self._ready.extend(self._lines.end())
        return self._ready.popleft()

    def already_read(self) -> list[bytes | Oversized]:
        """The whole lines that were read and not handed out yet, which they are with this."""
        lines = list(self._ready)
        self._ready.clear()
        return lines

    async def _read(self) -> bytes:
        try:
            return await self._reader.read()
        except OSError as exc:
            # Closed, a vanished terminal, a connection reset: these are ways to end.
            if exc.errno not in (errno.EBADF, errno.EIO, errno.ECONNRESET):
                _log.warning("standard input cannot be read: %s", exc.strerror)
            return b""


class Output:
    """Whole lines to a descriptor.

    Hold `lock` while writing. A write can be cancelled until its first byte is out, not after that,
    unless the deadline of `finish_by` comes. Once a line could not be finished, or nobody reads,
    every write raises OutputClosed. `failure` is what ended it other than its reader's going, as
    when a disk is full.
    """

    def __init__(self, fd: int) -> None:
        self.lock = Turns()
        self.failure: OSError | None = None
        # What a terminal says once it is gone.
        self._gone = {*_GONE, errno.EIO} if os.isatty(fd) else _GONE
        self._deadline = math.inf
        self._waiting: trio.CancelScope | None = None
        self._is_closed = False
        self._writer: Writer | None = None
        try:
            self._writer = ThreadWriter(fd) if needs_threads() else OutletWriter(outlet(fd))
        except OSError:
            self._is_closed = True

    async def write_line(self, raw: bytes) -> None:
        """Write `raw` and a newline. Raises OutputClosed."""
        if len(raw) < _LARGE:
            await self.write(raw + b"\n")
        else:
            await self.write(raw, b"\n")

    async def write(self, *parts: bytes) -> None:
        """Write all parts, together whole lines, as one. Raises OutputClosed."""
        writer = self._writer
        if self._is_closed or writer is None or trio.current_time() >= self._deadline:
            raise OutputClosed
        await trio.lowlevel.checkpoint_if_cancelled()
        is_begun = False
        try:
            for part in parts:
                rest = memoryview(part)
                while rest:
                    count = writer.write(rest)
                    if count == 0:
                        count = await self._push(writer, rest, is_begun=is_begun)
                    is_begun = is_begun or count > 0
                    rest = rest[count:]
        except OSError as exc:
            self._is_closed = True
            if exc.errno not in self._gone:
                self.failure = exc
            raise OutputClosed from exc

    async def _push(self, writer: Writer, rest: memoryview, *, is_begun: bool) -> int:
        with trio.CancelScope(
            deadline=self._deadline, shield=is_begun or writer.may_tear
        ) as self._waiting:
            return await writer.push(rest)
        # Only the deadline cancels this scope.
        self._is_closed = True
        raise OutputClosed

    def close(self) -> None:
        """Write no more and release what was opened for it; the descriptor itself stays open."""
        self._is_closed = True
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def finish_by(self, deadline: float) -> None:
        """Write nothing after `deadline` (trio's clock), even if a line is left unfinished."""
        self._deadline = deadline
        if self._waiting is not None:
            self._waiting.deadline = deadline


def standard_input(max_size: int) -> Input:
    """Descriptor 0; lines over `max_size` bytes come as `Oversized`."""
    return Input(0, max_size)


def standard_output() -> Output:
    """Descriptor 1."""
    return Output(1)


def _is_regular_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False
