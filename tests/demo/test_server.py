"""The demo's server: strict about the transport, complete in what it offers."""

from __future__ import annotations

import json
from typing import Any

import h11
import pytest
import trio

from mcp_stdio.demo.server import Server
from tests.demo.client import Client, call, notification, request

LIMIT = 20.0


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def client(server: Server, nursery: trio.Nursery) -> Client:
    nursery.cancel_scope.deadline = trio.current_time() + LIMIT
    return Client(await nursery.start(server.serve))


async def test_the_handshake_opens_a_session(server: Server, client: Client) -> None:
    result = await client.open()
    assert result["protocolVersion"] == "2025-11-25"
    assert result["serverInfo"]["name"] == "mcp-stdio-demo"
    assert [request.status for request in server.requests] == [200, 202]
    assert client.headers["Mcp-Session-Id"] in server.sessions


@pytest.mark.parametrize(
    "wanted, agreed", [("2025-03-26", "2025-03-26"), ("1999-01-01", "2025-11-25")]
)
async def test_the_version_is_the_clients_or_the_latest(
    client: Client, wanted: str, agreed: str
) -> None:
    assert (await client.initialize({"protocolVersion": wanted}))["protocolVersion"] == agreed


@pytest.mark.parametrize(
    "name, value, status",
    [
        ("Accept", "application/json", 406),
        ("Accept", "text/event-stream", 406),
        ("Accept", "*/*", 406),
        ("Content-Type", "text/plain", 415),
        ("Origin", "https://evil.example", 403),
        ("Origin", "http://[", 403),
        ("Mcp-Session-Id", None, 400),
        ("Mcp-Session-Id", "unknown", 404),
        ("MCP-Protocol-Version", None, 400),
        ("MCP-Protocol-Version", "2025-06-18", 400),
    ],
)
async def test_wrong_headers_are_refused(
    client: Client, name: str, value: str | None, status: int
) -> None:
    await client.open()
    client.headers.pop(name, None)
    if value is not None:
        client.headers[name] = value
    async with client.send("POST", request(2, "tools/list")) as response:
        assert response.status == status
        assert (await response.json())["error"]["message"]


async def test_a_header_sent_twice_is_refused(client: Client) -> None:
    await client.open()
    more = [("Mcp-Session-Id", client.headers["Mcp-Session-Id"])]
    async with client.send("POST", request(2, "ping"), more=more) as response:
        assert response.status == 400


@pytest.mark.parametrize("origin", ["http://localhost:1234", "http://127.0.0.1"])
async def test_pages_of_this_machine_may_ask(client: Client, origin: str) -> None:
    client.headers["Origin"] = origin
    await client.open()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]'])
async def test_what_is_no_message_is_refused(client: Client, body: bytes) -> None:
    await client.open()
    assert await client.post(body) == 400


async def test_other_methods_and_paths_mean_nothing(client: Client) -> None:
    async with client.send("PUT") as response:
        assert response.status == 405
        assert response.headers["allow"] == "GET, POST, DELETE"
    async with client.send("GET", target="/other") as response:
        assert response.status == 404


async def test_requests_wait_for_initialized(client: Client) -> None:
    await client.initialize({"protocolVersion": "2025-11-25"})
    assert (await client.ask("ping"))["result"] == {}
    assert "notifications/initialized" in (await client.ask("tools/list"))["error"]["message"]
    async with client.send("GET") as response:
        assert response.status == 400


async def test_a_token_is_asked_for_when_there_is_one(nursery: trio.Nursery) -> None:
    client = Client(await nursery.start(Server(token="t0k3n").serve))
    async with client.send("POST", request(1, "initialize", {})) as response:
        assert response.status == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
    client.headers["Authorization"] = "Bearer t0k3n"
    await client.open()


async def test_delete_ends_the_session(server: Server, client: Client) -> None:
    await client.open()
    async with client.send("DELETE") as response:
        assert response.status == 204
    assert server.sessions == {}
    assert await client.post(request(2, "ping")) == 404


