"""Streams that outlive their connections: resumed answers, listening, subscriptions, HTTP+SSE."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import trio

from mcp_stdio import spec
from tests.cuts.calls import (
    BRIDGED,
    LEGACY,
    MODERN,
    STEPS,
    acknowledgement,
    by_length,
    call_and_go_on,
    events_in,
    has_head,
    legacy_call,
    lost,
    modern_server,
    runs,
    same,
    tagged,
)
from tests.cuts.client import TESTED, Talker, outcome
from tests.cuts.matrix import SILENCE, Case, Exchange, world
from tests.faults.driver import NOT_UNDERSTOOD, SILENT, UNKNOWN, UNREACHABLE, opening
from tests.faults.server import (
    END,
    TOOL_CALL,
    Server,
    Visit,
    chunk,
    event,
    http,
    notification,
    server_description,
    stream_head,
    well,
)

Json = dict[str, Any]

WAIT = SILENCE + 15.0
"""Seconds that a client waits for what a stalled stream does not bring."""


# An answer with event ids, resumed by a GET (T-45, T-46)


class Replayed:
    """Keeps what it says of a call, and says on a GET what comes after the last event seen."""

    def __init__(self, *, pauses: bool) -> None:
        self.pauses = pauses
        self.events: list[bytes] = []

    def settings(self) -> Mapping[str, Any]:
        return {"tools": {"tested": self.answer}, "methods": {"GET": self.resume}}

    async def answer(self, visit: Visit) -> None:
        messages = [None, *map(notification, STEPS), visit.result()]
        self.events = [
            event(message, id=f"e{number}", retry=100) for number, message in enumerate(messages)
        ]
        said = self.events[:2] if self.pauses else self.events
        await visit.send(stream_head() + b"".join(said) + END)

    async def resume(self, visit: Visit) -> None:
        last = visit.received.get(spec.LAST_EVENT_ID)
        if last is None:
            await well(visit)
        else:
            rest = self.events[int(last.removeprefix("e")) + 1 :]
            await visit.send(stream_head() + b"".join(rest) + END)


def resumed(case: Case) -> None:
    """From the first event on, nothing is lost and nothing comes twice."""
    seen, texts = case.seen
    events = len(events_in(case.passed))
    is_answered = events == len(events_in(bytes(case.recorded.response)))
    if is_answered or (events and not case.is_stalled):
        same(seen, "result")
        same(texts, STEPS)
    else:
        same(seen, lost(case))
        same(texts, STEPS[: max(0, events - 1)])
    same(runs(case), int(case.was_read))


def resumed_again(case: Case) -> None:
    """The GET that goes on is itself cut: it is made again, until there is only silence."""
    seen, texts = case.seen
    is_answered = len(events_in(case.passed)) == len(events_in(bytes(case.recorded.response)))
    if is_answered or not case.is_stalled:
        same(seen, "result")
        same(texts, STEPS)
    else:
        same(seen, SILENT)
        same(texts, STEPS[: 1 + len(events_in(case.passed))])
    same(runs(case), 1)


# The listening stream, with a question of the server


class Speaking:
    """Says something on the GET stream, asks, and says that it was answered."""

    def __init__(self) -> None:
        question = {"jsonrpc": "2.0", "id": "q", "method": spec.SAMPLE, "params": {"messages": []}}
        self.messages: list[Json] = [notification("first"), question]
        self.news = trio.Event()
        self.is_answered = False

    def settings(self) -> Mapping[str, Any]:
        methods = {"GET": self.speak, "response": self.take}
        return {"tools": {"tested": by_length}, "methods": methods}

    async def speak(self, visit: Visit) -> None:
        last = visit.received.get(spec.LAST_EVENT_ID)
        said = 0 if last is None else int(last)
        await visit.send(stream_head())
        while True:
            while said < len(self.messages):
                said += 1
                await visit.send(event(self.messages[said - 1], id=str(said)))
            await self.news.wait()

    async def take(self, visit: Visit) -> None:
        if not self.is_answered:  # it may come twice
            self.is_answered = True
            self.messages.append(notification("answered"))
            self.news.set()
            self.news = trio.Event()
        await visit.send(http(202))


ALL_SAID = ["first", spec.SAMPLE, "answered"]


async def listen_and_call(talker: Talker, server: Server) -> Any:
    await talker.initialize()
    with trio.move_on_after(WAIT):
        await talker.heard("answered")
    return await call_and_go_on(talker)


def spoken(case: Case) -> None:
    """What was said on the stream comes once and in order; a stalled one just falls silent."""
    seen, texts = case.seen
    same(seen, "result")
    same(runs(case), 1)
    expected = ALL_SAID
    if case.is_stalled:
        expected = ALL_SAID[: len(events_in(case.passed))]
    same(texts, expected)


def responded(case: Case) -> None:
    """An answer to a question may arrive twice without harm, so it is sent once more."""
    seen, texts = case.seen
    same(seen, "result")
    same(runs(case), 1)
    is_lost = case.is_stalled and not case.was_read
    same(texts, ALL_SAID[:2] if is_lost else ALL_SAID)


# A listen stream of 2026-07-28 (T-71)


class Changing:
    """Tells of a change once: where that is lost, whoever listened must be told all the same."""

    def __init__(self) -> None:
        self.has_told = False

    def settings(self) -> Mapping[str, Any]:
        settings = modern_server(by_length)()
        return {**settings, "methods": {**settings["methods"], spec.LISTEN: self.listen}}

    async def listen(self, visit: Visit) -> None:
        events = event(acknowledgement(visit))
        if not self.has_told:
            self.has_told = True
            events += event(tagged(visit, spec.TOOLS_CHANGED))
        await visit.send(stream_head() + events)
        await trio.sleep_forever()


async def listen(talker: Talker, server: Server) -> Any:
    """Listen until a change was told, then cancel."""
    talker.is_modern = True
    assert outcome(await talker.ask(spec.DISCOVER)) == "result"
    await talker.request(spec.LISTEN, {"notifications": {"toolsListChanged": True}}, TESTED)
    with trio.move_on_after(WAIT):
        await talker.heard(spec.TOOLS_CHANGED)
    ended = talker.outcome_of(TESTED)
    if ended is None:
        talker.unanswerable.add(TESTED)
        await talker.notify(spec.CANCELLED, {"requestId": TESTED})
    await talker.goes_on()
    tags = {message["params"]["_meta"][spec.META_SUBSCRIPTION] for message in talker.said}
    return ended, talker.texts, tags


def subscribed(case: Case) -> None:
    """One acknowledgement, then the change if it was listened to, all under the client's own id."""
    ended, texts, tags = case.seen
    events = len(events_in(case.passed))
    assert tags <= {TESTED}, tags
    if case.is_stalled:
        same(ended, None if events else SILENT)
        same(texts, [spec.ACKNOWLEDGED, spec.TOOLS_CHANGED][:events])
    else:
        same(ended, None)
        same(texts[0], spec.ACKNOWLEDGED)
        if events or not case.was_read:
            same(set(texts[1:]), {spec.TOOLS_CHANGED})


