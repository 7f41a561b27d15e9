from __future__ import annotations

import gzip
import os
import ssl
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from mcp_stdio.config import Config, Tls
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    ConnectionLost,
    Unreachable,
    UsageFailure,
)
from mcp_stdio.http import Head, Request, client
from mcp_stdio.http.authorizer import Fixed
from mcp_stdio.http.client import Client, names_proxy, open_client
from mcp_stdio.http.url import Url
from tests.http.fakes import Answer, FakeLane
from tests.http.raw_server import Peer, RawServer, Received, Script, serve

URL = Url.parse("https://mcp.example.com/mcp")
USER = (("Authorization", "Bearer secret"), ("X-Api-Key", "key"))
POST = Request("POST", URL, (("Accept", "application/json"),), b"{}")


def opened(lane: FakeLane, url: Url = URL, headers: tuple[tuple[str, str], ...] = USER) -> Client:
    return Client(lane, origin=url.origin, authorizer=Fixed(headers))


async def head_of(way: Client, request: Request = POST) -> Head:
    """The head of an answer whose exchange is over."""
    exchange = await way.send(request)
    try:
        return await exchange.head()
    finally:
        await exchange.aclose()


async def body_of(way: Client, request: Request = POST) -> bytes:
    exchange = await way.send(request)
    try:
        await exchange.head()
        parts = []
        while part := await exchange.receive_some():
            parts.append(part)
        return b"".join(parts)
    finally:
        await exchange.aclose()


def moved(to: str, status: int = 307) -> Answer:
    return Answer(status, [("Location", to)])


# What is sent


async def test_the_user_s_headers_go_along() -> None:
    lane = FakeLane()
    await head_of(opened(lane))
    assert lane.headers() == {
        "accept": "application/json",
        "authorization": "Bearer secret",
        "x-api-key": "key",
    }
    assert lane.requests[0].body == b"{}"


async def test_the_protocol_s_headers_win_over_the_user_s_and_each_is_sent_once() -> None:
    lane = FakeLane()
    given = (("ACCEPT", "text/html"), ("x-api-key", "old"), ("X-Api-Key", "new"))
    await head_of(opened(lane, headers=given))
    assert lane.headers() == {"accept": "application/json", "x-api-key": "new"}


async def test_another_origin_gets_nothing_of_the_user_s() -> None:
    for other in (
        "https://example.com/",
        "https://mcp.example.com:8443/",
        "http://mcp.example.com/",
    ):
        lane = FakeLane()
        await head_of(opened(lane), Request("GET", Url.parse(other)))
        assert lane.headers() == {}


async def test_the_https_upgrade_of_the_same_host_gets_them() -> None:
    lane = FakeLane()
    await head_of(opened(lane, Url.parse("http://mcp.example.com/")), POST)
    assert lane.headers()["authorization"] == "Bearer secret"


async def test_a_cookie_sticks_beside_the_user_s_own() -> None:
    lane = FakeLane(Answer(200, [("Set-Cookie", "instance=7; Path=/")]))
    way = opened(lane, headers=(("Cookie", "mine=1"),))
    await head_of(way)
    assert lane.headers()["cookie"] == "mine=1"
    await head_of(way)
    assert lane.headers()["cookie"] == "mine=1; instance=7"
    await head_of(way, Request("GET", Url.parse("https://elsewhere.example/")))
    assert "cookie" not in lane.headers()


async def test_a_cookie_set_by_an_error_sticks_too() -> None:
    lane = FakeLane(Answer(503, [("Set-Cookie", "instance=7; Path=/")]))
    way = opened(lane, headers=())
    await head_of(way)
    await head_of(way)
    assert lane.headers()["cookie"] == "instance=7"


# Credentials that can be renewed


class Renewing:
    """An authorizer with a number as its token."""

    def __init__(self, *, can_renew: bool = True) -> None:
        self.token = 1
        self.is_ready = True
        self.refused: list[tuple[str, int]] = []
        self.good: list[str] = []
        self._can_renew = can_renew

    async def headers(self) -> tuple[tuple[str, str], ...]:
        await trio.lowlevel.checkpoint()
        return (("Authorization", f"Bearer {self.token}"),)

    async def renew(self, refused: Request, head: Head) -> bool:
        await trio.lowlevel.checkpoint()
        self.refused.append((dict(refused.headers)["Authorization"], head.status))
        self.token += 1
        return self._can_renew

    def accepted(self, request: Request) -> None:
        self.good.append(dict(request.headers)["Authorization"])


