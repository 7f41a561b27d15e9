"""A server that never stops: each call ends, the memory stays, and the next call works (P1, P6).

Everything that has an end in HTTP, in an event stream or in MCP is sent without one, as fast as it
is read. What is over at a limit is an answer that cannot be understood, what never ends otherwise
is over in time.
"""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from itertools import count

import pytest

from mcp_stdio import jsonrpc, spec
from mcp_stdio.http import Request
from mcp_stdio.http.client import Client
from mcp_stdio.http.request_head import request_head
from mcp_stdio.http.url import Url
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.questions import MAX_OPEN, Questions
from tests.faults.driver import LANES, relaying
from tests.faults.proc import needs_proc, peak_memory
from tests.faults.server import (
    Behaviour,
    Visit,
    chunk,
    serving,
    stream_head,
)
from tests.http.fakes import Answer, FakeLane

MIB = 1024 * 1024
NOT_UNDERSTOOD, TIMED_OUT, UNKNOWN = -33005, -33003, -33002


def endless(begin: bytes, again: bytes | Callable[[int], bytes]) -> Behaviour:
    """Send `begin`, then `again` and again until the client hangs up."""

    async def behave(visit: Visit) -> None:
        await visit.send(begin)
        if isinstance(again, bytes):
            block = again * (1 + 32 * 1024 // len(again))
            while True:
                await visit.send(block)
        for number in count():
            await visit.send(again(number))

    return behave


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = stream_head()
ZIPPED = HEAD + b"Content-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n"
ENDLESS_JSON = HEAD + b"Content-Type: application/json\r\n\r\n"


def line(text: bytes) -> bytes:
    return chunk(text + b"\n")


TOO_MUCH: dict[str, Behaviour] = {
    "header lines": endless(HEAD, b"X-Padding: xxxxxxxxxxxxxxxx\r\n"),
    "one header line": endless(HEAD + b"X: ", b"x" * 64),
    "a folded line": endless(HEAD + b"X: ", b"x\r\n "),
    "cookies": endless(HEAD, lambda number: b"Set-Cookie: c%d=1\r\n" % number * 99),
    "a chunk's extension": endless(CHUNKED + b"1;", b"x" * 64),
    "a chunk's size": endless(CHUNKED, b"0" * 64),
    "trailers": endless(CHUNKED + b"0\r\n", b"X: x\r\n"),
    "white space": endless(ENDLESS_JSON, b" " * 64),
    "a comment": endless(CHUNKED, chunk(b":" * 64)),
    "the data of an event": endless(CHUNKED, line(b"data: xxxxxxxx")),
    "an id": endless(CHUNKED + chunk(b"id: "), chunk(b"x" * 64)),
}
"""What comes to an end at a limit."""

NOTHING: dict[str, Behaviour] = {
    "heads before the head": endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    "gzip of nothing": endless(ZIPPED, gzip.compress(b"")),
    "the name of a gzip file": endless(ZIPPED + b"\x1f\x8b\x08\x08\0\0\0\0\0\0", b"x" * 64),
    "comments": endless(CHUNKED, line(b": x")),
    "ids": endless(CHUNKED, lambda number: line(b"id: %d\n" % number) * 99),
    "times": endless(CHUNKED, line(b"retry: 1\n")),
    "names": endless(CHUNKED, line(b"event: " + b"x" * 999)),
    "events of another kind": endless(CHUNKED, line(b"event: x\ndata: x\n")),
}
"""What keeps nothing in memory, and ends with the time for a call."""


@needs_proc
@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(
    "floods, option, expected",
    [
        (TOO_MUCH, ("--max-message-size", "256K"), {NOT_UNDERSTOOD, UNKNOWN}),
        (NOTHING, ("--timeout-call", "1"), {TIMED_OUT}),
    ],
    ids=["too much", "nothing"],
)
async def test_a_server_that_never_stops_is_stopped(
    floods: dict[str, Behaviour], option: tuple[str, str], expected: set[int], lane: str
) -> None:
    async with serving() as server, relaying(server.url, *option, env=LANES[lane]) as relay:
        server.tools |= floods
        ids = {name: await relay.start_call(name) for name in floods}
        codes = {name: (await relay.answer(id))["error"]["code"] for name, id in ids.items()}
        assert {name: code for name, code in codes.items() if code not in expected} == {}
        await relay.lives()
        assert peak_memory(relay.process.pid) < 150 * MIB
        assert not any(received.get("cookie") for received in server.received)


@needs_proc
async def test_an_explanation_without_an_end_is_waited_for_no_longer() -> None:
    """Bodies of errors are read for what they say, a while and a bit."""
    async with serving() as server, relaying(server.url) as relay:
        for status in 400, 401, 403, 404, 500:
            head = b"HTTP/1.1 %d No\r\nContent-Type: text/plain\r\n\r\n" % status
            flood = endless(head, b"no, ")

            async def refuse(visit: Visit, flood: Behaviour = flood) -> None:
                visit.did_not_run()
                await flood(visit)

            server.tools[str(status)] = refuse
            error = (await relay.call(str(status)))["error"]
            assert error["data"]["status"] == status, error
            assert len(error["message"]) < 400
        await relay.lives()
        assert peak_memory(relay.process.pid) < 150 * MIB


async def test_questions_that_nobody_answers_are_forgotten() -> None:
    """The first ones first; what a request waits for with them is over then."""
    questions: Questions[str] = Questions()
    with Patience(silence=None, total=None) as patience:
        for number in range(3 * MAX_OPEN):
            question = jsonrpc.request(f"q{number}", spec.ELICIT, {})
            questions.ask(question, "the server", [patience])
    asked = [f"q{number}" for number in range(3 * MAX_OPEN)]
    kept = [id for id in asked if questions.settle(id) is not None]
    assert kept == asked[-MAX_OPEN:]


async def test_arguments_that_are_sent_as_headers_are_not_remembered() -> None:
    """A server decides which arguments these are, and they may be as long as messages."""
    url = Url.parse("https://mcp.example/mcp")
    lane = FakeLane(*[Answer(200)] * 300)
    client = Client(lane, origin=url.origin)
    tracemalloc.start()
    try:
        for number in range(300):
            headers = (("Mcp-Param-Text", f"{number}" + "x" * 100_000),)
            request = Request("POST", url, headers, b"{}")
            request_head(request)
            exchange = await client.send(request)
            await exchange.aclose()
            lane.requests.clear()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5 * MIB
