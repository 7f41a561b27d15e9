"""A request that goes out under another id and is answered under its own."""

from __future__ import annotations

import pytest

from mcp_stdio import jsonrpc
from mcp_stdio.jsonrpc import Id, Message
from mcp_stdio.upstream import own_call, renamed

REQUEST = b'{ "method":"tools/call", "id" : %s, "params":{"id":1.0,"n":1e400},"jsonrpc":"2.0"}'


@pytest.mark.parametrize("own, spelled", [(7, b"7"), ("7", b'"7"'), ("\u00e9", b'"\\u00e9"')])
async def test_only_the_id_changes_there_and_back(own: Id, spelled: bytes) -> None:
    emitted: list[Message] = []

    async def emit(message: Message) -> None:
        emitted.append(message)

    request, call = renamed(jsonrpc.parse(REQUEST % spelled), own_call(emit), "relay-1")
    assert request.raw == REQUEST % b'"relay-1"'
    note = jsonrpc.parse(b'{"jsonrpc":"2.0", "method":"notifications/message"}')
    question = jsonrpc.parse(b'{"jsonrpc":"2.0", "id":0, "method":"ping"}')
    answer = b'{"jsonrpc":"2.0", "result":{"id":2.50}, "id":%s}'
    for message in note, question, jsonrpc.parse(answer % b'"relay-1"'):
        await call.emit(message)
    assert [message.raw for message in emitted] == [note.raw, question.raw, answer % spelled]
    assert jsonrpc.same_id(emitted[-1].id, own)


async def test_an_error_without_an_id_gets_the_clients_too() -> None:
    emitted: list[Message] = []

    async def emit(message: Message) -> None:
        emitted.append(message)

    _, call = renamed(jsonrpc.request(7, "tools/call"), own_call(emit), "relay-1")
    await call.emit(jsonrpc.error(None, -32600, "no"))
    assert emitted[0].id == 7