@pytest.mark.parametrize("status", [401, 403])
async def test_a_renewed_credential_replays_the_request_once(status: int) -> None:
    lane = FakeLane(Answer(status), Answer(200))
    authorizer = Renewing()
    assert (await head_of(Client(lane, origin=URL.origin, authorizer=authorizer))).status == 200
    assert [lane.headers(i)["authorization"] for i in (0, 1)] == ["Bearer 1", "Bearer 2"]
    assert authorizer.good == ["Bearer 2"]
    assert authorizer.refused == [("Bearer 1", status)]
    assert lane.requests[1].body == b"{}"
    assert lane.open_exchanges == 0


async def test_a_second_refusal_is_the_answer() -> None:
    lane = FakeLane(Answer(401), Answer(401, body=[b"no"]))
    authorizer = Renewing()
    assert await body_of(Client(lane, origin=URL.origin, authorizer=authorizer)) == b"no"
    assert len(lane.requests) == 2


async def test_without_a_renewal_the_refusal_is_the_answer() -> None:
    lane = FakeLane(Answer(401, body=[b"no"]))
    authorizer = Renewing(can_renew=False)
    assert await body_of(Client(lane, origin=URL.origin, authorizer=authorizer)) == b"no"
    lane = FakeLane(Answer(401, body=[b"no"]))
    assert await body_of(opened(lane)) == b"no"
    assert len(lane.requests) == 1


async def test_another_origin_s_refusal_renews_nothing() -> None:
    authorizer = Renewing()
    way = Client(FakeLane(Answer(401)), origin=URL.origin, authorizer=authorizer)
    await head_of(way, Request("GET", Url.parse("https://elsewhere.example/")))
    assert authorizer.refused == []


async def test_the_credential_is_prepared_while_the_connection_is() -> None:
    class Slow(FakeLane):
        async def prepare(self, url: Url) -> None:
            await asked.wait()
            await super().prepare(url)

    class Asked(Renewing):
        async def headers(self) -> tuple[tuple[str, str], ...]:
            asked.set()
            raise AuthorizationFailed("there is none")

    asked = trio.Event()
    lane = Slow()
    with trio.fail_after(1):
        await Client(lane, origin=URL.origin, authorizer=Asked()).prepare(URL)
    assert lane.prepared == [URL]


async def test_ready_only_if_lane_and_authorizer_are() -> None:
    lane, authorizer = FakeLane(), Renewing()
    way = Client(lane, origin=URL.origin, authorizer=authorizer)
    assert way.is_ready(POST)
    authorizer.is_ready = False
    assert not way.is_ready(POST)
    authorizer.is_ready = True
    lane.ready = False
    assert not way.is_ready(POST)


async def test_a_lane_around_a_lane() -> None:
    lane = FakeLane()
    way = opened(lane)
    await way.prepare(URL)
    way.drop_idle()
    await way.aclose()
    assert (lane.prepared, lane.idle_drops, lane.is_closed) == ([URL], 1, True)


# Redirects


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("location", ["/mcp/", "https://mcp.example.com/mcp/", "./mcp/"])
async def test_followed_within_the_origin_with_method_and_body(status: int, location: str) -> None:
    lane = FakeLane(moved(location, status))
    way = opened(lane)
    assert (await head_of(way)).status == 200
    assert lane.urls == ["https://mcp.example.com/mcp", "https://mcp.example.com/mcp/"]
    assert [r.method for r in lane.requests] == ["POST", "POST"]
    assert [r.body for r in lane.requests] == [b"{}", b"{}"]
    assert lane.headers(1) == lane.headers(0)
    assert lane.open_exchanges == 0


async def test_remembered_for_later_requests_of_the_method() -> None:
    lane = FakeLane(moved("/new"))
    way = opened(lane)
    await head_of(way)
    await head_of(way)
    await head_of(way, Request("GET", URL))
    paths = [f"{r.method} {r.url.target}" for r in lane.requests]
    assert paths == ["POST /mcp", "POST /new", "POST /new", "GET /mcp"]


@pytest.mark.parametrize("end", [Answer(404), Answer(410), Unreachable("gone")])
async def test_forgotten_when_nothing_is_there_any_more(end: Answer | Unreachable) -> None:
    lane = FakeLane(moved("/new"), Answer(200), end)
    way = opened(lane)
    await head_of(way)
    try:
        await head_of(way)
    except Unreachable:
        pass
    await head_of(way)
    assert [r.url.target for r in lane.requests] == ["/mcp", "/new", "/new", "/mcp"]


