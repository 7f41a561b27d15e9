"""Questions in a result as requests, and the answers in the request that is sent again (B-14)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mcp_stdio import jsonrpc
from mcp_stdio.bridge import input_required
from mcp_stdio.bridge.introduction import Introduction
from mcp_stdio.errors import BadAnswer
from mcp_stdio.jsonrpc import Message

R1, R2, R3, R4 = VERSIONS = "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"

ODD = '"z":1e400,"n":1.0,"s":"\\u00e9\\/"'


def response(result: str) -> Message:
    return jsonrpc.parse(f'{{"jsonrpc":"2.0","id":1,"result":{result}}}'.encode())


def client(version: str = R4) -> Introduction:
    params = {
        "protocolVersion": version,
        "capabilities": {
            "elicitation": {"form": {}, "url": {}},
            "sampling": {"tools": {}},
            "roots": {},
        },
    }
    return Introduction.of(jsonrpc.request(1, "initialize", params))


def ids() -> Iterator[str]:
    return iter(["own-1", "own-2", "own-3"])


def asked(text: str, version: str = R4) -> str:
    return input_required.question(text, client(version), ids()).request.raw.decode()


@pytest.mark.parametrize(
    "result, requests, state",
    [
        ('{"requestState":"s\\u00e9"}', {}, '"s\\u00e9"'),
        ('{"inputRequests":{},"requestState":""}', {}, '""'),
        ('{"inputRequests":null,"requestState":"s"}', {}, '"s"'),
        (
            f'{{"inputRequests":{{"b":{{"method":"roots/list"}}, "\\u00e9":{{{ODD}}}}}}}',
            {"b": '{"method":"roots/list"}', "é": f"{{{ODD}}}"},
            None,
        ),
        (
            '{"inputRequests":{"a": 7 },"requestState":null}',
            {"a": "7"},
            None,
        ),
    ],
)
def test_questions_and_state_are_cut_out(
    result: str, requests: dict[str, str], state: str | None
) -> None:
    """B-14, T-73."""
    found = input_required.read(response(result))
    assert found.requests == requests
    assert list(found.requests) == list(requests)
    assert found.state == state


@pytest.mark.parametrize(
    "result",
    [
        "{}",
        '{"inputRequests":{}}',
        '{"inputRequests":[]}',
        '{"inputRequests":[],"requestState":"s"}',
        '{"inputRequests":"x","requestState":"s"}',
        '{"requestState":7}',
        '{"inputRequests":{"a":{}},"requestState":{}}',
    ],
)
def test_a_question_without_anything_to_ask_is_a_bad_answer(result: str) -> None:
    """T-73."""
    with pytest.raises(BadAnswer):
        input_required.read(response(result))


@pytest.mark.parametrize(
    "text",
    [
        '{"method":"tools/call","params":{}}',
        '{"method":"ping"}',
        '{"method":7}',
        '{"method":{}}',
        '{"method":["ping"]}',
        '{"params":{}}',
        "{}",
        "7",
        "null",
    ],
)
def test_nobody_is_asked_what_no_client_can_be_asked(text: str) -> None:
    """B-14, step 1."""
    with pytest.raises(BadAnswer):
        asked(text)


def test_nobody_is_asked_what_the_client_did_not_declare() -> None:
    """B-14, step 1."""
    shy = Introduction.of(jsonrpc.request(1, "initialize", {"capabilities": {"roots": {}}}))
    with pytest.raises(BadAnswer, match="elicitation/create"):
        input_required.question('{"method":"elicitation/create","params":{}}', shy, ids())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "text, sent",
    [
        ('{"method":"roots/list"}', '"method":"roots/list"'),
        ('{"method":"roots/list","params":null}', '"method":"roots/list"'),
        (
            f'{{"params":{{"_meta":{{{ODD}}}}},"method":"roots/list"}}',
            f'"method":"roots/list","params":{{"_meta":{{{ODD}}}}}',
        ),
        (
            f'{{"method":"elicitation/create","params":{{"message":"é",{ODD}}}}}',
            f'"method":"elicitation/create","params":{{"message":"é",{ODD}}}',
        ),
    ],
)
def test_a_question_becomes_a_request_of_ours(text: str, sent: str, version: str) -> None:
    """B-14, step 2: its params cross as they were written."""
    assert asked(text, version) == f'{{"jsonrpc":"2.0","id":"own-1",{sent}}}'


FORM = '"message":"?","requestedSchema":{"type":"object","properties":{"a":{"type":"string"}}}'


@pytest.mark.parametrize("version", VERSIONS)
def test_forms_have_a_mode_only_where_it_is_known(version: str) -> None:
    """B-14, step 2."""
    mode = '"mode":"form",' if version == R4 else ""
    assert asked(
        f'{{"method":"elicitation/create","params":{{"mode":"form",{FORM}}}}}', version
    ) == (
        f'{{"jsonrpc":"2.0","id":"own-1","method":"elicitation/create","params":{{{mode}{FORM}}}}}'
    )


def test_a_page_to_visit_has_an_id() -> None:
    """B-14, step 2: 2025-11-25 names each elicitation of this mode."""
    page = '"mode":"url","url":"https://u.example/x","message":"open"'
    question = input_required.question(
        f'{{"method":"elicitation/create","params":{{{page}}}}}', client(), ids()
    )
    assert question.elicitation == "own-1"
    assert question.is_elicitation
    assert question.request.raw.decode() == (
        f'{{"jsonrpc":"2.0","id":"own-2","method":"elicitation/create",'
        f'"params":{{{page},"elicitationId":"own-1"}}}}'
    )


CHOICE = '{"type":"string","oneOf":[{"const":"a","title":"A"},{"const":"b"}],"default":"a"}'
OLD_CHOICE = '{"type":"string","default":"a","enum":["a","b"],"enumNames":["A","b"]}'
MULTIPLE = '{"type":"array","items":{"anyOf":[{"const":"a","title":"A"}]}}'


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "schema, told",
    [
        (CHOICE, OLD_CHOICE),
        ('{"oneOf":[{"const":1,"title":"one"}]}', None),
        ('{"oneOf":[]}', None),
        ('{"oneOf":[7]}', None),
        ('{"type":"string","enum":["a"], "x":1.0}', None),
        (MULTIPLE, None),
        ("true", None),
    ],
)
def test_choices_are_spelled_as_the_revision_has_them(
    schema: str, told: str | None, version: str
) -> None:
    """B-23: what has no counterpart is sent as it is."""

    def form(choice: str) -> str:
        properties = f'{{"p":{{"type":"integer"}},"c": {choice} ,"d":{choice}}}'
        return f'"params":{{"requestedSchema":{{"properties":{properties}}},{ODD}}}'

    sent = asked(f'{{"method":"elicitation/create",{form(schema)}}}', version)
    expected = form(told if told is not None and version < R4 else schema)
    assert sent == (f'{{"jsonrpc":"2.0","id":"own-1","method":"elicitation/create",{expected}}}')


@pytest.mark.parametrize("schema", ['{"properties":[1]}', "{}", "[]", "null"])
def test_odd_forms_are_sent_as_they_are(schema: str) -> None:
    params = f'"params":{{"requestedSchema":{schema}}}'
    assert params in asked(f'{{"method":"elicitation/create",{params}}}', R3)


TEXT = f'{{"type":"text","text":"x",{ODD}}}'
IMAGE = '{"type":"image","data":"AAAA","mimeType":"image/png"}'
AUDIO = '{"type":"audio","data":"AAAA","mimeType":"audio/wav"}'
AUDIO_WORDS = '{"type":"text","text":"[audio: audio/wav]"}'


def said(*contents: str) -> str:
    return ",".join(f'{{"role":"user","content":{content}, "x":1.0}}' for content in contents)


SAMPLING = [
    *((version, said(TEXT), said(TEXT)) for version in VERSIONS),
    *((version, said(f"[{TEXT}]"), said(TEXT)) for version in (R1, R2, R3)),
    *(
        (version, said(f"[ {TEXT} , {IMAGE}]", IMAGE), said(TEXT, IMAGE, IMAGE))
        for version in (R1, R2, R3)
    ),
    (R3, said("[]", TEXT), said(TEXT)),
    (R3, '{"role":"user"},7', '{"role":"user"},7'),
    (R4, said(f"[ {TEXT} , {IMAGE}]"), said(f"[ {TEXT} , {IMAGE}]")),
    (R1, said(AUDIO, f"[{AUDIO},{TEXT}]"), said(AUDIO_WORDS, AUDIO_WORDS, TEXT)),
    (R2, said(AUDIO), said(AUDIO)),
]


@pytest.mark.parametrize("version, given, told", SAMPLING)
def test_sampling_messages_have_one_block_each_before_2025_11_25(
    version: str, given: str, told: str
) -> None:
    """B-14, step 2, and B-22."""
    sent = asked(
        f'{{"method":"sampling/createMessage","params":{{"messages":[{given}],{ODD}}}}}', version
    )
    assert sent == (
        f'{{"jsonrpc":"2.0","id":"own-1","method":"sampling/createMessage",'
        f'"params":{{"messages":[{told}],{ODD}}}}}'
    )


CALL = '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"o","arguments":{"n":1.0}'


@pytest.mark.parametrize(
    "given, answers, state, sent",
    [
        ("", {}, '"s"', ',"requestState":"s"'),
        (
            "",
            {"qty": '{"action":"accept","n":1.50}', "é": "null"},
            '"s\\u00e9"',
            (
                ',"inputResponses":{"qty":{"action":"accept","n":1.50},"\\u00e9":null},'
                '"requestState":"s\\u00e9"'
            ),
        ),
        ("", {"a": "{}"}, None, ',"inputResponses":{"a":{}}'),
        (',"requestState":"old","inputResponses":{"a":1}', {}, '"s"', ',"requestState":"s"'),
        (',"requestState":"old"', {"b": "2"}, None, ',"inputResponses":{"b":2}'),
    ],
)
def test_a_request_goes_out_again_with_this_rounds_answers(
    given: str, answers: dict[str, str], state: str | None, sent: str
) -> None:
    """B-14, step 4, and Q-7: nothing of an earlier round."""
    request = jsonrpc.parse(f"{CALL}{given}}}}}".encode())
    again = input_required.again(request, "own-9", answers, state)
    assert again.raw.decode() == f"{CALL}{sent}}}}}".replace('"id":2', '"id":"own-9"')


def test_only_input_required_is_a_question() -> None:
    assert input_required.is_question(response('{"resultType":"input_required"}'))
    assert not input_required.is_question(response('{"resultType":"complete"}'))
    assert not input_required.is_question(response("[]"))
    assert not input_required.is_question(jsonrpc.error(1, -32000, "no"))
