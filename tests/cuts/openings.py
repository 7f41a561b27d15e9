"""The beginning of a conversation, and beginning it anew: handshakes, probes, farewells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcp_stdio import spec
from tests.cuts.calls import (
    BRIDGED,
    BRIDGED_BACK,
    LEGACY,
    MODERN,
    Answered,
    by_length,
    called,
    events_whole,
    has_head,
    legacy_call,
    legacy_server,
    lost,
    modern_call_first,
    modern_server,
    runs,
    same,
    whole,
)
from tests.cuts.client import TESTED, Talker, outcome
from tests.cuts.matrix import Case, Exchange, world
from tests.faults.driver import SILENT, opening
from tests.faults.server import (
    END,
    TOOL_CALL,
    Server,
    Visit,
    event,
    server_description,
    stream_head,
)

# What the client does


async def initialize(talker: Talker, server: Server) -> Any:
    """The handshake is what is cut; whatever becomes of it, the next call is answered."""
    opened = outcome(await talker.ask(spec.INITIALIZE, opening(), TESTED))
    if opened == "result":
        await talker.notify(spec.INITIALIZED)
    await talker.goes_on()
    return opened


async def discover(talker: Talker, server: Server) -> Any:
    talker.is_modern = True
    found = outcome(await talker.ask(spec.DISCOVER, {}, TESTED))
    await talker.goes_on()
    return found


async def call_after_restart(talker: Talker, server: Server) -> Any:
    """The server has forgotten the session when the call comes (T-44)."""
    await talker.initialize()
    await talker.ask(spec.PING)
    server.restart()
    answer = await talker.call_as(TESTED, "tested")
    await talker.goes_on()
    return outcome(answer), talker.texts


async def welcome_in_events(visit: Visit) -> None:
    """Answer `initialize` on an event stream."""
    head = stream_head(f"{spec.SESSION_ID}: {visit.server.mint_session()}")
    await visit.send(head + event(visit.result(server_description())) + END)


# What must become of it


def opened(is_answered: Answered = whole) -> Callable[[Case], None]:
    """What opens a conversation is harmless: asked once more, answered unless nothing comes."""

    def check(case: Case) -> None:
        same(case.seen, SILENT if case.is_stalled and not is_answered(case) else "result")

    return check


def refused_for_now(case: Case) -> None:
    """Where the second question is not answered, the answer to the first one is the client's."""
    is_silent = case.is_stalled and not case.is_whole
    same(case.seen, spec.UNSUPPORTED_VERSION if is_silent else "result")


def called_anyway(case: Case) -> None:
    """The call is not what was cut: it runs and is answered."""
    seen, _ = case.seen
    same(seen, "result")
    same(runs(case), 1)


def called_unless_silent(case: Case) -> None:
    """The same, but what it waits for may not come in its time; then it has not run."""
    seen, _ = case.seen
    is_silent = case.is_stalled and not case.is_whole
    same(seen, SILENT if is_silent else "result")
    same(runs(case), int(not is_silent))


def forgotten(case: Case) -> None:
    """From its head on a 404 says that the call did not run, and why."""
    seen, _ = case.seen
    same(seen, "result" if has_head(case) else lost(case))
    same(runs(case), int(has_head(case)))


SERVER = legacy_server(by_length)
MODERN_SERVER = modern_server(by_length)
IN_EVENTS = world(lambda: {**SERVER(), "methods": {spec.INITIALIZE: welcome_in_events}})

legacy, modern = world(SERVER), world(MODERN_SERVER)

EXCHANGES = [
    Exchange("initialize", LEGACY, legacy, initialize, spec.INITIALIZE, opened()),
    Exchange(
        "initialize, events", LEGACY, IN_EVENTS, initialize, spec.INITIALIZE, opened(events_whole)
    ),
    Exchange("initialized", LEGACY, legacy, legacy_call, spec.INITIALIZED, called_anyway),
    Exchange("goodbye", LEGACY, legacy, legacy_call, "DELETE", called_anyway),
    Exchange("anew: forgotten call", LEGACY, legacy, call_after_restart, TOOL_CALL, forgotten),
    Exchange(
        "anew: initialize", LEGACY, legacy, call_after_restart, spec.INITIALIZE,
        called_unless_silent, nth=1,
    ),
    Exchange(
        "anew: initialized", LEGACY, legacy, call_after_restart, spec.INITIALIZED,
        called_anyway, nth=1,
    ),
    Exchange("anew: call", LEGACY, legacy, call_after_restart, TOOL_CALL, called(), nth=1),
    Exchange("discover", MODERN, modern, discover, spec.DISCOVER, opened()),
    Exchange("probe of our own", MODERN, modern, modern_call_first, spec.DISCOVER, called_anyway),
    Exchange("initialize, refused", BRIDGED, modern, initialize, spec.INITIALIZE, opened(has_head)),
    Exchange("discover", BRIDGED, modern, initialize, spec.DISCOVER, refused_for_now),
    Exchange(
        "probe of our own", BRIDGED_BACK, legacy, modern_call_first, spec.DISCOVER, called_anyway
    ),
    Exchange(
        "initialize", BRIDGED_BACK, legacy, modern_call_first, spec.INITIALIZE, called_unless_silent
    ),
    Exchange(
        "initialized", BRIDGED_BACK, legacy, modern_call_first, spec.INITIALIZED, called_anyway
    ),
]  # fmt: skip
