"""A session over HTTP+SSE with servers of somebody else, on real connections."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from mcp_stdio.config import Config
from mcp_stdio.errors import ConnectionLost
from mcp_stdio.http.client import open_client
from mcp_stdio.http.url import Url
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.http_sse import HttpSse
from mcp_stdio.upstream.session import Session
from tests.peers.process import Peer, running
from tests.real.client import until
from tests.upstream.fakes import Asked, Client

SERVER = Path(__file__).parent.parent / "peers" / "sdk_server.py"

LIMIT = 60.0
"""Seconds until a test gives up: liveness, not speed."""


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A client whose session is open."""
    lane = open_client(Config(url=url))
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            client = Client(nursery)
            client.upstream = Session(
                HttpSse(
                    Messenger(lane, Url.parse(url), limit=10_000_000),
                    nursery=nursery,
                    emit=client.emit,
                ),
                nursery=nursery,
                emit=client.emit,
                ids=(f"relay-{number}" for number in count(1)),
                timeout_read=LIMIT,
                timeout_call=None,
            )
            await client.shake_hands()
            yield client
            await client.upstream.aclose()
            nursery.cancel_scope.cancel()
    await lane.aclose()


def call(client: Client, tool: str, **arguments: Any) -> Asked:
    meta = {"progressToken": "t"}
    return client.ask("tools/call", {"name": tool, "arguments": arguments, "_meta": meta})


def text(asked: Asked) -> str:
    return cast("str", asked.result["content"][0]["text"])


@pytest.fixture(params=["sdk_server_sse", "everything_sse"])
def any_server(request: pytest.FixtureRequest) -> Peer:
    return cast("Peer", request.getfixturevalue(request.param))


async def test_many_calls_at_once(any_server: Peer) -> None:
    word = "message" if "everything" in str(any_server.log) else "text"
    async with connected(any_server.url) as client:
        listed = client.ask("tools/list")
        await client.done(listed)
        assert "echo" in {tool["name"] for tool in listed.result["tools"]}
        asked = [call(client, "echo", **{word: f"number {number}"}) for number in range(50)]
        await client.done(*asked)
        for number, one in enumerate(asked):
            assert text(one).endswith(f"number {number}")


async def test_what_a_server_says_and_asks(sdk_server_sse: Peer) -> None:
    async with connected(sdk_server_sse.url) as client:
        asked = call(client, "progress", steps=3)
        await client.done(asked)
        assert [message.params["progress"] for message in client.emitted] == [1, 2, 3]
        client.emitted.clear()
        asked = call(client, "roots")
        await until(lambda: bool(client.emitted))
        [question] = client.emitted
        assert question.method == "roots/list"
        assert question.id is not None
        await client.done(client.reply(question.id), asked)
        assert asked.result["isError"], "an empty result is no list of roots"


async def test_a_cancelled_call_ends_at_the_server(sdk_server_sse: Peer) -> None:
    async with connected(sdk_server_sse.url) as client:
        asked = call(client, "slow", seconds=50.25)
        await until(lambda: "slow begins 50.25" in sdk_server_sse.printed())
        client.cancel(asked)
        await until(lambda: "slow cancelled 50.25" in sdk_server_sse.printed())
        await client.done(asked)
        assert asked.emitted == []


async def test_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    """T-92: the call's outcome is unknown, the session is opened anew."""

    def started(name: str, port: int) -> AbstractContextManager[Peer]:
        command: list[str | Path] = [sys.executable, SERVER, "--sse", "--port", str(port)]
        return running(command, log=tmp_path / name, path="/sse")

    with ExitStack() as life:
        first = life.enter_context(started("first", 0))
        async with connected(first.url) as client:
            asked = call(client, "slow", seconds=50)
            await until(lambda: "slow begins" in first.printed())
            life.close()
            await client.done(asked)
            assert isinstance(asked.failure, ConnectionLost)
            second = life.enter_context(started("second", first.port))
            await client.done(listed := client.ask("tools/list"))
            assert listed.failure is None
            await until(lambda: second.printed().count("202 Accepted") >= 3)
