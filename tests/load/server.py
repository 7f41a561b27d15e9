"""A server under load: a call's tool says what becomes of it, and a ledger counts what was done.

Client and server are in one process, so that whoever made a call can look up at once how often it
ran. A call that comes after its entry was closed, and anything else that must not be, is a
complaint of the server. Speaks either era.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from mcp_stdio import spec
from tests.faults.server import (
    END,
    VERSION,
    Behaviour,
    Json,
    Server,
    Visit,
    dumps,
    event,
    http,
    notification,
    serving,
    stream_head,
)

MAX_SIZE = 100_000
"""`--max-message-size` of the relay."""

OVERSIZED = 150_000
"""Bytes of an answer over that."""

TORN = 80_000
"""Bytes of a request that is cut in half: more than the relay sends in one write."""

RETRY = 10
"""Milliseconds after which the server wants a stream resumed; the relay's least are 100."""

TICK = 0.02
"""Seconds between two notifications that belong to no request."""

LISTENS = 1.0
"""Seconds after which the stream that belongs to no request is cut."""


@dataclass
class Entry:
    """What the server did about one call."""

    visits: int = 0
    runs: int = 0
    ids: set[object] = field(default_factory=set)
    arrived: trio.Event = field(default_factory=trio.Event)
    withdrawn: trio.Event = field(default_factory=trio.Event)
    answered: trio.Event = field(default_factory=trio.Event)


@dataclass
class Ledger:
    """The calls under way, by their payload and their ids, and what the server did in all.

    A session is forgotten after `session_life` executions.
    """

    session_life: int = 500
    calls: dict[str, Entry] = field(default_factory=dict)
    by_id: dict[object, Entry] = field(default_factory=dict)
    executed: int = 0
    expired: int = 0
    opened: int = 0
    busy: int = 0
    dropped: int = 0
    listened: int = 0
    resumed: int = 0

    def open(self, payload: str) -> Entry:
        """A call is about to be made."""
        entry = self.calls[payload] = Entry()
        return entry

    def close(self, payload: str) -> None:
        """It is over, whatever became of it."""
        for id in self.calls.pop(payload).ids:
            self.by_id.pop(id, None)


