"""Results and errors of the stateless era for clients of each earlier revision, byte for byte."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio import jsonrpc
from mcp_stdio.bridge.fitting import fit, fit_block

R1, R2, R3, R4 = VERSIONS = "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"

ODD = '"z":1e400,"a":9007199254740993,"n":1.0,"s":"\\u00e9\\/",  "é":[ ]'


def fitted(result: str, method: str = "tools/call", version: str = R4) -> str:
    """The result as the client gets it; everything around it must stay."""
    head, tail = '{"id":7, "result":', ',"jsonrpc":"2.0" }'
    response = jsonrpc.parse(f"{head}{result}{tail}".encode())
    raw = fit(response, jsonrpc.request(1, method), version).raw.decode()
    assert raw.startswith(head)
    assert raw.endswith(tail)
    return raw[len(head) : -len(tail)]


def failed(error: str, request: jsonrpc.Message) -> str:
    head = '{"jsonrpc":"2.0","id":7,"error":'
    response = jsonrpc.parse(f"{head}{error}}}".encode())
    raw = fit(response, request, R4).raw.decode()
    assert raw.startswith(head)
    return raw[len(head) : -1]


# B-8


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "result, told",
    [
        ('{"resultType":"complete","x":1.0}', '{"x":1.0}'),
        (f'{{{ODD},"ttlMs":0,"cacheScope":"private","resultType":"complete"}}', f"{{{ODD}}}"),
        (f'{{ "ttlMs" : 1e3 , {ODD} }}', f"{{ {ODD} }}"),
        ('{"resultType":"complete"}', "{}"),
        (f'{{"_meta":{{{ODD},"io.modelcontextprotocol/serverInfo":{{}}}}}}', None),
        (f"{{{ODD}}}", None),
        ('{"a":{"resultType":"complete","ttlMs":1}}', None),
        ("[1.0]", None),
        ("null", None),
    ],
)
def test_what_only_the_stateless_era_knows_is_taken_out(
    result: str, told: str | None, version: str
) -> None:
    """B-8: and `_meta`, unknown members and spelling stay."""
    assert fitted(result, "x/y", version) == (told or result)


WORDS = st.sampled_from(
    [
        *("inputSchema", "outputSchema", "properties", "type", "object", "content", "text"),
        *("structuredContent", "resource_link", "audio", "uri", "name", "annotations", "_meta"),
    ]
)
"""What the code looks for: of other words hardly one example would mean anything to it."""


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | WORDS,
        lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner),
        max_leaves=15,
    ),
    st.sampled_from(VERSIONS),
    st.sampled_from(["tools/list", "tools/call", "prompts/get", "resources/read", "x/y"]),
)
def test_odd_results_are_no_obstacle(value: Any, version: str, method: str) -> None:
    for result in (value, {"tools": value}, {"content": value}, {"messages": [value]}):
        fitted(json.dumps(result), method, version)


# B-20, B-24


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "tool, told",
    [
        (f'{{"name":"t","outputSchema":{{"type":"object"}},{ODD}}}', None),
        (f'{{"name":"t","outputSchema":{{"type":"array"}},{ODD}}}', f'{{"name":"t",{ODD}}}'),
        ('{"name":"t","outputSchema":{"oneOf":[{"type":"object"}]}}', '{"name":"t"}'),
        ('{"name":"t","outputSchema":{"type":["object","null"]}}', '{"name":"t"}'),
        ('{"name":"t","outputSchema":true}', '{"name":"t"}'),
        ('{"name":"t","outputSchema":null}', '{"name":"t"}'),
        (
            (
                '{"inputSchema":{"type":"object","properties":{"a":true,"b": false ,"c":{"d":1}},'
                '"anyOf":[true],"n":1.0}}'
            ),
            (
                '{"inputSchema":{"type":"object","properties":{"a":{},"b": {"not":{}} ,'
                '"c":{"d":1}},"anyOf":[true],"n":1.0}}'
            ),
        ),
        (
            '{"outputSchema":{"type":"object","properties":{"a":true}}}',
            '{"outputSchema":{"type":"object","properties":{"a":{}}}}',
        ),
        ('{"outputSchema":{"properties":{"a":true}},"x":1.0}', '{"x":1.0}'),
        ('{"inputSchema":{"properties":[true]}}', None),
        ('{"inputSchema":[true]}', None),
        ("7", None),
    ],
)
def test_tools_have_schemas_that_older_revisions_read(
    tool: str, told: str | None, version: str
) -> None:
    """B-20, B-24: one odd schema can make an old client refuse the whole list."""
    whole = fitted(f'{{"tools":[ {{"name":"o"}} , {tool}]}}', "tools/list", version)
    if told is None:
        assert whole == f'{{"tools":[ {{"name":"o"}} , {tool}]}}'
    else:
        assert whole == f'{{"tools":[{{"name":"o"}},{told}]}}'


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "result, told",
    [
        ('{"content":[],"structuredContent":{"a":1.0}}', None),
        (
            '{"content":[{"type":"text","text":"x"} ],"structuredContent":[1.0, 2],"z":0}',
            ('{"content":[{"type":"text","text":"x"},{"type":"text","text":"[1.0, 2]"}],"z":0}'),
        ),
        ('{"structuredContent":"é"}', '{"content":[{"type":"text","text":"\\"\\u00e9\\""}]}'),
        ('{"content":[],"structuredContent":7}', '{"content":[{"type":"text","text":"7"}]}'),
        ('{"content":null,"structuredContent":7}', '{"content":[{"type":"text","text":"7"}]}'),
        (
            '{"content":[{"type":"text","text":" [1, 2]"}],"structuredContent":[1,2]}',
            '{"content":[{"type":"text","text":" [1, 2]"}]}',
        ),
        (
            '{"content":[{"type":"text","text":"1"},7],"structuredContent":true}',
            '{"content":[{"type":"text","text":"1"},7,{"type":"text","text":"true"}]}',
        ),
    ],
)
def test_structured_content_that_is_no_object_becomes_text(
    result: str, told: str | None, version: str
) -> None:
    """B-20."""
    assert fitted(result, version=version) == (told or result)


# B-21, B-22

LINK = f'{{"type":"resource_link","uri":"file:///a","name":"a","title":"A",{ODD}}}'
AUDIO = f'{{"type":"audio","data":"AAAA","mimeType":"audio/wav","annotations":{{"p":1.0}},{ODD}}}'
TEXT = f'{{"type":"text","text":"t",{ODD}}}'
IMAGE = f'{{"type":"image","data":"AAAA","mimeType":"image/png",{ODD}}}'
EMBEDDED = f'{{"type":"resource","resource":{{"uri":"a:b","text":"x"}},{ODD}}}'

LINK_WORDS = '{"type":"text","text":"A: file:///a"}'
AUDIO_WORDS = '{"type":"text","text":"[audio: audio/wav]","annotations":{"p":1.0}}'

BLOCKS = [
    *((version, block, None) for version in VERSIONS for block in (TEXT, IMAGE, EMBEDDED, "7")),
    (R1, LINK, LINK_WORDS),
    (R2, LINK, LINK_WORDS),
    (R3, LINK, None),
    (R4, LINK, None),
    (R1, AUDIO, AUDIO_WORDS),
    (R2, AUDIO, None),
    (R3, AUDIO, None),
    (R4, AUDIO, None),
]


@pytest.mark.parametrize("version, block, told", BLOCKS)
def test_blocks_that_a_revision_does_not_know_become_text(
    version: str, block: str, told: str | None
) -> None:
    """B-21, B-22, in tools' results and prompts."""
    told = told or block
    assert fit_block(block, version) == told
    assert fitted(f'{{"content":[{block}]}}', version=version) == f'{{"content":[{told}]}}'
    message = '{"role":"user", "content": %s }'
    result = fitted(f'{{"messages":[{message % block}]}}', "prompts/get", version)
    assert result == f'{{"messages":[{message % told}]}}'


