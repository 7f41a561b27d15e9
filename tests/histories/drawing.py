"""How histories are drawn: step by step, each from what is possible at that moment.

A step names what it acts upon, so that a history can be written down and run again. After a step
that is not `settled` the next one follows at once, while things still move.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis
from hypothesis import strategies as st

TIMES = 50 if os.environ.get("MCP_STDIO_LONG") == "1" else 1


@dataclass(frozen=True)
class Step:
    name: str
    target: Any = None
    settled: bool = True


NOTHING = "nothing"
"""The step that others shrink to."""


def settings(examples: int) -> hypothesis.settings:
    """The same histories in each short run, others in each long one."""
    return hypothesis.settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )


def draw_step(
    choices: Mapping[str, Sequence[Any]], weights: Mapping[str, int], data: st.DataObject
) -> Step:
    """One of the steps in `choices`, which has what each can act upon."""
    names = [name for name in choices for _ in range(weights[name])]
    name = data.draw(st.sampled_from(names))
    target = data.draw(st.sampled_from(choices[name]))
    return Step(name, target, data.draw(st.sampled_from([True, True, False])))