class Desk:
    """The behaviours of a server whose ledger this is."""

    def __init__(self, server: Server, ledger: Ledger, *, is_modern: bool) -> None:
        self.server = server
        self.ledger = ledger
        self.is_modern = is_modern
        self.tools: dict[str, Callable[[Visit, Entry, str], Any]] = {
            "plain": self.plain,
            "stream": self.stream,
            "asking": self.asking,
            "dropped": self.dropped,
            "broken": self.broken,
            "resumed": self.resumed,
            "busy": self.busy,
            "limited": self.limited,
            "refused": self.refused,
            "overtaxed": self.overtaxed,
            "withdrawn": self.withdrawn,
            "oversized": self.oversized,
            "oversized event": self.oversized_event,
            "strange": self.strange,
            "failing": self.failing,
        }
        server.tools |= {name: self._tool(name) for name in self.tools}
        server.methods |= {
            "resources/read": self._read,
            spec.CANCELLED: self._cancelled,
            "response": self._response,
            "GET": self._get,
            spec.INITIALIZE: self._initialize,
        }
        if is_modern:
            server.methods |= {spec.DISCOVER: self._discover, spec.LISTEN: self._listen}

    # Calls

    def _tool(self, name: str) -> Behaviour:
        async def behave(visit: Visit) -> None:
            payload = visit.received.message["params"]["arguments"]["payload"]
            entry = self._entry(visit, payload)
            if entry is not None:
                await self.tools[name](visit, entry, payload)

        return behave

    def _entry(self, visit: Visit, payload: str) -> Entry | None:
        entry = self.ledger.calls.get(payload)
        if entry is None:
            self.server.complaints.append(f"{payload} came after its end")
            visit.reset()
            return None
        entry.visits += 1
        entry.ids.add(visit.id)
        self.ledger.by_id[visit.id] = entry
        entry.arrived.set()
        return entry

    def _run(self, entry: Entry) -> None:
        entry.runs += 1
        self.ledger.executed += 1
        if self.server.has_sessions and self.ledger.executed % self.ledger.session_life == 0:
            self.ledger.expired += 1
            self.server.restart()

    async def plain(self, visit: Visit, entry: Entry, payload: str) -> None:
        self._run(entry)
        await self._pause(visit)
        await visit.answer(self._result(payload))

    async def stream(self, visit: Visit, entry: Entry, payload: str) -> None:
        self._run(entry)
        await visit.send(stream_head())
        for number in range(1, self._steps(visit) + 1):
            await visit.send(event(progress(payload, number)))
            await self._pause(visit)
        await visit.send(event(visit.result(self._result(payload))) + END)

    async def asking(self, visit: Visit, entry: Entry, payload: str) -> None:
        """Ask the client for its payload before answering."""
        question = sampling(payload)
        if self.is_modern:
            answers = visit.received.message["params"].get("inputResponses")
            if answers is None:
                asked = {"method": spec.SAMPLE, "params": question}
                state = {"requestState": payload}
                await visit.answer(
                    {"resultType": "input_required", "inputRequests": {"it": asked}} | state
                )
                return
            said = answers["it"]["content"]["text"]
            if said != payload or visit.received.message["params"]["requestState"] != payload:
                self.server.complaints.append(f"{payload} was answered {said}")
            self._run(entry)
            await visit.answer(self._result(payload))
            return
        self._run(entry)
        request = {"jsonrpc": "2.0", "id": f"q {payload}", "method": spec.SAMPLE}
        await visit.send(stream_head() + event(request | {"params": question}))
        await self._either(visit, entry.answered)
        await visit.send(event(visit.result(self._result(payload))) + END)

    async def dropped(self, visit: Visit, entry: Entry, payload: str) -> None:
        """Execute the call and be gone before the answer."""
        self._run(entry)
        self.ledger.dropped += 1
        await self._pause(visit)
        await self._drop(visit)

    async def broken(self, visit: Visit, entry: Entry, payload: str) -> None:
        """Execute the call and be gone within the answer."""
        self._run(entry)
        self.ledger.dropped += 1
        await visit.send(stream_head() + event(progress(payload, 1)))
        await self._pause(visit)
        await visit.close()

    async def resumed(self, visit: Visit, entry: Entry, payload: str) -> None:
        """Break off where the stream can be resumed."""
        self._run(entry)
        self.ledger.dropped += 1
        where = f"call {payload} {json.dumps(visit.id)}"
        first = event(progress(payload, 1), id=where, retry=RETRY)
        await visit.send(stream_head() + first)
        await self._pause(visit)
        await visit.close()

    async def busy(self, visit: Visit, entry: Entry, payload: str) -> None:
        await self._later(visit, entry, payload, 503)

    async def limited(self, visit: Visit, entry: Entry, payload: str) -> None:
        await self._later(visit, entry, payload, 429)

    async def _later(self, visit: Visit, entry: Entry, payload: str, status: int) -> None:
        """Have the call come again once."""
        if entry.visits == 1:
            self.ledger.busy += 1
            visit.did_not_run()
            await visit.send(http(status, b"later", kind="text/plain", headers=["Retry-After: 0"]))
            return
        await self.plain(visit, entry, payload)

    async def refused(self, visit: Visit, entry: Entry, payload: str) -> None:
        """Want the call to come again in an hour."""
        visit.did_not_run()
        await visit.send(http(503, b"later", kind="text/plain", headers=["Retry-After: 3600"]))

    async def overtaxed(self, visit: Visit, entry: Entry, payload: str) -> None:
        """Fail as a gateway does, which says nothing about the call."""
        self._run(entry)
        await visit.send(http(503, b"<p>", kind="text/html"))

    async def withdrawn(self, visit: Visit, entry: Entry, payload: str) -> None:
        """Never answer; what ends the call is the client."""
        self._run(entry)
        await self._either(visit, entry.withdrawn)
        entry.withdrawn.set()
        visit.reset()

    async def oversized(self, visit: Visit, entry: Entry, payload: str) -> None:
        self._run(entry)
        await visit.answer(self._result(payload) | {"_meta": {"x": "x" * OVERSIZED}})

    async def oversized_event(self, visit: Visit, entry: Entry, payload: str) -> None:
        self._run(entry)
        large = visit.result(self._result(payload) | {"_meta": {"x": "x" * OVERSIZED}})
        await visit.send(stream_head() + event(large) + END)

    async def strange(self, visit: Visit, entry: Entry, payload: str) -> None:
        self._run(entry)
        await visit.send(http(body=b"<p>" * 100, kind="text/html"))

    async def failing(self, visit: Visit, entry: Entry, payload: str) -> None:
        """Answer with an error of the server's own."""
        self._run(entry)
        error = {"code": -32050, "message": payload}
        await visit.send(http(body=dumps({"jsonrpc": "2.0", "id": visit.id, "error": error})))

    async def _read(self, visit: Visit) -> None:
        """A harmless request, whose first attempt is dropped."""
        payload = visit.received.message["params"]["uri"].removeprefix("load:")
        entry = self._entry(visit, payload)
        if entry is None:
            return
        entry.runs += 1
        if entry.visits == 1:
            self.ledger.dropped += 1
            await self._drop(visit)
            return
        contents = [{"uri": f"load:{payload}", "text": payload}]
        await visit.answer({"resultType": "complete", "contents": contents})

    def _result(self, payload: str) -> Json:
        return {"resultType": "complete", "content": [{"type": "text", "text": payload}]}

    def _steps(self, visit: Visit) -> int:
        return int(visit.received.message["params"]["arguments"]["steps"])

    async def _pause(self, visit: Visit) -> None:
        await trio.sleep(visit.received.message["params"]["arguments"]["pause"])

    async def _drop(self, visit: Visit) -> None:
        if visit.connection.number % 2:
            visit.reset()
        else:
            await visit.close()

    async def _either(self, visit: Visit, event: trio.Event) -> None:
        """Wait for it, or until the client hangs up."""
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await visit.hung_up()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await event.wait()
            nursery.cancel_scope.cancel()

    # What is no call

    async def _initialize(self, visit: Visit) -> None:
        if self.is_modern:
            error = {
                "code": spec.UNSUPPORTED_VERSION,
                "message": "too old",
                "data": {"supported": [spec.R5], "requested": VERSION},
            }
            body = dumps({"jsonrpc": "2.0", "id": visit.id, "error": error})
            await visit.send(http(400, body))
            return
        self.ledger.opened += 1
        result = {
            "protocolVersion": VERSION,
            "capabilities": {"tools": {}, "resources": {}, "logging": {}},
            "serverInfo": {"name": "load", "version": "1"},
        }
        await visit.answer(result, f"{spec.SESSION_ID}: {self.server.mint_session()}")

    async def _discover(self, visit: Visit) -> None:
        result = {
            "resultType": "complete",
            "supportedVersions": [spec.R5],
            "capabilities": {"tools": {"listChanged": True}, "resources": {}, "logging": {}},
            "_meta": {spec.META_SERVER_INFO: {"name": "load", "version": "1"}},
        }
        await visit.answer(result)

    async def _cancelled(self, visit: Visit) -> None:
        entry = self.ledger.by_id.get(visit.received.message["params"]["requestId"])
        if entry is not None:
            entry.withdrawn.set()
        await visit.send(http(202))

    async def _response(self, visit: Visit) -> None:
        payload = str(visit.id).removeprefix("q ")
        said = visit.received.message["result"]["content"]["text"]
        if said != payload:
            self.server.complaints.append(f"the question of {payload} was answered {said}")
        if (entry := self.ledger.calls.get(payload)) is not None:
            entry.answered.set()
        await visit.send(http(202))

    async def _get(self, visit: Visit) -> None:
        """Resume a call's stream, or open the one that belongs to none."""
        session = visit.received.get(spec.SESSION_ID)
        last = visit.received.get(spec.LAST_EVENT_ID) or ""
        if self.is_modern:
            await visit.send(http(405))
        elif session not in self.server.sessions:
            await visit.send(http(404, b"session not found", kind="text/plain"))
        elif last.startswith("call "):
            _, payload, id = last.split(" ")
            self.ledger.resumed += 1
            answer = {"jsonrpc": "2.0", "id": json.loads(id), "result": self._result(payload)}
            await visit.send(
                stream_head() + event(progress(payload, 2)) + event(answer, id="end") + END
            )
        else:
            await self._tick(visit, session, int(last.split(" ")[1]) if last else 0)

    async def _tick(self, visit: Visit, session: str | None, number: int) -> None:
        """Count on a stream from where the last connection of it was cut."""
        self.ledger.listened += 1
        await visit.send(stream_head())
        with trio.move_on_after(LISTENS):
            while session in self.server.sessions:
                number += 1
                note = notification(f"{session} {number}")
                await visit.send(event(note, id=f"tick {number}", retry=RETRY))
                await trio.sleep(TICK)
        await self._drop(visit)

    async def _listen(self, visit: Visit) -> None:
        """Acknowledge, and tell of a change now and then."""
        self.ledger.listened += 1
        tag = {"_meta": {spec.META_SUBSCRIPTION: visit.id}}
        granted = visit.received.message["params"]["notifications"]
        await visit.send(stream_head() + told(spec.ACKNOWLEDGED, tag | {"notifications": granted}))
        with trio.move_on_after(LISTENS):
            while True:
                await visit.send(told(spec.TOOLS_CHANGED, tag))
                await trio.sleep(TICK)
        await self._drop(visit)


def told(method: str, params: Json) -> bytes:
    return event({"jsonrpc": "2.0", "method": method, "params": params})


def progress(payload: str, number: int) -> Json:
    params = {"progressToken": payload, "progress": number, "message": payload}
    return {"jsonrpc": "2.0", "method": spec.PROGRESS, "params": params}


def sampling(payload: str) -> Json:
    """The parameters of a question to which the payload is the answer."""
    text = {"role": "user", "content": {"type": "text", "text": payload}}
    return {"messages": [text], "maxTokens": 10}


@asynccontextmanager
async def under_load(
    *, is_modern: bool, session_life: int = 500, **settings: Any
) -> AsyncIterator[Desk]:
    """A running server of an era; at the end nobody has broken a rule."""
    version = spec.R5 if is_modern else VERSION
    async with serving(
        has_sessions=not is_modern, version=version, torn_from=TORN, **settings
    ) as server:
        yield Desk(server, Ledger(session_life), is_modern=is_modern)
