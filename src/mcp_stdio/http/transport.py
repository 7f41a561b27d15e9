"""One TCP connection as a trio stream that knows what was sent.

What `trio.SocketStream` cannot tell, and the relay must know (P2): whether a byte left. So writing
never raises here: a write that failed, stalled or was stopped is remembered in `write_failure`,
later ones do nothing, and reading goes on, since the server may have said why before it hung up
(a 413 or 401 given before the whole body was read). `trio.SSLStream` on top of it stays readable
for the same reason; an exception out of a write would have broken it for good.
Also rules: closing and looking for news need no `await`. Knows neither TLS nor HTTP.
"""

from __future__ import annotations

import errno
import math
import os
import socket

import trio

RECEIVE_SIZE = 64 * 1024
LARGE_RECEIVE_SIZE = 256 * 1024
"""Bytes to read at most; the larger number after a read of a quarter of the smaller one. To read a
large body so saves a tenth of the time, to read small ones so, into memory fresh from the system
each time, costs 20 µs."""

_KEEPALIVE = (
    # A dead peer is noticed after 30 + 3 * 10 s, before most NATs forget the connection and within
    # the default `--timeout-read`.
    ("TCP_KEEPIDLE", 30),
    ("TCP_KEEPALIVE", 30),  # the same on macOS
    ("TCP_KEEPINTVL", 10),
    ("TCP_KEEPCNT", 3),
)


class Transport(trio.abc.Stream):
    """A connected TCP socket; takes it over from `stream`.

    `sent` counts the bytes that the operating system has accepted. `write_failure` is why no more
    can be sent, in words, or None. A write that makes no progress for `timeout_write` seconds
    (None: no limit) has stalled.
    """

    __slots__ = (
        "_patience", "_receive_size", "_socket", "_timeout_write", "has_stalled", "sent",
        "write_failure",
    )  # fmt: skip

    def __init__(self, stream: trio.SocketStream, *, timeout_write: float | None) -> None:
        # A plain non-blocking socket under `trio.lowlevel` costs half the CPU of the stream, can
        # be asked and closed without `await`, and counts what it takes.
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        self._timeout_write = math.inf if timeout_write is None else timeout_write
        self._patience: trio.CancelScope | None = None
        self._receive_size = RECEIVE_SIZE
        self.sent = 0
        self.write_failure: str | None = None
        self.has_stalled = False
        _set_option(self._socket, socket.IPPROTO_TCP, "TCP_NODELAY", 1)
        keep_alive(self._socket)

    @property
    def peer(self) -> str:
        """The address of the other side, empty if it has hung up already."""
        try:
            return str(self._socket.getpeername()[0])
        except OSError:
            return ""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of `data` to the system, without a checkpoint before the first attempt.

        Returns early, and without raising, once nothing more can be sent.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        size = len(data)
        done = 0
        while done < size and self.write_failure is None:
            try:
                count = self._socket.send(data if done == 0 else memoryview(data)[done:])
            except BlockingIOError:
                await self._wait_until_writable()
            except OSError as exc:
                self.write_failure = explain(exc)
            else:
                done += count
                self.sent += count

    def stop_sending(self) -> None:
        """Give up what has not been sent; a `send_all` that is waiting returns."""
        self.write_failure = "sending was stopped"
        if self._patience is not None:
            self._patience.cancel()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes, `b""` at the end of the stream. Raises trio.BrokenResourceError."""
        while True:
            # Waiting first, not after a failed attempt: it lets others run when a fast server
            # always has more, and an answer is seldom there already.
            if self._socket.fileno() == -1:
                raise trio.ClosedResourceError("this connection was already closed")
            await trio.lowlevel.wait_readable(self._socket)
            try:
                data = self._socket.recv(max_bytes or self._receive_size)
            except BlockingIOError:
                continue
            except OSError as exc:
                raise trio.BrokenResourceError(explain(exc)) from exc
            is_large = len(data) >= RECEIVE_SIZE // 4
            self._receive_size = LARGE_RECEIVE_SIZE if is_large else RECEIVE_SIZE
            return data

    def peek(self) -> bytes | None:
        """What the server has said unasked: None for nothing, `b""` once it has hung up."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Close at once; a task that waits on the connection gets trio.ClosedResourceError."""
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def aclose(self) -> None:
        """Close, as `trio.abc.AsyncResource` wants it."""
        self.close()
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket takes data."""
        await trio.lowlevel.wait_writable(self._socket)

    async def _wait_until_writable(self) -> None:
        deadline = trio.current_time() + self._timeout_write
        with trio.CancelScope(deadline=deadline) as self._patience:
            try:
                await trio.lowlevel.wait_writable(self._socket)
            except (trio.ClosedResourceError, OSError):
                self.write_failure = "it was closed"
        if self._patience.cancelled_caught and self.write_failure is None:
            self.write_failure = f"it took no data for {self._timeout_write:g} s"
            self.has_stalled = True
        self._patience = None


def keep_alive(connected: socket.socket | trio.socket.SocketType) -> None:
    """Have the system ask now and then whether the other side is still there."""
    _set_option(connected, socket.SOL_SOCKET, "SO_KEEPALIVE", 1)
    for name, value in _KEEPALIVE:
        _set_option(connected, socket.IPPROTO_TCP, name, value)


def _set_option(
    connected: socket.socket | trio.socket.SocketType, level: int, name: str, value: int
) -> None:
    option = getattr(socket, name, None)
    if option is not None:
        try:
            connected.setsockopt(level, option, value)
        except OSError:
            pass  # A platform that has the name but not the option loses a comfort only.


def explain(error: OSError) -> str:
    """What the system says about an error, without numbers and paths."""
    if error.errno is not None and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or "the operating system gave no reason"


def what_to_check(error: BaseException | None) -> str:
    """The hint for a connection that could not be made."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open on this machine"
    return "check host, port and the network connection of this machine"
