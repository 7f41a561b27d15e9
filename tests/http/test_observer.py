"""What a lane tells its observer of a connection, in which order."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from mcp_stdio.config import Config, Tls
from mcp_stdio.http import Lane
from mcp_stdio.http.client import open_client
from mcp_stdio.http.observer import Secured, listen_to_resolver
from mcp_stdio.http.url import Url
from tests.http.conftest import Setenv
from tests.http.fetching import fetch, get
from tests.http.proxy import ForwardProxy
from tests.http.raw_server import RawServer, answering, serve
from tests.http.test_proxied import SocksProxy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Notes:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.facts: list[Secured] = []
        self.lanes: list[Lane] = []

    def connecting(self, proxy: str | None) -> None:
        self.told.append(f"connecting by {proxy}")

    def resolved(self, host: str, addresses: Sequence[str]) -> None:
        assert "127.0.0.1" in addresses
        self.told.append(f"resolved {host}")

    def connected(self, address: str) -> None:
        self.told.append(f"connected to {address}")

    def tunnelled(self) -> None:
        self.told.append("tunnelled")

    def secured(self, secured: Secured) -> None:
        self.facts.append(secured)
        self.told.append("secured")

    def around(self, lane: Lane) -> Lane:
        self.lanes.append(lane)
        return lane


pytestmark = pytest.mark.usefixtures("setenv")  # no proxy but those of a test


@pytest.fixture
async def server(nursery: trio.Nursery) -> RawServer:
    server: RawServer = await nursery.start(serve, answering(OK))
    return server


@pytest.fixture
async def secure(nursery: trio.Nursery, server_context: ssl.SSLContext) -> RawServer:
    server: RawServer = await nursery.start(serve, answering(OK), server_context)
    return server


@pytest.fixture
async def proxy(nursery: trio.Nursery) -> ForwardProxy:
    proxy = ForwardProxy()
    await nursery.start(proxy.serve)
    return proxy


async def observed(server: RawServer, tls: Tls | None = None, host: str = "localhost") -> Notes:
    """What is told while two requests go to a server, which take one connection."""
    notes = Notes()
    listen_to_resolver(notes)
    url = Url.parse(str(server.url()).replace("127.0.0.1", host))
    client = open_client(Config(url=str(url), tls=tls or Tls()), observer=notes)
    try:
        for _ in range(2):
            answer = await fetch(client, get(server)._replace(url=url))
            assert answer.body == b"{}"
    finally:
        await client.aclose()
    assert len(notes.lanes) == 1
    return notes


async def test_the_direct_lane(server: RawServer) -> None:
    notes = await observed(server)
    assert notes.told == ["resolved localhost", "connected to 127.0.0.1"]


async def test_an_address_is_not_resolved(server: RawServer) -> None:
    assert (await observed(server, host="127.0.0.1")).told == ["connected to 127.0.0.1"]


async def test_a_connection_made_beforehand(server: RawServer) -> None:
    notes = Notes()
    client = open_client(Config(url=str(server.url())), observer=notes)
    await client.prepare(server.url())
    assert notes.told == ["connected to 127.0.0.1"]
    await client.aclose()


async def test_tls_on_the_direct_lane(secure: RawServer, authority_file: Path) -> None:
    notes = await observed(secure, Tls(cacert=str(authority_file)))
    assert notes.told == ["resolved localhost", "connected to 127.0.0.1", "secured"]
    check(notes.facts)


def check(facts: list[Secured]) -> None:
    (found,) = facts
    assert found.version.startswith("TLSv1.")
    assert found.cipher
    certificate = found.certificate
    assert certificate is not None
    assert certificate.subject == "localhost"
    assert certificate.names == ("localhost", "127.0.0.1")
    assert certificate.issuer.startswith("trustme ")
    assert certificate.expires is not None
    assert certificate.expires > time.time()


async def test_of_a_certificate_that_nobody_has_checked_nothing_is_told(secure: RawServer) -> None:
    (found,) = (await observed(secure, Tls(insecure=True))).facts
    assert found.certificate is None
    assert found.version.startswith("TLSv1.")


async def test_the_lane_for_proxies_without_one(server: RawServer, setenv: Setenv) -> None:
    setenv(HTTP_PROXY="http://no-such-proxy.invalid:1", NO_PROXY="localhost")
    assert (await observed(server)).told == [
        "connecting by None",
        "resolved localhost",
        "connected to 127.0.0.1",
    ]


async def test_tls_on_the_lane_for_proxies_without_one(
    secure: RawServer, setenv: Setenv, authority_file: Path
) -> None:
    setenv(HTTP_PROXY="http://no-such-proxy.invalid:1")
    notes = await observed(secure, Tls(cacert=str(authority_file)))
    assert notes.told[1:] == ["resolved localhost", "connected to 127.0.0.1", "secured"]
    check(notes.facts)


async def test_http_by_a_proxy(server: RawServer, setenv: Setenv, proxy: ForwardProxy) -> None:
    setenv(HTTP_PROXY=f"http://localhost:{proxy.port}")
    assert (await observed(server, host="127.0.0.1")).told == [
        f"connecting by localhost:{proxy.port}",
        "resolved localhost",
        "connected to 127.0.0.1",
    ]


async def test_https_by_a_proxy(
    secure: RawServer, setenv: Setenv, proxy: ForwardProxy, authority_file: Path
) -> None:
    setenv(HTTPS_PROXY=proxy.url)
    notes = await observed(secure, Tls(cacert=str(authority_file)), "127.0.0.1")
    assert notes.told == [
        f"connecting by {proxy.address}",
        "connected to 127.0.0.1",
        "tunnelled",
        "secured",
    ]
    check(notes.facts)


async def test_by_a_socks_proxy(server: RawServer, setenv: Setenv, nursery: trio.Nursery) -> None:
    pytest.importorskip("socksio")
    proxy = SocksProxy()
    await nursery.start(proxy.serve)
    setenv(ALL_PROXY=f"socks5://127.0.0.1:{proxy.port}")
    notes = await observed(server, host="127.0.0.1")
    assert notes.told == [
        f"connecting by 127.0.0.1:{proxy.port}",
        "connected to 127.0.0.1",
        "tunnelled",
    ]
