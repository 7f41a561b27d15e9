"""Pages of a list merged into one answer, byte for byte (P3)."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import jsonrpc, splice
from mcp_stdio.errors import ConnectionLost
from mcp_stdio.jsonrpc import Message
from mcp_stdio.shaping import MAX_PAGES, MergedPages
from mcp_stdio.spec import LISTS
from mcp_stdio.upstream import Call
from tests.upstream.fakes import Client, Server, in_session_with, result

Pages = Callable[[Message, Call], Awaitable[None]]


class Book:
    """An upstream whose answers are raw bytes, one for each request in turn."""

    version: str | None = "2025-11-25"

    def __init__(self, *pages: bytes | Exception) -> None:
        self.pages = list(pages)
        self.requests: list[Message] = []

    async def send(self, message: Message, call: Call) -> None:
        await trio.lowlevel.checkpoint()
        self.requests.append(message)
        await call.emit(jsonrpc.notification("notifications/message", {"data": "turning"}))
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        id = splice.encode(message.id)
        await call.emit(jsonrpc.parse(page.replace(b"ID", id.encode())))

    def refresh(self) -> None:
        self.pages.clear()

    async def aclose(self) -> None:
        self.requests.clear()


@asynccontextmanager
async def reading(book: Book, *, limit: int = 100_000) -> AsyncIterator[Client]:
    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            client = Client(nursery)
            ids = (f"own-{number}" for number in itertools.count(1))
            client.upstream = MergedPages(book, ids, limit=limit)
            yield client


async def read(
    book: Book, *, request: bytes | None = None, method: str = "tools/list", limit: int = 100_000
) -> bytes:
    """The raw answer to a list request with id 7."""
    message = jsonrpc.parse(request) if request else jsonrpc.request(7, method)
    async with reading(book, limit=limit) as client:
        asked = client.put(message)
        await client.done(asked)
    assert asked.failure is None
    [answer] = [message for message in asked.emitted if message.is_response]
    return answer.raw


def page(items: bytes, cursor: str | None = None, *, rest: bytes = b"") -> bytes:
    end = b"" if cursor is None else b',"nextCursor":' + json.dumps(cursor).encode()
    return b'{"jsonrpc":"2.0","id":ID,"result":{"tools":' + items + rest + end + b"}}"


ODD = b'{"z":1e400,"a":9007199254740993,"n":1.0,"s":"\\u00e9\\/\\ud83d",  "\xc3\xa9":[ ]}'


async def test_a_list_of_one_page_stays_what_it_was() -> None:
    raw = b' { "id" : 7 , "result" : {"tools":[ ' + ODD + b' ], "x":1E5 } , "jsonrpc" : "2.0" } '
    assert await read(Book(raw)) == raw


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}', id="error"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":{"nextCursor":"x"}}', id="no list"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":{"tools":{},"nextCursor":"x"}}', id="map"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":[1]}', id="odd result"),
        pytest.param(
            b'{"jsonrpc":"2.0","id":7,"result":{"tools":[],"nextCursor":null}}', id="null"
        ),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":{"tools":[],"nextCursor":3}}', id="number"),
    ],
)
async def test_what_names_no_further_page_stays_what_it_was(raw: bytes) -> None:
    assert await read(Book(raw)) == raw


async def test_items_are_joined_byte_for_byte() -> None:
    first = page(b"[ " + ODD + b" ]", "2", rest=b',"_meta":{"q":1.50},"other":1e400')
    second = page(b"[" + ODD + b",\t" + ODD + b"]", "3", rest=b',"other":2')
    third = page(b"[3]")
    merged = page(
        b"[" + b",".join([ODD, ODD + b",\t" + ODD, b"3"]) + b"]",
        rest=b',"_meta":{"q":1.50},"other":1e400',
    )
    assert await read(Book(first, second, third)) == merged.replace(b"ID", b"7")


async def test_empty_pages_leave_no_comma() -> None:
    book = Book(page(b"[]", "1"), page(b"[1]", "2"), page(b"[ ]", "3"), page(b"[2]"))
    assert await read(book) == page(b"[1,2]").replace(b"ID", b"7")
    assert await read(Book(page(b"[ ]", "1"), page(b"[]"))) == page(b"[]").replace(b"ID", b"7")


async def test_a_member_of_the_same_name_elsewhere_is_left_alone() -> None:
    first = (
        b'{"tools":[0],"result":{"_meta":{"tools":[9],"nextCursor":"no"},"nextCursor":"2",'
        b'"tools":[1]},"nextCursor":"no","id":7,"jsonrpc":"2.0"}'
    )
    assert await read(Book(first, page(b"[2]"))) == (
        b'{"tools":[0],"result":{"_meta":{"tools":[9],"nextCursor":"no"},"tools":[1,2]},'
        b'"nextCursor":"no","id":7,"jsonrpc":"2.0"}'
    )


@pytest.mark.parametrize("method, items", LISTS.items())
async def test_all_four_lists_are_merged(method: str, items: str) -> None:
    def one(item: int, cursor: bytes) -> bytes:
        body = b'{"%s":[%d]%s}' % (items.encode(), item, cursor)
        return b'{"jsonrpc":"2.0","id":ID,"result":%s}' % body

    book = Book(one(1, b',"nextCursor":"2"'), one(2, b""))
    assert json.loads(await read(book, method=method))["result"] == {items: [1, 2]}
    assert [message.method for message in book.requests] == [method, method]


async def test_an_empty_cursor_is_a_cursor() -> None:
    book = Book(page(b"[1]", ""), page(b"[2]"))
    assert json.loads(await read(book))["result"] == {"tools": [1, 2]}
    assert book.requests[1].params == {"cursor": ""}


async def test_a_cursor_that_comes_again_ends_the_list() -> None:
    book = Book(page(b"[1]", "a"), page(b"[2]", "b"), page(b"[3]", "a"))
    assert json.loads(await read(book))["result"] == {"tools": [1, 2, 3]}
    assert book.pages == []


async def test_there_is_a_most_of_pages() -> None:
    book = Book(*(page(b"[%d]" % number, str(number)) for number in range(MAX_PAGES + 5)))
    merged = json.loads(await read(book))["result"]
    assert merged == {
        "tools": list(range(MAX_PAGES)),
        "nextCursor": str(MAX_PAGES - 1),
    }
    assert len(book.requests) == MAX_PAGES


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param(ConnectionLost("gone"), id="failure"),
        pytest.param(b'{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"no"}}', id="error"),
        pytest.param(b'{"jsonrpc":"2.0","id":ID,"result":{}}', id="no list"),
    ],
)
async def test_a_page_that_fails_is_left_to_the_client(missing: bytes | Exception) -> None:
    book = Book(page(b"[1]", "a"), page(b"[2]", "b"), missing)
    assert json.loads(await read(book))["result"] == {"tools": [1, 2], "nextCursor": "b"}
    raw = await read(Book(page(b"[1]", "a"), missing))
    assert raw == page(b"[1]", "a").replace(b"ID", b"7")


async def test_the_first_page_fails_as_without_merging() -> None:
    async with reading(Book(ConnectionLost("gone"))) as client:
        asked = client.ask("tools/list")
        await client.done(asked)
    assert isinstance(asked.failure, ConnectionLost)


async def test_the_answer_stays_within_the_limit_of_a_message() -> None:
    pages = [page(b'["%d%s"]' % (number, b"x" * 399), str(number)) for number in range(10)]
    raw = await read(Book(*pages), limit=2000)
    assert len(raw) <= 2000
    merged = json.loads(raw)["result"]
    assert len(merged["tools"]) == 4
    assert merged["nextCursor"] == "3"


async def test_a_client_that_turns_pages_itself_gets_its_page() -> None:
    request = b'{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"cursor":"2"}}'
    book = Book(page(b"[2]", "3"))
    assert await read(book, request=request) == page(b"[2]", "3").replace(b"ID", b"7")
    assert book.requests[0].raw == request


async def test_requests_for_further_pages_carry_what_the_first_did() -> None:
    request = (
        b'{"params":{"big":1e400,"\\u00e9":9007199254740993,'
        b'"_meta":{"progressToken":5,"trace":1.0}},"method":"tools/list","jsonrpc":"2.0","id":7}'
    )
    book = Book(page(b"[1]", "a"), page(b"[2]"))
    await read(book, request=request)
    first, second = book.requests
    assert first.raw == request
    assert second.raw == (
        b'{"params":{"cursor":"a","big":1e400,"\\u00e9":9007199254740993,'
        b'"_meta":{"trace":1.0}},"method":"tools/list","jsonrpc":"2.0","id":"own-1"}'
    )


@pytest.mark.parametrize(
    "params", [b"", b',"params":{}', b',"params":[1]', b',"params":{"_meta":7}']
)
async def test_odd_params_are_no_obstacle(params: bytes) -> None:
    request = b'{"jsonrpc":"2.0","id":7,"method":"tools/list"%s}' % params
    book = Book(page(b"[1]", "a"), page(b"[2]"))
    assert json.loads(await read(book, request=request))["result"] == {"tools": [1, 2]}
    assert book.requests[1].params["cursor"] == "a"


async def test_what_comes_besides_the_pages_goes_through_at_once() -> None:
    async with reading(Book(page(b"[1]", "a"), page(b"[2]"))) as client:
        asked = client.ask("tools/list")
        await client.done(asked)
    assert asked.notes == ["turning", "turning"]
    assert asked.emitted[-1].is_response


async def test_other_messages_pass() -> None:
    book = Book(b'{"jsonrpc":"2.0","id":ID,"result":{"tools":[],"nextCursor":"x"}}')
    async with reading(book) as client:
        asked = client.ask("tools/call")
        await client.done(asked)
        assert asked.result == {"tools": [], "nextCursor": "x"}
        client.upstream.refresh()
        assert book.pages == []
        await client.upstream.aclose()
        assert book.requests == []
        assert client.upstream.version == "2025-11-25"


async def test_a_cancel_while_pages_are_fetched_names_the_page_to_the_server(
    autojump_clock: MockClock,
) -> None:
    server = Server()

    def list_tools(seen: Any) -> Any:
        if "params" not in seen.message:
            return result(seen, {"tools": [1], "nextCursor": "a"})
        return result(seen, {"tools": [2]}, before=[trio.Event()])

    server.rules["tools/list"] = list_tools
    async with in_session_with(server) as client:
        client.upstream = MergedPages(client.upstream, iter(["page-1", "page-2"]), limit=100_000)
        await client.shake_hands()
        asked = client.ask("tools/list", id=7)
        await wait_all_tasks_blocked()
        client.cancel(asked)
        await client.done(asked)
    assert asked.emitted == []
    [notice] = server.got("notifications/cancelled")
    assert notice.message["params"]["requestId"] == "page-1"


@pytest.mark.parametrize("cursor", ["", "end"])
async def test_a_server_that_begins_again_doubles_nothing(cursor: str) -> None:
    first, last = page(b"[1,2]", "a"), page(b"[3]", cursor)
    merged = json.loads(await read(Book(first, last, first)))["result"]
    assert merged["tools"] == [1, 2, 3]
    assert "nextCursor" not in merged