def test_a_link_without_a_title_has_a_name() -> None:
    """B-21."""
    link = '{"type":"resource_link","uri":"a:b","name":"n","_meta":{"x":1.0}}'
    assert fit_block(link, R2) == '{"type":"text","text":"n: a:b","_meta":{"x":1.0}}'


# B-30 to B-34

READ = jsonrpc.request(1, "resources/read", {"uri": "file:///a"})


@pytest.mark.parametrize(
    "error, told",
    [
        (
            f'{{{ODD},"code":-32602,"message":"no","data":{{"uri":"file:///a","q":1.50}}}}',
            f'{{{ODD},"code":-32002,"message":"no","data":{{"uri":"file:///a","q":1.50}}}}',
        ),
        ('{"code":-32602,"message":"no","data":{"uri":"file:///b"}}', None),
        ('{"code":-32602,"message":"no","data":{}}', None),
        ('{"code":-32602,"message":"no","data":"file:///a"}', None),
        ('{"code":-32602,"message":"no"}', None),
        ('{"code":-32603,"message":"no","data":{"uri":"file:///a"}}', None),
    ],
)
def test_a_resource_that_is_not_there_has_the_older_code(error: str, told: str | None) -> None:
    """B-30."""
    assert failed(error, READ) == (told or error)
    assert failed(error, jsonrpc.request(1, "tools/call", {"uri": "file:///a"})) == error


