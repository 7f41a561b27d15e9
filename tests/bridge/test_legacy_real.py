"""A client that shakes hands in front of the SDK's stateless server, over real sockets."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from mcp_stdio import spec
from mcp_stdio.bridge.legacy_client import LegacyClient
from mcp_stdio.config import Config
from mcp_stdio.http.client import open_client
from mcp_stdio.http.url import Url
from mcp_stdio.mirroring import Catalogue
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.parameters import Parameters
from mcp_stdio.upstream.stateless import Stateless
from tests.bridge.stateless import Desk, questions
from tests.peers.process import Peer
from tests.real.client import until
from tests.upstream.fakes import LIMIT, Asked

COUNTER = "test://counter"

ABLE: dict[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {"listChanged": True}}


@asynccontextmanager
async def connected(peer: Peer, version: str = "2025-11-25") -> AsyncIterator[Desk]:
    """A client that has shaken hands."""
    lane = open_client(Config(url=peer.url), environ={})
    ids = (f"own-{number}" for number in itertools.count(1))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            client, catalogue = Desk(nursery), Catalogue(is_active=True)
            stateless = Stateless(
                Messenger(lane, Url.parse(peer.url), limit=LIMIT),
                parameter_headers=catalogue.headers,
                ids=ids,
                timeout_read=30,
                timeout_call=None,
            )
            client.upstream = LegacyClient(
                Parameters(stateless, catalogue, ids),
                ids=ids,
                nursery=nursery,
                emit=client.emit,
                server_name="peer.example",
                timeout_call=None,
            )
            opening = await client.open(version, ABLE)
            assert opening.result["protocolVersion"] == version
            assert opening.result["serverInfo"]["name"] == "sdk2-peer"
            yield client
            nursery.cancel_scope.cancel()
    await lane.aclose()


def call(client: Desk, tool: str, /, **arguments: Any) -> Asked:
    return client.ask("tools/call", {"name": tool, "arguments": arguments})


def text(asked: Asked) -> str:
    return str(asked.result["content"][0]["text"])


async def question(asked: Asked, number: int = 0) -> Any:
    await until(lambda: len(questions(asked)) > number)
    return questions(asked)[number]


@pytest.mark.parametrize("version", spec.HANDSHAKE_VERSIONS)
async def test_the_basics(version: str, modern_server: Peer) -> None:
    """B-1, B-6, B-8, B-30."""
    async with connected(modern_server, version) as client:
        calling = call(client, "echo", text="grüß")
        listing = client.ask("tools/list")
        reading = client.ask("resources/read", {"uri": "test://greeting/you"})
        prompting = client.ask("prompts/get", {"name": "review", "arguments": {"language": "C"}})
        await client.done(calling, listing, reading, prompting)
        assert text(calling) == "grüß"
        assert "echo" in {tool["name"] for tool in listing.result["tools"]}
        assert reading.result["contents"][0]["text"] == "hello you"
        assert "Review this C" in prompting.result["messages"][0]["content"]["text"]
        for asked in (calling, listing, reading, prompting):
            assert asked.result.keys().isdisjoint({"resultType", "ttlMs", "cacheScope"})
        missing = client.ask("resources/read", {"uri": "test://nothing"})
        await client.done(missing)
        assert missing.answer["error"]["code"] == -32002


async def test_everything_is_asked_at_once(modern_server: Peer) -> None:
    """B-14."""
    async with connected(modern_server) as client:
        asked = call(client, "survey", question="?")
        await until(lambda: len(questions(asked)) == 3)
        answers = {
            "elicitation/create": {"action": "accept", "content": {"colour": "red"}},
            "sampling/createMessage": {
                "role": "assistant",
                "model": "m",
                "content": {"type": "text", "text": "word"},
            },
            "roots/list": {"roots": [{"uri": "file:///a", "name": "a"}]},
        }
        for one in questions(asked):
            client.give(one, answers[one.method])
        await client.done(asked)
        assert text(asked) == "red, word, 1 roots"


@pytest.mark.parametrize(
    "answer, outcome",
    [
        ({"action": "accept", "content": {"colour": "red"}}, "red"),
        ({"action": "decline"}, "decline"),
        (None, "cancel"),
    ],
)
async def test_a_question_is_answered_declined_or_refused(
    answer: Any, outcome: str, modern_server: Peer
) -> None:
    """B-14, step 3."""
    async with connected(modern_server) as client:
        asked = call(client, "ask", question="colour?")
        form = await question(asked)
        client.refuse(form) if answer is None else client.give(form, answer)
        await client.done(asked)
        assert text(asked) == outcome


@pytest.mark.parametrize("is_silent", [True, False])
async def test_round_after_round(is_silent: bool, modern_server: Peer) -> None:
    """B-14, steps 4 and 5."""
    async with connected(modern_server) as client:
        asked = call(client, "rounds", count=3, is_silent=is_silent)
        for number in range(0 if is_silent else 3):
            form = await question(asked, number)
            client.give(form, {"action": "accept", "content": {"colour": "red"}})
        await client.done(asked)
        assert text(asked) == "3 rounds"


async def test_progress_and_log_messages_reach_who_asked(modern_server: Peer) -> None:
    """B-6, B-10."""
    async with connected(modern_server) as client:
        params = {"name": "progress", "arguments": {"steps": 3}, "_meta": {"progressToken": "t"}}
        progress = client.ask("tools/call", params)
        unheard = call(client, "log", text="well")
        level = client.ask("logging/setLevel", {"level": "info"})
        heard = call(client, "log", text="well")
        await client.done(progress, unheard, level, heard)
        assert level.result == {}
        assert [message.params.get("progress") for message in progress.emitted[:-1]] == [1, 2, 3]
        assert unheard.notes == []
        assert heard.notes == ["well", "well"]


async def test_changes_are_told(modern_server: Peer) -> None:
    """B-11, B-12: each once, over one stream after the other."""
    async with connected(modern_server) as client:
        subscribed = client.ask("resources/subscribe", {"uri": COUNTER})
        await client.done(subscribed)
        assert subscribed.result == {}
        await client.done(call(client, "touch"), call(client, "grow", name="grown_here"))
        await until(lambda: len(client.emitted) == 2)
        changes = {one.method: one.params for one in client.emitted}
        assert changes == {spec.RESOURCE_UPDATED: {"uri": COUNTER}, spec.TOOLS_CHANGED: {}}
        await client.done(client.ask("resources/unsubscribe", {"uri": COUNTER}))
        await client.done(call(client, "grow", name="grown_there"))
        await until(lambda: len(client.emitted) == 3)
        assert client.emitted[2].method == spec.TOOLS_CHANGED


async def test_a_cancel_reaches_the_server(modern_server: Peer) -> None:
    """B-13."""
    async with connected(modern_server) as client:
        calling = call(client, "slow", seconds=55.25)
        await until(lambda: "slow begins 55.25" in modern_server.printed())
        client.cancel(calling)
        await client.done(calling)
        await until(lambda: "slow cancelled 55.25" in modern_server.printed())
