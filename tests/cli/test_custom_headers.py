"""What `-H` accepts (T-24), and which credential counts."""

from __future__ import annotations

import pytest

from mcp_stdio.cli.headers import Credential, choose, expand, parse_headers
from mcp_stdio.errors import UsageFailure

ENVIRON = {"KEY": "k3y", "EMPTY": "", "TWO_LINES": "a\r\nX-Evil: 1", "ProgramFiles(x86)": "p"}


@pytest.mark.parametrize(
    "lines, headers",
    [
        ([], ()),
        (["A: 1"], (("A", "1"),)),
        (["A:1"], (("A", "1"),)),
        (["A: \t 1 \t"], (("A", "1"),)),
        (["A:"], (("A", ""),)),
        (["A: b: c"], (("A", "b: c"),)),
        (["A: \tü ö"], (("A", "ü ö"),)),
        (["A: 1", "B: 2"], (("A", "1"), ("B", "2"))),
        (["A: 1", "B: 2", "a: 3"], (("B", "2"), ("a", "3"))),
        (["A: x ${KEY} y"], (("A", "x k3y y"),)),
        (["A: ${KEY}${KEY}"], (("A", "k3yk3y"),)),
        (["A: ${EMPTY}"], (("A", ""),)),
        (["A: ${ProgramFiles(x86)}"], (("A", "p"),)),
        (["A: $${KEY}"], (("A", "${KEY}"),)),
        (["A: $KEY $ $$"], (("A", "$KEY $ $$"),)),
        (["Authorization: Token t"], (("Authorization", "Token t"),)),
        (["Origin: https://example.com"], (("Origin", "https://example.com"),)),
        (["!#$%&'*+-.^_`|~9: odd"], (("!#$%&'*+-.^_`|~9", "odd"),)),
    ],
)
def test_headers_are_read(lines: list[str], headers: tuple[tuple[str, str], ...]) -> None:
    assert parse_headers(lines, ENVIRON) == headers


def test_a_value_from_the_environment_is_not_expanded_again() -> None:
    assert expand("${A}", {"A": "${B}", "B": "b"}, where="x") == "${B}"


@pytest.mark.parametrize(
    "line",
    [
        "no colon s3cr3t",
        ": s3cr3t",
        "A B: s3cr3t",
        "A : s3cr3t",
        "A\n: s3cr3t",
        "Ä: s3cr3t",
        "A(: s3cr3t",
        "A: s3cr3t\r\nB: 2",
        "A: s3cr3t\nB: 2",
        "A: s3cr3t\r",
        "A: s3cr3t\x00",
        "A: s3cr3t\x7f",
        "A: s3cr3t ${MISSING}",
        "A: s3cr3t ${",
        "A: s3cr3t ${}",
        "A: s3cr3t ${TWO_LINES}",
    ],
)
def test_what_is_no_header_is_refused_without_repeating_it(line: str) -> None:
    with pytest.raises(UsageFailure) as caught:
        parse_headers([line], ENVIRON)
    assert "-H" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.hint


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(UsageFailure, match="`MISSING`, which is not set"):
        parse_headers(["A: ${MISSING}"], ENVIRON)


@pytest.mark.parametrize(
    "name, owner",
    [
        ("Accept", "protocol"),
        ("content-type", "protocol"),
        ("MCP-Protocol-Version", "protocol"),
        ("Mcp-Session-Id", "protocol"),
        ("Last-Event-ID", "protocol"),
        ("Mcp-Method", "protocol"),
        ("Mcp-Name", "protocol"),
        ("Mcp-Param-Region", "protocol"),
        ("Host", "connection"),
        ("Content-Length", "connection"),
        ("Transfer-Encoding", "connection"),
        ("Connection", "connection"),
    ],
)
def test_headers_of_protocol_and_connection_are_not_the_users(name: str, owner: str) -> None:
    with pytest.raises(UsageFailure, match=f"cannot set `{name}`") as caught:
        parse_headers([f"{name}: x"], ENVIRON)
    assert owner in (caught.value.hint or "")


MINE = Credential("--bearer-token", "Bearer a")


def test_one_source_counts() -> None:
    assert choose([], "") == (None, None)
    assert choose([MINE], "") == (MINE, None)
    assert choose([], "b") == (Credential("MCP_BEARER_TOKEN", "Bearer b"), None)


@pytest.mark.parametrize("variable", ["b", "no token at all"])
def test_an_explicit_source_beats_the_environment_with_a_note(variable: str) -> None:
    note = "`MCP_BEARER_TOKEN` is not used, because of `--bearer-token`"
    assert choose([MINE], variable) == (MINE, note)


def test_two_explicit_sources_are_refused_by_name() -> None:
    with pytest.raises(UsageFailure, match="`--bearer-token` and `--oauth`"):
        choose([MINE, Credential("--oauth")], "")
