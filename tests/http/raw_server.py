"""A server that says exactly the bytes it is told, when it is told, on a real socket.

A script is an async function that gets a `Peer` for each connection: it reads requests, sends
pieces of bytes, hangs up in one of three ways. What the client did is recorded for the test.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import trio

from mcp_stdio.http.url import Url

TIMEOUT = 10
"""Seconds until a test gives up waiting: liveness, not speed. A peer waits as long as its test."""


@dataclass(frozen=True)
class Received:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    peer: int

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


class Peer:
    """One connection as the script sees it; `number` counts from 1."""

    def __init__(self, stream: trio.abc.Stream, sock: trio.SocketStream, number: int) -> None:
        self.number = number
        self.stream = stream
        self._socket = sock.socket
        self._buffer = bytearray()

    async def request(self) -> Received | None:
        """The next request, whole; None when the client has hung up instead."""
        head = await self.request_head()
        if head is None:
            return None
        size = int((head.get_all("content-length") or ["0"])[0])
        while len(self._buffer) < size:
            if not await self._read():
                return None
        body = bytes(self._buffer[:size])
        del self._buffer[:size]
        return Received(head.method, head.target, head.headers, body, self.number)

    async def request_head(self) -> Received | None:
        """The head of the next request, its body left unread."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not await self._read():
                return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        method, target, _ = lines[0].split(" ")
        pairs = (line.partition(":") for line in lines[1:])
        headers = tuple((name, value.strip()) for name, _, value in pairs)
        return Received(method, target, headers, b"", self.number)

    async def send(self, *pieces: bytes, pause: float = 0) -> None:
        """Send the pieces one by one, each in a write of its own, with pauses in between."""
        for piece in pieces:
            await self.stream.send_all(piece)
            await trio.sleep(pause)

    async def hung_up(self) -> bool:
        """Wait until the client closes; True if it said nothing more before."""
        is_silent = not self._buffer
        while await self._read():
            is_silent = False
        return is_silent

    async def skip(self) -> int:
        """Read once and forget it; how many bytes there were."""
        size = len(self._buffer) or len(await self._read())
        self._buffer.clear()
        return size

    async def close(self) -> None:
        """Close in order; over TLS with close_notify."""
        await self.stream.aclose()

    def cut(self) -> None:
        """Close the TCP connection without a word from TLS."""
        self._socket.close()

    def reset(self) -> None:
        """Close so that the client gets a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    async def _read(self) -> bytes | bytearray:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return b""
        self._buffer += data
        return data


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class RawServer:
    """A running server: its address, and how many connections it was given."""

    port: int
    scheme: str = "http"
    host: str = "127.0.0.1"
    connections: int = 0
    open_connections: int = 0

    def url(self, target: str = "/mcp") -> Url:
        return Url.parse(f"{self.scheme}://{self.host}:{self.port}{target}")


async def serve(
    script: Script,
    context: ssl.SSLContext | None = None,
    *,
    task_status: trio.TaskStatus[RawServer],
) -> None:
    """Run `script` for each connection, over TLS with a `context`. Use with `nursery.start`."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    name = listener.socket.getsockname()
    server = RawServer(name[1], "http" if context is None else "https")

    async def handle(sock: trio.SocketStream) -> None:
        server.connections += 1
        server.open_connections += 1
        stream: trio.abc.Stream = sock
        try:
            if context is not None:
                stream = trio.SSLStream(sock, context, server_side=True, https_compatible=True)
                await stream.do_handshake()
            await script(Peer(stream, sock, server.connections))
        except trio.BrokenResourceError:
            pass  # The client hung up on us, or did not like our certificate.
        finally:
            server.open_connections -= 1
            sock.socket.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        task_status.started(server)


def answering(*pieces: bytes) -> Script:
    """Answer every request with the same bytes, in these pieces, and keep the connection."""

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(*pieces)

    return script


def saying(*pieces: bytes) -> Script:
    """Answer one request with these bytes and close."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)

    return script


def bytewise(data: bytes) -> Iterator[bytes]:
    """Every byte a piece of its own."""
    return (data[at : at + 1] for at in range(len(data)))


def chunked(parts: Iterable[bytes], trailers: bytes = b"") -> bytes:
    """A body in chunked coding, one chunk for each part."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part)
    return chunks + b"0\r\n" + trailers + b"\r\n"


def shredded(data: bytes, seed: int) -> list[bytes]:
    """The data cut at random places, the same for the same seed."""
    dice = random.Random(seed)
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(12)))
    edges = [0, *cuts, len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]
