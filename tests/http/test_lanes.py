"""The same cases on both lanes: what the layers above may rely on, whichever was chosen."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from mcp_stdio.config import Tls
from mcp_stdio.errors import (
    BadAnswer,
    ConnectionLost,
    Distrusted,
    ProxyFailure,
    RelayError,
    TlsFailure,
    Unreachable,
    UsageFailure,
)
from mcp_stdio.http import Head, Lane, Request
from mcp_stdio.http.body import read_body
from mcp_stdio.http.direct import Direct
from mcp_stdio.http.proxied import Proxied
from mcp_stdio.http.tls import context
from mcp_stdio.http.url import Url
from tests.http.fakes import NoSockets
from tests.http.proxy import ForwardProxy
from tests.http.raw_server import (
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

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LIMIT = 1 << 24


@pytest.fixture(params=["direct", "httpx", "proxy"])
def way(request: pytest.FixtureRequest) -> str:
    """The direct lane, the other one with no proxy to use, and with one."""
    name: str = request.param
    return name


@pytest.fixture
async def lane(
    way: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, authority_file: Path
) -> AsyncIterator[Lane]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    if way == "proxy":
        proxy = ForwardProxy()
        await nursery.start(proxy.serve)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
    kind = Direct if way == "direct" else Proxied
    made = kind(
        lambda: context(Tls(cacert=str(authority_file))), timeout_connect=5, timeout_write=5
    )
    with trio.fail_after(60):
        yield made
    await made.aclose()
    nursery.cancel_scope.cancel()


def post(url: Url, body: bytes = b"{}", *, is_replayable: bool = False) -> Request:
    headers = (("Accept", "application/json"), ("Content-Type", "application/json"))
    return Request("POST", url, headers, body, is_replayable=is_replayable)


async def ask(lane: Lane, request: Request) -> tuple[Head, bytes]:
    exchange = await lane.send(request)
    try:
        head = await exchange.head()
        return head, await read_body(exchange, LIMIT, lambda: None)
    finally:
        await exchange.aclose()


def never() -> None:
    """What an exchange is told when nobody wants to hear."""


async def test_the_request_as_it_arrives(lane: Lane, nursery: trio.Nursery) -> None:
    received: list[Received] = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            received.append(request)
            await peer.send(OK)

    server: RawServer = await nursery.start(serve, script)
    await ask(lane, post(server.url("/mcp?a=b%20c"), b'{"n":1.0}'))
    await ask(lane, Request("GET", server.url()))
    await ask(lane, Request("DELETE", server.url(), (("User-Agent", "mine/1"),)))
    await ask(lane, post(server.url(), b""))
    first, get, delete, empty = received
    assert (first.method, first.target, first.body) == ("POST", "/mcp?a=b%20c", b'{"n":1.0}')
    assert sorted((name.lower(), value) for name, value in first.headers) == [
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("content-length", "9"),
        ("content-type", "application/json"),
        ("host", server.url().authority),
        ("user-agent", first.get_all("user-agent")[0]),
    ]
    assert first.get_all("user-agent")[0].startswith("mcp-stdio/")
    assert [name.lower() for name, _ in get.headers] == [
        "host",
        "accept-encoding",
        "user-agent",
    ]
    assert delete.get_all("user-agent") == ["mine/1"]
    assert empty.get_all("content-length") == ["0"]


async def test_status_and_headers(lane: Lane, nursery: trio.Nursery) -> None:
    answer = (
        b"HTTP/1.1 418 I'm a teapot\r\nContent-Type: Application/JSON; charset=utf-8\r\n"
        b"Set-Cookie: a=1\r\nset-cookie: b=2\r\nX-Name: x\xe9\r\nContent-Length: 2\r\n\r\n{}"
    )
    server = await nursery.start(serve, answering(answer))
    head, body = await ask(lane, post(server.url()))
    assert (head.status, head.media_type, body) == (418, "application/json", b"{}")
    assert head.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert head.headers.get("x-name") == "x\u00e9"
    assert head.headers.get("x-absent") is None


BODY = b'{"jsonrpc":"2.0","id":1,"result":{"x":"' + b"y" * 500 + b'"}}'
FRAMINGS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunked([BODY[:7], BODY[7:300], BODY[300:]], b"X-Trailer: 1\r\n"),
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY,
    "http/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "1xx": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("pieces", ["whole", "bytes", "random"])
async def test_bodies_by_every_framing(
    lane: Lane, nursery: trio.Nursery, framing: str, pieces: str
) -> None:
    answer = FRAMINGS[framing]
    parts = {
        "whole": [answer],
        "bytes": list(bytewise(answer)),
        "random": shredded(answer, seed=len(answer)),
    }[pieces]
    server = await nursery.start(serve, saying(*parts))
    head, body = await ask(lane, post(server.url()))
    assert (head.status, body) == (200, BODY)


@pytest.mark.parametrize("status", [202, 204, 304])
async def test_no_body(lane: Lane, nursery: trio.Nursery, status: int) -> None:
    length = b"Content-Length: 0\r\n" if status == 202 else b""
    server = await nursery.start(serve, answering(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, length)))
    for _ in range(2):
        head, body = await ask(lane, post(server.url()))
        assert (head.status, body) == (status, b"")
    assert server.connections == 1


async def test_a_redirect_is_just_an_answer(lane: Lane, nursery: trio.Nursery) -> None:
    for location in (b"/new", b"http://[", b"nonsense://", b"\xff", b""):
        answer = b"HTTP/1.1 307 X\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location
        server = await nursery.start(serve, answering(answer))
        head, _ = await ask(lane, post(server.url()))
        assert (head.status, head.headers.get("location")) == (307, location.decode("latin-1"))


async def test_cookies_are_not_a_lane_s_business(lane: Lane, nursery: trio.Nursery) -> None:
    cookies: list[str] = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            cookies.extend(request.get_all("cookie"))
            await peer.send(
                b"HTTP/1.1 200 X\r\nSet-Cookie: a=1; Path=/\r\nContent-Length: 0\r\n\r\n"
            )

    server = await nursery.start(serve, script)
    for _ in range(3):
        await ask(lane, post(server.url()))
    assert cookies == []


async def test_a_compressed_body_comes_as_it_is(lane: Lane, nursery: trio.Nursery) -> None:
    answer = b"HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x00"
    server = await nursery.start(serve, answering(answer))
    assert (await ask(lane, post(server.url())))[1] == b"\x1f\x8b\x00"


async def test_a_large_body_each_way(lane: Lane, nursery: trio.Nursery) -> None:
    sizes: list[int] = []
    big = bytes(range(256)) * 20_000

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            sizes.append(len(request.body))
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(big), big)

    server = await nursery.start(serve, script)
    _, body = await ask(lane, post(server.url(), big))
    assert sizes == [len(big)]
    assert body == big


# Connections


async def test_connections_are_kept(lane: Lane, nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, answering(OK))
    for _ in range(20):
        await ask(lane, post(server.url()))
    assert server.connections == 1


async def test_kept_without_reading_a_short_body(lane: Lane, nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, answering(OK))
    for _ in range(3):
        exchange = await lane.send(post(server.url()))
        await exchange.head()
        await exchange.aclose()
    assert server.connections == 1


async def test_a_connection_closed_while_idle_is_not_used(
    lane: Lane, nursery: trio.Nursery
) -> None:
    closed = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.close()
        closed.set()

    server = await nursery.start(serve, script)
    for count in range(1, 4):
        assert (await ask(lane, post(server.url())))[0].status == 200
        await closed.wait()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert server.connections == count


async def test_dropping_idle_connections(lane: Lane, nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, answering(OK))
    await ask(lane, post(server.url()))
    lane.drop_idle()
    await ask(lane, post(server.url()))
    assert server.connections == 2
    await until(lambda: server.open_connections == 1)


async def test_dropping_leaves_running_exchanges_alone(lane: Lane, nursery: trio.Nursery) -> None:
    go_on = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
        await go_on.wait()
        await peer.send(b"}")
        await peer.hung_up()

    server = await nursery.start(serve, script)
    exchange = await lane.send(post(server.url()))
    await exchange.head()
    lane.drop_idle()
    go_on.set()
    assert await read_body(exchange, LIMIT, never) == b"{}"
    await exchange.aclose()


async def test_closing_closes_what_idles(lane: Lane, nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, answering(OK))
    await ask(lane, post(server.url()))
    await lane.aclose()
    await until(lambda: server.open_connections == 0)


async def test_preparing_does_no_harm(lane: Lane, nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, answering(OK))
    await lane.prepare(server.url())
    await lane.prepare(Url.parse("http://127.0.0.1:1/"))
    assert (await ask(lane, post(server.url())))[1] == b"{}"
    assert server.connections == 1


@pytest.mark.parametrize("cancelled_at", ["head", "body"])
async def test_cancelling_closes_the_connection_at_once(
    lane: Lane, nursery: trio.Nursery, cancelled_at: str
) -> None:
    seen = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if cancelled_at == "body":
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        seen.set()
        assert await peer.hung_up()

    server = await nursery.start(serve, script)

    async def cancelled(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            exchange = await lane.send(post(server.url()))
            try:
                await exchange.head()
                await read_body(exchange, LIMIT, never)
            finally:
                await exchange.aclose()

    scope = await nursery.start(cancelled)
    await seen.wait()
    assert server.open_connections == 1
    scope.cancel()
    await until(lambda: server.open_connections == 0)


async def test_leaving_an_endless_body_closes_the_connection(
    lane: Lane, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await peer.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")

    server = await nursery.start(serve, script)
    exchange = await lane.send(post(server.url()))
    await exchange.head()
    assert await exchange.receive_some()
    await exchange.aclose()
    await until(lambda: server.open_connections == 0)


async def test_five_hundred_at_once(lane: Lane, nursery: trio.Nursery) -> None:
    waiting: list[trio.Event] = []
    count = 500

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            event = trio.Event()
            waiting.append(event)
            if len(waiting) == count:  # all are here: answer the last one first
                for other in reversed(waiting):
                    other.set()
            await event.wait()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.body))
            await peer.send(request.body)

    server = await nursery.start(serve, script)
    answers: dict[int, bytes] = {}

    async def one(number: int) -> None:
        answers[number] = (await ask(lane, post(server.url(), b"%d" % number)))[1]

    async with trio.open_nursery() as calls:
        for number in range(count):
            calls.start_soon(one, number)
    assert answers == {number: b"%d" % number for number in range(count)}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the other side of a socket does."""
    while not condition():
        await trio.testing.wait_all_tasks_blocked(0.005)


