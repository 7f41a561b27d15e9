"""What is a header, what is a token, wherever it comes from."""

from __future__ import annotations

import base64

import pytest

from mcp_stdio.credentials.rules import basic, bearer, parse_lines, secrets_of
from mcp_stdio.errors import UsageFailure


@pytest.mark.parametrize(
    "text, headers",
    [
        ("", ()),
        ("A: 1", (("A", "1"),)),
        ("A: 1\r\nB:2\r\n", (("A", "1"), ("B", "2"))),
        ("# a comment: not a header\n\n  \nA: # no comment\n", (("A", "# no comment"),)),
        ("A: 1\nB: 2\na: 3", (("B", "2"), ("a", "3"))),
        ("A: ${HOME}", (("A", "${HOME}"),)),
        ("Authorization: Token t", (("Authorization", "Token t"),)),
    ],
)
def test_lines_are_read(text: str, headers: tuple[tuple[str, str], ...]) -> None:
    assert parse_lines(text, where="--header-file") == headers


@pytest.mark.parametrize(
    "line",
    ["no colon s3cr3t", "A B: s3cr3t", "Host: s3cr3t", "Mcp-Session-Id: s3cr3t", "A: s3cr3t\x00",
     "A: s3cr3t\rB: 1"],
)  # fmt: skip
def test_a_line_that_is_no_header_is_named_and_not_repeated(line: str) -> None:
    """T-24: what `-H` refuses is refused anywhere."""
    with pytest.raises(UsageFailure, match="`--header-file, line 3`") as caught:
        parse_lines(f"A: 1\n\n{line}\n", where="--header-file")
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"


def test_what_is_secret_of_a_header() -> None:
    assert secrets_of("X-Api-Key", "a b") == ("a b",)
    assert secrets_of("authorization", "Bearer t") == ("Bearer t", "t")


def test_a_token_is_one_printable_word() -> None:
    assert bearer("abc\n", where="s") == "Bearer abc"
    for token in ("", "  ", "Bearer abc", "a\nb", "a\x00b", "ä"):
        with pytest.raises(UsageFailure, match="`--bearer-token` gives no token"):
            bearer(token, where="--bearer-token")


def test_user_information_becomes_basic_authentication() -> None:
    scheme, _, pair = basic("Ann", "p:ä").partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(pair).decode() == "Ann:p:ä"
