"""Reading and writing where the event loop can wait for a descriptor: POSIX.

The loop is told when a descriptor is ready, the read or write itself is then a plain one that
cannot block. What cannot be waited for (a regular file, the null device) never blocks anyway.
"""

from __future__ import annotations

import errno
import os

import trio

from mcp_stdio.descriptors import Outlet

CHUNK = 64 * 1024
"""Bytes of one read: the capacity of a Linux pipe."""


class PollingReader:
    """Reads when the event loop says so. Implements `Reader`."""

    def __init__(self, fd: int, *, can_wait: bool) -> None:
        self._fd = fd
        self._can_wait = can_wait

    async def read(self) -> bytes:
        """Wait for the next bytes; `b""` at the end. Raises OSError. Loses nothing if cancelled."""
        while True:
            await self._wait()
            try:
                return os.read(self._fd, CHUNK)
            except BlockingIOError:
                # Another process has made the description non-blocking and read from it first.
                continue

    async def _wait(self) -> None:
        if self._can_wait:
            try:
                await trio.lowlevel.wait_readable(self._fd)
            except OSError as exc:
                # epoll refuses files and devices that never block with EPERM, kqueue with EINVAL.
                if exc.errno not in (errno.EPERM, errno.EINVAL):
                    raise
                self._can_wait = False
            else:
                return
        await trio.lowlevel.checkpoint()


class OutletWriter:
    """Writes what is taken at once and lets the event loop wait for room. Implements `Writer`."""

    may_tear = False

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def write(self, data: memoryview) -> int:
        """Write what is taken at once; 0 when that is nothing. Raises OSError."""
        return self._outlet.write(data)

    async def push(self, data: memoryview) -> int:
        """Wait for room; writes nothing itself. Raises OSError."""
        await trio.lowlevel.wait_writable(self._outlet.fileno())
        return 0

    def close(self) -> None:
        """Release what was opened for it; the descriptor itself stays open."""
        self._outlet.close()
