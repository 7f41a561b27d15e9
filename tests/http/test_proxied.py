from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import h11
import pytest
import trio
import trio.testing
import trustme

from mcp_stdio.config import Config, Tls
from mcp_stdio.errors import ConnectionLost, ProxyFailure, TlsFailure, Unreachable, UsageFailure
from mcp_stdio.http import Head, Request
from mcp_stdio.http.body import read_body
from mcp_stdio.http.client import Client, open_client
from mcp_stdio.http.dial import NotHere
from mcp_stdio.http.journey import Journey
from mcp_stdio.http.proxied import Proxied
from mcp_stdio.http.tls import context
from mcp_stdio.http.url import Url
from tests.http.conftest import Setenv
from tests.http.proxy import ForwardProxy, pump
from tests.http.raw_server import Peer, RawServer, answering, serve

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SECRET = "us%20er:pass%2Fword"


@pytest.fixture
async def plain(nursery: trio.Nursery) -> RawServer:
    server: RawServer = await nursery.start(serve, answering(OK))
    return server


@pytest.fixture
async def secure(nursery: trio.Nursery, server_context: ssl.SSLContext) -> RawServer:
    server: RawServer = await nursery.start(serve, answering(OK), server_context)
    return server


@pytest.fixture
async def proxy(nursery: trio.Nursery) -> AsyncIterator[ForwardProxy]:
    proxy = ForwardProxy()
    await nursery.start(proxy.serve)
    yield proxy
    nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened(
    server: RawServer | Url, tls: Tls | None = None, **settings: float
) -> AsyncIterator[Client]:
    url = server if isinstance(server, Url) else server.url()
    headers = (("Authorization", "Bearer secret"),)
    config = Config(
        url=str(url), headers=headers, tls=tls or Tls(), timeout_connect=settings.get("connect", 5)
    )
    client = open_client(config)
    try:
        with trio.fail_after(20):
            yield client
    finally:
        await client.aclose()


async def ask(client: Client, url: Url) -> Head:
    exchange = await client.send(Request("POST", url, (), b"{}"))
    try:
        head = await exchange.head()
        await read_body(exchange, 1 << 20, lambda: None)
        return head
    finally:
        await exchange.aclose()


# Which proxy is used


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_http_through_a_proxy(
    setenv: Setenv, proxy: ForwardProxy, plain: RawServer, variable: str
) -> None:
    setenv(**{variable: proxy.url})
    async with opened(plain) as client:
        for _ in range(3):
            assert (await ask(client, plain.url())).status == 200
    assert [(asked.method, asked.target) for asked in proxy.asked] == [
        ("POST", str(plain.url()))
    ] * 3
    assert plain.connections == 1
    assert proxy.asked[0].headers["host"] == plain.url().authority
    assert "proxy-authorization" not in proxy.asked[0].headers


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_https_through_a_tunnel(
    setenv: Setenv, proxy: ForwardProxy, secure: RawServer, authority_file: Path, variable: str
) -> None:
    setenv(**{variable: proxy.url})
    async with opened(secure, Tls(cacert=str(authority_file))) as client:
        for _ in range(3):
            assert (await ask(client, secure.url())).status == 200
    assert [(a.method, a.target) for a in proxy.asked] == [("CONNECT", secure.url().authority)]
    assert "authorization" not in proxy.asked[0].headers
    assert secure.connections == 1


async def test_a_proxy_for_one_scheme_leaves_the_other_alone(
    setenv: Setenv, proxy: ForwardProxy, plain: RawServer
) -> None:
    setenv(HTTPS_PROXY=proxy.url)
    async with opened(plain) as client:
        await ask(client, plain.url())
    assert proxy.asked == []


@pytest.mark.parametrize("hosts", ["127.0.0.1", "*", "example.com, 127.0.0.1"])
async def test_no_proxy_is_honoured(
    setenv: Setenv, proxy: ForwardProxy, plain: RawServer, hosts: str
) -> None:
    setenv(HTTP_PROXY=proxy.url, NO_PROXY=hosts)
    async with opened(plain) as client:
        await ask(client, plain.url())
    assert proxy.asked == []


