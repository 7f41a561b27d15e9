"""`WWW-Authenticate` read (A-1)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio.oauth.challenge import Challenge, challenges, parse

URL = "https://mcp.example/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(
    "values, metadata, scope, error, description",
    [
        ([], None, None, None, None),
        ([""], None, None, None, None),
        (["Bearer"], None, None, None, None),
        ([f'Bearer resource_metadata="{URL}"'], URL, None, None, None),
        ([f'bearer RESOURCE_METADATA="{URL}", Scope="a b"'], URL, "a b", None, None),
        ([f"Bearer resource_metadata={URL}"], URL, None, None, None),
        ([f"Bearer resource_metadata={URL}, error=e"], URL, None, "e", None),
        (['Bearer error="x", error_description="say \\"no\\", \\\\ twice"'], None, None, "x",
         'say "no", \\ twice'),
        # Several headers, several schemes in one, a token68 in between.
        (["Basic realm=\"a, Bearer scope=b\"", f'Bearer resource_metadata="{URL}"'],
         URL, None, None, None),
        ([f'Negotiate YWJj==, Basic realm="x", Bearer scope="s", resource_metadata="{URL}", DPoP'],
         URL, "s", None, None),
        (['Bearer scope="s", Basic realm="x", scope="t"'], None, "s", None, None),
        (['DPoP algs="ES256", scope="d", Bearer scope="s"'], None, "s", None, None),
        # A bare one in front of the one that tells something.
        (['Bearer realm="gateway"', f'Bearer error="e", resource_metadata="{URL}"'],
         URL, None, "e", None),
        # Sloppy writing.
        (['Bearer scope="a" error="e"'], None, "a", "e", None),
        (["Bearer , , scope = s ,"], None, "s", None, None),
        (['Bearer scope="never ends'], None, "never ends", None, None),
        (['Bearer scope="a", scope="b"'], None, "a", None, None),
        (['scope="s"'], None, None, None, None),
        (['Bearer scope=""'], None, "", None, None),
    ],
)  # fmt: skip
def test_the_bearer_challenge_is_found_among_all(
    values: list[str],
    metadata: str | None,
    scope: str | None,
    error: str | None,
    description: str | None,
) -> None:
    read = parse(values)
    assert read.resource_metadata == metadata
    assert read.scope == scope
    assert read.error == error
    assert read.error_description == description


@pytest.mark.parametrize(
    "value, expected",
    [
        ("DPoP", True),
        ('DPoP algs="ES256 PS256"', True),
        ("DPoP, Bearer", False),
        ("Bearer", False),
        ("Basic", False),
        ("", False),
    ],
)
def test_a_server_that_wants_dpop_alone_is_recognised(value: str, expected: bool) -> None:
    assert parse([value]).offers_only_dpop is expected


def test_insufficient_scope_is_what_asks_for_more() -> None:
    assert parse(['Bearer error="insufficient_scope"']).wants_more_scope
    assert not parse(['Bearer error="invalid_token"']).wants_more_scope
    assert not Challenge().wants_more_scope


tokens = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=8)
texts = st.text(st.characters(min_codepoint=9, max_codepoint=255, exclude_categories=["Cc"]))
blanks = st.text(" \t", max_size=2)
credentials = st.from_regex(r"[A-Za-z0-9._~+/-]{1,8}={0,3}", fullmatch=True)
gaps = st.text(" \t,", max_size=3).map(lambda text: f",{text}")


@st.composite
def parameters(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    """Parameters as the grammar has them, quoted or not, and what they mean."""
    meant: dict[str, str] = {}
    written = []
    for name in draw(st.lists(tokens, min_size=1, max_size=4)):
        value = draw(texts | tokens)
        shown = '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
        if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value) and draw(st.booleans()):
            shown = value
        written.append(f"{name}{draw(blanks)}={draw(blanks)}{shown}")
        meant.setdefault(name.lower(), value)
    return draw(gaps).join(written), meant


@given(st.lists(st.tuples(tokens, st.none() | credentials | parameters()), max_size=4), gaps)
def test_what_is_written_by_the_grammar_is_read_back(
    written: list[tuple[str, str | tuple[str, dict[str, str]] | None]], gap: str
) -> None:
    said, meant = [], []
    for scheme, rest in written:
        match rest:
            case None:
                said.append(scheme)
            case str():  # token68: of no use here, and to be passed over
                said.append(f"{scheme} {rest}")
            case _:
                said.append(f"{scheme} {rest[0]}")
        meant.append((scheme.lower(), rest[1] if isinstance(rest, tuple) else {}))
    assert challenges(gap.join(said)) == meant


@given(st.lists(st.text() | st.text('Bearer=",\\ scope').map(lambda text: f"Bearer {text}")))
def test_no_text_is_too_odd_to_be_read(values: list[str]) -> None:
    parse(values)


def test_a_long_value_is_read_in_one_go() -> None:
    for part in ("a ", "a=", '"\\', "\\", "a" * 9 + " ", ", ", '="'):
        parse([part * 200_000])
