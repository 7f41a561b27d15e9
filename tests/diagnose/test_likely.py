"""Where else a server may be: which URLs are tried, and for what kind of failure."""

from __future__ import annotations

import pytest

from mcp_stdio.config import Config
from mcp_stdio.diagnose.likely import candidates, hint_for, may_be_elsewhere
from mcp_stdio.errors import (
    AuthorizationFailed,
    BadAnswer,
    Refused,
    RelayError,
    TimedOut,
    Unreachable,
)
from mcp_stdio.http.url import Url


@pytest.mark.parametrize(
    "url, tried",
    [
        ("https://h/", ["/mcp", "/sse"]),
        ("https://h/mcp", ["/sse"]),
        ("https://h/sse", ["/mcp"]),
        ("https://h/mcp/", ["/mcp", "/sse"]),
        ("https://h:8443/api?x=1", ["/mcp", "/sse", "/api/mcp", "/api/sse"]),
    ],
)
def test_only_the_origin_of_the_url_is_tried(url: str, tried: list[str]) -> None:
    found = candidates(Url.parse(url))
    assert [each.target for each in found] == tried
    assert {each.origin for each in found} == {Url.parse(url).origin}


@pytest.mark.parametrize(
    "failure, elsewhere",
    [
        (Refused("?", status=404), True),
        (Refused("?", status=405), True),
        (Refused("?", status=406), False),
        (Refused("?", status=500), False),
        (BadAnswer("?"), True),
        (BadAnswer("it redirects", status=302), False),
        (AuthorizationFailed("?", status=401), False),
        (TimedOut("?"), False),
        (Unreachable("?"), False),
    ],
)
async def test_it_is_looked_for_where_the_path_may_be_wrong(
    failure: RelayError, elsewhere: bool
) -> None:
    assert may_be_elsewhere(failure) is elsewhere
    if not elsewhere:
        assert await hint_for(failure, Config("http://no-such-host.invalid/")) is None