async def test_no_proxy_for_others_changes_nothing(
    setenv: Setenv, proxy: ForwardProxy, plain: RawServer
) -> None:
    setenv(HTTP_PROXY=proxy.url, NO_PROXY="example.com,10.0.0.0/8")
    async with opened(plain) as client:
        await ask(client, plain.url())
    assert len(proxy.asked) == 1


# Credentials of the proxy


async def test_the_proxy_s_credentials_go_to_the_proxy_alone(
    setenv: Setenv, nursery: trio.Nursery, authority_file: Path, server_context: ssl.SSLContext
) -> None:
    received = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            received.append(request)
            await peer.send(OK)

    proxy = ForwardProxy(credentials="user:password")
    await nursery.start(proxy.serve)
    setenv(ALL_PROXY=proxy.url)
    for tls in (None, server_context):
        server = await nursery.start(serve, script, tls)
        async with opened(server, Tls(cacert=str(authority_file))) as client:
            assert (await ask(client, server.url())).status == 200
    assert [request.get_all("proxy-authorization") for request in received] == [[], []]
    assert [request.get_all("authorization") for request in received] == [["Bearer secret"]] * 2
    nursery.cancel_scope.cancel()


# Refusals


@pytest.mark.parametrize("given", ["", "user:wrong@"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_wrong_credentials_are_the_proxy_s_failure(
    setenv: Setenv, nursery: trio.Nursery, given: str, scheme: str
) -> None:
    proxy = ForwardProxy(credentials="user:password")
    await nursery.start(proxy.serve)
    setenv(ALL_PROXY=f"http://{given}{proxy.address}")
    url = Url.parse(f"{scheme}://example.com/mcp")
    async with opened(url) as client:
        for _ in range(2):
            with pytest.raises(ProxyFailure, match=f"`{proxy.address}` refused") as caught:
                await ask(client, url)
            assert caught.value.status == 407
            missing = "`user:password@` before the host"
            hint = "does not accept the user and password" if given else missing
            assert hint in (caught.value.hint or "")
            assert "wrong" not in str(caught.value)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [403, 502, 503, 504])
async def test_a_refused_tunnel_is_the_proxy_s_failure(
    setenv: Setenv, nursery: trio.Nursery, status: int
) -> None:
    proxy = ForwardProxy(refuses_with=status)
    await nursery.start(proxy.serve)
    setenv(HTTPS_PROXY=f"http://{SECRET}@{proxy.address}")
    url = Url.parse("https://example.com/mcp?token=secret")
    async with opened(url) as client:
        with pytest.raises(ProxyFailure, match=f"`{proxy.address}` refused") as caught:
            await ask(client, url)
    assert caught.value.status == status
    assert caught.value.hint
    assert not {"pass", "secret"} & set(str(caught.value).replace(":", " ").split())
    nursery.cancel_scope.cancel()


async def test_a_407_of_the_server_itself_is_its_answer(
    setenv: Setenv, nursery: trio.Nursery, proxy: ForwardProxy
) -> None:
    answer = b"HTTP/1.1 407 Odd\r\nContent-Length: 0\r\n\r\n"
    server = await nursery.start(serve, answering(answer))
    setenv(HTTP_PROXY=proxy.url, NO_PROXY="127.0.0.1")
    async with opened(server) as client:
        assert (await ask(client, server.url())).status == 407


async def test_a_407_through_a_tunnel_is_the_server_s_answer(
    setenv: Setenv,
    nursery: trio.Nursery,
    proxy: ForwardProxy,
    server_context: ssl.SSLContext,
    authority_file: Path,
) -> None:
    answer = b"HTTP/1.1 407 Odd\r\nContent-Length: 0\r\n\r\n"
    server = await nursery.start(serve, answering(answer), server_context)
    setenv(HTTPS_PROXY=proxy.url)
    async with opened(server, Tls(cacert=str(authority_file))) as client:
        for _ in range(2):  # the second time through the tunnel that is there
            assert (await ask(client, server.url())).status == 407
    assert len(proxy.asked) == 1


async def test_only_an_http_proxy_reads_requests() -> None:
    url = Url.parse("http://example.com/")
    for event, is_forwarded in (
        ("connection.connect_tcp.started", True),
        ("socks.connect_tcp.started", False),
    ):
        journey = Journey(url, 1, {})
        assert not journey.is_forwarded
        await journey.trace(event, {"host": "proxy", "port": 1080})
        assert (journey.proxy, journey.is_forwarded) == ("proxy:1080", is_forwarded)


# What is sent unencrypted to this machine stays on it


@pytest.mark.parametrize("kind", ["connection", "socks"])
@pytest.mark.parametrize("host", ["localhost", "x.localhost", "127.0.0.1", "[::1]"])
async def test_no_proxy_elsewhere_is_told_what_is_meant_for_this_machine(
    kind: str, host: str
) -> None:
    started = f"{kind}.connect_tcp.started"
    for proxy in "proxy.example", "10.0.0.1":
        journey = Journey(Url.parse(f"http://{host}:8080/"), 1, {})
        with pytest.raises(ProxyFailure, match="is on this machine, and the proxy") as failure:
            await journey.trace(started, {"host": proxy, "port": 3128})
        assert "NO_PROXY" in (failure.value.hint or "")
    for near in "localhost", "127.0.0.1", "::1":
        journey = Journey(Url.parse(f"http://{host}:8080/"), 1, {})
        await journey.trace(started, {"host": near, "port": 3128})
        assert journey.proxy is not None
    for elsewhere in f"https://{host}:8080/", "http://mcp.example/":
        journey = Journey(Url.parse(elsewhere), 1, {})
        await journey.trace(started, {"host": "proxy.example", "port": 3128})


async def test_such_a_proxy_is_not_even_connected_to(setenv: Setenv) -> None:
    setenv(HTTP_PROXY="http://nowhere.invalid:3128")
    url = Url.parse("http://localhost:1/")
    async with opened(url) as client:
        with pytest.raises(ProxyFailure, match=r"`nowhere\.invalid:3128` is not"):
            await ask(client, url)


async def test_past_the_proxy_a_localhost_elsewhere_is_told_nothing() -> None:
    class Connected:
        def get_extra_info(self, name: str) -> object:
            return ("192.0.2.1", 80) if name == "server_addr" else trio.socket.socket()

    for url, is_refused in (
        ("http://x.localhost/", True),
        ("https://x.localhost/", False),
        ("http://mcp.example/", False),
    ):
        journey = Journey(Url.parse(url), 1, {})
        try:
            await journey.trace("connection.connect_tcp.complete", {"return_value": Connected()})
        except NotHere:
            assert is_refused
        else:
            assert not is_refused
        journey.hang_up()


async def test_whether_a_request_was_sent(setenv: Setenv, nursery: trio.Nursery) -> None:
    is_there = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        is_there.set()
        await peer.hung_up()

    server = await nursery.start(serve, script)
    setenv(HTTP_PROXY=str(server.url("")))
    url = Url.parse("http://example.com/")
    async with opened(url) as client:
        exchange = await client.send(Request("POST", url, (), b"{}"))
        was_sent = [exchange.was_sent]
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(exchange.head)
                await is_there.wait()
                was_sent.append(exchange.was_sent)
                scope.cancel()
        await exchange.aclose()
        was_sent.append(exchange.was_sent)
    assert was_sent == [False, True, True]
    nursery.cancel_scope.cancel()


async def test_a_request_that_waits_for_its_tunnel_was_not_sent(
    setenv: Setenv, nursery: trio.Nursery
) -> None:
    proxy = ForwardProxy(is_mute=True)
    await nursery.start(proxy.serve)
    setenv(HTTPS_PROXY=proxy.url)
    url = Url.parse("https://example.com/")
    async with opened(url, connect=0.2) as client:
        exchange = await client.send(Request("POST", url, (), b"{}"))
        with pytest.raises(ProxyFailure):
            await exchange.head()
        assert not exchange.was_sent
        await exchange.aclose()
        assert not exchange.was_sent
    assert proxy.asked
    nursery.cancel_scope.cancel()


async def test_an_unreachable_server_behind_a_tunnel(setenv: Setenv, proxy: ForwardProxy) -> None:
    setenv(HTTPS_PROXY=proxy.url)
    url = Url.parse("https://nowhere.invalid/")
    async with opened(url) as client:
        with pytest.raises(ProxyFailure, match="502"):
            await ask(client, url)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_not_there(setenv: Setenv, scheme: str) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    setenv(ALL_PROXY=f"http://{SECRET}@127.0.0.1:{port}")
    url = Url.parse(f"{scheme}://example.com/")
    async with opened(url) as client:
        with pytest.raises(
            ProxyFailure, match=f"no connection to the proxy `127.0.0.1:{port}`"
        ) as caught:
            await ask(client, url)
    assert "pass" not in str(caught.value)
    assert "HTTPS_PROXY" in (caught.value.hint or "")


async def test_a_proxy_whose_name_does_not_exist(setenv: Setenv) -> None:
    setenv(ALL_PROXY="http://nowhere.invalid:3128")
    url = Url.parse("http://example.com/")
    async with opened(url) as client:
        with pytest.raises(ProxyFailure, match=r"nowhere\.invalid:3128"):
            await ask(client, url)


@pytest.mark.parametrize("says", [b"", b"SSH-2.0-x\r\n\r\n"])
async def test_a_proxy_that_is_none(setenv: Setenv, nursery: trio.Nursery, says: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(says)

    server = await nursery.start(serve, script)
    setenv(HTTPS_PROXY=str(server.url("")))
    url = Url.parse("https://example.com/")
    async with opened(url) as client:
        with pytest.raises(ProxyFailure, match="gave no connection"):
            await ask(client, url)
    nursery.cancel_scope.cancel()


async def test_a_proxy_whose_certificate_is_not_trusted(
    setenv: Setenv, nursery: trio.Nursery, server_context: ssl.SSLContext
) -> None:
    server = await nursery.start(serve, answering(OK), server_context)
    setenv(ALL_PROXY=str(server.url("")))
    url = Url.parse("https://example.com/")
    async with opened(url) as client:
        with pytest.raises(ProxyFailure, match="TLS handshake with the proxy"):
            await ask(client, url)
    nursery.cancel_scope.cancel()


async def test_a_proxy_that_does_not_answer_is_given_up(
    setenv: Setenv, nursery: trio.Nursery
) -> None:
    proxy = ForwardProxy(is_mute=True)
    await nursery.start(proxy.serve)
    setenv(HTTPS_PROXY=proxy.url)
    url = Url.parse("https://example.com/")
    async with opened(url, connect=0.2) as client:
        with pytest.raises(ProxyFailure, match=r"within 0\.2 s"):
            await ask(client, url)
    nursery.cancel_scope.cancel()


async def test_the_time_to_connect_is_no_time_to_answer(
    setenv: Setenv,
    nursery: trio.Nursery,
    proxy: ForwardProxy,
    server_context: ssl.SSLContext,
    authority_file: Path,
) -> None:
    async def script(peer: Peer) -> None:
        while await peer.request():
            await trio.sleep(0.7)
            await peer.send(OK)

    setenv(ALL_PROXY=proxy.url)
    for tls in (None, server_context):
        server = await nursery.start(serve, script, tls)
        async with opened(server, Tls(cacert=str(authority_file)), connect=0.5) as client:
            for _ in range(2):
                assert (await ask(client, server.url())).status == 200


async def test_a_handshake_that_never_ends(
    setenv: Setenv, nursery: trio.Nursery, proxy: ForwardProxy
) -> None:
    async def script(peer: Peer) -> None:
        await peer.hung_up()

    server = await nursery.start(serve, script)
    setenv(HTTPS_PROXY=proxy.url)
    url = Url.parse(f"https://127.0.0.1:{server.port}/")
    async with opened(url, connect=0.3) as client:
        with pytest.raises(TlsFailure, match=r"within 0\.3 s"):
            await ask(client, url)


async def test_a_distrusted_certificate_behind_a_tunnel(
    setenv: Setenv, nursery: trio.Nursery, proxy: ForwardProxy
) -> None:
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server_side)
    server = await nursery.start(serve, answering(OK), server_side)
    setenv(HTTPS_PROXY=proxy.url)
    async with opened(server) as client:
        with pytest.raises(TlsFailure, match="certificate"):
            await ask(client, server.url())


async def test_a_server_that_insists_on_a_client_certificate(
    setenv: Setenv,
    nursery: trio.Nursery,
    proxy: ForwardProxy,
    authority: trustme.CA,
    authority_file: Path,
) -> None:
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_side)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    server = await nursery.start(serve, answering(OK), server_side)
    setenv(HTTPS_PROXY=proxy.url)
    async with opened(server, Tls(cacert=str(authority_file))) as client:
        with pytest.raises((TlsFailure, ConnectionLost)):
            await ask(client, server.url())