# Failures


async def failure(lane: Lane, request: Request) -> RelayError:
    with pytest.raises(RelayError) as caught:
        await ask(lane, request)
    return caught.value


async def closed_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


async def test_a_refused_connection(lane: Lane, way: str) -> None:
    url = Url.parse(f"http://127.0.0.1:{await closed_port()}/")
    if way == "proxy":  # what a proxy says to a plain http request is an answer like any other
        assert (await ask(lane, post(url)))[0].status == 502
        return
    error = await failure(lane, post(url))
    assert type(error) is Unreachable
    assert str(url.port) in str(error)
    assert error.hint


async def test_a_process_that_has_too_many_files_open(lane: Lane, way: str) -> None:
    trio.socket.set_custom_socket_factory(NoSockets())
    error = await failure(lane, post(Url.parse("http://127.0.0.1:9/")))
    assert isinstance(error, ProxyFailure if way == "proxy" else Unreachable)
    assert "Too many open files" in str(error)
    if way != "proxy":
        assert error.hint == "too many files are open on this machine"


async def test_a_name_that_does_not_exist(lane: Lane, way: str) -> None:
    url = Url.parse("http://nowhere.invalid/")
    if way == "proxy":
        assert (await ask(lane, post(url)))[0].status == 502
        return
    error = await failure(lane, post(url))
    assert type(error) is Unreachable
    assert "nowhere.invalid" in str(error)


