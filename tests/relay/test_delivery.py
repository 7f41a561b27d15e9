"""What came together goes to the client together: in order, whole, and not once it is withdrawn."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio import jsonrpc
from mcp_stdio.delivery import pieces
from mcp_stdio.descriptors import PIPE_BUF
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from tests.relay.rig import FakeUpstream, relaying


@pytest.mark.parametrize(
    "lines, expected",
    [
        ([], []),
        ([b""], [b""]),
        ([b"a", b"b", b"c"], [b"a\nb\nc"]),
        ([b"a" * 4, b"b" * 4], [b"aaaa\nbbbb"]),  # each with its newline: 10 bytes
        ([b"a" * 4, b"b" * 5], [b"aaaa", b"bbbbb"]),
        ([b"a", b"b" * 50, b"c", b"d"], [b"a", b"b" * 50, b"c\nd"]),
        ([b"b" * 50, b"c" * 50], [b"b" * 50, b"c" * 50]),
    ],
)
def test_lines_are_joined_as_far_as_they_fit(lines: list[bytes], expected: list[bytes]) -> None:
    assert list(pieces(lines, 10)) == expected


@given(st.lists(st.binary().filter(lambda line: b"\n" not in line)), st.integers(1, 50))
def test_every_line_is_in_one_piece(lines: list[bytes], size: int) -> None:
    found = list(pieces(lines, size))
    assert [line for piece in found for line in piece.split(b"\n")] == lines
    assert all(len(piece) < size or b"\n" not in piece for piece in found)


def notes(count: int, size: int = 100) -> list[Message]:
    return [
        jsonrpc.notification("notifications/message", {"number": number, "data": "x" * size})
        for number in range(count)
    ]


class Telling:
    """An upstream that answers each request with these messages together, and then a result."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self.begun = trio.Event()
        self.was_cancelled = False

    async def send(self, message: Message, call: Call) -> None:
        if not message.is_request:
            return
        assert message.id is not None
        try:
            if message.method != "ping":
                self.begun.set()
                await call.emit_all(self._messages)
            await call.emit(jsonrpc.result(message.id, {}))
        except trio.Cancelled:
            self.was_cancelled = True
            raise


async def test_what_came_together_keeps_its_order_and_comes_before_the_answer() -> None:
    told = notes(200)
    async with relaying(FakeUpstream(Telling(told).send)) as client:
        await client.send(id=1, method="tools/call")
        assert [await client.read_line() for _ in told] == [message.raw for message in told]
        assert (await client.read())["id"] == 1


async def test_lines_of_several_calls_stay_whole() -> None:
    told = notes(50, 3_000)
    async with relaying(FakeUpstream(Telling(told).send)) as client:
        for id in range(20):
            await client.send(id=id, method="tools/call")
        messages = [await client.read() for _ in range(20 * 51)]
    numbers = [message["params"]["number"] for message in messages if "params" in message]
    assert sorted(numbers) == sorted([*range(50)] * 20)
    assert {message["id"] for message in messages if "id" in message} == {*range(20)}


async def test_nothing_of_it_is_written_once_the_request_is_withdrawn() -> None:
    """S-14, before a client that does not read; what has been written ends with a line (P6)."""
    told = notes(500, 1_000)
    telling = Telling(told)
    async with relaying(FakeUpstream(telling.send)) as client:
        await client.send(id=1, method="tools/call")
        await telling.begun.wait()
        await trio.sleep(0.05)  # the pipe is full, and the rest of it waits
        await client.send(method="notifications/cancelled", params={"requestId": 1})
        with trio.fail_after(1):
            while not telling.was_cancelled:  # noqa: ASYNC110
                await trio.sleep(0.01)
        await client.send(id=2, method="ping")
        written = []
        while (message := await client.read()).get("id") != 2:
            written.append(message)
    assert written == [message.body for message in told[: len(written)]]
    assert 0 < len(written) < len(told)
    assert len(told[0].raw) <= PIPE_BUF  # else a line may be begun, and is finished


async def test_a_request_that_is_withdrawn_gets_none_of_what_comes_later() -> None:
    """S-14, also where the upstream does not notice the cancel at once."""
    begun, go_on = trio.Event(), trio.Event()

    async def send(message: Message, call: Call) -> None:
        if message.method == "tools/call":
            begun.set()
            with trio.CancelScope(shield=True):
                await go_on.wait()
                await call.emit_all(notes(3))
        elif message.id is not None:
            await call.emit(jsonrpc.result(message.id, {}))

    async with relaying(FakeUpstream(send)) as client:
        await client.send(id=1, method="tools/call")
        await begun.wait()
        await client.send(method="notifications/cancelled", params={"requestId": 1})
        await client.send(id=2, method="ping")
        assert (await client.read())["id"] == 2
        go_on.set()
        assert await client.rest() == []


async def test_a_closed_output_ends_the_relay() -> None:
    async with relaying(FakeUpstream(Telling(notes(10)).send)) as client:
        await client.stop_reading()
        await client.send(id=1, method="tools/call")
        await client.over()
