"""What a server's metadata can have us fetch, and what it cannot (A-50 to A-53)."""

from __future__ import annotations

import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mcp_stdio.config import Config, OAuth, Tls
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    ConnectionLost,
    RelayError,
    TimedOut,
    TlsFailure,
    TooLarge,
    Unreachable,
)
from mcp_stdio.oauth.commands import Fetch, Fetched
from mcp_stdio.oauth.fetch import MAX_BODY, MAX_TIME, Fetcher
from tests.http.proxy import ForwardProxy
from tests.http.raw_server import TIMEOUT, Peer, RawServer, Received, answering, serve

PUBLIC = "93.184.216.34"
"""Resolved to, never connected to."""

LOCAL = "http://127.0.0.1:1/mcp"
REMOTE = "https://mcp.example/mcp"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Resolver(trio.abc.HostnameResolver):
    """Names and, in turn, the addresses they resolve to; the last ones stay."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked: list[str] = []

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        assert host is not None
        name = host.decode()
        self.asked.append(name)
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self.names[name]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.fixture
async def names() -> Resolver:
    """For the running test: `mcp.example` is on the internet, `localhost` is the host behind
    every other name."""
    resolver = Resolver(mcp_example=[[PUBLIC]], localhost=[["127.0.0.1"]])
    trio.socket.set_custom_hostname_resolver(resolver)
    return resolver


Fetching = Callable[..., Fetcher]


@pytest.fixture(params=["direct", "past the proxy"])
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both lanes, the other one where `NO_PROXY` leaves it without a proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    if request.param != "direct":
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "*")
    found: str = request.param
    return found


@pytest.fixture
async def fetching(lane: str, authority_file: Path) -> AsyncIterator[Fetching]:
    opened: list[Fetcher] = []

    def make(url: str = LOCAL, **options: Any) -> Fetcher:
        config = Config(
            url=url,
            headers=(("Authorization", "Bearer user-s3cr3t"), ("X-Mine", "user-s3cr3t")),
            tls=Tls(cacert=str(authority_file)),
            timeout_connect=5,
            oauth=OAuth(**options),
        )
        opened.append(Fetcher(config))
        return opened[-1]

    yield make
    for fetcher in opened:
        await fetcher.aclose()


async def get(fetcher: Fetcher, url: object, *headers: tuple[str, str]) -> Fetched:
    with trio.fail_after(2 * MAX_TIME):
        return await fetcher.fetch(Fetch("GET", str(url), headers, purpose="read it"))


async def post(fetcher: Fetcher, url: object, body: bytes = b"a=b") -> Fetched:
    headers = (("Authorization", "Basic client-s3cr3t"),)
    with trio.fail_after(2 * MAX_TIME):
        return await fetcher.fetch(Fetch("POST", str(url), headers, body, purpose="renew it"))


async def failing(fetcher: Fetcher, url: object, kind: type[RelayError]) -> RelayError:
    with pytest.raises(kind) as failure:
        await get(fetcher, url)
    assert str(failure.value).startswith("could not read it: ")
    assert failure.value.hint
    return failure.value


def recording(received: list[Received], *answers: bytes) -> Callable[[Peer], Any]:
    """Give the answers in turn, the last one for ever."""
    left = list(answers)

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            received.append(request)
            await peer.send(left.pop(0) if len(left) > 1 else left[0])

    return script


def redirect(target: object, status: int = 302) -> bytes:
    return (
        f"HTTP/1.1 {status} Go\r\nLocation: {target}\r\nContent-Length: 0\r\n"
        "Set-Cookie: a=b; Path=/\r\n\r\n"
    ).encode()


@pytest.fixture
async def silent(nursery: trio.Nursery) -> AsyncIterator[Silent]:
    """A server on loopback that nobody may say anything to."""
    silent = Silent()
    silent.server = await nursery.start(serve, silent.script)
    yield silent
    assert silent.heard == 0
    nursery.cancel_scope.cancel()


class Silent:
    server: RawServer
    heard = 0

    async def script(self, peer: Peer) -> None:
        self.heard += await peer.skip()

    def at(self, host: str, scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.server.port}/.well-known/x"


# What is fetched


async def test_a_document(fetching: Fetching, nursery: trio.Nursery) -> None:
    received: list[Received] = []
    server = await nursery.start(serve, recording(received, OK))
    fetched = await get(fetching(), server.url("/doc?a=b"), ("Accept", "application/json"))
    assert (fetched.status, fetched.body) == (200, b"{}")
    assert fetched.headers["content-type"] == "application/json"
    assert (received[0].method, received[0].target) == ("GET", "/doc?a=b")
    nursery.cancel_scope.cancel()


async def test_nothing_of_the_users_is_sent(fetching: Fetching, nursery: trio.Nursery) -> None:
    received: list[Received] = []
    cookie = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: session=s3cr3t; Path=/\r\n\r\n")
    server = await nursery.start(serve, recording(received, cookie))
    fetcher = fetching()
    for _ in range(2):
        await get(fetcher, server.url())
    await post(fetcher, server.url())
    assert [request.method for request in received] == ["GET", "GET", "POST"]
    for request in received:
        assert "user-s3cr3t" not in str(request)
        assert request.get_all("cookie") == []
    assert received[2].get_all("authorization") == ["Basic client-s3cr3t"]
    assert received[2].body == b"a=b"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [201, 400, 401, 404, 429, 500, 503])
async def test_any_status_is_an_answer(
    fetching: Fetching, nursery: trio.Nursery, status: int
) -> None:
    said = f"HTTP/1.1 {status} X\r\nContent-Length: 4\r\n\r\noops".encode()
    server = await nursery.start(serve, answering(said))
    fetcher = fetching()
    for fetched in (await get(fetcher, server.url()), await post(fetcher, server.url())):
        assert (fetched.status, fetched.body) == (status, b"oops")
    nursery.cancel_scope.cancel()


async def test_over_tls_as_the_settings_have_it(
    fetching: Fetching, nursery: trio.Nursery, server_context: ssl.SSLContext
) -> None:
    server = await nursery.start(serve, answering(OK), server_context)
    assert (await get(fetching(), server.url())).body == b"{}"
    nursery.cancel_scope.cancel()


async def test_a_certificate_for_another_name(
    fetching: Fetching, nursery: trio.Nursery, server_context: ssl.SSLContext, names: Resolver
) -> None:
    server = await nursery.start(serve, answering(OK), server_context)
    names.names["as.example"] = [["127.0.0.1"]]
    await failing(fetching(), f"https://as.example:{server.port}/", TlsFailure)
    nursery.cancel_scope.cancel()


# What is never fetched


@pytest.mark.parametrize(
    "url",
    [
        "http://as.example/token",
        "http://127.0.0.1:{port}/token",
        "http://localhost:{port}/token",
        "http://[::1]:{port}/token",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "data:application/json,{{}}",
        "ftp://as.example/",
        "https://user:pass@as.example/",
        "https://as.example/#fragment",
        "https://as.example/a\r\nHost: b",
        "//as.example/",
        "",
    ],
)
async def test_urls_that_are_not_fetched(
    fetching: Fetching, names: Resolver, silent: Silent, url: str
) -> None:
    await failing(fetching(REMOTE), url.format(port=silent.server.port), AuthorizationFailed)
    assert silent.server.connections == 0


async def test_plain_http_stays_on_loopback(fetching: Fetching, names: Resolver) -> None:
    await failing(fetching(LOCAL), "http://as.example/token", AuthorizationFailed)
    await failing(fetching(LOCAL, allows_private=True), "http://10.0.0.1/", AuthorizationFailed)


# Addresses


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1.2.3", "10.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "[::1]",
     "[::]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "[::ffff:a00:1]", "localhost",
     "x.localhost"],
)  # fmt: skip
async def test_addresses_that_are_not_public_are_refused(
    fetching: Fetching, names: Resolver, silent: Silent, host: str
) -> None:
    failure = await failing(fetching(REMOTE), silent.at(host), AuthorizationFailed)
    assert "--oauth-allow-private" in str(failure.hint)
    assert silent.server.connections == 0


@pytest.mark.parametrize("host", ["2130706433", "0x7f.0.0.1", "127.1", "0177.0.0.1"])
async def test_odd_spellings_of_an_address_are_no_way_around(
    fetching: Fetching, silent: Silent, host: str
) -> None:
    await failing(fetching("https://93.184.216.34/mcp"), silent.at(host), AuthorizationFailed)
    assert silent.server.connections == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
async def test_a_name_that_leads_to_this_machine_is_refused(
    fetching: Fetching, names: Resolver, silent: Silent, address: str
) -> None:
    names.names["as.example"] = [[address]]
    # The other lane sees the address once it is connected to, and here only one answers.
    with pytest.raises((AuthorizationFailed, Unreachable)):
        await get(fetching(REMOTE), silent.at("as.example"))


async def test_on_the_direct_lane_such_an_address_is_not_even_connected_to(
    fetching: Fetching, names: Resolver, silent: Silent, lane: str
) -> None:
    names.names["as.example"] = [["127.0.0.1"]]
    failure = await failing(fetching(REMOTE), silent.at("as.example"), AuthorizationFailed)
    assert "`as.example` is at the address `127.0.0.1`" in str(failure)
    assert "(loopback)" in str(failure)
    assert silent.server.connections == (0 if lane == "direct" else 1)


async def test_a_server_on_loopback_may_name_loopback(
    fetching: Fetching, nursery: trio.Nursery, names: Resolver
) -> None:
    server = await nursery.start(serve, answering(OK))
    for url in (LOCAL, "http://localhost:1/mcp"):
        assert (await get(fetching(url), server.url())).status == 200
        local = f"http://localhost:{server.port}/"
        assert (await get(fetching(url), local)).status == 200
    nursery.cancel_scope.cancel()


async def test_a_server_in_a_private_network_may_not_name_this_machine(
    fetching: Fetching, names: Resolver, silent: Silent
) -> None:
    names.names["mcp.example"] = [["10.1.2.3"]]
    await failing(fetching(REMOTE), silent.at("127.0.0.1"), AuthorizationFailed)
    await failing(fetching(REMOTE), silent.at("169.254.169.254"), AuthorizationFailed)


async def test_the_user_may_allow_it(
    fetching: Fetching,
    nursery: trio.Nursery,
    server_context: ssl.SSLContext,
    names: Resolver,
) -> None:
    server = await nursery.start(serve, answering(OK), server_context)
    fetcher = fetching(REMOTE, allows_private=True)
    assert (await get(fetcher, f"https://localhost:{server.port}/")).status == 200
    assert names.asked == ["localhost"]
    for address in ("0.0.0.0", "224.0.0.1"):
        await failing(fetcher, f"https://{address}:{server.port}/", AuthorizationFailed)
    nursery.cancel_scope.cancel()


async def test_a_name_that_resolves_anew_between_check_and_connect_gains_nothing(
    fetching: Fetching, nursery: trio.Nursery, names: Resolver, silent: Silent, lane: str
) -> None:
    """DNS rebinding: the address that was judged is the one that is connected to."""
    received: list[Received] = []
    server = await nursery.start(serve, recording(received, OK))
    names.names["localhost"] = [["127.0.0.1"], ["169.254.169.254"]]
    fetcher = fetching(f"http://127.0.0.1:{server.port}/mcp")
    assert (await get(fetcher, f"http://localhost:{server.port}/")).status == 200
    assert names.asked == ["localhost"]
    # And the next time, judged anew:
    await fetcher.aclose()
    names.names["as.example"] = [["127.0.0.1"], [PUBLIC]]
    await failing(fetching(REMOTE), silent.at("as.example"), AuthorizationFailed)
    assert names.asked.count("as.example") == 1
    nursery.cancel_scope.cancel()


async def test_the_server_cannot_change_what_it_may_name(
    fetching: Fetching, names: Resolver, silent: Silent
) -> None:
    names.names["mcp.example"] = [[PUBLIC], ["127.0.0.1"]]
    fetcher = fetching(REMOTE)
    for _ in range(2):
        await failing(fetcher, silent.at("localhost"), AuthorizationFailed)
    assert names.asked.count("mcp.example") == 1


@pytest.mark.parametrize("lane", ["direct"], indirect=True)  # httpx chooses for itself
async def test_of_several_addresses_only_acceptable_ones_are_connected_to(
    fetching: Fetching, nursery: trio.Nursery, names: Resolver
) -> None:
    server = await nursery.start(serve, answering(OK))
    names.names["localhost"] = [["169.254.169.254", "127.0.0.9", "127.0.0.1", "224.0.0.1"]]
    fetched = await get(fetching(LOCAL), f"http://localhost:{server.port}/")
    assert fetched.status == 200
    nursery.cancel_scope.cancel()


async def test_through_a_proxy_what_a_url_says_is_judged(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, names: Resolver
) -> None:
    proxy = ForwardProxy(refuses_with=403)
    await nursery.start(proxy.serve)
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    fetcher = Fetcher(Config(url=REMOTE, oauth=OAuth()))
    for host in ("127.0.0.1", "10.0.0.1", "localhost"):
        await failing(fetcher, f"https://{host}/", AuthorizationFailed)
    assert not proxy.asked
    await failing(fetcher, "https://as.example/", Unreachable)
    assert [asked.target for asked in proxy.asked] == ["as.example:443"]
    await fetcher.aclose()
    nursery.cancel_scope.cancel()


async def test_a_server_whose_name_did_not_resolve_yet_is_asked_again(
    fetching: Fetching, nursery: trio.Nursery, server_context: ssl.SSLContext, names: Resolver
) -> None:
    server = await nursery.start(serve, answering(OK), server_context)
    fetcher = fetching("https://here.localhost/mcp")
    await failing(fetcher, server.url(), AuthorizationFailed)
    names.names["here.localhost"] = [["127.0.0.1"]]
    assert (await get(fetcher, server.url())).status == 200
    nursery.cancel_scope.cancel()


async def test_a_server_by_name_cannot_lend_itself_this_machines_address(
    fetching: Fetching, nursery: trio.Nursery, server_context: ssl.SSLContext, names: Resolver
) -> None:
    server = await nursery.start(serve, answering(OK), server_context)
    names.names["local.example"] = [["127.0.0.1"]]
    await failing(fetching("https://local.example/mcp"), server.url(), AuthorizationFailed)
    nursery.cancel_scope.cancel()


# Redirects


@pytest.mark.parametrize("lane", ["direct"], indirect=True)  # httpx would wait for an answer there
async def test_a_redirect_to_a_name_that_leads_where_nothing_may_go(
    fetching: Fetching, nursery: trio.Nursery, names: Resolver
) -> None:
    names.names["metadata.example"] = [["169.254.169.254"]]
    server = await nursery.start(serve, answering(redirect("https://metadata.example/")))
    await failing(fetching(), server.url(), AuthorizationFailed)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_get_follows_redirects_without_credentials_to_elsewhere(
    fetching: Fetching, nursery: trio.Nursery, status: int
) -> None:
    there: list[Received] = []
    here: list[Received] = []
    other = await nursery.start(serve, recording(there, OK))
    target = other.url("/there?x=y")
    server = await nursery.start(
        serve, recording(here, redirect("/next", status), redirect(target, status))
    )
    headers = (("Accept", "a/b"), ("authorization", "Bearer s3cr3t"))
    assert (await get(fetching(), server.url(), *headers)).body == b"{}"
    assert [request.target for request in here] == ["/mcp", "/next"]
    assert here[1].get_all("authorization") == ["Bearer s3cr3t"]
    assert there[0].target == "/there?x=y"
    assert there[0].get_all("accept") == ["a/b"]
    assert there[0].get_all("authorization") == []
    assert all(request.get_all("cookie") == [] for request in (*here, *there))
    nursery.cancel_scope.cancel()


async def test_three_redirects_and_no_more(fetching: Fetching, nursery: trio.Nursery) -> None:
    received: list[Received] = []
    server = await nursery.start(serve, recording(received, *[redirect("/x")] * 3, OK))
    fetcher = fetching()
    assert (await get(fetcher, server.url())).status == 200
    assert len(received) == 4
    circle = await nursery.start(serve, recording(received, redirect("/x")))
    await failing(fetcher, circle.url(), BadAnswer)
    assert len(received) == 8
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_post_follows_none(
    fetching: Fetching, nursery: trio.Nursery, silent: Silent, status: int
) -> None:
    server = await nursery.start(serve, answering(redirect(silent.server.url(), status)))
    fetched = await post(fetching(), server.url())
    assert fetched.status == status
    assert silent.server.connections == 0


@pytest.mark.parametrize(
    "target",
    [
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/",
        "http://as.example/",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://0.0.0.0/",
        "",
    ],
)
async def test_a_redirect_to_where_nothing_may_go(
    fetching: Fetching, nursery: trio.Nursery, names: Resolver, target: str
) -> None:
    server = await nursery.start(serve, answering(redirect(target)))
    kind = BadAnswer if target in ("", "file:///etc/passwd", "javascript:alert(1)") else None
    await failing(fetching(), server.url(), kind or AuthorizationFailed)
    nursery.cancel_scope.cancel()


# Limits


def body(*chunks: bytes, **headers: str) -> list[bytes]:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return [f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode(), *chunks]


@pytest.mark.parametrize("is_announced", [True, False])
async def test_fifty_megabytes_are_not_read(
    fetching: Fetching, nursery: trio.Nursery, is_announced: bool
) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        length = {"Content_Length": str(50 << 20)} if is_announced else {}
        await peer.send(*body(**length))
        for _ in range(50):
            await peer.send(b"x" * (1 << 20))
            sent += 1

    server = await nursery.start(serve, script)
    failure = await failing(fetching(), server.url(), TooLarge)
    assert f"{MAX_BODY} bytes" in str(failure)
    assert sent < 25
    nursery.cancel_scope.cancel()


async def test_the_largest_document_that_is_read(fetching: Fetching, nursery: trio.Nursery) -> None:
    whole = b"x" * MAX_BODY
    server = await nursery.start(serve, answering(*body(whole, Content_Length=str(len(whole)))))
    assert (await get(fetching(), server.url())).body == whole
    nursery.cancel_scope.cancel()


async def test_a_compressed_document_is_read_and_a_bomb_is_not(
    fetching: Fetching, nursery: trio.Nursery
) -> None:
    for plain in (b'{"issuer": "x"}', b"\0" * (50 << 20)):
        packed = zlib.compress(plain)
        pieces = body(packed, Content_Encoding="deflate", Content_Length=str(len(packed)))
        server = await nursery.start(serve, answering(*pieces))
        if len(plain) < MAX_BODY:
            assert (await get(fetching(), server.url())).body == plain
        else:
            await failing(fetching(), server.url(), TooLarge)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("where", ["head", "body", "nothing"])
async def test_a_slow_drip_ends(
    fetching: Fetching,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    where: str,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if where == "body":
            await peer.send(*body(Content_Length="1000"))
        elif where == "head":
            await peer.send(b"HTTP/1.1 200 OK\r\nX: ")
        else:
            await trio.sleep_forever()
        while True:
            await peer.send(b"x", pause=1)

    server = await nursery.start(serve, script)
    started = trio.current_time()
    await failing(fetching(), server.url(), TimedOut)
    assert trio.current_time() - started == pytest.approx(MAX_TIME, abs=1)
    nursery.cancel_scope.cancel()


async def test_the_time_is_for_all_redirects_together(
    fetching: Fetching, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def script(peer: Peer) -> None:
        while await peer.request():
            await trio.sleep(MAX_TIME * 0.4)
            await peer.send(redirect("/x"))

    server = await nursery.start(serve, script)
    await failing(fetching(), server.url(), TimedOut)
    nursery.cancel_scope.cancel()


# Failures of the network stay what they are, so that a grant survives them


async def test_nobody_there(fetching: Fetching, names: Resolver) -> None:
    await failing(fetching(LOCAL), "http://127.0.0.1:1/", Unreachable)
    await failing(fetching(LOCAL), "https://nowhere.example/", Unreachable)


@pytest.mark.parametrize(
    "said, kind",
    [
        (b"", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", BadAnswer),
    ],
)
async def test_an_answer_that_is_none(
    fetching: Fetching, nursery: trio.Nursery, said: bytes, kind: type[RelayError]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(said)

    server = await nursery.start(serve, script)
    with pytest.raises(kind, match=r"^could not read it: "):
        await get(fetching(), server.url())
    nursery.cancel_scope.cancel()


async def test_it_can_be_cancelled(fetching: Fetching, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.hung_up()

    server = await nursery.start(serve, script)
    with trio.move_on_after(0.1) as scope:
        await fetching().fetch(Fetch("GET", str(server.url()), purpose="read it"))
    assert scope.cancelled_caught
    with trio.fail_after(TIMEOUT):
        while server.open_connections:  # noqa: ASYNC110 - the kernel says when
            await trio.sleep(0.01)
    nursery.cancel_scope.cancel()
