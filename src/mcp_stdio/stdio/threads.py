"""Reading and writing where only a thread can wait: Windows, whose pipes no event loop can poll.

The threads are trio's, which do not keep the process alive, and they call `os.read` and `os.write`
only, which the interpreter can abandon at exit.
"""

from __future__ import annotations

import errno
import os
import sys

import trio

CHUNK = 64 * 1024
"""Bytes of one read or write; a Windows console takes no more than 32 KiB and says so."""


class ThreadReader:
    """Reads in a thread. Implements `Reader`."""

    def __init__(self, fd: int) -> None:
        _set_binary(fd)
        self._fd = fd
        # Of its own, so that nobody else's threads keep the reader waiting.
        self._limiter = trio.CapacityLimiter(1)

    async def read(self) -> bytes:
        """Wait for the next bytes; `b""` at the end. Raises OSError.

        If cancelled, the thread stays behind and what it reads is lost: read no more after that.
        """
        return await trio.to_thread.run_sync(
            os.read, self._fd, CHUNK, abandon_on_cancel=True, limiter=self._limiter
        )


class ThreadWriter:
    """Writes in a thread. Implements `Writer`."""

    may_tear = True

    def __init__(self, fd: int) -> None:
        _set_binary(fd)
        self._fd = fd
        self._limiter = trio.CapacityLimiter(1)

    def write(self, data: memoryview) -> int:
        """Nothing: whether it would block cannot be known."""
        return 0

    async def push(self, data: memoryview) -> int:
        """Write some of `data`. Raises OSError. If cancelled, the thread stays behind."""
        try:
            return await trio.to_thread.run_sync(
                os.write, self._fd, data[:CHUNK], abandon_on_cancel=True, limiter=self._limiter
            )
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            # So says Windows of most pipes whose reader has gone.
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from exc

    def close(self) -> None:
        """Nothing: nothing was opened for it."""


def _set_binary(fd: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(fd, os.O_BINARY)
