"""What a server answers in HTTP: heads and bodies, codings, addresses, dates, cookies."""

from __future__ import annotations

import re
import warnings
import zlib

import h11
import httpx

from mcp_stdio.errors import BadAnswer, UsageFailure
from mcp_stdio.http import Head, Headers, Request, content, redirects
from mcp_stdio.http.cookies import Cookies
from mcp_stdio.http.request_head import request_head
from mcp_stdio.http.url import Url, secrets_in, user_information
from mcp_stdio.retry import parse_retry_after
from tests.fuzz.target import Material, as_text, pieces, target
from tests.http.test_against_h11 import CHUNKED, compare
from tests.http.test_content import CODINGS, PLAIN

URL = Url.parse("https://mcp.example.com:8443/a/mcp?q=1")
NOW = 1_800_000_000.0


# Responses


@target(
    b"\0\0\0" + CHUNKED + b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
    b"\x01\x09\x01HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nX: a\r\n b\r\n\r\nhello",
    b"\0\0\0HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
    b"\0\0\0HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nhi",
    b"\x02\0\0HTTP/1.0 404\nConnection: close\n\nrest",
    b"\0\x20\0HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\nSet-Cookie: a\r\nX: b\r\n\r\n",
    words=(
        *(b"HTTP/1.1 200 OK\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"\r\n"),
        *(b"\r\n\r\n", b"\n", b"\r", b"0\r\n\r\n", b"5\r\nhello\r\n", b";", b"\0", b"\t", b": "),
        *(b"Connection: close\r\n", b"\r\n ", b"HTTP/1.0 ", b"101", b"204", b"304", b"\xff", b","),
    ),
)
def response(data: bytes) -> None:
    """Means to us what it means to h11, or is refused for a reason that has a name."""
    material = Material(data)
    method = ("GET", "POST", "HEAD")[material.number(2)]
    size, ends = material.number(40), material.flag()
    said = material.rest
    if not said:
        return
    whole = compare(method, said, ends=ends)
    in_pieces = compare(method, said, range(0, len(said), size or len(said)), ends=ends)
    bytewise = compare(method, said, range(len(said)), ends=ends)
    if whole.refused is None:
        assert in_pieces == bytewise == whole
    else:
        # What is wrong may be seen sooner or later, and called otherwise.
        assert (in_pieces.refused, bytewise.refused) != (None, None)


@target(
    b"\0\0" + CODINGS["gzip"](PLAIN) + CODINGS["gzip"](b"two"),
    b"\x01\x07" + CODINGS["deflate"](PLAIN),
    b"\x01\0" + CODINGS["Deflate"](PLAIN) + b"padding",
    b"\0\x03" + CODINGS["gzip"](bytes(400_000)),
    words=(b"\x1f\x8b\x08", b"\x78\x9c", b"\0\0\xff\xff", b"\x03\0"),
)
def body(data: bytes) -> None:
    """Is what zlib makes of it, in steps of a bounded size, however it arrives."""
    material = Material(data)
    is_gzip, size = not material.flag(), material.number(40)
    encoded = material.rest
    whole = inflated([encoded], is_gzip)
    assert inflated(pieces(encoded, size), is_gzip) == whole
    assert inflated(pieces(encoded, 1), is_gzip) == whole
    plain, is_complete = whole
    if is_complete and encoded:
        assert plain == by_zlib(encoded, is_gzip)


def inflated(parts: list[bytes], is_gzip: bool) -> tuple[bytes, bool | None]:
    """What is decoded, and whether that is all; None for what is damaged."""
    decoder = content.Decoder(is_gzip=is_gzip)
    plain = bytearray()
    try:
        for part in parts:
            decoder.feed(part)
            while step := decoder.step():
                assert len(step) <= content.STEP
                plain += step
                if len(plain) > 4_000_000:
                    return bytes(plain), False  # a bomb; whoever reads stops before
    except content.Malformed:
        # Up to where damage is noticed something may have come out, more or less of it.
        return b"", None
    return bytes(plain), decoder.is_complete


def by_zlib(encoded: bytes, is_gzip: bool) -> bytes:
    if not is_gzip:
        for window in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
            inflate = zlib.decompressobj(window)
            try:
                plain = inflate.decompress(encoded)
            except zlib.error:
                continue
            if inflate.eof:
                return plain
        raise AssertionError("zlib takes it for damaged")
    plain = b""
    while encoded.startswith(b"\x1f"):
        inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        plain += inflate.decompress(encoded)
        assert inflate.eof
        encoded = inflate.unused_data
    return plain


# Request heads


@target(
    b"\x04POST\x04/mcpX-Key: a secret\nAccept: a/b",
    b"\x03GET\x05/a?b=X: \xc3\xa9\nY:\xff",
    words=(b"\r\n", b"\n", b"\r", b": ", b"\0", b"\x0b", b"\x85", b"Host: x", b"Content-Length: 0"),
)
def head(data: bytes) -> None:
    """What is sent is one request, with the headers that were given and no others."""
    material = Material(data)
    method, path = as_text(material.part()), as_text(material.part())
    given = tuple(
        (name, value.removeprefix(" "))
        for name, _, value in (line.partition(":") for line in material.text().split("\n"))
    )
    url = Url("http", "example.org", 80, path)
    try:
        said = request_head(Request(method, url, given, b"{}"))
    except (UsageFailure, UnicodeEncodeError):
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(said + b"{}")
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method.decode(), request.target.decode()) == (method, path)
    names = [name for name, _ in request.headers]
    assert len(names) == said.count(b"\r\n") - 2 == said.count(b"\n") - 2 == said.count(b"\r") - 2
    expected = [name.lower().encode() for name, _ in given]
    assert [name for name in names if name in expected] == expected
    assert names.count(b"host") == names.count(b"content-length") == 1
    assert isinstance(server.next_event(), h11.Data)


