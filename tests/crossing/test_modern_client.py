"""A client of the modern era alone, the SDK's 2.x pinned to 2026-07-28, and servers of every era.

It sends its requests without asking first what the server is, and knows no handshake to fall back
to. With a server that knows the modern era what it sends passes through; with one that does not the
relay opens a session for it. The same tests hold, but where an era has no way of saying a thing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crossing.worked import MODERN, Client, Refused, connected
from tests.peers.process import Peer
from tests.process import running
from tests.real.client import until

COUNTER = "test://counter"
RED = {"action": "accept", "content": {"colour": "red"}}
MARKED = {"region": "eu ", "note": "not marked", "size": 3, "urgent": True}
MIRRORED = {
    "mcp-param-region": "=?base64?ZXUg?=",
    "mcp-param-size": "3",
    "mcp-param-urgent": "true",
}


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


@pytest.fixture(params=["dual_server", "sdk_server"])
def server(request: pytest.FixtureRequest) -> Peer:
    peer: Peer = request.getfixturevalue(request.param)
    return peer


async def test_tools(server: Peer, errors: Path) -> None:
    async with connected(server.url, errors, mode=MODERN) as client:
        names = {tool["name"] for tool in (await client.do("list_tools"))["tools"]}
        assert {"echo", "slow", "progress", "ask", "fail"} <= names
        assert await client.text("echo", text="grüß dich \u2028 \U0001f600") == (
            "grüß dich \u2028 \U0001f600"
        )
        assert (await client.call("fail"))["isError"]
        assert (await client.call("no-such-tool"))["isError"]


async def test_results_say_what_they_are(server: Peer, errors: Path) -> None:
    """B-54"""
    async with connected(server.url, errors, mode=MODERN) as client:
        tools = await client.do("list_tools")
        assert (tools["resultType"], tools["ttlMs"], tools["cacheScope"]) == (
            "complete",
            0,
            "private",
        )
        called = await client.call("echo", text="hi")
        assert called["resultType"] == "complete"
        info = called["_meta"]["io.modelcontextprotocol/serverInfo"]
        assert info["name"] in {"sdk-peer", "sdk2-peer"}


async def test_progress_comes_while_the_call_runs(server: Peer, errors: Path) -> None:
    async with connected(server.url, errors, mode=MODERN) as client:
        assert await client.text("progress", steps=3) == "3 steps"
        seen = [(step["at"], step["of"], step["message"]) for step in client.progress]
        assert seen == [(step, 3, f"step {step}") for step in range(1, 4)]


async def test_resources(server: Peer, errors: Path) -> None:
    async with connected(server.url, errors, mode=MODERN) as client:
        resources = (await client.do("list_resources"))["resources"]
        assert [resource["uri"] for resource in resources] == [COUNTER]
        templates = (await client.do("list_resource_templates"))["resourceTemplates"]
        assert [template["uriTemplate"] for template in templates] == ["test://greeting/{name}"]
        read = await client.do("read_resource", uri="test://greeting/Ada")
        assert read["contents"][0]["text"] == "hello Ada"


async def test_prompts_and_completion(server: Peer, errors: Path) -> None:
    async with connected(server.url, errors, mode=MODERN) as client:
        prompts = (await client.do("list_prompts"))["prompts"]
        assert [prompt["name"] for prompt in prompts] == ["review"]
        review = await client.do("get_prompt", name="review", arguments={"language": "Perl"})
        assert "Perl" in str(review["messages"][0]["content"])
        of = {"type": "ref/prompt", "name": "review"}
        found = await client.do("complete", ref=of, argument={"name": "language", "value": "P"})
        assert found["completion"]["values"] == ["Python", "Perl", "Pascal"]


async def test_a_cancel_reaches_the_server(server: Peer, errors: Path) -> None:
    """T-60, B-56"""
    ended = server.printed().count("slow cancelled 307.25")
    async with connected(server.url, errors, mode=MODERN) as client:
        call = await client.begin("call_tool", name="slow", arguments={"seconds": 307.25})
        await until(lambda: server.printed().count("slow begins 307.25") > ended)
        await client.do("cancel", id=call)
        assert await client.outcome(call) is None
        await until(lambda: server.printed().count("slow cancelled 307.25") > ended)
        assert await client.text("echo", text="still here") == "still here"


async def test_nothing_is_said_to_a_client_that_asked_for_no_log(
    server: Peer, errors: Path
) -> None:
    """B-55"""
    async with connected(server.url, errors, mode=MODERN) as client:
        assert await client.text("log", text="a word") == "logged"
        assert client.heard("notifications/message") == []


async def test_log_messages_of_the_level_asked_for(server: Peer, errors: Path) -> None:
    """B-55"""
    async with connected(server.url, errors, mode=MODERN, log_level="info") as client:
        assert await client.text("log", text="a word") == "logged"
        said = [message["params"] for message in client.heard("notifications/message")]
        assert {"level": "info", "data": "a word"} in said
        assert "debug" not in {message["level"] for message in said}


async def test_a_resource_that_is_not_there(dual_server: Peer, errors: Path) -> None:
    async with connected(dual_server.url, errors, mode=MODERN) as client:
        with pytest.raises(Refused) as caught:
            await client.do("read_resource", uri="test://nowhere")
        assert caught.value.code == -32602
        assert caught.value.data == {"uri": "test://nowhere"}


# What only a server of the modern era can ask or say


async def test_questions_are_the_clients_to_answer(dual_server: Peer, errors: Path) -> None:
    """T-73"""
    async with connected(dual_server.url, errors, mode=MODERN, answer=RED) as client:
        assert await client.text("ask", question="Which colour?") == "red"
        assert await client.text("sample", question="hm") == "a sampled word"
        assert await client.text("roots") == "file:///projects/one"
        assert await client.text("survey", question="?") == "red, a sampled word, 1 roots"
        assert await client.text("rounds", count=3) == "3 rounds"
        assert await client.text("rounds", count=3, is_silent=True) == "3 rounds"


async def test_a_listen_stream(dual_server: Peer, errors: Path) -> None:
    """T-71"""
    name = "grown_for_a_modern_client"
    async with connected(dual_server.url, errors, mode=MODERN) as client:
        wanted = {"tools_list_changed": True, "resource_subscriptions": [COUNTER]}
        stream = await client.begin("listen", **wanted)
        assert await client.listening() == {
            "toolsListChanged": True,
            "resourceSubscriptions": [COUNTER],
        }
        await client.call("touch")
        update = await client.event("notifications/resources/updated")
        assert update["params"]["uri"] == COUNTER
        await client.call("grow", name=name)
        await client.event("notifications/tools/list_changed")
        assert await client.text(name) == name
        await client.do("cancel", id=stream)
        assert await client.outcome(stream) is None


async def test_parameters_are_mirrored_to_the_header(dual_server: Peer, errors: Path) -> None:
    """T-30"""
    async with connected(dual_server.url, errors, mode=MODERN) as client:
        await client.do("list_tools")
        assert json.loads(await client.text("mirrored", **MARKED)) == MIRRORED


async def test_parameters_are_mirrored_for_a_client_that_never_lists(dual_server: Peer) -> None:
    """T-35: refused with -32020, the relay lists the tools itself and calls once more."""
    meta = {"protocolVersion": MODERN, "clientCapabilities": {}}
    params = {
        "name": "mirrored",
        "arguments": MARKED,
        "_meta": {f"io.modelcontextprotocol/{key}": value for key, value in meta.items()},
    }
    before = len(dual_server.printed())
    async with running(dual_server.url) as relay:
        answer = await relay.ask("tools/call", params)
        assert json.loads(answer["result"]["content"][0]["text"]) == MIRRORED
        answer = await relay.ask("tools/call", params)
        assert json.loads(answer["result"]["content"][0]["text"]) == MIRRORED
    asked = dual_server.printed()[before:]
    assert (asked.count("tools/list"), asked.count("tools/call")) == (1, 3)


# The reference server, which has but sessions


async def test_the_reference_server(everything: Peer, errors: Path) -> None:
    async with connected(everything.url, errors, mode=MODERN) as client:
        await try_it(client)
        # B-54: what tasks there are, it is not told of.
        tools = (await client.do("list_tools"))["tools"]
        assert all("execution" not in tool for tool in tools)


async def test_the_reference_server_over_http_sse(everything_sse: Peer, errors: Path) -> None:
    async with connected(everything_sse.url, errors, mode=MODERN) as client:
        await try_it(client)


async def try_it(client: Client) -> None:
    assert await client.text("echo", message="hi") == "Echo: hi"
    weather = await client.call("get-structured-content", location="Chicago")
    assert set(weather["structuredContent"]) == {"temperature", "conditions", "humidity"}
    steps = await client.text("trigger-long-running-operation", duration=0.3, steps=3)
    assert "3" in steps
    assert [step["at"] for step in client.progress] == [1, 2, 3]
    prompts = (await client.do("list_prompts"))["prompts"]
    assert "args-prompt" in {prompt["name"] for prompt in prompts}
    oslo = await client.do("get_prompt", name="args-prompt", arguments={"city": "Oslo"})
    assert "Oslo" in str(oslo["messages"][0]["content"])
    of = {"type": "ref/prompt", "name": "completable-prompt"}
    found = await client.do("complete", ref=of, argument={"name": "department", "value": "S"})
    assert found["completion"]["values"] == ["Sales", "Support"]


async def test_the_reference_server_is_listened_to(everything: Peer, errors: Path) -> None:
    """B-59"""
    uri = "demo://resource/dynamic/text/7"
    async with connected(everything.url, errors, mode=MODERN) as client:
        wanted = {"resources_list_changed": True, "resource_subscriptions": [uri]}
        stream = await client.begin("listen", **wanted)
        assert await client.listening() == {
            "resourcesListChanged": True,
            "resourceSubscriptions": [uri],
        }
        zipped = {"name": "a.gz", "data": "data:text/plain,abc", "outputType": "resource"}
        await client.call("gzip-file-as-resource", **zipped)
        await client.event("notifications/resources/list_changed")
        await client.call("toggle-subscriber-updates")
        update = await client.event("notifications/resources/updated")
        assert update["params"]["uri"] == uri
        await client.call("toggle-subscriber-updates")
        await client.do("cancel", id=stream)
        assert await client.outcome(stream) is None


async def test_a_server_without_sessions(sdk_server_stateless: Peer, errors: Path) -> None:
    async with connected(sdk_server_stateless.url, errors, mode=MODERN) as client:
        assert await client.text("echo", text="hi") == "hi"
        assert await client.text("progress", steps=3) == "3 steps"
        assert [step["at"] for step in client.progress] == [1, 2, 3]


async def test_a_listen_stream_grants_what_the_server_has(sdk_server: Peer, errors: Path) -> None:
    """B-59: this server says that its tools do not change, and takes a subscription unsaid."""
    async with connected(sdk_server.url, errors, mode=MODERN) as client:
        wanted = {"tools_list_changed": True, "resource_subscriptions": [COUNTER]}
        await client.begin("listen", **wanted)
        assert await client.listening() == {"resourceSubscriptions": [COUNTER]}
        await client.call("touch")
        update = await client.event("notifications/resources/updated")
        assert update["params"]["uri"] == COUNTER
