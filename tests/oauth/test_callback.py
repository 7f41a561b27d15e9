"""The loopback listener: what it takes, what it turns away, and that nobody keeps others out."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from mcp_stdio.errors import PortTaken
from mcp_stdio.http.url import Url
from mcp_stdio.oauth.callback import (
    MAX_CONNECTIONS,
    MAX_HEAD,
    NOT_SIGNED_IN,
    OUTCOME,
    PATIENCE,
    SIGNED_IN,
    Callback,
    listen,
)

STATE = "st4te-of-this-sign-in"
LIMIT = 20
GOOD = f"/callback?code=c0de%2B1&state={STATE}"


@pytest.fixture
async def callback() -> AsyncIterator[Callback]:
    async with await listen() as callback:
        yield callback


@pytest.fixture
async def waiting(callback: Callback, nursery: trio.Nursery) -> Waiting:
    """The listener while it is waited on."""
    waiting = Waiting(callback)
    nursery.start_soon(waiting.run)
    return waiting


class Waiting:
    def __init__(self, callback: Callback) -> None:
        self._callback = callback
        self.url = Url.parse(callback.redirect_uri)
        self.found: dict[str, str] | None = None
        self.is_over = trio.Event()
        self.outcome = SIGNED_IN

    async def run(self) -> None:
        self.found = dict(await self._callback.redirected(STATE))
        await self._callback.tell(self.outcome)
        self.is_over.set()

    async def asked(self, raw: bytes, host: str = "127.0.0.1") -> bytes:
        """Everything that is answered to these bytes."""
        with trio.fail_after(LIMIT):
            stream = await trio.open_tcp_stream(host, self.url.port)
            answer = b""
            try:
                await stream.send_all(raw)
                await stream.send_eof()
                while data := await stream.receive_some():
                    answer += data
            except trio.BrokenResourceError:
                pass  # What was sent besides the head was not read.
            finally:
                await stream.aclose()
        return answer

    async def get(self, target: str, method: str = "GET", host: str | None = None) -> bytes:
        return await self.asked(request(target, method, host or self.url.authority))

    async def redirected(self) -> dict[str, str]:
        """That the right redirect still gets through."""
        assert not self.is_over.is_set()
        answer = await self.get(GOOD)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Signed in" in answer
        with trio.fail_after(LIMIT):
            await self.is_over.wait()
        assert self.found is not None
        return self.found


def request(target: str, method: str = "GET", host: str = "127.0.0.1") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n".encode("latin-1")


def status(answer: bytes) -> int:
    return int(answer.split()[1])


async def test_the_redirect_is_taken_and_nothing_listens_afterwards(waiting: Waiting) -> None:
    assert await waiting.redirected() == {"code": "c0de+1", "state": STATE}
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", waiting.url.port)


async def test_a_browser_may_come_before_anybody_waits(callback: Callback) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", Url.parse(callback.redirect_uri).port)
    authority = Url.parse(callback.redirect_uri).authority
    await stream.send_all(request(GOOD, host=authority))
    with trio.fail_after(LIMIT):
        assert (await callback.redirected(STATE))["code"] == "c0de+1"
        await callback.tell(SIGNED_IN)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
    await stream.aclose()


async def test_an_error_is_taken_too_and_said_plainly(waiting: Waiting) -> None:
    waiting.outcome = NOT_SIGNED_IN
    answer = await waiting.get(f"/callback?error=access_denied&state={STATE}")
    assert b"Not signed in" in answer
    with trio.fail_after(LIMIT):
        await waiting.is_over.wait()
    assert waiting.found == {"error": "access_denied", "state": STATE}


async def test_the_browser_waits_for_what_came_of_it_and_nobody_gets_between(
    callback: Callback,
) -> None:
    async with trio.open_nursery() as nursery:
        waiting = Waiting(callback)
        answers: list[bytes] = []

        async def browse() -> None:
            answers.append(await waiting.get(GOOD))

        nursery.start_soon(browse)
        with trio.fail_after(LIMIT):
            assert (await callback.redirected(STATE))["code"] == "c0de+1"
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", waiting.url.port)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert answers == []
        await callback.tell(NOT_SIGNED_IN)
        await callback.tell(SIGNED_IN)  # it was told
    assert b"Not signed in" in answers[0]


@pytest.mark.parametrize("is_closed", [False, True])
async def test_the_browser_does_not_wait_for_ever(
    callback: Callback, autojump_clock: trio.testing.MockClock, is_closed: bool
) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", Url.parse(callback.redirect_uri).port)
    await stream.send_all(request(GOOD, host=Url.parse(callback.redirect_uri).authority))
    await callback.redirected(STATE)
    begun = trio.current_time()
    await trio.sleep(1)
    await (callback.aclose() if is_closed else callback.console())
    assert trio.current_time() - begun == (1 if is_closed else OUTCOME)
    answer = await stream.receive_some()
    assert b"whether the sign-in has worked" in answer
    assert b"Signed in" not in answer
    await stream.aclose()


async def test_a_browser_that_has_gone_is_told_nothing(callback: Callback) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", Url.parse(callback.redirect_uri).port)
    await stream.send_all(request(GOOD, host=Url.parse(callback.redirect_uri).authority))
    await callback.redirected(STATE)
    await trio.aclose_forcefully(stream)
    for _ in range(3):
        await callback.tell(SIGNED_IN)


@pytest.mark.skipif(sys.platform != "linux", reason="only there all of 127/8 is this machine")
async def test_it_listens_on_loopback_only(callback: Callback) -> None:
    assert callback.redirect_uri.startswith("http://127.0.0.1:")
    assert callback.redirect_uri.endswith("/callback")
    port = Url.parse(callback.redirect_uri).port
    # Another address of this machine that a listener on all of them would answer at.
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))


async def test_nobody_else_can_listen_where_localhost_leads_to() -> None:
    """Some servers take no other name of this machine, and browsers may try `::1` first."""
    async with await listen() as callback:
        url = Url.parse(callback.redirect_uri)
        for family, address in [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]:
            try:
                with socket.socket(family) as other, pytest.raises(OSError, match="in use"):
                    other.bind((address, url.port))
            except OSError:
                assert family == socket.AF_INET6  # This machine has none.


@pytest.mark.parametrize(
    "target, expected",
    [
        ("/callback", 400),
        ("/callback?code=c", 400),
        ("/callback?code=c&state=", 400),
        ("/callback?code=c&state=wrong", 400),
        (f"/callback?code=c&state={STATE}x", 400),
        (f"/callback?code=c&state={STATE[:-1]}", 400),
        (f"/callback?state={STATE}", 400),
        (f"/callback?code=a&code=b&state={STATE}", 400),
        (f"/callback?code=a&state=wrong&state={STATE}", 400),
        (f"/callback?code=a#state={STATE}", 400),
        (f"/?code=c&state={STATE}", 404),
        (f"/callback/?code=c&state={STATE}", 404),
        (f"/CALLBACK?code=c&state={STATE}", 404),
        (f"/x/../callback?code=c&state={STATE}", 404),
        (f"/%63allback?code=c&state={STATE}", 404),
        (f"http://127.0.0.1/callback?code=c&state={STATE}", 404),
        ("/favicon.ico", 404),
        ("*", 404),
    ],
)
async def test_anything_else_is_turned_away_and_the_waiting_goes_on(
    waiting: Waiting, target: str, expected: int
) -> None:
    """A-20: a callback with a wrong or missing state is discarded."""
    assert status(await waiting.get(target)) == expected
    assert (await waiting.redirected())["code"] == "c0de+1"


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS", "get"])
async def test_only_get(waiting: Waiting, method: str) -> None:
    answer = await waiting.get(GOOD, method)
    assert status(answer) == 405
    assert b"\r\nAllow: GET\r\n" in answer
    await waiting.redirected()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "[::]"])
async def test_a_foreign_host_is_refused(waiting: Waiting, host: str) -> None:
    """A-22: a name that was made to resolve to this machine gets nowhere."""
    for authority in (host, f"{host}:{waiting.url.port}"):
        raw = f"GET {GOOD} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()
        assert status(await waiting.asked(raw)) in (400, 403)
    assert status(await waiting.get(GOOD, host="127.0.0.1:1")) == 403
    await waiting.redirected()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST"])
async def test_a_loopback_host_is_none(waiting: Waiting, name: str) -> None:
    assert status(await waiting.get(GOOD, host=f"{name}:{waiting.url.port}")) == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /callback HTTP/1.1\r\n\r\n",
        b"GET /callback HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /callback HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /" + b"a" * 2 * MAX_HEAD + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\0" * 3 * MAX_HEAD,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
    ],
)
async def test_what_is_no_request_is_turned_away(waiting: Waiting, raw: bytes) -> None:
    answer = await waiting.asked(raw)
    assert answer == b"" or status(answer) in (400, 403)
    await waiting.redirected()


async def test_a_connection_that_is_hung_up_does_not_matter(waiting: Waiting) -> None:
    for raw in (b"", b"GET /call", request(GOOD, host="x")):
        stream = await trio.open_tcp_stream("127.0.0.1", waiting.url.port)
        await stream.send_all(raw)
        await trio.aclose_forcefully(stream)
    await waiting.redirected()


@pytest.mark.parametrize("target", [GOOD, "/<script>?<script>", "/callback?code=<script>&state=x"])
async def test_pages_are_fixed_and_reflect_nothing(waiting: Waiting, target: str) -> None:
    answer = await waiting.get(target)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"cache-control: no-store" in lines
    assert b"content-type: text/html; charset=utf-8" in lines
    assert b"referrer-policy: no-referrer" in lines
    assert b"connection: close" in lines
    assert f"content-length: {len(body)}".encode() in lines
    for secret in (b"script", b"c0de", STATE.encode()):
        assert secret not in answer


async def test_a_slow_connection_blocks_nobody_and_ends(
    waiting: Waiting, autojump_clock: trio.testing.MockClock
) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", waiting.url.port)
    started = trio.current_time()
    with trio.fail_after(2 * PATIENCE):
        for byte in request(GOOD):
            try:
                await stream.send_all(bytes([byte]))
            except trio.BrokenResourceError:
                break
            await trio.sleep(1)
        else:
            raise AssertionError
    assert trio.current_time() - started >= PATIENCE
    await stream.aclose()


async def test_silent_connections_keep_nobody_out(waiting: Waiting) -> None:
    silent = [
        await trio.open_tcp_stream("127.0.0.1", waiting.url.port)
        for _ in range(3 * MAX_CONNECTIONS)
    ]
    await waiting.redirected()
    for stream in silent:
        await trio.aclose_forcefully(stream)


async def test_the_oldest_of_too_many_connections_gives_way(waiting: Waiting) -> None:
    silent = [
        await trio.open_tcp_stream("127.0.0.1", waiting.url.port)
        for _ in range(MAX_CONNECTIONS + 1)
    ]
    with trio.fail_after(PATIENCE / 2):
        assert await silent[0].receive_some() == b""
    for stream in silent:
        await trio.aclose_forcefully(stream)


async def test_whoever_does_not_read_the_last_page_holds_nothing_up(waiting: Waiting) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", waiting.url.port)
    await stream.send_all(request(GOOD, host=waiting.url.authority))
    await trio.aclose_forcefully(stream)
    with trio.fail_after(LIMIT):
        await waiting.is_over.wait()


async def test_waiting_can_be_given_up(callback: Callback) -> None:
    with trio.move_on_after(0.01) as scope:
        await callback.redirected(STATE)
    assert scope.cancelled_caught


async def test_a_fixed_port() -> None:
    async with await listen() as callback:
        port = Url.parse(callback.redirect_uri).port
    async with await listen(port) as callback:
        assert callback.redirect_uri == f"http://127.0.0.1:{port}/callback"
        with pytest.raises(PortTaken, match=f"port {port}") as failure:
            await listen(port)
        assert "--oauth-callback-port" in str(failure.value.hint)
    async with await listen(port) as callback:
        pass  # It is free again at once.


async def test_a_fixed_port_that_another_has_on_the_other_address() -> None:
    with socket.socket(socket.AF_INET6) as other:
        try:
            other.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken):
            await listen(port)


async def test_the_redirect_is_taken_on_either_address(callback: Callback) -> None:
    port = Url.parse(callback.redirect_uri).port
    try:
        with socket.socket(socket.AF_INET6) as other:
            other.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    stream = await trio.open_tcp_stream("::1", port)
    await stream.send_all(request(GOOD, host=f"localhost:{port}"))
    with trio.fail_after(LIMIT):
        assert (await callback.redirected(STATE))["code"] == "c0de+1"
    await stream.aclose()
