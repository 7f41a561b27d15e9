"""Nothing is left behind by a fault, however often it happens: one path of the code after another.

A real relay stands before a server made of rules, in this process and on a clock that jumps, so
that back-offs cost nothing and what is left can be counted: objects, and blocks of memory. Two
hundred repetitions show one object each as well as 10,000 do, which run with `MCP_STDIO_LONG=1`.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from mcp_stdio import spec
from mcp_stdio.config import Config, Transport
from mcp_stdio.errors import RelayError
from tests.process import INITIALIZE
from tests.relay.rig import URL, Json, Rig, relaying
from tests.upstream.fakes import (
    FOREVER,
    Answer,
    Reply,
    Seen,
    Server,
    answer,
    error,
    event,
    events,
    lost,
    note,
    result,
    unreachable,
)
from tests.upstream.modern import META
from tests.upstream.sse_server import SseServer

IS_LONG = os.environ.get("MCP_STDIO_LONG") == "1"
REPETITIONS = 10_000 if IS_LONG else 200
CALL = "tools/call"
MAX_SIZE = 10_000


class Talk:
    """The client's side; `repetition` counts, and is the id of the request under way."""

    def __init__(self, rig: Rig, server: Server, *, is_modern: bool = False) -> None:
        self.rig = rig
        self.server = server
        self.repetition = 0
        self._is_modern = is_modern

    async def send(self, method: str, params: Json | None = None, id: object = None) -> None:
        params = params or {}
        if self._is_modern:
            params = params | {"_meta": META}
        await self.rig.send(id=self.repetition if id is None else id, method=method, params=params)

    async def heard(self, id: object = None) -> Json:
        """The next response to this id; what comes before is dropped."""
        while True:
            message = await self.rig.read()
            if "method" not in message and message.get("id") == (
                self.repetition if id is None else id
            ):
                return message

    async def told(self, method: str) -> Json:
        """The next message of this method."""
        while (message := await self.rig.read()).get("method") != method:
            pass
        return message

    async def ask(self, method: str = CALL, params: Json | None = None, id: object = None) -> Json:
        await self.send(method, params, id)
        return await self.heard(id)

    async def fails(self, code: int, method: str = CALL) -> None:
        message = await self.ask(method)
        assert message["error"]["code"] == code, message

    async def succeeds(self, method: str = CALL) -> None:
        message = await self.ask(method)
        assert "result" in message, message

    async def shake_hands(self) -> None:
        mine = {"protocolVersion": spec.R4, "capabilities": {"sampling": {}}}
        await self.ask(spec.INITIALIZE, INITIALIZE | mine, "opening")
        await self.rig.send(method=spec.INITIALIZED)


