"""Messages as bytes, and the error answers we make (S-1, S-5 to S-7, P3)."""

from __future__ import annotations

import gc
import itertools
import json
import re
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio import errors, jsonrpc
from mcp_stdio.errors import TooDeep
from mcp_stdio.jsonrpc import Kind, Message, NotAMessage, parse, parse_many

REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}'


@pytest.mark.parametrize(
    "raw, kind, id, method",
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', Kind.REQUEST, 1, "ping"),
        (b'{"jsonrpc":"2.0","id":"1","method":"ping"}', Kind.REQUEST, "1", "ping"),
        (b'{"jsonrpc":"2.0","id":"","method":""}', Kind.REQUEST, "", ""),
        (b'{"jsonrpc":"2.0","id":0,"method":"m"}', Kind.REQUEST, 0, "m"),
        (b'{"jsonrpc":"2.0","id":-9007199254740993,"method":"m"}', Kind.REQUEST, -(2**53) - 1, "m"),
        (b'{"jsonrpc":"2.0","method":"m"}', Kind.NOTIFICATION, None, "m"),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', Kind.RESPONSE, 1, ""),
        (b'{"jsonrpc":"2.0","id":1,"result":null}', Kind.RESPONSE, 1, ""),
        (b'{"jsonrpc":"2.0","id":1,"error":{}}', Kind.RESPONSE, 1, ""),
        (b'{"jsonrpc":"2.0","id":null,"error":{}}', Kind.RESPONSE, None, ""),
        (b'{"jsonrpc":"2.0","error":{}}', Kind.RESPONSE, None, ""),
    ],
)
def test_the_kind_follows_from_method_and_id(
    raw: bytes, kind: Kind, id: int | str | None, method: str
) -> None:
    message = parse(raw)
    assert (message.kind, message.id, message.method, message.raw) == (kind, id, method, raw)
    assert type(message.id) is type(id)
    assert message.is_request == (kind is Kind.REQUEST)
    assert message.is_response == (kind is Kind.RESPONSE)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"hello",
        b'{"jsonrpc":"2.0","id":1,"method":"m"',
        b'{"jsonrpc":"2.0","id":1,"method":"m"} x',
        b'{"jsonrpc":"2.0","id":01,"method":"m"}',
        b'{"jsonrpc":"2.0","id":1,"method":"m",}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":NaN}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":-Infinity}',
        b'{"jsonrpc":"2.0","id":1,"method":"a\tb"}',
        b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
        b'{"jsonrpc":"2.0","id":1,"method":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"m"}',
        b'{"jsonrpc":"2.0","id":1,"method":"m"}\x00',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":[1,' + b"2" * 5000 + b",]}",
    ],
)
def test_what_is_no_json_is_a_parse_error(raw: bytes) -> None:
    with pytest.raises(NotAMessage) as refused:
        parse(raw)
    assert (refused.value.code, refused.value.id) == (jsonrpc.PARSE_ERROR, None)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "raw, id",
    [
        (b"1", None),
        (b'"x"', None),
        (b"null", None),
        (b"[]", None),
        (b"[" + REQUEST + b"]", None),
        (b"{}", None),
        (b'{"id":1,"method":"m"}', 1),
        (b'{"jsonrpc":"1.0","id":"a","method":"m"}', "a"),
        (b'{"jsonrpc":2.0,"id":1,"method":"m"}', 1),
        (b'{"jsonrpc":"2.0","id":null,"method":"m"}', None),
        (b'{"jsonrpc":"2.0","id":true,"method":"m"}', None),
        (b'{"jsonrpc":"2.0","id":1.0,"method":"m"}', None),
        (b'{"jsonrpc":"2.0","id":[1],"method":"m"}', None),
        (b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"m"}', None),
        (b'{"jsonrpc":"2.0","id":1,"method":null}', 1),
        (b'{"jsonrpc":"2.0","id":1,"method":5}', 1),
        (b'{"jsonrpc":"2.0","id":1}', 1),
        # The id of what is meant as a response belongs to the other side.
        (b'{"jsonrpc":"2.0","id":1,"result":1,"error":{}}', None),
        (b'{"jsonrpc":"2.0","id":1,"error":"x"}', None),
        (b'{"id":1,"result":{}}', None),
        (b'{"jsonrpc":"2.0","id":{},"result":1}', None),
    ],
)
def test_json_of_another_shape_is_an_invalid_request(raw: bytes, id: int | str | None) -> None:
    with pytest.raises(NotAMessage) as refused:
        parse(raw)
    assert (refused.value.code, refused.value.id) == (jsonrpc.INVALID_REQUEST, id)