# SOCKS, where the extra is installed


class SocksProxy:
    """A SOCKS5 proxy (RFC 1928) that may misbehave."""

    def __init__(self, misbehaviour: str = "") -> None:
        self.misbehaviour = misbehaviour
        self.port = 0
        self.served = 0

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._converse, [listener])
            task_status.started()

    async def _converse(self, client: trio.SocketStream) -> None:
        self.served += 1
        async with client:
            await client.receive_some()
            match self.misbehaviour:
                case "hangs up":
                    return
                case "speaks HTTP":
                    await client.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    return
                case "wants a password":
                    await client.send_all(b"\x05\xff")
                    return
                case "says nothing":
                    await client.receive_some()
                    return
            await client.send_all(b"\x05\x00")
            asked = await client.receive_some()
            if self.misbehaviour == "refuses":
                await client.send_all(b"\x05\x05\x00\x01" + bytes(6))
                return
            port = int.from_bytes(asked[-2:], "big")
            async with await trio.open_tcp_stream("127.0.0.1", port) as upstream:
                await client.send_all(b"\x05\x00\x00\x01" + bytes(6))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pump, client, upstream)
                    nursery.start_soon(pump, upstream, client)


async def test_through_a_socks_proxy(
    setenv: Setenv,
    nursery: trio.Nursery,
    plain: RawServer,
    secure: RawServer,
    authority_file: Path,
) -> None:
    pytest.importorskip("socksio")
    proxy = SocksProxy()
    await nursery.start(proxy.serve)
    setenv(ALL_PROXY=f"socks5://127.0.0.1:{proxy.port}")
    for server in (plain, secure):
        async with opened(server, Tls(cacert=str(authority_file))) as client:
            for _ in range(2):
                assert (await ask(client, server.url())).status == 200
        assert server.connections == 1
    assert proxy.served == 2
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "misbehaviour", ["hangs up", "speaks HTTP", "wants a password", "says nothing", "refuses"]
)
async def test_a_socks_proxy_that_gives_no_connection(
    setenv: Setenv, nursery: trio.Nursery, misbehaviour: str
) -> None:
    pytest.importorskip("socksio")
    proxy = SocksProxy(misbehaviour)
    await nursery.start(proxy.serve)
    setenv(ALL_PROXY=f"socks5://127.0.0.1:{proxy.port}")
    url = Url.parse("http://example.com/")
    async with opened(url, connect=0.5) as client:
        with pytest.raises(ProxyFailure, match=f"`127.0.0.1:{proxy.port}` gave no connection"):
            await ask(client, url)
    nursery.cancel_scope.cancel()


