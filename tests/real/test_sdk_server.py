"""The SDK's client and the SDK's server: with sessions, without, in JSON, and resumable."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import trio
from mcp import McpError, types
from pydantic import AnyUrl

from tests.peers.process import Peer
from tests.peers.tls import serve_tls
from tests.real.client import ROOT, Client, connected, until

COUNTER = AnyUrl("test://counter")


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


@pytest.fixture(
    params=["sdk_server", "sdk_server_stateless", "sdk_server_json", "sdk_server_resumable"]
)
def any_sdk_server(request: pytest.FixtureRequest) -> Peer:
    return cast("Peer", request.getfixturevalue(request.param))


async def test_the_basics(any_sdk_server: Peer, errors: Path) -> None:
    async with connected(any_sdk_server.url, errors) as client:
        session = client.session
        assert client.server.serverInfo.name == "sdk-peer"
        await session.send_ping()
        assert "echo" in {tool.name for tool in (await session.list_tools()).tools}
        assert await client.text("echo", text="grüß \U0001f600") == "grüß \U0001f600"
        failure = await client.call("fail")
        assert failure.isError
        assert await client.read("test://greeting/you") == "hello you"
        assert [str(r.uri) for r in (await session.list_resources()).resources] == [str(COUNTER)]
        prompt = await session.get_prompt("review", {"language": "Rust"})
        assert "Rust" in str(prompt.messages[0].content)
        completed = await session.complete(
            types.PromptReference(type="ref/prompt", name="review"),
            {"name": "language", "value": "P"},
        )
        assert completed.completion.values == ["Python", "Perl", "Pascal"]
        with pytest.raises(McpError):
            await session.get_prompt("no-such-prompt")


async def test_many_calls_at_once(any_sdk_server: Peer, errors: Path) -> None:
    said: dict[int, str] = {}

    async def echo(client: Client, number: int) -> None:
        said[number] = await client.text("echo", text=str(number))

    async with connected(any_sdk_server.url, errors) as client:
        await client.session.list_tools()
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(echo, client, number)
    assert said == {number: str(number) for number in range(50)}


@pytest.fixture(params=["sdk_server", "sdk_server_resumable"])
def talkative(request: pytest.FixtureRequest) -> Peer:
    """A server that can speak while a call runs."""
    return cast("Peer", request.getfixturevalue(request.param))


async def test_what_a_server_says_and_asks(talkative: Peer, errors: Path) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    client = Client(answers={"colour": "green"})
    async with connected(talkative.url, errors, client=client):
        await client.session.call_tool("progress", {"steps": 3}, progress_callback=on_progress)
        assert seen == [(step, 3, f"step {step}") for step in (1, 2, 3)]

        assert await client.text("ask", question="which?") == "green"
        assert await client.text("sample", prompt="say") == "a sampled word"
        assert await client.text("roots") == str(ROOT.uri)

        await client.session.set_logging_level("info")
        await client.text("log", text="a line")
        message = await client.wait_to_hear(types.LoggingMessageNotification)
        assert message.params.data == "a line"

        await client.session.subscribe_resource(COUNTER)
        await client.text("touch")
        update = await client.wait_to_hear(types.ResourceUpdatedNotification)
        assert update.params.uri == COUNTER


async def test_a_stream_the_server_hung_up_is_resumed(
    sdk_server_resumable: Peer, errors: Path
) -> None:
    seen: list[str | None] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(message)

    async with connected(sdk_server_resumable.url, errors) as client:
        result = await client.session.call_tool("hang_up", {}, progress_callback=on_progress)
    assert result.content == [types.TextContent(type="text", text="resumed")]
    assert seen == ["before", "after"]


async def test_the_session_is_ended(sdk_server: Peer, errors: Path) -> None:
    def ended() -> int:
        return sdk_server.printed().count('"DELETE /mcp HTTP/1.1" 200')

    before = ended()
    async with connected(sdk_server.url, errors):
        pass
    await until(lambda: ended() > before)


async def test_no_session_is_ended_where_there_was_none(
    sdk_server_stateless: Peer, errors: Path
) -> None:
    async with connected(sdk_server_stateless.url, errors) as client:
        await client.session.send_ping()
    assert "DELETE" not in sdk_server_stateless.printed()


async def test_no_well_known_document_is_asked_for(any_sdk_server: Peer, errors: Path) -> None:
    async with connected(any_sdk_server.url, errors) as client:
        await client.session.list_tools()
    assert "well-known" not in any_sdk_server.printed()


async def test_over_tls(
    sdk_server: Peer,
    errors: Path,
    authority_file: Path,
    server_context: object,
    nursery: trio.Nursery,
) -> None:
    port = await nursery.start(serve_tls, sdk_server.port, server_context)
    url = f"https://localhost:{port}/mcp"
    client = Client(answers={"colour": "red"})
    async with connected(url, errors, "--cacert", str(authority_file), client=client):
        assert await client.text("echo", text="sealed") == "sealed"
        assert await client.text("ask", question="which?") == "red"


async def test_a_certificate_of_nobody_we_trust(
    sdk_server: Peer, errors: Path, server_context: object, nursery: trio.Nursery
) -> None:
    port = await nursery.start(serve_tls, sdk_server.port, server_context)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with connected(f"https://localhost:{port}/mcp", errors):
            pytest.fail("connected")
    assert caught.group_contains(McpError, match="certificate")
