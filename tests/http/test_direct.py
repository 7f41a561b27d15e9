"""Which connection a request travels on: reuse and its limits, preparation, many at once."""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from mcp_stdio.errors import ConnectionLost
from mcp_stdio.http.connection import ONE_WRITE
from mcp_stdio.http.direct import FRESH, Direct
from tests.http.fetching import fetch, get, post, until
from tests.http.raw_server import TIMEOUT, Peer, RawServer, answering, saying, serve

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def no_tls() -> ssl.SSLContext:
    raise AssertionError("no context is built for http")


@pytest.fixture
async def lane() -> AsyncIterator[Direct]:
    lane = Direct(no_tls, timeout_connect=TIMEOUT, timeout_write=TIMEOUT)
    yield lane
    await lane.aclose()


@pytest.fixture
async def server(nursery: trio.Nursery) -> RawServer:
    server: RawServer = await nursery.start(serve, answering(OK))
    return server


@pytest.fixture
def clock(mock_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    """A clock that runs as usual and can be moved on by `jump`."""
    mock_clock.rate = 1
    return mock_clock


async def test_requests_one_after_another_share_a_connection(
    lane: Direct, server: RawServer
) -> None:
    for _ in range(20):
        assert (await fetch(lane, post(server))).body == b"ok"
    assert server.connections == 1


async def test_running_exchanges_have_a_connection_each(lane: Direct, server: RawServer) -> None:
    exchanges = [await lane.send(get(server)) for _ in range(5)]
    assert server.connections <= 5
    for exchange in exchanges:
        await exchange.head()
        await exchange.aclose()
    assert server.connections == 5
    await fetch(lane, get(server))
    assert server.connections == 5


async def test_the_last_used_connection_is_the_next(lane: Direct, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % peer.number)

    server = await nursery.start(serve, script)
    exchanges = [await lane.send(get(server)) for _ in range(3)]
    bodies = [await exchange.receive_some() for exchange in exchanges]
    for at in (2, 0, 1):
        await exchanges[at].aclose()
    assert [(await fetch(lane, get(server))).body for _ in range(2)] == [bodies[1]] * 2


async def test_origins_do_not_share_connections(
    lane: Direct, server: RawServer, nursery: trio.Nursery
) -> None:
    other = await nursery.start(serve, answering(OK))
    await fetch(lane, get(server))
    assert not lane.is_ready(get(other))
    await fetch(lane, get(other))
    assert (server.connections, other.connections) == (1, 1)


# How long a connection may rest


@pytest.mark.parametrize(
    "rest, is_replayable, is_reused",
    [
        (FRESH - 0.5, False, True),
        (FRESH + 0.1, False, False),
        (FRESH + 0.1, True, True),
        (59, True, True),
        (60.1, True, False),
    ],
)
async def test_what_must_not_run_twice_takes_no_rested_connection(
    lane: Direct,
    server: RawServer,
    clock: trio.testing.MockClock,
    rest: float,
    is_replayable: bool,
    is_reused: bool,
) -> None:
    request = post(server)._replace(is_replayable=is_replayable)
    await fetch(lane, request)
    clock.jump(rest)
    assert lane.is_ready(request) is is_reused
    await fetch(lane, request)
    assert server.connections == (1 if is_reused else 2)


@pytest.mark.parametrize(
    "header, rest, is_reused",
    [
        (b"timeout=3", 1.5, True),
        (b"timeout=3", 2.1, False),
        (b"max=5, Timeout = 3", 2.1, False),
        (b"timeout=1", 0.1, False),
        (b"timeout=0", 0.1, False),
        (b"timeout=99999", 59, True),
        (b"timeout=99999", 61, False),
        (b"timeout=" + b"9" * 5000, 59, True),
        (b"timeout=\xb2", 59, True),
        (b"max=5", 59, True),
    ],
)
async def test_the_servers_own_limit_is_honoured_with_a_second_to_spare(
    lane: Direct,
    nursery: trio.Nursery,
    clock: trio.testing.MockClock,
    header: bytes,
    rest: float,
    is_reused: bool,
) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: " + header + b"\r\n\r\n"
    server = await nursery.start(serve, answering(said))
    await fetch(lane, get(server))
    clock.jump(rest)
    assert lane.is_ready(get(server)) is is_reused


async def test_connections_too_old_for_one_request_serve_another(
    lane: Direct, server: RawServer, clock: trio.testing.MockClock
) -> None:
    await fetch(lane, post(server))
    clock.jump(10)
    assert not lane.is_ready(post(server))
    assert lane.is_ready(get(server))
    await fetch(lane, get(server))
    assert lane.is_ready(post(server))
    assert server.connections == 1


async def test_a_body_of_many_writes_is_never_ready(lane: Direct, server: RawServer) -> None:
    await fetch(lane, post(server))
    assert lane.is_ready(post(server, b"x" * ONE_WRITE))
    assert not lane.is_ready(post(server, b"x" * (ONE_WRITE + 1)))


async def test_after_a_burst_the_free_list_shrinks(
    lane: Direct, server: RawServer, clock: trio.testing.MockClock
) -> None:
    exchanges = [await lane.send(get(server)) for _ in range(20)]
    for exchange in exchanges:
        await exchange.head()
        await exchange.aclose()
    assert server.open_connections == 20
    for _ in range(3):
        clock.jump(25)
        await fetch(lane, get(server))
    await until(lambda: server.open_connections == 1)
    assert server.connections == 20


# Signs of life


async def test_a_connection_closed_while_idle_is_not_used(
    lane: Direct, nursery: trio.Nursery
) -> None:
    server = await nursery.start(serve, saying(OK))
    for _ in range(3):
        await fetch(lane, post(server))
        await until(lambda: server.open_connections == 0)
        assert not lane.is_ready(post(server))
    assert server.connections == 3


async def test_a_look_at_a_connection_holds_no_longer_than_until_its_use(
    lane: Direct, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            await peer.send(OK)

    # Time stands still: a look is not repeated for a moment, and here none passes.
    server = await nursery.start(serve, script)
    await fetch(lane, post(server))
    assert lane.is_ready(post(server))
    await fetch(lane, post(server))
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert server.open_connections == 0
    assert not lane.is_ready(post(server))


async def test_a_connection_that_speaks_unasked_is_not_used(
    lane: Direct, nursery: trio.Nursery
) -> None:
    said = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", pause=0.02)
        said.set()
        await peer.hung_up()

    server = await nursery.start(serve, script)
    for _ in range(2):
        said = trio.Event()
        assert (await fetch(lane, get(server))).body == b"ok"
        await said.wait()
        assert not lane.is_ready(get(server))
    assert server.connections == 2


async def test_what_comes_late_of_an_earlier_answer_is_not_taken_for_a_bad_one(
    lane: Direct, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(b"rest of it\r\n")
        await peer.hung_up()

    server = await nursery.start(serve, script)
    assert (await fetch(lane, get(server))).body == b"ok"
    with pytest.raises(ConnectionLost, match="went on with an earlier answer") as caught:
        await fetch(lane, get(server))
    assert not caught.value.answer_begun  # what is safe is sent again (design 4)
    assert server.connections == 1


@pytest.mark.parametrize("ends", [b"\r\n", b"\n\r\n\r\n"])
async def test_line_ends_late_after_an_answer_do_no_harm(
    lane: Direct, nursery: trio.Nursery, ends: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(ends, OK, pause=0.02)
        await peer.request()
        await peer.send(ends + OK)
        await peer.hung_up()

    server = await nursery.start(serve, script)
    for _ in range(3):
        assert (await fetch(lane, get(server))).body == b"ok"
    assert server.connections == 1


async def test_a_connection_with_bytes_after_the_answer_is_not_used(
    lane: Direct, nursery: trio.Nursery
) -> None:
    server = await nursery.start(serve, answering(OK + b"HTTP/1.1 200 OK\r\n\r\n"))
    for _ in range(2):
        assert (await fetch(lane, get(server))).body == b"ok"
    assert server.connections == 2


async def test_below_a_dead_connection_a_live_one_is_found(
    lane: Direct, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.number == 1 and await peer.request():
            await peer.send(OK)

    server = await nursery.start(serve, script)
    first, second = await lane.send(get(server)), await lane.send(get(server))
    for exchange in (first, second):
        await exchange.head()
        await exchange.aclose()
    await until(lambda: server.open_connections == 1)
    await fetch(lane, get(server))
    assert server.connections == 2


async def test_a_close_that_crosses_the_request_is_a_lost_connection(
    lane: Direct, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()

    server = await nursery.start(serve, script)
    await fetch(lane, post(server))
    with pytest.raises(ConnectionLost) as lost:
        await fetch(lane, post(server))
    assert not lost.value.answer_begun
    assert server.connections == 1


# Preparation


async def test_a_prepared_connection_serves_the_first_request(
    lane: Direct, server: RawServer
) -> None:
    assert not lane.is_ready(post(server))
    await lane.prepare(server.url())
    assert lane.is_ready(post(server))
    await fetch(lane, post(server))
    assert server.connections == 1


async def test_a_cancelled_preparation_keeps_nobody_waiting(
    lane: Direct, server: RawServer
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await lane.prepare(server.url())
    await fetch(lane, post(server))
    assert server.connections == 1


# All of them


async def test_dropping_the_idle_ones_closes_them_and_spares_the_busy_one(
    lane: Direct, nursery: trio.Nursery
) -> None:
    go_on = trio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            if peer.number == 1:
                await go_on.wait()
            await peer.send(OK)

    server = await nursery.start(serve, script)
    busy = await lane.send(get(server))
    others = [await lane.send(get(server)) for _ in range(3)]
    for exchange in others:
        await exchange.head()
        await exchange.aclose()
    lane.drop_idle()
    await until(lambda: server.open_connections == 1)
    assert not lane.is_ready(get(server))
    go_on.set()
    assert await busy.receive_some() == b"ok"
    await busy.aclose()
    assert lane.is_ready(get(server))
    await lane.aclose()
    await until(lambda: server.open_connections == 0)


async def test_five_hundred_at_once_each_get_their_own_answer(
    lane: Direct, nursery: trio.Nursery
) -> None:
    _allow_open_files(1500)  # Both ends of each connection are in this process.
    waiting = 0
    all_here = trio.Event()

    async def script(peer: Peer) -> None:
        nonlocal waiting
        while (request := await peer.request()) is not None:
            waiting += 1
            if waiting == 500:
                all_here.set()
            await all_here.wait()
            size = b"Content-Length: %d\r\n\r\n" % len(request.body)
            await peer.send(b"HTTP/1.1 200 OK\r\n" + size + request.body)

    server = await nursery.start(serve, script)
    answers: dict[int, bytes] = {}

    async def ask(number: int) -> None:
        answers[number] = (await fetch(lane, post(server, b"%d" % number * 50))).body

    for _ in range(2):
        async with trio.open_nursery() as asking:
            for number in range(500):
                asking.start_soon(ask, number)
        assert answers == {number: b"%d" % number * 50 for number in range(500)}
        answers.clear()
    assert server.connections == 500


def _allow_open_files(count: int) -> None:
    # Windows has no such limit; that of macOS is 256 unless asked for more.
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < count:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
