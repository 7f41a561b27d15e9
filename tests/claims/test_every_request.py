"""What the product page claims of every single request, in front of a server that checks it.

`serving` itself holds the client to the rules of the protocol at the end of each test: both media
types in `Accept` on each POST, the session id and the version on each later request, no header
twice, no `Origin`, nothing asked below `/.well-known`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

from mcp_stdio import spec
from tests.faults.driver import LANES, LIMIT, UNAUTHORIZED, Relay, opening, relaying
from tests.faults.server import (
    END,
    Server,
    Visit,
    answering,
    event,
    http,
    in_turn,
    notification,
    serving,
    stream_head,
    well,
)

TOKEN = "s3cr3t-t0k3n"

CREDENTIALS: dict[str, tuple[tuple[str, ...], dict[str, str], dict[str, str]]] = {
    "option": (("--bearer-token", TOKEN), {}, {"authorization": f"Bearer {TOKEN}"}),
    "environment": ((), {"MCP_BEARER_TOKEN": TOKEN}, {"authorization": f"Bearer {TOKEN}"}),
    "file": (("--bearer-token-file", "{file}"), {}, {"authorization": f"Bearer {TOKEN}"}),
    "command": (
        ("--bearer-token-command", f'"{sys.executable}" -c "print(open({{file!r}}).read())"'),
        {},
        {"authorization": f"Bearer {TOKEN}"},
    ),
    "header": (
        (
            "-H",
            f"Authorization: Token {TOKEN}",
            "-H",
            "X-Api-Key:${KEY}",
            "-H",
            "x-api-KEY: ${KEY}",
        ),
        {"KEY": "k3y"},
        {"authorization": f"Token {TOKEN}", "x-api-key": "k3y"},
    ),
}


class Listening:
    """A server with a listening stream, and a tool whose stream breaks and is resumed."""

    def __init__(self, server: Server) -> None:
        self._server = server
        server.methods["GET"] = self.listen
        server.tools["resumable"] = self.begin

    async def begin(self, visit: Visit) -> None:
        self._answer = visit.result()
        await visit.send(stream_head() + event(id="1", retry=10))
        await visit.close()

    async def listen(self, visit: Visit) -> None:
        await visit.send(stream_head())
        if visit.received.get(spec.LAST_EVENT_ID) == "1":
            await visit.send(event(self._answer) + END)
            return
        await visit.send(event(notification("listening")))
        await trio.sleep_forever()


async def use_everything(server: Server, relay: Relay) -> None:
    """Requests of every kind: POST, GET, DELETE, after a redirect, a resumption, a lost session."""
    await relay.heard("listening")
    await relay.ask("tools/list")
    await relay.notify("notifications/roots/list_changed")
    assert "result" in await relay.call("resumable")
    moved = answering(http(307, headers=["Location: /moved"]), runs=False)
    server.tools["moved"] = in_turn(moved, well)
    await relay.call("moved")
    server.restart()
    await relay.lives()
    with trio.fail_after(LIMIT):
        await server.saw(spec.INITIALIZED, 2)
        await server.saw("GET", 3)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("source", CREDENTIALS)
async def test_every_request_carries_what_the_user_gave(
    source: str, lane: str, tmp_path: Path
) -> None:
    given, env, expected = CREDENTIALS[source]
    file = tmp_path / "token"
    file.write_text(TOKEN)
    options = [text.format(file=file.as_posix()) if "file" in text else text for text in given]
    async with serving() as server:
        Listening(server)
        async with relaying(server.url, *options, env={**env, **LANES[lane]}) as relay:
            await use_everything(server, relay)
        for method in "POST", "GET", "DELETE":
            assert any(received.method == method for received in server.received)
        for received in server.received:
            sent = {name: received.get_all(name) for name in expected}
            assert sent == {name: [value] for name, value in expected.items()}, received


async def test_without_a_credential_none_is_sent() -> None:
    async with serving() as server:
        Listening(server)
        async with relaying(server.url, env={"MCP_BEARER_TOKEN": ""}) as relay:
            await use_everything(server, relay)
        for received in server.received:
            assert received.get("authorization") is None


@pytest.mark.parametrize("status", [401, 403])
async def test_a_challenge_starts_no_search_for_oauth(status: int) -> None:
    """Not one `/.well-known` request without `--oauth`, however much the server invites one."""
    async with serving() as server:
        where = f"http://127.0.0.1:{server.port}/.well-known/oauth-protected-resource"
        challenge = f'WWW-Authenticate: Bearer resource_metadata="{where}", scope="a b"'
        declined = answering(http(status, b"no", headers=[challenge]), runs=False)
        server.methods[spec.INITIALIZE] = declined
        async with relaying(server.url, initialize=False) as relay:
            error = (await relay.ask(spec.INITIALIZE, opening()))["error"]
            assert (error["code"], error["data"]["status"]) == (UNAUTHORIZED, status)
            if status == 401:
                assert "`MCP_BEARER_TOKEN`" in error["data"]["hint"]
                assert "`--oauth`" in error["data"]["hint"]
                assert "Bearer resource_metadata=" in error["message"]
                assert "; no" in error["message"]
            del server.methods[spec.INITIALIZE]
            await relay.initialize()
            server.tools["forbidden"] = server.methods["GET"] = declined
            assert (await relay.call("forbidden"))["error"]["code"] == UNAUTHORIZED
            await relay.lives()
        assert {received.target for received in server.received} == {"/mcp"}


async def test_nothing_that_a_message_names_is_fetched() -> None:
    """S-22: neither icons nor pages for the user, nor what a schema refers to."""
    async with serving() as server:
        here = f"http://127.0.0.1:{server.port}"
        schema = {"$schema": f"{here}/draft", "properties": {"a": {"$ref": f"{here}/a.json"}}}
        icons = [{"src": f"{here}/icon.png"}]
        question = {
            "mode": "url",
            "elicitationId": "e",
            "url": f"{here}/page",
            "message": "open it",
        }

        async def list_tools(visit: Visit) -> None:
            await visit.answer({"tools": [{"name": "t", "icons": icons, "inputSchema": schema}]})

        async def ask(visit: Visit) -> None:
            elicitation = {"id": "q1", "method": "elicitation/create", "params": question}
            await visit.send(stream_head() + event({"jsonrpc": "2.0"} | elicitation))
            await visit.send(event(visit.result()) + END)

        server.methods["tools/list"] = list_tools
        server.tools["ask"] = ask
        async with relaying(server.url) as relay:
            listed = await relay.ask("tools/list")
            assert listed["result"]["tools"][0]["inputSchema"] == schema
            assert "result" in await relay.call("ask")
            assert (await relay.heard("open it"))["params"] == question
            await relay.lives()
        assert {received.target for received in server.received} == {"/mcp"}


async def test_the_session_id_is_kept_and_given_back() -> None:
    async with serving() as server:
        async with relaying(server.url) as relay:
            for _ in range(3):
                await relay.lives()
        (session,) = {received.get(spec.SESSION_ID) for received in server.received[1:]}
        assert session == "session-1"
        assert server.received[-1].method == "DELETE"
        assert not server.sessions


async def test_a_server_without_sessions_is_sent_no_session_id() -> None:
    async with serving(has_sessions=False) as server:
        async with relaying(server.url) as relay:
            await relay.lives()
        assert not any(received.get(spec.SESSION_ID) for received in server.received)
        assert not server.requests("DELETE")


async def test_a_404_opens_a_new_session_and_the_client_notices_nothing() -> None:
    async with serving() as server, relaying(server.url) as relay:
        subscription = {"uri": "x:y"}
        await relay.ask("logging/setLevel", {"level": "debug"})
        await relay.ask("resources/subscribe", subscription)
        server.restart()
        await relay.lives()
        await relay.lives()
        sessions = {received.get(spec.SESSION_ID) for received in server.received}
        assert sessions == {None, "session-1", "session-2"}
        first, second = server.requests(spec.INITIALIZE)
        assert first.message["params"] == second.message["params"] == opening()
        assert len(server.requests("logging/setLevel")) == 2
        assert server.requests("resources/subscribe")[1].message["params"] == subscription
    assert server.runs.total() == 2


@pytest.mark.parametrize("lane", LANES)
async def test_events_are_delivered_in_real_time(lane: str) -> None:
    """Each event is on standard output before the server sends the next one."""
    heard = trio.Event()

    async def wait() -> None:
        nonlocal heard
        with trio.fail_after(LIMIT):
            await heard.wait()
        heard = trio.Event()

    async def stream(visit: Visit) -> None:
        await visit.send(stream_head())
        for number in range(5):
            await visit.send(event(notification(f"event {number} of {visit.received.rpc}")))
            await wait()
        if visit.received.method == "POST":
            await visit.send(event(visit.result()) + END)
        else:
            await trio.sleep_forever()

    async with serving() as server, relaying(server.url, env=LANES[lane]) as relay:
        server.tools["stream"] = stream
        id = await relay.start_call("stream")
        for number in range(5):
            await relay.heard(f"event {number} of tools/call")
            heard.set()
        assert "result" in await relay.answer(id)
        server.methods["GET"] = stream
        server.restart()  # so that the stream is asked for again
        await relay.lives()
        for number in range(5):
            await relay.heard(f"event {number} of GET")
            heard.set()
        await relay.lives()