# Addresses


def as_address(text: str) -> Url | None:
    try:
        return Url.parse(text)
    except ValueError as exc:
        assert str(exc).startswith("it")
        return None


@target(
    b"https://user:pa%20ss@Example.COM:8443/a%2Fb/../c?d=e&f#g",
    b"http://[::1]:80//x",
    b"http://127.0.0.1021",
    b"http://a,b!c/",
    "http://b\u00fccher.example/\u00e9?\u00e9".encode(),
    b"//other.example/x",
    words=(
        *(b"http://", b"https://", b"//", b"@", b":", b"[", b"]", b"%", b"?", b"#", b"\\", b"/.."),
        *(b"::1", b"127.0.0.1", b"0x7f.1", b"localhost", b".", b":443", b"\xe3\x80\x82", b"%2e"),
        *(b"\xef\xbc\x8f", b"\xe2\x84\xaa", b"xn--", b"\xcc\x80", b"\xc2\xad", b";", b"..", b"%25"),
    ),
)
def address(data: bytes) -> None:
    """A URL is refused, or means the same to everybody who reads it on its way."""
    text = as_text(data)
    url = as_address(text)
    if url is not None:
        spelled = str(url)
        assert Url.parse(spelled) == url
        assert spelled.isascii()
        assert re.fullmatch("[a-z0-9._~-]+|[a-f0-9:.]+", url.host)
        assert spelled.isprintable()
        assert " " not in spelled
        assert request_head(Request("GET", url)).startswith(
            b"GET %b HTTP/1.1\r\n" % url.target.encode()
        )
        _is_the_same_to_httpx(url)
        assert url.public.startswith(f"{url.scheme}://{url.authority}/")
        assert "?" not in url.public
        user_information(text)
        list(secrets_in(text))
    where = Head(307, Headers([(b"Location", text.encode("utf-8", "surrogateescape"))]))
    try:
        target = redirects.target(URL, where, 0)
    except BadAnswer as exc:
        assert str(exc).isprintable()
        return
    assert target.origin == URL.origin
    assert as_address(str(target)) == target


def _is_the_same_to_httpx(url: Url) -> None:
    """The other lane, and the proxy that it may ask, go where this one would, or nowhere."""
    try:
        other = httpx.URL(str(url))
    except httpx.InvalidURL:
        # It takes four groups of digits for an IPv4 address, whatever is between them.
        assert re.fullmatch("[0-9]+.[0-9]+.[0-9]+.[0-9]+", url.host)
        return
    assert (other.scheme, other.raw_host.decode()) == (url.scheme, url.host)
    assert (other.port or url.port) == url.port
    assert other.raw_path == url.target.encode()
    assert not other.userinfo


# Single headers


@target(
    b"120",
    b"Thu, 15 Jan 2026 12:00:30 GMT",
    b"Thursday, 15-Jan-26 12:00:30 GMT",
    b"Thu Jan 15 12:00:30 2026",
    words=(
        *(b"Thu, ", b"Jan", b"2026", b"12:00:30", b"GMT", b"-0800", b"99999999999", b"-", b"+"),
        *(b" ", b":", b".", b"0", b"EST", b"\xd9\xa3", b",", b"1e9"),
    ),
)
def retry_after(data: bytes) -> None:
    """Is a number of seconds, not negative, or nothing."""
    for text in (as_text(data), data.decode("latin-1")):
        seconds = parse_retry_after(text, NOW)
        assert seconds is None or 0 <= seconds < float("inf")


@target(
    b"a=1; Path=/; HttpOnly",
    b'a=1; Max-Age=10; Secure\nb="c d"; Version=1; Path=/a; Port="8443"',
    b"a=1; Expires=Thu, 01 Jan 2099 00:00:00 GMT; Domain=example.com\na=; Max-Age=0",
    words=(
        *(b"; ", b";", b"=", b"\n", b"Path=/", b"Domain=", b"Domain=mcp.example.com", b"Max-Age="),
        *(b"Expires=", b"Thu, 01-Jan-70 00:00:00 GMT", b"Version=1", b"Port", b"Secure", b'"'),
        *(b"\\", b"\xa0", b"\xff", b"\x01", b"\x1f", b"\t", b",", b"Discard", b"Comment=", b"$"),
    ),
)
def cookies(data: bytes) -> None:
    """Whatever a server sets, what goes back can be sent, in one header, to nobody else."""
    jar = Cookies()
    # What HTTP lets through: no line is longer than one.
    lines = [re.sub(rb"[\0\r\v\f]", b"", line).strip(b" \t") for line in data.split(b"\n")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jar.store(URL, Headers((b"Set-Cookie", line) for line in lines))
        value = jar.header(URL)
    if value is not None:
        said = request_head(Request("GET", URL, (("Cookie", value),)))
        assert said.count(b"\n") == 6
        assert b"\r\nCookie: " in said
    for elsewhere in ("https://mcp.example.com/a/mcp", "https://other.example:8443/a/mcp"):
        assert jar.header(Url.parse(elsewhere)) is None
