"""Our own HTTP/1.1 framing beside h11's: the same responses and request heads given to both.

Responses are put together by a grammar, damaged at random places, and cut at random places. Where
both accept one, status, headers, body, its end and what may follow it are the same; where h11
refuses one, we do. What we refuse and h11 accepts is named in `STRICTER`.
`MCP_STDIO_LONG=1` in the environment asks for twenty times as many.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import h11
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from mcp_stdio.errors import UsageFailure
from mcp_stdio.http import Request
from mcp_stdio.http.fields import fields
from mcp_stdio.http.request_head import request_head
from mcp_stdio.http.response import MAX_CHUNK_LINE, MAX_HEAD_SIZE, Response
from mcp_stdio.http.url import Url
from tests.http.test_connection import FRAMINGS

IS_LONG = os.environ.get("MCP_STDIO_LONG") == "1"

many = settings(
    max_examples=20_000 if IS_LONG else 1000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Outcome:
    """What a reader makes of the bytes of a response.

    `refused` is why it refuses them, `is_whole` whether they are all of a response,
    `is_followed` whether another may come on the same connection.
    """

    status: int | None = None
    headers: Pairs | None = None
    body: bytes = b""
    is_whole: bool = False
    is_followed: bool = False
    refused: str | None = None


def of_h11(method: str, pieces: Iterable[bytes], *, ends: bool) -> Outcome:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_SIZE)
    http.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    http.send(h11.EndOfMessage())
    head: h11.Response | None = None
    body = b""
    is_whole = False
    for piece in [*pieces, b""] if ends else pieces:
        if is_whole and not piece:
            break  # nobody reads on; that the server has hung up is seen before the next use
        http.receive_data(piece)
        while not is_whole:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as exc:
                if not piece:
                    break  # all that was read before had been understood
                return Outcome(refused=str(exc))
            if event is h11.NEED_DATA:
                break
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                is_whole = not isinstance(event, h11.InformationalResponse)
    is_followed = http.states == {
        h11.CLIENT: h11.DONE,
        h11.SERVER: h11.DONE,
    } and http.trailing_data == (b"", False)
    if head is None:
        return Outcome()
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
    return Outcome(head.status_code, headers, body, is_whole, is_followed)


def of_ours(method: str, pieces: Iterable[bytes], *, ends: bool) -> Outcome:
    response = Response(method)
    body = b""
    for piece in pieces:
        body += response.receive(piece)
        if response.failure is not None:
            return Outcome(refused=response.failure)
    if ends:
        response.end()
    head = response.head
    if head is None:
        return Outcome()
    headers = list(head.headers.combined().items())
    is_whole = response.is_complete
    return Outcome(head.status, headers, body, is_whole, is_whole and response.keeps_open)


STRICTER: dict[str, Callable[[bytes], object]] = {
    # Another major version is another protocol (RFC 9112 2.3); h11 takes any digit.
    "its status line is none of HTTP/1.1": re.compile(rb"(?:\A|\n)HTTP/[02-9]").search,
    # Known after the first byte; h11 waits for a whole head.
    "it begins without a status line": lambda said: True,
    # h11 looks at nothing in a chunk's extensions, nor at how long they are, and waits for more
    # where a line feed comes without its carriage return.
    "a chunk begins without its size": lambda said: (
        re.search(rb";[^\n]*(?:\0|\r[^\n])|[^\r]\n", said) or len(said) > MAX_CHUNK_LINE
    ),
    # h11 measures only what it cannot make a head of.
    f"its head is longer than {MAX_HEAD_SIZE} bytes": lambda said: len(said) > MAX_HEAD_SIZE,
    f"its trailers are longer than {MAX_HEAD_SIZE} bytes": lambda said: len(said) > MAX_HEAD_SIZE,
}
"""Why we refuse what h11 accepts, or waits for more of, and what the bytes are like then."""


def compare(method: str, said: bytes, cuts: Iterable[int] = (), *, ends: bool = True) -> Outcome:
    """What both make of it; fails where they differ without a name for it. Gives our own."""
    edges = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
    pieces = [said[start:end] for start, end in pairwise(edges) if start < end]
    theirs = of_h11(method, pieces, ends=ends)
    ours = of_ours(method, pieces, ends=ends)
    if ours.refused is not None:
        if theirs.refused is None:
            assert STRICTER[ours.refused](said), theirs
        return ours
    assert theirs.refused is None, ours
    assert (ours.status, ours.body, ours.is_whole) == (theirs.status, theirs.body, theirs.is_whole)
    assert plain(ours.headers) == plain(theirs.headers)
    if ours.is_followed is not theirs.is_followed:
        # A length besides chunks is void, and a sign of someone reading otherwise (RFC 9112 6.3).
        names = {name for name, _ in ours.headers or ()}
        assert theirs.is_followed
        assert names >= {"content-length", "transfer-encoding"}
    return ours


def plain(headers: Pairs | None) -> dict[str, str] | None:
    """Each header once. (h11 rewrites the two that frame the body.)"""
    if headers is None:
        return None
    found: dict[str, str] = {}
    for name, value in headers:
        if name not in ("content-length", "transfer-encoding"):
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


# Responses


def glued(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


def mostly(usual: bytes, *others: bytes) -> st.SearchStrategy[bytes]:
    # A response has many parts, and one odd one is enough to end the reading.
    return st.sampled_from([usual] * 20 * len(others) + list(others))


EOL = mostly(b"\r\n", b"\n", b"\r", b"\n\r", b"\r\r\n", b"")
SPACE = mostly(b" ", b"", b"\t", b"  ", b" \t ", b"\r\n ", b"\n\t", b"\x0b")
WORDS = mostly(b"a", b"a b", b"\x80\xff", b"a\x01b", b"a\0b", b"", b"a:b", b'"a\\"b"')
STATUS = glued(
    mostly(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1"),
    mostly(b" ", b"  ", b"\t", b""),
    mostly(b"200", b"204", b"304", b"404", b"999", b"099", b"000", b"101", b"20", b"2000", b"x00"),
    mostly(b" OK", b"", b" ", b" a b\tc", b"\tOK", b" \xff", b" a\0", b" a\x0c", b"OK"),
    EOL,
)
EARLY = st.sampled_from(
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103\r\nLink: x\r\n\r\n",
        b"HTTP/1.1 101 S\r\n\r\n",
    ]
)
NUMBER = st.one_of(
    st.integers(0, 40).map(lambda size: b"%d" % size),
    st.sampled_from(
        [b"5, 5", b"5,6", b"05", b"+5", b"-1", b"", b"5 5", b"0x5", b"\xb2", b"9" * 20, b"9" * 21]
    ),
)
LENGTH = glued(
    mostly(b"Content-Length", b"content-LENGTH"), mostly(b":", b" :"), SPACE, NUMBER, SPACE
)
CODING = glued(
    mostly(b"Transfer-Encoding", b"transfer-encoding"),
    mostly(b": ", b":", b":\r\n "),
    mostly(b"chunked", b"Chunked", b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity"),
    SPACE,
)
CONNECTION = glued(
    mostly(b"Connection: ", b"CONNECTION:"),
    st.sampled_from([b"close", b"keep-alive", b"Keep-Alive, CLOSE", b"close,", b"closed", b""]),
)
OTHER = glued(
    mostly(b"X", b"x-y", b"", b"a b", b"a\0", b"\xff", b"(a)"), mostly(b":", b""), SPACE, WORDS
)
FRAMING = st.one_of(
    st.lists(CODING, min_size=1, max_size=1),
    st.lists(LENGTH, min_size=1, max_size=1),
    st.lists(st.one_of(LENGTH, CODING), max_size=3),
)
FIELDS = st.tuples(st.lists(st.one_of(OTHER, CONNECTION), max_size=2), FRAMING).map(
    lambda lists: [*lists[0], *lists[1]]
)
CHUNK_DATA = st.one_of(
    st.binary(min_size=1, max_size=20),
    st.sampled_from([b"\r\n", b"0\r\n\r\n", b"\n\n", b"a" * 300]),
)
CHUNK_TAIL = mostly(
    b"", b";a=b", b" ", b" ;a", b";a\rb", b";a\0", b";a\nb", b";" * 9, b"; \t", b"\t"
)


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    said = b""
    for data in draw(st.lists(CHUNK_DATA, max_size=4)):
        size = draw(st.sampled_from([b"%x", b"%X", b"000%x"])) % len(data)
        said += size + draw(CHUNK_TAIL) + draw(mostly(b"\r\n", b"\n", b"\r"))
        said += data + draw(mostly(b"\r\n", b"\n", b"", b"\r", b"a\r\n"))
    said += draw(mostly(b"0", b"00", b"0" * 20, b"0" * 21, b"", b"-0", b"0x0", b"0_0")) + b"\r\n"
    for field in draw(st.one_of(st.just([]), FIELDS)):
        said += field + draw(EOL)
    return said + draw(mostly(b"\r\n", b"\n", b""))


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    said = b"".join(draw(st.lists(EARLY, max_size=2))) if draw(st.integers(0, 9)) == 9 else b""
    said += draw(STATUS)
    fields = draw(FIELDS)
    for field in fields:
        said += field + draw(EOL)
    said += draw(mostly(b"\r\n", b"\n", b"\r", b" \r\n"))
    is_chunked = any(b"hunked" in field for field in fields)
    said += draw(chunks() if is_chunked else st.binary(max_size=45))
    said += draw(mostly(b"", b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(said)))
        gone = draw(st.integers(0, 2))
        new = draw(
            st.sampled_from([b"", b"\r", b"\n", b"\0", b" ", b":", b"0", b"\xff", b",", b";"])
        )
        said = said[:at] + new + said[at + gone :]
    return said


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

CUTS = st.lists(st.integers(0, 400), max_size=8)


@many
@given(st.sampled_from(["GET", "POST", "HEAD"]), responses(), CUTS, st.booleans())
@example("GET", CHUNKED + b"2\r\nhi\r\n0\r\0\n", [], False)
def test_a_response_means_the_same_to_both(
    method: str, said: bytes, cuts: list[int], ends: bool
) -> None:
    assume(said)
    compare(method, said, cuts, ends=ends)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_response_means_the_same_to_both_wherever_it_is_cut(framing: str) -> None:
    said, body, is_reusable = FRAMINGS[framing]
    whole = compare("POST", said)
    assert (whole.body, whole.is_whole, whole.is_followed) == (body, True, is_reusable)
    for at in range(1, len(said)):
        assert compare("POST", said, [at]) == whole
        compare("POST", said[:at])
        compare("POST", said[:at], ends=False)
    assert compare("POST", said, range(len(said))) == whole


@many
@given(st.lists(CHUNK_DATA, max_size=30), CUTS, st.booleans())
def test_chunks_are_put_together_again(parts: list[bytes], cuts: list[int], trailer: bool) -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    said += b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    said += b"0\r\nA: b\r\n\r\n" if trailer else b"0\r\n\r\n"
    outcome = compare("POST", said, cuts, ends=False)
    assert (outcome.body, outcome.is_whole, outcome.is_followed) == (b"".join(parts), True, True)


# Request heads

HEADER = st.tuples(
    st.one_of(
        st.sampled_from(["X-A", "accept", "", "a b", "a:", "é", "Host", "Content-Length", "\0"]),
        st.text(st.characters(codec="latin-1"), max_size=5),
    ),
    st.one_of(
        st.sampled_from(["a", "a b", " a", "a ", "", "a\r\nX: y", "a\n", "a\0", "\t", "\x0b", "é"]),
        st.sampled_from(["\udcff", "\x01", "a\tb", "\x7f", "chunked", "2", "close"]),
        st.text(st.characters(codec="latin-1"), max_size=8),
    ),
)


@many
@given(
    st.one_of(st.sampled_from(["GET", "POST", "DELETE", "P T", ""]), st.text("AZ !\n", max_size=3)),
    st.one_of(st.sampled_from(["/", "/a?b=%20c", "", "/a b", "/\r\n", "*"]), st.text("/a \t\né")),
    st.lists(HEADER, max_size=4),
    st.sampled_from([b"", b"{}", b"a" * 100_000]),
)
@example("POST", "/mcp", [("Authorization", "Bearer secret"), ("Accept", "a/b, c/d")], b"{}")
def test_a_request_head_is_what_h11_makes_of_it(
    method: str, target: str, headers: Pairs, body: bytes
) -> None:
    url = Url("http", "example.org", 80, target)
    try:
        event = h11.Request(
            method=method,
            target=target,
            headers=fields(method, url, headers, len(body)),
        )
        theirs = h11.Connection(h11.CLIENT).send(event)
    except (h11.LocalProtocolError, UnicodeEncodeError):
        theirs = None
    try:
        ours = request_head(Request(method, url, tuple(headers), body))
    except UsageFailure:
        # Those that frame a request or name its server are ours alone.
        names = {name.lower() for name, _ in headers}
        assert theirs is None or names & {"content-length", "transfer-encoding", "connection"}
    else:
        assert ours == theirs
