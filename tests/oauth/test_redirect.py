"""What counts as the redirect that is waited for, and what a person may paste (A-20)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio.oauth import redirect

GOOD = {"code": "a+b c", "state": "s", "iss": "https://as.example/t?x=1&y"}
QUERY = "code=a%2Bb+c&state=s&iss=https%3A%2F%2Fas.example%2Ft%3Fx%3D1%26y"


def test_parameters_are_form_decoded() -> None:
    assert redirect.parameters(QUERY) == GOOD
    assert redirect.parameters("") == {}
    assert redirect.parameters("error=&x") == {"error": "", "x": ""}


@pytest.mark.parametrize(
    "query", ["code=a&code=b", "state=s&code=a&state=s", "iss=a&iss=b", "&".join("abc" * 99)]
)
def test_a_parameter_twice_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match="it has"):
        redirect.parameters(query)


@pytest.mark.parametrize(
    "found, expected",
    [
        ({"state": "s", "code": "c"}, True),
        ({"state": "s", "code": ""}, True),
        ({"state": "s", "error": "access_denied"}, True),
        ({"state": "s"}, False),
        ({"code": "c"}, False),
        ({"state": "", "code": "c"}, False),
        ({"state": "S", "code": "c"}, False),
        ({"state": "s ", "code": "c"}, False),
        ({"state": "ß\udcff", "code": "c"}, False),
    ],
)
def test_only_the_right_state_is_awaited(found: dict[str, str], expected: bool) -> None:
    assert redirect.is_awaited(found, "s") is expected


@pytest.mark.parametrize(
    "text",
    [
        f"http://127.0.0.1:1234/callback?{QUERY}",
        f"  http://localhost/callback?{QUERY}#_=_\n",
        f"<http://127.0.0.1:1234/callback?{QUERY}>",
        f'"http://127.0.0.1:1234/callback?{QUERY}"',
        f"http://127.0.0.1:1234/callback?{QUERY[:20]}\n   {QUERY[20:]}",
        f"127.0.0.1:1234/callback?{QUERY}",
        f"/callback?{QUERY}",
        f"?{QUERY}",
        QUERY,
        f"{QUERY}#",
    ],
)
def test_what_a_person_may_paste(text: str) -> None:
    assert redirect.pasted(text) == GOOD


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "empty"),
        (" \n", "empty"),
        ("''", "empty"),
        ("http://127.0.0.1/callback", "neither"),
        ("http://[127.0.0.1/callback?code=a", "no URL"),
        ("https://as.example/authorize?client_id=1&state=s", "neither"),
        ("hello", "neither"),
        ("http://127.0.0.1/callback?code=a&code=b", "twice"),
    ],
)
def test_what_is_no_redirect_is_explained(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        redirect.pasted(text)


@given(st.text())
def test_pasting_anything_raises_nothing_but_value_errors(text: str) -> None:
    try:
        redirect.pasted(text)
    except ValueError as exc:
        assert str(exc)  # noqa: PT017 - whether it raises is not the question


@given(st.dictionaries(st.text(), st.text(), max_size=9), st.text(min_size=1))
def test_a_foreign_redirect_is_never_awaited(found: dict[str, str], state: str) -> None:
    if found.get("state") != state:
        assert not redirect.is_awaited(found, state)
