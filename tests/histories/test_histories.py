"""Random histories of clients and servers, against the promises that the relay makes.

A client that calls, cancels, answers, uses ids again, sends nonsense and leaves; a server that
answers, streams, asks, breaks off, stalls, restarts, forgets sessions and declines; of any era, and
across them. With `MCP_STDIO_LONG=1` in the environment there are fifty times as many.

A failing history is printed with its steps, which `replay` takes as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.histories.drawing import NOTHING, Step, draw_step, settings
from tests.histories.run import ENDINGS, Run, running
from tests.histories.server import Setting
from tests.histories.steps import WEIGHTS, open_up, perform, possible

STEPS = 10, 40

EXAMPLES = 120

PAIRS = [
    ("legacy", "legacy"),
    ("legacy", "sessionless"),
    ("legacy", "sse"),
    ("legacy", "modern"),
    ("modern", "modern"),
    ("modern", "legacy"),
    ("modern", "sse"),
    ("dual", "dual"),
    ("dual", "legacy"),
    ("dual", "modern"),
]


@pytest.mark.parametrize("client, server", PAIRS)
def test_whatever_happens_the_promises_hold(client: str, server: str) -> None:
    @settings(EXAMPLES)
    @hypothesis.given(data=st.data())
    def histories(data: st.DataObject) -> None:
        setting = data.draw(
            st.builds(
                Setting,
                server=st.just(server),
                client=st.just(client),
                resumes=st.booleans(),
                listens=st.sampled_from([True, False]),
                renews=st.sampled_from([False, False, False, True]),
                seed=st.integers(0, 99),
            )
        )
        steps: list[Step | str] = []

        async def story(run: Run) -> None:
            if data.draw(st.sampled_from([True, True, True, False])):
                steps.append("opens")
                await open_up(run)
            for _ in range(data.draw(st.integers(*STEPS))):
                step = draw_step(possible(run), WEIGHTS, data)
                if step.name != NOTHING:
                    steps.append(step)
                    await perform(run, step)
            ending = data.draw(st.sampled_from(ENDINGS))
            steps.append(ending)
            await run.finish(ending)

        running(setting, story, steps)

    histories()


def replay(setting: Setting, steps: Sequence[Step | str]) -> None:
    """Run a history again: its steps, the last one its ending."""

    async def story(run: Run) -> None:
        for step in steps:
            if step == "opens":
                await open_up(run)
            elif isinstance(step, str):
                await run.finish(step)
            else:
                await perform(run, step)

    running(setting, story, steps)