def test_ids_are_compared_with_their_type() -> None:
    assert jsonrpc.same_id(1, 1)
    assert jsonrpc.same_id("1", "1")
    assert jsonrpc.same_id(None, None)
    assert not jsonrpc.same_id(1, "1")
    assert not jsonrpc.same_id(None, 0)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1.0,"b":1e400,"c":9007199254740993}}',
        b'{"params":{"z":1,"a":2},"method":"m","unknown":[null],"id":1,"jsonrpc":"2.0"}',
        b' { "jsonrpc" : "2.0" , "id" : 1 , "method" : "\\u006d\\/" } ',
        '{"jsonrpc":"2.0","id":"é","method":"m","params":{"x":"\u2028\u2029\u0085"}}'.encode(),
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":"\\ud800"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":' + b"1" * 6000 + b"}}",
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":1,"x":2}}',
    ],
)
def test_the_bytes_stay_what_they_were(raw: bytes) -> None:
    assert parse(raw).raw == raw
    assert parse_many(raw)[0].raw == raw


def test_line_breaks_between_tokens_become_spaces() -> None:
    raw = b'\r\n{\n  "jsonrpc": "2.0",\r\n  "id": 1,\n  "method": "a\\nb"\n}\n'
    message = parse(raw)
    assert b"\n" not in message.raw
    assert b"\r" not in message.raw
    assert json.loads(message.raw) == json.loads(raw)
    assert message.method == "a\nb"


@pytest.mark.parametrize(
    "raw, batch", [(REQUEST, False), (b"[]", True), (b" \n[1]", True), (b"", False), (b" {", False)]
)
def test_a_batch_begins_with_a_bracket(raw: bytes, batch: bool) -> None:
    assert jsonrpc.is_batch(raw) is batch


def test_batch_elements_are_cut_out_of_the_bytes() -> None:
    one = b'{ "jsonrpc":"2.0", "id":1 , "method":"m","params":{"a":[1.0,{}]}}'
    two = '{"method":"é]","jsonrpc":"2.0"}'.encode()
    three = b'{"jsonrpc":"2.0","id":1,"result":{"x":' + b"1" * 5000 + b"}}"
    messages = parse_many(b" [ " + one + b" ,\n" + two + b", " + three + b"]\n")
    assert [message.raw for message in messages] == [one, two, three]
    assert [message.kind for message in messages] == [
        Kind.REQUEST,
        Kind.NOTIFICATION,
        Kind.RESPONSE,
    ]
    assert [message.raw for message in parse_many(one)] == [one]


@pytest.mark.parametrize(
    "raw, code",
    [
        (b"[]", jsonrpc.INVALID_REQUEST),
        (b"[1]", jsonrpc.INVALID_REQUEST),
        (b"[[]]", jsonrpc.INVALID_REQUEST),
        (b"[{},{}]", jsonrpc.INVALID_REQUEST),
        (b"[" + REQUEST, jsonrpc.PARSE_ERROR),
    ],
)
def test_a_batch_that_is_none(raw: bytes, code: int) -> None:
    with pytest.raises(NotAMessage) as refused:
        parse_many(raw)
    assert refused.value.code == code


def test_params_result_and_error_are_objects_or_nothing() -> None:
    assert parse(REQUEST).params == {"name": "x"}
    assert parse(b'{"jsonrpc":"2.0","method":"m","params":[1]}').params == {}
    assert parse(b'{"jsonrpc":"2.0","method":"m"}').params == {}
    assert parse(b'{"jsonrpc":"2.0","id":1,"result":{"a":1}}').result == {"a": 1}
    assert parse(b'{"jsonrpc":"2.0","id":1,"result":[1]}').result == {}
    assert parse(b'{"jsonrpc":"2.0","id":1,"result":{}}').error is None
    assert parse(b'{"jsonrpc":"2.0","id":1,"error":{"code":1}}').error == {"code": 1}


def test_messages_of_our_own() -> None:
    assert jsonrpc.request("r-1", "ping").raw == b'{"jsonrpc":"2.0","id":"r-1","method":"ping"}'
    assert jsonrpc.request(1, "m", {}).raw == b'{"jsonrpc":"2.0","id":1,"method":"m","params":{}}'
    assert jsonrpc.notification("n", {"a": "é\n"}).raw == (
        b'{"jsonrpc":"2.0","method":"n","params":{"a":"\\u00e9\\n"}}'
    )
    assert jsonrpc.result(1, {}).raw == b'{"jsonrpc":"2.0","id":1,"result":{}}'


def test_ids_of_our_own_are_used_by_nobody_else() -> None:
    """S-5: strings with a prefix of their own in each process."""
    one, other = jsonrpc.mint_ids(), jsonrpc.mint_ids()
    minted = [*itertools.islice(one, 100), *itertools.islice(other, 100)]
    assert all(type(id) is str for id in minted)
    assert len(set(minted)) == 200
    assert len({id.rpartition("-")[0] for id in minted}) == 2


