"""Standard output of the real process: whole lines, whatever the client does, and back-pressure.

With `MCP_STDIO_LONG=1` in the environment the server streams 1 GB instead of 64 MB.
"""

from __future__ import annotations

import itertools
import json
import os
import sys

import pytest
import trio

from tests.process import line, running
from tests.relay.server import Asked, McpServer

MIB = 1024 * 1024
STREAMED = 1024 * MIB if os.environ.get("MCP_STDIO_LONG") == "1" else 64 * MIB

both_writers = pytest.mark.parametrize("threads", ["0", "1"], ids=["polling", "threads"])


@both_writers
async def test_cancelling_while_answers_are_written_tears_no_line(
    threads: str, nursery: trio.Nursery
) -> None:
    """P6, 500 times, before a reader that takes a few bytes at a time."""

    async def answer(asked: Asked) -> None:
        await asked.result(text="x" * (2_000 + 30_000 * (asked.id % 5)))

    server = McpServer(answer)
    await nursery.start(server.serve)
    async with running(server.url, env={"MCP_STDIO_THREADS": threads}) as relay:
        await relay.shake_hands()
        reads = itertools.cycle([0, 1, 4_096, 30_000, 70_000, 150_000])
        for id in range(1000, 1500):
            await relay.send(id=id, method="tools/call")
            await relay.read_some(next(reads))
            await relay.send(method="notifications/cancelled", params={"requestId": id})
        await relay.close_stdin()
        answers = await relay.rest()
        assert await relay.wait() == 0
    ids = [message["id"] for message in answers]
    assert len(ids) == len(set(ids))
    for message in answers:
        assert len(message["result"]["text"]) == 2_000 + 30_000 * (message["id"] % 5)
    nursery.cancel_scope.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory use from /proc")
@both_writers
async def test_a_client_that_does_not_read_stops_the_server_and_nothing_else(
    threads: str, nursery: trio.Nursery
) -> None:
    event = line(method="notifications/message", params={"data": "x" * 8_000}).strip()
    sent = 0

    async def answer(asked: Asked) -> None:
        nonlocal sent
        if asked.message["method"] == "ping":
            await asked.result()
            return
        await asked.begin()
        while sent < STREAMED:
            await asked.event(event)
            sent += len(event)
        await asked.event(line(id=asked.id, result={}).strip())
        await asked.end()

    server = McpServer(answer)
    await nursery.start(server.serve)
    async with running(server.url, env={"MCP_STDIO_THREADS": threads}) as relay:
        await relay.shake_hands()
        before = relay.resident()
        call = await relay.request("tools/call")
        await relay.read_line()
        pings = [await relay.request("ping") for _ in range(100)]
        await server.until(lambda: len(server.received("ping")) == len(pings))
        with trio.fail_after(30):
            stalled_at = -1
            while sent != stalled_at:
                stalled_at = sent
                await trio.sleep(0.5)
        assert sent < 32 * MIB, "somebody took what the client did not read"
        assert relay.resident() - before < 32 * MIB

        answers: list[int] = []
        events = 0
        while call not in answers or len(answers) < 1 + len(pings):
            raw = await relay.read_line()
            if raw == event:
                events += 1
            else:
                answers.append(json.loads(raw)["id"])
        assert relay.resident() - before < 32 * MIB
    assert sorted(answers) == sorted([call, *pings])
    assert (events + 1) * len(event) == sent
    nursery.cancel_scope.cancel()
