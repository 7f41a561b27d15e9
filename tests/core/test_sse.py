"""Event streams, at every split point (T-40a to T-40f; WHATWG HTML 9.2.6)."""

from __future__ import annotations

import itertools
import re
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_stdio.errors import TooLarge
from mcp_stdio.sse import Decoder, Event


def decode(*chunks: bytes, limit: int = 10_000) -> tuple[list[Event], str, int | None]:
    decoder = Decoder(limit)
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    if decoder.failure is not None:
        raise decoder.failure
    return events, decoder.last_event_id, decoder.retry


def every_way(stream: bytes) -> tuple[list[Event], str, int | None]:
    """What comes out, having checked that it does not depend on how the stream is cut up."""
    whole = decode(stream)
    for at in range(len(stream) + 1):
        assert decode(stream[:at], stream[at:]) == whole, at
    assert decode(*(stream[at : at + 1] for at in range(len(stream)))) == whole
    assert decode(*re.findall(b"(?s)..?", stream)) == whole
    return whole


def message(data: bytes, id: str = "", type: str = "message") -> Event:
    return Event(type, data, id)


@pytest.mark.parametrize(
    "stream, events",
    [
        (b"", []),
        (b"data: one\n\n", [message(b"one")]),
        (b"event: message\ndata: one\n\n", [message(b"one")]),
        (b"data: one\n\ndata: two\n\n", [message(b"one"), message(b"two")]),
        (b"data:one\n\n", [message(b"one")]),
        (b"data:  one \n\n", [message(b" one ")]),
        (b"data: one\ndata: two\n\n", [message(b"one\ntwo")]),
        (b"data: one\ndata\ndata:two\n\n", [message(b"one\n\ntwo")]),
        (b"data\ndata\n\n", [message(b"\n")]),
        (b"data: a:b: c\n\n", [message(b"a:b: c")]),
        (b"event: ping\ndata: x\n\ndata: y\n\n", [message(b"x", type="ping"), message(b"y")]),
        (b"event\ndata: x\n\n", [message(b"x")]),
        (b"event: one\nevent: two\ndata: x\n\n", [message(b"x", type="two")]),
        (b"event: ping\n\ndata: x\n\n", [message(b"x")]),
        (b"data: x\nevent: message\n\n", [message(b"x")]),
        (b": comment\n:\n::\n\ndata: x\n: in between\ndata: y\n\n", [message(b"x\ny")]),
        (b"unknown: x\nDATA: y\n data: z\ndata x: y\n\n", []),
        (b"\n\n\ndata: x\n\n\n\n", [message(b"x")]),
        (b"data: \xff\x00\n\n", [message(b"\xff\x00")]),
        (
            b"data: \xe2\x80\xa8\xc2\x85\x0b\x0c\x1c\n\n",
            [message(b"\xe2\x80\xa8\xc2\x85\x0b\x0c\x1c")],
        ),
    ],
)
def test_fields_make_events(stream: bytes, events: list[Event]) -> None:
    assert every_way(stream)[0] == events


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_end_in_lf_cr_or_crlf(end: bytes) -> None:
    stream = b"data: one\ndata: two\n\n\nid: 5\ndata: three\n\n: x\n".replace(b"\n", end)
    assert every_way(stream)[0] == [message(b"one\ntwo"), message(b"three", "5")]


def test_line_ends_may_be_mixed() -> None:
    stream = b"data: a\r\rdata: b\r\n\rdata: c\n\r\ndata: d\r\ndata: e\r\n\r\n"
    assert [event.data for event in every_way(stream)[0]] == [b"a", b"b", b"c", b"d\ne"]


def test_a_final_cr_dispatches_at_once() -> None:
    decoder = Decoder(100)
    assert decoder.feed(b"data: x\r\n\r") == [message(b"x")]
    assert decoder.feed(b"\ndata: y\n\n") == [message(b"y")]


