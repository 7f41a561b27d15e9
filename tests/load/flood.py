"""A client that has many calls under way, and knows for each what may become of it.

A call's tool says what its server does (`server`); what must come of that is in FATES. Checked for
each call: one answer, its own payload in it, its own progress, all of it and before the answer, and
how often it ran. Checked at the end: nothing came that nobody waits for.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import Any

import trio

from mcp_stdio import spec
from tests.faults.driver import NOT_UNDERSTOOD, SESSION_LOST, UNKNOWN
from tests.faults.server import TOOL_CALL, Json
from tests.load.server import TORN, Desk, Entry
from tests.process import INITIALIZE, Relay

LIMIT = 100.0
"""Seconds after which a call counts as forgotten."""

IN_FLIGHT = 64

META = {
    spec.META_VERSION: spec.R5,
    spec.META_CLIENT_INFO: {"name": "load", "version": "1"},
    spec.META_CLIENT_CAPABILITIES: {"sampling": {}},
}

FAILING = -32050


@dataclass(frozen=True)
class Fate:
    """What becomes of a call: a result (0) or the error's code, how often it runs, its progress.

    `share` of a thousand calls have it. One that streams may lose its session under way.
    """

    share: int
    outcome: int | None = 0
    runs: int = 1
    progress: int = 0
    streams: bool = False


FATES = {
    "plain": Fate(560),
    "stream": Fate(150, progress=3, streams=True),
    "asking": Fate(30, streams=True),
    "dropped": Fate(30, UNKNOWN),
    "broken": Fate(15, UNKNOWN, progress=1, streams=True),
    "resumed": Fate(20, progress=2, streams=True),
    "torn": Fate(5, UNKNOWN, runs=0),
    "busy": Fate(50),
    "limited": Fate(10),
    "refused": Fate(5, NOT_UNDERSTOOD, runs=0),
    "overtaxed": Fate(5, NOT_UNDERSTOOD),
    "withdrawn": Fate(20, outcome=None),
    "oversized": Fate(5, NOT_UNDERSTOOD),
    "oversized event": Fate(5, NOT_UNDERSTOOD, streams=True),
    "strange": Fate(5, NOT_UNDERSTOOD),
    "failing": Fate(15, FAILING),
    "read": Fate(70, runs=2),
}

STATELESS_FATES = {name: fate for name, fate in FATES.items() if name != "resumed"}
"""In the stateless era no stream is resumed."""

UNASKED_FATES = {name: fate for name, fate in FATES.items() if name != "asking"}
"""A client of the stateless era cannot be asked by a server of the other one."""


@dataclass(frozen=True)
class Eras:
    """Which of the two are stateless, and what may become of calls between them."""

    client: bool
    server: bool
    fates: dict[str, Fate]

    @property
    def is_crossing(self) -> bool:
        return self.client != self.server


PAIRS = {
    "handshake": Eras(False, False, FATES),
    "stateless": Eras(True, True, STATELESS_FATES),
    "handshake to stateless": Eras(False, True, STATELESS_FATES),
    "stateless to handshake": Eras(True, False, UNASKED_FATES),
}


@dataclass
class Asked:
    """A request under way."""

    name: str
    answer: Json | None = None
    progress: list[int] = field(default_factory=list)
    answered: trio.Event = field(default_factory=trio.Event)
    began: float = field(default_factory=time.perf_counter)


@dataclass
class Tally:
    """How many calls had which fate; `latencies` are of `plain` ones, less the server's own time.

    `lost` are those whose session was forgotten while they streamed.
    """

    ends: Counter[str] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    notes: int = 0
    questions: int = 0
    lost: int = 0

    @property
    def calls(self) -> int:
        return self.ends.total()


class Flood:
    """The client. Its choices are those of `seed`; `fates` are those that the server knows."""

    def __init__(
        self, relay: Relay, desk: Desk, *, is_modern: bool, fates: dict[str, Fate], seed: int
    ) -> None:
        self.tally = Tally()
        self._relay = relay
        self._desk = desk
        self._is_modern = is_modern
        self._fates = fates
        self._random = random.Random(seed)
        self._due = list(fates)  # each at least once
        self._ids = itertools.count(1)
        self._asked: dict[object, Asked] = {}
        self._by_payload: dict[str, Asked] = {}
        self._ticks: dict[str, int] = {}
        self._is_over = False

    async def run(self, calls: float, *, in_flight: int = IN_FLIGHT, until: float = inf) -> None:
        """Make so many calls, so many at a time, and begin none after `until` (trio's clock).

        The relay must have been opened.
        """
        begun = 0

        async def work() -> None:
            nonlocal begun
            while begun < calls and trio.current_time() < until:
                begun += 1
                await self._call()

        with trio.CancelScope() as reading:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, reading)
                async with trio.open_nursery() as workers:
                    for _ in range(in_flight):
                        workers.start_soon(work)
                reading.cancel()

    async def open(self) -> None:
        """Say what a client says first."""
        if not self._is_modern:
            capabilities = {"capabilities": {"sampling": {}}, "protocolVersion": spec.R4}
            await self._relay.ask(spec.INITIALIZE, INITIALIZE | capabilities)
            await self._relay.send(method=spec.INITIALIZED)
            return
        await self._relay.ask("tools/list", {"_meta": META})
        if self._desk.is_modern:
            self._asked["listen"] = Asked("listen")
            params = {"notifications": {"toolsListChanged": True}, "_meta": META}
            await self._relay.send(id="listen", method=spec.LISTEN, params=params)

    async def close(self) -> None:
        """End the relay's input: nothing may come but the end of what listens, and exit code 0."""
        self._is_over = True
        await self._relay.close_stdin()
        for message in await self._relay.rest():
            self._take(message)
        assert await self._relay.wait() == 0
        assert not self._asked
        assert "Traceback" not in self._relay.errors, self._relay.errors

    # One call

    async def _call(self) -> None:
        name = self._due.pop() if self._due else self._draw()
        id = next(self._ids) + 1000
        payload = f"{name.replace(' ', '-')}-{id}-{self._random.getrandbits(32):08x}"
        asked = Asked(name)
        entry = self._desk.ledger.open(payload)
        self._by_payload[payload] = asked
        with trio.move_on_after(LIMIT) as patience:
            await self._make(asked, entry, payload, id)
        assert not patience.cancelled_caught, f"no end of {payload}: {entry}"
        self._check(asked, entry, payload)
        del self._by_payload[payload]
        self._desk.ledger.close(payload)

    def _draw(self) -> str:
        shares = [fate.share for fate in self._fates.values()]
        return self._random.choices(list(self._fates), shares)[0]

    async def _make(self, asked: Asked, entry: Entry, payload: str, id: int) -> None:
        name = asked.name
        pause = self._random.choice((0, 0, 0, 0.001, 0.01, 0.05))
        arguments: Json = {"payload": payload, "pause": pause, "steps": FATES[name].progress}
        if name == "torn":
            arguments["much"] = "x" * TORN
        tool = "plain" if name == "torn" else name
        params: Json = {"name": tool, "arguments": arguments, "_meta": {"progressToken": payload}}
        method = TOOL_CALL
        if name == "read":
            method, params = "resources/read", {"uri": f"load:{payload}", "_meta": {}}
        if self._is_modern:
            params["_meta"] |= META
        asked.began = time.perf_counter()
        await self._ask(asked, id, method, params)
        if name == "withdrawn":
            await entry.arrived.wait()
            await self._relay.send(method=spec.CANCELLED, params={"requestId": id})
            await entry.withdrawn.wait()
            assert asked.answer is None, asked.answer
            del self._asked[id]
            return
        await asked.answered.wait()
        if name == "plain":
            self.tally.latencies.append(time.perf_counter() - asked.began - pause)
        questions = (asked.answer or {}).get("result", {}).get("inputRequests")
        if questions is not None:
            again = params | {
                "inputResponses": {"it": reply(questions["it"])},
                "requestState": asked.answer["result"]["requestState"] if asked.answer else "",
            }
            asked.answered = trio.Event()
            asked.answer = None
            self.tally.questions += 1
            await self._ask(asked, next(self._ids) + 1000, method, again)
            await asked.answered.wait()

    async def _ask(self, asked: Asked, id: int, method: str, params: Json) -> None:
        self._asked[id] = asked
        await self._relay.send(id=id, method=method, params=params)

    def _check(self, asked: Asked, entry: Entry, payload: str) -> None:
        fate = self._fates[asked.name]
        answer = asked.answer
        code = answer["error"]["code"] if answer and "error" in answer else 0
        story = f"{payload}: {answer}, {entry.runs} runs, progress {asked.progress}"
        if code == SESSION_LOST and fate.streams and self._desk.server.has_sessions:
            assert entry.runs == 1, story
            self.tally.lost += 1
            self.tally.ends[asked.name] += 1
            return
        assert (None if answer is None else code) == fate.outcome, story
        assert entry.runs == fate.runs, story
        assert asked.progress == list(range(1, fate.progress + 1)), story
        if answer is not None and code == 0:
            assert payload in json.dumps(answer["result"]), story
        elif code == FAILING and answer is not None:
            assert answer["error"]["message"] == payload, story
        self.tally.ends[asked.name] += 1

    # What comes

    async def _read(self, scope: trio.CancelScope) -> None:
        while True:
            message = await self._relay.read()
            question = self._take(message)
            if question is not None:
                self.tally.questions += 1
                await self._relay.send(id=message["id"], result=question)

    def _take(self, message: Json) -> Json | None:
        """Take a message; the answer to it, if it is a question."""
        match message:
            case {"id": _, "method": spec.SAMPLE}:
                return reply(message)
            case {"method": spec.PROGRESS, "params": params}:
                asked = self._by_payload[params["progressToken"]]
                assert not asked.answered.is_set(), f"progress after its answer: {message}"
                assert params["message"] == params["progressToken"], message
                asked.progress.append(params["progress"])
            case {"method": spec.LOG_MESSAGE, "params": {"data": str(text)}}:
                self.tally.notes += 1
                stream, _, number = text.partition(" ")
                assert int(number) == self._ticks.get(stream, 0) + 1, f"{text} after {self._ticks}"
                self._ticks = {stream: int(number)}
            case {"method": spec.TOOLS_CHANGED | spec.ACKNOWLEDGED}:
                self.tally.notes += 1
                if self._is_modern:
                    assert message["params"]["_meta"][spec.META_SUBSCRIPTION] == "listen", message
            case {"method": spec.CANCELLED, "params": {"requestId": "listen"}}:
                assert self._is_over, "the listen stream ended"
            case {"id": id} if "method" not in message:
                asked = self._asked.pop(id)
                assert not asked.answered.is_set(), message
                asked.answer = message
                asked.answered.set()
            case _:
                raise AssertionError(f"nobody expects {message}")
        return None


def reply(question: Json) -> Json:
    """The answer to `sampling`: what it was asked with."""
    content: Any = question["params"]["messages"][0]["content"]
    return {"role": "assistant", "content": content, "model": "m"}
