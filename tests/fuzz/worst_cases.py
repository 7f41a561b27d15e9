"""Inputs that would take a parser longest if it ever looked at a part of them twice.

A case is a reader and a piece of text that is repeated until it is as long as wanted.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from mcp_stdio import jsonrpc, splice
from mcp_stdio.cli import headers as command_line
from mcp_stdio.credentials import rules
from mcp_stdio.errors import BadAnswer, RelayError, quote
from mcp_stdio.framing import Lines
from mcp_stdio.http import Head, Headers, content, redirects
from mcp_stdio.http.cookies import Cookies
from mcp_stdio.http.response import Response
from mcp_stdio.http.url import Url
from mcp_stdio.log import redact
from mcp_stdio.mirroring import Catalogue
from mcp_stdio.oauth import answers, challenge, redirect, tokens
from mcp_stdio.oauth.commands import Fetched
from mcp_stdio.redaction import Redactor
from mcp_stdio.retry import parse_retry_after
from mcp_stdio.sse import Decoder
from mcp_stdio.words import split

Reader = Callable[[bytes], object]

URL = Url.parse("https://mcp.example.com/mcp")
READ = 64 * 1024
"""Bytes of a read from a socket: what a parser of a stream is given at once."""


def in_reads(feed: Callable[[bytes], object], data: bytes) -> None:
    for at in range(0, len(data), READ):
        feed(data[at : at + READ])


def event_stream(before: bytes, data: bytes) -> None:
    in_reads(Decoder(1 << 30).feed, before + data)


def lines(before: bytes, data: bytes) -> None:
    in_reads(Lines(1 << 30).feed, before + data)


def oversized(before: bytes, data: bytes) -> None:
    in_reads(Lines(10).feed, b"x" * 11 + b"\n" + before + data)


def message(before: bytes, after: bytes, data: bytes) -> None:
    with suppress(jsonrpc.NotAMessage):
        jsonrpc.parse_many(before + data + after)


def edited(data: bytes) -> None:
    text = "{" + data.decode() + '"x":1}'
    splice.drop(text, "a")
    splice.put(text, "1", "a")
    splice.edit_members(text, lambda name, of: of)


def response(before: bytes, data: bytes) -> None:
    in_reads(Response("POST").receive, before + data)


def compressed(data: bytes) -> None:
    decoder = content.Decoder(is_gzip=True)

    def feed(part: bytes) -> None:
        decoder.feed(part)
        while decoder.step():
            pass

    with suppress(content.Malformed):
        in_reads(feed, data)


def cookies(before: bytes, data: bytes) -> None:
    jar = Cookies()
    jar.store(URL, Headers([(b"Set-Cookie", before + data)]))
    jar.header(URL)


def location(data: bytes) -> None:
    with suppress(BadAnswer):
        redirects.target(URL, Head(307, Headers([(b"Location", data)])), 0)


def address(data: bytes) -> None:
    with suppress(ValueError):
        Url.parse("https://h" + data.decode()).public  # noqa: B018 - what it takes is looked at


def token_answer(kind: str, data: bytes) -> None:
    with suppress(RelayError):
        answers.answer(Fetched(200, {"content-type": kind}, data), "https://as.example/", "read")


def pasted(data: bytes) -> None:
    with suppress(ValueError):
        redirect.pasted(data.decode())


def header_lines(data: bytes) -> None:
    with suppress(RelayError):
        rules.parse_lines("A: " + data.decode(), where="--header-file")


def expanded(data: bytes) -> None:
    with suppress(RelayError):
        command_line.expand(data.decode(), {"A": "x"}, where="-H")


def command(platform: str, data: bytes) -> None:
    with suppress(ValueError):
        list(split(data.decode(), platform))


def schema(data: bytes) -> None:
    members = {
        str(at): {"type": "string", "x-mcp-header": f"A{at}"} for at in range(len(data) // 9)
    }
    Catalogue(is_active=True).learn({"name": "x", "inputSchema": {"properties": members}})


SECRETS = [
    *("mcp-param-a!", "a.", "\\", '\\"', "?a=", "Bearer ", "'", '"token":', "://", "cookie "),
    *(
        '\\"token\\":\\"',
        "a://a@",
        "'token', 'a",
        '"cookie"  ',
        "token\t\t",
        "authorization",
        "#a=&",
    ),
]

KNOWN = Redactor()
KNOWN.protect('s3cr\\\\t "v" <\u00e9>')


CASES: dict[str, tuple[Reader, list[bytes]]] = {
    "an event's data": (
        partial(event_stream, b"data: "),
        [b"x", b"\ndata: x", b"\ndata:\r", b"\r"],
    ),
    "an event stream": (
        partial(event_stream, b""),
        [b": c\n", b"data: x\n\n", b"id\r\r", b"event: x\n", b"retry: 9", b"\n\n\r", b"data\n"],
    ),
    "lines": (partial(lines, b""), [b"x", b"\n", b"\r\n", b" \r", b"\r"]),
    "a line over the limit": (
        partial(oversized, b'{"id":'),
        [
            b"[",
            b"{",
            b'"',
            b'"a":1,',
            b"[]",
            b"[[[[]]]]",
            b'{"a":"',
            b"\\",
            b'\\"',
            b"1",
            b"]",
            b"}{",
        ],
    ),
    "a line over the limit, within": (
        partial(oversized, b'{"id":1,"params":{"a":'),
        [
            b"[",
            b"{",
            b'"',
            b"[]",
            b'{"a":"}"},',
            b"[[[[]]]]",
            b'[[[["',
            b"\\",
            b"]",
            b'{"a":[{"b":"',
        ],
    ),
    "a message": (
        partial(message, b'{"jsonrpc":"2.0","method":"m","params":{"a":"', b'"}}'),
        [b"x", b"\\\\", b"\\u00e9", b'","a":"', b'","":"' + b"x" * 999, b"\\ud83d", b'"', b"\\"],
    ),
    "a value": (
        partial(message, b'{"jsonrpc":"2.0","method":"m","params":[', b"1]}"),
        [b"[", b"[],", b"{", b"1,", b'"",', b"9", b"1.", b"-", b" ", b'{"a":', b"9" * 4400 + b","],
    ),
    "a batch": (partial(message, b"[", b"1]"), [b"1,", b"{},", b'{"jsonrpc":"2.0","method":"m"},']),
    "an object": (
        edited,
        [b'"a":1,', b'"a" : {} , ', b'"b":[[]],', b'"\\u0061":"",', b'"a":2,"b":1,'],
    ),
    "a head": (
        partial(response, b"HTTP/1.1 200 OK\r\n"),
        [b"A: b\r\n", b"A:", b"\r\n ", b" ", b"\n", b"A: b\r\n c\r\n", b"A", b"\r", b":"],
    ),
    "a length": (
        partial(response, b"HTTP/1.1 200 OK\r\nContent-Length: "),
        [b"5,", b"5", b" ", b","],
    ),
    "chunks": (
        partial(response, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        [b"1\r\nx\r\n", b"0", b"1;a\r\nx\r\n", b";", b"1 ", b"fffff\r\n"],
    ),
    "trailers": (
        partial(response, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
        [b"A: b\r\n", b"A", b"\r\n ", b" \r\n"],
    ),
    "early heads": (partial(response, b""), [b"HTTP/1.1 100 C\r\n\r\n"]),
    "a compressed body": (
        compressed,
        [gzip.compress(b""), gzip.compress(b"x"), gzip.compress(bytes(1000)), b"\x1f", b"x"],
    ),
    "a cookie": (
        partial(cookies, b"a="),
        [
            b"x",
            b";",
            b" ",
            b"; Path=/",
            b'"',
            b"\\",
            b",",
            b"; Expires=1-1-1",
            b"; Max-Age=1",
            b"= ",
        ],
    ),
    "an expiry": (
        partial(cookies, b"a=1; Expires="),
        [b"1", b" ", b"1 ", b"1-", b"Jan ", b"Thu, ", b"0:0", b"1 1 1 1 1 ", b"-1"],
    ),
    "a location": (
        location,
        [b"/", b"/..", b"../", b"?", b"#", b"//", b"@", b"[", b"%41", b"\xe9", b"."],
    ),
    "an address": (
        address,
        [b"a.", b"/", b"/..", b"/./", b"@", b":", b"[", b"?a", b"\xc3\xbc", b"a"],
    ),
    "a date": (
        lambda data: parse_retry_after(data.decode(), 0.0),
        [b"1", b" ", b"1 ", b"Jan ", b"Thu, ", b":", b"-", b"1:1:", b"+0000 ", b",", b"."],
    ),
    "a challenge": (
        lambda data: challenge.parse([data.decode()]),
        [
            b"a ",
            b"a=",
            b'"\\',
            b"\\",
            b"a",
            b", ",
            b'="',
            b"a/",
            b"a a/",
            b"a\t=",
            b"=",
            b'a="b"',
            b"A =,",
        ],
    ),
    "a token answer": (
        partial(token_answer, "application/json"),
        [b"[", b"{", b'{"a":', b"9", b'"', b" "],
    ),
    "a form": (partial(token_answer, answers.FORM), [b"a=b&", b"&", b"%", b"%4", b"+", b"=", b"a"]),
    "an ID token": (lambda data: tokens.expiry_of(data.decode()), [b".", b"a", b"a.", b"=", b"-"]),
    "a pasted redirect": (pasted, [b"a=b&", b"?", b"#", b"://", b"<", b" ", b"%", b"\n"]),
    "lines of headers": (
        header_lines,
        [b"x", b"\nA: b", b" ", b"\t", b"\n", b"\r\n", b":", b"\n#"],
    ),
    "variables": (expanded, [b"${A}", b"$${", b"${", b"$", b"}", b"${A", b"{"]),
    "a command": (partial(command, "linux"), [b"a ", b"'", b'"', b"\\", b" ", b'"a" ']),
    "a command on Windows": (
        partial(command, "win32"),
        [b"a ", b'"', b"\\", b" ", b'\\"', b'\\\\" '],
    ),
    "a schema": (schema, [b"x"]),
    "quoted text": (
        lambda data: quote(data.decode()),
        [b" ", b"x", b"\0", *map(str.encode, SECRETS)],
    ),
    "redacted text": (lambda data: redact(":='/\\ " + data.decode()), [*map(str.encode, SECRETS)]),
    "text with a known secret": (
        lambda data: KNOWN.redact(data.decode() + "s3cr"),
        [b"s3cr", b"s3cr\\\\t ", b"\\", b"s3cr\\", b"%255c", b"&amp;#", b"s3cr%25", b"&#00"],
    ),
    "an error of ours": (
        lambda data: jsonrpc.failure(1, BadAnswer(data.decode())),
        [*map(str.encode, SECRETS)],
    ),
    "JSON in JSON": (
        lambda data: redact(json.dumps(json.dumps(data.decode()))),
        [b'"token":"', b"\\"],
    ),
}
