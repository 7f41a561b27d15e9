"""Tokens renewed, widened and revoked without anything being sent to the wrong place."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from mcp_stdio.config import OAuth
from mcp_stdio.errors import (
    AuthorizationFailed,
    ConnectionLost,
    Declined,
    InvalidGrant,
    Refused,
    TimedOut,
    Unreachable,
    UsageFailure,
)
from mcp_stdio.oauth import login
from mcp_stdio.oauth.authorization import NobodyCameBack
from mcp_stdio.oauth.challenge import Challenge
from mcp_stdio.oauth.commands import Fetched, Visit
from mcp_stdio.oauth.record import Record, Registration
from tests.oauth.pump import (
    AS,
    ASM,
    CLOCK,
    LISTENER,
    MCP,
    MISSING,
    PRM,
    TOKENS,
    World,
    basic_of,
    form,
    form_of,
    found,
    world,
)
from tests.oauth.test_record import TOKENS as OLD

TOKEN, REVOKE = f"{AS}/token", f"{AS}/revoke"
CLIENT = Registration(client_id="client-1", method="none", redirect_uri=LISTENER)
KNOWN = Record(server_url=MCP, registrations={AS: CLIENT}, tokens=OLD)
REFUSED = Challenge(error="invalid_token")


def refresh(
    at: World, known: Record = KNOWN, challenge: Challenge | None = None, **settings: Any
) -> Record:
    return at.run(login.refresh(OAuth(**settings), MCP, known, challenge))


def test_a_refresh_names_the_resource_and_no_scope() -> None:
    at = World({TOKEN: found({**TOKENS, "access_token": "access-2", "refresh_token": "refresh-2"})})
    record = refresh(at)
    assert at.fetched == [f"POST {TOKEN}"]
    assert form_of(at.sent(TOKEN)[0]) == {
        "grant_type": "refresh_token",
        "refresh_token": "refresh-1",
        "client_id": "client-1",
        "resource": MCP,
    }
    assert record == KNOWN.holding(
        dataclasses.replace(
            OLD,
            access_token="access-2",
            refresh_token="refresh-2",
            expires_at=CLOCK + 3600,
            grant="authorization-code",
        )
    )


@pytest.mark.parametrize(
    "settings, resource",
    [({}, MCP), ({"resource": "urn:mine"}, "urn:mine"), ({"sends_resource": False}, None)],
)
def test_a_refresh_names_the_resource_as_set(settings: dict[str, Any], resource: str) -> None:
    at = World({TOKEN: found(TOKENS)})
    refresh(at, **settings)
    assert form_of(at.sent(TOKEN)[0]).get("resource") == resource


def test_the_old_refresh_token_is_kept_only_if_no_new_one_came() -> None:
    at = World({TOKEN: form(b"access_token=access-2&token_type=bearer")})
    tokens = refresh(at).tokens
    assert tokens is not None
    assert tokens.access_token == "access-2"
    assert tokens.refresh_token == "refresh-1"
    assert tokens.expires_at is None  # nobody said how long the new one lasts
    assert (tokens.scope, tokens.requested_scope) == ("read", "read write")


@pytest.mark.parametrize(
    "client, settings, credentials",
    [
        (CLIENT, {}, ("client-1", None, None)),
        (dataclasses.replace(CLIENT, client_secret="s", method="client_secret_post"), {},
         ("client-1", "s", None)),
        (dataclasses.replace(CLIENT, client_secret="s", method="client_secret_basic"), {},
         (None, None, "client-1:s")),
        # The user's own: the secret is in the settings, the method was found at the sign-in.
        (Registration(client_id="client-1", method="client_secret_post"),
         {"client_id": "client-1", "client_secret": "t"}, ("client-1", "t", None)),
        (Registration(client_id="client-1", method="none"),
         {"client_id": "client-1", "client_secret": "t"}, (None, None, "client-1:t")),
        (Registration(client_id="client-1", method="client_secret_basic"),
         {"client_id": "client-1"}, ("client-1", None, None)),
        # A client registered since then is not the one that was given the token.
        (Registration(client_id="client-2", client_secret="s", method="client_secret_post"), {},
         ("client-1", None, None)),
        (None, {"client_metadata_url": "client-1"}, ("client-1", None, None)),
    ],
)  # fmt: skip
def test_a_refresh_proves_who_the_client_is(
    client: Registration | None, settings: dict[str, Any], credentials: tuple[str | None, ...]
) -> None:
    known = dataclasses.replace(KNOWN, registrations={AS: client} if client else {})
    at = World({TOKEN: found(TOKENS)})
    refresh(at, known, **settings)
    [request] = at.sent(TOKEN)
    sent = form_of(request)
    assert (sent.get("client_id"), sent.get("client_secret"), basic_of(request)) == credentials


def without_refresh_token(known: Record) -> Record:
    assert known.tokens is not None
    return known.holding(dataclasses.replace(known.tokens, refresh_token=None))


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_scope", "invalid_target", "other"])
def test_a_dead_refresh_token_is_forgotten(error: str) -> None:
    at = World({TOKEN: found({"error": error, "error_description": "gone"}, 400)})
    with pytest.raises(InvalidGrant, match="gone"):
        refresh(at)
    assert at.kept == [without_refresh_token(KNOWN)]


def test_a_dead_client_is_forgotten_with_its_tokens() -> None:
    at = World({TOKEN: found({"error": "invalid_client"}, 401)})
    with pytest.raises(InvalidGrant):
        refresh(at)
    assert at.kept == [Record(server_url=MCP)]


def test_a_client_registered_since_does_not_die_for_an_older_one() -> None:
    newer = KNOWN.registered(AS, dataclasses.replace(CLIENT, client_id="client-2"))
    at = World({TOKEN: found({"error": "invalid_client"}, 401)})
    with pytest.raises(InvalidGrant):
        refresh(at, newer)
    assert at.kept == [without_refresh_token(newer)]


def test_a_dead_client_of_the_user_is_for_the_user_to_see_to() -> None:
    at = World({TOKEN: found({"error": "invalid_client"}, 401)})
    with pytest.raises(Declined) as caught:
        refresh(at, client_id="client-1", client_secret="s")
    assert "--client-id" in (caught.value.hint or "")
    assert at.kept == []


@pytest.mark.parametrize(
    "trouble",
    [
        Unreachable("no route"),
        ConnectionLost("reset"),
        TimedOut("silence"),
        found({"error": "temporarily_unavailable"}, 400),
        found({"error": "invalid_grant"}, 503),
        Fetched(502, {}, b"<h1>Bad gateway</h1>"),
        Fetched(403, {}, b"<h1>Blocked</h1>"),
        MISSING,
    ],
)
def test_trouble_on_the_way_costs_no_grant(trouble: Any) -> None:
    at = World({TOKEN: trouble})
    with pytest.raises((Unreachable, ConnectionLost, TimedOut, Refused)):
        refresh(at)
    assert at.kept == []


@pytest.mark.parametrize(
    "tokens", [None, dataclasses.replace(OLD, refresh_token=None)], ids=["none", "no refresh token"]
)
def test_nothing_to_refresh_with_is_a_dead_grant(tokens: Any) -> None:
    at = World()
    with pytest.raises(InvalidGrant):
        refresh(at, KNOWN.holding(tokens))
    assert at.fetched == []


def test_an_answer_without_the_id_token_that_is_used_ends_the_grant() -> None:
    at = World({TOKEN: found(TOKENS)})
    with pytest.raises(InvalidGrant, match="no ID token"):
        refresh(at, uses_id_token=True)


def test_after_a_refusal_the_resource_is_asked_who_gives_tokens() -> None:
    at = world()
    assert refresh(at, challenge=REFUSED).tokens is not None
    assert at.fetched == [f"GET {PRM}", f"POST {TOKEN}"]


def test_a_token_of_an_earlier_server_is_not_renewed() -> None:
    at = world({"authorization_servers": ["https://new.example"]})
    with pytest.raises(InvalidGrant, match=r"`https://as.example`.*`https://new.example`"):
        refresh(at, challenge=REFUSED)
    assert at.fetched == [f"GET {PRM}"]
    assert at.kept == [KNOWN.holding(None)]


def test_a_legacy_server_is_not_asked_for_what_it_does_not_publish() -> None:
    assert refresh(World({TOKEN: found(TOKENS)}), challenge=REFUSED).tokens is not None


# Step-up


WIDER = Challenge(error="insufficient_scope", scope="admin read")


def step_up(at: World, known: Record = KNOWN, **settings: Any) -> Record:
    return at.run(login.step_up(OAuth(**settings), MCP, WIDER, known))


@pytest.mark.parametrize(
    "requested, granted, expected",
    [
        ("read write", "read", "read write admin"),
        (None, "read", "read admin"),
        (None, None, "admin read"),
    ],
)
def test_a_step_up_asks_for_the_union(requested: str, granted: str, expected: str) -> None:
    at = world()
    old = dataclasses.replace(OLD, requested_scope=requested, scope=granted)
    record = step_up(at, KNOWN.holding(old))
    assert at.visits[0]["scope"] == expected
    assert at.visits[0]["client_id"] == "client-1"
    assert record.tokens is not None
    assert record.tokens.requested_scope == expected


def test_a_step_up_adds_to_the_scope_of_the_user() -> None:
    at = world(server={"scopes_supported": ["offline_access"]})
    step_up(at, KNOWN.holding(dataclasses.replace(OLD, requested_scope="mine")), scope="mine")
    assert at.visits[0]["scope"] == "mine admin read"


def test_a_step_up_at_another_server_begins_anew() -> None:
    at = world()
    old = dataclasses.replace(OLD, issuer="https://old.example", requested_scope="old")
    step_up(at, KNOWN.holding(old))
    assert at.visits[0]["scope"] == "admin read"


def test_no_page_is_opened_unasked_where_none_may_be() -> None:
    at = world()
    with pytest.raises(AuthorizationFailed, match="admin read") as caught:
        step_up(at, opens_browser=False)
    assert "login" in (caught.value.hint or "")
    assert at.commands == []


def test_a_step_up_that_nobody_answers_costs_nothing() -> None:
    at = world()
    at.browser = TimedOut("nobody came back")
    with pytest.raises(NobodyCameBack):
        step_up(at)
    assert at.kept == []


# Client credentials


OWN: dict[str, Any] = {
    "grant": "client-credentials",
    "client_id": "mine",
    "client_secret": "secret-1",
}


@pytest.mark.parametrize(
    "offered, credentials",
    [
        (None, (None, None, "mine:secret-1")),
        (["client_secret_basic", "client_secret_post"], (None, None, "mine:secret-1")),
        (["client_secret_post"], ("mine", "secret-1", None)),
    ],
)
def test_client_credentials_need_nobody(
    offered: list[str] | None, credentials: tuple[str | None, ...]
) -> None:
    at = world(
        {"scopes_supported": ["read"]},
        {
            "token_endpoint_auth_methods_supported": offered,
            "authorization_endpoint": None,
            "code_challenge_methods_supported": None,
            "scopes_supported": ["offline_access"],
        },
    )
    known = Record(server_url=MCP, client_id="mine")
    record = at.run(login.sign_in(OAuth(**OWN), MCP, None, known))
    [request] = at.sent(TOKEN)
    sent = form_of(request)
    assert (
        sent.pop("client_id", None),
        sent.pop("client_secret", None),
        basic_of(request),
    ) == credentials
    assert sent == {"grant_type": "client_credentials", "scope": "read", "resource": MCP}
    assert not at.ports
    assert not at.visits
    assert not at.kept
    assert record.tokens is not None
    again = World({TOKEN: found({**TOKENS, "access_token": "access-2"})})
    renewed = refresh(again, record, **OWN)
    assert again.sent(TOKEN) == [dataclasses.replace(request)]
    assert renewed.tokens is not None
    assert renewed.tokens.access_token == "access-2"


def test_client_credentials_may_step_up_without_a_person() -> None:
    at = world()
    known = Record(
        server_url=MCP,
        registrations={AS: Registration(client_id="mine")},
        tokens=dataclasses.replace(OLD, client_id="mine"),
    )
    step_up(at, known, opens_browser=False, **OWN)
    assert form_of(at.sent(TOKEN)[0])["scope"] == "read write admin"


@pytest.mark.parametrize("missing", ["client_id", "client_secret"])
def test_client_credentials_are_the_users_own(missing: str) -> None:  # no registration
    at = world()
    with pytest.raises(UsageFailure, match="needs a client id and a client secret"):
        at.run(login.sign_in(OAuth(**{**OWN, missing: None}), MCP, None, KNOWN))
    assert at.commands == []


@pytest.mark.parametrize("error", ["invalid_client", "invalid_scope"])
def test_credentials_that_are_refused_are_not_tried_again(error: str) -> None:
    known = Record(server_url=MCP, tokens=dataclasses.replace(OLD, client_id="mine"))
    for flow in (
        login.sign_in(OAuth(**OWN), MCP, None, known),
        login.refresh(OAuth(**OWN), MCP, known),
    ):
        at = world()
        at.pages[TOKEN] = found({"error": error}, 401)
        with pytest.raises(Declined) as caught:
            at.run(flow)
        option = "--client-id" if error == "invalid_client" else "--oauth-scope"
        assert option in (caught.value.hint or "")
        assert len(at.sent(TOKEN)) == 1


# Revocation


HELD = KNOWN.holding(dataclasses.replace(OLD, revocation_endpoint=REVOKE))


def test_both_tokens_are_revoked_the_refresh_token_first() -> None:  # RFC 7009
    at = World({REVOKE: Fetched(200, {}, b"")})
    at.run(login.revoke(OAuth(), HELD))
    assert [form_of(request) for request in at.sent(REVOKE)] == [
        {"token": "refresh-1", "token_type_hint": "refresh_token", "client_id": "client-1"},
        {"token": "access-1", "token_type_hint": "access_token", "client_id": "client-1"},
    ]


@pytest.mark.parametrize("known", [KNOWN, KNOWN.holding(None)])
def test_nothing_is_revoked_where_that_is_not_offered(known: Record) -> None:
    at = World()
    at.run(login.revoke(OAuth(), known))
    assert at.commands == []


@pytest.mark.parametrize("answer", [found({"error": "unsupported_token_type"}, 400), MISSING])
def test_a_revocation_that_failed_is_not_passed_over(answer: Fetched) -> None:
    at = World({REVOKE: answer})
    with pytest.raises((Declined, Refused), match="could not revoke the token"):
        at.run(login.revoke(OAuth(), HELD))


def test_a_sign_in_remembers_where_to_revoke() -> None:
    at = world(server={"revocation_endpoint": REVOKE})
    tokens = at.run(login.sign_in(OAuth(), MCP, None, KNOWN)).tokens
    assert tokens is not None
    assert tokens.revocation_endpoint == REVOKE
    assert any(isinstance(command, Visit) for command in at.commands)


GONE = Fetched(410, {}, b"moved")
NEW_TOKEN = f"{AS}/oauth2/token"


@pytest.mark.parametrize("status", [404, 405, 410])
def test_a_token_endpoint_that_has_moved_is_looked_for_where_it_is_published(status: int) -> None:
    at = world(server={"token_endpoint": NEW_TOKEN})
    at.pages |= {TOKEN: Fetched(status, {}, b""), NEW_TOKEN: found(TOKENS)}
    tokens = refresh(at).tokens
    assert tokens is not None
    assert (tokens.access_token, tokens.token_endpoint) == ("access-1", NEW_TOKEN)
    assert form_of(at.sent(NEW_TOKEN)[0])["refresh_token"] == "refresh-1"


@pytest.mark.parametrize(
    "resource, server, refusal",
    [
        ({}, {}, GONE),  # it is where it was
        ({}, {"token_endpoint": NEW_TOKEN}, Fetched(503, {}, b"")),
        # Another issuer is another server, to which no token of the old one goes.
        (
            {"authorization_servers": ["https://other.example"]},
            {"token_endpoint": NEW_TOKEN},
            GONE,
        ),
    ],
)
def test_otherwise_a_refused_renewal_is_told_as_it_is(
    resource: dict[str, Any], server: dict[str, Any], refusal: Fetched
) -> None:
    at = world(resource, server)
    at.pages |= {TOKEN: refusal, NEW_TOKEN: found(TOKENS)}
    other = {**found_server(at), "issuer": "https://other.example"}
    at.pages["https://other.example/.well-known/oauth-authorization-server"] = found(other)
    with pytest.raises(Refused, match=f"HTTP {refusal.status}"):
        refresh(at)
    assert at.sent(NEW_TOKEN) == []
    assert at.kept == []


def found_server(at: World) -> dict[str, Any]:
    """The metadata of the authorization server."""
    document: dict[str, Any] = json.loads(at.pages[ASM].body)
    return document
