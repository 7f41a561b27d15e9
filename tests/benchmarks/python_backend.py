"""The server of the benchmark in Python: with TLS, and where there is no C compiler.

    python python_backend.py [CERTIFICATE_AND_KEY]

Answers as `backend.c` does. Its amounts of work are named by the request itself: `tools/call` of
`text` (one JSON result of `amount` bytes), `event` (the same as one event), `notes` (`amount`
notifications and a result on one stream), `ticks` (the same, one each `pause` milliseconds, with
the time at which it left), `held` (a small result after `pause` milliseconds). Nothing of the
project and nothing of the test environment is imported: it is a process of its own.
"""

from __future__ import annotations

import heapq
import re
import selectors
import socket
import ssl
import sys
import time

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ID = re.compile(rb'"id" *: *("[^"]*"|\d+)')
METHOD = re.compile(rb'"method" *: *"([^"]*)"')
NAME = re.compile(rb'"name" *: *"([^"]*)"')
AMOUNT = re.compile(rb'"amount" *: *(\d+)')
PAUSE = re.compile(rb'"pause" *: *(\d+)')

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
INITIALIZED = (
    b'{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":'
    b'{"tools":{}},"serverInfo":{"name":"benchmark","version":"1"}}}'
)


def text(id: bytes, size: int) -> bytes:
    return b'{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}' % (
        id,
        b"x" * size,
    )


def note(value: int) -> bytes:
    return event(
        b'{"jsonrpc":"2.0","method":"notifications/message",'
        b'"params":{"level":"info","data":"%020d"}}' % value
    )


def event(data: bytes) -> bytes:
    whole = b"event: message\ndata: %s\n\n" % data
    return b"%x\r\n%s\r\n" % (len(whole), whole)


def json(body: bytes, more: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
        % (more, len(body), body)
    )


def status(line: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % line


class Connection:
    """One client. `is_busy` while an answer waits for the time to pass."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._in = bytearray()
        self._out: memoryview | None = None
        self._is_busy = False

    def ready(self, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush()
            if mask & selectors.EVENT_READ:
                self._receive()
            self._work()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self._server.drop(self._sock)

    def _receive(self) -> None:
        data = self._sock.recv(1 << 18)
        while data:
            self._in += data
            if not (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
                return
            data = self._sock.recv(1 << 18)
        raise ConnectionResetError

    def _work(self) -> None:
        answers = []
        while self._out is None and not self._is_busy:
            end = self._in.find(b"\r\n\r\n")
            if end < 0:
                break
            head = bytes(self._in[:end])
            length = LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._in) < whole:
                break
            body = bytes(self._in[end + 4 : whole])
            del self._in[:whole]
            answers.append(self._answer(head, body))
        if answers:
            self._send(b"".join(answers))

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if not head.startswith(b"POST"):
            is_get = head.startswith(b"GET")
            return status(b"405 Method Not Allowed" if is_get else b"200 OK")
        found = ID.search(body)
        if found is None:
            return status(b"202 Accepted")
        id = found[1]
        method = METHOD.search(body)
        if method is not None and method[1] == b"initialize":
            has_session = head.startswith(b"POST /session ")
            return json(INITIALIZED % id, b"Mcp-Session-Id: benchmark\r\n" if has_session else b"")
        name = NAME.search(body)
        if method is None or method[1] != b"tools/call" or name is None:
            return json(b'{"jsonrpc":"2.0","id":%s,"result":{"tools":[]}}' % id)
        return self._call(id, name[1], _number(AMOUNT, body), _number(PAUSE, body) / 1000)

    def _call(self, id: bytes, name: bytes, amount: int, pause: float) -> bytes:
        match name:
            case b"text":
                return json(text(id, amount))
            case b"event":
                return STREAM + event(text(id, amount)) + b"0\r\n\r\n"
            case b"notes":
                notes = b"".join(note(number) for number in range(amount))
                return STREAM + notes + event(text(id, 0)) + b"0\r\n\r\n"
            case b"held":
                self._is_busy = True
                self._server.later(pause, self, [json(text(id, 100))])
                return b""
        self._is_busy = True
        self._server.later(pause, self, [b""] * amount + [event(text(id, 0)) + b"0\r\n\r\n"], pause)
        return STREAM

    def due(self, data: bytes, *, is_last: bool) -> None:
        self._is_busy = not is_last
        try:
            self._send(data or note(time.monotonic_ns()))
            self._work()
        except OSError:
            self._server.drop(self._sock)

    def _send(self, data: bytes) -> None:
        self._out = memoryview(data)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
            self._out = None
            self._server.watch(self._sock, self, selectors.EVENT_READ)
        except (BlockingIOError, ssl.SSLWantWriteError):
            mask = selectors.EVENT_READ | selectors.EVENT_WRITE
            self._server.watch(self._sock, self, mask)


class Server:
    """The loop: who is ready, and what is due."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._selector = selectors.DefaultSelector()
        self._masks: dict[socket.socket, int] = {}
        self._later: list[tuple[float, int, Connection, list[bytes], float]] = []
        self._count = 0

    def later(self, delay: float, to: Connection, data: list[bytes], gap: float = 0.0) -> None:
        self._put(time.monotonic() + delay, to, data, gap)

    def _put(self, at: float, to: Connection, data: list[bytes], gap: float) -> None:
        self._count += 1
        heapq.heappush(self._later, (at, self._count, to, data, gap))

    def watch(self, sock: socket.socket, connection: Connection, mask: int) -> None:
        if self._masks.get(sock) != mask:
            self._selector.modify(sock, mask, connection)
            self._masks[sock] = mask

    def drop(self, sock: socket.socket) -> None:
        if self._masks.pop(sock, None) is not None:
            self._selector.unregister(sock)
            sock.close()

    def run(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            timeout = max(self._later[0][0] - time.monotonic(), 0.0) if self._later else None
            for key, mask in self._selector.select(timeout):
                if isinstance(key.data, Connection):
                    key.data.ready(mask)
                elif key.fileobj is listener:
                    self._welcome(listener)
                else:
                    return
            while self._later and self._later[0][0] <= time.monotonic():
                at, _, connection, data, gap = heapq.heappop(self._later)
                if len(data) > 1:
                    self._put(at + gap, connection, data[1:], gap)
                connection.due(data[0], is_last=len(data) == 1)

    def _welcome(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock.setblocking(True)
                sock = self._context.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ, Connection(self, sock))
            self._masks[sock] = selectors.EVENT_READ


def _number(pattern: re.Pattern[bytes], body: bytes) -> int:
    found = pattern.search(body)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[1])
    Server(tls).run()
