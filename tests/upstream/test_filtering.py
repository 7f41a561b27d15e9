"""Tools that are not offered: neither listed nor called, and all else as it was (P3)."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from mcp_stdio import jsonrpc
from mcp_stdio.assembly import assemble
from mcp_stdio.config import Config
from mcp_stdio.demo.server import Server as DemoServer
from mcp_stdio.errors import UnknownTool
from mcp_stdio.filtering import FilteredTools, Rules
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from tests.process import running
from tests.upstream.fakes import URL, Asked, Client, Reply, Seen, Server, result
from tests.upstream.modern import params


@pytest.mark.parametrize(
    "allow, deny, name, is_allowed",
    [
        ([], [], "x", True),
        (["read_*"], [], "read_file", True),
        (["read_*"], [], "read_", True),
        (["read_*"], [], "write_file", False),
        (["read_*"], [], "do_read_file", False),
        (["read_*"], [], "Read_file", False),
        (["read_*", "list"], [], "list", True),
        (["read_*", "list"], [], "lists", False),
        ([], ["delete*"], "delete_all", False),
        ([], ["delete*"], "read", True),
        (["*"], ["delete*"], "delete_all", False),
        (["delete_all"], ["delete*"], "delete_all", False),
        (["a?"], [], "ab", True),
        (["a?"], [], "a", False),
        (["[ab]*"], [], "bc", True),
        (["[!ab]*"], [], "bc", False),
        (["a.b"], [], "axb", False),
        (["*"], [], "a/b.c d\n", True),
        (["a"], [], "a\n", False),
        (["é"], [], "e\u0301", False),
        ([], ["x"], None, False),
        ([], ["x"], ["y"], False),
    ],
)
def test_patterns(allow: list[str], deny: list[str], name: object, is_allowed: bool) -> None:
    assert Rules(allow, deny).allows(name) == is_allowed


class Shelf:
    """An upstream that answers with these bytes, after a note."""

    version: str | None = "2025-11-25"

    def __init__(self, answer: bytes = b'{"jsonrpc":"2.0","id":7,"result":{}}') -> None:
        self.answer = answer
        self.got: list[Message] = []

    async def send(self, message: Message, call: Call) -> None:
        await trio.lowlevel.checkpoint()
        self.got.append(message)
        await call.emit(jsonrpc.notification("notifications/message", {"data": "looking"}))
        if message.is_request:
            await call.emit(jsonrpc.parse(self.answer))

    def refresh(self) -> None:
        self.got.clear()

    async def aclose(self) -> None:
        self.got.clear()


@asynccontextmanager
async def client_of(shelf: Shelf, *, allow: str = "", deny: str = "") -> AsyncIterator[Client]:
    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            client = Client(nursery)
            client.upstream = FilteredTools(shelf, Rules(allow.split(), deny.split()))
            yield client


async def listed(answer: bytes, *, allow: str = "", deny: str = "") -> bytes:
    """What the client gets for `tools/list`, id 7."""
    async with client_of(Shelf(answer), allow=allow, deny=deny) as client:
        asked = client.ask("tools/list", id=7)
        await client.done(asked)
    assert asked.notes == ["looking"]
    [response] = [message for message in asked.emitted if message.is_response]
    return response.raw


def page(tools: bytes) -> bytes:
    return b'{"z":1e400, "jsonrpc":"2.0","result":{"a":1.0, "tools":%s ,"n":2},"id":7}' % tools


A = b'{"x":1.50,"name":"a","\\u00e9":9007199254740993}'
B = b'{ "name" : "b","name2":"a"}'
C = b'{"inputSchema":{"name":"a"},"n\\u0061me":"\\u0063"}'


@pytest.mark.parametrize(
    "allow, deny, tools, left",
    [
        ("*", "", b"[ " + A + b" , " + B + b" ]", b"[ " + A + b" , " + B + b" ]"),
        ("a", "", b"[ " + A + b" , " + B + b"," + C + b"]", b"[" + A + b"]"),
        ("", "b", b"[ " + A + b" , " + B + b"," + C + b"]", b"[" + A + b"," + C + b"]"),
        ("c", "", b"[ " + A + b" , " + B + b"," + C + b"]", b"[" + C + b"]"),
        ("", "*", b"[ " + A + b" , " + B + b"," + C + b"]", b"[]"),
        ("", "x", b'[1,"a",{"name":5},{},null,' + A + b"]", b"[" + A + b"]"),
        ("", "x", b"[ ]", b"[ ]"),
    ],
)
async def test_what_is_left_of_a_page_stays_byte_for_byte(
    allow: str, deny: str, tools: bytes, left: bytes
) -> None:
    assert await listed(page(tools), allow=allow, deny=deny) == page(left)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}',
        b'{"jsonrpc":"2.0","id":7,"result":{"tools":{"name":"b"}}}',
        b'{"jsonrpc":"2.0","id":7,"result":[{"name":"b"}]}',
        b'{"jsonrpc":"2.0","id":7,"result":{"resources":[{"name":"b"}]}}',
    ],
)
async def test_what_holds_no_tools_passes(answer: bytes) -> None:
    assert await listed(answer, allow="a") == answer


async def test_a_list_that_becomes_empty_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await listed(page(b"[" + A + b"]"), allow="b")
    assert caplog.messages == ["`--allow-tool` and `--deny-tool` leave none of 1 tools"]


async def test_a_call_of_a_tool_that_is_not_offered_never_reaches_the_server() -> None:
    shelf = Shelf()
    async with client_of(shelf, deny="b") as client:
        asked = client.ask("tools/call", {"name": "b", "arguments": {}})
        nameless = client.ask("tools/call", {"name": ["b"]})
        told = client.tell("tools/call", {"name": "b"})
        await client.done(asked, nameless, told)
    for failure in (asked.failure, nameless.failure, told.failure):
        assert isinstance(failure, UnknownTool)
    assert shelf.got == []
    answer = jsonrpc.failure(1, asked.failure).error  # type: ignore[arg-type]
    assert answer is not None
    assert (answer["code"], answer["message"]) == (-32602, "Unknown tool: b")
    assert answer["data"]["origin"] == "mcp-stdio"
    assert "`--deny-tool`" in answer["data"]["hint"]


@pytest.mark.parametrize(
    "method, parameters",
    [
        ("tools/call", {"name": "a", "arguments": {"name": "b"}}),
        ("prompts/get", {"name": "b"}),
        ("resources/list", None),
        ("server/discover", {}),
    ],
)
async def test_everything_else_passes_as_it_is(method: str, parameters: Any) -> None:
    shelf = Shelf(b'{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"b"}]}}')
    async with client_of(shelf, allow="a") as client:
        asked = client.ask(method, parameters, id=7)
        told = client.tell("notifications/cancelled", {"name": "b"})
        await client.done(asked, told)
    assert asked.result == {"tools": [{"name": "b"}]}
    sent = {asked.relayed.message.raw, told.relayed.message.raw}
    assert {message.raw for message in shelf.got} == sent


async def test_it_is_no_more_than_a_wrapper_else() -> None:
    shelf = Shelf()
    async with client_of(shelf) as client:
        await client.done(client.ask("ping", id=7))
        assert client.upstream.version == "2025-11-25"
        client.upstream.refresh()
        assert shelf.got == []
        await client.upstream.aclose()


# As it is assembled


OFFERED = {name: {"name": name, "inputSchema": {"type": "object"}} for name in ("a", "b", "c")}


class Paged(Server):
    """Serves both eras, told apart by the header, and lists its tools one by one."""

    def _default(self, seen: Seen) -> Any:
        match seen.rule:
            case "tools/list":
                at = int(seen.message.get("params", {}).get("cursor", 0))
                more = {"nextCursor": str(at + 1)} if at + 1 < len(OFFERED) else {}
                return complete(seen, tools=[list(OFFERED.values())[at]], **more)
            case "tools/call":
                return complete(seen, content=[])
            case "server/discover":
                return complete(
                    seen, supportedVersions=["2026-07-28"], capabilities={"tools": {}}, ttlMs=0
                )
        return super()._default(seen)


def complete(seen: Seen, **members: Any) -> Reply:
    """A result in the words of the era that the request is of."""
    is_modern = seen.header("MCP-Protocol-Version") == "2026-07-28"
    return result(seen, members | ({"resultType": "complete"} if is_modern else {}))


@asynccontextmanager
async def relayed(server: Server, **settings: Any) -> AsyncIterator[Client]:
    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            client = Client(nursery)
            config = Config(url=str(URL), **settings)
            client.upstream = assemble(config, server, nursery, client.emit)
            yield client
            nursery.cancel_scope.cancel()


async def asked_of(client: Client, method: str, parameters: Any) -> Asked:
    asked = client.ask(method, parameters)
    await client.done(asked)
    return asked


def names(asked: Asked) -> list[str]:
    return [tool["name"] for tool in asked.result["tools"]]


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("is_modern", [False, True], ids=["handshake", "stateless"])
async def test_clients_of_both_eras_see_what_is_allowed(era: str, is_modern: bool) -> None:
    server = Paged()
    settings = {"protocol_era": era, "deny_tools": ("b",)}

    def of_client(**members: Any) -> Any:
        return params(**members) if is_modern else members

    async with relayed(server, **settings) as client:
        if not is_modern:
            await client.shake_hands()
        assert names(await asked_of(client, "tools/list", of_client())) == ["a", "c"]
        called = await asked_of(client, "tools/call", of_client(name="b", arguments={}))
        assert isinstance(called.failure, UnknownTool)
        assert server.got("tools/call") == []
        assert (await asked_of(client, "tools/call", of_client(name="a", arguments={}))).result


async def test_pages_are_filtered_one_by_one_where_they_are_not_merged() -> None:
    settings = {"merge_pages": False, "allow_tools": ("b",)}
    async with relayed(Paged(), **settings) as client:
        await client.shake_hands()
        first = await asked_of(client, "tools/list", {})
        assert first.result == {"tools": [], "nextCursor": "1"}
        second = await asked_of(client, "tools/list", {"cursor": "1"})
        assert second.result == {"tools": [OFFERED["b"]], "nextCursor": "2"}


@pytest.mark.parametrize(
    "allowed, warnings",
    [("a", []), ("c", []), ("x", ["`--allow-tool` and `--deny-tool` leave none of 3 tools"])],
)
async def test_only_a_whole_list_is_found_empty(
    allowed: str, warnings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mcp_stdio.filtering")
    async with relayed(Paged(), merge_pages=False, allow_tools=(allowed,)) as client:
        await client.shake_hands()
        for times in (1, 2):
            for cursor in ({}, {"cursor": "1"}, {"cursor": "2"}):
                await asked_of(client, "tools/list", cursor)
            assert caplog.messages == warnings * times


async def test_nothing_stands_in_the_way_where_no_tool_is_left_out() -> None:
    async with relayed(Server()) as client:
        assert not isinstance(client.upstream, FilteredTools)


# The process


async def test_the_process_offers_what_is_allowed(nursery: trio.Nursery) -> None:
    server = DemoServer()
    url = await nursery.start(server.serve)
    options = ("--allow-tool", "e*", "--allow-tool", "a*", "--deny-tool", "ask")
    async with running(url, *options) as relay:
        await relay.shake_hands()
        tools = (await relay.ask("tools/list"))["result"]["tools"]
        assert [tool["name"] for tool in tools] == ["echo", "add"]
        refused = await relay.ask("tools/call", {"name": "wait", "arguments": {}})
        assert refused["error"]["message"] == "Unknown tool: wait"
        done = await relay.ask("tools/call", {"name": "echo", "arguments": {"text": "hi"}})
        assert json.dumps(done["result"]).count("hi") == 1
        await relay.close_stdin()
        assert await relay.wait() == 0
    assert [execution.tool for execution in server.executions] == ["echo"]
    nursery.cancel_scope.cancel()