@pytest.mark.parametrize(
    "stream, events",
    [
        (b"\xef\xbb\xbfdata: x\n\n", [message(b"x")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", []),
        (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [message(b"x")]),
        (b"\n\xef\xbb\xbfdata: y\n\n", []),
        (b"\xef\xbb\xbf: x\ndata: y\n\n", [message(b"y")]),
    ],
)
def test_one_leading_byte_order_mark_is_dropped(stream: bytes, events: list[Event]) -> None:
    assert every_way(stream)[0] == events


@pytest.mark.parametrize(
    "stream, events, last",
    [
        (b"id: 1\ndata: x\n\ndata: y\n\n", [message(b"x", "1"), message(b"y", "1")], "1"),
        (b"id: 1\ndata: x\n\nid\ndata: y\n\n", [message(b"x", "1"), message(b"y", "")], ""),
        (
            b"id: 1\ndata: x\n\nid: 2\x003\ndata: y\n\n",
            [message(b"x", "1"), message(b"y", "1")],
            "1",
        ),
        (b"id: 1\nid: 2\ndata: x\n\n", [message(b"x", "2")], "2"),
        ("id: ü\ndata: x\n\n".encode(), [message(b"x", "ü")], "ü"),
        (b"id: \xff\ndata: x\n\n", [message(b"x", "\ufffd")], "\ufffd"),
        (b"id: a b \ndata: x\n\n", [message(b"x", "a b ")], "a b "),
        # The priming event: it moves the cursor and is no message (T-40c).
        (b"id: 1\ndata:\n\n", [], "1"),
        (b"id: 1\ndata: \n\n", [], "1"),
        (b"id: 1\ndata\n\n", [], "1"),
        (b"id: 1\n\n", [], "1"),
        (b"id: 1\n\ndata: x\n\n", [message(b"x", "1")], "1"),
        (b"event: message\ndata: \n\n", [], ""),
        # An id counts with the blank line and not before.
        (b"id: 1\ndata: x\n\nid: 2\ndata: y\n", [message(b"x", "1")], "1"),
        (b"id: 1", [], ""),
        (b"id: 1\n", [], ""),
    ],
)
def test_the_last_event_id(stream: bytes, events: list[Event], last: str) -> None:
    assert every_way(stream)[:2] == (events, last)


def test_the_id_of_an_event_is_that_of_its_own_blank_line() -> None:
    decoder = Decoder(100)
    assert decoder.feed(b"id: 1\ndata: x\n\nid: 2\ndata: y\n\nid: 3\n\nid: 4\n") == [
        message(b"x", "1"),
        message(b"y", "2"),
    ]
    assert decoder.last_event_id == "3"


def test_a_resumed_stream_begins_with_the_id_it_was_asked_for() -> None:
    decoder = Decoder(100, "7")
    assert decoder.last_event_id == "7"
    assert decoder.feed(b"data: x\n\n") == [message(b"x", "7")]


@pytest.mark.parametrize(
    "stream, retry",
    [
        (b"retry: 1500\n\n", 1500),
        (b"retry: 1500\n", 1500),
        (b"retry:0\n\n", 0),
        (b"retry: 007\n", 7),
        (b"retry: 1\nretry: 2\n", 2),
        (b"retry: 1\nretry: x\n", 1),
        (b"retry\n", None),
        (b"retry:\n", None),
        (b"retry: -1\n", None),
        (b"retry: +1\n", None),
        (b"retry: 1.5\n", None),
        (b"retry: 1 \n", None),
        (b"retry: 1_0\n", None),
        ("retry: \u0661\n".encode(), None),
        (b"retry: " + b"9" * 5000 + b"\n", None),
        (b"retry: 1500", None),
    ],
)
def test_retry_is_ascii_digits_only(stream: bytes, retry: int | None) -> None:
    assert decode(stream)[2] == retry
    assert every_way(stream[:100] if retry is None else stream)[2] == retry


@pytest.mark.parametrize("stream", [b"data: x", b"data: x\n", b"data: x\r\n", b"data: x\nid: 3\n"])
def test_an_unfinished_event_is_discarded(stream: bytes) -> None:
    assert every_way(stream) == ([], "", None)


def reference(stream: bytes) -> list[Event]:
    """The algorithm of the standard, word for word, on the whole stream."""
    lines = re.split(b"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))[:-1]
    events: list[Event] = []
    data, type, last_id = b"", "", ""
    for line in lines:
        if line == b"":
            if data.removesuffix(b"\n"):
                events.append(Event(type or "message", data.removesuffix(b"\n"), last_id))
            data, type = b"", ""
            continue
        name, value = line, b""
        if b":" in line:
            name, value = line[: line.index(b":")], line[line.index(b":") + 1 :]
            if value[:1] == b" ":
                value = value[1:]
        if name == b"event":
            type = value.decode("utf-8", "replace")
        elif name == b"data":
            data += value + b"\n"
        elif name == b"id" and b"\0" not in value:
            last_id = value.decode("utf-8", "replace")
    return events


snippets = st.sampled_from(
    [
        *(
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"\r\n\r\n",
            b"data: x",
            b"data:",
            b"data",
            b"id: 1",
            b"id",
        ),
        *(b"event: message\ndata: ", b"event: e", b": c", b" ", b":", b"\xef\xbb\xbf", b"y", b"\0"),
    ]
)


@given(st.lists(snippets, max_size=30), st.lists(st.integers(0, 200), max_size=6))
@example([b"data: x", b"\r\n\r\n", b"data: y", b"\n\n"], [9, 10])
def test_any_stream_reads_as_the_standard_says(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    ends = sorted(min(cut, len(stream)) for cut in cuts)
    chunks = [stream[a:b] for a, b in zip([0, *ends], [*ends, len(stream)], strict=True)]
    assert decode(*chunks)[0] == reference(stream)


LONG = b"x" * 40_000  # more than a line is kept for

long_snippets = snippets | st.sampled_from([LONG, b"data: " + LONG, b"data:" + LONG, b": " + LONG])


@given(
    st.lists(long_snippets, max_size=10),
    st.lists(st.integers(0, 10) | st.integers(0, 40_020), max_size=12),
)
@example([b"data: " + LONG, b"\r", b"\n\r", b"\ndata: y\n\n"], [40_000, 6, 1, 1, 1])
@example([b"\xef\xbb\xbf", b"data:" + LONG, b"\ndata: ", LONG, b"\n\n"], [40_003, 5, 3, 40_000])
@example([b"id: 1\nevent: message\ndata: ", LONG, LONG, b"\nid: 2\n\n"], [20_000] * 5)
@example([b"data: " + LONG, b"\rdata: y\n\n"], [40_001, 5])
@example([b"data: " + LONG, b"\r", b"\ndata: y\n\n"], [40_000, 6, 1])
def test_long_lines_read_as_the_standard_says(parts: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(parts)
    ends = [min(end, len(stream)) for end in itertools.accumulate(sizes)]
    chunks = [stream[a:b] for a, b in zip([0, *ends], [*ends, len(stream)], strict=True)]
    assert decode(*chunks, limit=1_000_000)[0] == reference(stream)


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf", b"event: message\n", b"data: y\n"])
@pytest.mark.parametrize("name", [b"data: ", b"data:"])
@pytest.mark.parametrize("size", [1000, 30_000, 40_000])
def test_the_limit_is_on_the_data_of_a_long_event_too(
    prefix: bytes, name: bytes, size: int
) -> None:
    begun = len(b"y\n") if prefix == b"data: y\n" else 0
    for limit in (100_000 + begun, 99_999 + begun):
        stream = prefix + name + b"x" * 100_000 + b"\n\n"
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        if limit == 100_000 + begun:
            assert decode(*chunks, limit=limit)[0] == reference(stream)
        else:
            with pytest.raises(TooLarge):
                decode(*chunks, limit=limit)


def test_a_long_event_is_kept_once() -> None:
    text = b"x" * 65536
    decoder = Decoder(20_000_000)
    tracemalloc.start()
    try:
        decoder.feed(b"event: message\ndata: ")
        for _ in range(160):
            decoder.feed(text)
        (event,) = decoder.feed(b"\n\n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * len(event.data)


def test_many_small_events_in_one_chunk() -> None:
    one = b'event: message\ndata: {"jsonrpc":"2.0"}\n\n'
    assert decode(one * 20_000)[0] == [message(b'{"jsonrpc":"2.0"}')] * 20_000


def test_an_event_of_ten_megabytes_in_chunks() -> None:
    text = b"x" * 65536
    decoder = Decoder(20_000_000)
    assert decoder.feed(b"data: ") == []
    for _ in range(160):
        assert decoder.feed(text) == []
    assert decoder.feed(b"\n\n") == [message(text * 160)]


@pytest.mark.parametrize("prefix", [b"", b"event: message\n", b"event: e\n", b"id: 1\n"])
def test_the_limit_is_on_the_data_of_one_event(prefix: bytes) -> None:
    exact = prefix + b"data: " + b"x" * 50 + b"\n\n"
    events = decode(exact * 3, limit=50)[0]
    assert (
        events == decode(*(exact[at : at + 1] for at in range(len(exact))), exact * 2, limit=50)[0]
    )
    assert [event.data for event in events] == [b"x" * 50] * 3
    over = prefix + b"data: " + b"x" * 51 + b"\n\n"
    with pytest.raises(TooLarge, match="exceeds 50 bytes"):
        decode(over, limit=50)
    with pytest.raises(TooLarge):
        decode(*(over[at : at + 1] for at in range(len(over))), limit=50)


@pytest.mark.parametrize("over", [b"data: " + b"x" * 51, b"data: x\n" * 30, b":" * 99])
def test_events_before_one_over_the_limit_are_given_whatever_came_with_it(over: bytes) -> None:
    stream = b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n" + over + b"\n\ndata: c\n\n"
    for at in range(len(stream) + 1):
        decoder = Decoder(50)
        events = decoder.feed(stream[:at]) + decoder.feed(stream[at:])
        assert events[:2] == [message(b"a", "1"), message(b"b", "2")], at
        if decoder.failure is not None:
            assert events[2:] == []
            assert decoder.last_event_id == "2"
        else:  # a comment is over before it counts, unless it is cut
            assert over == b":" * 99


@pytest.mark.parametrize("line", [b"data: 1234567\n", b"data: 1234567890\n", b"data\n"])
def test_the_limit_counts_all_lines_of_an_event(line: bytes) -> None:
    with pytest.raises(TooLarge):
        decode(*[line] * 100, limit=50)


@pytest.mark.parametrize("start", [b"data: ", b": ", b"id: ", b""])
def test_a_line_without_end_is_bounded(start: bytes) -> None:
    with pytest.raises(TooLarge):
        decode(start, *[b"x" * 100] * 20, limit=1000)
    with pytest.raises(TooLarge):
        decode(start, *[b"x" * 20_000] * 6, limit=100_000)


def test_comments_without_blank_lines_add_up_to_nothing() -> None:
    decoder = Decoder(100)
    for _ in range(1000):
        assert decoder.feed(b": keep-alive\n") == []
    assert decoder.feed(b"data: x\n\n") == [message(b"x")]
