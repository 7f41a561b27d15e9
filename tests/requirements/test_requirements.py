"""Each rule of the protocol that lands on the relay is shown by tests, or not built for a reason.

The lists are beside this file, one for each family of rules. An entry has the id by which the code
names the rule, one sentence on what is required, the section of the specification where there is
one, and either the `tests` that show it or the reason why it is `not_built`. What is held here is
that no rule is forgotten and no test only imagined; whether a test shows its rule is for readers.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
LISTS = Path(__file__).parent


def numbered(letter: str, *numbers: int | range | str) -> tuple[str, ...]:
    """Ids of one letter, in order."""
    ends = [end for part in numbers for end in (part if isinstance(part, range) else [part])]
    return tuple(f"{letter}-{end}" for end in ends)


FAMILIES = {
    # The face towards the client.
    "stdio": numbered("S", range(1, 23)),
    # The face towards the server: requests, headers, parameters, events, sessions, batches,
    # cancellation, the stateless era, HTTP+SSE.
    "transport": numbered(
        "T",
        *(range(1, 18), range(20, 25), range(30, 38)),
        *("40a", "40b", "40c", "40d", "40e", "40f"),
        *(range(41, 50), range(50, 53), range(60, 67), range(70, 81), range(90, 94)),
    ),
    # What the server speaks.
    "eras": numbered("D", *"ABCDEF", 1),
    # A legacy client with a modern server: messages, revisions, errors, tasks; and the reverse.
    "bridges": numbered(
        "B",
        *(range(1, 17), range(20, 25), range(30, 35), 40),
        *(range(50, 62), range(66, 69)),
    ),
    # Signing in: discovery, registration, the sign-in, use and renewal, care, extensions.
    "authorization": numbered(
        "A",
        *(range(1, 9), range(10, 15), range(15, 27), range(30, 35)),
        *(range(40, 45), range(50, 55), range(60, 65)),
    ),
}
"""All rules there are, by the list that has them; the numbers have gaps."""

Entries = dict[str, Any]


def problems(entries: Entries, ids: tuple[str, ...], root: Path) -> Iterator[str]:
    """What is wrong with a list that should have an entry for each of these ids and no other."""
    yield from (f"{id}: no entry" for id in ids if id not in entries)
    for id, entry in entries.items():
        if id not in ids:
            yield f"{id}: no such rule"
        if not isinstance(entry, dict):
            yield f"{id}: not an entry"
            continue
        yield from (f"{id}: {problem}" for problem in _problems_of(entry, root))


def _problems_of(entry: Entries, root: Path) -> Iterator[str]:
    if unknown := entry.keys() - {"requires", "section", "tests", "not_built"}:
        yield f"what is {', '.join(sorted(unknown))}?"
    if not _is_sentence(entry.get("requires")):
        yield "does not say in a sentence what is required"
    if "section" in entry and not _is_text(entry["section"]):
        yield "an empty section"
    if ("tests" in entry) == ("not_built" in entry):
        yield "has either tests or a reason why it is not built"
    if "not_built" in entry and not _is_sentence(entry["not_built"]):
        yield "does not say in a sentence why it is not built"
    if "tests" in entry:
        yield from _problems_of_tests(entry["tests"], root)


def _problems_of_tests(tests: Any, root: Path) -> Iterator[str]:
    if not isinstance(tests, list) or not tests:
        yield "names no tests"
        return
    for name in tests:
        if not isinstance(name, str) or not exists(name, root):
            yield f"there is no test {name}"
        elif tests.count(name) > 1:
            yield f"names {name} more than once"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_sentence(value: Any) -> bool:
    return _is_text(value) and value.endswith(".") and " " in value and "\n" not in value


def exists(name: str, root: Path) -> bool:
    """Whether a test of this name, as pytest has it but without parameters, stands in its file."""
    path, *inner = name.split("::")
    return tuple(inner) in functions_in(root / path)


@cache
def functions_in(path: Path) -> frozenset[tuple[str, ...]]:
    """The test functions of a file, those of classes together with the class."""
    if not path.is_file() or not path.name.startswith("test_"):
        return frozenset()
    return frozenset(_functions_of(ast.parse(path.read_text(encoding="utf-8")).body))


def _functions_of(body: list[ast.stmt]) -> Iterator[tuple[str, ...]]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.startswith("test_"):
                    yield (name,)
            case ast.ClassDef(name=name, body=inner) if name.startswith("Test"):
                yield from ((name, *test) for test in _functions_of(inner))


# The lists


def test_there_is_a_list_for_each_family() -> None:
    assert {path.stem for path in LISTS.glob("*.toml")} == FAMILIES.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_rule_is_shown_or_not_built_for_a_reason(family: str) -> None:
    entries = tomllib.loads((LISTS / f"{family}.toml").read_text(encoding="utf-8"))
    assert list(problems(entries, FAMILIES[family], ROOT)) == []
    assert list(entries) == list(FAMILIES[family]), "in order"


def test_families_have_their_gaps() -> None:
    counts = {family: len(ids) for family, ids in FAMILIES.items()}
    assert counts == {
        "stdio": 22,
        "transport": 70,
        "eras": 7,
        "bridges": 42,
        "authorization": 45,
    }
    for ids in FAMILIES.values():
        assert len(set(ids)) == len(ids)
    assert {"T-17", "T-20", "T-40f", "T-41", "T-93"} < set(FAMILIES["transport"])
    assert not {"T-18", "T-40", "T-53", "T-81", "T-94"} & set(FAMILIES["transport"])
    assert not {"A-9", "A-27", "A-35", "A-45", "A-55", "A-65"} & set(FAMILIES["authorization"])
    assert not {"B-17", "B-25", "B-41", "B-49", "B-62", "B-65"} & set(FAMILIES["bridges"])


# The checker itself, on lists made up

SHOWN = """
[X-1]
requires = "Answer once."
section = "basic, Responses"
tests = ["tests/test_some.py::test_plain", "tests/test_some.py::TestClass::test_within"]
"""

LEFT_OUT = """
[X-2]
requires = "Sing a song."
not_built = "Nobody listens."
"""

SOME_TESTS = """
@pytest.mark.parametrize("x", [1])
def test_plain(x): ...
async def test_waiting(): ...
def helper():
    def test_nested(): ...