async def hear_of_change(talker: Talker, server: Server) -> Any:
    """A client of the handshake era is told of a change by the stream behind the bridge."""
    await talker.initialize()
    with trio.move_on_after(WAIT):
        await talker.heard(spec.TOOLS_CHANGED)
    return await call_and_go_on(talker)


def told(case: Case) -> None:
    """A stream that is not acknowledged is opened anew; one that was may just be silent."""
    seen, texts = case.seen
    same(seen, "result")
    same(runs(case), 1)
    events = len(events_in(case.passed))
    if case.is_stalled and events:
        same(texts, [spec.TOOLS_CHANGED] if events > 1 else [])
    elif events or not case.was_read:
        same(set(texts), {spec.TOOLS_CHANGED})


# HTTP+SSE (T-90 to T-92)


HANG_UP = "completion/complete"
"""The method on which the server ends its stream after the answer."""


class OneStream:
    """A server of 2024-11-05: each GET is a session, on whose stream the answers come."""

    def __init__(self) -> None:
        self.streams: dict[str, trio.MemorySendChannel[Json]] = {}
        self.count = 0

    def settings(self) -> Mapping[str, Any]:
        methods = {"GET": self.open, spec.INITIALIZE: self.initialize, spec.INITIALIZED: self.take}
        return {
            "path": "/sse",
            "has_sessions": False,
            "tools": {"tested": self.take},
            "methods": {
                **methods,
                TOOL_CALL: self.take,
                spec.CANCELLED: self.take,
                spec.PING: self.take,
                spec.DISCOVER: self.take,
                HANG_UP: self.hang_up,
            },
        }

    async def open(self, visit: Visit) -> None:
        self.count += 1
        name = str(self.count)
        self.streams[name], messages = trio.open_memory_channel[Json](inf)
        try:
            endpoint = f"event: endpoint\ndata: /messages?session={name}\n\n"
            await visit.send(stream_head() + chunk(endpoint.encode()))
            async for message in messages:
                await visit.send(event(message))
            await visit.send(END)
        finally:
            del self.streams[name]

    async def initialize(self, visit: Visit) -> None:
        await self.say(visit, visit.result(server_description()))

    async def take(self, visit: Visit) -> None:
        await self.say(visit, None if visit.id is None else visit.result())

    async def hang_up(self, visit: Visit) -> None:
        """Answer, and end the stream."""
        await self.take(visit)
        for stream in self.streams.values():
            stream.close()

    async def say(self, visit: Visit, message: Json | None) -> None:
        stream = self.streams.get(visit.received.target.partition("=")[2])
        if stream is None:
            if visit.received.rpc == TOOL_CALL:
                visit.did_not_run()
            await visit.send(http(405 if visit.received.target == "/sse" else 404))
            return
        if message is not None:
            stream.send_nowait(message)
        await visit.send(http(202, b"Accepted", kind="text/plain"))


