"""Descriptors 0, 1 and 2 as the operating system hands them over: kept occupied, written politely.

They are shared with other processes, so their modes are never changed: `O_NONBLOCK` belongs to the
open file description, and setting it would break whoever else holds one. An `Outlet` instead has a
description of its own, or asks first and writes no more than is certain to be taken at once; where
nobody can be asked, a thread does the waiting. Imports neither trio nor logging, so that the
command line can start here; knows nothing of lines.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import stat
import sys
import threading
from contextlib import suppress
from functools import cache
from queue import SimpleQueue
from typing import Protocol

STDERR = 2

THREADS = "MCP_STDIO_THREADS"
"""Environment variable: `1` asks for the way that Windows needs, on any system."""

PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe which polls as writable takes without blocking (Python `select.PIPE_BUF`)."""

OPEN_FILES = "/proc/self/fd"
"""Where Linux lets a pipe be opened once more; the like of it elsewhere only duplicates."""

MAX_QUEUED = 128 * 1024
"""Bytes that wait for a standard error which is not read: more than the longest record of a log."""

PARTING = 0.2
"""Seconds that the last lines have to be taken, at the exit of the process."""


def needs_threads() -> bool:
    """Whether only a thread can wait for a descriptor: no pipe of Windows can be polled."""
    return sys.platform == "win32" or os.environ.get(THREADS) == "1"


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
        """Release what was opened for it; the descriptor itself stays open.

        Returns within `PARTING` seconds.
        """
        ...


def outlet(fd: int) -> Outlet:
    """The way to write to `fd`. Raises OSError when it is closed."""
    mode = os.fstat(fd).st_mode
    if fd == STDERR and needs_threads() and not stat.S_ISREG(mode):
        return _threaded_standard_error()
    if sys.platform != "win32":
        if stat.S_ISSOCK(mode):
            return _Socket(fd)
        if stat.S_ISFIFO(mode):
            # It may belong to another user, as after `su`, or there may be no `/proc`.
            with suppress(OSError):
                return _Reopened(f"{OPEN_FILES}/{fd}")
            return _Pipe(fd)
        if os.isatty(fd):
            with suppress(OSError):
                return _Reopened(os.ttyname(fd))
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


class _Threaded:
    """Takes what fits into a queue, whole or not at all; a thread writes it.

    This is the one thread that is not trio's. A pipe or console of Windows cannot be asked whether
    it is full, so that writing to it may last for ever; and neither can the log wait for a thread
    of trio's, for it is called from plain functions, and before and after the event loop runs. The
    thread is a daemon: it never keeps the process alive. What fails to be written is lost, for
    there is nobody left to tell.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # No locks: a destructor that runs anywhere in the thread may log.
        self._queue: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._taken = 0
        self._done = 0
        threading.Thread(target=self._write_all, name="standard error", daemon=True).start()

    def write(self, data: bytes | memoryview) -> int:
        if self._taken - self._done + len(data) > MAX_QUEUED:
            return 0
        self._taken += len(data)
        self._queue.put(bytes(data))
        return len(data)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """Give what is queued a chance to be written; others may go on writing."""
        reached = threading.Event()
        self._queue.put(reached)
        reached.wait(PARTING)

    def _write_all(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            rest = item
            with suppress(OSError):
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            self._done += len(item)


@cache
def _threaded_standard_error() -> _Threaded:
    """One for the process: lines keep their order, whoever writes them."""
    outlet = _Threaded(STDERR)
    # Not everybody who writes lives long enough to close.
    atexit.register(outlet.close)
    return outlet


if sys.platform != "win32":

    class _Reopened:
        """A description of our own, which may be non-blocking: a write takes all there is room for.

        Without it a pipe of 64 KiB is filled by 32 system calls, and a terminal, which polls as
        writable with less room than `PIPE_BUF`, could block. Until it is closed, the reader of the
        pipe does not see the end.
        """

        def __init__(self, path: str) -> None:
            self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)

        def write(self, data: bytes | memoryview) -> int:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:
                return 0

        def fileno(self) -> int:
            return self._fd

        def close(self) -> None:
            os.close(self._fd)

    class _Pipe:
        """Asks before each write, which then is small enough to fit."""

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
            self._fd = fd

        def write(self, data: bytes | memoryview) -> int:
            borrowed = socket.socket(fileno=self._fd)
            try:
                return borrowed.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return 0
            finally:
                # A socket object closes its descriptor when it is forgotten.
                borrowed.detach()

        def fileno(self) -> int:
            return self._fd

        def close(self) -> None:
            pass