@pytest.mark.parametrize(
    "required, names",
    [
        ('{"elicitation":{"url":{}}}', "elicitation.url"),
        ('{"sampling":{},"roots":{}}', "sampling, roots"),
        ('{"sampling":{"tools":{"deep":{}},"context":{}}}', "sampling.tools, sampling.context"),
    ],
)
def test_a_missing_capability_is_named(required: str, names: str) -> None:
    """B-32."""
    data = f'"data":{{"requiredCapabilities":{required},{ODD}}}'
    assert failed(f'{{"code":-32021,"message":"needs more",{data}}}', READ) == (
        f'{{"code":-32021,"message":"needs more (the client lacks: {names})",{data}}}'
    )


@pytest.mark.parametrize(
    "error",
    [
        '{"code":-32021,"message":"needs more"}',
        '{"code":-32021,"message":"needs more","data":{"requiredCapabilities":{}}}',
        '{"code":-32021,"message":"needs more","data":{"requiredCapabilities":7}}',
        f'{{"code":-32601,"message":"unknown",{ODD}}}',
        '{"code":-32020,"message":"Mcp-Param-Region missing","data":{"x":1.0}}',
        '{"code":-32042,"message":"x","data":{"elicitations":[]}}',
        '{"code":7.0,"message":"x","data":{}}',
    ],
)
def test_other_errors_stay_what_they_were(error: str) -> None:
    """B-32, B-33, B-34."""
    assert failed(error, READ) == error


@pytest.mark.parametrize("version", VERSIONS)
def test_structured_content_that_is_not_there_is_not_told(version: str) -> None:
    result = '{"content":[],"structuredContent":null}'
    assert fitted(result, "tools/call", version) == '{"content":[]}'


def test_a_tool_of_very_many_parameters_is_read_in_one_pass() -> None:
    """One pass for each would take minutes, and nothing else runs meanwhile."""
    many = ",".join(f'"p{number}":true' for number in range(20_000))
    begun = time.monotonic()
    told = fitted(f'{{"tools":[{{"inputSchema":{{"properties":{{{many}}}}}}}]}}', "tools/list")
    assert told == f'{{"tools":[{{"inputSchema":{{"properties":{{{many}}}}}}}]}}'.replace(
        "true", "{}"
    )
    assert time.monotonic() - begun < 20