async def test_from_http_to_https_of_the_same_host_with_everything() -> None:
    plain = Url.parse("http://mcp.example.com/mcp")
    lane = FakeLane(moved("https://mcp.example.com/mcp"))
    await head_of(opened(lane, plain), Request("POST", plain, body=b"{}"))
    assert lane.urls == ["http://mcp.example.com/mcp", "https://mcp.example.com/mcp"]
    assert lane.headers(1)["authorization"] == "Bearer secret"


@pytest.mark.parametrize("status", [307, 308])
async def test_never_to_the_https_of_another_host(status: int) -> None:
    plain = Url.parse("http://mcp.example.com/mcp")
    lane = FakeLane(moved("https://evil.example/mcp", status))
    with pytest.raises(BadAnswer, match=r"https://evil\.example/mcp"):
        await head_of(opened(lane, plain), Request("POST", plain))
    assert len(lane.requests) == 1


async def test_the_https_of_another_host_gets_nothing_of_the_user_s() -> None:
    lane = FakeLane()
    way = opened(lane, Url.parse("http://mcp.example.com/mcp"))
    await head_of(way, Request("GET", Url.parse("https://evil.example/mcp")))
    assert lane.headers() == {}


@pytest.mark.parametrize(
    "location, named",
    [
        ("https://evil.example/mcp?token=secret", "https://evil.example/mcp"),
        ("//evil.example/mcp", "https://evil.example/mcp"),
        ("https://mcp.example.com:8443/mcp", "https://mcp.example.com:8443/mcp"),
        ("https://mcp.example.com.evil.example/", "https://mcp.example.com.evil.example/"),
        ("https://mcp.example.com@evil.example/", "https://evil.example/"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_never_to_another_origin(location: str, named: str, status: int) -> None:
    lane = FakeLane(moved(location, status))
    with pytest.raises(BadAnswer, match=named) as caught:
        await head_of(opened(lane))
    assert caught.value.hint == f"use `{named}` as the URL if you trust it"
    assert caught.value.status == status
    assert "secret" not in str(caught.value)
    assert len(lane.requests) == 1
    assert lane.open_exchanges == 0


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_never_where_the_method_would_change(status: int) -> None:
    lane = FakeLane(moved("/new", status))
    with pytest.raises(BadAnswer, match=r"https://mcp\.example\.com/new"):
        await head_of(opened(lane))
    assert len(lane.requests) == 1


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_never_from_https_to_http(status: int) -> None:
    lane = FakeLane(moved("http://mcp.example.com/mcp", status))
    with pytest.raises(BadAnswer, match=r"from https to `http://mcp\.example\.com/mcp`"):
        await head_of(opened(lane))
    assert len(lane.requests) == 1


async def test_an_upgrade_does_not_lead_back() -> None:
    plain = Url.parse("http://mcp.example.com/mcp")
    lane = FakeLane(moved(str(URL)), moved(str(plain)))
    with pytest.raises(BadAnswer, match="from https to"):
        await head_of(opened(lane, plain), Request("POST", plain))


async def test_a_circle_comes_to_an_end() -> None:
    lane = FakeLane(*[moved("/b" if i % 2 else "/a") for i in range(20)])
    with pytest.raises(BadAnswer, match="more than 5 times"):
        await head_of(opened(lane))
    assert len(lane.requests) == 6
    assert lane.open_exchanges == 0


async def test_five_hops_are_followed() -> None:
    lane = FakeLane(*[moved(f"/{i}") for i in range(5)])
    way = opened(lane)
    assert (await head_of(way)).status == 200
    await head_of(way)
    assert lane.requests[-1].url.target == "/4"


@pytest.mark.parametrize(
    "headers",
    [[], [("Location", "http://[")], [("Location", "mailto:a@b")], [("Location", "http://h:x/")]],
)
@pytest.mark.parametrize("status", [302, 307, 308])
async def test_to_nowhere(headers: list[tuple[str, str]], status: int) -> None:
    with pytest.raises(BadAnswer, match=str(status)):
        await head_of(opened(FakeLane(Answer(status, headers))))


async def test_bytes_beyond_ascii_in_a_location_stay_what_they_are() -> None:
    lane = FakeLane(moved("/caf\u00e9".encode().decode("latin-1")), moved("/caf\u00e9%20 b"))
    await head_of(opened(lane))
    assert [r.url.target for r in lane.requests] == ["/mcp", "/caf%C3%A9", "/caf%E9%20%20b"]


@pytest.mark.parametrize("status", [300, 304, 305])
async def test_other_statuses_of_the_class_are_answers(status: int) -> None:
    assert (await head_of(opened(FakeLane(moved("/new", status))))).status == status


async def test_a_renewal_on_the_way_of_a_redirect() -> None:
    lane = FakeLane(moved("/new"), Answer(401), Answer(200))
    assert (await head_of(Client(lane, origin=URL.origin, authorizer=Renewing()))).status == 200
    assert [r.url.target for r in lane.requests] == ["/mcp", "/new", "/new"]


async def test_memory_of_redirects_is_bounded() -> None:
    way = opened(lane := FakeLane())
    first, *others = (
        Request("GET", Url.parse(f"https://mcp.example.com/{number}"))
        for number in range(client.MAX_MOVED + 1)
    )
    for request in (first, *others):
        lane.answers = [moved("/new")]
        await head_of(way, request)
    await head_of(way, first)
    assert lane.requests[-1].url == first.url


# Bodies


@pytest.mark.parametrize(
    "coding, compress",
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)],
)
async def test_compressed_bodies_are_decoded(coding: str, compress: object) -> None:
    assert callable(compress)
    encoded = compress(b"hello " * 100)
    for cut in (1, len(encoded) // 2, len(encoded)):
        answer = Answer(
            200, [("Content-Encoding", coding)], [encoded[:cut], encoded[cut:] or b"\0"]
        )
        assert await body_of(opened(FakeLane(answer))) == b"hello " * 100


async def test_a_plain_body_passes_untouched() -> None:
    for headers in ([], [("Content-Encoding", "identity")]):
        answer = Answer(200, headers, [b"\x1f\x8b", b"plain"])
        assert await body_of(opened(FakeLane(answer))) == b"\x1f\x8bplain"


async def test_a_bomb_yields_small_parts() -> None:
    bomb = gzip.compress(bytes(20 * 1024 * 1024))
    answer = Answer(200, [("Content-Encoding", "gzip")], [bomb])
    exchange = await opened(FakeLane(answer)).send(POST)
    await exchange.head()
    size = 0
    while part := await exchange.receive_some():
        assert len(part) <= 64 * 1024
        size += len(part)
    assert size == 20 * 1024 * 1024
    await exchange.aclose()


async def test_a_compressed_body_that_breaks_off_is_lost() -> None:
    answer = Answer(200, [("Content-Encoding", "gzip")], [gzip.compress(b"hello")[:-1]])
    with pytest.raises(ConnectionLost) as caught:
        await body_of(opened(FakeLane(answer)))
    assert caught.value.answer_begun


async def test_a_damaged_body_is_a_bad_answer() -> None:
    answer = Answer(200, [("Content-Encoding", "gzip")], [b"<html>"])
    with pytest.raises(BadAnswer, match="damaged"):
        await body_of(opened(FakeLane(answer)))


async def test_an_unknown_coding_is_named() -> None:
    lane = FakeLane(Answer(200, [("Content-Encoding", "br")], [b"x"]))
    with pytest.raises(BadAnswer, match="`br`"):
        await head_of(opened(lane))
    assert lane.open_exchanges == 0


async def test_errors_nobody_foresaw_are_still_ours() -> None:
    with pytest.raises(ConnectionLost) as caught:
        await head_of(opened(FakeLane(OSError(28, "No space left on device"))))
    assert not caught.value.answer_begun
    with pytest.raises(ConnectionLost) as caught:
        await body_of(opened(FakeLane(Answer(breaks=OSError(5, "Input/output error")))))
    assert caught.value.answer_begun


# The choice of a lane


@pytest.mark.parametrize(
    "environ, named",
    [
        ({}, False),
        ({"HTTP_PROXY": "http://p:1"}, True),
        ({"https_proxy": "http://p:1"}, True),
        ({"All_Proxy": "socks5://p:1"}, True),
        ({"HTTP_PROXY": ""}, False),
        ({"NO_PROXY": "*"}, False),
        ({"FTP_PROXY": "http://p:1"}, False),
    ],
)
def test_the_environment_names_a_proxy(environ: dict[str, str], named: bool) -> None:
    assert names_proxy(environ, "linux") is named


def test_without_a_proxy_nothing_of_the_sort_is_imported() -> None:
    script = """
import sys
from mcp_stdio.config import Config
from mcp_stdio.http.client import open_client
open_client(Config(url="https://h/"), environ={}, platform="linux")
heavy = {"httpx", "urllib.request", "http.cookiejar", "certifi"}
sys.exit(", ".join(heavy & sys.modules.keys()) or 0)
"""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], env=environ, timeout=60, check=True)


