"""What `-vv` tells of an exchange, and what it does not."""

from __future__ import annotations

import logging
import re

import pytest
from trio.testing import MockClock

from mcp_stdio import log
from mcp_stdio.errors import ConnectionLost, RelayError, Unreachable
from mcp_stdio.http import Request
from mcp_stdio.http.authorizer import Fixed
from mcp_stdio.http.client import Client, ClientExchange
from mcp_stdio.http.url import Url
from mcp_stdio.log import Formatter
from tests.http.fakes import Answer, FakeLane

URL = Url.parse("https://mcp.example.com/mcp?key=hidden-in-query")
SECRET = "tr4ced-s3cret-value"
USER = (("Authorization", f"Bearer {SECRET}"), ("X-Whatever", "anything"))
ACCEPT = ("Accept", "application/json")
JSON = ("Content-Type", "application/json")
EVENTS = ("Content-Type", "text/event-stream")


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines, filled once `exchange` is over."""
    caplog.set_level(log.WIRE, "mcp_stdio")
    return []


async def exchange(
    told: list[str],
    caplog: pytest.LogCaptureFixture,
    answer: Answer | Exception,
    body: bytes = b"{}",
) -> None:
    """Send a request and read its answer to the end; without the number that begins each line."""
    log.protect(SECRET)
    client = Client(FakeLane(answer), origin=URL.origin, authorizer=Fixed(USER))
    try:
        sent = await client.send(Request("POST", URL, (ACCEPT,), body))
        try:
            await sent.head()
            while await sent.receive_some():
                pass
        finally:
            await sent.aclose()
    except RelayError:
        pass
    form = Formatter("%(message)s")
    lines = [form.format(record) for record in caplog.records]
    told += [re.sub(r"^#\d+ ", "", line) for line in lines]


async def test_an_exchange_is_told_line_by_line(
    told: list[str], caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    answer = Answer(200, [JSON, ("Set-Cookie", "a=b"), ("X-Odd", "c")], [b'{"a":', b"1}"])
    await exchange(told, caplog, answer, b'{"method":"ping"}')
    assert told == [
        '> POST https://mcp.example.com/mcp, 17 bytes: {"method":"ping"}',
        "> Authorization: ***",
        "> X-Whatever: ***",
        "> Accept: application/json",
        "< 200 after 0.0 ms",
        "< content-type: application/json",
        "< set-cookie: ***",
        "< x-odd: ***",
        '< the end after 0.0 ms, 7 bytes: {"a":1}',
    ]


async def test_a_stream_is_told_event_by_event(
    told: list[str], caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    body = [b"event: message\nid: 7\ndata: {\ndata: }\n", b"\ndata: two\n\n", b"data: half"]
    await exchange(told, caplog, Answer(200, [EVENTS], body))
    assert told[-3:] == [
        "< event message, id 7, 3 bytes: {\\n}",
        "< event message, id 7, 3 bytes: two",
        "< the end after 0.0 ms, 59 bytes",
    ]


async def test_what_fails_is_told(
    told: list[str], caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    await exchange(told, caplog, Unreachable("no way", hint="look"))
    await exchange(told, caplog, Answer(200, [JSON], [b"{"], ConnectionLost("it broke off")))
    assert "< failed after 0.0 ms: no way" in told
    assert "< the body failed: it broke off" in told


CUT = [SECRET[: len(SECRET) // 2].encode(), SECRET[len(SECRET) // 2 :].encode()]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, [JSON], [b'{"a":"', *CUT, b'"}']),
        Answer(200, [EVENTS], [b"data: ", *CUT, b"\n\n"]),
        Answer(200, [("Content-Type", "text/html")], [b"x" * 490, *CUT]),
        Answer(200, [JSON], [b"x" * 100, CUT[0]], ConnectionLost("it broke off")),
        Answer(200, [JSON, ("Location", f"https://a.example/{SECRET}?code={SECRET}")]),
        Answer(401, [("WWW-Authenticate", f'Bearer error_description="{SECRET}"')]),
    ],
    ids=["json", "events", "where it is cut", "broken off", "location", "challenge"],
)
async def test_no_part_of_a_secret_is_told(
    told: list[str], caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    await exchange(told, caplog, answer, f'{{"token":"{SECRET}"}}'.encode())
    assert len(told) > 4
    for line in told:
        assert "hidden-in-query" not in line
        for start in range(len(SECRET) - 6):
            assert SECRET[start : start + 6] not in line


async def test_a_long_body_is_cut_and_stays_one_line(
    told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    await exchange(told, caplog, Answer(200, [JSON], [b"a\n\x1b[2J" * 100_000]), b"x" * 100_000)
    assert all(line.isprintable() and len(line) < 2500 for line in told)
    assert told[-1].endswith("…")


async def test_who_does_not_ask_is_told_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_stdio")
    client = Client(FakeLane(), origin=URL.origin)
    sent = await client.send(Request("POST", URL))
    assert type(sent) is ClientExchange
    await sent.head()
    await sent.aclose()
    assert caplog.records == []
