"""What a reference may lead to: whatever it looks like, what the user gave stays at home (P7)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_stdio.errors import AuthorizationFailed, BadAnswer
from mcp_stdio.http import Head, Headers, redirects
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import urls

HOME = Url.parse("https://mcp.example/mcp")

ELSEWHERE = (
    "https://evil.example/",
    "//evil.example/",
    "https://mcp.example.evil.example/",
    "https://evil.example/mcp.example",
    # Port and scheme.
    "https://mcp.example:8443/",
    "http://mcp.example/",
    "http://mcp.example:443/",
    "ftp://mcp.example/",
    "javascript:alert(1)//mcp.example",
    # What only looks like the host.
    "https://mcp.example@evil.example/",
    "https://mcp.example:443@evil.example/",
    "https://mcp.example%2f@evil.example/",
    "https://mcp.example\\@evil.example/",
    "https://mcp.example%40evil.example/",
    "https://mcp.example%2eevil.example/",
    "https://mcp.example%00.evil.example/",
    "https://mcp.example;evil.example/",
    "https://mcp.example\t.evil.example/",
    "https://[mcp.example]/",
    # Other names, if perhaps of the same machine.
    "https://mcp.example./",
    "https://mcp.example%25eth0/",
    "https://m\u0441p.example/",  # in Cyrillic
    "https://mcp.ex\u00e4mple/",
    "https://mcp\u00df.example/",
    "https://93.184.216.34/",
    "https://[::ffff:5db8:d822]/",
)

AT_HOME = (
    "/",
    "HTTPS://MCP.Example/x",
    "https://mcp.example:443/x",
    "https://mcp.example:/x",
    "//mcp.example/x",
    "https:/x",
    "?evil.example",
    "https://mcp.example#@evil.example",
    "https://mcp.example?@evil.example",
    "https://mcp.example/@evil.example",
    # A browser would take these elsewhere; what they denote here is a path.
    "/\\evil.example",
    "\\\\evil.example/",
    "///evil.example",
    "https:evil.example",
)


def redirected(reference: str, home: Url = HOME) -> Url:
    octets = reference.encode("utf-8", "surrogatepass")
    head = Head(307, Headers([(b"location", octets)]))
    return redirects.target(home, head, 0)


@pytest.mark.parametrize("reference", ELSEWHERE)
def test_a_redirect_elsewhere_is_followed_by_nothing(reference: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        redirected(reference)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("reference", AT_HOME)
def test_a_redirect_at_home_stays_there(reference: str) -> None:
    assert redirected(reference).origin == HOME.origin


@given(st.sampled_from([*ELSEWHERE, *AT_HOME, ""]), st.text(max_size=20), st.booleans())
@example("https://mcp.example", "@evil.example", True)
def test_no_redirect_leads_away(reference: str, text: str, is_before: bool) -> None:
    with suppress(BadAnswer):
        where = redirected(text + reference if is_before else reference + text)
        assert where.origin == HOME.origin


@given(st.text(max_size=20))
@example("https://mcp.example:8443/")
def test_from_http_it_may_only_become_https_of_the_same_host(text: str) -> None:
    home = Url.parse("http://mcp.example/mcp")
    with suppress(BadAnswer):
        where = redirected(text, home)
        assert where.origin == home.origin or (where.scheme, where.host) == ("https", home.host)


@pytest.mark.parametrize(
    "text",
    [reference for reference in ELSEWHERE if "@" in reference or not reference.startswith("https")],
)
def test_metadata_names_nothing_that_looks_like_something_else(text: str) -> None:
    """A-26, A-50: https alone, and no user information, which hides a host behind a name."""
    with pytest.raises(AuthorizationFailed):
        urls.trusted(text, "token endpoint", HOME)
