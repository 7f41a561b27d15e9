"""What a redirect looks like to somebody who wanted to talk to an MCP server."""

from __future__ import annotations

import pytest

from mcp_stdio.http.redirects import looks_like_sign_in
from mcp_stdio.http.url import Url


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/login?next=/mcp",
        "https://example.com/users/sign_in",
        "https://example.com/Account/Login.aspx",
        "https://example.com/saml2/idp",
        "https://team.cloudflareaccess.com/cdn-cgi/access/x",
        "https://login.microsoftonline.com/common/oauth2/v2.0/x",
        "https://accounts.google.com/o/oauth2/v2/auth",
        "https://pool.auth.eu-west-1.amazoncognito.com/oauth2/authorize?client_id=1",
    ],
)
def test_a_sign_in_page_is_known_by_its_name(url: str) -> None:
    assert looks_like_sign_in(Url.parse(url))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "https://example.com/mcp",
        "https://login.example.com/mcp/",
        "https://example.com/sso/mcp",
        "https://example.com/loginless/v1",
        "https://example.com/blogin",
        "https://example.com/api?next=/login",
        "https://accounting.example.com/api",
    ],
)
def test_another_place_of_the_server_is_none(url: str) -> None:
    assert not looks_like_sign_in(Url.parse(url))
