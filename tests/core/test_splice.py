"""Editing JSON in place: what is not changed keeps every byte (P3)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio import splice

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
spacing = st.sampled_from(["", " ", "\t ", "\n", "\r\n  "])


@given(st.dictionaries(st.text(), json_values), spacing, st.booleans())
def test_spans_name_every_member(value: dict[str, Any], space: str, ascii: bool) -> None:
    text = space + json.dumps(
        value, ensure_ascii=ascii, separators=("," + space, space + ":" + space)
    )
    spans = splice.spans(text)
    assert {name: json.loads(text[a:b]) for name, (a, b) in spans.items()} == value


@given(st.lists(json_values), spacing)
def test_spans_name_every_element(value: list[Any], space: str) -> None:
    text = space + json.dumps(value, separators=(space + "," + space, ":"))
    assert [json.loads(text[a:b]) for a, b in splice.elements(text)] == value


@pytest.mark.parametrize(
    "text, expected",
    [
        ('{"id":1}', '{"id":"x"}'),
        ('{ "id" : 1 , "a":[{"id":2}] }', '{ "id" : "x" , "a":[{"id":2}] }'),
        ('{"a":1.0,"\\u0069d":{"b":"}"},"c":1e400}', '{"a":1.0,"\\u0069d":"x","c":1e400}'),
        ('{"ü":"é","id":"ö"}', '{"ü":"é","id":"x"}'),
        ("{}", '{"id":"x"}'),
        (" { } ", ' {"id":"x" } '),
        ('{"a":1}', '{"id":"x","a":1}'),
        ('{"id":1,"id":2}', '{"id":1,"id":"x"}'),
        ('{"id":' + "9" * 5000 + "}", '{"id":"x"}'),
    ],
)
def test_putting_a_member_keeps_every_other_byte(text: str, expected: str) -> None:
    assert splice.put(text, '"x"', "id") == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ('{"a":{"b":{"c":1.0},"x":1e400}}', '{"a":{"b":{"c":7},"x":1e400}}'),
        ('{"a":{"b":{}}}', '{"a":{"b":{"c":7}}}'),
        ('{"a":{"x":2}}', '{"a":{"b":{"c":7},"x":2}}'),
        ("{}", '{"a":{"b":{"c":7}}}'),
        ('{"a":[1]}', '{"a":{"b":{"c":7}}}'),
        ('{"a":{"b":null,"x":2}}', '{"a":{"b":{"c":7},"x":2}}'),
    ],
)
def test_what_is_missing_on_the_way_is_made(text: str, expected: str) -> None:
    assert splice.put(text, "7", "a", "b", "c") == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ('{"a":{"b":1.0 } }', '{"a":{"b":1.0,"c":7 } }'),
        ('{"a":{"c":1,"b":2}}', '{"a":{"c":7,"b":2}}'),
        ('{"a":{ }}', '{"a":{"c":7 }}'),
        ('{"x":[1]}', '{"x":[1],"a":{"c":7}}'),
        ('{"a":null,"x":2}', '{"a":{"c":7},"x":2}'),
    ],
)
def test_a_new_member_may_come_last(text: str, expected: str) -> None:
    assert splice.put(text, "7", "a", "c", last=True) == expected


@pytest.mark.parametrize(
    "text, rest",
    [
        ('{"a":1}', "{}"),
        ('{ "a" : 1 , "\\u00e9":1.0 }', '{ "\\u00e9":1.0 }'),
        ('{"\\u00e9" :1e400, "a":[1] }', '{"\\u00e9" :1e400 }'),
        ('{"x":1,"a":2,"y":3,"a":4}', '{"x":1,"y":3}'),
        ('{"a":1,"a":22,"x":3,"a":4,"a":5}', '{"x":3}'),
        ('{ "a":1, "a":2 }', "{  }"),
        ('{"x":1}', '{"x":1}'),
    ],
)
def test_dropping_a_member_keeps_every_other_byte(text: str, rest: str) -> None:
    assert splice.drop(text, "a") == rest
    assert splice.drop(f'{{"o":{text}}}', "o", "a") == f'{{"o":{rest}}}'


@pytest.mark.parametrize("count", [1000, 200_000])
def test_a_member_written_many_times_is_dropped_in_one_go(count: int) -> None:
    text = "{" + '"a":1, ' * count + '"x":1.0' + ', "a":2' * count + " }"
    begun = time.process_time()
    assert splice.drop(text, "a") == '{"x":1.0 }'
    # To cut out one after the other takes more than half a minute; this takes half a second.
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("text", ["{}", '{"o":1}', '{"o":[{"a":1}]}', '{"p":{"a":1}}'])
def test_a_path_that_leads_nowhere_changes_nothing(text: str) -> None:
    assert splice.drop(text, "o", "a") == text
    assert splice.get(text, "o", "a") is None
    assert splice.edit(text, str.upper, "o", "a") == text
    assert splice.edit_elements(text, lambda element: None, "o", "a") == text


@pytest.mark.parametrize(
    "text, expected",
    [
        ('{"l":[1.0, 2,3 ]}', '{"l":[10.0,30]}'),
        ('{"l":[ ]}', '{"l":[ ]}'),
        ('{"l": [2]}', '{"l": []}'),
        ('{"l":{}}', '{"l":{}}'),
    ],
)
def test_elements_are_changed_and_left_out(text: str, expected: str) -> None:
    def change(element: str) -> str | None:
        return {"1.0": "10.0", "3": "30"}.get(element)

    assert splice.edit_elements(text, change, "l") == expected


def test_an_array_of_which_nothing_is_changed_keeps_its_spaces() -> None:
    text = '{"l":[1.0, {"a" : 2} ,3 ]}'
    assert splice.edit_elements(text, lambda element: element, "l") == text


@given(st.dictionaries(st.text(), json_values), st.lists(st.text(), min_size=1, max_size=3))
def test_edits_mean_what_they_mean_to_a_parser(value: dict[str, Any], path: list[str]) -> None:
    text = json.dumps(value)
    put = splice.put(text, "7", *path)
    assert splice.get(put, *path) == "7"
    assert splice.get(splice.drop(put, *path), *path) is None
    once = json.loads(put)
    for name in path[:-1]:
        once = once[name]
    assert once.pop(path[-1]) == 7
