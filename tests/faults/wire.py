"""The wire between the relay and a server, which fails once, after a chosen byte.

A `Wire` lies around the server's end of each connection. It counts the exchanges by their HTTP
method in the order in which they begin, keeps what went either way, and closes, resets or stalls
the connection of one of them when so many bytes of its request have come or of its response have
gone. It acts while the other side may still be writing, as a network does.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import trio


class Way(Enum):
    """Which half of an exchange is cut."""

    REQUEST = "request"
    RESPONSE = "response"


class End(Enum):
    """What becomes of the connection."""

    CLOSE = "closed"
    RESET = "reset"
    STALL = "stalled"


class Place(NamedTuple):
    """An exchange: the `number`-th request with this HTTP method, counted from 0."""

    method: str
    number: int


@dataclass(frozen=True)
class Cut:
    """The connection of the exchange at `place` ends so after `at` bytes of one half of it."""

    place: Place
    way: Way
    at: int
    end: End

    def __str__(self) -> str:
        return f"{self.end.value} after {self.at} bytes of the {self.way.value}"


@dataclass
class Carried:
    """What came and went in one exchange."""

    place: Place
    request: bytearray = field(default_factory=bytearray)
    response: bytearray = field(default_factory=bytearray)
    is_answered: bool = False


class Wire:
    """All connections of one server; with a `cut`, one of them fails."""

    def __init__(self, cut: Cut | None = None) -> None:
        self.cut = cut
        self.carried: list[Carried] = []
        self.has_failed = False
        self._begun: Counter[str] = Counter()

    def around(self, stream: trio.abc.Stream, sock: trio.SocketStream) -> trio.abc.Stream:
        """The server's end of a connection, as the server is to use it."""
        return _Watched(self, stream, sock)

    def at(self, place: Place) -> Carried | None:
        return next((each for each in self.carried if each.place == place), None)

    def _begin(self, beginning: bytes) -> Carried:
        method = beginning.partition(b" ")[0].decode("latin-1")
        carried = Carried(Place(method, self._begun[method]))
        self._begun[method] += 1
        self.carried.append(carried)
        return carried

    def _room(self, carried: Carried, way: Way) -> int | None:
        """Bytes that may still pass; None without limit."""
        cut = self.cut
        if cut is None or self.has_failed or cut.way is not way or cut.place != carried.place:
            return None
        passed = carried.request if way is Way.REQUEST else carried.response
        return cut.at - len(passed)


class _Watched(trio.abc.Stream):
    def __init__(self, wire: Wire, stream: trio.abc.Stream, sock: trio.SocketStream) -> None:
        self._wire = wire
        self._stream = stream
        self._socket = sock.socket
        self._carried: Carried | None = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        if not data:
            return data
        if self._carried is None or self._carried.is_answered:
            self._carried = self._wire._begin(data)
        room = self._wire._room(self._carried, Way.REQUEST)
        self._carried.request += data[:room]
        if room is not None and len(data) >= room:
            await self._fail()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        carried = self._carried
        assert carried is not None
        carried.is_answered = True
        room = self._wire._room(carried, Way.RESPONSE)
        if room is None or len(data) < room:
            await self._stream.send_all(data)
            carried.response += data
            return
        if room > 0:
            await self._stream.send_all(data[: room - 1])
            await self._send_last(data[room - 1 : room])
        carried.response += data[:room]
        await self._fail()

    async def _send_last(self, data: bytes | bytearray | memoryview) -> None:
        """Send one byte without a checkpoint after it: nobody may act before the end comes."""
        while True:
            try:
                os.write(self._socket.fileno(), data)
                return
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def _fail(self) -> None:
        """End the connection as the cut says; never returns."""
        cut = self._wire.cut
        assert cut is not None
        self._wire.has_failed = True
        match cut.end:
            case End.STALL:
                await trio.sleep_forever()
            case End.RESET:
                linger = struct.pack("ii", 1, 0)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()
        raise trio.BrokenResourceError("cut")