async def initialize_and_call(talker: Talker, server: Server) -> Any:
    """Whatever becomes of the handshake, the call is tried; and if need be, one more."""
    opened = outcome(await talker.ask(spec.INITIALIZE, opening(), "opening"))
    if opened == "result":
        await talker.notify(spec.INITIALIZED)
    return opened, await call_twice(talker)


async def call_twice(talker: Talker) -> Any:
    """After the call that is tested, another one may be lost with the stream."""
    seen = outcome(await talker.call_as(TESTED, "tested"))
    if outcome(await talker.call_as("8", "echo")) == UNKNOWN:
        await talker.goes_on()
    return seen


async def lose_and_call(talker: Talker, server: Server) -> Any:
    """The stream ends while nobody asks for anything, and is opened anew."""
    assert outcome(await talker.ask(spec.INITIALIZE, opening(), "opening")) == "result"
    await talker.notify(spec.INITIALIZED)
    await talker.ask(spec.PING)
    await talker.ask(HANG_UP)
    return "result", await call_twice(talker)


def streamed(case: Case) -> None:
    """The stream is the session; what was asked on it and not answered has an unknown outcome."""
    opened, seen = case.seen
    events = len(events_in(case.passed))
    if case.is_stalled and events < 2:
        # Where it was only looked for, the refusal of `initialize` is the client's.
        assert opened in (SILENT, NOT_UNDERSTOOD), opened
    else:
        same(opened, "result")
    if events == 2 and seen != "result":
        same(seen, lost(case))
    else:
        same(seen, "result")
    same(runs(case), 1)


def posted(case: Case) -> None:
    """The answer may come on the stream although its POST was cut."""
    opened, seen = case.seen
    same(opened, "result")
    if case.was_read:
        assert seen in (("result",) if case.is_stalled else ("result", UNKNOWN)), seen
    else:
        same(seen, lost(case))
    same(runs(case), int(case.was_read))


