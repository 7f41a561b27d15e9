"""The protocol's words, as far as they carry a decision."""

from __future__ import annotations

import pytest

from mcp_stdio import spec


@pytest.mark.parametrize(
    "name",
    [
        *("Accept", "Content-Type", "MCP-Protocol-Version", "Mcp-Session-Id", "mcp-session-id"),
        *("Last-Event-ID", "Mcp-Method", "Mcp-Name", "Mcp-Param-Region", "MCP-PARAM-x"),
        *("Host", "Content-Length", "Transfer-Encoding", "Connection"),
    ],
)
def test_headers_that_users_may_not_set(name: str) -> None:
    assert spec.is_own_header(name)


@pytest.mark.parametrize(
    "name", ["Authorization", "X-Api-Key", "Cookie", "Mcp-Params", "User-Agent"]
)
def test_headers_that_users_may_set(name: str) -> None:
    assert not spec.is_own_header(name)


def test_a_post_accepts_both_forms_of_answer() -> None:
    assert dict(spec.POST_HEADERS) == {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
    }
    assert dict(spec.GET_HEADERS) == {"Accept": "text/event-stream"}


def test_a_tool_call_is_never_safe() -> None:
    assert "tools/call" not in spec.SAFE_METHODS
    assert set(spec.LISTS) < spec.SAFE_METHODS


@pytest.mark.parametrize(
    "version, known",
    [
        (spec.R1, False),
        (spec.R2, False),
        (spec.R3, False),
        (spec.R4, True),
        (spec.R5, True),
        (None, True),
        ("2027-01-01", True),
    ],
)
def test_errors_without_id_since_the_fourth_revision(version: str | None, known: bool) -> None:
    assert spec.has_errors_without_id(version) is known


@pytest.mark.parametrize(
    "value, valid",
    [
        ("abc-123_~!", True),
        ("\x21\x7e", True),
        ("", False),
        ("a b", False),
        ("a\tb", False),
        ("a\x7f", False),
        ("é", False),
        ("a\r\nX: y", False),
    ],
)
def test_a_session_id_is_visible_ascii(value: str, valid: bool) -> None:
    assert spec.is_visible_ascii(value) is valid
