"""One exchange on the wire: framings, cuts, refusals of every shape, and how it is closed."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator, Callable, Iterable

import pytest
import trio
import trio.testing

from mcp_stdio import __version__
from mcp_stdio.config import Tls
from mcp_stdio.errors import BadAnswer, ConnectionLost, RelayError, UsageFailure
from mcp_stdio.http import Request
from mcp_stdio.http.direct import Direct
from mcp_stdio.http.tls import context
from tests.http.fetching import fetch, get, post, until
from tests.http.raw_server import (
    TIMEOUT,
    Peer,
    RawServer,
    Received,
    answering,
    bytewise,
    chunked,
    saying,
    serve,
    shredded,
)

BODY = b'{"jsonrpc":"2.0","id":1,"result":{"text":"\xe2\x80\xa8 and \\u0000"}}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"Content-Type: application/json\r\n" + LENGTH + b"\r\n" + BODY
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PARTS = [BODY[:1], BODY[1:20], BODY[20:]]

FRAMINGS = {
    # what the server says, the body it means, whether another exchange may follow
    "length": (WHOLE, BODY, True),
    "length zero": (OK + b"content-length: 0\r\n\r\n", b"", True),
    "bare line feeds": (WHOLE.replace(b"\r\n", b"\n"), BODY, True),
    "no reason": (b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n" + BODY, BODY, True),
    "length, closing": (OK + LENGTH + b"Connection: close\r\n\r\n" + BODY, BODY, False),
    "chunks": (CHUNKED + chunked(PARTS), BODY, True),
    "no chunks": (CHUNKED + chunked([]), b"", True),
    "chunk extensions": (CHUNKED + b"3;a=b\r\nabc\r\n0;c\r\n\r\n", b"abc", True),
    "trailers": (CHUNKED + chunked(PARTS, b"Digest: x\r\nA: b\r\n"), BODY, True),
    "end of stream": (OK + b"\r\n" + BODY, BODY, False),
    "end of stream, empty": (OK + b"\r\n", b"", False),
    "1.0": (b"HTTP/1.0 200 OK\r\n\r\n" + BODY, BODY, False),
    "1.0 with length": (b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n" + BODY, BODY, False),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "304": (b"HTTP/1.1 304 Not Modified\r\n" + LENGTH + b"\r\n", b"", True),
    "after 1xx": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + WHOLE,
        BODY,
        True,
    ),
}
FINAL_STATUS = {"204": 204, "304": 304}
NEEDS_THE_CLOSE = {"end of stream", "end of stream, empty", "1.0"}

PACES: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "at once": lambda data: [data],
    "by the byte": bytewise,
    "shredded": lambda data: shredded(data, len(data)),
    "shredded otherwise": lambda data: shredded(data, len(data) + 1),
}


@pytest.fixture
async def lane() -> AsyncIterator[Direct]:
    lane = Direct(lambda: context(Tls()), timeout_connect=TIMEOUT, timeout_write=TIMEOUT)
    yield lane
    await lane.aclose()


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_body_arrives_exactly_in_every_framing(
    lane: Direct, nursery: trio.Nursery, framing: str, pace: str
) -> None:
    said, body, is_reusable = FRAMINGS[framing]
    make = saying if framing in NEEDS_THE_CLOSE else answering
    server = await nursery.start(serve, make(*PACES[pace](said)))
    for _ in range(2):
        answer = await fetch(lane, get(server))
        assert answer.head.status == FINAL_STATUS.get(framing, 200)
        assert answer.body == body
    assert server.connections == (1 if is_reusable else 2)


async def test_random_bodies_arrive_exactly(lane: Direct, nursery: trio.Nursery) -> None:
    dice = random.Random(7)
    bodies = [dice.randbytes(dice.choice([1, 100, 70_000, 300_000])) for _ in range(30)]
    queue = iter(bodies)

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            body = next(queue)
            if dice.random() < 0.5:
                said = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body
            else:
                said = CHUNKED + chunked(shredded(body, len(body)))
            await peer.send(*shredded(said, len(body) + 1))

    server = await nursery.start(serve, script)
    for body in bodies:
        assert (await fetch(lane, get(server))).body == body
    assert server.connections == 1


async def test_head_has_a_length_and_no_body(lane: Direct, nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, answering(OK + LENGTH + b"\r\n"))
    for _ in range(2):
        answer = await fetch(lane, Request("HEAD", server.url()))
        assert answer.head.headers.get("content-length") == str(len(BODY))
        assert answer.body == b""
    assert server.connections == 1


async def test_what_has_arrived_is_not_held_back(lane: Direct, nursery: trio.Nursery) -> None:
    go_on = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, b"3\r\none\r\n3\r\ntwo\r\n")
        await go_on.wait()
        await peer.send(b"5\r\nthree\r\n0\r\n\r\n")

    server = await nursery.start(serve, script)
    with trio.fail_after(TIMEOUT):
        exchange = await lane.send(get(server))
        first = await exchange.receive_some()
        while len(first) < 6:
            first += await exchange.receive_some()
        assert first == b"onetwo"
        go_on.set()
        assert await exchange.receive_some() == b"three"
        assert await exchange.receive_some() == b""
        assert await exchange.receive_some() == b""
        await exchange.aclose()


# What goes out


@pytest.fixture
async def echo(nursery: trio.Nursery) -> tuple[RawServer, list[Received]]:
    received: list[Received] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            received.append(request)
            await peer.send(WHOLE)

    return await nursery.start(serve, script), received


async def test_each_header_is_sent_once_and_host_first(
    lane: Direct, echo: tuple[RawServer, list[Received]]
) -> None:
    server, received = echo
    await fetch(lane, post(server, BODY, ("Accept", "a/b"), ("Mcp-Session-Id", "s")))
    assert received[0].headers == (
        ("Host", f"127.0.0.1:{server.port}"),
        ("Accept", "a/b"),
        ("Mcp-Session-Id", "s"),
        ("Content-Length", str(len(BODY))),
        ("Accept-Encoding", "identity"),
        ("User-Agent", f"mcp-stdio/{__version__}"),
    )
    assert received[0].body == BODY


async def test_the_caller_may_replace_our_own_headers(
    lane: Direct, echo: tuple[RawServer, list[Received]]
) -> None:
    server, received = echo
    await fetch(lane, post(server, b"{}", ("user-agent", "mine"), ("accept-encoding", "gzip")))
    assert received[0].get_all("user-agent") == ["mine"]
    assert received[0].get_all("accept-encoding") == ["gzip"]


async def test_only_what_may_have_a_body_has_a_length(
    lane: Direct, echo: tuple[RawServer, list[Received]]
) -> None:
    server, received = echo
    await fetch(lane, post(server, b""))
    await fetch(lane, get(server))
    await fetch(lane, Request("DELETE", server.url("/a?b=%20c")))
    assert [each.get_all("content-length") for each in received] == [["0"], [], []]
    assert [each.method for each in received] == ["POST", "GET", "DELETE"]
    assert received[2].target == "/a?b=%20c"


async def test_header_values_beyond_ascii_go_out_as_they_were_typed(
    lane: Direct, echo: tuple[RawServer, list[Received]]
) -> None:
    server, received = echo
    undecodable = b"\xff".decode(errors="surrogateescape")
    await fetch(lane, post(server, b"{}", ("X-A", "é"), ("X-B", undecodable)))
    assert received[0].get_all("x-a") == ["é".encode().decode("latin-1")]
    assert received[0].get_all("x-b") == ["\xff"]


async def test_a_header_that_http_cannot_carry_is_refused_unquoted(
    lane: Direct, echo: tuple[RawServer, list[Received]]
) -> None:
    server, received = echo
    with pytest.raises(UsageFailure) as failure:
        await fetch(lane, post(server, b"{}", ("Authorization", "Bearer secret\r\nX: y")))
    assert "secret" not in str(failure.value)
    assert not received


async def test_a_large_body_arrives_exactly(
    lane: Direct, echo: tuple[RawServer, list[Received]]
) -> None:
    server, received = echo
    body = random.Random(1).randbytes(5_000_000)
    for _ in range(2):
        assert (await fetch(lane, post(server, body))).body == BODY
    assert [each.body for each in received] == [body, body]
    assert server.connections == 1


async def test_a_ready_request_leaves_without_a_checkpoint(
    lane: Direct, echo: tuple[RawServer, list[Received]]
) -> None:
    # P4: requests leave in the order in which `send` is called, whatever trio runs next.
    server, received = echo
    await fetch(lane, post(server))
    assert lane.is_ready(post(server))
    sending = lane.send(post(server, BODY))
    with pytest.raises(StopIteration) as done:
        sending.send(None)  # One step of the coroutine is all of it.
    await until(lambda: len(received) == 2)
    await done.value.value.aclose()


# Cuts


CUT = {"length": WHOLE, "chunks": CHUNKED + chunked(PARTS)}


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("framing", CUT)
async def test_a_cut_anywhere_is_never_an_answer(
    lane: Direct, nursery: trio.Nursery, framing: str, ending: str
) -> None:
    said = CUT[framing]
    cuts = iter(range(len(said)))

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(said[: next(cuts)])
        if ending == "reset":
            peer.reset()

    server = await nursery.start(serve, script)
    for cut in range(len(said)):
        with pytest.raises(ConnectionLost) as lost:
            await fetch(lane, post(server))
        if ending == "close" or sys.platform == "linux":  # A reset may discard what came before.
            assert lost.value.answer_begun is (cut > 0)
    assert server.connections == len(said)


async def test_a_reset_ends_a_body_that_only_a_close_may_end(
    lane: Direct, nursery: trio.Nursery
) -> None:
    arrived = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"\r\n" + BODY)
        await arrived.wait()
        peer.reset()

    server = await nursery.start(serve, script)
    with trio.fail_after(TIMEOUT):
        exchange = await lane.send(get(server))
        assert await exchange.receive_some() == BODY
        arrived.set()
        with pytest.raises(ConnectionLost):
            await exchange.receive_some()
        await exchange.aclose()


# What is no answer

BAD = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a page without a head": b"<!doctype html><p>HTTP/1.1 200 OK</p>\r\n\r\n",
    "a bad status": b"HTTP/1.1 ABC OK\r\n\r\n",
    "a bad header": OK + b"no colon\r\n\r\n",
    "a bad length": OK + b"Content-Length: many\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a bad chunk": CHUNKED + b"xyz\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    "an endless head": OK + b"A: b\r\n" * 60_000,
}


@pytest.mark.parametrize("kind", BAD)
async def test_what_is_not_http_is_a_bad_answer(
    lane: Direct, nursery: trio.Nursery, kind: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(BAD[kind])
        await peer.hung_up()

    server = await nursery.start(serve, script)
    with pytest.raises(BadAnswer) as failure:
        await fetch(lane, post(server))
    assert f"127.0.0.1:{server.port}" in str(failure.value)
    assert len(str(failure.value)) < 400


async def test_a_tls_server_under_http_is_named(lane: Direct, nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, saying(b"\x15\x03\x03\x00\x02\x02\x46"))
    with pytest.raises(BadAnswer) as failure:
        await fetch(lane, post(server))
    assert "https://" in (failure.value.hint or "")


async def test_a_large_head_is_read(lane: Direct, nursery: trio.Nursery) -> None:
    head = OK + b"A: b\r\n" * 30_000 + LENGTH + b"\r\n"
    server = await nursery.start(serve, answering(head + BODY))
    assert (await fetch(lane, get(server))).body == BODY


async def test_what_came_before_a_bad_chunk_is_delivered(
    lane: Direct, nursery: trio.Nursery
) -> None:
    server = await nursery.start(serve, saying(CHUNKED + b"4\r\ngood\r\nno size\r\n"))
    with trio.fail_after(TIMEOUT):
        exchange = await lane.send(get(server))
        assert await exchange.receive_some() == b"good"
        for _ in range(2):
            with pytest.raises(BadAnswer):
                await exchange.receive_some()
        await exchange.aclose()


# Answers that do not wait for the whole request

LARGE = bytes(20_000_000)
REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge"


@pytest.mark.parametrize("ending", ["close", "stay"])
async def test_a_refusal_in_the_middle_of_a_large_body_is_read(
    lane: Direct, nursery: trio.Nursery, ending: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(REFUSAL[:30], REFUSAL[30:], pause=0.05)
        if ending == "stay":
            await trio.sleep_forever()

    server = await nursery.start(serve, script)
    answer = await fetch(lane, post(server, LARGE))
    assert (answer.head.status, answer.body) == (413, b"large")
    await until(lambda: server.open_connections == 0 or ending == "stay")
    assert not lane.is_ready(get(server))


async def test_an_early_success_does_not_end_the_upload(
    lane: Direct, nursery: trio.Nursery
) -> None:
    sizes = []

    async def script(peer: Peer) -> None:
        head = await peer.request_head()
        assert head is not None
        await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\nhi\r\n", pause=0.05)
        size = 0
        while size < len(LARGE):
            size += await peer.skip()
        sizes.append(size)
        await peer.send(b"0\r\n\r\n")

    server = await nursery.start(serve, script)
    assert (await fetch(lane, post(server, LARGE))).body == b"hi"
    assert sizes == [len(LARGE)]


@pytest.mark.parametrize("size", [100, len(LARGE)])
async def test_a_server_that_hangs_up_instead_of_reading_has_lost_the_request(
    lane: Direct, nursery: trio.Nursery, size: int
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request_head()
        peer.reset()

    server = await nursery.start(serve, script)
    with pytest.raises(ConnectionLost) as lost:
        await fetch(lane, post(server, LARGE[:size]))
    assert not lost.value.answer_begun


async def test_a_write_without_progress_is_given_up(nursery: trio.Nursery) -> None:
    lane = Direct(lambda: context(Tls()), timeout_connect=TIMEOUT, timeout_write=0.1)

    async def script(peer: Peer) -> None:
        await trio.sleep_forever()

    server = await nursery.start(serve, script)
    with trio.fail_after(TIMEOUT), pytest.raises(ConnectionLost) as lost:
        await lane.send(post(server, LARGE))
    assert "0.1 s" in str(lost.value)


async def test_a_slow_reader_that_makes_progress_is_waited_for(nursery: trio.Nursery) -> None:
    lane = Direct(lambda: context(Tls()), timeout_connect=TIMEOUT, timeout_write=1)

    async def script(peer: Peer) -> None:
        await peer.request_head()
        size = 0
        while size < len(LARGE):
            if size < 3_000_000:
                await trio.sleep(0.03)  # In all longer than a write may rest.
            size += await peer.skip()
        await peer.send(WHOLE)

    server = await nursery.start(serve, script)
    assert (await fetch(lane, post(server, LARGE))).body == BODY
    await lane.aclose()


# Closing


async def test_a_complete_answer_that_nobody_read_keeps_the_connection(
    lane: Direct, nursery: trio.Nursery
) -> None:
    server = await nursery.start(serve, answering(WHOLE))
    for _ in range(3):
        exchange = await lane.send(get(server))
        await exchange.head()
        await exchange.aclose()
        await exchange.aclose()
    assert server.connections == 1


async def test_an_answer_about_to_end_keeps_the_connection(
    lane: Direct, nursery: trio.Nursery
) -> None:
    closing = trio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(CHUNKED + b"3\r\nabc\r\n")
            await closing.wait()
            await peer.send(b"0\r\n\r\n")

    server = await nursery.start(serve, script)
    exchange = await lane.send(get(server))
    assert await exchange.receive_some() == b"abc"
    closing.set()
    await exchange.aclose()
    assert lane.is_ready(get(server))


ENDLESS = {
    "silent": [CHUNKED + b"3\r\nabc\r\n"],
    "talking": [CHUNKED + b"3\r\nabc\r\n", *[b"ffff\r\n" + bytes(0xFFFF) + b"\r\n"] * 3000],
    "closing anyway": [OK + b"Connection: close\r\n\r\nabc"],
    "without a head": [],
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_closing_an_unfinished_answer_hangs_up(
    lane: Direct, nursery: trio.Nursery, kind: str
) -> None:
    seen = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        try:
            await peer.send(*ENDLESS[kind])
            await peer.hung_up()
        finally:
            seen.set()

    server = await nursery.start(serve, script)
    with trio.fail_after(TIMEOUT):
        exchange = await lane.send(get(server))
        if ENDLESS[kind]:
            await exchange.receive_some()
        await exchange.aclose()
        await seen.wait()
    assert not lane.is_ready(get(server))


@pytest.mark.parametrize("phase", ["sending", "before the head", "in the body"])
async def test_a_cancelled_exchange_hangs_up_at_once(
    lane: Direct, nursery: trio.Nursery, phase: str
) -> None:
    in_phase = trio.Event()
    cancelled = trio.Event()
    seen = trio.Event()

    async def script(peer: Peer) -> None:
        if phase != "sending":
            await peer.request()
        if phase == "in the body":
            await peer.send(CHUNKED)
        in_phase.set()
        if phase == "sending":
            await cancelled.wait()
            while await peer.skip():
                pass
        else:
            await peer.hung_up()
        seen.set()

    server = await nursery.start(serve, script)
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            exchange = await lane.send(post(server, LARGE if phase == "sending" else b"{}"))
            try:
                await exchange.head()
                await exchange.receive_some()
            finally:
                await exchange.aclose()

    nursery.start_soon(run)
    with trio.fail_after(TIMEOUT):
        await in_phase.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        scope.cancel()
        cancelled.set()
        await seen.wait()
    assert not lane.is_ready(get(server))


async def test_much_that_nobody_read_is_not_worth_a_connection(
    lane: Direct, nursery: trio.Nursery
) -> None:
    said = OK + b"Content-Length: 1000000\r\n\r\n" + bytes(1_000_000)
    server = await nursery.start(serve, answering(said))
    exchange = await lane.send(get(server))
    await exchange.head()
    await exchange.aclose()
    assert not lane.is_ready(get(server))


@pytest.mark.parametrize("case", ["cancelled", "closing anyway", "without a head"])
async def test_closing_takes_no_time_where_nothing_can_be_saved(
    lane: Direct, nursery: trio.Nursery, mock_clock: trio.testing.MockClock, case: str
) -> None:
    said = ENDLESS["silent" if case == "cancelled" else case]
    server = await nursery.start(serve, answering(*said))
    exchange = await lane.send(get(server))
    if said:
        await exchange.receive_some()
    mock_clock.autojump_threshold = 0.1  # Only waiting for time lets time pass.
    before = trio.current_time()
    with trio.CancelScope() as scope:
        if case == "cancelled":
            scope.cancel()
        await exchange.aclose()
    assert trio.current_time() == before
    await until(lambda: server.open_connections == 0)


async def test_a_failure_is_repeated_and_closing_after_it_is_quiet(
    lane: Direct, nursery: trio.Nursery
) -> None:
    server = await nursery.start(serve, saying(WHOLE[:-5]))
    exchange = await lane.send(get(server))
    failures: list[RelayError] = []
    with trio.fail_after(TIMEOUT):
        while len(failures) < 2:
            try:
                await exchange.receive_some()
            except ConnectionLost as lost:
                failures.append(lost)
        await exchange.aclose()
    assert failures[0] is failures[1]