@pytest.mark.parametrize("method", ["close", "reset"])
async def test_cut_before_the_head(lane: Lane, nursery: trio.Nursery, method: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if method == "reset":
            peer.reset()

    server = await nursery.start(serve, script)
    error = await failure(lane, post(server.url()))
    assert type(error) is ConnectionLost
    assert not error.answer_begun
    assert server.connections == 1


async def test_cut_in_the_head(lane: Lane, nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, saying(b"HTTP/1.1 200 OK\r\nContent-"))
    assert type(await failure(lane, post(server.url()))) is ConnectionLost


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n",
    ],
)
async def test_cut_in_the_body(lane: Lane, nursery: trio.Nursery, answer: bytes) -> None:
    server = await nursery.start(serve, saying(answer))
    exchange = await lane.send(post(server.url()))
    assert (await exchange.head()).status == 200
    for _ in range(2):  # what broke off is never taken for whole, however often one asks
        with pytest.raises(ConnectionLost) as caught:
            await read_body(exchange, LIMIT, never)
        assert caught.value.answer_begun
    await exchange.aclose()
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 400_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_not_http(lane: Lane, nursery: trio.Nursery, answer: bytes) -> None:
    server = await nursery.start(serve, saying(answer))
    assert type(await failure(lane, post(server.url()))) is BadAnswer


