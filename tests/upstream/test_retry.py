"""What is sent again, when, and how often (T-45, design: retries and failures)."""

from __future__ import annotations

import calendar
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio.retry import (
    FIRST_DELAY,
    LONGEST_RETRY_AFTER,
    Backoff,
    Event,
    Retries,
    event_of_status,
    parse_retry_after,
)

NOW = float(calendar.timegm((2026, 1, 15, 12, 0, 0)))


def delays(
    event: Event,
    *,
    is_safe: bool,
    remaining: float = 1000.0,
    retry_after: float | None = None,
    jitter: float = 0.0,
) -> list[float]:
    """The delays until there must be no further attempt."""
    retries = Retries(is_safe=is_safe)
    found: list[float] = []
    while (
        delay := retries.delay(event, remaining=remaining, jitter=jitter, retry_after=retry_after)
    ) is not None:
        found.append(delay)
        assert len(found) < 10
    return found


@pytest.mark.parametrize(
    "event, safe, unsafe",
    [
        (Event.NOT_SENT, [0.5, 1.0, 2.0], [0.5, 1.0, 2.0]),
        (Event.LOST, [0.0], []),
        (Event.BROKEN, [0.0], []),
        (Event.RATE_LIMITED, [0.5, 1.0, 2.0], [0.5, 1.0, 2.0]),
        (Event.UNAVAILABLE, [0.5, 1.0, 2.0], [0.5, 1.0, 2.0]),
        (Event.TRANSIENT, [0.5, 1.0, 2.0], []),
    ],
)
def test_every_row_of_the_table(event: Event, safe: list[float], unsafe: list[float]) -> None:
    assert delays(event, is_safe=True) == safe
    assert delays(event, is_safe=False) == unsafe


def test_the_table_has_no_further_row() -> None:
    assert len(Event) == 6


def test_each_kind_of_event_is_counted_by_itself() -> None:
    retries = Retries(is_safe=True)
    for event in Event:
        assert retries.delay(event, remaining=1000.0, jitter=0.0) is not None


@given(st.floats(0, 1, exclude_max=True))
def test_jitter_only_lengthens(jitter: float) -> None:
    for delay, plain in zip(
        delays(Event.NOT_SENT, is_safe=False, jitter=jitter), [0.5, 1.0, 2.0], strict=True
    ):
        assert plain <= delay <= 1.5 * plain


def test_retry_after_is_a_minimum() -> None:
    assert delays(Event.RATE_LIMITED, is_safe=False, retry_after=1.5) == [1.5, 1.5, 2.0]
    assert delays(Event.UNAVAILABLE, is_safe=False, retry_after=0.0) == [0.5, 1.0, 2.0]


def test_retry_after_up_to_a_minute_is_waited_out() -> None:
    longest = LONGEST_RETRY_AFTER
    assert delays(Event.RATE_LIMITED, is_safe=False, retry_after=longest) == [longest] * 3
    assert delays(Event.RATE_LIMITED, is_safe=False, retry_after=longest + 1) == []


def test_a_delay_beyond_the_time_of_the_request_is_not_begun() -> None:
    assert delays(Event.RATE_LIMITED, is_safe=False, retry_after=20.0, remaining=19.0) == []
    assert delays(Event.NOT_SENT, is_safe=False, remaining=FIRST_DELAY) == [FIRST_DELAY]
    assert delays(Event.NOT_SENT, is_safe=False, remaining=FIRST_DELAY / 2) == []


@pytest.mark.parametrize(
    "status, retry_after, event",
    [
        (429, None, Event.RATE_LIMITED),
        (429, 3.0, Event.RATE_LIMITED),
        (503, 3.0, Event.UNAVAILABLE),
        (503, 0.0, Event.UNAVAILABLE),
        (503, None, Event.TRANSIENT),
        (408, None, Event.TRANSIENT),
        (425, None, Event.TRANSIENT),
        (502, 3.0, Event.TRANSIENT),
        (504, None, Event.TRANSIENT),
        *((status, 3.0, None) for status in (400, 401, 403, 404, 405, 409, 413, 500, 501, 505)),
    ],
)
def test_the_row_of_a_status(status: int, retry_after: float | None, event: Event | None) -> None:
    assert event_of_status(status, retry_after) is event


@pytest.mark.parametrize(
    "value, seconds",
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Thu, 15 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 15 Jan 2026 11:00:00 GMT", 0.0),
        ("Thursday, 15-Jan-26 12:00:30 GMT", 30.0),
        ("Thu Jan 15 12:00:30 2026", 30.0),
        ("Thu, 99 Zog 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_in_seconds_and_in_the_three_forms_of_a_date(
    value: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="a time zone cannot be set here")
def test_a_date_without_zone_is_not_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_retry_after("Thu Jan 15 12:00:30 2026", NOW) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_long_row_of_digits_is_a_long_time() -> None:
    seconds = parse_retry_after("9" * 5000, NOW)
    assert seconds is not None
    assert seconds > LONGEST_RETRY_AFTER


@given(st.text())
def test_no_header_is_too_odd(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0


@given(st.integers(-(10**9), 4 * 10**9))
def test_a_date_is_read_as_it_is_written(ahead: int) -> None:
    written = formatdate(NOW + ahead, usegmt=True)
    assert parse_retry_after(written, NOW) == max(0.0, ahead)


def test_pauses_of_a_stream_grow_to_half_a_minute() -> None:
    backoff = Backoff()
    pauses = [backoff.delay(asked=None, jitter=0.0) for _ in range(8)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    backoff.reset()
    assert backoff.delay(asked=None, jitter=0.0) == 1.0


def test_what_the_server_asks_for_is_a_minimum_that_grows_while_nothing_comes() -> None:
    backoff = Backoff()
    assert [backoff.delay(asked=0.5, jitter=0.0) for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]
    backoff.reset()
    assert [backoff.delay(asked=0.5, jitter=0.0) for _ in range(2)] == [0.5, 1.0]
    backoff.reset()
    assert [backoff.delay(asked=50.0, jitter=0.0) for _ in range(9)] == [50.0] * 9


def test_a_server_that_asks_for_no_pause_gets_a_short_one() -> None:
    assert Backoff().delay(asked=0.0, jitter=0.0) == Backoff.SHORTEST


@given(st.floats(0, 1, exclude_max=True), st.one_of(st.none(), st.floats(0, 100)))
def test_jitter_never_shortens_what_was_asked(jitter: float, asked: float | None) -> None:
    pause = Backoff().delay(asked=asked, jitter=jitter)
    assert pause >= (asked or 0.0)


def test_a_stream_that_is_away_for_a_week() -> None:
    backoff = Backoff()
    for _ in range(20_000):
        assert backoff.delay(asked=None, jitter=0.0) <= Backoff.LONGEST
