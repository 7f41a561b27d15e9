"""The README's table of promises says how many tests hold each; they are counted in a full run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.readme.pages import JAPANESE, ROOT, Page

PROMISES: dict[str, list[str]] = {
    name: entry["tests"]
    for name, entry in tomllib.loads(
        (Path(__file__).parent / "promises.toml").read_text(encoding="utf-8")
    ).items()
}
ROWS = {row[0].strip("*"): row for row in Page("README.md").rows()}

CLOSE = 1.1
"""A number that is told may be that much too small, so that not every new test changes it."""


def is_part(nodeid: str, place: str) -> bool:
    """Whether a test is in this directory, in this file, or this test."""
    return re.match(re.escape(place) + r"($|/|::|\[)", nodeid) is not None


@pytest.mark.parametrize("name", PROMISES)
def test_what_holds_a_promise_is_there(name: str) -> None:
    for place in PROMISES[name]:
        path, _, test = place.partition("::")
        assert (ROOT / path).exists(), place
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8") if test else True, place


@pytest.mark.parametrize("name", PROMISES)
def test_as_many_tests_hold_a_promise_as_are_told(
    name: str, request: pytest.FixtureRequest
) -> None:
    nodeids = [item.nodeid for item in request.session.items]
    files = {nodeid.partition("::")[0] for nodeid in nodeids}
    is_whole = not request.config.getoption("keyword") and all(
        any(is_part(file, place.partition("::")[0]) for file in files) for place in PROMISES[name]
    )
    if not is_whole:
        pytest.skip("they are counted in a run of all tests")
    count = sum(any(is_part(nodeid, place) for place in PROMISES[name]) for nodeid in nodeids)
    told = int(ROWS[name][-1].replace(",", ""))
    assert told <= count <= told * CLOSE


def test_the_table_has_every_promise() -> None:
    assert set(PROMISES) <= set(ROWS)


def test_both_languages_tell_the_same_numbers() -> None:
    told = [ROWS[name][-1] for name in PROMISES]
    rows = [row for row in JAPANESE.rows() if row[0].startswith("**")]
    assert [row[-1] for row in rows] == told
