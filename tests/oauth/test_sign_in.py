"""From a challenge to tokens with a person at a browser: registration, the page, the exchange."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from mcp_stdio.config import OAuth
from mcp_stdio.errors import (
    AuthorizationFailed,
    Declined,
    PortTaken,
    Refused,
    TimedOut,
    UsageFailure,
)
from mcp_stdio.oauth import login
from mcp_stdio.oauth.authorization import NobodyCameBack, code_challenge
from mcp_stdio.oauth.challenge import Challenge
from mcp_stdio.oauth.commands import Command, Fetch, Fetched, Listen, Visit
from mcp_stdio.oauth.discovery import NowhereToSignIn
from mcp_stdio.oauth.record import Record, Registration
from mcp_stdio.redaction import redact_known
from tests.oauth.pump import (
    AS,
    ASM,
    CLOCK,
    LISTENER,
    MCP,
    MISSING,
    PRM,
    SERVER,
    TOKENS,
    Answer,
    World,
    basic_of,
    came_back,
    form,
    form_of,
    found,
    world,
)
from tests.oauth.test_record import TOKENS as OLD

NEW = Record(server_url=MCP)
REGISTER, TOKEN = f"{AS}/register", f"{AS}/token"


def sign_in(
    at: World,
    known: Record = NEW,
    challenge: Challenge | None = None,
    **settings: Any,
) -> Record:
    return at.run(login.sign_in(OAuth(**settings), MCP, challenge, known))


def registered(at: World) -> dict[str, Any]:
    [request] = at.sent(REGISTER)
    assert ("Content-Type", "application/json") in request.headers
    wish: dict[str, Any] = json.loads(request.body)
    return wish


def exchanged(at: World) -> dict[str, str]:
    [request] = at.sent(TOKEN)
    return form_of(request)


def test_the_whole_story() -> None:
    at = world()
    record = sign_in(at)
    assert at.fetched == [f"GET {PRM}", f"GET {ASM}", f"POST {REGISTER}", f"POST {TOKEN}"]
    kinds = [type(command) for command in at.commands if not isinstance(command, Fetch)]
    # The listener is open before the client is registered and the page is shown.
    assert kinds.index(Listen) < kinds.index(Visit)
    tokens = record.tokens
    assert tokens is not None
    assert tokens.access_token == tokens.bearer == "access-1"
    assert tokens.refresh_token == "refresh-1"
    assert tokens.expires_at == CLOCK + 3600
    assert tokens.issuer == AS
    assert tokens.client_id == "client-1"
    assert tokens.resource == MCP
    assert tokens.token_endpoint == TOKEN
    assert list(record.registrations) == [AS]


def test_pkce_with_s256_and_all_parameters() -> None:
    at = world()
    sign_in(at)
    [page], form = at.visits, exchanged(at)
    verifier = form.pop("code_verifier")
    assert 43 <= len(verifier) <= 128
    state = page.pop("state")
    assert len(state) >= 22  # 128 bits in Base64
    assert page == {
        "response_type": "code",
        "client_id": "client-1",
        "redirect_uri": LISTENER,
        "code_challenge": code_challenge(verifier),
        "code_challenge_method": "S256",
        "resource": MCP,
    }
    assert form == {
        "grant_type": "authorization_code",
        "code": "code-1",
        "client_id": "client-1",
        "redirect_uri": LISTENER,
        "resource": MCP,
    }
    [visit] = [command for command in at.commands if isinstance(command, Visit)]
    assert visit.state == state
    assert not {state, verifier, "code-1"} & set(repr(at.commands).split("'"))


def test_no_secret_of_a_sign_in_shows_in_its_failure() -> None:  # P7
    """A careless server repeats the form that it refuses, in prose that no pattern knows."""
    secret, code = "registered-5711/a", "came-back-8842/b"

    class Careless(World):
        def answer(self, command: Command) -> Answer:
            answer = super().answer(command)
            if isinstance(command, Fetch) and command.url == TOKEN:
                said = " and ".join(form_of(command).values())
                return found({"error": "invalid_grant", "error_description": said}, 400)
            return answer

    usual = world(server={"token_endpoint_auth_methods_supported": ["client_secret_post"]})
    at = Careless(usual.pages, browser=came_back(code=code))
    at.pages[REGISTER] = found({"client_id": "client-1", "client_secret": secret}, 201)
    with pytest.raises(Declined) as caught:
        sign_in(at)
    form = exchanged(at)
    assert (form["client_secret"], form["code"]) == (secret, code)
    for hidden in (secret, code, form["code_verifier"]):
        assert hidden not in str(caught.value)
    assert "***" in str(caught.value)
    [visit] = [command for command in at.commands if isinstance(command, Visit)]
    assert redact_known(visit.url) == visit.url  # it is to be followed


def test_the_challenge_of_rfc_7636() -> None:  # appendix B
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert code_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == challenge


def test_state_and_verifier_are_fresh_each_time() -> None:
    pages = [world() for _ in range(2)]
    for at in pages:
        sign_in(at)
    assert pages[0].visits[0]["state"] != pages[1].visits[0]["state"]
    assert pages[0].visits[0]["code_challenge"] != pages[1].visits[0]["code_challenge"]


@pytest.mark.parametrize(
    "methods, settings, refusal",
    [
        (["S256"], {}, None),
        (["plain", "S256"], {}, None),
        (None, {}, "does not say that it supports PKCE"),
        ("S256", {}, "does not say"),
        (None, {"assumes_pkce": True}, None),
        ([], {"assumes_pkce": True}, "does not support PKCE with S256"),
        (["plain"], {"assumes_pkce": True}, "does not support PKCE with S256"),
    ],
)
def test_a_server_must_announce_pkce(
    methods: Any, settings: dict[str, Any], refusal: str | None
) -> None:
    at = world(server={"code_challenge_methods_supported": methods})
    if refusal is None:
        sign_in(at, **settings)
        assert at.visits[0]["code_challenge_method"] == "S256"
    else:
        with pytest.raises(AuthorizationFailed, match=refusal) as caught:
            sign_in(at, **settings)
        is_curable = "does not say" in refusal
        assert ("--oauth-assume-pkce" in (caught.value.hint or "")) == is_curable
        assert at.visits == []
        assert at.ports == []


def test_a_legacy_server_need_not_announce_pkce() -> None:
    at = World(
        {
            "https://mcp.example/register": found({"client_id": "client-1"}),
            "https://mcp.example/token": found(TOKENS),
        }
    )
    record = sign_in(at)
    assert record.tokens is not None
    assert record.tokens.issuer == "https://mcp.example"
    assert at.visits[0]["resource"] == MCP


PUBLISHED = ["read", "write"]


@pytest.mark.parametrize(
    "challenged, published, offered, settings, scope",
    [
        ("admin", PUBLISHED, [], {}, "admin"),  # authoritative, no subset of what is published
        (None, PUBLISHED, [], {}, "read write"),
        ("", PUBLISHED, [], {}, "read write"),
        (None, None, [], {}, None),
        (None, [], [], {}, None),
        (None, ["a", "a", 7, "b\ud800", "c d"], [], {}, "a c d"),
        # only where the authorization server knows it, and never alone.
        ("read", None, ["offline_access"], {}, "read offline_access"),
        ("offline_access read", None, ["offline_access"], {}, "offline_access read"),
        (None, None, ["offline_access"], {}, None),
        # The user's word is final.
        ("admin", PUBLISHED, ["offline_access"], {"scope": "mine  too"}, "mine too"),
        ("admin", PUBLISHED, ["offline_access"], {"scope": " "}, None),
        ("read", None, [], {"uses_id_token": True}, "read openid"),
    ],
)
def test_the_scope_that_is_asked_for(
    challenged: str | None,
    published: list[Any] | None,
    offered: list[str],
    settings: dict[str, Any],
    scope: str | None,
) -> None:
    at = world({"scopes_supported": published}, {"scopes_supported": offered})
    at.pages[TOKEN] = found({**TOKENS, "id_token": "id-1"})
    record = sign_in(at, challenge=Challenge(scope=challenged), **settings)
    assert at.visits[0].get("scope") == scope
    assert ("scope" in at.visits[0]) == (scope is not None)  # never an empty one
    assert record.tokens is not None
    assert record.tokens.requested_scope == scope


@pytest.mark.parametrize(
    "settings, resource",
    [
        ({}, "https://mcp.example/"),
        ({"resource": "urn:mine"}, "urn:mine"),
        ({"sends_resource": False}, None),
        ({"sends_resource": False, "resource": "urn:mine"}, None),
    ],
)
def test_the_resource_that_is_named(settings: dict[str, Any], resource: str | None) -> None:
    at = world({"resource": "https://mcp.example/"})  # as published, its slash included
    record = sign_in(at, **settings)
    assert at.visits[0].get("resource") == resource
    assert exchanged(at).get("resource") == resource
    assert record.tokens is not None
    assert record.tokens.resource == resource


def test_parameters_of_the_user_and_of_the_endpoint() -> None:
    endpoint = f"{AS}/authorize?tenant=a%20b&client_id=theirs&empty="
    at = world(server={"authorization_endpoint": endpoint})
    extra = (("audience", "x&y=1"), ("prompt", "consent"), ("state", "mine"))
    sign_in(at, parameters=extra)
    [page] = at.visits
    assert page["tenant"] == "a b"
    assert page["empty"] == ""
    assert page["client_id"] == "client-1"
    assert page["audience"] == "x&y=1"
    assert page["prompt"] == "consent"
    assert page["state"] != "mine"


# The redirect


@pytest.mark.parametrize(
    "announced, issuer, is_accepted",
    [
        (True, AS, True),
        (True, None, False),
        (True, "https://evil.example", False),
        (False, AS, True),
        (False, None, True),
        (False, "https://evil.example", False),
        (None, AS, True),
        (None, None, True),
        (None, "https://evil.example", False),
        # Nothing is normalised.
        (True, f"{AS}/", False),
        (True, "https://AS.example", False),
        (True, f"{AS}:443", False),
        (True, "https://as%2Eexample", False),
        (None, "", False),
    ],
)
@pytest.mark.parametrize("error", [None, "access_denied"])
def test_a_redirect_is_of_the_issuer_or_refused(  # A-21, RFC 9207
    announced: bool | None, issuer: str | None, is_accepted: bool, error: str | None
) -> None:
    at = world(server={"authorization_response_iss_parameter_supported": announced})
    at.browser = {"error": error, "error_description": "told"} if error else came_back()
    at.browser = {**at.browser, **({"iss": issuer} if issuer is not None else {})}
    if is_accepted and not error:
        sign_in(at)
        assert exchanged(at)["code"] == "code-1"
        return
    with pytest.raises(AuthorizationFailed) as caught:
        sign_in(at)
    assert at.sent(TOKEN) == []
    # What a redirect of another issuer says is not shown.
    assert ("told" in str(caught.value)) == is_accepted
    assert isinstance(caught.value, Declined) == is_accepted


@pytest.mark.parametrize("redirect", [{}, {"code": ""}, {"code": "a\nb"}, {"state": "x"}])
def test_a_redirect_without_a_code_is_refused(redirect: dict[str, str]) -> None:
    at = world()
    at.browser = redirect
    with pytest.raises(AuthorizationFailed, match="without a code"):
        sign_in(at)
    assert at.sent(TOKEN) == []


def test_a_denial_is_said_in_clean_words() -> None:
    at = world()
    at.browser = {"error": "access_denied", "error_description": "\x1b[31mno\x07 <b>" + "x" * 999}
    with pytest.raises(Declined) as caught:
        sign_in(at)
    assert caught.value.hint == "the sign-in was cancelled or not allowed; try again when it is"
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_server_that_has_a_bad_day_says_so_in_the_redirect() -> None:
    at = world()
    at.browser = {"error": "temporarily_unavailable"}
    with pytest.raises(Refused, match="temporarily_unavailable") as caught:
        sign_in(at)
    assert caught.value.status == 503


# Registration


def test_what_a_registration_asks_for() -> None:
    at = world()
    sign_in(at)
    assert registered(at) == {
        "client_name": "mcp-stdio",
        "application_type": "native",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": [LISTENER],
        "token_endpoint_auth_method": "none",
    }


@pytest.mark.parametrize(
    "offered, method",
    [
        (None, "none"),
        (["client_secret_post", "none"], "none"),
        (["client_secret_post", "client_secret_basic"], "client_secret_basic"),
        (["client_secret_post"], "client_secret_post"),
        (["private_key_jwt"], "none"),
    ],
)
def test_the_best_offered_method_is_registered(offered: list[str] | None, method: str) -> None:
    at = world(server={"token_endpoint_auth_methods_supported": offered})
    sign_in(at)
    assert registered(at)["token_endpoint_auth_method"] == method


BOTH = ["client_secret_basic", "client_secret_post"]


@pytest.mark.parametrize(
    "secret, said, offered, expected",
    [
        (None, None, ["client_secret_basic"], "none"),
        (None, "client_secret_basic", BOTH, "none"),
        ("s:/+ %", "none", BOTH, "none"),
        ("s:/+ %", "client_secret_post", BOTH, "post"),
        ("s:/+ %", "client_secret_basic", ["client_secret_post"], "basic"),
        ("s:/+ %", None, None, "basic"),
        ("s:/+ %", None, BOTH, "basic"),
        ("s:/+ %", None, ["client_secret_post"], "post"),
        ("s:/+ %", None, ["none"], "post"),
    ],
)
def test_how_the_client_proves_who_it_is(
    secret: str | None, said: str | None, offered: list[str] | None, expected: str
) -> None:
    answer = {
        "client_id": "id:1",
        "client_secret": secret,
        "token_endpoint_auth_method": said,
    }
    at = world(server={"token_endpoint_auth_methods_supported": offered})
    at.pages[REGISTER] = found(answer, 201)
    sign_in(at)
    [request] = at.sent(TOKEN)
    sent = {name: form_of(request).get(name) for name in ("client_id", "client_secret")}
    credentials = {
        "none": ({"client_id": "id:1", "client_secret": None}, None),
        "post": ({"client_id": "id:1", "client_secret": secret}, None),
        # Form-encoded before they are joined (RFC 6749 section 2.3.1).
        "basic": ({"client_id": None, "client_secret": None}, "id%3A1:s%3A%2F%2B+%25"),
    }
    assert (sent, basic_of(request)) == credentials[expected]


def test_a_method_that_is_not_known_is_refused() -> None:
    at = world()
    at.pages[REGISTER] = found(
        {"client_id": "a", "client_secret": "b", "token_endpoint_auth_method": "private_key_jwt"}
    )
    with pytest.raises(AuthorizationFailed, match="private_key_jwt"):
        sign_in(at)


KNOWN = NEW.registered(AS, Registration(client_id="stored", method="none", redirect_uri=LISTENER))


def test_a_registered_client_is_used_again_with_its_port() -> None:
    at = world()
    sign_in(at, KNOWN)
    assert at.ports == [4711]
    assert at.sent(REGISTER) == []
    assert at.visits[0]["client_id"] == "stored"


def test_a_port_that_is_taken_takes_a_new_registration() -> None:
    at = world()
    at.listeners = {4711: PortTaken("taken"), None: "http://127.0.0.1:4712/callback"}
    record = sign_in(at, KNOWN)
    assert at.ports == [4711, None]
    assert registered(at)["redirect_uris"] == ["http://127.0.0.1:4712/callback"]
    assert record.registrations[AS].client_id == "client-1"


def test_a_port_of_the_user_is_that_port() -> None:
    at = world()
    sign_in(at, callback_port=4711)
    assert at.ports == [4711]
    at.listeners = {4711: PortTaken("taken")}
    with pytest.raises(PortTaken):
        sign_in(at, KNOWN, callback_port=4711)


@pytest.mark.parametrize("error", ["invalid_redirect_uri", "invalid_client_metadata"])
def test_a_server_that_knows_only_localhost(error: str) -> None:
    at = world()
    at.pages[REGISTER] = [found({"error": error}, 400), found({"client_id": "client-1"}, 201)]
    record = sign_in(at)
    tries = [json.loads(request.body)["redirect_uris"] for request in at.sent(REGISTER)]
    by_name = "http://localhost:4711/callback"
    assert tries == [[LISTENER], [by_name]]
    assert at.visits[0]["redirect_uri"] == exchanged(at)["redirect_uri"] == by_name
    again = world()
    sign_in(again, record)
    assert again.ports == [4711]
    assert again.sent(REGISTER) == []
    assert again.visits[0]["redirect_uri"] == by_name


@pytest.mark.parametrize(
    "expires_at, is_used", [(CLOCK - 1, False), (CLOCK + 1, True), (None, True)]
)
def test_a_secret_that_has_expired_takes_a_new_registration(
    expires_at: float | None, is_used: bool
) -> None:
    client = Registration(
        client_id="stored",
        client_secret="s",
        secret_expires_at=expires_at,
        method="client_secret_post",
        redirect_uri=LISTENER,
    )
    at = world()
    sign_in(at, NEW.registered(AS, client))
    assert (at.sent(REGISTER) == []) == is_used


@pytest.mark.parametrize(
    "said, kept", [(0, None), (2_000_000, 2e6), ("2000001", 2_000_001.0), (None, None)]
)
def test_when_a_secret_expires_is_kept(said: object, kept: float | None) -> None:
    at = world()
    answer = {"client_id": "a", "client_secret": "b", "client_secret_expires_at": said}
    at.pages[REGISTER] = found(answer)
    assert sign_in(at).registrations[AS].secret_expires_at == kept


def test_a_registration_outlives_a_sign_in_that_nobody_finished() -> None:
    at = world()
    at.browser = TimedOut("nobody came back")
    with pytest.raises(NobodyCameBack):
        sign_in(at)
    [kept] = at.kept
    assert kept.registrations[AS].client_id == "client-1"


def test_a_stored_client_whose_page_never_leads_back_is_forgotten() -> None:  # design 5
    at = world()
    at.browser = TimedOut("nobody came back")
    with pytest.raises(NobodyCameBack):
        sign_in(at, KNOWN.holding(OLD))
    assert at.kept == [NEW.holding(OLD)]  # they may be in use elsewhere


def test_an_id_of_the_user_is_not_forgotten_for_that() -> None:
    at = world()
    at.browser = TimedOut("nobody came back")
    with pytest.raises(NobodyCameBack):
        sign_in(at, KNOWN, client_id="stored")
    assert at.kept == []


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client"])
@pytest.mark.parametrize("where", ["token", "page"])
def test_a_dead_client_is_registered_once_more(error: str, where: str) -> None:
    at = world()
    if where == "token":
        at.pages[TOKEN] = [found({"error": error}, 401), found(TOKENS)]
    else:
        redirects: list[Any] = [{"error": error}, came_back()]
        at.browser = lambda visit: redirects.pop(0)
    record = sign_in(at, KNOWN)
    assert [page["client_id"] for page in at.visits] == ["stored", "client-1"]
    assert at.ports == [4711, None]  # the first listener has closed with its redirect
    assert at.kept[0] == NEW
    assert record.registrations[AS].client_id == "client-1"
    assert record.tokens is not None
    assert record.tokens.client_id == "client-1"


@pytest.mark.parametrize("known", [NEW, KNOWN])
def test_a_client_that_dies_at_once_ends_the_sign_in(known: Record) -> None:
    at = world()
    at.pages[TOKEN] = found({"error": "invalid_client"}, 401)
    with pytest.raises(Declined):
        sign_in(at, known)
    assert len(at.sent(REGISTER)) == 1


@pytest.mark.parametrize(
    "answer",
    [found({"error": "access_denied"}, 403), Fetched(401, {}, b"<p>no"), found({"name": "x"}, 201)],
)
def test_a_registration_that_fails(answer: Fetched) -> None:
    at = world()
    at.pages[REGISTER] = answer
    with pytest.raises((Declined, Refused, AuthorizationFailed), match="could not register"):
        sign_in(at)
    assert at.visits == []


def test_a_server_without_registration_needs_an_id() -> None:
    at = world(server={"registration_endpoint": None})
    with pytest.raises(AuthorizationFailed, match="does not register clients") as caught:
        sign_in(at)
    assert "--client-id" in (caught.value.hint or "")


def test_an_id_of_the_user_comes_first() -> None:
    at = world(
        server={
            "client_id_metadata_document_supported": True,
            "token_endpoint_auth_methods_supported": BOTH,
        }
    )
    record = sign_in(
        at,
        KNOWN.unregistered(AS),
        client_id="mine",
        client_secret="secret-1",
        client_metadata_url="https://me.example/client",
    )
    assert at.sent(REGISTER) == []
    assert at.visits[0]["client_id"] == "mine"
    assert basic_of(at.sent(TOKEN)[0]) == "mine:secret-1"
    # Its issuer is remembered, its secret is not: that stays with the settings.
    assert record.registrations[AS].client_id == "mine"
    assert b"secret-1" not in record.to_json()


def test_an_id_of_the_user_is_shown_to_its_issuer_only() -> None:
    at = world()
    other = NEW.registered("https://old.example", Registration(client_id="mine"))
    with pytest.raises(AuthorizationFailed, match=r"`https://old.example`.*`https://as.example`"):
        sign_in(at, other, client_id="mine")
    assert at.visits == []


@pytest.mark.parametrize("is_known, is_used", [(True, True), (False, False), (None, False)])
def test_a_client_metadata_document_where_it_is_understood(
    is_known: bool | None, is_used: bool
) -> None:
    url = "https://me.example/client.json"
    at = world(server={"client_id_metadata_document_supported": is_known})
    record = sign_in(at, KNOWN if is_used else NEW, client_metadata_url=url)
    assert at.visits[0]["client_id"] == (url if is_used else "client-1")
    assert (at.sent(REGISTER) == []) == is_used
    assert record.tokens is not None
    assert record.tokens.client_id == at.visits[0]["client_id"]


# The tokens


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER"])
def test_a_bearer_token_is_accepted(token_type: str) -> None:
    at = world()
    at.pages[TOKEN] = found({**TOKENS, "token_type": token_type})
    assert sign_in(at).tokens is not None


@pytest.mark.parametrize(
    "answer, reason",
    [
        ({"token_type": "DPoP"}, "`DPoP`"),
        ({"token_type": "mac"}, "`mac`"),
        ({"token_type": None}, "no type"),
        ({"access_token": None}, "no access token"),
        ({"access_token": ""}, "no access token"),
        ({"access_token": "a b"}, "no access token"),
        ({"access_token": "a\r\nX: y"}, "no access token"),
        ({"access_token": "ä"}, "no access token"),
        ({"access_token": 7}, "no access token"),
    ],
)
def test_a_token_that_cannot_be_used(answer: dict[str, Any], reason: str) -> None:
    at = world()
    at.pages[TOKEN] = found({**TOKENS, **answer})
    with pytest.raises(AuthorizationFailed, match=reason):
        sign_in(at)
    assert len(at.sent(TOKEN)) == 1  # the code is exchanged once


def test_form_encoded_tokens_are_understood() -> None:
    at = world()
    at.pages[TOKEN] = form(b"access_token=a%2Fb&token_type=bearer&expires_in=60&scope=x+y")
    tokens = sign_in(at).tokens
    assert tokens is not None
    assert tokens.access_token == "a/b"
    assert tokens.expires_at == CLOCK + 60
    assert tokens.scope == "x y"
    assert tokens.refresh_token is None


@pytest.mark.parametrize(
    "lifetime, expires_at",
    [
        (60, CLOCK + 60),
        ("90", CLOCK + 90),
        (1.5, CLOCK + 1.5),
        (None, None),
        (0, None),
        (-1, None),
        ("soon", None),
        (True, None),
        (float("inf"), None),
        pytest.param(10**400, None, id="huge"),
    ],
)
def test_how_long_a_token_lasts(lifetime: object, expires_at: float | None) -> None:
    at = world()
    at.pages[TOKEN] = found({**TOKENS, "expires_in": lifetime})
    tokens = sign_in(at).tokens
    assert tokens is not None
    assert tokens.expires_at == expires_at


@pytest.mark.parametrize("said, granted", [("read", "read"), (None, "read write")])
def test_granted_and_requested_scope_are_kept_apart(said: str | None, granted: str) -> None:
    at = world({"scopes_supported": PUBLISHED})
    at.pages[TOKEN] = found({**TOKENS, "scope": said})
    tokens = sign_in(at).tokens
    assert tokens is not None
    assert tokens.scope == granted
    assert tokens.requested_scope == "read write"


CLAIMS = "eyJleHAiOiAxMDAwMDYwfQ"  # {"exp": 1000060}


@pytest.mark.parametrize(
    "id_token, expires_at",
    [(f"h.{CLAIMS}.s", 1_000_060), ("opaque", CLOCK + 3600), ("a.!.c", CLOCK + 3600)],
)
def test_the_id_token_is_used_where_the_user_says_so(id_token: str, expires_at: float) -> None:
    at = world()
    at.pages[TOKEN] = found({**TOKENS, "id_token": id_token})
    tokens = sign_in(at, uses_id_token=True).tokens
    assert tokens is not None
    assert tokens.bearer == id_token
    assert tokens.expires_at == expires_at
    without = sign_in(at).tokens
    assert without is not None
    assert without.id_token is None
    assert without.bearer == "access-1"


def test_an_id_token_that_is_missing_is_said_to_be() -> None:
    with pytest.raises(AuthorizationFailed, match="no ID token"):
        sign_in(world(), uses_id_token=True)


def test_what_is_no_resource_to_the_server_may_be_left_out() -> None:
    at = world()
    at.pages[TOKEN] = found({"error": "invalid_target"}, 400)
    with pytest.raises(Declined) as caught:
        sign_in(at)
    assert "`--no-resource-indicator`" in str(caught.value.hint)


@pytest.mark.parametrize(
    "answer, kind, said",
    [
        (found({"error": "invalid_grant", "error_description": "used"}, 400), Declined, "used"),
        (found({"error": "invalid_grant"}, 200), Declined, "invalid_grant"),
        (form(b"error=bad_verification_code", 200), Declined, "bad_verification_code"),
        (form(b"error=bad_verification_code", 401), Declined, "bad_verification_code"),
        (found({"error": "server_error"}, 400), Refused, "server_error"),
        (found({"error": "slow"}, 503), Refused, "slow"),
        (found({"error": {"code": 1}}, 400), Refused, "HTTP 400 from `as.example`"),
        (Fetched(502, {}, b"<h1>Bad\x00 gateway</h1>"), Refused, "HTTP 502 from `as.example`"),
        (Fetched(200, {}, b"<h1>Hello</h1>"), Refused, "no usable answer"),
        (Fetched(302, {}, b""), Refused, "HTTP 302"),
        (MISSING, Refused, "HTTP 404"),
    ],
)
def test_error_answers(answer: Fetched, kind: type[Exception], said: str) -> None:
    at = world()
    at.pages[TOKEN] = answer
    with pytest.raises(kind, match=said) as caught:
        sign_in(at)
    assert type(caught.value) is kind
    assert str(caught.value).isprintable()


# What is never begun


def test_no_sign_in_over_plain_http() -> None:
    at = World()
    with pytest.raises(UsageFailure, match="plain http"):
        at.run(login.sign_in(OAuth(), "http://mcp.example/mcp", None, NEW))
    assert at.commands == []


def test_a_server_that_offers_only_dpop_is_refused() -> None:
    at = world()
    with pytest.raises(AuthorizationFailed, match="DPoP"):
        sign_in(at, challenge=Challenge(schemes=frozenset({"dpop"})))
    assert at.commands == []


def test_a_server_without_a_page_is_refused() -> None:
    at = world(server={"authorization_endpoint": None})
    with pytest.raises(AuthorizationFailed, match="no page to sign in at"):
        sign_in(at)


def test_a_server_that_has_moved_gets_nothing_old() -> None:
    new = "https://new.example"
    old = sign_in(world())
    at = world({"authorization_servers": [new]})
    at.pages[f"{new}/.well-known/oauth-authorization-server"] = found(
        {
            **SERVER,
            "issuer": new,
            "authorization_endpoint": f"{new}/authorize",
            "token_endpoint": f"{new}/token",
            "registration_endpoint": f"{new}/register",
        }
    )
    at.pages[f"{new}/register"] = found({"client_id": "client-2"}, 201)
    at.pages[f"{new}/token"] = found({**TOKENS, "access_token": "access-2", "refresh_token": None})
    record = sign_in(at, old)
    assert [command.url for command in at.commands if isinstance(command, Fetch)] == [
        PRM,
        f"{new}/.well-known/oauth-authorization-server",
        f"{new}/register",
        f"{new}/token",
    ]
    assert at.visits[0]["client_id"] == "client-2"
    assert record.tokens is not None
    assert record.tokens.refresh_token is None
    assert dataclasses.asdict(record.tokens)["issuer"] == new
    assert set(record.registrations) == {AS, new}


def test_a_server_that_publishes_nothing_does_not_say_where_to_sign_in() -> None:
    with pytest.raises(NowhereToSignIn, match="does not say where to sign in"):
        sign_in(World())


@pytest.mark.parametrize("error", ["invalid_client", "invalid_grant", "unauthorized_client"])
def test_a_client_that_is_refused_is_to_be_checked(error: str) -> None:
    at = world()
    at.pages[TOKEN] = found({"error": error}, 401)
    with pytest.raises(Declined) as caught:
        sign_in(at, grant="client-credentials", client_id="me", client_secret="mine-4417")
    assert caught.value.hint == login.CHECK_CLIENT
