"""A client's `initialize`, said again with each request (B-1, B-2, B-6, B-7), byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_stdio import jsonrpc
from mcp_stdio.bridge.introduction import Introduction

DESK = '{"name":"desk","version":"4"}'
CAPABILITIES = '{"elicitation":{}}'

STAMP = (
    '"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
    f'"io.modelcontextprotocol/clientInfo":{DESK},'
    f'"io.modelcontextprotocol/clientCapabilities":{CAPABILITIES}'
)


def introduce(
    capabilities: str | None = CAPABILITIES,
    info: str | None = DESK,
    version: str = '"2025-06-18"',
) -> Introduction:
    members = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": info}
    params = ",".join(f'"{name}":{value}' for name, value in members.items() if value is not None)
    line = f'{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{{params}}}}}'
    return Introduction.of(jsonrpc.parse(line.encode()))


def stamped(raw: str, level: str | None = None) -> str:
    return introduce().stamp(jsonrpc.parse(raw.encode()), level).raw.decode()


@pytest.mark.parametrize(
    "requested, answered",
    [
        ('"2024-11-05"', "2024-11-05"),
        ('"2025-03-26"', "2025-03-26"),
        ('"2025-06-18"', "2025-06-18"),
        ('"2025-11-25"', "2025-11-25"),
        ('"2026-07-28"', "2025-11-25"),
        ('"1.0"', "2025-11-25"),
        ("null", "2025-11-25"),
        ("[1]", "2025-11-25"),
    ],
)
def test_the_client_is_answered_with_a_version_that_shakes_hands(
    requested: str, answered: str
) -> None:
    """B-2."""
    introduction = introduce(version=requested)
    assert introduction.version == answered
    assert introduction.requested == json.loads(requested)


@pytest.mark.parametrize(
    "given, mapped",
    [
        ("{}", "{}"),
        ('{"roots":{"listChanged":true}}', '{"roots":{}}'),
        ('{ "roots" : {} , "x":1.0 }', '{ "roots" : {} , "x":1.0 }'),
        ('{"sampling":{"tools":{},"n":1e400}}', '{"sampling":{"tools":{},"n":1e400}}'),
        ('{"elicitation":{}}', '{"elicitation":{}}'),
        ('{"elicitation":{"form":{},"url":{}}}', '{"elicitation":{"form":{},"url":{}}}'),
        ('{"experimental":{"a":{"b":1.0}}}', '{"experimental":{"a":{"b":1.0}}}'),
        ('{"extensions":{"com.example/x":{}}}', '{"extensions":{"com.example/x":{}}}'),
        ('{"tasks":{"list":{}},"sampling":{}}', '{"sampling":{}}'),
        # B-40: whoever declares it may be answered with a task, which nobody here can follow.
        (
            '{"extensions":{"io.modelcontextprotocol/tasks":{},"com.example/x":{"a":1.0}}}',
            '{"extensions":{"com.example/x":{"a":1.0}}}',
        ),
        # What some libraries write for what is not there breaks a strict server.
        ('{"roots":null,"sampling":{},"elicitation":null}', '{"sampling":{}}'),
    ],
)
def test_capabilities_are_mapped(given: str, mapped: str) -> None:
    """B-7."""
    assert introduce(given).capabilities == mapped


@pytest.mark.parametrize("odd", [None, "null", "[1]", '"all"', "7"])
def test_odd_introductions_are_none(odd: str | None) -> None:
    introduction = introduce(capabilities=odd, info=odd)
    assert introduction.capabilities == "{}"
    message = introduction.stamp(jsonrpc.request(1, "tools/list"))
    assert message.params == {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    }


def test_discover_is_asked_as_the_client() -> None:
    """B-1."""
    assert introduce().discover("r7f-1").raw.decode() == (
        f'{{"jsonrpc":"2.0","id":"r7f-1","method":"server/discover","params":'
        f'{{"_meta":{{{STAMP}}}}}}}'
    )


def test_listen_is_asked_as_the_client() -> None:
    """B-12."""
    assert introduce().listen("r7f-2", {"toolsListChanged": True}).raw.decode() == (
        f'{{"jsonrpc":"2.0","id":"r7f-2","method":"subscriptions/listen","params":'
        f'{{"_meta":{{{STAMP}}},"notifications":{{"toolsListChanged":true}}}}}}'
    )


@pytest.mark.parametrize(
    "given, sent",
    [
        (
            '{"jsonrpc":"2.0","id":2,"method":"tools/list"}',
            f'{{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{{"_meta":{{{STAMP}}}}}}}',
        ),
        (
            '{"params" : { } ,"method":"x/y","id":"a","jsonrpc":"2.0"}',
            f'{{"params" : {{"_meta":{{{STAMP}}} }} ,"method":"x/y","id":"a","jsonrpc":"2.0"}}',
        ),
        (
            (
                '{"id":2,"params":{"\\u00e9":1e400,"n":1.0,"name":"\\/é"},"method":"tools/call",'
                '"jsonrpc":"2.0"}'
            ),
            (
                f'{{"id":2,"params":{{"\\u00e9":1e400,"n":1.0,"name":"\\/é","_meta":{{{STAMP}}}}},'
                '"method":"tools/call","jsonrpc":"2.0"}'
            ),
        ),
        (
            (
                '{"jsonrpc":"2.0","id":2,"method":"m","params":{"_meta":{"progressToken":5,'
                '"traceparent":"00-1","com.example/q":1.50},"a":1}}'
            ),
            (
                '{"jsonrpc":"2.0","id":2,"method":"m","params":{"_meta":{"progressToken":5,'
                f'"traceparent":"00-1","com.example/q":1.50,{STAMP}}},"a":1}}}}'
            ),
        ),
        (
            (
                '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"a","task":{"ttl":1},'
                '"arguments":{"task":1.0}}}'
            ),
            (
                '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"a",'
                f'"arguments":{{"task":1.0}},"_meta":{{{STAMP}}}}}}}'
            ),
        ),
        (
            (
                '{"jsonrpc":"2.0","id":2,"method":"m","params":{"_meta":'
                '{"io.modelcontextprotocol/protocolVersion":"9"}}}'
            ),
            f'{{"jsonrpc":"2.0","id":2,"method":"m","params":{{"_meta":{{{STAMP}}}}}}}',
        ),
        (
            '{"jsonrpc":"2.0","id":2,"method":"m","params":{"_meta":null}}',
            f'{{"jsonrpc":"2.0","id":2,"method":"m","params":{{"_meta":{{{STAMP}}}}}}}',
        ),
        (
            '{"jsonrpc":"2.0","method":"notifications/x"}',
            f'{{"jsonrpc":"2.0","method":"notifications/x","params":{{"_meta":{{{STAMP}}}}}}}',
        ),
    ],
)
def test_a_message_is_stamped_and_otherwise_left_alone(given: str, sent: str) -> None:
    """B-6, B-15, B-16."""
    assert stamped(given) == sent


def test_the_log_level_is_said_once_there_is_one() -> None:
    """B-6, B-10."""
    raw = '{"jsonrpc":"2.0","id":2,"method":"tools/list"}'
    assert stamped(raw, "info") == (
        '{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":'
        f'{{{STAMP},"io.modelcontextprotocol/logLevel":"info"}}}}}}'
    )


@pytest.mark.parametrize(
    "capabilities, method, params, takes",
    [
        ("{}", "roots/list", {}, False),
        ('{"roots":{}}', "roots/list", {}, True),
        ('{"roots":null}', "roots/list", {}, False),
        ("{}", "sampling/createMessage", {}, False),
        ('{"sampling":{}}', "sampling/createMessage", {}, True),
        ('{"sampling":{}}', "sampling/createMessage", {"tools": []}, False),
        ('{"sampling":{}}', "sampling/createMessage", {"toolChoice": {}}, False),
        ('{"sampling":{"tools":{}}}', "sampling/createMessage", {"tools": []}, True),
        ("{}", "elicitation/create", {}, False),
        ('{"elicitation":{}}', "elicitation/create", {}, True),
        ('{"elicitation":{}}', "elicitation/create", {"mode": "form"}, True),
        ('{"elicitation":{}}', "elicitation/create", {"mode": "url"}, False),
        ('{"elicitation":{"url":{}}}', "elicitation/create", {"mode": "url"}, True),
        ('{"elicitation":{"url":{}}}', "elicitation/create", {"mode": "form"}, False),
        ('{"elicitation":{"form":{},"url":{}}}', "elicitation/create", {}, True),
        ('{"elicitation":{"form":{},"url":{}}}', "elicitation/create", {"mode": "x"}, False),
        ('{"elicitation":{"form":{},"url":{}}}', "elicitation/create", {"mode": None}, False),
        ('{"x":{}}', "x/y", {}, False),
        ('{"x":{}}', None, {}, False),
    ],
)
def test_a_client_is_asked_only_what_it_declared(
    capabilities: str, method: object, params: dict[str, Any], takes: bool
) -> None:
    """B-14, step 1."""
    assert introduce(capabilities).takes(method, params) is takes
