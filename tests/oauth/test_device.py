"""The device authorization grant (RFC 8628), on a clock that is a number."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_stdio.config import OAuth
from mcp_stdio.errors import (
    AuthorizationFailed,
    Declined,
    NobodySignedIn,
    Refused,
    TimedOut,
    Unreachable,
    Unusable,
)
from mcp_stdio.oauth import login
from mcp_stdio.oauth.commands import Fetched, ShowCode, Wait
from mcp_stdio.oauth.device import HURRY
from mcp_stdio.oauth.record import Record, Registration
from tests.oauth.pump import AS, MCP, MISSING, TOKENS, World, form_of, found, world

DEVICE, TOKEN, REGISTER = f"{AS}/device", f"{AS}/token", f"{AS}/register"
PAGE = "https://as.example/activate"
CODE = {
    "device_code": "device-1",
    "user_code": "WDJB-MJHT",
    "verification_uri": PAGE,
    "verification_uri_complete": f"{PAGE}?user_code=WDJB-MJHT",
    "expires_in": 100,
    "interval": 10,
}
PENDING = found({"error": "authorization_pending"}, 400)
SLOWER = found({"error": "slow_down"}, 400)
NEW = Record(server_url=MCP)


def device(code: dict[str, Any] | None = None, *answers: Any) -> World:
    at = world(
        {"scopes_supported": ["read"]},
        {"device_authorization_endpoint": DEVICE, "authorization_endpoint": None},
    )
    at.pages[DEVICE] = found({**CODE, **(code or {})})
    at.pages[TOKEN] = [*answers, found(TOKENS)]
    return at


def sign_in(at: World, known: Record = NEW, **settings: Any) -> Record:
    return at.run(login.sign_in(OAuth(grant="device-code", **settings), MCP, None, known))


def waits(at: World) -> list[float]:
    return [command.seconds for command in at.commands if isinstance(command, Wait)]


def test_a_device_code_does_not_show_in_a_failure() -> None:  # P7
    hidden = "polled-with-6203"
    said = {"error": "access_denied", "error_description": f"nobody allowed {hidden}"}
    at = device({"device_code": hidden}, found(said, 400))
    with pytest.raises(Declined, match=r"nobody allowed \*\*\*") as caught:
        sign_in(at)
    assert hidden not in str(caught.value)


def test_a_code_is_shown_and_the_tokens_come() -> None:
    at = device(None, PENDING, PENDING)
    record = sign_in(at)
    assert record.tokens is not None
    assert record.tokens.access_token == "access-1"
    [shown] = [command for command in at.commands if isinstance(command, ShowCode)]
    assert shown == ShowCode(PAGE, "WDJB-MJHT", f"{PAGE}?user_code=WDJB-MJHT", 100.0)
    assert form_of(at.sent(DEVICE)[0]) == {
        "client_id": "client-1",
        "scope": "read",
        "resource": MCP,
    }
    polled = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": "device-1",
        "client_id": "client-1",
        "resource": MCP,
    }
    assert [form_of(request) for request in at.sent(TOKEN)] == [polled] * 3
    assert waits(at) == [10.0] * 3
    assert not at.ports
    assert not at.visits


def test_a_code_is_no_message() -> None:
    at = device(
        {"user_code": "0000, and then call 0900 123456 to have your account unlocked, now!"}
    )
    with pytest.raises(Unusable, match="more than 64 characters"):
        sign_in(at)
    assert not [command for command in at.commands if isinstance(command, ShowCode)]


def test_a_client_for_codes_is_registered_without_redirect() -> None:
    at = device()
    record = sign_in(at)
    wish = json.loads(at.sent(REGISTER)[0].body)
    assert wish["grant_types"] == ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"]
    assert wish["redirect_uris"] == wish["response_types"] == []
    assert wish["application_type"] == "native"
    again = device()
    sign_in(again, record)
    assert again.sent(REGISTER) == []


@pytest.mark.parametrize(
    "code, answers, expected",
    [
        ({"interval": None}, [PENDING], [5.0, 5.0]),
        ({"interval": 0}, [], [5.0]),
        ({"interval": "2"}, [PENDING], [2.0, 2.0]),
        ({"interval": 0.001}, [PENDING], [1.0, 1.0]),
        # section 3.5: five seconds more, for all that follow
        ({"interval": 1}, [SLOWER, PENDING, SLOWER], [1.0, 6.0, 6.0, 11.0]),
        # section 3.5: exponential backoff when nobody answers
        ({"interval": 1}, [Unreachable("x"), TimedOut("x"), PENDING], [1.0, 2.0, 4.0, 4.0]),
        ({"interval": 1}, [Fetched(502, {}, b"")], [1.0, 2.0]),
    ],
)
def test_how_often_is_asked(
    code: dict[str, Any], answers: list[Any], expected: list[float]
) -> None:
    at = device(code, *answers)
    assert sign_in(at).tokens is not None
    assert waits(at) == expected


@pytest.mark.parametrize(
    "code, settings, patience",
    [
        ({}, {"timeout": 30.0}, 30),
        ({"expires_in": 25}, {}, 25),
        ({"expires_in": None}, {"timeout": 1000.0}, 600),
    ],
)
def test_the_waiting_ends(code: dict[str, Any], settings: dict[str, Any], patience: int) -> None:
    at = device(code)
    at.pages[TOKEN] = PENDING
    with pytest.raises(AuthorizationFailed, match=f"nobody has signed in within {patience} s"):
        sign_in(at, **settings)
    assert sum(waits(at)) < patience


def test_little_time_is_enough_to_ask_once() -> None:
    """`--oauth-timeout` below the interval, which is one between two questions."""
    at = device({"interval": 5})
    assert sign_in(at, timeout=3.0).tokens is not None
    assert waits(at) == [3.0 * HURRY]
    at = device({"interval": 5}, PENDING)
    with pytest.raises(NobodySignedIn, match="nobody has signed in within 3 s"):
        sign_in(at, timeout=3.0)
    assert waits(at) == [3.0 * HURRY], "it was asked too soon after the first time"


@pytest.mark.parametrize("error", ["access_denied", "expired_token", "invalid_grant"])
def test_a_final_answer_is_final(error: str) -> None:
    at = device(None, PENDING, found({"error": error}, 400))
    with pytest.raises(Declined, match=error) as caught:
        sign_in(at)
    assert len(at.sent(TOKEN)) == 2
    hints = {"access_denied": "not allowed", "expired_token": "in time", "invalid_grant": "login"}
    assert hints[error] in (caught.value.hint or "")


def test_an_endpoint_that_is_not_there_is_not_asked_again() -> None:
    at = device(None, MISSING)
    with pytest.raises(Refused, match="404"):
        sign_in(at)
    assert len(at.sent(TOKEN)) == 1


@pytest.mark.parametrize(
    "code, reason",
    [
        ({"device_code": None}, "no code"),
        ({"user_code": "\x1b[31m"}, "no code"),
        ({"verification_uri": None}, "page to type the code in at"),
        ({"verification_uri": "javascript:alert(1)"}, "page to type the code in at"),
        ({"verification_uri": "http://as.example/"}, "must begin with https"),
        ({"verification_uri_complete": "file:///x"}, "page that holds the code"),
    ],
)
def test_a_code_that_cannot_be_shown(code: dict[str, Any], reason: str) -> None:
    at = device(code)
    with pytest.raises(AuthorizationFailed, match=reason):
        sign_in(at)
    assert not [command for command in at.commands if isinstance(command, ShowCode)]


def test_the_older_name_of_the_page_is_understood() -> None:
    at = device()
    at.pages[DEVICE] = found(
        {"device_code": "d", "user_code": "u", "verification_url": PAGE, "expires_in": 100}
    )
    sign_in(at)
    assert [c.url for c in at.commands if isinstance(c, ShowCode)] == [PAGE]


def test_a_server_without_the_grant_is_refused() -> None:
    at = world()
    with pytest.raises(AuthorizationFailed, match="does not offer sign-in by code"):
        sign_in(at)
    assert at.sent(REGISTER) == []


def test_a_dead_client_is_registered_once_more() -> None:
    at = device()
    at.pages[DEVICE] = [found({"error": "invalid_client"}, 401), found(CODE)]
    known = NEW.registered(AS, Registration(client_id="stored", method="none"))
    record = sign_in(at, known)
    assert [form_of(request)["client_id"] for request in at.sent(DEVICE)] == ["stored", "client-1"]
    assert record.registrations[AS].client_id == "client-1"


def test_a_registration_without_redirect_is_not_tried_with_another() -> None:
    at = device()
    at.pages[REGISTER] = found({"error": "invalid_client_metadata"}, 400)
    with pytest.raises(Declined, match="invalid_client_metadata"):
        sign_in(at)
    assert len(at.sent(REGISTER)) == 1
