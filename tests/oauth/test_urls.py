"""Which URLs of a server's choosing are acceptable (A-3, A-26, A-44, A-50)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio.errors import AuthorizationFailed, UsageFailure
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import urls

FAR = Url.parse("https://mcp.example/mcp")
NEAR = Url.parse("http://localhost:8080/mcp")


@pytest.mark.parametrize("server", [FAR, NEAR])
@pytest.mark.parametrize("text", ["https://as.example", "https://as.example:8443/t?x=y"])
def test_https_is_accepted(text: str, server: Url) -> None:
    urls.trusted(text, "token endpoint", server)


@pytest.mark.parametrize("text", ["http://localhost:1", "http://127.0.0.1:1/x", "http://[::1]/"])
def test_plain_http_on_loopback_is_for_a_server_on_loopback(text: str) -> None:
    urls.trusted(text, "token endpoint", NEAR)
    with pytest.raises(AuthorizationFailed, match="must begin with https://"):
        urls.trusted(text, "token endpoint", FAR)


@pytest.mark.parametrize("server", [FAR, NEAR])
@pytest.mark.parametrize(
    "text",
    [
        "http://as.example",
        "http://192.168.0.1/",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "vbscript:x",
        "ftp://as.example/",
        "https:as.example",
        "//as.example/",
        "/token",
        "",
        "https://",
        "https://user@as.example/",
        "https://user:word@as.example/",
        "https://@as.example/",
        "https://as.example/#fragment",
        "https://as.example/#",
        "https://as.example\\@evil.example/",
        "https://as.example/\nx",
        "https://as.example/\ud800",
        "https://as.example:0/",
        "https://as.example:99999/",
        "HTTPS://[::1/",
        None,
        7,
        ["https://as.example"],
    ],
)
def test_any_other_url_is_refused(text: object, server: Url) -> None:
    with pytest.raises(AuthorizationFailed, match="the token endpoint") as caught:
        urls.trusted(text, "token endpoint", server)
    assert str(caught.value).isprintable()


def test_no_token_goes_over_plain_http() -> None:
    assert urls.contacted("http://localhost:8080/mcp") == NEAR
    with pytest.raises(UsageFailure, match="plain http"):
        urls.contacted("http://mcp.example/mcp")


@pytest.mark.parametrize(
    "resource, server, expected",
    [
        ("https://mcp.example/mcp", "https://mcp.example/mcp", True),
        ("https://mcp.example/mcp/", "https://mcp.example/mcp", True),
        ("https://mcp.example/mcp", "https://mcp.example/mcp/", True),
        ("https://mcp.example", "https://mcp.example/mcp", True),
        ("https://mcp.example/", "https://mcp.example/mcp", True),
        ("https://mcp.example/a", "https://mcp.example/a/b/c", True),
        ("HTTPS://MCP.example:443/mcp", "https://mcp.example/mcp", True),
        ("https://mcp.example/mcp", "https://mcp.example/mcp?tenant=1", True),
        ("https://mcp.example/mcp?tenant=1", "https://mcp.example/mcp?tenant=1", True),
        ("https://mcp.example/mcp?tenant=2", "https://mcp.example/mcp?tenant=1", False),
        ("https://mcp.example/mcp?tenant=1", "https://mcp.example/mcp", False),
        ("https://mcp.example/mc", "https://mcp.example/mcp", False),
        ("https://mcp.example/mcp/sub", "https://mcp.example/mcp", False),
        ("https://mcp.example/MCP", "https://mcp.example/mcp", False),
        ("https://mcp.example:8443/mcp", "https://mcp.example/mcp", False),
        ("http://mcp.example/mcp", "https://mcp.example/mcp", False),
        ("https://evil.example/mcp", "https://mcp.example/mcp", False),
        ("https://mcp.example.evil.example/mcp", "https://mcp.example/mcp", False),
        ("https://user@mcp.example/mcp", "https://mcp.example/mcp", False),
        ("https://mcp.example/mcp#x", "https://mcp.example/mcp", False),
        ("urn:mcp", "https://mcp.example/mcp", False),
        ("mcp.example", "https://mcp.example/mcp", False),
        (None, "https://mcp.example/mcp", False),
        (["https://mcp.example/mcp"], "https://mcp.example/mcp", False),
    ],
)
def test_a_resource_is_the_server_or_a_part_of_its_path(
    resource: object, server: str, expected: bool
) -> None:
    assert urls.denotes(resource, Url.parse(server)) is expected


@pytest.mark.parametrize(
    "server, resource",
    [
        ("https://MCP.example", "https://mcp.example"),
        ("https://mcp.example/", "https://mcp.example"),
        ("https://mcp.example:443/mcp", "https://mcp.example/mcp"),
        ("https://mcp.example:8443/mcp?key=1", "https://mcp.example:8443/mcp"),
        ("https://mcp.example/mcp/", "https://mcp.example/mcp/"),
    ],
)
def test_the_resource_nobody_published_is_the_canonical_url(server: str, resource: str) -> None:
    assert urls.canonical(Url.parse(server)) == resource
    assert urls.denotes(resource, Url.parse(server))


@given(st.text() | st.text().map(lambda text: f"https://as.example{text}"))
def test_a_url_is_refused_or_https(text: str) -> None:
    try:
        url = urls.trusted(text, "token endpoint", FAR)
    except AuthorizationFailed:
        return
    assert str(url).startswith("https://")
    assert str(url).isascii()