def posted_opening(case: Case) -> None:
    opened, seen = case.seen
    is_silent = case.is_stalled and not case.was_read
    same(opened, SILENT if is_silent else "result")
    same(seen, "result")
    same(runs(case), 1)


def looked_for(case: Case) -> None:
    """What is asked to find out the transport is harmless, and its refusal a status alone."""
    opened, seen = case.seen
    is_silent = case.is_stalled and not has_head(case)
    asked_first = NOT_UNDERSTOOD if spec.DISCOVER.encode() in case.recorded.request else SILENT
    same(opened, asked_first if is_silent else "result")
    same(seen, "result")
    same(runs(case), 1)


def streamed_anew(case: Case) -> None:
    """What waits for the next stream has not been sent, and is told so if it gets no answer."""
    _, seen = case.seen
    allowed: set[str | int] = {"result", UNREACHABLE}
    if case.is_stalled:
        allowed = {"result", SILENT}
    if runs(case):  # once it has been sent
        allowed = {"result", lost(case)}
    assert seen in allowed, f"{seen} instead of {allowed}"
    assert runs(case) == 1 or seen != "result"


RESUMABLE = world(lambda: Replayed(pauses=False).settings())
PAUSING = world(lambda: Replayed(pauses=True).settings())
SPEAKING = world(lambda: Speaking().settings())
CHANGING = world(lambda: Changing().settings())
ONE_STREAM = world(lambda: OneStream().settings(), transport="sse")
UNKNOWN_TRANSPORT = world(lambda: OneStream().settings())

EXCHANGES = [
    Exchange("call, events with ids", LEGACY, RESUMABLE, legacy_call, TOOL_CALL, resumed),
    Exchange("call, resumed", LEGACY, PAUSING, legacy_call, "GET", resumed_again, nth=1),
    Exchange("GET stream", LEGACY, SPEAKING, listen_and_call, "GET", spoken, until="answered"),
    Exchange("answer to the server", LEGACY, SPEAKING, listen_and_call, "response", responded),
    Exchange("listen", MODERN, CHANGING, listen, spec.LISTEN, subscribed, until="list_changed"),
    Exchange("listen", BRIDGED, CHANGING, hear_of_change, spec.LISTEN, told, until="list_changed"),
    Exchange(
        "HTTP+SSE stream", LEGACY, ONE_STREAM, initialize_and_call, "GET", streamed, until="tested"
    ),
    Exchange("HTTP+SSE call", LEGACY, ONE_STREAM, initialize_and_call, TOOL_CALL, posted),
    Exchange(
        "HTTP+SSE initialize", LEGACY, ONE_STREAM, initialize_and_call, spec.INITIALIZE,
        posted_opening,
    ),
    Exchange(
        "HTTP+SSE, initialize refused", LEGACY, UNKNOWN_TRANSPORT, initialize_and_call,
        spec.INITIALIZE, looked_for,
    ),
    Exchange(
        "HTTP+SSE, discover refused", LEGACY, UNKNOWN_TRANSPORT, initialize_and_call,
        spec.DISCOVER, looked_for,
    ),
    Exchange(
        "HTTP+SSE, found", LEGACY, UNKNOWN_TRANSPORT, initialize_and_call, "GET", streamed,
        until="tested",
    ),
    Exchange(
        "HTTP+SSE stream, anew", LEGACY, ONE_STREAM, lose_and_call, "GET", streamed_anew, nth=1,
        until="tested",
    ),
    Exchange(
        "HTTP+SSE initialize, anew", LEGACY, ONE_STREAM, lose_and_call, spec.INITIALIZE,
        streamed_anew, nth=1,
    ),
    Exchange(
        "HTTP+SSE initialized, anew", LEGACY, ONE_STREAM, lose_and_call, spec.INITIALIZED,
        streamed_anew, nth=1,
    ),
]  # fmt: skip