def test_a_url_that_is_none_is_a_usage_failure() -> None:
    with pytest.raises(UsageFailure, match="begin with"):
        open_client(Config(url="mcp.example.com"), environ={}, platform="linux")


# Real servers


def recording(*answers: bytes) -> tuple[list[Received], Script]:
    """A script that gives the answers in turn, then 200, and keeps what it received."""
    received: list[Received] = []
    left = list(answers)

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            received.append(request)
            await peer.send(
                left.pop(0) if left else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            )

    return received, script


def redirect(to: object, status: int = 307) -> bytes:
    return b"HTTP/1.1 %d Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (
        status,
        str(to).encode(),
    )


@asynccontextmanager
async def real(server: RawServer, tls: Tls | None = None) -> AsyncIterator[Client]:
    config = Config(url=str(server.url()), headers=USER, tls=tls or Tls())
    way = open_client(config, environ={}, platform="linux")
    try:
        with trio.fail_after(20):
            yield way
    finally:
        await way.aclose()


async def test_no_credential_reaches_the_server_a_redirect_names(nursery: trio.Nursery) -> None:
    stolen, thief = recording()
    elsewhere = await nursery.start(serve, thief)
    for status in (301, 302, 303, 307, 308):
        received, script = recording(redirect(elsewhere.url(), status))
        server = await nursery.start(serve, script)
        async with real(server) as way:
            with pytest.raises(BadAnswer, match=str(elsewhere.url())):
                await head_of(way, Request("POST", server.url(), body=b"{}"))
        assert received[0].get_all("authorization") == ["Bearer secret"]
    assert stolen == []
    assert elsewhere.connections == 0
    nursery.cancel_scope.cancel()


