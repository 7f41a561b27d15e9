"""What is kept of a sign-in survives being written, and shows no secret."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio.oauth.record import FORMAT, Record, Registration, Tokens

ISSUER = "https://as.example"
TOKENS = Tokens(
    access_token="access-1",
    refresh_token="refresh-1",
    expires_at=1000.5,
    scope="read",
    requested_scope="read write",
    issuer=ISSUER,
    client_id="client-1",
    resource="https://mcp.example/mcp",
    token_endpoint=f"{ISSUER}/token",
)
CLIENT = Registration(
    client_id="client-1",
    client_secret="secret-1",
    secret_expires_at=2000,
    method="client_secret_post",
    redirect_uri="http://127.0.0.1:4711/callback",
)
FULL = Record(
    server_url="https://mcp.example/mcp?key=url-1",
    client_id="client-1",
    profile="work",
    registrations={ISSUER: CLIENT},
    tokens=TOKENS,
)
BARE = Record(server_url="https://mcp.example/mcp")


@pytest.mark.parametrize("record", [FULL, BARE, FULL.holding(None), FULL.unregistered(ISSUER)])
def test_a_record_comes_back_as_it_was_written(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record


def test_no_secret_in_a_representation() -> None:
    shown = repr(FULL) + str(FULL)
    assert not {word for word in ("access-1", "refresh-1", "secret-1", "url-1") if word in shown}


def test_a_client_is_kept_for_its_issuer_only() -> None:
    other = "https://other.example"
    both = FULL.registered(other, dataclasses.replace(CLIENT, client_id="client-2"))
    assert both.unregistered(other) == FULL
    gone = both.unregistered(ISSUER)
    assert list(gone.registrations) == [other]
    assert gone.tokens is None  # they were given to the client that is gone


def test_the_id_token_is_shown_where_there_is_one() -> None:
    assert TOKENS.bearer == "access-1"
    assert dataclasses.replace(TOKENS, id_token="id-1").bearer == "id-1"


def altered(**members: object) -> bytes:
    return json.dumps({**json.loads(FULL.to_json()), **members}).encode()


def test_members_of_a_later_release_are_passed_over() -> None:
    assert Record.from_json(altered(colour="blue")) == FULL


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"{}",
        altered(version=FORMAT + 1),
        altered(registrations=[]),
        altered(registrations={ISSUER: "client-1"}),
        altered(registrations={ISSUER: {}}),
        altered(tokens="access-1"),
        altered(tokens={"access_token": "access-1"}),
        altered(tokens={**dataclasses.asdict(TOKENS), "expires_at": "soon"}),
        altered(tokens={**dataclasses.asdict(TOKENS), "expires_at": True}),
        altered(tokens={**dataclasses.asdict(TOKENS), "expires_at": 10**400}),
        altered(tokens={**dataclasses.asdict(TOKENS), "expires_at": float("inf")}),
        altered(tokens={**dataclasses.asdict(TOKENS), "expires_at": float("nan")}),
        altered(tokens={**dataclasses.asdict(TOKENS), "access_token": None}),
        altered(profile=1),
        altered(server_url=None),
    ],
)
def test_what_is_no_record_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Record.from_json(raw)


@given(st.binary() | st.text().map(str.encode))
def test_reading_raises_nothing_but_value_errors(raw: bytes) -> None:
    try:
        Record.from_json(raw)
    except ValueError:
        pass


def test_what_is_secret_in_a_record() -> None:
    assert FULL.secrets() == ["secret-1", "access-1", "refresh-1"]
    assert BARE.secrets() == []
