"""Bytes to messages: event streams, lines, JSON-RPC, and text that is edited in place."""

from __future__ import annotations

import base64
import itertools
import json
import re
from typing import Any

from mcp_stdio import jsonrpc, mirroring, routing, splice
from mcp_stdio.errors import TooDeep, Unsendable
from mcp_stdio.framing import BYTE_ORDER_MARK, Lines, Oversized
from mcp_stdio.http import Request
from mcp_stdio.http.request_head import request_head
from mcp_stdio.http.url import Url
from mcp_stdio.jsonrpc import Kind, Message, NotAMessage
from mcp_stdio.outline import outline
from mcp_stdio.scanner import MAX_MEMBER
from mcp_stdio.splice import Endless
from mcp_stdio.sse import Decoder, Event
from tests.core.test_outline import is_json_object, is_outline_of
from tests.core.test_sse import reference
from tests.fuzz.target import Material, pieces, target

URL = Url.parse("https://example.com/mcp")

MESSAGES = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\\u00e9","x":[1.0,1e400]}}',
    b' { "id" : "a" , "result" : null, "error":{"code":-1,"message":"m"}, "jsonrpc":"2.0" }\r\n',
    b'[{"jsonrpc":"2.0","method":"n"},{"id":2},17,[]]',
    b'{"jsonrpc":"2.0","id":true,"method":"m"}',
    b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"m"}}',
    b'{"jsonrpc":"2.0","id":1.0,"method":"m"}',
    b'{"jsonrpc":"2.0","id":null,"result":{},"error":null}',
    b'{"a":1,"b":{"a":2,"\\u0061":3},"a":[],"c":"\\ud800"}',
)
JSON_WORDS = (
    *(b'"jsonrpc":"2.0"', b'"id":', b'"method":"m"', b'"params":{', b'"result":', b'"error":'),
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\u0069d", b"\\ud83d\\ude00", b"\\", b"\xff"),
    *(b"null", b"true", b"1e400", b"-0", b"NaN", b"-Infinity", b"9" * 99, b"\r\n", b"\n", b" "),
    b"\xe2\x80\xa8",
)


# Event streams


def read_events(parts: list[bytes], limit: int) -> tuple[list[Event], str, int | None, bool]:
    """What is decoded, and whether all of it could be."""
    decoder = Decoder(limit)
    events = [event for part in parts for event in decoder.feed(part)]
    return events, decoder.last_event_id, decoder.retry, decoder.failure is None


@target(
    b"\x00data: x\r\n\r\nid: 1\rdata\ndata:y\n\n",
    b"\0\3data: x\n\ndata: 12345\n\ndata: y\n\n",
    b"\x01\x3bdata: x\r\ndata: y\r\n\r\nid: a\0b\ndata: z\n\n",
    b"\x03\xef\xbb\xbfevent: message\ndata: {}\n\nid\nretry: 15\n: c\n\n",
    words=(
        *(b"data: ", b"data:", b"id: ", b"event: ", b"retry: ", b": ", b"\n\n", b"\r\n", b"\r"),
        *(b"event: message\ndata: ", b"\0", b"\xef\xbb\xbf", b"\xff", b"~"),
    ),
)
def events(data: bytes) -> None:
    """Read as the standard says, however they are cut up, and never above the limit."""
    material = Material(data)
    size, limit = material.number(40), material.number(60) + 1
    # A word for a line that is gathered by itself.
    stream = material.rest.replace(b"~", b"x" * 33_000, 2)
    expected = reference(stream)
    whole = read_events([stream], 1_000_000)
    assert (whole[0], whole[3]) == (expected, True)
    assert read_events(pieces(stream, size if len(stream) < 5000 else 9_000), 1_000_000) == whole
    if len(stream) < 5000:
        assert read_events(pieces(stream, 1), 1_000_000) == whole
    sizes = [len(event.data) for event in expected]
    lines = re.split(b"\r\n|\n|\r", stream)
    for bounded in (read_events([stream], limit), read_events(pieces(stream, size), limit)):
        if bounded[3]:
            assert bounded == whole
            assert max(sizes, default=0) <= limit
            continue
        # What came before what is too long is there, and nothing after it.
        count = len(bounded[0])
        assert bounded[0] == expected[:count]
        assert max(sizes[:count], default=0) <= limit
        assert sum(map(len, lines)) + len(lines) > limit
        others = [len(line) for line in lines if line.partition(b":")[0] != b"data"]
        if max(others, default=0) <= limit:
            fitting = itertools.takewhile(lambda size: size <= limit, sizes)
            assert count == len(list(fitting))


# Lines


def read_lines(parts: list[bytes], limit: int) -> list[bytes | Oversized]:
    lines = Lines(limit)
    return [line for part in parts for line in lines.feed(part)] + lines.end()


