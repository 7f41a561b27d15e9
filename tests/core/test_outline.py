"""Large JSON read for its outline: as surely JSON as when all of it is parsed."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_stdio.outline import outline
from mcp_stdio.splice import PATIENT_DECODER

LONG = 1024
PIECE = 64 * 1024


def is_outline_of(found: Any, value: Any) -> bool:
    """Whether the one is the other, but for strings that may have been long as written."""
    match found, value:
        case str(), str():
            return found == value or (found == "" and len(value) * len(r"\ud800\udc00") > LONG)
        case list(), list():
            return len(found) == len(value) and all(map(is_outline_of, found, value))
        case dict(), dict():
            return is_outline_of([*found, *found.values()], [*value, *value.values()])
        case _:
            return bool(found == value)


def document(*texts: str) -> bytes:
    """Strings, as they are written, among the rest of an object."""
    members = ",".join(f'"n{at}":["{text}",{{"a":1}}]' for at, text in enumerate(texts))
    return f'{{"a":"b", {members} ,"end":null}}'.encode()


def is_json_object(raw: bytes) -> bool:
    try:
        return isinstance(PATIENT_DECODER.decode(raw.decode()), dict)
    except ValueError:
        return False


WRITTEN = ["x", "xyz", "é", "中", "😀", r"\n", r"\"", r"\\", r"\u00e9", r"\ud83d\ude00", r"\ud800"]


@pytest.mark.parametrize("unit", WRITTEN)
@pytest.mark.parametrize("shift", range(12))
def test_the_long_strings_are_empty_in_the_outline(unit: str, shift: int) -> None:
    raw = document("a" * shift + unit * (3 * PIECE // len(unit.encode())), "short")
    value = json.loads(raw)
    assert outline(raw) == {**value, "n0": ["", value["n0"][1]]}


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"a":"' + b"x" * 100_000 + b'"}',
        b' {"a" : [ "' + b"x" * 100_000 + b'" , 1 ] } \n',
        b'{"' + b"x" * 100_000 + b'":1,"b":2}',
        b'{"a":"' + b"x" * LONG + b'","b":"' + b"x" * (LONG + 1) + b'"}',
        b'{"a":"\\"","b":"\\\\"}',
    ],
)
def test_what_is_an_object_is_that_in_outline(raw: bytes) -> None:
    found = outline(raw)
    assert found is not None
    assert is_outline_of(found, json.loads(raw))
    assert len(str(found)) < LONG + 100


@pytest.mark.parametrize("size", [0, 10, LONG, LONG + 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
@pytest.mark.parametrize(
    "fault",
    [
        b"\n",
        b"\0",
        b"\x1f",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\\x",
        b"\\u12g4",
        b"\\",
        b'"',
        b'"x',
    ],
)
def test_what_is_no_json_has_no_outline(fault: bytes, size: int) -> None:
    whole = b'{"a":"' + b"x" * size + fault + b"y" * 10 + b'"}'
    assert not is_json_object(whole)
    assert outline(whole) is None
    assert outline(b'{"a":"' + b"x" * size + fault) is None


@pytest.mark.parametrize(
    "raw", [b"", b"x", b'"', b"[]", b'["' + b"x" * 100_000 + b'"]', b"1", b"{"]
)
def test_what_is_no_object_has_no_outline(raw: bytes) -> None:
    assert outline(raw) is None


texts = st.lists(
    st.tuples(st.sampled_from(WRITTEN), st.sampled_from([1, 2, 3, 500, 1022, 1023, 1024, 33_000])),
    max_size=4,
).map(lambda parts: "".join(unit * count for unit, count in parts))


@given(
    st.lists(texts, min_size=1, max_size=4),
    st.integers(0, 1 << 20),
    st.sampled_from([b"", b'"', b"\\", b"\n", b"\xff", b"\x80", b"x", b",", b"}"]),
    st.integers(0, 2),
)
@example(["\\\\" * 33_000], 70_000, b"\\", 0)
def test_an_outline_is_that_of_json(written: list[str], at: int, fault: bytes, gone: int) -> None:
    raw = document(*written)
    assert is_outline_of(outline(raw), json.loads(raw))
    at %= len(raw)
    broken = raw[:at] + fault + raw[at + gone :]
    found = outline(broken)
    assert is_json_object(broken) == (found is not None)
    if found is not None:
        assert is_outline_of(found, json.loads(broken))


def test_a_text_of_many_strings_is_left_to_the_parser() -> None:
    assert outline(json.dumps({"a": ["x"] * 30}).encode()) is not None
    assert outline(json.dumps({"a": ["x"] * 40}).encode()) is None
    assert outline(json.dumps({"a": ["x"] * 40, "b": "x" * 100_000}).encode()) is not None


def test_nothing_of_the_size_of_the_text_is_made() -> None:
    raw = b'{"a":"' + b"x" * 10_000_000 + b'"}'
    tracemalloc.start()
    try:
        assert outline(raw) == {"a": ""}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000