@pytest.mark.parametrize(
    "tool, arguments",
    [
        ("add", {"a": 10**400, "b": 0.5}),
        ("add", {"a": float("inf"), "b": 0}),
        ("countdown", {"from": float("inf")}),
        ("countdown", {"from": 10**9, "pause": 0}),
    ],
)
async def test_numbers_that_nobody_can_use_make_a_tool_fail(
    client: Client, tool: str, arguments: object
) -> None:
    await client.open()
    # JSON has no infinity, but numbers that are one to Python.
    message = request(2, "tools/call", {"name": tool, "arguments": arguments})
    body = json.dumps(message).replace("Infinity", "1e999").encode()
    async with client.send("POST", body) as response:
        assert (await response.json())["result"]["isError"] is True


async def test_a_negative_pause_is_none(client: Client) -> None:
    await client.open()
    arguments = {"from": 2, "pause": -1}
    answer = await client.ask("tools/call", {"name": "countdown", "arguments": arguments})
    assert answer["result"]["content"][0]["text"] == "lift-off"


async def test_what_nobody_foresaw_ends_one_connection_only(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [RuntimeError("a defect")]

    def watch(_: object) -> None:
        if faults:
            raise faults.pop()

    client = Client(await nursery.start(Server(watch=watch).serve))
    with pytest.raises(h11.RemoteProtocolError):  # it hangs up
        await client.open()
    assert "a defect" in caplog.text
    await client.open()


@pytest.mark.parametrize(
    "method, params, member",
    [
        ("ping", None, None),
        ("tools/list", None, "tools"),
        ("resources/list", None, "resources"),
        ("resources/templates/list", None, "resourceTemplates"),
        ("resources/read", {"uri": "demo://welcome"}, "contents"),
        ("resources/subscribe", {"uri": "demo://log"}, None),
        ("resources/unsubscribe", {"uri": "demo://log"}, None),
        ("prompts/list", None, "prompts"),
        ("prompts/get", {"name": "greet", "arguments": {"name": "Ada"}}, "messages"),
        ("logging/setLevel", {"level": "info"}, None),
        ("tools/call", {"name": "echo", "arguments": {"text": "hello"}}, "content"),
    ],
)
async def test_everything_offered_is_there(
    client: Client, method: str, params: object, member: str | None
) -> None:
    await client.open()
    result = (await client.ask(method, params))["result"]
    assert list(result) == ([] if member is None else [member])


@pytest.mark.parametrize(
    "method, params, code",
    [
        ("no/such/method", None, -32601),
        ("tools/call", {"name": "none"}, -32602),
        ("tools/call", {"name": "echo", "arguments": []}, -32602),
        ("resources/read", {"uri": "demo://none"}, -32002),
        ("prompts/get", {"name": "greet"}, -32602),
        ("logging/setLevel", {"level": "loud"}, -32602),
    ],
)
async def test_what_is_not_there_is_an_error(
    client: Client, method: str, params: object, code: int
) -> None:
    await client.open()
    assert (await client.ask(method, params))["error"]["code"] == code


async def test_tools_compute_and_fail(server: Server, client: Client) -> None:
    await client.open()
    added = await client.ask("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2.5}})
    assert added["result"]["content"][0]["text"] == "3.5"
    failed = await client.ask("tools/call", {"name": "add", "arguments": {"a": "one"}})
    assert failed["result"]["isError"] is True
    assert [execution.how for execution in server.executions] == ["done", "failed"]


async def test_progress_comes_before_the_answer(client: Client) -> None:
    await client.open()
    await client.ask("logging/setLevel", {"level": "info"})
    async with client.send("POST", call(3, "countdown", {"from": 2, "pause": 0})) as response:
        assert response.headers["content-type"] == "text/event-stream"
        assert (await response.event())["method"] == "notifications/message"
        assert (await response.event())["params"]["progress"] == 1
        assert (await response.event())["params"]["progress"] == 2
        assert (await response.event())["result"]["content"][0]["text"] == "lift-off"
        assert await response.event() is None


@pytest.mark.parametrize(
    "answer, text",
    [
        ({"result": {"action": "accept", "content": {"name": "Ada"}}}, "Hello, Ada"),
        ({"result": {"action": "decline"}}, "The user does not want to answer"),
    ],
)
async def test_a_question_reaches_the_user_and_the_answer_the_tool(
    client: Client, answer: dict[str, Any], text: str
) -> None:
    await client.open({"elicitation": {}})
    async with client.send("POST", call(3, "ask")) as response:
        question = await response.event()
        assert question["method"] == "elicitation/create"
        assert await client.post({"jsonrpc": "2.0", "id": question["id"], **answer}) == 202
        assert (await response.event())["result"]["content"][0]["text"] == text


async def test_a_client_that_cannot_ask_is_not_asked(client: Client) -> None:
    await client.open()
    assert "elicitation" in (await client.ask("tools/call", {"name": "ask"}))["error"]["message"]


async def test_an_answer_to_no_question_is_ignored(client: Client) -> None:
    await client.open()
    assert await client.post({"jsonrpc": "2.0", "id": "question-9", "result": {}}) == 202


async def test_a_cancelled_call_ends_without_an_answer(server: Server, client: Client) -> None:
    await client.open()
    async with client.send("POST", call(3, "wait")) as response:
        assert (await response.event())["method"] == "notifications/progress"
        assert server.executions[0].how == "running"
        await client.post(notification("notifications/cancelled", {"requestId": 3}))
        assert await response.event() is None
    assert server.executions[0].how == "cancelled"


async def test_ids_are_compared_with_their_type(server: Server, client: Client) -> None:
    await client.open()
    async with client.send("POST", call(3, "wait")) as response:
        await response.event()
        assert await client.post(call(3, "echo")) == 400
        assert await client.post(call("3", "echo")) == 200
        await client.post(notification("notifications/cancelled", {"requestId": "3"}))
        assert server.executions[0].how == "running"


async def test_subscribers_hear_of_changes_on_the_listening_stream(client: Client) -> None:
    await client.open()
    await client.ask("resources/subscribe", {"uri": "demo://log"})
    async with client.send("GET") as response:
        assert response.headers["content-type"] == "text/event-stream"
        await client.ask("tools/call", {"name": "echo"})
        update = await response.event()
        assert update["method"] == "notifications/resources/updated"
        assert update["params"] == {"uri": "demo://log"}


async def test_what_happens_while_nobody_listens_is_kept(client: Client) -> None:
    await client.open()
    await client.ask("resources/subscribe", {"uri": "demo://log"})
    async with client.send("GET"):
        pass
    await client.ask("tools/call", {"name": "echo"})
    async with client.send("GET") as response:
        assert await response.event() is not None


async def test_a_newer_listening_stream_takes_over(client: Client) -> None:
    await client.open()
    await client.ask("resources/subscribe", {"uri": "demo://log"})
    async with client.send("GET") as first, client.send("GET") as second:
        assert await first.event() is None
        await client.ask("tools/call", {"name": "echo"})
        assert await second.event() is not None


async def test_the_end_of_a_session_ends_its_streams(server: Server, client: Client) -> None:
    await client.open()
    async with client.send("GET") as listening, client.send("POST", call(3, "wait")) as waiting:
        await waiting.event()
        async with client.send("DELETE"):
            pass
        assert await listening.event() is None
        assert await waiting.event() is None
    assert server.executions[0].how == "cancelled"


async def test_a_client_that_breaks_http_or_leaves_disturbs_nobody(
    server: Server, client: Client
) -> None:
    unfinished = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"
    for words in (b"nonsense\r\n\r\n", unfinished):
        stream = await trio.open_tcp_stream(client.url.host, client.url.port)
        await stream.send_all(words)
        await stream.aclose()
    await client.open()
    endless = {"from": 1_000_000, "pause": 0}
    async with client.send("GET"), client.send("POST", call(3, "countdown", endless)) as response:
        await response.event()
    await server.executions[0].over.wait()
    assert server.executions[0].how == "cancelled"
    assert (await client.ask("ping"))["result"] == {}


async def test_whoever_watches_is_told_of_each_answer(nursery: trio.Nursery) -> None:
    seen: list[tuple[str, int | None, str]] = []
    server = Server(watch=lambda it: seen.append((it.method, it.status, it.media_type)))
    await Client(await nursery.start(server.serve)).open()
    assert seen == [("POST", 200, "application/json"), ("POST", 202, "")]