def expected_lines(stream: bytes, limit: int) -> list[bytes | Oversized | int]:
    """The lines; of one over the limit its size where it is no JSON object."""
    found: list[bytes | Oversized | int] = []
    for number, whole in enumerate(stream.split(b"\n")):
        line = whole.removesuffix(b"\r")
        if len(line) > limit:
            found.append(over_the_limit(whole))
            continue
        if number == 0:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if line.strip():
            found.append(line)
    return found


def over_the_limit(line: bytes) -> Oversized | int:
    try:
        value = json.loads(line.decode().removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return len(line)
    if not isinstance(value, dict):
        return len(line)
    id = value.get("id")
    return Oversized(len(line), id if type(id) in (int, str) else None, "method" in value)


@target(
    b'\x05\x14{"id":7,"method":"a long one"}\r\n{}\n\nx',
    b'\x07\x05{"id":true,"x":""}\n\xef\xbb\xbf{\n{"id":1.0}\n{"id":"1"}\n{"id":null}',
    b'\x00\x05\xef\xbb\xbf{"a":[{"id":3}],"id":"\\u0061"}\n[1]\n',
    words=JSON_WORDS,
)
def lines(data: bytes) -> None:
    """Come out as they went in, however they are cut up; of the others the id is found."""
    material = Material(data)
    size, limit = material.number(40), material.number(80) + 1
    stream = material.rest
    whole = read_lines([stream], limit)
    assert read_lines(pieces(stream, 1), limit) == whole
    assert read_lines(pieces(stream, size), limit) == whole
    expected = expected_lines(stream, limit)
    assert len(whole) == len(expected)
    for found, line in zip(whole, expected, strict=True):
        if isinstance(line, int):
            assert isinstance(found, Oversized)
            assert found.size == line <= MAX_MEMBER
        else:
            assert found == line


# JSON-RPC


def strictly(raw: bytes) -> Any:
    """What `json` reads. Raises ValueError where we refuse, too: no JSON, and what is none.

    Where `json` and we differ: NaN and the infinities are no JSON; an integer of more digits than
    Python converts is one, and its digits are kept.
    """

    def refused(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(raw.decode(), parse_constant=refused, parse_int=integer)


def integer(digits: str) -> int | Endless:
    return int(digits) if len(digits) < 4300 else Endless(digits)


def kind_of(value: object) -> Kind | None:
    """What a value is by the rules of JSON-RPC, as MCP has them; None for none of its messages."""
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        return None
    id, method, error = value.get("id"), value.get("method"), value.get("error")
    is_id = type(id) in (str, int)
    if "method" in value:
        if not isinstance(method, str) or isinstance(method, Endless):
            return None
        if "id" not in value:
            return Kind.NOTIFICATION
        return Kind.REQUEST if is_id else None
    if not is_id and id is not None:
        return None
    if isinstance(error, dict) and value.get("result") is None:
        return Kind.RESPONSE
    return Kind.RESPONSE if "result" in value and error is None else None


@target(*MESSAGES, words=JSON_WORDS)
def message(data: bytes) -> None:
    """Is what `json` and the rules of JSON-RPC say, and its bytes stay."""
    try:
        value = strictly(data)
        is_json = True
    except (ValueError, RecursionError):
        value, is_json = None, False
    expected = kind_of(value)
    try:
        found = jsonrpc.parse(data)
    except NotAMessage as exc:
        assert expected is None
        assert exc.code == (jsonrpc.INVALID_REQUEST if is_json else jsonrpc.PARSE_ERROR)
        assert exc.id is None or exc.id == value["id"]
        assert jsonrpc.error(exc.id, exc.code, str(exc)).raw.isascii()
    else:
        assert found.kind is expected
        _is_as_it_came(found, data, value)
    _is_read_as_many(data, value, is_json)


def _is_as_it_came(found: Message, data: bytes, value: Any) -> None:
    assert b"\n" not in found.raw
    assert b"\r" not in found.raw
    assert found.raw == data or found.raw == data.strip().translate(bytes.maketrans(b"\r\n", b"  "))
    assert found.body == value
    assert (found.id, found.method) == (value.get("id"), value.get("method", ""))
    for view, name in ((found.params, "params"), (found.result, "result")):
        assert view == (value.get(name) if isinstance(value.get(name), dict) else {})
    renamed = found.with_id("r-1")
    assert strictly(renamed.raw) == value | {"id": "r-1"}
    assert str(found).endswith(f", {len(found.raw)} bytes")


def _is_read_as_many(data: bytes, value: Any, is_json: bool) -> None:
    try:
        several = jsonrpc.parse_many(data)
    except NotAMessage:
        return
    assert is_json
    elements = value if isinstance(value, list) else [value]
    assert [message.body for message in several] == [each for each in elements if kind_of(each)]


@target(
    b'{"a":"@","b":["@\\u00e9",1],"@":{}}',
    b'{"id":1,"method":"m","params":{"x":"\xc3\xa9@\\\\"}}',
    words=(*JSON_WORDS, b'"@"', b"@"),
)
def outlined(data: bytes) -> None:
    """Is what it was, but for the long strings, or nothing."""
    # A word for what makes a string a long one.
    raw = data.replace(b"@", b"x" * 1025, 8)
    found = outline(raw)
    if found is None:
        many = raw.count(b'"') // 2 > 32
        assert many or not is_json_object(raw) or b"Infinity" in raw or b"NaN" in raw
    elif not re.search(rb'@[^"]*"\s*:', data):  # long names are all the same in the outline
        assert is_outline_of(found, strictly(raw))


# Editing


def pairs(text: str) -> Any:
    """JSON with the members of each object as a list: neither order nor doubles are lost."""

    def members(found: list[tuple[str, Any]]) -> tuple[str, list[tuple[str, Any]]]:
        return "object", found

    return json.loads(text, object_pairs_hook=members, parse_int=str, parse_float=str)


@target(*MESSAGES, b'{"a":{"a":1,"a":2},"a":3 , "b":[ 1 , {"a":[]}]}', words=(*JSON_WORDS, b'"a":'))
def edits(data: bytes) -> None:
    """Mean what they say, and every member that is not named stays as it was written."""
    try:
        text = data.decode()
        value = strictly(data)
        whole = pairs(text)
    except (ValueError, RecursionError):
        return
    try:
        if isinstance(value, list):
            cut = [pairs(text[begin:end]) for begin, end in splice.elements(text)]
            assert cut == whole
        if not isinstance(value, dict):
            return
        members = [(each.name, pairs(text[each.value : each.end])) for each in splice.members(text)]
        assert members == whole[1]
        assert splice.edit_members(text, lambda name, of: of) == text
        for name in ("a", "id"):
            others = [pair for pair in whole[1] if pair[0] != name]
            assert pairs(splice.drop(text, name)) == ("object", others)
            for last in (False, True):
                put = splice.put(text, "[7]", name, last=last)
                assert strictly(put.encode()) == value | {name: [7]}
                assert [pair for pair in pairs(put)[1] if pair[0] != name] == others
            deep = splice.put(text, "7", name, "b")
            assert splice.get(deep, name, "b") == "7"
            got = splice.get(text, name)
            assert got is None or strictly(got.encode()) == value[name]
    except TooDeep:
        assert text.count("[") + text.count("{") > 100


# Headers made of a message


@target(
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\\r\\nX: y",'
    b'"arguments":{"a":"\\u00e9","b":-5,"c":true},'
    b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"=?base64?eA==?="}}',
    b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":" a "}}',
    b'{"jsonrpc":"2.0","method":"a b"}',
    words=(*JSON_WORDS, b"\\r\\n", b"tools/call", b"=?base64?", b'"arguments":{', b'"name":'),
)
def routed(data: bytes) -> None:
    """Headers made of a message hold what it says, and begin no other header."""
    try:
        found = jsonrpc.parse(data)
    except NotAMessage:
        return
    catalogue = mirroring.Catalogue(is_active=True)
    parameters = {name: {"type": kind, "x-mcp-header": name} for name, kind in TYPES.items()}
    name = found.params.get("name")
    if isinstance(name, str):
        catalogue.learn({"name": name, "inputSchema": {"properties": parameters}})
    try:
        headers = routing.headers(found) + catalogue.headers(found)
    except Unsendable:
        return
    head = request_head(Request("POST", URL, headers, found.raw))
    assert head.count(b"\r\n") == 6 + len(headers)
    for header, value in headers:
        assert value.isascii()
        if header == "Mcp-Name" and name is not None:
            assert decoded(value) == name
    # A tool of any shape is offered or refused, and what it asks for can be sent.
    tool = {"name": "x", "inputSchema": found.params.get("arguments", found.body)}
    try:
        mirrors = mirroring.mirrors_of(tool)
    except mirroring.InvalidAnnotation:
        return
    every = tuple((mirror.header, "x") for mirror in mirrors)
    request_head(Request("POST", URL, every, b"{}"))


TYPES = {"a": "string", "b": "integer", "c": "boolean"}


def decoded(value: str) -> str:
    if value.startswith(routing.MARK) and value.endswith(routing.END):
        encoded = value[len(routing.MARK) : -len(routing.END)]
        return base64.b64decode(encoded, validate=True).decode()
    return value
