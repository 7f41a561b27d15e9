"""Random histories of processes that sign in, against what the relay promises of credentials.

Tokens expire and are revoked, grants are withdrawn, renewals fail and are answered late, another
process renews or signs in, more scope is demanded, and the person who is asked comes late, says no,
or is not there. With `MCP_STDIO_LONG=1` in the environment there are fifty times as many.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import trio
import trio._core._run
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.histories.drawing import NOTHING, Step, draw_step, settings
from tests.histories.history import History, noted
from tests.histories.sign_ins import LIFETIMES, OUTAGES, SCOPES, TROUBLE, World

EXAMPLES = 80

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where files need no disk, which would take most of the time."""

MOST_STEPS = 30

MOST_PROCESSES = 3

PAUSES = (0.0, 0.5, 3.0, 9.0, 61.0, 600.0, 3600.0)

WEIGHTS = {
    NOTHING: 1,
    "request": 8,
    "wait": 6,
    "start": 1,
    "revoke": 2,
    "withdraw": 1,
    "trouble": 3,
    "outage": 2,
    "confirm": 2,
    "leave": 1,
    "deny": 3,
    "demand": 1,
    "lifetime": 1,
    "delay": 1,
    "forget": 1,
}


def possible(world: World) -> dict[str, list[Any]]:
    authority = world.authority
    found: dict[str, list[Any]] = {
        NOTHING: [None],
        "request": list(range(len(world.processes))),
        "wait": list(PAUSES),
        "start": [None] if len(world.processes) < MOST_PROCESSES else [],
        "revoke": [None] if world.proven & authority.tokens else [],
        "withdraw": [None] if authority.refresh_tokens else [],
        "trouble": list(TROUBLE),
        "outage": list(OUTAGES),
        "confirm": [] if authority.confirmed.is_set() else [None],
        "leave": [None] if authority.confirmed.is_set() else [],
        "deny": [not authority.denies],
        "demand": list(SCOPES),
        "lifetime": list(LIFETIMES),
        "delay": [0.0, 0.2, 5.0],
        "forget": [None],
    }
    return {name: targets for name, targets in found.items() if targets}


async def perform(world: World, step: Step) -> None:
    authority = world.authority
    world.history.note(f"{step.name} {'' if step.target is None else step.target}")
    match step.name:
        case "request":
            world.request(step.target)
        case "wait":
            await trio.sleep(step.target)
        case "start":
            world.start()
        case "revoke":
            world.revoke()
        case "withdraw":
            world.withdraw()
        case "trouble":
            authority.trouble.append(TROUBLE[step.target])
        case "outage":
            authority.outages.append(OUTAGES[step.target])
        case "confirm":
            authority.confirmed.set()
        case "leave":
            authority.confirmed = trio.Event()
        case "deny":
            authority.denies = step.target
        case "demand":
            world.demanded, world.has_demanded = step.target, True
        case "lifetime":
            authority.lifetime = step.target
        case "delay":
            authority.delay = step.target
        case "forget":
            await world.forget()
    if step.settled:
        await world.settle()


def test_whatever_happens_to_credentials_the_promises_hold() -> None:
    @settings(EXAMPLES)
    @hypothesis.given(data=st.data())
    def histories(data: st.DataObject) -> None:
        history = History()
        steps: list[Step] = []

        async def main() -> None:
            with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
                async with trio.open_nursery() as nursery:
                    world = World(Path(directory), nursery, history)
                    world.start()
                    for _ in range(data.draw(st.integers(1, MOST_STEPS))):
                        step = draw_step(possible(world), WEIGHTS, data)
                        if step.name != NOTHING:
                            steps.append(step)
                            await perform(world, step)
                    await world.heal()
                    nursery.cancel_scope.cancel()

        trio._core._run._r.seed(data.draw(st.integers(0, 99)))
        with noted(history, lambda: f"{steps}"):
            trio.run(main, clock=MockClock(autojump_threshold=0))

    histories()
