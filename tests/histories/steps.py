"""The steps that histories are made of: which are possible at a moment, and what each does.

A step names what it acts upon by its number, so that a history can be written down and run again:
`Step("call", 1)` is a call under the id 1, `Step("answer", 3)` answers the third request that came
to the server. After a step that is not `settled` the next one follows at once, while things move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from mcp_stdio import spec
from tests.histories.drawing import NOTHING, Step
from tests.histories.faults import Fault
from tests.histories.run import LINGER, Run
from tests.histories.visits import Fate, Stream, Visit

IDS: tuple[int | str, ...] = (1, "1", 2, "b", 3, 4, 5, 6)

PAUSES = (0.0, 0.2, 1.1, 3.0, 12.0, 35.0, 130.0)

GARBAGE = (b"what?", b"[]", b"{}", b"17", b'{"jsonrpc":"2.0","id":{},"method":"x"}', b"\xff\xfe")


WEIGHTS = {
    NOTHING: 1,
    "call": 7,
    "read": 3,
    "list": 1,
    "ping": 1,
    "initialize": 1,
    "initialized": 1,
    "cancel": 5,
    "garbage": 1,
    "notify": 1,
    "reply": 5,
    "refuse": 1,
    "wait": 4,
    "sleep": 1,
    "answer": 3,
    "fail": 1,
    "stream": 6,
    "accept": 1,
    "input": 4,
    "meet": 3,
    "say": 2,
    "progress": 3,
    "question": 2,
    "prime": 1,
    "flood": 1,
    "another": 3,
    "pause": 1,
    "resume": 4,
    "finish": 3,
    "close": 3,
    "break": 3,
    "fault": 2,
    "down": 1,
    "up": 3,
    "expire": 1,
    "restart": 1,
    "credential": 1,
}


def possible(run: Run) -> dict[str, Sequence[Any]]:
    """What may happen now: the names of steps, and what each can act upon."""
    client, server = run.client, run.server
    pending = [visit.number for visit in server.visits if visit.is_pending]
    speaking = [stream for stream in server.streams if stream.can_say]
    of_calls = [stream.number for stream in speaking if not stream.is_listening]
    connected = [stream.number for stream in speaking if stream.visit is not None]
    found: dict[str, Sequence[Any]] = {
        NOTHING: [None],
        "wait": PAUSES,
        "sleep": [None] if client.reads.is_set() else [],
        "garbage": range(len(GARBAGE)),
        "fault": list(Fault),
        "expire": [None] if server.sessions and server.setting.server != "sse" else [],
        "restart": [None] if server.visits else [],
        "down": [] if server.is_down else [None],
        "up": [None] if server.is_down else [],
        "credential": [None] if run.setting.renews else [],
        "call": (ids := usable_ids(run)),
        "read": ids,
        "list": ids,
        "cancel": [use.n for use in client.open if can_cancel(run, use.n)],
        "answer": pending,
        "fail": pending,
        "meet": [(number, fault) for number in pending for fault in Fault],
        "stream": pending if server.setting.server != "sse" else [],
        "finish": [*of_calls, *accepted(run)],
        "say": [stream.number for stream in speaking],
        "progress": of_calls,
        "flood": of_calls,
        "another": [
            (number, id)
            for number in [*pending, *(server.streams[n - 1].origin.number for n in of_calls)]
            for id in IDS
            if id != server.visits[number - 1].message["id"] and server.setting.server != "sse"
        ],
        "pause": [None] if client.reads.is_set() else [],
        "resume": [] if client.reads.is_set() else [None],
        "prime": [number for number in of_calls if server.streams[number - 1].has_ids],
        "close": connected,
        "break": connected,
        "reply": range(len(client.questions)),
        "refuse": range(len(client.questions)),
    }
    if not client.is_modern:
        found["ping"] = ids
        found["notify"] = [spec.ROOTS_CHANGED]
        found["initialize"] = [] if spec.INITIALIZE in {u.method for u in client.open} else ["in"]
        found["initialized"] = [None] if client.of(spec.INITIALIZE) else []
    visits = [server.visits[number - 1] for number in pending]
    if server.asks_by_result:
        found["input"] = [visit.number for visit in visits if is_modern(visit)]
    if server.setting.server in ("legacy", "sessionless", "dual"):
        found["accept"] = [visit.number for visit in visits if not is_modern(visit)]
    found["question"] = [stream.number for stream in speaking if may_ask(run, stream)]
    return {name: targets for name, targets in found.items() if targets}


def usable_ids(run: Run) -> list[int | str]:
    """Ids under which nothing is answered any more that would be taken for an answer to the next.

    Where answers come on a stream that all calls share, they are told apart by the id alone.
    """
    shared = {
        visit.message["id"]
        for visit in run.server.visits
        if visit.is_accepted and visit.fate is Fate.OPEN
    }
    given_up = shared - {use.id for use in run.client.open}
    unclear = {use.id for use in run.client.uses if use.answer is None and use.is_unclear}
    return [id for id in IDS if id not in given_up | unclear]


def can_cancel(run: Run, n: int) -> bool:
    """Whether the id of this use names it alone."""
    use = run.client.uses[n - 1]
    same = [each for each in run.client.uses if each.id == use.id and type(each.id) is type(use.id)]
    return all(each is use or each.answer is not None for each in same)


def is_modern(visit: Visit) -> bool:
    return visit.header(spec.PROTOCOL_VERSION) == spec.R5


def may_ask(run: Run, stream: Stream) -> bool:
    """Whether the protocol lets the server ask on this stream."""
    return (
        not is_modern(stream.origin)
        and (stream.session is None or stream.session in run.server.sessions)
        and run.client.has_shaken_hands
        and stream.visit is not None
    )


def accepted(run: Run) -> list[str]:
    """Calls that were accepted and can be answered on the shared stream."""
    return [
        f"#{visit.number}"
        for visit in run.server.visits
        if visit.is_accepted and visit.fate is Fate.OPEN and run.server.shared(visit) is not None
    ]


async def open_up(run: Run) -> None:
    """What a client begins with, as the real ones do."""
    client = run.client
    if client.setting.client == "dual":
        await client.ask(spec.DISCOVER, "discover")
        await run.settle()
    if not client.is_modern:
        await client.initialize()
        await run.settle()
        await client.tell(spec.INITIALIZED)
        await run.settle()


async def perform(run: Run, step: Step) -> None:
    """Take one step."""
    if step.name != NOTHING:
        target = "" if step.target is None else f" {step.target}"
        run.history.note(f"{step.name}{target}" + ("" if step.settled else ", and at once"))
    is_calm, run.is_calm = run.is_calm and step.settled, step.settled
    if step.name == "cancel" and is_calm:
        _note_withdrawn(run, step.target)
    if step.name in _OF_CLIENT:
        await _act(run, step.name, step.target)
    else:
        _befall(run, step.name, step.target)
    if step.settled:
        await run.settle()
    else:
        run.history.check()


_METHODS = {
    "call": spec.CALL_TOOL,
    "read": spec.READ_RESOURCE,
    "list": spec.LIST_TOOLS,
    "ping": spec.PING,
}

_OF_CLIENT = {
    *_METHODS, "initialize", "initialized", "cancel", "garbage", "notify", "reply", "refuse",
    "wait", "sleep", "pause", "resume",
}  # fmt: skip


async def _act(run: Run, name: str, target: Any) -> None:
    """What the client does, and time."""
    client = run.client
    match name:
        case "initialize":
            await client.initialize(f"{target}{len(client.uses)}")
        case "initialized":
            await client.tell(spec.INITIALIZED)
        case "cancel":
            await client.cancel(client.uses[target - 1])
        case "garbage":
            client.garbage += 1
            await client.write(repr(GARBAGE[target]), GARBAGE[target] + b"\n")
        case "notify":
            await client.tell(target)
        case "reply" | "refuse":
            await client.reply(client.questions[target], error=name == "refuse")
        case "wait":
            since = trio.current_time()
            await trio.sleep(target)
            if target > LINGER and client.reads.is_set():  # a line that has begun is finished
                for visit in run.lingering(since):
                    run.history.breach(f"{visit} is still open, and nobody waits for it")
        case "pause":
            client.reads = trio.Event()
        case "resume":
            client.reads.set()
        case "sleep":
            await run.settle()  # what is on its way is lost with its connection
            run.server.has_hung_up = run.setting.server == "sse"
            run.jump += 1000
            await client.tell(spec.ROOTS_CHANGED)
            await run.settle()
        case _:
            await client.ask(_METHODS[name], target)


def _note_withdrawn(run: Run, n: int) -> None:
    """Note what the server has to be told of at once, as far as nothing else happens to it."""
    use, server = run.client.uses[n - 1], run.server
    for visit in server.calls[n]:
        session = visit.header(spec.SESSION_ID)
        is_told = is_modern(visit) or not (
            server.is_down
            or server.faults
            or (session is not None and session not in server.sessions)
            or server.setting.server == "sse"
            or run.setting.renews
            or any(each.method == spec.INITIALIZE for each in run.client.open)
        )
        if not visit.is_closed and visit.fate is Fate.OPEN and is_told:
            run.withdrawn.append((use, visit))


def _befall(run: Run, name: str, target: Any) -> None:
    """What the server does, and what happens to it."""
    server = run.server
    match name:
        case "answer" | "fail":
            server.answer(server.visits[target - 1], error=name == "fail")
        case "stream":
            server.open(server.visits[target - 1])
        case "accept":
            server.accept(server.visits[target - 1])
        case "input":
            server.require_input(server.visits[target - 1])
        case "meet":
            number, fault = target
            server.meet(server.visits[number - 1], fault)
        case "finish" if isinstance(target, str):
            server.answer(server.visits[int(target[1:]) - 1])
        case "finish":
            server.answer(server.streams[target - 1].origin)
        case "say":
            server.say(server.streams[target - 1])
        case "flood":
            server.say_much(server.streams[target - 1])
        case "another":
            number, id = target
            server.answer_another(server.visits[number - 1], id)
        case "progress":
            server.say_progress(server.streams[target - 1])
        case "question":
            server.ask(server.streams[target - 1], spec.ELICIT)
        case "prime":
            server.streams[target - 1].push(None)
        case "close" | "break":
            server.has_hung_up = server.setting.server == "sse"
            _cut(server.streams[target - 1], orderly=name == "close")
        case "fault":
            server.faults.append(target)
        case "down" | "up":
            server.is_down = name == "down"
        case "expire":
            server.expire()
        case "restart":
            server.restart()
        case "credential":
            server.credential += 1


def _cut(stream: Stream, *, orderly: bool) -> None:
    """End a connection; a call that cannot be gone on with has run as far as anybody knows."""
    if stream.has_ids and stream.events:
        stream.cut(orderly=orderly)
    else:
        stream.end(orderly=orderly)
        stream.origin.fate = Fate.RAN
