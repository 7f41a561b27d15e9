"""HTTP_PROXY, HTTPS_PROXY and NO_PROXY are honoured, and no call runs twice behind a proxy."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from mcp_stdio import spec
from tests.faults.driver import UNREACHABLE, opening, relaying
from tests.faults.server import (
    JSON,
    Server,
    answering,
    event,
    hang_up,
    http,
    notification,
    serving,
    stream_head,
)
from tests.http.proxy import ForwardProxy

TOKEN = "s3cr3t-t0k3n"


@asynccontextmanager
async def proxying(**settings: Any) -> AsyncIterator[ForwardProxy]:
    proxy = ForwardProxy(**settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: proxy.serve(task_status=task_status))
        yield proxy
        nursery.cancel_scope.cancel()


def has_token(server: Server) -> bool:
    sent = [received.get("authorization") for received in server.received]
    return bool(sent) and set(sent) == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_http_proxy(name: str) -> None:
    env = {"MCP_BEARER_TOKEN": TOKEN}
    async with serving() as server, proxying() as proxy:
        async with relaying(server.url, env={**env, name: proxy.url}) as relay:
            await relay.lives()
        assert [asked.target for asked in proxy.asked] == [server.url] * len(server.received)
        assert has_token(server)
        assert server.received[-1].method == "DELETE"


async def test_https_proxy(server_context: ssl.SSLContext, authority_file: Path) -> None:
    async with serving(context=server_context) as server, proxying() as proxy:
        env = {"MCP_BEARER_TOKEN": TOKEN, "HTTPS_PROXY": proxy.url}
        async with relaying(server.url, "--cacert", str(authority_file), env=env) as relay:
            await relay.lives()
        assert {(a.method, a.target) for a in proxy.asked} == {
            ("CONNECT", f"127.0.0.1:{server.port}")
        }
        assert not any("authorization" in asked.headers for asked in proxy.asked)
        assert has_token(server)


async def test_a_proxy_for_the_other_scheme_is_left_alone() -> None:
    async with serving() as server, proxying() as proxy:
        async with relaying(server.url, env={"HTTPS_PROXY": proxy.url}) as relay:
            await relay.lives()
        assert not proxy.asked


@pytest.mark.parametrize("value", ["127.0.0.1", "example.com,127.0.0.1", "*"])
async def test_no_proxy(value: str) -> None:
    async with serving() as server, proxying() as proxy:
        env = {"HTTP_PROXY": proxy.url, "NO_PROXY": value}
        async with relaying(server.url, env=env) as relay:
            await relay.lives()
        assert not proxy.asked


async def test_a_proxy_that_wants_credentials_gets_them_and_the_server_does_not() -> None:
    async with serving() as server, proxying(credentials="user:pr0xy-s3cr3t") as proxy:
        env = {"HTTP_PROXY": proxy.url, "MCP_BEARER_TOKEN": TOKEN}
        async with relaying(server.url, "-vv", env=env) as relay:
            await relay.lives()
        assert has_token(server)
        assert b"pr0xy-s3cr3t" not in relay.errors


async def test_a_proxy_that_is_down_is_no_server_that_answered() -> None:
    async with serving() as server:
        env = {"HTTP_PROXY": "http://127.0.0.1:9"}
        async with relaying(server.url, env=env, initialize=False) as relay:
            error = (await relay.ask(spec.INITIALIZE, opening()))["error"]
            assert error["code"] == UNREACHABLE
            assert "proxy" in error["message"]
        assert not server.received


async def test_a_call_lost_behind_a_proxy_is_not_sent_again() -> None:
    async with (
        serving(tools={"lost": hang_up}) as server,
        proxying() as proxy,
        relaying(server.url, env={"HTTP_PROXY": proxy.url}) as relay,
    ):
        assert "error" in await relay.call("lost")
        assert server.runs["2"] == 1
        await relay.lives()


async def test_an_answer_that_breaks_off_behind_a_proxy_names_both() -> None:
    """An idle connection, or one that takes long, is cut by proxies more than by servers."""
    tools = {
        "body": answering(http(200, b'{"jsonrpc": "2.0"}', kind=JSON)[:-5], closes=True),
        "stream": answering(stream_head() + event(notification("x")), closes=True),
    }
    async with (
        serving(tools=tools) as server,
        proxying() as proxy,
        relaying(server.url, env={"HTTP_PROXY": proxy.url}) as relay,
    ):
        for tool in tools:
            error = (await relay.call(tool))["error"]
            assert error["message"].startswith(
                f"the answer of `127.0.0.1:{server.port}`, through the proxy `{proxy.address}`, "
                "broke off: "
            )
            assert error["data"]["hint"] == (
                "whether the call ran is unknown: check its effect before you call again; if that "
                "happens again, the proxy may cut it off: ask who runs the proxy, or name the host "
                "in `NO_PROXY`"
            )
        assert server.runs["2"] == server.runs["3"] == 1
