"""Where a sign-in happens, and what is refused on the way there (A-2 to A-8, A-50, A-54)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mcp_stdio.errors import AuthorizationFailed, Refused, Unreachable
from mcp_stdio.http.url import Url
from mcp_stdio.oauth import discovery
from mcp_stdio.oauth.challenge import Challenge
from mcp_stdio.oauth.commands import Fetch, Fetched
from mcp_stdio.oauth.metadata import IssuerDiffers, Place
from mcp_stdio.oauth.record import Record
from tests.oauth.pump import (
    AS,
    ASM,
    MCP,
    MISSING,
    PRM,
    RESOURCE,
    SERVER,
    Answer,
    Pumped,
    World,
    found,
    pump,
    world,
)
from tests.oauth.test_record import CLIENT, TOKENS

NEW = Record(server_url=MCP)
ROOT_PRM = "https://mcp.example/.well-known/oauth-protected-resource"
HTML = Fetched(200, {"content-type": "text/html"}, b"<html>Welcome</html>")


def discover(
    answers: list[Answer], *, challenge: Challenge | None = None, url: str = MCP
) -> Pumped[Place]:
    return pump(discovery.discover(Url.parse(url), challenge, NEW), answers)


def fetched(pumped: Pumped[Any]) -> list[str]:
    return [command.url for command in pumped.commands if isinstance(command, Fetch)]


def test_what_the_challenge_names_comes_first() -> None:
    named = "https://elsewhere.example/metadata"  # another origin is allowed
    pumped = discover(
        [found(RESOURCE), found(SERVER)], challenge=Challenge(resource_metadata=named)
    )
    assert fetched(pumped) == [named, ASM]
    assert pumped.result.resource == MCP
    assert pumped.result.server.token_endpoint == f"{AS}/token"


def test_what_another_origin_says_is_checked_all_the_same() -> None:
    challenge = Challenge(resource_metadata="https://evil.example/metadata")
    foreign = {**RESOURCE, "resource": "https://evil.example/mcp"}
    with pytest.raises(AuthorizationFailed, match=r"another resource, `https://evil.example/mcp`"):
        discover([found(foreign)], challenge=challenge)


@pytest.mark.parametrize("miss", [MISSING, HTML, found([]), found({}, 401), found({}, 302)])
def test_the_well_known_places_are_asked_in_order(miss: Fetched) -> None:
    named = "https://mcp.example/broken"
    pumped = discover(
        [miss, miss, found(RESOURCE), found(SERVER)], challenge=Challenge(resource_metadata=named)
    )
    assert fetched(pumped) == [named, PRM, ROOT_PRM, ASM]


def test_a_server_at_the_root_has_one_well_known_place() -> None:
    document = {**RESOURCE, "resource": "https://mcp.example"}
    pumped = discover([found(document), found(SERVER)], url="https://mcp.example/?tenant=1")
    assert fetched(pumped) == [ROOT_PRM, ASM]


@pytest.mark.parametrize(
    "failure", [found({}, 500), found({}, 503), found({}, 429), Unreachable("no route")]
)
@pytest.mark.parametrize("before", [[], [found(RESOURCE)]])
def test_trouble_is_no_answer(failure: Answer, before: list[Answer]) -> None:
    with pytest.raises((Refused, Unreachable)):
        discover([*before, failure])


@pytest.mark.parametrize(
    "url", ["http://mcp.example/m", "javascript:x", "https://u@mcp.example/m", "https://x/#f"]
)
def test_a_bad_address_in_a_challenge_is_not_fetched(url: str) -> None:
    with pytest.raises(AuthorizationFailed, match="URL of the OAuth metadata"):
        discover([], challenge=Challenge(resource_metadata=url))


@pytest.mark.parametrize("resource", ["https://mcp.example", "https://mcp.example/", f"{MCP}/"])
def test_the_resource_is_kept_exactly_as_published(resource: str) -> None:
    pumped = discover([found({**RESOURCE, "resource": resource}), found(SERVER)])
    assert pumped.result.resource == resource


@pytest.mark.parametrize(
    "document, reason",
    [
        ({"resource": None}, "another resource, nothing"),
        ({"resource": "https://evil.example/mcp"}, "another resource"),
        ({"resource": f"{MCP}/deeper"}, "another resource"),
        ({"authorization_servers": None}, "names no authorization server"),
        ({"authorization_servers": []}, "names no authorization server"),
        ({"authorization_servers": [7]}, "names no authorization server"),
        ({"authorization_servers": AS}, "names no authorization server"),
        ({"authorization_servers": ["http://as.example"]}, "must begin with https://"),
        ({"authorization_servers": ["file:///etc"]}, "the authorization server `file:///etc`"),
        ({"dpop_bound_access_tokens_required": True}, "DPoP"),
    ],
)
def test_resource_metadata_that_cannot_be_used(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(AuthorizationFailed, match=reason) as caught:
        discover([found({**RESOURCE, **document})])
    assert caught.value.hint


SECOND = "https://second.example"
BOTH = {**RESOURCE, "authorization_servers": [AS, SECOND]}


@pytest.mark.parametrize(
    "known, issuer",
    [
        (NEW, AS),
        (NEW.registered(SECOND, CLIENT), SECOND),
        (NEW.registered("https://third.example", CLIENT), AS),
        (NEW.holding(dataclasses.replace(TOKENS, issuer=SECOND)), SECOND),
        (NEW.registered(SECOND, CLIENT).holding(TOKENS), AS),
    ],
)
def test_of_several_servers_the_one_we_know_is_taken(known: Record, issuer: str) -> None:
    flow = discovery.discover(Url.parse(MCP), None, known)
    pumped = pump(flow, [found(BOTH), found({**SERVER, "issuer": issuer})])
    assert pumped.result.server.issuer == issuer


@pytest.mark.parametrize(
    "issuer, urls",
    [
        ("https://as.example", ["", "/.well-known/openid-configuration"]),
        ("https://as.example/", ["", "/.well-known/openid-configuration"]),
        (
            "https://as.example/t/u",
            [
                "/.well-known/oauth-authorization-server/t/u",
                "/.well-known/openid-configuration/t/u",
                "/t/u/.well-known/openid-configuration",
            ],
        ),
        (
            "https://as.example/t/",
            [
                "/.well-known/oauth-authorization-server/t",
                "/.well-known/openid-configuration/t",
                "/t/.well-known/openid-configuration",
            ],
        ),
    ],
)
def test_server_metadata_is_asked_for_in_order(issuer: str, urls: list[str]) -> None:
    expected = [AS + (url or "/.well-known/oauth-authorization-server") for url in urls]
    resource = found({**RESOURCE, "authorization_servers": [issuer]})
    misses = [MISSING, HTML, found({}, 403)][: len(urls) - 1]
    pumped = discover([resource, *misses, found({**SERVER, "issuer": issuer})])
    assert fetched(pumped) == [PRM, *expected]
    assert pumped.result.server.issuer == issuer
    with pytest.raises(AuthorizationFailed, match=r"publishes no metadata"):
        discover([resource, *[MISSING] * len(urls)])


@pytest.mark.parametrize(
    "named, said",
    [
        (AS, f"{AS}/"),
        (f"{AS}/", AS),
        (AS, "https://AS.example"),
        (AS, f"{AS}:443"),
        (AS, "https://evil.example"),
        (AS, None),
        (AS, 7),
    ],
)
def test_metadata_of_another_issuer_is_discarded(named: str, said: object) -> None:
    # to the letter; the message has both, since they look alike
    resource = found({**RESOURCE, "authorization_servers": [named]})
    foreign = found({**SERVER, "issuer": said})
    with pytest.raises(IssuerDiffers) as caught:
        discover([resource, foreign, foreign])
    assert f"`{named}`" in str(caught.value)
    assert (f"`{said}`" if isinstance(said, str) else "nothing") in str(caught.value)
    own = found({**SERVER, "issuer": named})
    assert discover([resource, foreign, own]).result.server.issuer == named


@pytest.mark.parametrize(
    "endpoint",
    [
        "authorization_endpoint",
        "token_endpoint",
        "registration_endpoint",
        "revocation_endpoint",
        "device_authorization_endpoint",
    ],
)
@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "file:///x", "http://as.example/", "https://a@b/", "/token", 7]
)
def test_an_endpoint_that_is_no_https_url_is_refused(endpoint: str, url: object) -> None:
    with pytest.raises(AuthorizationFailed, match=endpoint.replace("_", " ")):
        discover([found(RESOURCE), found({**SERVER, endpoint: url})])


def test_a_server_without_token_endpoint_is_of_no_use() -> None:
    with pytest.raises(AuthorizationFailed, match="no token endpoint"):
        discover([found(RESOURCE), found({**SERVER, "token_endpoint": None})])


LEGACY = "https://mcp.example/.well-known/oauth-authorization-server"
NONE = [MISSING, MISSING]


def test_without_any_metadata_the_server_is_its_own_authorization_server() -> None:
    pumped = discover([*NONE, MISSING])
    assert fetched(pumped) == [PRM, ROOT_PRM, LEGACY]
    assert pumped.result.resource == MCP
    server = pumped.result.server
    assert server.issuer == "https://mcp.example"
    assert server.authorization_endpoint == "https://mcp.example/authorize"
    assert server.token_endpoint == "https://mcp.example/token"
    assert server.registration_endpoint == "https://mcp.example/register"
    assert server.is_legacy
    [*_, last] = pumped.commands
    assert isinstance(last, Fetch)
    assert ("MCP-Protocol-Version", "2025-03-26") in last.headers


@pytest.mark.parametrize("issuer", ["https://mcp.example", "https://mcp.example/"])
def test_a_legacy_server_calls_itself_by_its_origin(issuer: str) -> None:
    document = {"issuer": issuer, "token_endpoint": "https://mcp.example/oauth/token"}
    server = discover([*NONE, found(document)]).result.server
    assert server.issuer == issuer
    assert server.token_endpoint == "https://mcp.example/oauth/token"
    assert server.registration_endpoint is None
    assert server.is_legacy


def test_a_legacy_server_is_nobody_else() -> None:
    document = {**SERVER, "issuer": "https://evil.example"}
    with pytest.raises(IssuerDiffers):
        discover([*NONE, found(document)])


@pytest.mark.parametrize("answer", [HTML, found({}, 401), found({}, 302)])
def test_only_a_404_means_the_default_endpoints(answer: Fetched) -> None:
    with pytest.raises(AuthorizationFailed, match="does not say where to sign in"):
        discover([*NONE, answer])
    with pytest.raises(Refused):
        discover([*NONE, found({}, 502)])


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff", b"", b"1" * 10_000])
def test_what_is_no_json_is_no_document(body: bytes) -> None:
    odd = Fetched(200, {"content-type": "application/json"}, body)
    assert discover([odd, found(RESOURCE), found(SERVER)]).result.resource == MCP


def test_nothing_is_remembered_between_two_sign_ins() -> None:
    usual: World = world()
    for _ in range(2):
        usual.run(discovery.discover(Url.parse(MCP), None, NEW))
    assert usual.fetched == [f"GET {PRM}", f"GET {ASM}"] * 2
