"""Headers that repeat what the body says (T-20 to T-22), and the encoding of their values (1.4)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_stdio import jsonrpc, routing
from mcp_stdio.errors import Unsendable

VERSION = "io.modelcontextprotocol/protocolVersion"


def headers_of(method: str, params: Any = None, *, id: int | None = 1) -> dict[str, str]:
    body: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    body |= {} if id is None else {"id": id}
    found = routing.headers(jsonrpc.parse(json.dumps(body).encode()))
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize(
    "text, value",
    [
        # The test vectors of protocol.md 1.4.
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("us-west1", "us-west1"),
        # Its rules, one by one.
        ("", ""),
        ("two  words", "two  words"),
        ("in\tside", "=?base64?aW4Jc2lkZQ==?="),
        ("\tfirst", "=?base64?CWZpcnN0?="),
        ("last ", "=?base64?bGFzdCA=?="),
        (" ", "=?base64?IA==?="),
        ("\x7f", "=?base64?fw==?="),
        ("\x00", "=?base64?AA==?="),
        ("a\r\nb", "=?base64?YQ0KYg==?="),
        ("é", "=?base64?w6k=?="),
        ("\xa0", "=?base64?wqA=?="),
        ("😀", "=?base64?8J+YgA==?="),
        ("=?base64?=", "=?base64?PT9iYXNlNjQ/PQ==?="),
        ("=?BASE64?x?=", "=?BASE64?x?="),
        ("=?base64?open", "=?base64?open"),
        ("x=?base64?x?=", "x=?base64?x?="),
        ("!~", "!~"),
    ],
)
def test_values_are_encoded_where_they_would_not_survive(text: str, value: str) -> None:
    assert routing.encode_value(text) == value


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("=?base64?eA==?=")
@example("x" * 200 + "é")  # line breaks in Base64 would begin at 76 characters
def test_every_value_can_be_read_back(text: str) -> None:
    value = routing.encode_value(text)
    assert all("\x20" <= ch <= "\x7e" for ch in value)
    assert value == value.strip(" ")
    if value.startswith("=?base64?") and value.endswith("?="):
        assert base64.b64decode(value[9:-2], validate=True).decode() == text
    else:
        assert value == text


@pytest.mark.parametrize("text", ["\ud83d", "x\udc00y", " \ude00\ud83d"])
def test_half_a_character_cannot_be_sent(text: str) -> None:
    with pytest.raises(Unsendable) as raised:
        routing.encode_value(text)
    assert raised.value.code == -32602
    with pytest.raises(Unsendable):
        headers_of("tools/call", {"name": text})


@pytest.mark.parametrize(
    "method, params, name",
    [
        ("tools/call", {"name": "add", "uri": "x"}, "add"),
        ("prompts/get", {"name": "über"}, "=?base64?w7xiZXI=?="),
        ("resources/read", {"uri": "file:///a b", "name": "x"}, "file:///a b"),
        ("tasks/get", {"taskId": "t-1", "name": "x"}, "t-1"),
        ("tasks/update", {"taskId": "t-1"}, "t-1"),
        ("tasks/cancel", {"taskId": "t-1"}, "t-1"),
        ("tools/call", {"name": ""}, ""),
        # Not for other methods.
        ("tools/list", {"name": "add"}, None),
        ("resources/subscribe", {"uri": "x"}, None),
        ("completion/complete", {"name": "x", "uri": "x", "taskId": "x"}, None),
        # Missing or no string: the server rejects it.
        ("tools/call", {}, None),
        ("tools/call", None, None),
        ("tools/call", [{"name": "x"}], None),
        ("tools/call", {"name": None}, None),
        ("tools/call", {"name": 5}, None),
        ("tools/call", {"uri": "x"}, None),
        ("resources/read", {"uri": ["x"]}, None),
        ("tasks/get", {"taskId": True}, None),
    ],
)
def test_what_a_request_is_about(method: str, params: Any, name: str | None) -> None:
    # T-22
    expected = {"Mcp-Method": method} | ({} if name is None else {"Mcp-Name": name})
    assert headers_of(method, params) == expected


def test_a_number_of_many_digits_is_no_name() -> None:
    raw = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%s}}' % (b"9" * 5000)
    assert dict(routing.headers(jsonrpc.parse(raw))) == {"Mcp-Method": "tools/call"}


@pytest.mark.parametrize("version", ["2026-07-28", "2099-01-01", "DRAFT"])
def test_the_version_is_that_of_the_body(version: str) -> None:
    # T-20
    params = {"_meta": {VERSION: version, "progressToken": 1}}
    assert headers_of("tools/list", params) == {
        "MCP-Protocol-Version": version,
        "Mcp-Method": "tools/list",
    }


@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"_meta": {}},
        {"_meta": "2026-07-28"},
        {"_meta": {"protocolVersion": "2026-07-28"}},
        *({"_meta": {VERSION: odd}} for odd in (None, 20260728, "", " ", "2026 ", "é", "a\r\nb")),
    ],
)
def test_a_version_that_is_none_is_left_to_the_server(params: Any) -> None:
    assert headers_of("tools/list", params) == {"Mcp-Method": "tools/list"}


def test_notifications_have_a_method_too() -> None:
    #
    params = {"name": "x", "_meta": {VERSION: "2026-07-28"}}
    assert headers_of("notifications/x", params, id=None) == {
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "notifications/x",
    }


def test_responses_have_none() -> None:
    assert routing.headers(jsonrpc.result(1, {})) == ()


@pytest.mark.parametrize("method", ["", "a b", "a\nb", "é", "\ud83d", " tools/list"])
def test_a_method_that_no_header_can_carry_is_not_sent(method: str) -> None:
    with pytest.raises(Unsendable):
        headers_of(method)


def test_the_method_keeps_its_case() -> None:
    # T-21
    assert headers_of("Tools/CALL", {"name": "x"}) == {"Mcp-Method": "Tools/CALL"}
