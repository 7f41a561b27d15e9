"""What is shown of a sign-in, and what never is."""

from __future__ import annotations

import json

import pytest

from mcp_stdio.oauth.record import Record, Registration, Tokens
from mcp_stdio.sign_in.account import Account, as_object, as_text, in_words

NOW = 1_800_000_000.0
TOKENS = Tokens(
    access_token="aT-s3cr3t",
    refresh_token="rT-s3cr3t",
    id_token="iT-s3cr3t",
    expires_at=NOW + 2580,
    scope="files:read files:write",
    requested_scope="everything",
    issuer="https://auth.example.com",
    client_id="c1",
    resource="https://example.com/mcp",
    token_endpoint="https://auth.example.com/token",
)
RECORD = Record(
    server_url="https://example.com/mcp",
    profile="work",
    registrations={
        "https://auth.example.com": Registration(client_id="c1", client_secret="cS-s3cr3t")
    },
    tokens=TOKENS,
)


def account(**changes: object) -> Account:
    given = {name: getattr(TOKENS, name) for name in TOKENS.__slots__} | changes
    record = Record(server_url="https://example.com/mcp", tokens=Tokens(**given))
    return Account.of(record, "/p")


def test_an_account_for_people() -> None:
    assert as_text(Account.of(RECORD, "/home/ann/x.json"), NOW) == (
        "https://example.com/mcp (profile `work`)\n"
        "    signed in at  https://auth.example.com\n"
        "    scopes        files:read files:write\n"
        "    expires       in 43 minutes; renewed by itself\n"
        "    client        c1\n"
        "    kept in       /home/ann/x.json"
    )


def test_an_account_for_programs() -> None:
    assert as_object(Account.of(RECORD, "/home/ann/x.json"), NOW) == {
        "url": "https://example.com/mcp",
        "profile": "work",
        "signed_in": True,
        "issuer": "https://auth.example.com",
        "client_id": "c1",
        "scopes": ["files:read", "files:write"],
        "expires_at": "2027-01-15T08:43:00Z",
        "expires_in": 2580,
        "renewable": True,
        "path": "/home/ann/x.json",
    }


@pytest.mark.parametrize(
    "issuer, seen",
    [
        ("https://\u0430uth.example.com/t", "https://xn--uth-5cd.example.com/t"),  # Cyrillic
        ("https://auth.example.com/\u00fc", "https://auth.example.com/%C3%BC"),
        ("no url \u0430", "no url \u0430"),
    ],
)
def test_an_issuer_does_not_look_like_another(issuer: str, seen: str) -> None:
    assert account(issuer=issuer).issuer == seen


def test_nothing_secret_is_shown() -> None:
    """A-43."""
    shown = Account.of(RECORD, "/p")
    for text in repr(shown), as_text(shown, NOW), json.dumps(as_object(shown, NOW)):
        assert "s3cr3t" not in text


def test_a_key_in_the_url_is_not_shown() -> None:
    record = Record(server_url="https://h/s/k3yAbCdEfGhIjKlMnOpQ/mcp?token=t0k3n", tokens=TOKENS)
    assert Account.of(record, "/p").url == "https://h/s/***/mcp"


def test_what_a_server_says_is_one_line() -> None:
    shown = account(issuer="https://h/\n\x1b[31mred", scope="a\nb")
    text = as_text(shown, NOW)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 6
    assert shown.scopes == ("a", "b")


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"expires_at": None}, "expires       the server did not say"),
        ({"expires_at": NOW + 30}, "expires       in less than a minute; renewed by itself"),
        ({"expires_at": NOW - 60}, "expires       1 minute ago; renewed with the next use"),
        (
            {"expires_at": NOW + 7200, "refresh_token": None},
            "expires       in 2 hours; then it takes a new sign-in",
        ),
        (
            {"expires_at": NOW - 90000, "refresh_token": None},
            "expires       1 day ago; it takes a new sign-in",
        ),
        (
            {"expires_at": NOW + 7200, "refresh_token": None, "grant": "client-credentials"},
            "expires       in 2 hours; renewed by itself",
        ),
        ({"scope": None}, "scopes        the server did not say"),
        ({"scope": ""}, "scopes        none"),
    ],
)
def test_how_long_and_how_far(changes: dict[str, object], line: str) -> None:
    assert f"    {line}\n" in as_text(account(**changes), NOW)


def test_a_registration_alone_is_no_sign_in() -> None:
    shown = Account.of(RECORD.holding(None), "/p")
    assert "signed out" in as_text(shown, NOW)
    assert as_object(shown, NOW) == {
        "url": "https://example.com/mcp",
        "profile": "work",
        "signed_in": False,
        "path": "/p",
    }


def test_a_time_beyond_all_calendars_is_left_out() -> None:
    assert "expires_at" not in as_object(account(expires_at=1e30), NOW)


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0, "less than a minute"),
        (59.9, "less than a minute"),
        (60, "1 minute"),
        (3599, "59 minutes"),
        (3600, "1 hour"),
        (86399, "23 hours"),
        (86400, "1 day"),
        (90 * 86400, "90 days"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
