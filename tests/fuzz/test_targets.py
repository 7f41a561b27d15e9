"""Every parser, given what Hypothesis makes of well-formed texts, of words and of any bytes.

`MCP_STDIO_LONG=1` in the environment asks for fifty times as many. What `python -m tests.fuzz`
finds becomes a regular test of the module concerned, and a seed of its target.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.target import ODD_VALUES, Target, with_value
from tests.fuzz.targets import TARGETS

IS_LONG = os.environ.get("MCP_STDIO_LONG") == "1"

SLOW = ("demo_server", "redirected")
"""Targets with a server in them, which take a few milliseconds."""


def texts(target: Target) -> st.SearchStrategy[bytes]:
    """Seeds with other things in some places, and texts of words alone."""
    new = st.one_of(st.sampled_from(target.words), st.binary(max_size=3))
    values = st.sampled_from(ODD_VALUES)
    where = st.integers(0, 1000)
    damages = st.lists(st.tuples(where, st.integers(0, 4), new), max_size=4)
    replaced = st.lists(st.tuples(where, st.none(), values), min_size=1, max_size=3)
    of_words = st.lists(st.one_of(new, st.sampled_from(target.seeds)), max_size=12).map(b"".join)
    damaged = st.builds(damage, st.sampled_from(target.seeds), st.one_of(damages, replaced))
    return st.one_of(damaged, damaged, of_words)


def damage(seed: bytes, damages: list[tuple[int, int | None, bytes]]) -> bytes:
    for at, gone, new in damages:
        if gone is None:
            seed = with_value(seed, at, new)
        else:
            at %= len(seed) + 1
            seed = seed[:at] + new + seed[at + gone :]
    return seed


@pytest.mark.parametrize(
    "target, seed",
    [
        pytest.param(target, seed, id=f"{name}-{number}")
        for name, target in TARGETS.items()
        for number, seed in enumerate(target.seeds)
    ],
)
def test_a_seed_holds(target: Target, seed: bytes) -> None:
    target.holds(seed)
    target.holds(b"")


@pytest.mark.parametrize("name", TARGETS)
def test_what_holds_for_a_seed_holds_for_any_bytes(name: str) -> None:
    target = TARGETS[name]
    count = 40 if name in SLOW else 200

    @settings(
        max_examples=50 * count if IS_LONG else count,
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
        print_blob=True,
    )
    @given(texts(target))
    def holds(data: bytes) -> None:
        target.holds(data)

    holds()