def test_an_error_without_id_leaves_it_out() -> None:
    assert jsonrpc.error(None, jsonrpc.PARSE_ERROR, "what").raw == (
        b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"what"}}'
    )
    assert jsonrpc.error(1, -1, "x", {"a": 1}).body["error"] == {
        "code": -1,
        "message": "x",
        "data": {"a": 1},
    }


@pytest.mark.parametrize(
    "cause, error",
    [
        (
            errors.Unreachable("no way", hint="look"),
            (-33001, {"kind": "unreachable", "hint": "look", "retryable": True}),
        ),
        (
            errors.ConnectionLost("cut"),
            (
                -33002,
                {
                    "kind": "outcome_unknown",
                    "hint": errors.ConnectionLost.usual_hint,
                    "retryable": False,
                },
            ),
        ),
        (
            errors.Refused("no", status=500, hint="look"),
            (-33005, {"kind": "bad_answer", "status": 500, "hint": "look", "retryable": False}),
        ),
    ],
)
def test_a_failure_becomes_an_answer(
    cause: errors.RelayError, error: tuple[int, dict[str, Any]]
) -> None:
    answer = jsonrpc.failure("7", cause)
    assert answer.id == "7"
    assert answer.error == {
        "code": error[0],
        "message": str(cause),
        "data": {"origin": "mcp-stdio"} | error[1],
    }


def test_the_place_to_sign_in_is_told_whole() -> None:
    url = "https://host/authorize?client_id=c&code_challenge=abcdefghijklmnop&state=abcdefgh"
    error = jsonrpc.failure(1, errors.SignInPending(url)).error
    assert error is not None
    assert url in error["message"]
    assert url in error["data"]["hint"]


def test_a_message_under_another_id() -> None:
    raw = b'{"jsonrpc":"2.0","method":"m","params":{"id":1.0},"id":1}'
    other = parse(raw).with_id("r-1")
    assert other.id == "r-1"
    assert other.raw == raw.replace(b'"id":1}', b'"id":"r-1"}').replace(
        b'"id":"r-1"},', b'"id":1.0},'
    )


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="replace"))
)
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    for read in (parse, parse_many):
        try:
            read(raw)
        except NotAMessage:
            pass


@pytest.mark.parametrize("depth", range(880, 1000, 5))
def test_deep_nesting_is_a_message_or_a_parse_error(depth: int) -> None:
    raw = b'{"jsonrpc":"2.0","id":1,"method":"m","params":' + b"[" * depth + b"]" * depth + b"}"

    def read(frames: int) -> Message | NotAMessage | TooDeep:
        if frames:
            return read(frames - 1)
        try:
            return parse(raw).with_id(2)
        except (NotAMessage, TooDeep) as exc:
            return exc

    for frames in range(0, 60, 3):
        match read(frames):
            case Message(id=id):
                assert id == 2
            case NotAMessage(code=code):
                assert code == jsonrpc.PARSE_ERROR


def test_a_message_in_the_log_tells_nothing_of_its_contents() -> None:
    message = jsonrpc.parse(b'{"jsonrpc":"2.0","id":"a","method":"m","params":{"x":"private"}}')
    assert str(message) == f"request m 'a', {len(message.raw)} bytes"
    assert "private" not in str(jsonrpc.result(1, {"x": "private"}))


@pytest.mark.parametrize("members", ['"result":{},"error":null', '"error":null,"result":{}'])
def test_a_member_written_as_null_is_not_there(members: str) -> None:
    message = parse(f'{{"jsonrpc":"2.0","id":1,{members}}}'.encode())
    assert (message.is_response, message.id, message.error) == (True, 1, None)


def test_an_error_with_a_null_result_is_an_error() -> None:
    message = parse(b'{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":"m"}}')
    assert message.error == {"code": 1, "message": "m"}


def test_a_null_result_is_a_result() -> None:
    assert parse(b'{"jsonrpc":"2.0","id":1,"result":null}').is_response


def test_a_bad_element_spoils_no_other() -> None:
    messages = jsonrpc.parse_many(b'[{"method":"x","id":null},' + REQUEST + b",17]")
    assert [message.raw for message in messages] == [REQUEST]


@pytest.mark.parametrize("end", [b"]}", b"]", b"]} x"])
def test_no_garbage_is_looked_for_in_as_many_lists_as_a_server_likes(end: bytes) -> None:
    """It would be looked for again and again, for longer than it takes to read them."""
    lists = b"[0]," * jsonrpc.LARGE
    collected: list[dict[str, int]] = []

    def note(phase: str, info: dict[str, int]) -> None:
        collected.append(info)

    gc.callbacks.append(note)
    try:
        with suppress(NotAMessage):
            parse(b'{"jsonrpc":"2.0","id":1,"result":[' + lists + b"0" + end)
        assert gc.isenabled()
    finally:
        gc.callbacks.remove(note)
    assert len(collected) < 20


