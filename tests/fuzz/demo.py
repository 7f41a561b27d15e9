"""The demo's server: whoever writes nonsense to it ends their own connection and nothing else."""

from __future__ import annotations

import logging

import trio
from trio.testing import MockClock, memory_stream_pair

from mcp_stdio.demo.server import Server
from tests.fuzz.target import Material, pieces, target

ENOUGH = 100_000
"""Bytes of an answer: a countdown may be long."""

POST = (
    b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json, text/event-stream\r\n"
    b"Content-Type: application/json\r\n"
)
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    b'"capabilities":{"elicitation":{}},"clientInfo":{"name":"x","version":"1"}}}'
)
CALL = (
    b'{"jsonrpc":"2.0","id":"2","method":"tools/call","params":{"name":"countdown",'
    b'"arguments":{"from":2,"pause":0},"_meta":{"progressToken":[7]}}}'
)
WITH_SESSION = b"Mcp-Session-Id: ~\r\nMCP-Protocol-Version: 2025-11-25\r\n"


def request(body: bytes, headers: bytes = WITH_SESSION) -> bytes:
    return POST + headers + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@target(
    b"\0" + request(INITIALIZE, b"") + request(b'{"jsonrpc":"2.0","method":"n"}'),
    b"\0" + request(CALL),
    b"\0" + request(CALL.replace(b"countdown", b"add").replace(b'"from"', b'"a":1e999,"b"')),
    b"\5" + request(CALL.replace(b"countdown", b"echo").replace(b'"from":2', b'"text":"\\ud800"')),
    b"\0" + request(CALL.replace(b"tools/call", b"resources/read").replace(b"name", b"uri")),
    b"\0GET /mcp HTTP/1.1\r\nHost: h\r\nOrigin: http://localhost\r\nAccept: text/event-stream\r\n"
    + WITH_SESSION
    + b"\r\n",
    b"\0GET /mcp HTTP/1.1\r\nHost: h\r\nOrigin: http://[\r\n\r\n",
    b"\0" + request(CALL.replace(b'"from":2', b'"from":1e999')),
    b"\0" + request(CALL.replace(b'"pause":0', b'"pause":-1')),
    b"\0DELETE /mcp HTTP/1.1\r\nHost: h\r\n" + WITH_SESSION + b"\r\n",
    words=(
        *(b"\r\n", b"\r\n\r\n", b"Origin: http://[", b"Origin: ", b"Host: ", b"~", b"\0", b"\xff"),
        *(b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"HTTP/1.0", b"null"),
        *(b"countdown", b"echo", b"add", b"ask", b"wait", b'"', b"{", b"}", b"[", b"]", b"1e400"),
        *(b"prompts/get", b"logging/setLevel", b"resources/subscribe", b"tools/list", b'"id":'),
        *(b"notifications/cancelled", b'"requestId":', b'"arguments":', b"-1", b"9" * 400, b"NaN"),
    ),
)
def demo_server(data: bytes) -> None:
    """Whatever is written to it, nothing unforeseen happens, and its next client is served."""
    log = logging.getLogger("mcp_stdio.demo")
    unforeseen = Unforeseen()
    log.addHandler(unforeseen)
    try:
        trio.run(_served, data, clock=MockClock(autojump_threshold=0))
    finally:
        log.removeHandler(unforeseen)
    assert unforeseen.messages == []


class Unforeseen(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(f"{record.getMessage()} {record.exc_info}")


async def _served(data: bytes) -> None:
    material = Material(data)
    size = material.number(40)
    server = Server()
    session = await _session(server)
    said = material.rest.replace(b"~", session)
    await _said(server, pieces(said, size))
    await _session(server)


async def _session(server: Server) -> bytes:
    answer = await _said(server, [request(INITIALIZE, b"")])
    assert answer.startswith(b"HTTP/1.1 200")
    head = answer.partition(b"\r\n\r\n")[0].lower()
    session = head.partition(b"mcp-session-id: ")[2].partition(b"\r\n")[0]
    ready = request(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert (await _said(server, [ready.replace(b"~", session)])).startswith(b"HTTP/1.1 202")
    return session


async def _said(server: Server, parts: list[bytes]) -> bytes:
    """Everything that is answered within an hour, after which the client is gone."""
    ours, theirs = memory_stream_pair()
    answer = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.connected, theirs)
        with trio.move_on_after(3600):
            try:
                for part in parts:
                    await ours.send_all(part)
                await ours.send_eof()
                while some := await ours.receive_some():
                    answer += bytes(some)
                    if len(answer) > ENOUGH:
                        break
            except trio.BrokenResourceError:
                pass  # it hung up
        await ours.aclose()
        nursery.cancel_scope.deadline = trio.current_time() + 3600
    return answer
