"""Hostile standard input: an answer as S-7 has it, or nothing, and the relay lives on."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from tests.process import line, running
from tests.relay.rig import FakeUpstream, Json, relaying
from tests.relay.server import McpServer

PARSE_ERROR = -32700
INVALID = -32600
NO_ID = object()

DEEP = 100_000
REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"x"}'

# What is read, the code it is answered with, and the id of that answer.
REFUSED: dict[str, tuple[bytes, int, object]] = {
    "no JSON": (b"hello", PARSE_ERROR, NO_ID),
    "cut JSON": (b'{"jsonrpc":"2.0","id":1,"meth', PARSE_ERROR, NO_ID),
    "two values": (REQUEST + REQUEST, PARSE_ERROR, NO_ID),
    "invalid UTF-8": (b"\xff\xfe\xfd", PARSE_ERROR, NO_ID),
    "invalid UTF-8 in a string": (b'{"jsonrpc":"2.0","id":1,"method":"\xc3"}', PARSE_ERROR, NO_ID),
    "UTF-16": (REQUEST.decode().encode("utf-16-le"), PARSE_ERROR, NO_ID),
    "encoded surrogate": (b'{"jsonrpc":"2.0","id":1,"method":"\xed\xa0\x80"}', PARSE_ERROR, NO_ID),
    "NUL": (b"\0", PARSE_ERROR, NO_ID),
    "NUL at the end": (REQUEST + b"\0", PARSE_ERROR, NO_ID),
    "NUL in a string": (b'{"jsonrpc":"2.0","id":1,"method":"\0"}', PARSE_ERROR, NO_ID),
    "late byte order mark": (b"\xef\xbb\xbf" + REQUEST, PARSE_ERROR, NO_ID),
    "NaN": (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"n":NaN}}', PARSE_ERROR, NO_ID),
    "a string": (b'"text"', INVALID, NO_ID),
    "a number": (b"17", INVALID, NO_ID),
    "null": (b"null", INVALID, NO_ID),
    "empty array": (b"[]", INVALID, NO_ID),
    "array": (b"[" + REQUEST + b"]", INVALID, NO_ID),
    "cut array": (b"[" + REQUEST, PARSE_ERROR, NO_ID),
    "empty object": (b"{}", INVALID, NO_ID),
    "no version": (b'{"id":5,"method":"x"}', INVALID, 5),
    "JSON-RPC 1": (b'{"jsonrpc":"1.0","id":5,"method":"x"}', INVALID, 5),
    "odd method": (b'{"jsonrpc":"2.0","id":"m","method":["x"]}', INVALID, "m"),
    "both result and error": (b'{"jsonrpc":"2.0","id":5,"result":{},"error":{}}', INVALID, NO_ID),
    "neither": (b'{"jsonrpc":"2.0","id":5}', INVALID, 5),
    "id 1.0": (b'{"jsonrpc":"2.0","id":1.0,"method":"x"}', INVALID, NO_ID),
    "id null": (b'{"jsonrpc":"2.0","id":null,"method":"x"}', INVALID, NO_ID),
    "id true": (b'{"jsonrpc":"2.0","id":true,"method":"x"}', INVALID, NO_ID),
    "id object": (b'{"jsonrpc":"2.0","id":{},"method":"x"}', INVALID, NO_ID),
    "id array": (b'{"jsonrpc":"2.0","id":[1],"method":"x"}', INVALID, NO_ID),
    "id 1e400": (b'{"jsonrpc":"2.0","id":1e400,"method":"x"}', INVALID, NO_ID),
    "id of 100,000 digits": (
        b'{"jsonrpc":"2.0","id":%b,"method":"x"}' % (b"7" * 100_000),
        INVALID,
        NO_ID,
    ),
    "nested arrays": (b"[" * DEEP, PARSE_ERROR, NO_ID),
    "nested objects": (b'{"a":' * DEEP, PARSE_ERROR, NO_ID),
    "closed nested arrays": (b"[" * DEEP + b"]" * DEEP, PARSE_ERROR, NO_ID),
    "nested params": (
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":%b%b}' % (b"[" * DEEP, b"]" * DEEP),
        PARSE_ERROR,
        NO_ID,
    ),
}

hostile = pytest.mark.parametrize("raw, code, id", REFUSED.values(), ids=REFUSED)


async def answer(message: Message, call: Call) -> None:
    if message.is_request:
        assert message.id is not None
        await call.emit(jsonrpc.result(message.id, {"to": message.method}))


def result(id: object, method: str) -> Json:
    return {"jsonrpc": "2.0", "id": id, "result": {"to": method}}


@hostile
async def test_what_is_no_message_is_refused(raw: bytes, code: int, id: object) -> None:
    async with relaying(FakeUpstream(answer, spec.R4)) as client:
        await client.write(line(id="before", method="x") + raw + b"\n")
        got = [await client.read(), await client.read()]
        await client.send(id="after", method="x")
        assert await client.rest() == [result("after", "x")]
    (refusal,) = [message for message in got if "error" in message]
    assert refusal["error"]["code"] == code
    assert refusal.get("id", NO_ID) == id
    assert result("before", "x") in got


@hostile
async def test_revisions_without_such_answers_get_none(raw: bytes, code: int, id: object) -> None:
    async with relaying(FakeUpstream(answer, spec.R3)) as client:
        await client.write(raw + b"\n" + line(id="after", method="x"))
        got = await client.rest()
    assert result("after", "x") in got
    refusals = [message for message in got if "error" in message]
    assert [message["id"] for message in refusals] == ([] if id is NO_ID else [id])


async def test_byte_order_mark_blank_lines_and_carriage_returns_mean_nothing() -> None:
    one, two = line(id=1, method="a").strip(), line(id=2, method="b").strip()
    text = b"\xef\xbb\xbf" + one + b"\r\n\r\n \t\r\n\n" + two + b"\r\n"
    async with relaying(FakeUpstream(answer)) as client:
        await client.write(text)
        got = await client.rest()
    assert sorted(message["id"] for message in got) == [1, 2]


async def test_the_last_line_needs_no_end() -> None:
    async with relaying(FakeUpstream(answer)) as client:
        await client.write(line(id=1, method="x").strip())
        assert await client.rest() == [result(1, "x")]


async def test_an_end_within_a_line_is_a_parse_error() -> None:
    async with relaying(FakeUpstream(answer)) as client:
        await client.write(line(id=1, method="x")[:-5])
        (got,) = await client.rest()
    assert got["error"]["code"] == PARSE_ERROR


async def test_a_line_may_come_in_any_pieces() -> None:
    async with relaying(FakeUpstream(answer)) as client:
        for at in range(len(message := line(id=1, method="x"))):
            await client.write(message[at : at + 1])
            await trio.lowlevel.checkpoint()
        assert await client.rest() == [result(1, "x")]


@pytest.mark.parametrize(
    "members, id",
    [
        ({"id": 5, "method": "x"}, 5),
        ({"method": "x"}, None),
        ({"id": 5, "result": {}}, None),
    ],
)
async def test_only_a_request_over_the_limit_is_answered(members: Json, id: int | None) -> None:
    async with relaying(FakeUpstream(answer), max_size=1000) as client:
        await client.send(**members, padding="x" * 1000)
        await client.send(id="after", method="x")
        got = await client.rest()
    refusals = [message for message in got if "error" in message]
    assert [message["id"] for message in refusals] == ([] if id is None else [id])
    assert result("after", "x") in got


async def test_a_refusal_is_written_although_the_input_has_ended() -> None:
    async with relaying(FakeUpstream(answer), drain_timeout=0) as client:
        await client.write(b"hello\n" * 100)
        got = await client.rest()
    assert [message["error"]["code"] for message in got] == [PARSE_ERROR] * 100


class TestBatches:
    """S-8: arrays exist in 2025-03-26 only; their members are answered singly (T-50)."""

    async def test_members_are_answered_singly(self) -> None:
        members: list[Json] = [
            {"jsonrpc": "2.0", "id": 1, "method": "a"},
            {"jsonrpc": "2.0", "method": "notifications/x"},
            {"jsonrpc": "2.0", "id": 2, "method": "b"},
        ]
        got = await self.answers(members)
        assert sorted(got, key=lambda message: message["id"]) == [result(1, "a"), result(2, "b")]

    async def test_a_batch_of_nothing_to_answer_gets_nothing(self) -> None:
        assert await self.answers([{"jsonrpc": "2.0", "method": "notifications/x"}]) == []

    async def test_a_member_can_withdraw_an_earlier_one(self) -> None:
        members: list[Json] = [
            {"jsonrpc": "2.0", "id": 1, "method": "a"},
            {
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": {"requestId": 1},
            },
        ]
        assert await self.answers(members) == []

    async def test_initialize_is_no_member(self) -> None:
        members = [
            {"jsonrpc": "2.0", "id": 1, "method": "initialize"},
            {"jsonrpc": "2.0", "id": 2, "method": "b"},
        ]
        got = await self.answers(members)
        assert {message["id"]: "error" in message for message in got} == {1: True, 2: False}

    async def test_an_id_used_twice_is_refused_once(self) -> None:
        got = await self.answers([{"jsonrpc": "2.0", "id": 1, "method": "a"}] * 2)
        assert sorted("error" in message for message in got) == [False, True]

    async def test_what_the_server_says_meanwhile_is_written_at_once_and_by_itself(self) -> None:
        """T-51: a batch under way holds nothing back."""
        go_on = trio.Event()

        async def send(message: Message, call: Call) -> None:
            await call.emit(jsonrpc.notification("notifications/message", {"data": message.id}))
            await call.emit(jsonrpc.request(f"q{message.id}", "roots/list"))
            await go_on.wait()
            await answer(message, call)

        members = [{"jsonrpc": "2.0", "id": id, "method": "a"} for id in (1, 2)]
        async with relaying(FakeUpstream(send, spec.R2)) as client:
            await client.write(json.dumps(members).encode() + b"\n")
            said = [(await client.read())["method"] for _ in range(4)]
            assert sorted(said) == 2 * ["notifications/message"] + 2 * ["roots/list"]
            go_on.set()
            assert sorted(message["id"] for message in await client.rest()) == [1, 2]

    async def test_a_bad_member_spoils_no_other(self) -> None:
        members: list[Any] = [
            {"jsonrpc": "2.0", "id": 1, "method": "a"},
            17,
            {"jsonrpc": "2.0", "id": None, "method": "a"},
            {"jsonrpc": "2.0", "id": 2, "method": "b"},
        ]
        got = await self.answers(members)
        answered = [message for message in got if "result" in message]
        assert sorted(answered, key=lambda message: message["id"]) == [
            result(1, "a"),
            result(2, "b"),
        ]

    async def answers(self, members: list[Json]) -> list[Json]:
        async with relaying(FakeUpstream(answer, spec.R2)) as client:
            await client.write(json.dumps(members).encode() + b"\n")
            return await client.rest()

    @pytest.mark.parametrize("version", [None, spec.R1, spec.R3, spec.R4, spec.R5])
    async def test_other_revisions_have_none(self, version: str | None) -> None:
        async def send(message: Message, call: Call) -> None:
            raise AssertionError(f"{message.method} was sent")

        async with relaying(FakeUpstream(send, version)) as client:
            await client.write(b"[" + REQUEST + b"]\n")
            got = await client.rest()
        assert [message["error"]["code"] for message in got] in ([INVALID], [])
        assert (got == []) == (version in (spec.R1, spec.R3))


async def test_the_process_survives_all_of_it_at_once(nursery: trio.Nursery) -> None:
    server = McpServer()
    await nursery.start(server.serve)
    async with running(server.url) as relay:
        await relay.write(b"\xef\xbb\xbf")
        await relay.shake_hands(spec.R4)
        expected = []
        for raw, code, id in REFUSED.values():
            await relay.write(raw + b"\r\n\r\n")
            refusal = await relay.read()
            expected.append((code, id))
            assert (refusal["error"]["code"], refusal.get("id", NO_ID)) == (code, id)
        assert "result" in await relay.ask("tools/call")
        await relay.write(line(id="cut", method="tools/call")[:-3])
        await relay.close_stdin()
        assert [message["error"]["code"] for message in await relay.rest()] == [PARSE_ERROR]
        assert await relay.wait() == 0
        assert "Traceback" not in relay.errors
    nursery.cancel_scope.cancel()


async def test_a_line_of_20_megabytes_crosses(nursery: trio.Nursery) -> None:
    server = McpServer()
    await nursery.start(server.serve)
    text = "ü" * 10_000_000
    async with running(server.url) as relay:
        await relay.shake_hands()
        big: dict[str, Any] = {"text": text}
        await relay.write(
            json.dumps(
                {"jsonrpc": "2.0", "id": "big", "method": "tools/call", "params": big},
                ensure_ascii=False,
            ).encode()
            + b"\n"
        )
        answer = await relay.answer_to("big")
        assert answer["result"]["echo"] == big
        assert "result" in await relay.ask("tools/call")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "line", [b'{"id":5,"result":{}}', b'{"jsonrpc":"2.0","id":5,"error":"denied"}']
)
async def test_a_bad_response_is_not_answered_under_its_id(line: bytes) -> None:
    async with relaying(FakeUpstream(answer)) as client:
        await client.write(line + b"\n")
        await client.send(id=5, method="x")
        got = await client.rest()
    assert [message for message in got if message.get("id") == 5] == [result(5, "x")]