MUCH = "x" * jsonrpc.LARGE


@pytest.mark.parametrize("id", ["1", '"a"', '""', "null", f'"{MUCH}"', "1.0"])
@pytest.mark.parametrize("method", ['"m"', '""', f'"{MUCH}"', "1", "null", None])
@pytest.mark.parametrize("version", ['"2.0"', f'"{MUCH}"'])
@pytest.mark.parametrize(
    "rest",
    [
        f'"params":{{"name":"x","data":"{MUCH}"}}',
        f'"result":{{"content":[{{"type":"text","text":"{MUCH}"}}]}}',
        f'"error":{{"code":1,"message":"{MUCH}"}}',
        f'"error":"{MUCH}"',
        f'"result":"{MUCH}","error":null',
        f'"result":"{MUCH}","error":{{}}',
    ],
)
def test_a_large_message_is_what_a_small_one_would_be(
    id: str, method: str | None, version: str, rest: str
) -> None:
    members = [f'"jsonrpc":{version}', f'"id":{id}', rest]
    if method is not None:
        members.append(f'"method":{method}')
    raw = f"{{{','.join(members)}}}".encode()

    def seen(raw: bytes) -> tuple[object, ...]:
        try:
            message = parse(raw)
        except NotAMessage as exc:
            return exc.code, str(exc), exc.id
        views = message.params, message.result, message.error, message.body
        return message.kind, message.id, message.method, *views

    small = seen(raw.replace(MUCH.encode(), b"much"))
    assert repr(seen(raw)).replace(MUCH, "much") == repr(small)


@pytest.mark.parametrize("fault", [b"\n", b'"', b"\\", b"\xff", b'"},}'])
def test_a_large_message_that_is_no_json_is_refused_for_the_same_reason(fault: bytes) -> None:
    begun = b'{"jsonrpc":"2.0","id":1,"result":{"x":"'
    reasons = set()
    for size in (0, jsonrpc.LARGE):
        with pytest.raises(NotAMessage, match="not valid") as refused:
            parse(begun + b"x" * size + fault)
        reason, _, position = str(refused.value).rpartition(" ")
        reasons.add(reason)
        assert -1 <= int(position) - len(begun) <= size + len(fault)
    assert len(reasons) == 1


members = st.sampled_from(
    [
        *(
            '"jsonrpc":"2.0"',
            '"id":1',
            '"id":"\\u0061"',
            '"id":{}',
            '"method":"m"',
            '"m\\u0065thod":"n"',
        ),
        *('"params":{"a":[1.0,{}]}', '"result":{}', '"result":null', '"error":{"code":1}', '"":-0'),
        *(f'"id":{"9" * 5000}', '"x":NaN', '"x":1e400', f'"x":{"[" * 2000}{"]" * 2000}', '"x":01'),
    ]
)
faults = st.sampled_from(
    [b"", b'"', b"\\", b"\n", b"\0", b"\xff", b",", b"}", b"{", b":", b"\xef\xbb\xbf"]
)


@given(
    st.permutations(['"jsonrpc":"2.0"', '"id":1', '"method":"m"', '"params":{}', '"x":"PAD"']),
    st.lists(members, max_size=3),
    st.none() | st.tuples(st.integers(0, 200), faults, st.integers(0, 3)),
    st.sampled_from([b"", b" ", b"\r", b"x", b"\0"]),
)
def test_a_large_message_is_judged_as_a_small_one_whatever_is_wrong_with_it(
    usual: list[str], others: list[str], fault: tuple[int, bytes, int] | None, tail: bytes
) -> None:
    raw = f"{{{', '.join(usual + others)}}}".encode() + tail
    if fault is not None:
        at, put, gone = fault
        raw = raw[:at] + put + raw[at + gone :]

    def judged(pad: bytes) -> tuple[object, ...]:
        try:
            message = parse(raw.replace(b"PAD", pad))
        except NotAMessage as exc:
            return exc.code, re.sub(r"\d+", "", str(exc)), exc.id  # but for the place
        return message.kind, message.id, type(message.id), message.method, message.params

    assert judged(MUCH.encode()) == judged(b"much")


def test_a_large_message_that_is_passed_on_is_kept_once() -> None:
    raw = b'{"jsonrpc":"2.0","id":1,"result":{"x":"' + b"x" * 10_000_000 + b'"}}\n'
    tracemalloc.start()
    try:
        message = parse(raw)
        assert (message.params, message.error) == ({}, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 11_000_000
