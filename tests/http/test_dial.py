"""Connections that do not come about: each names its layer, within the time, with nothing sent."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from mcp_stdio.config import Tls
from mcp_stdio.errors import TlsFailure, Unreachable
from mcp_stdio.http import Request
from mcp_stdio.http.dial import NoAcceptableAddress, NotHere
from mcp_stdio.http.direct import Direct
from mcp_stdio.http.tls import context
from mcp_stdio.http.url import Url
from tests.http.fakes import NoSockets
from tests.http.fetching import fetch, get
from tests.http.raw_server import TIMEOUT, Peer, answering, serve

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Addresses = list[tuple[Any, ...]]


@pytest.fixture
async def lane() -> AsyncIterator[Direct]:
    lane = Direct(lambda: context(Tls(insecure=True)), timeout_connect=0.3, timeout_write=1)
    yield lane
    await lane.aclose()


class Resolver(trio.abc.HostnameResolver):
    """Name resolution by a function of the test."""

    def __init__(self, resolve: Callable[[], Awaitable[Addresses]]) -> None:
        self._resolve = resolve

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        return await self._resolve()

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


def resolving(resolve: Callable[[], Awaitable[Addresses]]) -> None:
    """For the running test: trio keeps the resolver for one `trio.run`."""
    trio.socket.set_custom_hostname_resolver(Resolver(resolve))


async def failing(lane: Direct, url: str) -> Unreachable:
    with trio.fail_after(TIMEOUT), pytest.raises(Unreachable) as failure:
        await lane.send(Request("POST", Url.parse(url), body=b"{}"))
    assert failure.value.hint
    return failure.value


async def test_a_name_that_does_not_resolve(lane: Direct) -> None:
    async def resolve() -> Addresses:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    resolving(resolve)
    failure = await failing(lane, "http://mcp.example/")
    assert "`mcp.example` cannot be resolved: Name or service not known" in str(failure)


async def test_a_name_for_whose_look_up_there_is_no_thread(lane: Direct) -> None:
    async def resolve() -> Addresses:
        raise RuntimeError("can't start new thread")  # as `threading` has it

    resolving(resolve)
    failure = await failing(lane, "http://mcp.example/")
    assert "`mcp.example` cannot be resolved: can't start new thread" in str(failure)


async def test_too_many_open_files_where_addresses_are_judged_first() -> None:  # as for OAuth
    trio.socket.set_custom_socket_factory(NoSockets())
    lane = Direct(
        lambda: context(Tls(insecure=True)),
        timeout_connect=1,
        timeout_write=1,
        accepts=lambda address: True,
    )
    failure = await failing(lane, "http://127.0.0.1:9/")
    assert "Too many open files" in str(failure)
    assert failure.hint == "too many files are open on this machine"
    await lane.aclose()


async def test_a_name_server_that_does_not_answer(lane: Direct) -> None:
    async def resolve() -> Addresses:
        await trio.sleep_forever()
        raise AssertionError

    resolving(resolve)
    assert "within 0.3 s" in str(await failing(lane, "http://mcp.example/"))


async def test_a_refused_connection(lane: Direct) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    failure = await failing(lane, f"http://127.0.0.1:{port}/")
    assert f"refused the connection on port {port}" in str(failure)


async def test_the_next_address_is_tried(lane: Direct, nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, answering(OK))

    async def resolve() -> Addresses:
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*stream, ("127.0.0.1", 1)), (*stream, ("127.0.0.1", server.port))]

    resolving(resolve)
    server.host = "mcp.example"
    assert (await fetch(lane, get(server))).body == b"ok"


async def test_a_refusal_tells_more_than_an_unreachable_network(lane: Direct) -> None:
    async def resolve() -> Addresses:
        # A broadcast address cannot be connected to, whatever the network.
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*stream, ("127.0.0.1", 1)), (*stream, ("255.255.255.255", 1))]

    resolving(resolve)
    assert "refused" in str(await failing(lane, "http://mcp.example:1/"))


# What is sent unencrypted to this machine stays on it (RFC 6761 6.3)


@pytest.mark.parametrize("host", ["localhost", "x.localhost"])
async def test_a_localhost_elsewhere_is_not_connected_to(
    lane: Direct, nursery: trio.Nursery, host: str
) -> None:
    """Whoever answers in place of the name server gets no token that is sent without TLS."""
    server = await nursery.start(serve, answering(OK))
    stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    found = [(*stream, ("255.255.255.255", 1))]

    async def resolve() -> Addresses:
        return found

    resolving(resolve)
    failure = await failing(lane, f"http://{host}:1/")
    assert isinstance(failure, NotHere)
    assert "not on this machine" in str(failure)
    found.append((*stream, ("127.0.0.1", server.port)))
    server.host = host
    assert (await fetch(lane, get(server))).body == b"ok"
    assert server.connections == 1


async def test_with_tls_a_certificate_proves_who_is_there(lane: Direct) -> None:
    async def resolve() -> Addresses:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("255.255.255.255", 1))]

    resolving(resolve)
    assert not isinstance(await failing(lane, "https://x.localhost:1/"), NotHere)


# Where addresses are judged, they are tried here and not in trio


def judging(accepts: Callable[[str], bool]) -> Direct:
    return Direct(lambda: context(Tls()), timeout_connect=2, timeout_write=1, accepts=accepts)


async def test_none_but_acceptable_addresses_are_tried(nursery: trio.Nursery) -> None:
    server = await nursery.start(serve, answering(OK))
    judged: list[str] = []

    def accepts(address: str) -> bool:
        judged.append(address)
        return address in ("127.0.0.1", "127.0.0.3")

    async def resolve() -> Addresses:
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
        return [(*stream, (host, server.port)) for host in hosts]

    resolving(resolve)
    server.host = "mcp.example"
    lane = judging(accepts)
    assert (await fetch(lane, get(server))).body == b"ok"
    assert judged == ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
    await lane.aclose()
    strict = judging(lambda address: False)
    failure = await failing(strict, "http://mcp.example/")
    assert isinstance(failure, NoAcceptableAddress)
    assert failure.address == "127.0.0.2"


async def test_where_no_acceptable_address_answers() -> None:
    async def resolve() -> Addresses:
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*stream, ("127.0.0.1", 1)), (*stream, ("127.0.0.2", 1))]

    resolving(resolve)
    failure = await failing(judging(lambda address: True), "http://mcp.example:1/")
    assert "refused the connection on port 1" in str(failure)


@pytest.mark.skipif(sys.platform != "linux", reason="relies on how Linux treats a full backlog")
async def test_an_acceptable_address_that_is_silent_holds_up_no_other(
    nursery: trio.Nursery,
) -> None:
    server = await nursery.start(serve, answering(OK))
    fillers = []
    with socket.socket() as hole:
        hole.bind(("127.0.0.2", server.port))
        hole.listen(0)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
            fillers.append(filler)

        async def resolve() -> Addresses:
            stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*stream, (host, server.port)) for host in ("127.0.0.2", "127.0.0.1")]

        resolving(resolve)
        server.host = "mcp.example"
        lane = judging(lambda address: True)
        assert (await fetch(lane, get(server))).body == b"ok"
        await lane.aclose()
    for filler in fillers:
        filler.close()


@pytest.mark.skipif(sys.platform != "linux", reason="relies on how Linux treats a full backlog")
async def test_a_host_that_swallows_packets(lane: Direct) -> None:
    fillers = []
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
            fillers.append(filler)
        failure = await failing(lane, f"http://127.0.0.1:{hole.getsockname()[1]}/")
        assert "no connection" in str(failure)
        assert "within 0.3 s" in str(failure)
    for filler in fillers:
        filler.close()


async def test_a_server_that_never_shakes_hands(lane: Direct, nursery: trio.Nursery) -> None:
    seen = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.hung_up()
        seen.set()

    server = await nursery.start(serve, script)
    failure = await failing(lane, f"https://127.0.0.1:{server.port}/")
    assert isinstance(failure, TlsFailure)
    assert "TLS handshake" in str(failure)
    with trio.fail_after(TIMEOUT):
        await seen.wait()


async def test_a_cancelled_connect_leaves_nothing_open(lane: Direct, nursery: trio.Nursery) -> None:
    seen = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.hung_up()
        seen.set()

    server = await nursery.start(serve, script)
    with trio.move_on_after(0.1):
        await lane.send(Request("GET", Url.parse(f"https://127.0.0.1:{server.port}/")))
    with trio.fail_after(TIMEOUT):
        await seen.wait()


# A request that comes while a connection is being prepared


async def test_a_request_waits_for_the_connection_being_prepared(
    lane: Direct, nursery: trio.Nursery
) -> None:
    server = await nursery.start(serve, answering(OK))
    server.host = "mcp.example"
    resolved = 0
    go_on = trio.Event()

    async def resolve() -> Addresses:
        nonlocal resolved
        resolved += 1
        await go_on.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]

    resolving(resolve)
    async with trio.open_nursery() as both:
        both.start_soon(lane.prepare, server.url())
        await trio.testing.wait_all_tasks_blocked()
        both.start_soon(fetch, lane, get(server))
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert (resolved, server.connections) == (1, 1)


async def test_preparing_fails_silently_and_the_request_that_waited_is_told(lane: Direct) -> None:
    resolved = 0
    go_on = trio.Event()

    async def resolve() -> Addresses:
        nonlocal resolved
        resolved += 1
        await go_on.wait()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    resolving(resolve)
    url = "http://mcp.example/"
    async with trio.open_nursery() as both:
        both.start_soon(lane.prepare, Url.parse(url))
        await trio.testing.wait_all_tasks_blocked()
        both.start_soon(failing, lane, url)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert resolved == 1
    await failing(lane, url)
    assert resolved == 2