async def test_a_greeting_that_is_not_http(lane: Lane, nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, saying(b"SSH-2.0-OpenSSH_9.6\r\n"))
    error = await failure(lane, post(server.url()))
    assert isinstance(error, BadAnswer | ConnectionLost)  # httpx does not tell how much came


async def test_broken_chunks_end_in_an_error(lane: Lane, nursery: trio.Nursery) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n"
    server = await nursery.start(serve, answering(answer))
    assert isinstance(await failure(lane, post(server.url())), BadAnswer | ConnectionLost)


async def test_a_header_that_http_cannot_carry(lane: Lane, nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, answering(OK))
    request = Request("GET", server.url(), (("X-Key", "sec\r\nret"),))
    error = await failure(lane, request)
    assert type(error) is UsageFailure
    assert "sec" not in str(error)
    assert (await ask(lane, post(server.url())))[1] == b"{}"


async def test_an_answer_before_the_body_was_read(lane: Lane, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(
            b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
        )
        await peer.close()

    server = await nursery.start(serve, script)
    try:
        head, _ = await ask(lane, post(server.url(), bytes(5_000_000)))
    except ConnectionLost:
        pass  # a reset may overtake the answer
    else:
        assert head.status == 413


# TLS


async def test_tls(lane: Lane, nursery: trio.Nursery, server_context: ssl.SSLContext) -> None:
    server = await nursery.start(serve, answering(OK), server_context)
    for _ in range(5):
        assert (await ask(lane, post(server.url())))[1] == b"{}"
    assert server.connections == 1


async def test_tls_bodies_cut_without_a_word(
    lane: Lane, nursery: trio.Nursery, server_context: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
        peer.cut()

    server = await nursery.start(serve, script, server_context)
    error = await failure(lane, post(server.url()))
    assert isinstance(error, ConnectionLost)
    assert error.answer_begun


async def test_an_unknown_authority(nursery: trio.Nursery, lane: Lane) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await nursery.start(serve, answering(OK), context)
    error = await failure(lane, post(server.url()))
    assert type(error) is Distrusted
    assert "--cacert" in (error.hint or "")


async def test_a_certificate_for_another_name(
    nursery: trio.Nursery, lane: Lane, authority: trustme.CA
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    server = await nursery.start(serve, answering(OK), context)
    error = await failure(lane, post(server.url()))
    assert type(error) is Distrusted
    assert "host name" in (error.hint or "")


async def test_tls_where_there_is_none(nursery: trio.Nursery, lane: Lane) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.hung_up()

    server = await nursery.start(serve, script)
    error = await failure(lane, post(Url.parse(f"https://127.0.0.1:{server.port}/")))
    assert type(error) is TlsFailure
    assert "does not speak TLS" in str(error)
