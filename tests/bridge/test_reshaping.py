"""What a stateless client and a server of the handshake era say, in each other's words."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio import __version__, jsonrpc, spec
from mcp_stdio.bridge import reshaping
from mcp_stdio.bridge.reshaping import Filter, Opened
from mcp_stdio.errors import CannotBridge, TooDeep
from mcp_stdio.jsonrpc import Message

VERSION = b'"io.modelcontextprotocol/protocolVersion":"2026-07-28"'
CAPABILITIES = b'"io.modelcontextprotocol/clientCapabilities":{}'
INFO = b'"io.modelcontextprotocol/clientInfo":{ "name":"n\xc3\xa9o","version":"1","x":1.0 }'
LEVEL = b'"io.modelcontextprotocol/logLevel":"info"'
SERVER = b'"io.modelcontextprotocol/serverInfo":{"name":"shop","version":"1.9"}'
ODD = b'"z":1e400,"a":9007199254740993,"n":1.0,"s":"\\u00e9\\/",  "\xc3\xa9":[ ]'

DEEP = 500_000
"""Levels of nesting that no parser here follows."""


WORDS = {
    b"V": VERSION,
    b"C": CAPABILITIES,
    b"I": INFO,
    b"L": LEVEL,
    b"O": ODD,
    b"P": b'"ttlMs":0,"cacheScope":"private"',
    b"S": SERVER,
    b"T": b'"resultType":"complete"',
    b"U": b'"uri":"file:///a"',
}


def spelled(text: bytes) -> bytes:
    """The text with what its single capital letters stand for."""
    return re.sub(rb"\b[A-Z]\b", lambda found: WORDS[found[0]], text)


def asking(
    method: str = "tools/list",
    params: bytes = b"",
    meta: bytes = VERSION + b"," + CAPABILITIES,
    id: bytes = b"1",
) -> Message:
    params = params + b"," if params else b""
    return jsonrpc.parse(
        b'{"jsonrpc":"2.0","id":%s,"method":"%s","params":{%s"_meta":{%s}}}'
        % (id, method.encode(), params, meta)
    )


def answering(result: bytes) -> Message:
    return jsonrpc.parse(b'{"jsonrpc":"2.0","id":"r-1","result":%s}' % result)


OPENED = Opened(
    answering(
        b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},'
        b'"serverInfo":{"name":"shop","version":"1.9"}}'
    )
)


def nested(raw: bytes) -> bytes:
    """The raw message with arrays in place of `DEEP`, as deep as still can be parsed once."""
    low, high = 1, DEEP
    while low < high:
        depth = (low + high + 1) // 2
        try:
            jsonrpc.parse(raw.replace(b"DEEP", b"[" * depth + b"]" * depth))
            low = depth
        except jsonrpc.NotAMessage:
            high = depth - 1
    return raw.replace(b"DEEP", b"[" * low + b"]" * low)


# What is answered at once


@pytest.mark.parametrize(
    "meta, missing",
    [
        (b"", "protocolVersion"),
        (CAPABILITIES, "protocolVersion"),
        (b'"io.modelcontextprotocol/protocolVersion":1,' + CAPABILITIES, "protocolVersion"),
        (VERSION, "clientCapabilities"),
        (
            VERSION + b',"io.modelcontextprotocol/clientCapabilities":[]',
            "clientCapabilities",
        ),
        (
            VERSION + b"," + CAPABILITIES + b',"io.modelcontextprotocol/logLevel":"loud"',
            "logLevel",
        ),
        (VERSION + b"," + CAPABILITIES + b',"io.modelcontextprotocol/logLevel":[]', "logLevel"),
    ],
)
@pytest.mark.parametrize("method", ["tools/list", "server/discover", "x/y", "ping"])
def test_a_request_says_its_version_and_capabilities(
    method: str, meta: bytes, missing: str
) -> None:
    """S-11, B-53"""
    refusal = reshaping.refusal(asking(method, meta=meta, id=b'"1"'))
    assert refusal is not None
    assert refusal.id == "1"
    assert refusal.error is not None
    assert refusal.error["code"] == -32602
    assert f"io.modelcontextprotocol/{missing}" in refusal.error["message"]


@pytest.mark.parametrize("params", [b"[]", b"{}", b'{"_meta":1}', b"null"])
def test_a_request_without_meta_says_nothing_of_itself(params: bytes) -> None:
    """S-11"""
    message = jsonrpc.parse(b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":%s}' % params)
    refusal = reshaping.refusal(message)
    assert refusal is not None
    assert refusal.error is not None
    assert refusal.error["code"] == -32602


@pytest.mark.parametrize("version", ["2027-01-01", "2025-11-25", ""])
def test_only_the_stateless_version_is_spoken(version: str) -> None:
    """S-12, B-53, Q-12"""
    meta = b'"io.modelcontextprotocol/protocolVersion":"%s"' % version.encode()
    refusal = reshaping.refusal(asking("server/discover", meta=meta, id=b"9"))
    assert refusal is not None
    assert refusal.raw == (
        b'{"jsonrpc":"2.0","id":9,"error":{"code":-32022,"message":"Unsupported protocol version",'
        b'"data":{"supported":["2026-07-28"],"requested":"%s"}}}' % version.encode()
    )


@pytest.mark.parametrize(
    "method",
    [
        *("ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"),
        "initialize",
    ],
)
def test_methods_of_the_other_era_do_not_exist(method: str) -> None:
    """B-57"""
    refusal = reshaping.refusal(asking(method))
    assert refusal is not None
    assert refusal.error is not None
    assert refusal.error["code"] == -32601


@pytest.mark.parametrize("name", ["requestState", "inputResponses"])
@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
def test_input_that_nobody_asked_for_runs_nothing(method: str, name: str) -> None:
    """B-61, 3: a state that is not known here must not silently execute the call anew."""
    refusal = reshaping.refusal(asking(method, b'"%s":{}' % name.encode()))
    assert refusal is not None
    assert refusal.error is not None
    assert refusal.error["code"] == -32602


@pytest.mark.parametrize("params", [b"", b'"notifications":[]', b'"notifications":true'])
def test_a_listen_names_what_it_wants(params: bytes) -> None:
    """B-59"""
    refusal = reshaping.refusal(asking("subscriptions/listen", params))
    assert refusal is not None
    assert refusal.error is not None
    assert refusal.error["code"] == -32602


@pytest.mark.parametrize(
    "message",
    [
        asking(),
        asking(meta=VERSION + b"," + CAPABILITIES + b"," + LEVEL + b"," + INFO),
        asking("server/discover"),
        asking("x/unknown", b'"requestState":"s"'),
        asking("subscriptions/listen", b'"notifications":{}'),
    ],
    ids=str,
)
def test_any_other_request_is_for_the_server(message: Message) -> None:
    assert reshaping.refusal(message) is None


# Requests


@pytest.mark.parametrize(
    "params, expected",
    [
        (b'{"_meta":{V,C}}', b"{}"),
        (b'{ "_meta" : { V , C } }', b"{  }"),
        (b'{"cursor":"c","_meta":{V,C,I,L}}', b'{"cursor":"c"}'),
        (b'{"_meta":{I,C,V},"cursor":"c"}', b'{"cursor":"c"}'),
        (
            b'{"_meta":{"progressToken": 1,V,"traceparent":"00-\\u0061",C,"a.b/c":1.0},"x":1e400}',
            b'{"_meta":{"progressToken": 1,"traceparent":"00-\\u0061","a.b/c":1.0},"x":1e400}',
        ),
        (
            b'{"_meta":{V,C,"io.modelcontextprotocol/other":1}}',
            b'{"_meta":{"io.modelcontextprotocol/other":1}}',
        ),
        (b'{O,"_meta":{V,V,C}}', b"{O}"),
    ],
)
def test_what_only_the_stateless_era_says_is_left_out(params: bytes, expected: bytes) -> None:
    """B-53"""
    raw = b' {"method":"tools/list" , "id":1, "jsonrpc":"2.0","params":%s}'
    sent = reshaping.request(jsonrpc.parse(raw % spelled(params)), "r-2")
    assert sent.raw == raw.replace(b'"id":1', b'"id":"r-2"') % spelled(expected)


@given(
    st.dictionaries(
        st.sampled_from([*spec.REQUEST_META, "progressToken", "tracestate", "a/b", "_meta"]),
        st.integers() | st.text() | st.lists(st.none()),
    ),
    st.dictionaries(st.text(), st.integers() | st.text()),
    st.booleans(),
)
def test_only_the_four_keys_are_taken(
    meta: dict[str, Any], params: dict[str, Any], is_last: bool
) -> None:
    """B-53"""
    params.pop("_meta", None)
    given = params | {"_meta": meta} if is_last else {"_meta": meta} | params
    sent = reshaping.request(jsonrpc.request(1, "x/y", given), "r")
    rest = {name: value for name, value in meta.items() if name not in spec.REQUEST_META}
    assert sent.params == params | ({"_meta": rest} if rest else {})
    assert list(sent.params) == [name for name in given if name in sent.params]


@pytest.mark.parametrize("params", ["", ',"params":{"a":1}', ',"params":[]'])
def test_a_notification_keeps_what_it_has(params: str) -> None:
    raw = f'{{"jsonrpc":"2.0","method":"x/y"{params}}}'.encode()
    assert reshaping.notification(jsonrpc.parse(raw)).raw == raw


def test_a_notification_says_nothing_of_the_stateless_era() -> None:
    meta = {spec.META_VERSION: spec.R5}
    message = jsonrpc.notification("x/y", {"a": 1, "_meta": meta})
    assert reshaping.notification(message).raw == (
        b'{"jsonrpc":"2.0","method":"x/y","params":{"a":1}}'
    )


def test_the_session_is_opened_for_whom_the_client_says_it_is() -> None:
    """B-50, B-51"""
    opening = reshaping.initialize("r-1", asking(meta=VERSION + b"," + INFO))
    assert opening.raw == (
        b'{"jsonrpc":"2.0","id":"r-1","method":"initialize","params":{'
        b'"protocolVersion":"2025-11-25","capabilities":{},'
        b'"clientInfo":{ "name":"n\xc3\xa9o","version":"1","x":1.0 }}}'
    )


@pytest.mark.parametrize("info", [b"", b'"io.modelcontextprotocol/clientInfo":"neo"'])
def test_the_session_of_a_client_without_a_name_is_ours(info: bytes) -> None:
    """B-50"""
    opening = reshaping.initialize("r-1", asking(meta=info))
    assert opening.params == {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "mcp-stdio", "version": __version__},
    }


# Results


def test_a_server_is_discovered_by_what_it_said_at_the_opening() -> None:
    """B-52"""
    opened = Opened(
        answering(
            b'{"protocolVersion":"2025-11-25",'
            b'"capabilities":{"tools":{"listChanged":true, "x":1.0},'
            b'"tasks":{"cancel":{}},"logging":{}},'
            b'"serverInfo":{ "name":"s\xc3\xa9", "version":"1"},'
            b'"instructions":"opt\\u0069onal", "foreign":1e400}'
        )
    )
    assert opened.discovered("d").raw == (
        b'{"jsonrpc":"2.0","id":"d","result":{"resultType":"complete",'
        b'"supportedVersions":["2026-07-28"],'
        b'"capabilities":{"tools":{"listChanged":true, "x":1.0},"logging":{}},'
        b'"instructions":"opt\\u0069onal", "foreign":1e400,"ttlMs":0,"cacheScope":"private",'
        b'"_meta":{"io.modelcontextprotocol/serverInfo":{ "name":"s\xc3\xa9", "version":"1"}}}}'
    )


@pytest.mark.parametrize("capabilities", [b"", b'"capabilities":null', b'"capabilities":[]'])
def test_a_server_that_says_little_is_discovered_all_the_same(capabilities: bytes) -> None:
    """B-52"""
    opened = Opened(answering(b"{" + capabilities + b"}"))
    assert opened.capabilities == {}
    assert opened.discovered(1).result == {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {},
        "ttlMs": 0,
        "cacheScope": "private",
    }


@pytest.mark.parametrize(
    "method, result, expected",
    [
        ("tools/call", b'{"content":[ ],O}', b'{T,"content":[ ],O,"_meta":{S}}'),
        ("completion/complete", b"{}", b'{T,"_meta":{S}}'),
        ("x/unknown", b'{ "a":1 }', b'{T, "a":1,"_meta":{S} }'),
        ("tools/call", b'{"resultType":1,"a":1}', b'{T,"a":1,"_meta":{S}}'),
        ("tools/call", b'{"_meta":{"k":1.0},"a":1}', b'{T,"_meta":{"k":1.0,S},"a":1}'),
        ("tools/call", b'{"_meta":null,"a":1}', b'{T,"_meta":{S},"a":1}'),
        ("tools/call", b'{"_meta":{S }}', b'{T,"_meta":{S }}'),
        ("tools/list", b'{"tools":[]}', b'{T,"tools":[],P,"_meta":{S}}'),
        ("prompts/list", b'{"nextCursor":""}', b'{T,"nextCursor":"",P,"_meta":{S}}'),
        ("resources/list", b'{"resources":[]}', b'{T,"resources":[],P,"_meta":{S}}'),
        ("resources/templates/list", b'{"a":1}', b'{T,"a":1,P,"_meta":{S}}'),
        ("resources/read", b'{"contents":[{O}]}', b'{T,"contents":[{O}],P,"_meta":{S}}'),
        ("resources/read", b'{"ttlMs":5,"cacheScope":"public"}', b'{T,P,"_meta":{S}}'),
        ("tools/call", b"[1]", b"[1]"),
    ],
)  # fmt: skip
def test_a_result_says_what_every_stateless_result_says(
    method: str, result: bytes, expected: bytes
) -> None:
    """B-54"""
    answer = OPENED.response(answering(spelled(result)), asking(method, id=b'"x"'))
    assert answer.raw == b'{"jsonrpc":"2.0","id":"x","result":%s}' % spelled(expected)


def test_a_server_without_a_name_gets_none() -> None:
    """B-54, T-75"""
    answer = Opened(answering(b"{}")).response(answering(b"{}"), asking("tools/call"))
    assert answer.result == {"resultType": "complete"}


def test_tools_lose_how_they_would_run_as_a_task_and_nothing_else() -> None:
    """B-54: `x-mcp-header` has no effect on stdio, so such tools stay."""
    tools = b'[{"name":"a","execution":{"taskSupport":"required"},O}, 7 ,{"x-mcp-header":1.0}]'
    kept = b'[{"name":"a",O},7,{"x-mcp-header":1.0}]'
    result = answering(spelled(b'{"tools":%s}' % tools))
    answer = OPENED.response(result, asking("tools/list"))
    assert b'"tools":%s,' % spelled(kept) in answer.raw
    other = OPENED.response(result, asking("x/tools"))
    assert b"taskSupport" in other.raw


# Errors


@pytest.mark.parametrize(
    "error, expected",
    [
        (b'{"code":-32002,"message":"\\u0061"}', b'{"code":-32602,"message":"\\u0061","data":{U}}'),
        (b'{"code":-32002,"data":null}', b'{"code":-32602,"data":{U}}'),
        (b'{"code":-32002,"data":{ "x":1.0 }}', b'{"code":-32602,"data":{ "x":1.0,U }}'),
        (b'{"code":-32002,"data":{"uri":"file:///b"}}', b'{"code":-32602,"data":{"uri":"file:///b"}}'),
        (b'{"code":-32002,"data":"file:///a"}', b'{"code":-32602,"data":"file:///a"}'),
        (b'{"code":-32602 ,"message":"no"}', b'{"code":-32602 ,"message":"no"}'),
        (b'{"code":-32000,"message":"no","data":{}}', b'{"code":-32000,"message":"no","data":{}}'),
    ],
)  # fmt: skip
def test_a_resource_that_is_not_there_has_another_code(error: bytes, expected: bytes) -> None:
    """B-60"""
    raw = b'{"jsonrpc":"2.0","id":"r-1","error":%s}'
    request = asking("resources/read", b'"uri":"file:///a"', id=b"6")
    answer = OPENED.response(jsonrpc.parse(raw % error), request)
    assert answer.raw == (raw % spelled(expected)).replace(b'"r-1"', b"6")


def test_what_names_no_resource_misses_none() -> None:
    """B-60"""
    answer = OPENED.response(jsonrpc.error("r-1", -32002, "no"), asking("x/y"))
    assert answer.error == {"code": -32602, "message": "no"}


def test_a_page_to_open_first_cannot_be_passed_on() -> None:
    """B-66: -32042 must not be emitted in the stateless era, and nothing is parked."""
    error = jsonrpc.error("r-1", -32042, "needs browser", {"elicitations": []})
    with pytest.raises(CannotBridge):
        OPENED.response(error, asking("tools/call"))


# Log levels


@pytest.mark.parametrize(
    "given, asked, is_enough",
    [
        ("debug", "debug", True),
        ("debug", "info", False),
        ("notice", "info", True),
        ("warning", "notice", True),
        ("error", "critical", False),
        ("emergency", "alert", True),
        ("critical", "alert", False),
        ("loud", "debug", False),
        (None, "debug", False),
        ([], "debug", False),
    ],
)
def test_a_log_message_is_as_important_as_its_level(
    given: Any, asked: str, is_enough: bool
) -> None:
    """B-55"""
    message = jsonrpc.notification("notifications/message", {"level": given, "data": 1})
    assert reshaping.suffices(message, asked) is is_enough


@pytest.mark.parametrize(
    "levels, most",
    [
        (["info"], "info"),
        (["error", "notice", "warning"], "notice"),
        (["emergency", "alert"], "alert"),
        (["critical", "debug"], "debug"),
    ],
)
def test_the_most_verbose_level_lets_through_what_any_does(levels: list[str], most: str) -> None:
    """B-55"""
    assert reshaping.most_verbose(levels) == most


def test_a_request_may_name_a_level() -> None:
    """B-55"""
    assert reshaping.log_level(asking(meta=LEVEL)) == "info"
    assert reshaping.log_level(asking()) is None


# Subscriptions

EVERYTHING = {"tools": {"listChanged": True}, "prompts": {"listChanged": True}} | {
    "resources": {"listChanged": True, "subscribe": True}
}


def listening(notifications: Any) -> Filter:
    return Filter.of(jsonrpc.request("w", "subscriptions/listen", {"notifications": notifications}))


@pytest.mark.parametrize(
    "asked, capabilities, uris, granted",
    [
        ({}, EVERYTHING, [], {}),
        ({"toolsListChanged": True}, EVERYTHING, [], {"toolsListChanged": True}),
        ({"toolsListChanged": True}, {"tools": {}}, [], {}),
        ({"toolsListChanged": True}, {"tools": True}, [], {}),
        ({"toolsListChanged": False, "promptsListChanged": 1}, EVERYTHING, [], {}),
        (
            {"promptsListChanged": True, "resourcesListChanged": True},
            {"resources": {"listChanged": True}},
            [],
            {"resourcesListChanged": True},
        ),
        ({"taskIds": ["t"], "x": True}, EVERYTHING, [], {}),
        ({"resourceSubscriptions": ["a:b", "c:d"]}, EVERYTHING, [], {}),
        (
            {"resourceSubscriptions": ["a:b", "c:d", "a:b", 1]},
            {},
            ["c:d", "a:b"],
            {"resourceSubscriptions": ["a:b", "c:d"]},
        ),
        ({"resourceSubscriptions": "a:b"}, {}, ["a:b"], {}),
    ],
)
def test_what_is_granted_is_what_was_asked_and_can_be_had(
    asked: Any, capabilities: dict[str, Any], uris: list[str], granted: dict[str, Any]
) -> None:
    """B-59"""
    acknowledgement = listening(asked).granted(capabilities, uris).acknowledgement()
    assert acknowledgement.method == "notifications/subscriptions/acknowledged"
    assert acknowledgement.params == {"notifications": granted}


@pytest.mark.parametrize(
    "uri, updated, is_wanted",
    [
        ("shop://stock", "shop://stock", True),
        ("shop://stock", "shop://stock/eggs", True),
        ("shop://stock/", "shop://stock/eggs", True),
        ("shop://stock", "shop://stock#eggs", True),
        ("shop://stock", "shop://stocks", False),
        ("shop://stock/eggs", "shop://stock", False),
        ("shop://stock", None, False),
    ],
)
def test_a_resource_includes_what_is_under_it(uri: str, updated: Any, is_wanted: bool) -> None:
    """B-59"""
    message = jsonrpc.notification("notifications/resources/updated", {"uri": updated})
    assert listening({"resourceSubscriptions": [uri]}).wants(message) is is_wanted


@pytest.mark.parametrize(
    "name, kind", [(name, kind) for name, (kind, _) in spec.LIST_CHANGES.items()]
)
def test_each_list_is_asked_for_by_its_own_name(name: str, kind: str) -> None:
    """B-59"""
    asked = listening({name: True})
    wanted = [
        method
        for method in (*reshaping.CHANGES, "notifications/message")
        if asked.wants(jsonrpc.notification(method))
    ]
    assert wanted == [f"notifications/{kind}/list_changed"]
    assert [message.method for message in asked.everything()] == wanted


@pytest.mark.parametrize(
    "raw, expected",
    [
        (
            b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}',
            b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{TAG}}}',
        ),
        (
            b'{"jsonrpc":"2.0","method":"m", "params" : {"uri":"\\u0061",O}}',
            b'{"jsonrpc":"2.0","method":"m", "params" : {"_meta":{TAG},"uri":"\\u0061",O}}',
        ),
        (
            b'{"jsonrpc":"2.0","method":"m","params":{"x":1,"_meta":{"k":1.0}}}',
            b'{"jsonrpc":"2.0","method":"m","params":{"x":1,"_meta":{TAG,"k":1.0}}}',
        ),
    ],
)
@pytest.mark.parametrize("id", [1, "w"])
def test_what_a_listen_brings_carries_its_id(raw: bytes, expected: bytes, id: Any) -> None:
    """S-15, B-59"""
    tag = b'"io.modelcontextprotocol/subscriptionId":' + json.dumps(id).encode()
    tagged = reshaping.tagged(jsonrpc.parse(spelled(raw)), id)
    assert tagged.raw == spelled(expected).replace(b"TAG", tag)


# What cannot be looked into


def test_what_is_nested_too_deeply_to_be_cut_is_cut_or_a_failure_of_ours() -> None:
    """Parsing may have succeeded where there was more of the stack left."""
    notification = jsonrpc.parse(
        nested(b'{"jsonrpc":"2.0","method":"notifications/x","params":{"x":DEEP}}')
    )

    def deeper(calls: int) -> None:
        if calls:
            deeper(calls - 1)
        else:
            reshaping.tagged(notification, 1)

    with suppress(TooDeep):
        deeper(500)