Step = Callable[[Talk], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """What the server does, and what the client goes through once; `warm` times before counting."""

    step: Step
    rules: dict[str, Answer]
    warm: int = 60
    is_modern: bool = False
    makes: Callable[..., Server] = Server
    transport: Transport = "auto"


def alternating(*answers: Answer) -> Callable[[Seen], Any]:
    """One after the other, and again."""
    count = 0

    def rule(seen: Seen) -> Any:
        nonlocal count
        given = answers[count % len(answers)]
        count += 1
        return given(seen) if callable(given) else given

    return rule


def failing(code: int, method: str = CALL) -> Step:
    async def step(talk: Talk) -> None:
        await talk.fails(code, method)

    return step


def succeeding(method: str = CALL) -> Step:
    async def step(talk: Talk) -> None:
        await talk.succeeds(method)

    return step


async def cancel(talk: Talk) -> None:
    await talk.send(CALL)
    while not talk.server.got(CALL):  # noqa: ASYNC110 -- the clock is not the world's
        await trio.sleep(0.001)
    cancelled = {"requestId": talk.repetition, "reason": "enough"}
    await talk.rig.send(method=spec.CANCELLED, params=cancelled)
    await trio.sleep(5)


async def forget(talk: Talk) -> None:
    talk.server.forget()
    await talk.succeeds()


async def doubt(talk: Talk) -> None:
    await talk.fails(-32000)
    await talk.succeeds("tools/list")


async def wait_for_note(talk: Talk) -> None:
    await talk.told(spec.LOG_MESSAGE)


async def wait_for_change(talk: Talk) -> None:
    await talk.told(spec.TOOLS_CHANGED)


async def begin_anew(talk: Talk) -> None:
    await talk.shake_hands()
    await talk.succeeds()


async def say_garbage(talk: Talk) -> None:
    await talk.rig.write(b'{"no":"message"}\n' + b"x" * MAX_SIZE + b"\n")
    await talk.succeeds()


async def use_an_id_twice(talk: Talk) -> None:
    await talk.send(CALL)
    await talk.send(CALL)
    await talk.heard()
    await talk.heard()


async def answer_nobody(talk: Talk) -> None:
    await talk.rig.send(id=f"unheard {talk.repetition}", result={})
    await talk.rig.send(method=spec.CANCELLED, params={"requestId": f"of {talk.repetition}"})
    await talk.rig.send(method=spec.PROGRESS, params={"progressToken": talk.repetition})
    await talk.succeeds()


async def lose_the_stream(talk: Talk) -> None:
    assert isinstance(talk.server, SseServer)
    await talk.succeeds()
    talk.server.streams[-1].end()
    await trio.sleep(60)
    del talk.server.streams[:-1]


async def listen_for_a_while(talk: Talk) -> None:
    await talk.send(spec.LISTEN, {"notifications": {"toolsListChanged": True}})
    await talk.told(spec.ACKNOWLEDGED)
    await talk.rig.send(method=spec.CANCELLED, params={"requestId": talk.repetition})
    await trio.sleep(1)


async def subscribe_for_a_while(talk: Talk) -> None:
    await talk.ask(spec.SUBSCRIBE, {"uri": f"of:{talk.repetition}"})
    await talk.ask(spec.UNSUBSCRIBE, {"uri": f"of:{talk.repetition}"})


async def answer_a_question(talk: Talk) -> None:
    await talk.send(CALL)
    question = await talk.told(spec.SAMPLE)
    await talk.rig.send(id=question["id"], result={"role": "assistant", "content": {}})
    assert "result" in await talk.heard()


def drop(seen: Seen) -> RelayError:
    return lost()  # a new one each time: an exception grows with each `raise`


def stay_away(seen: Seen) -> RelayError:
    return unreachable()


def asking(seen: Seen) -> Reply:
    question = {"id": f"q {seen.id}", "method": spec.SAMPLE, "params": {}}
    return events(question, note("n"), answer(seen))


def wanting(seen: Seen) -> Reply:
    asked = {"method": spec.SAMPLE, "params": {"messages": [], "maxTokens": 1}}
    return result(seen, {"resultType": "input_required", "inputRequests": {"k": asked}})


def resumable(seen: Seen) -> Reply:
    return Reply(body=[event(note("n"), id=f"of {seen.id}")], media_type="text/event-stream")


def resumed(seen: Seen) -> Reply:
    last = seen.header("Last-Event-ID")
    if last is None:
        return Reply(405, media_type=None)
    id = last.removeprefix("of ")
    return events({"id": int(id) if id.isdigit() else id, "result": {}})


def progressing(seen: Seen) -> Reply:
    params = {"progressToken": f"t {seen.id}", "progress": 1}
    return events({"method": spec.PROGRESS, "params": params}, answer(seen))


def acknowledged(seen: Seen) -> Reply:
    meta = {"_meta": {spec.META_SUBSCRIPTION: seen.id}}
    granted = {"notifications": {"toolsListChanged": True}}
    return events(
        {"method": spec.ACKNOWLEDGED, "params": meta | granted},
        {"method": spec.TOOLS_CHANGED, "params": meta},
        lost(answer_begun=True),
    )


def granted(seen: Seen) -> Reply:
    meta = {"_meta": {spec.META_SUBSCRIPTION: seen.id}}
    granted = {"notifications": seen.message["params"]["notifications"]}
    return events({"method": spec.ACKNOWLEDGED, "params": meta | granted}, FOREVER)


def discovered(seen: Seen) -> Reply:
    return result(
        seen,
        {
            "supportedVersions": [spec.R5],
            "capabilities": {"tools": {"listChanged": True}, "resources": {"subscribe": True}},
            "_meta": {spec.META_SERVER_INFO: {"name": "fake", "version": "1"}},
        },
    )


def too_old(seen: Seen) -> Reply:
    return error(seen, spec.UNSUPPORTED_VERSION, status=400)


def cookies(seen: Seen) -> Reply:
    return result(seen, headers=(("set-cookie", f"c{seen.id}=1"),))


BUSY = Reply(503, [b"later"], "text/plain", headers=(("retry-after", "1"),))
LARGE = "x" * MAX_SIZE
LEGACY: dict[str, Answer] = {spec.DISCOVER: Reply(404)}
MODERN: dict[str, Answer] = {spec.DISCOVER: discovered, spec.INITIALIZE: too_old}
TWICE = (("retry-after", "7200"),)

FAULTS = {
    "dropped": Fault(failing(-33002), {CALL: drop}),
    "dropped, stateless": Fault(failing(-33002), MODERN | {CALL: drop}, is_modern=True),
    "dropped and harmless": Fault(
        succeeding("tools/list"), {"tools/list": alternating(drop, result)}
    ),
    "dropped and harmless, stateless": Fault(
        succeeding("tools/list"),
        MODERN | {"tools/list": alternating(drop, result)},
        is_modern=True,
    ),
    "broken off": Fault(failing(-33002), {CALL: lambda seen: events(note("n"), lost())}),
    "unreachable": Fault(failing(-33001), {CALL: stay_away}),
    "503": Fault(succeeding(), {CALL: alternating(BUSY, result)}),
    "503 for hours": Fault(failing(-33005), {CALL: Reply(503, headers=TWICE)}),
    "401": Fault(failing(-33004), {CALL: Reply(401, media_type=None)}),
    "cancelled": Fault(cancel, {CALL: Reply(before=[FOREVER])}),
    "cancelled, stateless": Fault(cancel, MODERN | {CALL: Reply(before=[FOREVER])}, is_modern=True),
    "silent": Fault(failing(-33003), {CALL: Reply(before=[FOREVER])}),
    "oversized": Fault(failing(-33005), {CALL: lambda seen: result(seen, LARGE)}),
    "oversized event": Fault(failing(-33005), {CALL: lambda seen: events(answer(seen, LARGE))}),
    "strange": Fault(failing(-33005), {CALL: Reply(body=[b"<p>"], media_type="text/html")}),
    "resumed": Fault(succeeding(), {CALL: resumable, "GET": resumed}),
    "stream opened again": Fault(
        wait_for_note, {"GET": lambda seen: events(event(note("n") | {}, id="7"))}
    ),
    "stream refused for a while": Fault(
        wait_for_note,
        {"GET": alternating(Reply(503), drop, lambda seen: events(note("n")))},
    ),
    "stream of a lost session": Fault(
        forget, {"GET": Reply(body=[FOREVER], media_type="text/event-stream")}
    ),
    "listen stream opened again": Fault(
        wait_for_change, MODERN | {spec.LISTEN: acknowledged}, is_modern=True
    ),
    "listen stream of a bridge": Fault(wait_for_change, MODERN | {spec.LISTEN: acknowledged}),
    "listen stream cancelled": Fault(
        listen_for_a_while, MODERN | {spec.LISTEN: acknowledged}, is_modern=True
    ),
    "session forgotten": Fault(forget, {}),
    "session forgotten behind a bridge": Fault(forget, LEGACY, is_modern=True),
    "session doubted": Fault(
        doubt, {CALL: lambda seen: error(seen, text="no such session", status=400)}
    ),
    "handshake repeated": Fault(begin_anew, {}),
    "dropped behind a bridge": Fault(failing(-33002), LEGACY | {CALL: drop}, is_modern=True),
    "cancelled behind a bridge": Fault(
        cancel, LEGACY | {CALL: Reply(before=[FOREVER])}, is_modern=True
    ),
    "resumed behind a bridge": Fault(
        succeeding(), LEGACY | {CALL: resumable, "GET": resumed}, is_modern=True
    ),
    "progress behind a bridge": Fault(succeeding(), LEGACY | {CALL: progressing}, is_modern=True),
    "subscribed": Fault(subscribe_for_a_while, {}),
    "subscribed behind a bridge": Fault(subscribe_for_a_while, MODERN | {spec.LISTEN: granted}),
    "asked in rounds": Fault(answer_a_question, MODERN | {CALL: alternating(wanting, result)}),
    "questions unanswered": Fault(succeeding(), {CALL: asking}, warm=1_100),
    "progress": Fault(succeeding(), {CALL: progressing}),
    "cookies": Fault(succeeding(), {CALL: cookies}),
    "garbage of the client": Fault(say_garbage, {}),
    "an id used twice": Fault(use_an_id_twice, {CALL: lambda seen: result(seen, before=[0.1])}),
    "answers to nobody": Fault(answer_nobody, {}),
    "HTTP+SSE stream lost": Fault(lose_the_stream, {}, makes=SseServer, transport="sse"),
}


@pytest.fixture(autouse=True)
def _no_records() -> Iterator[None]:
    """pytest keeps each record of a log."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_leaves_nothing_behind(name: str, autojump_clock: MockClock) -> None:
    fault = FAULTS[name]
    server = fault.makes()
    server.rules |= fault.rules
    config = Config(str(URL), max_message_size=MAX_SIZE, transport=fault.transport)
    async with relaying(
        lane=server, config=config, wall_clock=trio.current_time, limit=float("inf")
    ) as rig:
        talk = Talk(rig, server, is_modern=fault.is_modern)
        if fault.is_modern:
            await talk.ask("prompts/list", id="opening")
        else:
            await talk.shake_hands()
        if name.startswith("listen") and fault.is_modern:
            await talk.send(spec.LISTEN, {"notifications": {"toolsListChanged": True}}, "listen")
        before = await repeated(fault, talk, fault.warm)
        for _ in range(3):
            after = await repeated(fault, talk, REPETITIONS)
            objects, blocks = (now - then for now, then in zip(after, before, strict=True))
            if objects < REPETITIONS / 4 and blocks < REPETITIONS / 2:
                return
            before = after  # what the interpreter itself keeps comes once
        raise AssertionError(f"{objects} objects and {blocks} blocks more, again and again")


async def repeated(fault: Fault, talk: Talk, times: int) -> tuple[int, int]:
    """Go through it so often; the objects and the blocks of memory that there are then."""
    for _ in range(times):
        talk.repetition += 1
        await fault.step(talk)
        talk.server.seen.clear()
    await trio.sleep(1_000)  # trio forgets deadlines that are not met any more when they come
    talk.server.seen.clear()
    re.purge()  # what hides secrets compiles patterns, of which the library remembers 512
    gc.collect()
    gc.collect()
    return len(gc.get_objects()), sys.getallocatedblocks()
