"""What an answer proves about the server's era (D-A to D-E, Q-13, Q-14, Q-15)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_stdio import jsonrpc
from mcp_stdio.era import evidence
from mcp_stdio.era.evidence import Outcome, Verdict
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    CannotBridge,
    ConnectionLost,
    RelayError,
    SessionLost,
    TimedOut,
    Unreachable,
)
from mcp_stdio.upstream.refusal import HandshakeRefused
from tests.era.fakes import refused

DISCOVER = jsonrpc.request("d", "server/discover")
MODERN, LEGACY, UNKNOWN = Verdict.MODERN, Verdict.LEGACY, Verdict.UNKNOWN

NOT_SENT = Unreachable("nobody there")
LOST = ConnectionLost("gone", answer_begun=True)
ACCIDENTS = [NOT_SENT, LOST, TimedOut("silent"), AuthorizationFailed("401", status=401)]


def versions(*names: str) -> dict[str, Any]:
    return {"supported": list(names), "requested": "2026-07-28"}


@pytest.mark.parametrize(
    "result, verdict",
    [
        ({"supportedVersions": ["2026-07-28"]}, MODERN),
        ({"supportedVersions": ["2025-11-25", "2026-07-28"]}, MODERN),
        ({"supportedVersions": ["2031-01-01"]}, MODERN),
        ({"supportedVersions": ["2025-11-25", "2025-06-18"]}, LEGACY),
        ({"supportedVersions": []}, LEGACY),
        ({"supportedVersions": "2026-07-28"}, LEGACY),
        ({"tools": []}, LEGACY),
        ({}, LEGACY),
    ],
)
def test_what_a_discovery_finds(result: dict[str, Any], verdict: Verdict) -> None:
    assert evidence.of_discovery(jsonrpc.result("d", result)) is verdict


ERRORS = [
    (-32020, None, MODERN),
    (-32021, None, MODERN),
    (-32022, None, MODERN),
    (-32022, versions("2026-07-28"), MODERN),
    (-32004, versions("2026-07-28"), MODERN),  # as drafts had it
    (-32022, versions("2025-11-25"), LEGACY),  # D-C: to be opened with `initialize`
    (-32602, versions("2024-11-05"), LEGACY),  # R4's words for an unknown version (Q-15)
    (-32601, None, LEGACY),
    (-32602, None, LEGACY),
    (-32600, None, LEGACY),
    (-32000, None, LEGACY),
]


@pytest.mark.parametrize("code, data, verdict", ERRORS)
def test_what_an_error_says(code: int, data: dict[str, Any] | None, verdict: Verdict) -> None:
    response = jsonrpc.error("d", code, "no", data)
    assert evidence.of_discovery(response) is verdict
    assert response.error is not None
    assert evidence.of_error(response.error) is verdict


@pytest.mark.parametrize("code, data, verdict", ERRORS)
@pytest.mark.parametrize("status", [400, 404])
def test_what_an_error_says_under_an_error_status(
    status: int, code: int, data: dict[str, Any] | None, verdict: Verdict
) -> None:
    failure = refused(status, code, data)(DISCOVER)
    assert evidence.of_failed_discovery(failure) is verdict


@pytest.mark.parametrize("status", [400, 404, 405, 406, 415, 422])
def test_a_plain_refusal_of_discover_is_of_the_handshake_era(status: int) -> None:
    assert evidence.of_failed_discovery(refused(status)(DISCOVER)) is LEGACY


@pytest.mark.parametrize("status", [408, 409, 410, 425, 429, 500, 501, 502, 503, 504])
@pytest.mark.parametrize("code", [None, -32603])
def test_no_other_status_decides_an_era(status: int, code: int | None) -> None:
    assert evidence.of_failed_discovery(refused(status, code)(DISCOVER)) is UNKNOWN


@pytest.mark.parametrize("failure", [*ACCIDENTS, BadAnswer("HTML"), SessionLost("gone")], ids=repr)
def test_no_accident_decides_an_era(failure: RelayError) -> None:
    """D-D: a 5xx, a time-out or a 401 never decides an era."""
    assert evidence.of_failed_discovery(failure) is UNKNOWN
    assert not evidence.is_refusal(failure)
    assert not evidence.may_be_http_sse(failure)


def test_what_cannot_be_bridged_is_no_modern_server() -> None:
    assert evidence.of_failed_discovery(CannotBridge("no such version")) is LEGACY


@pytest.mark.parametrize(
    "status, code, is_refusal, may_be_http_sse",
    [
        (400, None, True, True),
        (404, None, True, True),
        (405, None, True, True),
        (400, -32600, True, True),
        (404, -32601, True, True),  # old endpoint or modern method unknown: Q-14 asks discover
        (400, -32020, True, False),
        (400, -32022, True, False),
        (406, None, True, False),
        (410, None, True, False),
        (422, None, True, False),
        (403, -32600, False, False),
        (408, None, False, False),
        (425, None, False, False),
        (429, None, False, False),
        (500, None, False, False),
        (503, -32603, False, False),
    ],
)
def test_after_which_initialize_another_way_is_tried(
    status: int, code: int | None, is_refusal: bool, may_be_http_sse: bool
) -> None:
    failure = refused(status, code)(DISCOVER)
    assert evidence.is_refusal(failure) is is_refusal
    assert evidence.may_be_http_sse(failure) is may_be_http_sse


CALL, LISTING = jsonrpc.request(1, "tools/call"), jsonrpc.request(1, "tools/list")


def error(code: int) -> Outcome:
    return jsonrpc.error(1, code, "no")


@pytest.mark.parametrize(
    "verdict, outcome, is_doubtful",
    [
        (LEGACY, error(-32022), True),
        (LEGACY, error(-32601), False),
        (LEGACY, error(-32602), False),
        (LEGACY, HandshakeRefused("no `initialize` any more"), True),
        (LEGACY, BadAnswer("HTML"), False),
        (LEGACY, refused(400)(DISCOVER), False),
        (LEGACY, refused(500)(DISCOVER), False),
        (MODERN, error(-32000), True),
        (MODERN, error(-32600), True),
        (MODERN, error(-32601), False),
        (MODERN, error(-32602), False),
        (MODERN, error(-32022), False),
        (MODERN, refused(404)(DISCOVER), True),
        (MODERN, refused(503)(DISCOVER), False),
        (MODERN, BadAnswer("HTML"), False),
        (UNKNOWN, error(-32022), False),
        (UNKNOWN, refused(400)(DISCOVER), False),
        *((verdict, accident, False) for verdict in Verdict for accident in ACCIDENTS),
    ],
)
def test_what_contradicts_a_verdict(verdict: Verdict, outcome: Outcome, is_doubtful: bool) -> None:
    for request in (CALL, LISTING):
        assert evidence.contradicts(verdict, request, outcome) is is_doubtful


def test_a_session_may_want_headers_for_its_calls() -> None:
    """Design 4: -32020 on an established session is about headers; nothing but a call has any."""
    assert not evidence.contradicts(LEGACY, CALL, error(-32020))
    assert evidence.contradicts(LEGACY, LISTING, error(-32020))
    assert not evidence.contradicts(LEGACY, LISTING, error(-32021))
    draft = jsonrpc.error(1, -32004, "no", versions("2026-07-28"))
    assert evidence.contradicts(LEGACY, CALL, draft)


@pytest.mark.parametrize("code", [[], {}, [-32022], "-32022", None, True, -32022.0])
@pytest.mark.parametrize("verdict", Verdict)
def test_what_is_no_code_says_nothing(verdict: Verdict, code: object) -> None:
    """A server may send anything; none of it may end more than its own request."""
    body = {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "odd"}}
    odd = jsonrpc.parse(json.dumps(body).encode())
    for request in (CALL, LISTING):
        assert not evidence.contradicts(verdict, request, odd)
    assert not evidence.may_send_again(CALL, odd)
    assert evidence.of_discovery(odd) is LEGACY


@pytest.mark.parametrize("outcome", [error(-32000), refused(404)(DISCOVER), BadAnswer("no")])
def test_only_what_did_not_run_is_sent_to_the_right_era(outcome: Outcome) -> None:
    """P2: a call whose refusal does not prove that it did not run is not sent again."""
    assert not evidence.may_send_again(CALL, outcome)
    assert evidence.may_send_again(LISTING, outcome)


@pytest.mark.parametrize("code", [-32020, -32022])
def test_errors_before_execution_let_a_call_be_sent_again(code: int) -> None:
    assert evidence.may_send_again(CALL, error(code))
