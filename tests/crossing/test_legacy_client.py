"""A client of the handshake era, the SDK's 1.x, and servers that know the modern era.

With a server that has both eras the handshake passes through and the relay adds nothing. With one
that has the modern era alone the relay stands in for the era that is missing, and the client must
not notice: the same tests hold.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from mcp import McpError, types
from pydantic import AnyUrl

from tests.peers.process import Peer
from tests.process import Relay, running
from tests.real.client import ROOT, Client, Context, connected, until

COUNTER = "test://counter"
LogMessage = types.LoggingMessageNotification
SERVERS = ["dual_server", "modern_server"]


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Peer:
    peer: Peer = request.getfixturevalue(request.param)
    return peer


Question = dict[str, Any]


class Unwilling(Client):
    """A user who declines."""

    async def elicit(
        self, context: Context, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        self.asked.append(params)
        return types.ElicitResult(action="decline")


async def test_the_server_introduces_itself(server: Peer, errors: Path) -> None:
    async with connected(server.url, errors) as client:
        assert client.server.protocolVersion == "2025-11-25"
        assert client.server.serverInfo.name == "sdk2-peer"
        assert client.server.instructions == "For tests"
        capabilities = client.server.capabilities
        assert capabilities.tools is not None
        assert capabilities.prompts is not None
        assert capabilities.resources is not None
        assert capabilities.resources.subscribe
        assert capabilities.completions is not None
        assert capabilities.logging is not None
        await client.session.send_ping()


async def test_tools(server: Peer, errors: Path) -> None:
    async with connected(server.url, errors) as client:
        names = {tool.name for tool in (await client.session.list_tools()).tools}
        assert {"echo", "weather", "fail", "mirrored", "survey"} <= names
        assert await client.text("echo", text="grüß dich \u2028 \U0001f600") == (
            "grüß dich \u2028 \U0001f600"
        )
        assert (await client.call("fail")).isError
        assert (await client.call("no-such-tool")).isError


async def test_a_structured_result_has_what_its_schema_promises(server: Peer, errors: Path) -> None:
    async with connected(server.url, errors) as client:
        result = await client.call("weather", city="Oslo")
        assert result.structuredContent == {"city": "Oslo", "degrees": 21}
        assert result.content[0].type == "text"
        assert json.loads(result.content[0].text) == result.structuredContent


async def test_results_carry_nothing_of_the_modern_era(server: Peer) -> None:
    """B-8"""
    async with running(server.url) as relay:
        await relay.shake_hands()
        answers = [
            await relay.ask("tools/list"),
            await relay.ask("tools/call", {"name": "echo", "arguments": {"text": "hi"}}),
            await relay.ask("resources/read", {"uri": COUNTER}),
        ]
        for answer in answers:
            assert not {"resultType", "ttlMs", "cacheScope"} & answer["result"].keys()


async def test_progress_comes_while_the_call_runs(server: Peer, errors: Path) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async with connected(server.url, errors) as client:
        result = await client.session.call_tool(
            "progress", {"steps": 3}, progress_callback=on_progress
        )
    assert not result.isError
    assert seen == [(step, 3, f"step {step}") for step in range(1, 4)]


async def test_log_messages_of_the_level_asked_for(server: Peer, errors: Path) -> None:
    """B-10"""
    async with connected(server.url, errors) as client:
        await client.session.set_logging_level("info")
        await client.call("log", text="a word")
        said = [m.params for m in client.heard if isinstance(m, LogMessage)]
        # The SDK sends all to a session, whatever its level.
        assert [(log.level, log.data) for log in said if log.level != "debug"] == [
            ("info", "a word"),
            ("error", "a word"),
        ]


async def test_resources(server: Peer, errors: Path) -> None:
    async with connected(server.url, errors) as client:
        resources = (await client.session.list_resources()).resources
        assert [str(resource.uri) for resource in resources] == [COUNTER]
        templates = (await client.session.list_resource_templates()).resourceTemplates
        assert [template.uriTemplate for template in templates] == ["test://greeting/{name}"]
        assert int(await client.read(COUNTER)) > 0
        assert await client.read("test://greeting/Ada") == "hello Ada"


async def test_updates_of_a_resource_that_was_subscribed_to(server: Peer, errors: Path) -> None:
    """B-11, B-12"""
    async with connected(server.url, errors) as client:
        await client.session.subscribe_resource(AnyUrl(COUNTER))
        await client.call("touch")
        update = await client.wait_to_hear(types.ResourceUpdatedNotification)
        assert str(update.params.uri) == COUNTER
        await client.session.unsubscribe_resource(AnyUrl(COUNTER))


async def test_a_change_of_the_tools_is_heard_and_found(
    server: Peer, errors: Path, request: pytest.FixtureRequest
) -> None:
    """B-12"""
    name = f"grown_for_a_legacy_client_of_{request.node.callspec.id}"

    def streams() -> int:
        printed = server.printed()
        return printed.count("request GET") + printed.count("subscriptions/listen")

    before = streams()
    async with connected(server.url, errors) as client:
        await until(lambda: streams() > before)
        await client.call("grow", name=name)
        await client.wait_to_hear(types.ToolListChangedNotification)
        assert await client.text(name) == name


async def test_prompts_and_completion(server: Peer, errors: Path) -> None:
    async with connected(server.url, errors) as client:
        prompts = (await client.session.list_prompts()).prompts
        assert [prompt.name for prompt in prompts] == ["review"]
        review = await client.session.get_prompt("review", {"language": "Perl"})
        assert "Perl" in str(review.messages[0].content)
        of = types.PromptReference(type="ref/prompt", name="review")
        found = await client.session.complete(of, {"name": "language", "value": "P"})
        assert found.completion.values == ["Python", "Perl", "Pascal"]


async def test_a_question_to_the_user(server: Peer, errors: Path) -> None:
    """B-14"""
    async with connected(server.url, errors, client=Client(answers={"colour": "red"})) as client:
        assert await client.text("ask", question="Which colour?") == "red"
        (question,) = client.asked
        assert isinstance(question, types.ElicitRequestFormParams)
        assert question.message == "Which colour?"
        assert "colour" in question.requestedSchema["properties"]


async def test_a_user_who_declines(server: Peer, errors: Path) -> None:
    """B-14"""
    async with connected(server.url, errors, client=Unwilling()) as client:
        assert await client.text("ask", question="Which colour?") == "decline"


async def test_sampling_and_roots(server: Peer, errors: Path) -> None:
    """B-14"""
    async with connected(server.url, errors) as client:
        assert await client.text("sample", question="hm") == "a sampled word"
        (request,) = client.asked
        assert isinstance(request, types.CreateMessageRequestParams)
        assert request.maxTokens == 20
        assert await client.text("roots") == str(ROOT.uri)


async def test_several_questions_of_one_call(server: Peer, errors: Path) -> None:
    """B-14"""
    async with connected(server.url, errors, client=Client(answers={"colour": "red"})) as client:
        assert await client.text("survey", question="?") == "red, a sampled word, 1 roots"
        assert len(client.asked) == 2  # and the roots


async def test_two_calls_that_ask_at_once(server: Peer, errors: Path) -> None:
    """B-14"""
    said: list[str] = []

    async def ask(client: Client, question: str) -> None:
        said.append(await client.text("ask", question=question))

    async with connected(server.url, errors, client=Client(answers={"colour": "red"})) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, client, "one")
            nursery.start_soon(ask, client, "two")
        assert said == ["red", "red"]
        asked = [q.message for q in client.asked if isinstance(q, types.ElicitRequestFormParams)]
        assert sorted(asked) == ["one", "two"]


async def test_a_question_the_client_did_not_offer_to_answer(server: Peer) -> None:
    """The server says which capability it lacks (B-32)."""
    async with running(server.url) as relay:
        await relay.shake_hands()
        call = {"name": "ask", "arguments": {"question": "Which colour?"}}
        error = (await relay.ask("tools/call", call))["error"]
        assert error["code"] == -32021
        assert error["data"] == {"requiredCapabilities": {"elicitation": {"form": {}}}}


async def test_a_cancel_reaches_the_server_and_no_answer_follows(server: Peer) -> None:
    """B-13"""
    async with running(server.url) as relay:
        await relay.shake_hands()
        ended = server.printed().count("slow cancelled 301.5")
        call = {"name": "slow", "arguments": {"seconds": 301.5}}
        id = await relay.request("tools/call", call)
        await until(lambda: server.printed().count("slow begins 301.5") > ended)
        await relay.send(method="notifications/cancelled", params={"requestId": id})
        await until(lambda: server.printed().count("slow cancelled 301.5") > ended)
        await relay.ask("ping")
        await relay.close_stdin()
        assert await relay.rest() == []
        assert await relay.wait() == 0


# What the relay alone is answerable for


async def test_a_resource_that_is_not_there(modern_server: Peer, errors: Path) -> None:
    """B-30"""
    async with connected(modern_server.url, errors) as client:
        with pytest.raises(McpError) as caught:
            await client.read("test://nowhere")
        assert caught.value.error.code == -32002
        assert caught.value.error.data == {"uri": "test://nowhere"}


async def test_what_the_handshake_says(modern_server: Peer) -> None:
    """B-1, B-2, B-3"""
    async with running(modern_server.url) as relay:
        assert await relay.shake_hands("2025-03-26") == {
            "protocolVersion": "2025-03-26",
            "capabilities": {
                "completions": {},
                "logging": {},
                "prompts": {"listChanged": True},
                "resources": {"listChanged": True, "subscribe": True},
                "tools": {"listChanged": True},
            },
            "serverInfo": {"name": "sdk2-peer", "version": "1"},
            "instructions": "For tests",
        }


async def test_nothing_is_logged_before_a_level_is_set(modern_server: Peer, errors: Path) -> None:
    """B-10"""
    async with connected(modern_server.url, errors) as client:
        assert await client.text("log", text="a word") == "logged"
        assert client.heard == []
        await client.session.set_logging_level("error")
        assert await client.text("log", text="a word") == "logged"
        assert [m.params.level for m in client.heard if isinstance(m, LogMessage)] == ["error"]


async def test_parameters_are_mirrored_to_the_header(modern_server: Peer, errors: Path) -> None:
    """T-30, T-35: the relay lists the tools when it is refused, and knows them from then on."""
    given = {"region": "eu ", "note": "unmarked", "size": 3, "urgent": True}
    fields = {
        "mcp-param-region": "=?base64?ZXUg?=",
        "mcp-param-size": "3",
        "mcp-param-urgent": "true",
    }
    async with connected(modern_server.url, errors) as client:
        assert json.loads(await client.text("mirrored", **given)) == fields
        await client.session.list_tools()
        assert json.loads(await client.text("mirrored", **given)) == fields


# B-14, message by message


ASKABLE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"elicitation": {}, "sampling": {}},
    "clientInfo": {"name": "test", "version": "1"},
}
ACCEPTED = {"action": "accept", "content": {"colour": "red"}}


async def open_and_call(relay: Relay, tool: str, **arguments: object) -> int:
    await relay.ask("initialize", ASKABLE)
    await relay.send(method="notifications/initialized")
    return await relay.request("tools/call", {"name": tool, "arguments": arguments})


async def read_question(relay: Relay, method: str) -> Question:
    question = await relay.read()
    assert question["method"] == method
    assert isinstance(question["id"], str)  # S-5: none of the client's own
    return question


async def test_a_question_looks_as_the_clients_revision_has_it(modern_server: Peer) -> None:
    async with running(modern_server.url) as relay:
        call = await open_and_call(relay, "ask", question="Which?")
        question = await read_question(relay, "elicitation/create")
        assert question["params"].keys() == {"message", "requestedSchema"}  # no `mode` yet
        await relay.send(id=question["id"], result=ACCEPTED)
        answer = await relay.read()
        assert answer["id"] == call
        assert answer["result"]["content"] == [{"type": "text", "text": "red"}]
        assert "resultType" not in answer["result"]


async def test_sixteen_rounds_are_played(modern_server: Peer) -> None:
    async with running(modern_server.url) as relay:
        call = await open_and_call(relay, "rounds", count=16)
        for number in range(16):
            question = await read_question(relay, "elicitation/create")
            assert question["params"]["message"] == f"Round {number + 1}?"
            await relay.send(id=question["id"], result=ACCEPTED)
        answer = await relay.read()
        assert answer["id"] == call
        assert answer["result"]["content"][0]["text"] == "16 rounds"


async def test_the_seventeenth_round_is_one_too_many(modern_server: Peer) -> None:
    async with running(modern_server.url) as relay:
        call = await open_and_call(relay, "rounds", count=17)
        for _ in range(16):
            question = await read_question(relay, "elicitation/create")
            await relay.send(id=question["id"], result=ACCEPTED)
        answer = await relay.read()
        assert answer["id"] == call
        assert answer["error"]["code"] == -33005
        await relay.ask("ping")


async def test_rounds_without_a_question_are_played_unseen(modern_server: Peer) -> None:
    async with running(modern_server.url) as relay:
        call = await open_and_call(relay, "rounds", count=2, is_silent=True)
        answer = await relay.read()
        assert answer["id"] == call
        assert answer["result"]["content"][0]["text"] == "2 rounds"


async def test_an_elicitation_answered_with_an_error_counts_as_cancelled(
    modern_server: Peer,
) -> None:
    async with running(modern_server.url) as relay:
        call = await open_and_call(relay, "ask", question="Which?")
        question = await read_question(relay, "elicitation/create")
        await relay.send(id=question["id"], error={"code": -32603, "message": "no window"})
        answer = await relay.read()
        assert answer["id"] == call
        assert answer["result"]["content"][0]["text"] == "cancel"


async def test_a_sampling_answered_with_an_error_fails_the_call(modern_server: Peer) -> None:
    async with running(modern_server.url) as relay:
        call = await open_and_call(relay, "sample", question="hm")
        question = await read_question(relay, "sampling/createMessage")
        await relay.send(id=question["id"], error={"code": -1, "message": "user said no"})
        answer = await relay.read()
        assert answer["id"] == call
        assert answer["error"]["code"] == -33006
        assert "user said no" in answer["error"]["message"]


async def test_a_call_cancelled_in_the_middle_of_a_round(modern_server: Peer) -> None:
    """B-13: the open question is withdrawn, and nothing answers the call."""
    async with running(modern_server.url) as relay:
        call = await open_and_call(relay, "ask", question="Which?")
        question = await read_question(relay, "elicitation/create")
        await relay.send(method="notifications/cancelled", params={"requestId": call})
        withdrawn = await relay.read()
        assert withdrawn["method"] == "notifications/cancelled"
        assert withdrawn["params"]["requestId"] == question["id"]
        await relay.send(id=question["id"], result=ACCEPTED)  # too late
        await relay.ask("ping")
        await relay.close_stdin()
        assert await relay.rest() == []
