"""Responses as bytes (RFC 9112): what is refused and why, the bounds, what may follow."""

from __future__ import annotations

import pytest

from mcp_stdio.http.response import MAX_CHUNK_LINE, MAX_HEAD_SIZE, Response

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 2\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*pieces: bytes, method: str = "POST") -> tuple[Response, bytes]:
    response = Response(method)
    body = b""
    for piece in pieces:
        body += response.receive(piece)
        if response.failure is not None:
            break
    return response, body


def every_way(said: bytes) -> tuple[Response, bytes]:
    """The whole at once, having checked that it means the same however it is cut."""
    whole, body = read(said)
    outcome = (whole.is_complete, whole.keeps_open, whole.failure, body)
    for at in range(1, len(said)):
        cut, cut_body = read(said[:at], said[at:])
        assert (cut.is_complete, cut.keeps_open, cut.failure, cut_body) == outcome, at
    single, single_body = read(*(said[at : at + 1] for at in range(len(said))))
    assert (single.is_complete, single.keeps_open, single.failure, single_body) == outcome
    return whole, body


@pytest.mark.parametrize(
    "said, why",
    [
        (b"HTTP/2.0 200 OK\r\n\r\n", "status line"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "status line"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 O\rK\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 O\0K\r\n\r\n", "status line"),
        (b"HTTP/1.1 200OK\r\n\r\n", "status line"),
        (b"HTTP/1.1 099 ?\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\n X: folded\r\n\r\n", "header lines"),
        (OK + b"X : y\r\n\r\n", "header lines"),
        (OK + b": y\r\n\r\n", "header lines"),
        (OK + b"X\r\n\r\n", "header lines"),
        (OK + b"X y: z\r\n\r\n", "header lines"),
        (OK + b"X: a\rb\r\n\r\n", "header lines"),
        (OK + b"X: a\0b\r\n\r\n", "header lines"),
        (OK + b"X: a\x0bb\r\n\r\n", "header lines"),
        (OK + b"X: y\r\r\n\r\n", "header lines"),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "two different Content-Lengths"),
        (OK + b"Content-Length: 1, 2\r\n\r\n", "two different Content-Lengths"),
        (OK + b"Content-Length: 02, 2\r\n\r\n", "two different Content-Lengths"),
        (OK + b"Content-Length: +1\r\n\r\n", "no number"),
        (OK + b"Content-Length: -1\r\n\r\n", "no number"),
        (OK + b"Content-Length: 1_0\r\n\r\n", "no number"),
        (OK + b"Content-Length: \xb2\r\n\r\n", "no number"),
        (OK + b"Content-Length:\r\n\r\n", "no number"),
        (OK + b"Content-Length: " + b"1" * 21 + b"\r\n\r\n", "no number"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "transfer coding"),
        (OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n", "transfer coding"),
        (OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n", "transfer coding"),
        (OK + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nab", "transfer coding"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 100\r\n\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "without a status line"),
        (b"HTTP/1.1 100\r\n\r\n<html>", "without a status line"),
        (CHUNKED + b"-1\r\n", "without its size"),
        (CHUNKED + b"0x5\r\n", "without its size"),
        (CHUNKED + b"1_0\r\n", "without its size"),
        (CHUNKED + b"+5\r\n", "without its size"),
        (CHUNKED + b" 5\r\n", "without its size"),
        (CHUNKED + b"5 ;a\r\n", "without its size"),
        (CHUNKED + b";a\r\n", "without its size"),
        (CHUNKED + b"\r\n", "without its size"),
        (CHUNKED + b"5\n12345\r\n0\r\n\r\n", "without its size"),
        (CHUNKED + b"5\n12345\n0\n\n", "without its size"),
        (CHUNKED + b"5;a\rb\r\n", "without its size"),
        (CHUNKED + b"5;a\0\r\n", "without its size"),
        (CHUNKED + b"0" * 21 + b"\r\n", "without its size"),
        (CHUNKED + b"1\r\nab\r\n", "longer than its size"),
        (CHUNKED + b"1\r\na\n0\r\n\r\n", "longer than its size"),
        (CHUNKED + b"1\r\na\rb", "longer than its size"),
        (CHUNKED + b"0\r\nno field\r\n\r\n", "header lines"),
        (CHUNKED + b"0\r\nContent-Length: x\r\n\r\n", "no number"),
    ],
)
def test_what_could_mean_two_things_is_refused(said: bytes, why: str) -> None:
    response, _ = read(said)
    assert why in (response.failure or "")
    assert not response.is_complete
    assert not response.keeps_open
    bytewise, _ = read(*(said[at : at + 1] for at in range(len(said))))
    assert bytewise.failure == response.failure


@pytest.mark.parametrize(
    "said, body",
    [
        (LENGTH + b"ok", b"ok"),
        (OK.replace(b"\r", b"") + b"Content-Length: 2\n\nok", b"ok"),
        (OK + b"Content-Length: 2\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (OK + b"Content-Length: 2, 2\r\n\r\nok", b"ok"),
        (OK + b"X: a\r\n b\r\n\tc\r\nContent-Length:\t2 \r\n\r\nok", b"ok"),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"ok"),
        (CHUNKED.upper() + b"2\r\nok\r\n0\r\n\r\n", b"ok"),
        (CHUNKED + b"2 \t\r\nok\r\n0;a=b\r\nX: y\r\n\r\n", b"ok"),
        (CHUNKED + b"00002\r\nok\r\nA\r\n0123456789\r\n0\r\n\n", b"ok0123456789"),
        (b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n" + LENGTH + b"ok", b"ok"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
    ],
)
def test_what_means_one_thing_is_read_and_another_may_follow(said: bytes, body: bytes) -> None:
    response, found = every_way(said)
    assert (response.failure, found) == (None, body)
    assert response.is_complete
    assert response.keeps_open


@pytest.mark.parametrize(
    "said",
    [
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
        OK + b"Connection: keep-alive, Close\r\nContent-Length: 2\r\n\r\nok",
        OK + b"Connection: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        # Chunks win, but something on the way may have gone by the length (RFC 9112 6.3).
        OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        LENGTH + b"ok\r\n",
        LENGTH + b"okHTTP/1.1 200 OK\r\n\r\n",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n\0",
    ],
)
def test_after_what_ends_or_blurs_the_connection_nothing_follows(said: bytes) -> None:
    response, body = every_way(said)
    assert response.failure is None
    assert (body, response.is_complete, response.keeps_open) == (b"ok", True, False)


def test_a_body_without_length_ends_with_the_stream_and_only_with_it() -> None:
    response, body = read(OK + b"\r\n", b"a", b"b")
    assert (body, response.is_complete) == (b"ab", False)
    assert response.end()
    assert response.is_complete
    assert not response.keeps_open


@pytest.mark.parametrize("said", [LENGTH + b"o", CHUNKED + b"2\r\nok\r\n", OK, OK + b"X: y\r\n"])
def test_the_end_of_the_stream_makes_nothing_else_whole(said: bytes) -> None:
    response, _ = read(said)
    assert not response.end()
    assert response.failure is None


def test_the_answer_to_a_head_request_has_no_body() -> None:
    response, body = read(LENGTH, method="HEAD")
    assert (body, response.is_complete, response.keeps_open) == (b"", True, True)


def test_headers_keep_their_order_and_values() -> None:
    response, _ = read(OK + b"A:1\r\nb: \t2 \t\r\nA: \xff\x01\r\nC:\r\nD: x\r\n  y\r\n\r\n")
    assert response.head is not None
    headers = response.head.headers
    assert headers.get_all("a") == ["1", "\xff\x01"]
    assert headers.combined() == {"a": "1, \xff\x01", "b": "2", "c": "", "d": "x y"}


def test_what_came_before_a_bad_chunk_is_given_and_nothing_after_it() -> None:
    response, body = read(CHUNKED + b"2\r\nok\r\nx\r\nbad\r\n")
    assert body == b"ok"
    assert response.failure == "a chunk begins without its size"


FIELD = b"A: " + b"b" * 95 + b"\r\n"


@pytest.mark.parametrize("start", [OK, CHUNKED + b"0\r\n"], ids=["head", "trailers"])
@pytest.mark.parametrize("size", [1000, 100_000])
def test_heads_and_trailers_are_bounded(start: bytes, size: int) -> None:
    said = start + FIELD * (MAX_HEAD_SIZE // len(FIELD) - 1) + b"\r\n"
    response, _ = read(*(said[at : at + size] for at in range(0, len(said), size)))
    assert response.failure is None
    for ending in (b"", b"\r\n"):
        endless = start + FIELD * (MAX_HEAD_SIZE // len(FIELD) + 1) + ending
        response, _ = read(*(endless[at : at + size] for at in range(0, len(endless), size)))
        assert "longer than" in (response.failure or "")


def test_the_line_of_a_chunk_is_bounded() -> None:
    response, _ = read(CHUNKED + b"2;" + b"a" * (MAX_CHUNK_LINE - 10))
    assert response.failure is None
    response, _ = read(CHUNKED + b"2;", *[b"a" * 100] * (MAX_CHUNK_LINE // 100 + 1))
    assert response.failure == "a chunk begins without its size"


@pytest.mark.parametrize("line", [b"A:" + b" " * 200_000, b"A" * 200_000, b"A: b\r" * 40_000])
def test_no_header_line_takes_more_than_its_length(line: bytes) -> None:
    # Quadratic time would be minutes here.
    response, _ = read(OK + line + b"\0\r\n\r\n")
    assert response.failure == "one of its header lines is none"


def test_a_body_is_not_copied() -> None:
    data = bytes(60_000)
    response, _ = read(OK + b"Content-Length: 120000\r\n\r\n")
    assert response.receive(data) is data
    assert response.receive(data) is data
    assert response.is_complete
    response, _ = read(CHUNKED + b"ffff\r\n")
    assert response.receive(data) is data