async def test_no_credential_leaves_tls(
    nursery: trio.Nursery, server_context: ssl.SSLContext, authority_file: object
) -> None:
    stolen, thief = recording()
    plain = await nursery.start(serve, thief)
    _, script = recording(redirect(plain.url()), redirect(plain.url(), 308))
    server = await nursery.start(serve, script, server_context)
    async with real(server, Tls(cacert=str(authority_file))) as way:
        for _ in range(2):
            with pytest.raises(BadAnswer, match="from https to"):
                await head_of(way, Request("POST", server.url(), body=b"{}"))
    assert stolen == []
    nursery.cancel_scope.cancel()


async def test_an_upgrade_to_tls_is_followed_and_remembered(
    nursery: trio.Nursery, server_context: ssl.SSLContext, authority_file: object
) -> None:
    received, script = recording()
    secure = await nursery.start(serve, script, server_context)
    before, upgrading = recording(redirect(secure.url("/mcp?x=1")))
    plain = await nursery.start(serve, upgrading)
    async with real(plain, Tls(cacert=str(authority_file))) as way:
        for _ in range(2):
            head = await head_of(way, Request("POST", plain.url(), body=b"{}"))
            assert head.status == 200
    assert len(before) == 1
    assert [(r.method, r.target, r.body) for r in received] == [("POST", "/mcp?x=1", b"{}")] * 2
    assert [r.get_all("authorization") for r in received] == [["Bearer secret"]] * 2
    nursery.cancel_scope.cancel()


async def test_a_redirect_keeps_the_connection(nursery: trio.Nursery) -> None:
    received, script = recording(redirect("/mcp/"))
    server = await nursery.start(serve, script)
    async with real(server) as way:
        await head_of(way, Request("POST", server.url(), body=b"{}"))
    assert [(r.target, r.peer) for r in received] == [("/mcp", 1), ("/mcp/", 1)]
    nursery.cancel_scope.cancel()


async def test_an_event_stream_in_gzip_arrives_event_by_event(nursery: trio.Nursery) -> None:
    next_event = trio.Semaphore(0)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n")
        deflate = zlib.compressobj(wbits=31)
        for number in range(3):
            await next_event.acquire()
            event = deflate.compress(b"data: %d\n\n" % number)
            await peer.send(event + deflate.flush(zlib.Z_SYNC_FLUSH))
        await peer.send(deflate.flush())

    server = await nursery.start(serve, script)
    async with real(server) as way:
        exchange = await way.send(Request("POST", server.url(), body=b"{}"))
        await exchange.head()
        for number in range(3):
            next_event.release()
            assert await exchange.receive_some() == b"data: %d\n\n" % number
        assert await exchange.receive_some() == b""
        await exchange.aclose()
    nursery.cancel_scope.cancel()