class TestClass:
    def test_within(self): ...
class Helper:
    def test_of_no_test_class(self): ...
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    for name in ("test_some.py", "helper.py"):
        (tmp_path / "tests" / name).write_text(SOME_TESTS, encoding="utf-8")
    return tmp_path


def found(text: str, root: Path) -> list[str]:
    return list(problems(tomllib.loads(text), ("X-1", "X-2"), root))


def test_a_list_without_problems(root: Path) -> None:
    assert found(SHOWN + LEFT_OUT, root) == []


@pytest.mark.parametrize(
    "old, new, problem",
    [
        (LEFT_OUT, "", "X-2: no entry"),
        (LEFT_OUT, LEFT_OUT + LEFT_OUT.replace("X-2", "X-3"), "X-3: no such rule"),
        (LEFT_OUT, LEFT_OUT + LEFT_OUT.replace("X-2", "Y-2"), "Y-2: no such rule"),
        (
            'not_built = "Nobody listens."',
            "",
            "X-2: has either tests or a reason why it is not built",
        ),
        (
            "[X-2]",
            '[X-2]\ntests = ["tests/test_some.py::test_plain"]',
            "X-2: has either tests or a reason why it is not built",
        ),
        (
            'requires = "Answer once."',
            "",
            "X-1: does not say in a sentence what is required",
        ),
        ('"Answer once."', '""', "X-1: does not say in a sentence what is required"),
        ('"Answer once."', '"Once"', "X-1: does not say in a sentence what is required"),
        ('"Answer once."', "1", "X-1: does not say in a sentence what is required"),
        ('"Nobody listens."', '""', "X-2: does not say in a sentence why it is not built"),
        ('"Nobody listens."', "true", "X-2: does not say in a sentence why it is not built"),
        ('"basic, Responses"', '" "', "X-1: an empty section"),
        ("section =", "sektion =", "X-1: what is sektion?"),
        ("::test_plain", "::test_plan", "X-1: there is no test tests/test_some.py::test_plan"),
        ("::test_plain", "::helper", "X-1: there is no test tests/test_some.py::helper"),
        (
            "::test_plain",
            "::test_nested",
            "X-1: there is no test tests/test_some.py::test_nested",
        ),
        ("::test_plain", "", "X-1: there is no test tests/test_some.py"),
        (
            "::TestClass::test_within",
            "::test_within",
            "X-1: there is no test tests/test_some.py::test_within",
        ),
        (
            "::TestClass::test_within",
            "::Helper::test_of_no_test_class",
            "X-1: there is no test tests/test_some.py::Helper::test_of_no_test_class",
        ),
        (
            "test_some.py::test_plain",
            "test_other.py::test_plain",
            "X-1: there is no test tests/test_other.py::test_plain",
        ),
        (
            "test_some.py::test_plain",
            "helper.py::test_plain",
            "X-1: there is no test tests/helper.py::test_plain",
        ),
        (
            "::TestClass::test_within",
            "::test_waiting[1]",
            "X-1: there is no test tests/test_some.py::test_waiting[1]",
        ),
        ('["tests/test_some.py::test_plain", ', "[1, ", "X-1: there is no test 1"),
    ],
)
def test_each_problem_is_found(root: Path, old: str, new: str, problem: str) -> None:
    text = SHOWN + LEFT_OUT
    assert text.count(old) == 1
    assert found(text.replace(old, new), root) == [problem]


@pytest.mark.parametrize("tests", ["[]", '"tests/test_some.py::test_plain"', "{}"])
def test_an_entry_that_names_no_tests(root: Path, tests: str) -> None:
    text = f'[X-1]\nrequires = "Answer once."\ntests = {tests}\n{LEFT_OUT}'
    assert found(text, root) == ["X-1: names no tests"]


def test_a_test_named_twice(root: Path) -> None:
    text = SHOWN.replace("TestClass::test_within", "test_plain") + LEFT_OUT
    assert set(found(text, root)) == {"X-1: names tests/test_some.py::test_plain more than once"}


def test_what_is_no_entry(root: Path) -> None:
    assert found(f"X-1 = 1\n{LEFT_OUT}", root) == ["X-1: not an entry"]


def test_an_id_may_stand_once(root: Path) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        found(SHOWN + SHOWN + LEFT_OUT, root)
