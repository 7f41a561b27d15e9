"""Tool calls and lists: every framing of an answer, in both eras and across the bridges."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mcp_stdio import spec
from tests.cuts.client import TESTED, Talker, outcome
from tests.cuts.matrix import Case, Exchange, world
from tests.faults.driver import SILENT, UNKNOWN, opening
from tests.faults.server import (
    END,
    EVENTS,
    JSON,
    TOOL_CALL,
    Behaviour,
    Server,
    Visit,
    chunk,
    dumps,
    event,
    http,
    in_turn,
    notification,
    stream_head,
)
from tests.faults.wire import End

Json = dict[str, Any]
Answered = Callable[[Case], bool]
Talk = Callable[[Talker, Server], Awaitable[Any]]

LEGACY, MODERN = "legacy", "modern"
BRIDGED, BRIDGED_BACK = "legacy client, modern server", "modern client, legacy server"

STEPS = ["step 1", "step 2"]


# Framings of an answer


async def by_length(visit: Visit) -> None:
    await visit.answer(result_of(visit))


async def in_chunks(visit: Visit) -> None:
    body = dumps(visit.result(result_of(visit)))
    await visit.send(stream_head(kind=JSON) + chunk(body[:9]) + chunk(body[9:]) + END)


async def by_close(visit: Visit) -> None:
    await visit.send(closing_head(JSON) + dumps(visit.result(result_of(visit))))
    await visit.close()


async def as_events(visit: Visit) -> None:
    steps = [event(notification(step)) for step in STEPS]
    answer = event(visit.result(result_of(visit)))
    await visit.send(stream_head() + b"".join([*steps, answer, END]))


async def as_events_by_close(visit: Visit) -> None:
    messages = [*map(notification, STEPS), visit.result(result_of(visit))]
    events = "".join(f"event: message\ndata: {json.dumps(each)}\n\n" for each in messages)
    await visit.send(closing_head(EVENTS) + events.encode())
    await visit.close()


def closing_head(kind: str) -> bytes:
    """The head of a response that ends with its connection."""
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode()


def result_of(visit: Visit) -> Json:
    result: Json = {"resultType": "complete"} if visit.received.version else {}
    if visit.received.rpc == spec.LIST_TOOLS:
        return result | {"tools": []}
    return result | {"content": [{"type": "text", "text": visit.received.tool}]}


# Servers


def legacy_server(behaviour: Behaviour) -> Callable[[], Mapping[str, Any]]:
    return lambda: {"tools": {"tested": behaviour}, "methods": {spec.LIST_TOOLS: behaviour}}


def modern_server(behaviour: Behaviour) -> Callable[[], Mapping[str, Any]]:
    def serve() -> Mapping[str, Any]:
        return {
            "has_sessions": False,
            "tools": {"tested": behaviour},
            "methods": {
                spec.INITIALIZE: refuse_initialize,
                spec.DISCOVER: discovered,
                spec.LIST_TOOLS: behaviour,
                spec.LISTEN: acknowledge,
                TOOL_CALL: by_length,
            },
        }

    return serve


async def refuse_initialize(visit: Visit) -> None:
    """A server of the modern era names its version to who asks for another."""
    data = {"supported": [spec.R5], "requested": spec.R4}
    error = {"code": spec.UNSUPPORTED_VERSION, "message": "unsupported", "data": data}
    await visit.send(http(400, dumps({"jsonrpc": "2.0", "id": visit.id, "error": error})))


async def discovered(visit: Visit) -> None:
    result = {
        "resultType": "complete",
        "supportedVersions": [spec.R5],
        "capabilities": {"tools": {"listChanged": True}},
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {spec.META_SERVER_INFO: {"name": "strict", "version": "1"}},
    }
    await visit.answer(result)


async def acknowledge(visit: Visit) -> None:
    """Open a listen stream and say nothing more."""
    await visit.send(stream_head() + event(acknowledgement(visit)))


def acknowledgement(visit: Visit) -> Json:
    wanted = visit.received.message["params"]["notifications"]
    return tagged(visit, spec.ACKNOWLEDGED, {"notifications": wanted})


def tagged(visit: Visit, method: str, params: Json | None = None) -> Json:
    meta = {"_meta": {spec.META_SUBSCRIPTION: visit.id}}
    return {"jsonrpc": "2.0", "method": method, "params": meta | (params or {})}


# What the client does


async def legacy_call(talker: Talker, server: Server) -> Any:
    """The call that is cut, and the one after it."""
    await talker.initialize()
    return await call_and_go_on(talker)


async def modern_call(talker: Talker, server: Server) -> Any:
    talker.is_modern = True
    assert outcome(await talker.ask(spec.DISCOVER)) == "result"
    return await call_and_go_on(talker)


async def modern_call_first(talker: Talker, server: Server) -> Any:
    """A client that knows the modern era alone, and opens with a call."""
    talker.is_modern = True
    return await call_and_go_on(talker)


async def call_and_go_on(talker: Talker) -> Any:
    answer = await talker.call_as(TESTED, "tested")
    await talker.goes_on()
    return outcome(answer), talker.texts


async def legacy_list(talker: Talker, server: Server) -> Any:
    await talker.initialize()
    return await list_and_go_on(talker)


async def modern_list(talker: Talker, server: Server) -> Any:
    talker.is_modern = True
    assert outcome(await talker.ask(spec.DISCOVER)) == "result"
    return await list_and_go_on(talker)


async def list_and_go_on(talker: Talker) -> Any:
    answer = await talker.ask(spec.LIST_TOOLS, {}, TESTED)
    await talker.goes_on()
    return outcome(answer), talker.texts


# What must become of it


def whole(case: Case) -> bool:
    return case.is_whole


def closed_whole(case: Case) -> bool:
    """Of a body that the close delimits: only an orderly close says that it is whole."""
    return case.is_whole and case.cut.end is End.CLOSE


def events_whole(case: Case) -> bool:
    """All events are there; what comes after the answer does not count."""
    return len(events_in(case.passed)) == len(events_in(bytes(case.recorded.response)))


def has_head(case: Case) -> bool:
    """Of a refusal, the status is all that counts."""
    return b"\r\n\r\n" in case.passed


def events_in(response: bytes) -> list[str]:
    """The data of each event that is whole."""
    head, _, body = response.partition(b"\r\n\r\n")
    if b"chunked" in head:
        body = dechunked(body)
    complete, end, _ = body.rpartition(b"\n\n")
    blocks = (complete + end).decode().split("\n\n")[:-1]
    return ["".join(re.findall(r"^data: (.*)$", block, re.MULTILINE)) for block in blocks]


def dechunked(body: bytes) -> bytes:
    """What there is of a body in chunks, the beginning of a last one included."""
    plain = b""
    while body:
        size, end, rest = body.partition(b"\r\n")
        if not end:
            break
        length = int(size, 16)
        plain += rest[:length]
        body = rest[length + 2 :]
    return plain


def lost(case: Case) -> int:
    """What a request gets whose answer does not come: E-3, or E-2 when the connection ended."""
    return SILENT if case.is_stalled else UNKNOWN


def runs(case: Case) -> int:
    return case.server.runs[json.dumps(TESTED)]


def same(found: object, expected: object) -> None:
    assert found == expected, f"{found} instead of {expected}"


def called(is_answered: Answered = whole, *, has_steps: bool = True) -> Callable[[Case], None]:
    """A call has run if the server has read it, and once; its answer comes if it was there."""

    def check(case: Case) -> None:
        seen, texts = case.seen
        expected: str | int = "result" if is_answered(case) else lost(case)
        same(seen, expected)
        same(runs(case), int(case.was_read))
        came = [step for step in STEPS if step in str(events_in(case.passed))] if has_steps else []
        same(texts, came)

    return check


def listed(is_answered: Answered = whole) -> Callable[[Case], None]:
    """What is harmless is asked once more, under E-3 only when nobody hung up."""

    def check(case: Case) -> None:
        seen, texts = case.seen
        is_silent = case.is_stalled and not is_answered(case)
        same(seen, SILENT if is_silent else "result")
        assert set(texts) <= set(STEPS)

    return check


FRAMINGS: dict[str, tuple[Behaviour, Answered]] = {
    "JSON by length": (by_length, whole),
    "JSON in chunks": (in_chunks, whole),
    "JSON by close": (by_close, closed_whole),
    "events in chunks": (as_events, events_whole),
    "events by close": (as_events_by_close, events_whole),
}


def calls() -> list[Exchange]:
    found = []
    for framing, (behaviour, is_answered) in FRAMINGS.items():
        legacy, modern = world(legacy_server(behaviour)), world(modern_server(behaviour))
        name, check = f"call, {framing}", called(is_answered)
        found += [
            Exchange(name, LEGACY, legacy, legacy_call, TOOL_CALL, check),
            Exchange(name, MODERN, modern, modern_call, TOOL_CALL, check),
        ]
        if "by close" in framing:
            continue
        quiet = called(is_answered, has_steps=False)
        found += [
            Exchange(name, BRIDGED, modern, legacy_call, TOOL_CALL, check),
            Exchange(name, BRIDGED_BACK, legacy, modern_call_first, TOOL_CALL, quiet),
        ]
        name = f"list, {framing}"
        found += [
            Exchange(name, LEGACY, legacy, legacy_list, spec.LIST_TOOLS, listed(is_answered)),
            Exchange(name, MODERN, modern, modern_list, spec.LIST_TOOLS, listed(is_answered)),
        ]
    return found


# A request or an answer that does not fit into one write

LARGE = 300_000


async def large_call(talker: Talker, server: Server) -> Any:
    await talker.initialize()
    arguments = {"call": TESTED, "filler": "x" * LARGE}
    answer = await talker.ask(TOOL_CALL, {"name": "tested", "arguments": arguments}, TESTED)
    await talker.goes_on()
    return outcome(answer), talker.texts


async def at_large(visit: Visit) -> None:
    await visit.answer({"content": [{"type": "text", "text": "x" * LARGE}]})


def called_at_large(case: Case) -> None:
    """What is not taken at once leaves room for two outcomes.

    Of a request that is not read, either limit may be the first to be reached; of an answer, a
    reset throws away what has not left yet.
    """
    seen, _ = case.seen
    is_unread = case.is_stalled and not case.was_read
    if seen == UNKNOWN and (is_unread or (case.is_whole and case.cut.end is End.RESET)):
        same(runs(case), int(case.was_read))
    else:
        called()(case)


LARGE_ONES = [
    Exchange(name, LEGACY, world(legacy_server(behaviour)), talk, TOOL_CALL, called_at_large)
    for name, behaviour, talk in (
        ("call, 300 kB request", by_length, large_call),
        ("call, 300 kB answer", at_large, legacy_call),
    )
]


# Questions before an answer (B-14)


async def ask_first(visit: Visit) -> None:
    """Want something of the user, and run when it is there."""
    if "inputResponses" in visit.received.message["params"]:
        await by_length(visit)
        return
    visit.did_not_run()
    schema = {"type": "object", "properties": {}}
    question = {"mode": "form", "message": "Go on?", "requestedSchema": schema}
    await visit.answer(
        {
            "resultType": "input_required",
            "inputRequests": {"q": {"method": spec.ELICIT, "params": question}},
            "requestState": "s",
        }
    )


async def modern_rounds(talker: Talker, server: Server) -> Any:
    talker.is_modern = True
    answer = await talker.call_as(TESTED, "tested")
    if "result" in answer:
        params = {
            "name": "tested",
            "arguments": {"call": TESTED},
            "inputResponses": {"q": {"action": "accept", "content": {}}},
            "requestState": answer["result"]["requestState"],
        }
        answer = await talker.ask(TOOL_CALL, params, "8")
    await talker.goes_on()
    return outcome(answer), []


async def legacy_rounds(talker: Talker, server: Server) -> Any:
    asks = {**opening(), "capabilities": {"elicitation": {}}}
    assert outcome(await talker.ask(spec.INITIALIZE, asks)) == "result"
    await talker.notify(spec.INITIALIZED)
    answer = await talker.call_as(TESTED, "tested")
    await talker.goes_on()
    return outcome(answer), []


def asked(case: Case) -> None:
    """Nothing has run where the question went lost."""
    seen, _ = case.seen
    same(seen, "result" if case.is_whole else lost(case))
    same(runs(case), int(case.is_whole))


def rounds() -> list[Exchange]:
    server = world(modern_server(ask_first))
    found = []
    for eras, talk in ((MODERN, modern_rounds), (BRIDGED, legacy_rounds)):
        found += [
            Exchange("input required, question", eras, server, talk, TOOL_CALL, asked),
            Exchange("input required, answer", eras, server, talk, TOOL_CALL, called(), nth=1),
        ]
    return found


# Answers after which a call is sent again (P2)


def refusing_once(answer: bytes) -> Callable[[], Mapping[str, Any]]:
    async def refuse(visit: Visit) -> None:
        visit.did_not_run()
        await visit.send(answer)

    return lambda: {"tools": {"tested": in_turn(refuse, by_length)}}


def sent_again(case: Case) -> None:
    """From its head on, such an answer says that the call did not run."""
    seen, _ = case.seen
    same(seen, "result" if has_head(case) else lost(case))
    same(runs(case), int(has_head(case)))


REFUSALS = {
    "call, 429": http(429, b"too many", kind="text/plain"),
    "call, 503 with Retry-After": http(503, b"later", headers=["Retry-After: 1"]),
    "call, 307": http(307, b"there", headers=["Location: /mcp?moved"]),
}

REFUSED = [
    Exchange(name, LEGACY, world(refusing_once(answer)), legacy_call, TOOL_CALL, sent_again)
    for name, answer in REFUSALS.items()
]

EXCHANGES = [*calls(), *LARGE_ONES, *rounds(), *REFUSED]
