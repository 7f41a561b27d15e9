"""Lines out of bytes, whole and over the limit."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio.framing import Lines, Oversized
from mcp_stdio.scanner import MemberScanner

LIMIT = 1000


def read(*pieces: bytes, limit: int = LIMIT) -> list[bytes | Oversized]:
    lines = Lines(limit)
    found = [line for piece in pieces for line in lines.feed(piece)]
    return found + lines.end()


def every_way(stream: bytes, limit: int = LIMIT) -> list[bytes | Oversized]:
    """What comes out, having checked that it does not depend on how the stream is cut up."""
    whole = read(stream, limit=limit)
    for at in range(len(stream) + 1):
        assert read(stream[:at], stream[at:], limit=limit) == whole, at
    assert read(*(stream[at : at + 1] for at in range(len(stream))), limit=limit) == whole
    return whole


@pytest.mark.parametrize(
    "stream, lines",
    [
        (b"", []),
        (b"one\n", [b"one"]),
        (b"one\ntwo\n", [b"one", b"two"]),
        (b"one\r\ntwo\r\n", [b"one", b"two"]),
        (b"one\ntwo", [b"one", b"two"]),
        (b"one\r", [b"one"]),
        (b"\n\r\n \t \n\none\n\n", [b"one"]),
        (b"one\rtwo\n", [b"one\rtwo"]),
        (b"one\r\r\n", [b"one\r"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", [b"one", b"\xef\xbb\xbftwo"]),
        (b"\xef\xbb\xbf\none\n", [b"one"]),
        (b"\n\xef\xbb\xbfone\n", [b"\xef\xbb\xbfone"]),
        (b"\xef\xbbone\n", [b"\xef\xbbone"]),
        (b" one \n", [b" one "]),
        (b"\x00\n\xff\xfe\n", [b"\x00", b"\xff\xfe"]),
        ('{"a":"\u2028\u0085"}\n'.encode(), ['{"a":"\u2028\u0085"}'.encode()]),
    ],
)
def test_line_is_what_ends_in_lf(stream: bytes, lines: list[bytes]) -> None:
    assert every_way(stream) == lines


def test_a_person_who_presses_enter_may_be_heard() -> None:
    lines = Lines(LIMIT, keeps_blank=True)
    assert lines.feed(b"\n \r\none\n\n") == [b"", b" ", b"one", b""]
    assert lines.end() == []


@given(st.lists(st.binary(min_size=1, max_size=20)), st.data())
def test_any_lines_come_out_as_they_went_in(parts: list[bytes], data: st.DataObject) -> None:
    lines = [b"x" + part.replace(b"\n", b" ").rstrip(b"\r") + b"x" for part in parts]
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(*pieces) == lines


def test_twenty_megabytes_in_one_line() -> None:
    text = b"x" * 65536
    lines = Lines(64 * 1024 * 1024)
    for _ in range(320):
        assert lines.feed(text) == []
    assert lines.feed(b"\n") == [text * 320]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"", b"\r"])
def test_the_limit_counts_the_line_without_its_end(end: bytes) -> None:
    assert every_way(b"x" * 20 + end, limit=20) == [b"x" * 20]
    (over,) = every_way(b"x" * 21 + end, limit=20)
    assert isinstance(over, Oversized)


def test_a_line_over_the_limit_leaves_its_neighbours_alone() -> None:
    long = b'{"id":7,"method":"' + b"x" * 50 + b'"}'
    assert every_way(b"one\n" + long + b"\ntwo\n" + long + b"\nthree", limit=20) == [
        b"one",
        Oversized(len(long), 7, True),
        b"two",
        Oversized(len(long), 7, True),
        b"three",
    ]


@pytest.mark.parametrize("start", [b'{"id":1,"params":"', b'{"id":1,"', b'{"id":1,"x":'])
def test_a_line_over_the_limit_is_not_kept(start: bytes) -> None:
    piece = b"1" * 100_000
    lines = Lines(1000)
    tracemalloc.start()
    try:
        lines.feed(start)
        for _ in range(100):
            assert lines.feed(piece) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    assert lines.feed(b"\n") == [Oversized(len(start) + 10_000_000, 1, False)]


@pytest.mark.parametrize(
    "line, id, has_method",
    [
        (b'{"jsonrpc":"2.0","method":"m","id":7}', 7, True),
        (b'{"method":"m","params":{"id":1,"x":[{"id":2}]},"id":"a"}', "a", True),
        (b'{"id":-3,"result":{"id":1,"method":"n"}}', -3, False),
        (b'{"id":"a\\"b\\\\","method":"m"}', 'a"b\\', True),
        (b'{"params":"\\\\","id":1,"method":"m"}', 1, True),
        (b'{"params":"{\\"id\\":5,[","id":1,"method":"m"}', 1, True),
        (b'{"params":{"a":"}"},"id":1,"method":"m"}', 1, True),
        (b'{"params":[[[[[[[{"id":3}]]]]]]],"id":1,"method":"m"}', 1, True),
        (b'{ "\\u0069d" : 8 , "method" : "m" }', 8, True),
        (b'\xef\xbb\xbf{"id":1,"method":"m"}', 1, True),
        ('{"id":"für","method":"m"}'.encode(), "für", True),
        (b'{"id":1,"id":2,"method":"m"}', 2, True),
        (b'{"id":1,"id":{},"method":"m"}', None, True),
        (b'{"method":"m"}', None, True),
        (b'{"id":null,"method":"m"}', None, True),
        (b'{"id":true,"method":"m"}', None, True),
        (b'{"id":false,"method":"m"}', None, True),
        (b'{"id":1.5,"method":"m"}', None, True),
        (b'{"id":NaN,"method":"m"}', None, True),
        (b'{"id":' + b"9" * 5000 + b',"method":"m"}', None, True),
        (b'{"id":{"id":1},"method":"m"}', None, True),
        (b'{"x":"id","y":1}', None, False),
        (b'{"x":1}{"id":1,"method":"m"}', None, False),
        (b'[{"id":1,"method":"m"}]', None, False),
        (b'"id":1', None, False),
        (b"]]]}}}", None, False),
        (b'{"id":12', None, False),
        (b'{"id":1]', 1, False),
        (b"{" * 100, None, False),
    ],
)
def test_the_id_of_a_line_over_the_limit_is_found(
    line: bytes, id: int | str | None, has_method: bool
) -> None:
    assert every_way(line, limit=1) == [Oversized(len(line), id, has_method)]


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_id_may_stand_behind_megabytes(where: str) -> None:
    params = {
        "rows": [{"a": number, "b": f"\\{number}", "c": [1, [2]]} for number in range(50_000)]
    }
    request = {"method": "tools/call", "params": params}
    message = {"id": 5, **request} if where == "before" else {**request, "id": 5}
    line = json.dumps(message).encode() + b"\n"
    pieces = [line[at : at + 65536] for at in range(0, len(line), 65536)]
    assert read(*pieces) == [Oversized(len(line) - 1, 5, True)]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(
    st.dictionaries(st.sampled_from(["id", "method", "params", "x", "idx", ""]), json_values),
    st.booleans(),
    st.integers(0, 1 << 16),
)
def test_the_scanner_agrees_with_the_parser(message: dict[str, Any], ascii: bool, cut: int) -> None:
    line = json.dumps(message, ensure_ascii=ascii).encode(errors="surrogatepass")
    expected = message.get("id")
    if type(expected) not in (int, str):
        expected = None
    scanner = MemberScanner()
    scanner.feed(line[: cut % len(line)])
    scanner.feed(line[cut % len(line) :])
    assert (scanner.id, scanner.has_method) == (expected, "method" in message)


@given(st.binary(), st.integers(0, 100))
def test_the_scanner_survives_anything(data: bytes, cut: int) -> None:
    scanner = MemberScanner()
    scanner.feed(b"{" + data[:cut])
    scanner.feed(data[cut:])
