"""What is measured: a relay as a process, and the direct call in its place, under one face.

A peer takes lines and gives bytes of lines back, in whatever pieces they come; nothing is parsed
while time is taken. Reads and writes are plain system calls on descriptors that do not block, with
`poll` where both sides may have to wait for each other.
"""

from __future__ import annotations

import os
import re
import select
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

PATIENCE = 60.0
"""Seconds of silence after which a peer counts as stuck."""

EVENT_END = b"\n\n"
STREAM_END = b"\r\n0\r\n\r\n"
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


class Stuck(Exception):
    """The peer says nothing any more, or has gone."""


class Peer(Protocol):
    begun: float
    """When it was started, by `time.perf_counter`."""

    def send(self, lines: Sequence[bytes]) -> None:
        """Hand over messages, each with its line end; never waits."""
        ...

    def receive(self) -> bytes:
        """Wait for something. Raises Stuck."""
        ...

    def close(self) -> None: ...


class Relay:
    """A relay on pipes."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in `close`
        self.begun = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=env,
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        self._in, self._out = self._stdin.fileno(), self._stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._unsent = b""
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)

    def send(self, lines: Sequence[bytes]) -> None:
        data = b"".join(lines)
        if self._unsent:
            self._unsent += data
        elif data:
            self._unsent = data
            self._write()
            if self._unsent:
                self._poll.register(self._in, select.POLLOUT)

    def receive(self) -> bytes:
        while ready := self._poll.poll(PATIENCE * 1000):
            for fd, _ in ready:
                if fd == self._in:
                    self._write()
                    if not self._unsent:
                        self._poll.unregister(self._in)
                elif data := os.read(self._out, 1 << 20):
                    return data
                else:
                    raise Stuck(f"it has ended and said: {self.errors()}")
        raise Stuck(f"it is silent and said: {self.errors()}")

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._in, self._unsent) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            raise Stuck(f"it has ended and said: {self.errors()}") from None

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-500:].decode(errors="replace")

    def end(self) -> float:
        """Close its input; seconds until it has gone."""
        begun = time.perf_counter()
        self._stdin.close()
        if hasattr(os, "pidfd_open"):  # `wait` with a limit would look only now and then
            fd = os.pidfd_open(self.process.pid)
            gone, _, _ = select.select([fd], [], [], PATIENCE)
            os.close(fd)
            if not gone:
                raise Stuck("it does not end")
        self.process.wait(PATIENCE)
        return time.perf_counter() - begun

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._stdin.close()
        self._stdout.close()
        self._errors.close()

    # What the system knows of it (Linux)

    def cpu(self) -> float:
        """Seconds of processor time used until now."""
        return time.clock_gettime((~self.process.pid << 3) | 2)  # as `clock_getcpuclockid` has it

    def resident(self) -> int:
        """Bytes of memory in use."""
        return int(self._status("VmRSS")) * 1024

    def peak(self) -> int:
        """The most that ever were."""
        return int(self._status("VmHWM")) * 1024

    def switches(self) -> int:
        """How often it went to sleep and was woken."""
        return int(self._status("voluntary_ctxt_switches"))

    def _status(self, name: str) -> str:
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return text.partition(f"{name}:")[2].split()[0]


class Direct:
    """No relay: each line is POSTed from here, on a kept-alive connection of its own.

    Understands just what the benchmark's server says.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.begun = time.perf_counter()
        self._port = port
        self._tls = tls
        self._free: list[_Connection] = []
        self._busy: dict[int, _Connection] = {}
        self._poll = select.poll()

    def send(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            connection = self._free.pop() if self._free else self._connect()
            connection.post(line)
            self._busy[connection.fd] = connection
            self._poll.register(connection.fd, select.POLLIN)

    def receive(self) -> bytes:
        while ready := self._poll.poll(PATIENCE * 1000):
            received: list[bytes] = []
            for fd, _ in ready:
                connection = self._busy[fd]
                if connection.receive(received):
                    self._poll.unregister(fd)
                    self._free.append(self._busy.pop(fd))
            if received:
                return b"".join(received)
        raise Stuck("the server is silent")

    def _connect(self) -> _Connection:
        return _Connection(self._port, self._tls)

    def close(self) -> None:
        for connection in (*self._free, *self._busy.values()):
            connection.close()


class _Connection:
    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self._sock = tls.wrap_socket(self._sock, server_hostname="127.0.0.1")
        self.fd = self._sock.fileno()
        self._parts: list[bytes] = []
        self._missing = 0
        self._is_stream = False

    def post(self, line: bytes) -> None:
        self._missing = -1
        self._sock.sendall(post(line))

    def receive(self, to: list[bytes]) -> bool:
        """One read; whether the answer is over."""
        data = self._sock.recv(1 << 20)
        if not data:
            raise Stuck("the server has hung up")
        while isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            data += self._sock.recv(1 << 20)
        if self._missing < 0:
            head, _, data = data.partition(b"\r\n\r\n")
            length = LENGTH.search(head + b"\r\n")
            self._is_stream = length is None
            self._missing = int(length[1]) if length else 1
        if self._is_stream:
            return self._stream(data, to)
        to.append(data)
        self._missing -= len(data)
        if self._missing == 0:
            to.append(b"\n")
        return self._missing == 0

    def _stream(self, data: bytes, to: list[bytes]) -> bool:
        self._parts.append(data)
        tail = b"".join(self._parts[-2:])[-len(data) - 8 :]
        if EVENT_END not in tail:
            return False
        *events, rest = b"".join(self._parts).split(EVENT_END)
        to.extend(event.partition(b"data: ")[2] + b"\n" for event in events)
        self._parts = [rest]
        if rest.endswith(STREAM_END[2:]):
            self._parts = []
            return True
        return False

    def close(self) -> None:
        self._sock.close()


def post(line: bytes) -> bytes:
    """The HTTP request that carries a line."""
    body = line.rstrip(b"\n")
    return (
        b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Accept: application/json, text/event-stream\r\nContent-Length: %d\r\n\r\n%s"
    ) % (len(body), body)


def capacity(port: int, connections: int, requests: int, line: bytes) -> float:
    """Answers per second of the server itself, 16 requests on their way on each connection."""
    depth = 16
    one = _Connection(port)
    one.post(line)
    size = len(one._sock.recv(1 << 16))
    one.close()

    poll = select.poll()
    socks = {}
    for _ in range(connections):
        connection = _Connection(port)
        socks[connection.fd] = connection._sock
        poll.register(connection.fd, select.POLLIN)
    missing = dict.fromkeys(socks, depth * size)
    batch = post(line) * depth
    begun, done = time.perf_counter(), 0
    for sock in socks.values():
        sock.sendall(batch)
    while done < requests:
        for fd, _ in poll.poll():
            missing[fd] -= len(socks[fd].recv(1 << 16))
            if missing[fd] == 0:
                done += depth
                missing[fd] = depth * size
                socks[fd].sendall(batch)
    elapsed = time.perf_counter() - begun
    for sock in socks.values():
        sock.close()
    return done / elapsed
