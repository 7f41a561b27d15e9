"""Descriptors 0, 1 and 2 as the operating system hands them over: kept occupied, written politely.

They are shared with other processes, so their modes are never changed: `O_NONBLOCK` belongs to the
open file description, and setting it would break whoever else holds one. An `Outlet` instead asks
first and writes no more than is certain to be taken at once. Imports neither trio nor logging, so
that the command line can start here; knows nothing of lines.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
from contextlib import suppress
from typing import Protocol

PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe which polls as writable takes without blocking (Python `select.PIPE_BUF`)."""


def occupy_standard_descriptors() -> None:
    """Put the null device where descriptor 0, 1 or 2 is closed.

    Otherwise the next file or socket opened would become standard input, output or error. A closed
    output stays unwritable, so that it is noticed instead of swallowing answers.
    """
    for fd, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is given out, and all below `fd` are taken.
            os.open(os.devnull, flags)


class Outlet(Protocol):
    """A descriptor that can be written to without ever blocking."""

    def write(self, data: bytes | memoryview) -> int:
        """Write what is taken at once; 0 when that is nothing. Raises OSError."""
        ...

    def fileno(self) -> int:
        """The descriptor to wait on while nothing is taken."""
        ...

    def close(self) -> None:
        """Release what was opened for it; the descriptor itself stays open."""
        ...


def outlet(fd: int) -> Outlet:
    """The way to write to `fd`. Raises OSError when it is closed."""
    mode = os.fstat(fd).st_mode
    if sys.platform != "win32":
        if stat.S_ISSOCK(mode):
            return _Socket(fd)
        if stat.S_ISFIFO(mode):
            return _Pipe(fd)
        if os.isatty(fd):
            # A terminal may belong to another user, as after `su`.
            with suppress(OSError):
                return _Terminal(fd)
    return _Direct(fd)


class _Direct:
    """A file, or a device that takes everything: never full."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes | memoryview) -> int:
        return os.write(self._fd, data)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        pass


if sys.platform != "win32":

    class _Pipe:
        def __init__(self, fd: int) -> None:
            self._fd = fd
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)

        def write(self, data: bytes | memoryview) -> int:
            if not self._poll.poll(0):
                return 0
            try:
                return os.write(self._fd, data[:PIPE_BUF])
            except BlockingIOError:
                # Someone else has made the description non-blocking, and filled the pipe.
                return 0

        def fileno(self) -> int:
            return self._fd

        def close(self) -> None:
            pass

    class _Socket:
        """Node.js gives its children socket pairs; a single call may be told not to block."""

        def __init__(self, fd: int) -> None:
            self._socket = socket.socket(fileno=os.dup(fd))

        def write(self, data: bytes | memoryview) -> int:
            try:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return 0

        def fileno(self) -> int:
            return self._socket.fileno()

        def close(self) -> None:
            self._socket.close()

    class _Terminal:
        """A terminal polls as writable with less room than `PIPE_BUF`.

        Opened once more it has a description of our own, which may be non-blocking.
        """

        def __init__(self, fd: int) -> None:
            self._fd = os.open(os.ttyname(fd), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)

        def write(self, data: bytes | memoryview) -> int:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:
                return 0

        def fileno(self) -> int:
            return self._fd

        def close(self) -> None:
            os.close(self._fd)
