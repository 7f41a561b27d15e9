"""P4: a slow call delays nobody, answers in any order find their ids. With real processes."""

from __future__ import annotations

import random

import trio

from tests.process import line, running
from tests.relay.server import Asked, McpServer


async def test_five_hundred_requests_answered_out_of_order_find_their_ids(
    nursery: trio.Nursery,
) -> None:
    waiting: list[Asked] = []

    async def answer(asked: Asked) -> None:
        turn = trio.Event()
        waiting.append(asked)
        turns[asked.id] = turn
        if len(waiting) == 500:
            nursery.start_soon(release)
        await turn.wait()
        await asked.result(to=asked.id)

    async def release() -> None:
        shuffled = [asked.id for asked in waiting]
        random.shuffle(shuffled)
        for id in shuffled:
            turns[id].set()
            await trio.lowlevel.checkpoint()

    turns: dict[object, trio.Event] = {}
    server = McpServer(answer)
    await nursery.start(server.serve)
    ids = [number if number % 2 else str(number) for number in range(500)]
    async with running(server.url) as relay:
        await relay.shake_hands()
        await relay.write(b"".join(line(id=id, method="tools/call") for id in ids))
        got = [await relay.read() for _ in ids]
        await relay.close_stdin()
        assert await relay.rest() == []
        assert await relay.wait() == 0
    assert all(message["result"] == {"to": message["id"]} for message in got)
    assert {(type(message["id"]), message["id"]) for message in got} == {
        (type(id), id) for id in ids
    }
    nursery.cancel_scope.cancel()


async def test_a_slow_call_holds_up_nobody(nursery: trio.Nursery) -> None:
    async def answer(asked: Asked) -> None:
        if asked.params.get("slow"):
            await trio.sleep(2)
        await asked.result()

    server = McpServer(answer)
    await nursery.start(server.serve)
    async with running(server.url) as relay:
        await relay.shake_hands()
        await relay.send(id="slow", method="tools/call", params={"slow": True})
        for number in range(100):
            await relay.send(id=f"fast {number}", method="tools/call")
        order = [(await relay.read())["id"] for _ in range(101)]
    assert order[-1] == "slow"
    nursery.cancel_scope.cancel()


async def test_requests_flow_in_both_directions_while_a_call_runs(nursery: trio.Nursery) -> None:
    answered = trio.Event()

    async def answer(asked: Asked) -> None:
        if asked.message["method"] == "ping":
            await asked.result()
            return
        await asked.begin()
        for number in range(3):
            await asked.event(line(method="notifications/progress", params={"n": number}).strip())
        await asked.event(line(id="q", method="roots/list").strip())
        await answered.wait()
        await asked.event(line(id=asked.id, result={}).strip())
        await asked.end()

    server = McpServer(answer)
    await nursery.start(server.serve)
    async with running(server.url) as relay:
        await relay.shake_hands()
        call = await relay.request("tools/call")
        assert [(await relay.read())["params"]["n"] for _ in range(3)] == [0, 1, 2]
        assert (await relay.read())["id"] == "q"
        assert "result" in await relay.ask("ping")
        await relay.send(id="q", result={"roots": []})
        await server.until(lambda: {"roots": []} in [m.get("result") for m in server.log])
        answered.set()
        assert (await relay.read())["id"] == call
    nursery.cancel_scope.cancel()