# What was sent


async def test_a_proxy_that_dies_with_the_request_leaves_the_outcome_open(
    setenv: Setenv, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    server = await nursery.start(serve, script)
    setenv(HTTP_PROXY=str(server.url("")))
    url = Url.parse("http://example.com/")
    async with opened(url) as client:
        with pytest.raises(ConnectionLost) as caught:
            await ask(client, url)
    assert not caught.value.answer_begun
    nursery.cancel_scope.cancel()


async def test_a_failure_is_not_taken_for_an_earlier_one(
    setenv: Setenv, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    server = await nursery.start(serve, script)
    setenv(HTTP_PROXY=str(server.url("")))
    url = Url.parse("http://example.com/")
    async with opened(url) as client:
        try:
            raise h11.RemoteProtocolError("earlier")
        except h11.RemoteProtocolError:
            # A caller may well be handling one failure when it meets the next.
            with pytest.raises(ConnectionLost) as caught:
                await ask(client, url)
    assert "earlier" not in str(caught.value)
    nursery.cancel_scope.cancel()


async def test_an_old_connection_serves_only_what_may_run_twice(
    setenv: Setenv, plain: RawServer, proxy: ForwardProxy, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = 1
    setenv(HTTP_PROXY=proxy.url)
    lane = Proxied(lambda: context(Tls()), timeout_connect=1000, timeout_write=None)

    async def send(*, is_replayable: bool) -> None:
        exchange = await lane.send(Request("POST", plain.url(), is_replayable=is_replayable))
        await exchange.head()
        await read_body(exchange, 10, lambda: None)
        await exchange.aclose()

    with trio.fail_after(100):
        await send(is_replayable=False)
        mock_clock.jump(3)
        await send(is_replayable=False)
        assert plain.connections == 1
        mock_clock.jump(5)
        await send(is_replayable=True)
        assert plain.connections == 1
        mock_clock.jump(5)
        await send(is_replayable=False)
        assert plain.connections == 2
        await lane.aclose()


# Settings that cannot be used


def test_socks_without_its_package_names_the_extra() -> None:
    script = """
import sys, trio
from mcp_stdio.config import Config, Tls
from mcp_stdio.errors import UsageFailure
from mcp_stdio.http import Request
from mcp_stdio.http.client import open_client
from mcp_stdio.http.url import Url

async def main():
    sys.modules["socksio"] = None
    client = open_client(Config(url="http://h/"))
    try:
        await client.send(Request("GET", Url.parse("http://h/")))
    except UsageFailure as exc:
        sys.exit(exc.hint)

trio.run(main)
"""
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "ALL_PROXY": "socks5://127.0.0.1:1080",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, timeout=60, check=False, capture_output=True
    )
    assert b"install the extra `socks`" in done.stderr


@pytest.mark.parametrize("value", ["ftp://h:1", "http://h:port", "socks4://h:1"])
async def test_a_proxy_variable_that_is_no_url(setenv: Setenv, value: str) -> None:
    setenv(ALL_PROXY=value)
    url = Url.parse("http://example.com/")
    async with opened(url) as client:
        with pytest.raises(UsageFailure, match="proxy settings"):
            await ask(client, url)
        await client.prepare(url)


async def test_no_proxy_for_a_dead_server(setenv: Setenv, proxy: ForwardProxy) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    setenv(HTTP_PROXY=proxy.url, NO_PROXY="127.0.0.1")
    url = Url.parse(f"http://127.0.0.1:{port}/")
    async with opened(url) as client:
        with pytest.raises(Unreachable) as caught:
            await ask(client, url)
    assert type(caught.value) is Unreachable
