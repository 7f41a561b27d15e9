"""Mirrored parameters: pages are filtered, calls are sent once more (T-32, T-35, T-64)."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc, splice
from mcp_stdio.errors import ConnectionLost, RelayError, Unsendable
from mcp_stdio.jsonrpc import Message
from mcp_stdio.mirroring import Catalogue
from mcp_stdio.upstream import Call
from mcp_stdio.upstream.parameters import LISTING, MAX_PAGES, Parameters
from mcp_stdio.upstream.progress import MAX_TOKENS, Rising
from tests.upstream.fakes import (
    Asked,
    Client,
    Reply,
    Seen,
    Server,
    error,
    in_session_with,
    in_turn,
    result,
)
from tests.upstream.modern import stateless

META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "neo", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}

ODD = b'{"z":1e400,"name":"odd","n":1.0,"s":"\\u00e9\\/",  "\xc3\xa9":[ ]}'
BAD = b'{"name":"bad","inputSchema":{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}}'


def tool(header: str | None, name: str = "deploy") -> bytes:
    """A tool with one parameter, mirrored or not."""
    region = {"type": "string"} | ({} if header is None else {"x-mcp-header": header})
    schema = {"type": "object", "properties": {"region": region}}
    return json.dumps({"name": name, "inputSchema": schema}).encode()


def page(*tools: bytes, cursor: str | None = None) -> bytes:
    end = b"" if cursor is None else b',"nextCursor":' + json.dumps(cursor).encode()
    return b'{"jsonrpc":"2.0","id":ID,"result":{"tools":[%s]%s}}' % (b",".join(tools), end)


class Shop:
    """A server that wants `header` on each call, and the upstream in front of it.

    Answers `tools/list` by `pages` in turn, the last one again and again.
    """

    version: str | None = "2026-07-28"

    def __init__(self, *pages: bytes | RelayError, header: str | None = "Region") -> None:
        self.catalogue = Catalogue(is_active=True)
        self.pages = list(pages)
        self.header = header
        self.keeps_turns = False
        self.steps: list[float] = []  # the progress of a call, the same in each attempt
        self.before: dict[str, Callable[[], Awaitable[Any]]] = {}  # waits before an answer
        self.asides: list[Message] = []  # what else a call brings
        self.seen: list[tuple[Message, dict[str, str]]] = []

    def got(self, method: str) -> list[Message]:
        return [message for message, _ in self.seen if message.method == method]

    @property
    def headers(self) -> list[dict[str, str]]:
        """The mirrored headers of each call."""
        return [headers for message, headers in self.seen if message.method == "tools/call"]

    async def send(self, message: Message, call: Call) -> None:
        await call.turn.come()
        headers = dict(self.catalogue.headers(message))
        self.seen.append((message, headers))
        if not self.keeps_turns:
            call.turn.over()
        await trio.lowlevel.checkpoint()
        await call.emit(jsonrpc.notification("notifications/message", {"data": message.method}))
        if message.id is None:
            return
        if message.method in self.before:
            await self.before[message.method]()
        if message.method == "tools/list":
            given = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
            if isinstance(given, RelayError):
                raise given
            answer = given.replace(b"ID", splice.encode(message.id).encode())
            await call.emit(jsonrpc.parse(answer))
        elif message.method == "tools/call":
            await self._run(message, headers, call)
        else:
            await call.emit(jsonrpc.result(message.id, {}))

    async def _run(self, message: Message, headers: dict[str, str], call: Call) -> None:
        assert message.id is not None
        meta = message.params.get("_meta", {})
        for aside in self.asides:
            await call.emit(aside)
        for step in self.steps:
            params = {"progressToken": meta.get("progressToken"), "progress": step}
            await call.emit(jsonrpc.notification("notifications/progress", params))
        region = message.params.get("arguments", {}).get("region")
        wanted = {} if self.header is None else {f"Mcp-Param-{self.header}": region}
        if headers == wanted:
            await call.emit(jsonrpc.result(message.id, {"region": region}))
        else:
            await call.emit(jsonrpc.error(message.id, -32020, "header mismatch"))

    def refresh(self) -> None:
        self.pages.clear()

    async def aclose(self) -> None:
        self.seen.clear()


@asynccontextmanager
async def shopping(shop: Shop) -> AsyncIterator[Client]:
    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            client = Client(nursery)
            ids = (f"own-{number}" for number in itertools.count(1))
            client.upstream = Parameters(shop, shop.catalogue, ids)
            yield client


def deploy(client: Client, region: str = "eu", *, name: str = "deploy", **meta: Any) -> Asked:
    params = {"name": name, "arguments": {"region": region}, "_meta": META | meta}
    return client.ask("tools/call", params)


async def listed(shop: Shop) -> bytes:
    """The raw answer to a `tools/list` with id 7."""
    async with shopping(shop) as client:
        asked = client.ask("tools/list", id=7)
        await client.done(asked)
    [answer] = [message for message in asked.emitted if message.is_response]
    return answer.raw


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def complaints(caplog: pytest.LogCaptureFixture) -> int:
    return sum(each.levelno == logging.ERROR for each in caplog.records)


# Pages


async def test_a_call_carries_what_the_listing_taught() -> None:
    # T-30
    shop = Shop(page(tool("Region", "other"), cursor="2"), page(tool("Region")))
    async with shopping(shop) as client:
        first = client.ask("tools/list")
        await client.done(first)
        await client.done(client.ask("tools/list", {"cursor": "2"}))
        call = deploy(client)
        await client.done(call)
    assert call.result == {"region": "eu"}
    assert shop.headers == [{"Mcp-Param-Region": "eu"}]
    assert len(shop.got("tools/list")) == 2
    assert first.result["nextCursor"] == "2"


async def test_a_tool_never_listed_is_called_without_headers() -> None:
    # T-34
    shop = Shop(page(), header=None)
    async with shopping(shop) as client:
        call = deploy(client)
        await client.done(call)
    assert call.result == {"region": "eu"}
    assert [message.method for message, _ in shop.seen] == ["tools/call"]


async def test_invalid_tools_are_cut_out_and_the_rest_stays_as_it_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # T-32
    assert await listed(Shop(page(ODD, BAD, tool("A"), cursor="x"))) == page(
        ODD, tool("A"), cursor="x"
    ).replace(b"ID", b"7")
    assert warnings(caplog) == [
        "the tool `bad` is left out: `x-mcp-header` of `a` is on a parameter of the type `number`"
    ]


async def test_a_page_may_become_empty_and_keeps_its_cursor() -> None:
    # T-32
    assert await listed(Shop(page(BAD, cursor=""))) == page(cursor="").replace(b"ID", b"7")


async def test_a_page_of_valid_tools_keeps_every_byte() -> None:
    raw = b' { "id":7 , "result":{"tools":[ %s , 5 ,null]}, "x":1E5, "jsonrpc" :"2.0"} ' % ODD
    assert await listed(Shop(raw)) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b'{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}',
        b'{"jsonrpc":"2.0","id":7,"result":{"tools":{"bad":%s}}}' % BAD,
        b'{"jsonrpc":"2.0","id":7,"result":[%s]}' % BAD,
        b'{"jsonrpc":"2.0","id":7,"result":{}}',
    ],
)
async def test_what_is_no_page_stays_as_it_was(raw: bytes) -> None:
    assert await listed(Shop(raw)) == raw


async def test_a_server_that_wants_no_headers_keeps_all_its_tools(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # T-32: only once it has complained.
    shop = Shop(page(BAD, tool("Region")), header=None)
    shop.catalogue.is_active = False
    assert await listed(shop) == page(BAD, tool("Region")).replace(b"ID", b"7")
    assert warnings(caplog) == []


async def test_a_tool_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    # T-32
    nameless = BAD.replace(b'"bad"', b"[7]")
    hostile = BAD.replace(b'"bad"', b'"two\\nlines\\u001b%s"' % (b"x" * 5000))
    async with shopping(Shop(page(BAD, nameless, hostile))) as client:
        for _ in range(3):
            await client.done(client.ask("tools/list"))
    said = warnings(caplog)
    assert len(said) == 3
    assert all(text.isprintable() and len(text) < 500 for text in said)


# Calls sent once more


async def test_a_call_with_wrong_headers_is_sent_once_more_with_right_ones() -> None:
    # T-35
    shop = Shop(page(tool("Region")))
    async with shopping(shop) as client:
        call = deploy(client, progressToken="p")
        await client.done(call)
    assert call.result == {"region": "eu"}
    assert call.answer["id"] == 100
    assert call.notes == ["tools/call", "tools/list", "tools/call"]
    assert shop.headers == [{}, {"Mcp-Param-Region": "eu"}]
    first, second = shop.got("tools/call")
    assert (first.id, second.id) == (100, "own-2")
    assert second.raw == first.with_id("own-2").raw
    [listing] = shop.got("tools/list")
    # Without the token, which belongs to the call (T-64).
    assert listing.body == {
        "jsonrpc": "2.0",
        "id": "own-1",
        "method": "tools/list",
        "params": {"_meta": META},
    }


async def test_a_changed_schema_is_noticed() -> None:
    # T-35
    shop = Shop(page(tool("Zone")), page(tool("Region")))
    async with shopping(shop) as client:
        await client.done(client.ask("tools/list"))
        call = deploy(client)
        await client.done(call)
    assert call.result == {"region": "eu"}
    assert shop.headers == [{"Mcp-Param-Zone": "eu"}, {"Mcp-Param-Region": "eu"}]


async def test_an_annotation_that_is_gone_is_noticed() -> None:
    shop = Shop(page(tool("Zone")), page(tool(None)), header=None)
    async with shopping(shop) as client:
        await client.done(client.ask("tools/list"))
        call = deploy(client)
        await client.done(call)
    assert call.result == {"region": "eu"}
    assert shop.headers == [{"Mcp-Param-Zone": "eu"}, {}]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(page(tool("Zone")), id="same"),
        pytest.param(page(tool("Region", "other")), id="not listed"),
        pytest.param(page(BAD), id="invalid"),
        pytest.param(ConnectionLost("gone"), id="failure"),
        pytest.param(b'{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"no"}}', id="error"),
        pytest.param(b'{"jsonrpc":"2.0","id":ID,"result":{}}', id="no list"),
    ],
)
async def test_the_same_headers_are_not_sent_again(
    given: bytes | RelayError, caplog: pytest.LogCaptureFixture
) -> None:
    # T-35
    shop = Shop(page(tool("Zone")), given)
    async with shopping(shop) as client:
        await client.done(client.ask("tools/list"))
        call = deploy(client)
        await client.done(call)
    assert call.answer == {
        "jsonrpc": "2.0",
        "id": 101,
        "error": {"code": -32020, "message": "header mismatch"},
    }
    assert len(shop.got("tools/call")) == 1
    assert len(shop.got("tools/list")) == 2
    assert complaints(caplog) == 1


async def test_a_call_is_sent_again_only_once(caplog: pytest.LogCaptureFixture) -> None:
    # T-35
    shop = Shop(page(tool("A")), page(tool("B")), page(tool("C")), header="D")
    async with shopping(shop) as client:
        await client.done(client.ask("tools/list"))
        call = deploy(client)
        await client.done(call)
    assert call.answer["id"] == 101
    assert call.answer["error"]["code"] == -32020
    assert shop.headers == [{"Mcp-Param-A": "eu"}, {"Mcp-Param-B": "eu"}]
    assert complaints(caplog) == 1


async def test_other_errors_and_other_requests_are_no_complaint() -> None:
    shop = Shop(page(tool("Region")))
    shop.pages = [b'{"jsonrpc":"2.0","id":ID,"error":{"code":-32020,"message":"no"}}']
    async with shopping(shop) as client:
        listing = client.ask("tools/list")
        await client.done(listing, client.tell("tools/call", {"name": "deploy"}))
        assert listing.answer["error"]["code"] == -32020
        await client.done(client.ask("ping"), client.tell("notifications/x"))
    methods = [message.method for message, _ in shop.seen]
    assert methods == ["tools/list", "tools/call", "ping", "notifications/x"]


async def test_a_server_of_the_handshake_era_may_complain_too() -> None:
    # T-32, T-35: no `_meta` in the call, none in the listing.
    shop = Shop(page(BAD, tool("Region")))
    shop.catalogue.is_active = False
    async with shopping(shop) as client:
        call = client.ask("tools/call", {"name": "deploy", "arguments": {"region": "eu"}})
        await client.done(call)
        assert call.result == {"region": "eu"}
        [listing] = shop.got("tools/list")
        assert listing.body == {"jsonrpc": "2.0", "id": "own-1", "method": "tools/list"}
        asked = client.ask("tools/list")
        await client.done(asked)
    assert [tool["name"] for tool in asked.result["tools"]] == ["deploy"]


async def test_the_meta_of_the_call_goes_along_as_it_was_written() -> None:
    shop = Shop(page(tool("A"), cursor="x"), page(tool("Region")))
    raw = (
        b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"_meta":{"n":1e400, '
        b'"progressToken":1,"\\u00e9":9007199254740993},"name":"deploy",'
        b'"arguments":{"region":"eu"}}}'
    )
    async with shopping(shop) as client:
        call = client.put(jsonrpc.parse(raw))
        await client.done(call)
    assert call.result == {"region": "eu"}
    meta = b'"_meta":{"n":1e400, "\\u00e9":9007199254740993}'
    assert [message.raw for message in shop.got("tools/list")] == [
        b'{"params":{%s},"jsonrpc":"2.0","id":"own-1","method":"tools/list"}' % meta,
        b'{"jsonrpc":"2.0","id":"own-2","method":"tools/list","params":{%s,"cursor":"x"}}' % meta,
    ]


async def test_all_pages_are_listed_and_an_empty_cursor_is_one() -> None:
    # T-35
    shop = Shop(page(tool("A", "a"), cursor=""), page(cursor="x"), page(tool("Region")))
    async with shopping(shop) as client:
        call = deploy(client)
        await client.done(call)
    assert call.result == {"region": "eu"}
    cursors = [message.params.get("cursor") for message in shop.got("tools/list")]
    assert cursors == [None, "", "x"]


async def test_pages_that_never_end_are_bounded() -> None:
    shop = Shop(*(page(cursor=str(number)) for number in range(MAX_PAGES + 5)))
    async with shopping(shop) as client:
        call = deploy(client)
        await client.done(call)
    assert call.answer["error"]["code"] == -32020
    assert len(shop.got("tools/list")) == MAX_PAGES


async def test_pages_that_go_in_circles_end() -> None:
    shop = Shop(page(cursor="a"), page(cursor="b"), page(cursor="a"))
    async with shopping(shop) as client:
        await client.done(deploy(client))
    assert len(shop.got("tools/list")) == 3


async def test_calls_at_the_same_time_share_one_listing(autojump_clock: MockClock) -> None:
    # T-35
    shop = Shop(page(tool("Region")))
    shop.before["tools/list"] = partial(trio.sleep, 1)
    async with shopping(shop) as client:
        calls = [deploy(client, str(number)) for number in range(20)]
        await client.done(*calls)
        assert [call.result for call in calls] == [{"region": str(n)} for n in range(20)]
        assert len(shop.got("tools/list")) == 1
        # A complaint about what that listing taught is a reason for another.
        shop.header, shop.pages = "Zone", [page(tool("Zone"))]
        late = deploy(client, "late")
        await client.done(late)
    assert late.result == {"region": "late"}
    assert len(shop.got("tools/list")) == 2


async def test_a_call_that_is_sent_while_the_tools_are_listed_has_them_listed_again(
    autojump_clock: MockClock,
) -> None:
    # The listing may have begun before what the call was found to lack.
    shop = Shop(page(), page(tool("Region")))
    shop.before["tools/list"] = partial(trio.sleep, 10)
    async with shopping(shop) as client:
        early = deploy(client)
        await trio.sleep(5)
        late = deploy(client)
        await client.done(early, late)
    assert early.answer["error"]["code"] == -32020
    assert late.result == {"region": "eu"}


async def test_a_cancelled_call_leaves_the_listing_to_the_next(autojump_clock: MockClock) -> None:
    shop = Shop(page(tool("Region")))
    waiting = iter([trio.sleep_forever, trio.lowlevel.checkpoint])
    shop.before["tools/list"] = lambda: next(waiting)()
    async with shopping(shop) as client:
        first = deploy(client, "first")
        await wait_all_tasks_blocked()
        second = deploy(client, "second")
        third = deploy(client, "third")
        await wait_all_tasks_blocked()
        client.cancel(first)
        await client.done(first, second, third)
    assert [message for message in first.emitted if message.is_response] == []
    assert second.result == {"region": "second"}
    assert third.result == {"region": "third"}
    assert len(shop.got("tools/list")) == 2


async def test_a_listing_without_an_end_holds_up_nobody_for_ever(
    autojump_clock: MockClock,
) -> None:
    # T-63
    shop = Shop(page(tool("Region")))
    shop.before["tools/list"] = trio.sleep_forever
    async with shopping(shop) as client:
        calls = [deploy(client) for _ in range(5)]
        await client.done(*calls)
    assert [call.answer["error"]["code"] for call in calls] == [-32020] * 5
    assert [call.took for call in calls] == [LISTING] * 5


async def test_messages_behind_do_not_wait_for_the_listing(autojump_clock: MockClock) -> None:
    shop = Shop(page(tool("Region")))
    shop.keeps_turns = True
    shop.before["tools/list"] = partial(trio.sleep, 10)
    async with shopping(shop) as client:
        call, behind = deploy(client), client.ask("ping")
        await client.done(call, behind)
    assert (behind.took, call.took) == (0, 10)


async def test_what_no_header_can_carry_is_not_sent() -> None:
    # 1.4
    shop = Shop(page(tool("Region")))
    async with shopping(shop) as client:
        await client.done(client.ask("tools/list"))
        call = deploy(client, "\ud83d")
        await client.done(call)
    assert isinstance(call.failure, Unsendable)
    assert shop.got("tools/call") == []


async def test_large_integers_are_warned_about_once_and_never_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # T-36, T-37
    caplog.set_level(logging.DEBUG)
    shop = Shop(page(tool("Region")))
    params = {"name": "deploy", "arguments": {"region": 9007199254740993}}
    async with shopping(shop) as client:
        await client.done(client.ask("tools/list"))
        for _ in range(2):
            await client.done(client.ask("tools/call", params))
    assert shop.headers[0] == {"Mcp-Param-Region": "9007199254740993"}
    assert warnings(caplog) == ["the integer in `Mcp-Param-Region` is too large for some servers"]
    assert "9007199254740993" not in caplog.text


async def test_only_a_response_can_complain() -> None:
    shop = Shop(page(tool("Region")), header=None)
    odd = b'{"jsonrpc":"2.0","method":"notifications/x","error":{"code":-32020,"message":"no"}}'
    async with shopping(shop) as client:
        shop.asides = [jsonrpc.parse(odd)]
        call = deploy(client)
        await client.done(call)
    assert [message.raw for message in call.emitted if message.method == "notifications/x"] == [odd]
    assert call.result == {"region": "eu"}
    assert len(shop.seen) == 1


@pytest.mark.parametrize("waiting", ["tools/list", "tools/call"])
async def test_a_cancel_names_what_the_server_is_busy_with(
    waiting: str, autojump_clock: MockClock
) -> None:
    # T-61
    def list_tools(seen: Seen) -> Reply:
        value = json.loads(page(tool("Region")).replace(b"ID", b"0"))["result"]
        return result(seen, value, before=[trio.Event()] if waiting == "tools/list" else [])

    server = Server()
    server.rules["tools/list"] = list_tools
    server.rules["tools/call"] = in_turn(
        lambda seen: error(seen, -32020), lambda seen: result(seen, before=[trio.Event()])
    )
    async with in_session_with(server) as client:
        catalogue, ids = Catalogue(is_active=False), iter(["own-1", "own-2"])
        client.upstream = Parameters(client.upstream, catalogue, ids)
        await client.shake_hands()
        call = deploy(client)
        await wait_all_tasks_blocked()
        assert server.order()[-1] == waiting
        client.cancel(call)
        await client.done(call)
    assert call.emitted == []
    [notice] = server.got("notifications/cancelled")
    expected = {"tools/list": "own-1", "tools/call": "own-2"}[waiting]
    assert notice.message["params"]["requestId"] == expected


@pytest.mark.parametrize("status", [400, 200])
async def test_the_headers_on_the_wire_are_those_of_the_listing(status: int) -> None:
    # T-35: the complaint comes under 400, or inside a stream that has begun with 200.
    def run(seen: Seen) -> Reply:
        if seen.header("Mcp-Param-Region") == "=?base64?w6k=?=":
            return result(seen, {"id": seen.id})
        return error(seen, -32020, status=status)

    server = Server()
    server.rules["tools/call"] = run
    value = json.loads(page(tool("Region")).replace(b"ID", b"0"))["result"]
    server.rules["tools/list"] = lambda seen: result(seen, value)
    catalogue = Catalogue(is_active=True)
    async with stateless(server, parameter_headers=catalogue.headers) as client:
        client.upstream = Parameters(client.upstream, catalogue, iter(["own-1", "own-2"]))
        calls = []
        for _ in range(2):
            calls.append(deploy(client, "\u00e9"))
            await client.done(calls[-1])
    assert [call.result for call in calls] == [{"id": "own-2"}, {"id": 101}]
    assert server.order() == ["tools/call", "tools/list", "tools/call", "tools/call"]
    for seen in server.got("tools/call") + server.got("tools/list"):
        assert seen.header("MCP-Protocol-Version") == "2026-07-28"
        assert seen.header("Mcp-Method") == seen.rule
        assert seen.header("Mcp-Name") == ("deploy" if seen.rule == "tools/call" else None)


async def test_other_upstream_duties_are_passed_on() -> None:
    shop = Shop(page())
    async with shopping(shop) as client:
        await client.done(client.ask("ping"))
        assert client.upstream.version == "2026-07-28"
        client.upstream.refresh()
        assert shop.pages == []
        await client.upstream.aclose()
        assert shop.seen == []


# Progress over several attempts (T-64)


def progress_of(asked: Asked) -> list[float]:
    return [
        message.params["progress"]
        for message in asked.emitted
        if message.method == "notifications/progress"
    ]


async def test_progress_of_the_second_attempt_rises_above_the_first() -> None:
    shop = Shop(page(tool("Region")))
    shop.steps = [1, 2, 2, 3]
    async with shopping(shop) as client:
        call = deploy(client, progressToken="p")
        await client.done(call)
    # The first attempt is shown as it is.
    assert progress_of(call) == [1, 2, 2, 3]
    shop = Shop(page(tool("Region")))
    shop.steps = [1, 2]

    async def go_further() -> None:
        shop.steps = [1, 2, 2.5, 2.5, 2.25, 4]

    shop.before["tools/list"] = go_further
    async with shopping(shop) as client:
        call = deploy(client, progressToken="p")
        await client.done(call)
    assert progress_of(call) == [1, 2, 2.5, 4]
    assert call.result == {"region": "eu"}


def step(token: Any, progress: Any, method: str = "notifications/progress") -> Message:
    return jsonrpc.notification(method, {"progressToken": token, "progress": progress})


async def delivered(*steps: Message) -> list[bool]:
    """Which of the steps of a further attempt reach the client, in whatever pieces they come."""
    found: list[list[bool]] = []
    for size in (1, 2, len(steps)):
        emitted: list[Message] = []

        async def emit(message: Message, emitted: list[Message] = emitted) -> None:
            emitted.append(message)

        rising = Rising(emit)
        for start in range(0, len(steps), size):
            if size == 1:
                await rising.emit(steps[start])
            else:
                await rising.emit_all(steps[start : start + size])
        found.append([message in emitted for message in steps])
    assert all(each == found[0] for each in found)
    return found[0]


async def test_a_first_attempt_is_delivered_as_it_is_and_counts() -> None:
    emitted: list[Message] = []

    async def emit(message: Message) -> None:
        emitted.append(message)

    rising = Rising(emit)
    await rising.first(step("p", 1))
    await rising.first_all([step("p", 3), step("p", 2)])
    await rising.emit_all([step("p", 3), step("p", 4)])
    await rising.emit_all([step("p", 4)])
    assert [message.params["progress"] for message in emitted] == [1, 3, 2, 4]


@pytest.mark.parametrize(
    "steps, expected",
    [
        ([step("p", 0), step("p", 1), step("p", 0.5), step("p", 1.0)], [True, True, False, False]),
        ([step("p", 2), step("q", 1), step(1, 1), step("1", 1)], [True, True, True, True]),
        ([step(1, 2), step("1", 1), step(1, 1)], [True, True, False]),
        ([step("p", 2), step("p", "1"), step("p", None), step("p", 1)], [True, True, True, False]),
        ([step("p", 2), step(None, 1), step(["p"], 1), step({}, 1)], [True] * 4),
        ([step("p", 2), step("p", 1, "notifications/message")], [True, True]),
        ([step("p", 2), jsonrpc.result(1, {"progressToken": "p", "progress": 1})], [True, True]),
    ],
)
async def test_only_progress_that_does_not_rise_is_dropped(
    steps: list[Message], expected: list[bool]
) -> None:
    assert await delivered(*steps) == expected


async def test_the_tokens_remembered_are_bounded() -> None:
    many = [step(f"p{number}", 5) for number in range(MAX_TOKENS + 1)]
    again = [step(f"p{number}", 4) for number in (0, MAX_TOKENS - 1, MAX_TOKENS)]
    more = [step("p0", 7), step("p0", 6)]
    expected = [True] * len(many) + [False, False, True] + [True, False]
    assert await delivered(*many, *again, *more) == expected
