"""When tokens are renewed, and which replace which."""

from __future__ import annotations

import dataclasses
from math import inf

import pytest

from mcp_stdio.config import Grant, OAuth
from mcp_stdio.oauth.holding import Holding
from mcp_stdio.oauth.record import Record
from tests.oauth.test_record import BARE, TOKENS


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def kept(expires_at: float | None, refresh_token: str | None = "refresh-1") -> Record:
    tokens = dataclasses.replace(TOKENS, expires_at=expires_at, refresh_token=refresh_token)
    return BARE.holding(tokens)


@pytest.mark.parametrize(
    "lifetime, due_in",
    [
        (3600, 3540),  # a minute before
        (100, 75),  # of a short life the last quarter
        (0, 0),
        (-10, 0),
        (None, inf),  # nobody has said when
    ],
)
def test_when_tokens_are_due(lifetime: float | None, due_in: float) -> None:
    clock = Clock()
    held = Holding(OAuth(), clock)
    held.take_over(kept(None if lifetime is None else clock.now + lifetime))
    assert held.due_in == due_in
    assert held.is_due == (due_in == 0)
    if due_in < inf:
        clock.now += due_in
        assert held.is_due
        held.put_off(30)
        assert held.due_in == 30


@pytest.mark.parametrize(
    "grant, refresh_token, is_renewable",
    [
        ("authorization-code", "refresh-1", True),
        ("authorization-code", None, False),
        ("client-credentials", None, True),
    ],
)
def test_what_takes_a_person_is_never_due(
    grant: Grant, refresh_token: str | None, is_renewable: bool
) -> None:
    held = Holding(OAuth(grant=grant), Clock())
    held.take_over(kept(900, refresh_token))
    assert held.has_expired
    assert held.is_renewable == held.is_due == is_renewable


def test_what_replaces_a_token_that_was_sent() -> None:
    clock = Clock()
    held = Holding(OAuth(), clock)
    assert not held.replaces("access-0")
    held.take_over(kept(1100))
    assert held.replaces("access-0")
    assert held.replaces(None)
    assert not held.replaces("access-1")
    clock.now = 1100
    assert not held.replaces("access-0")


def test_a_change_is_told() -> None:
    held = Holding(OAuth(), Clock())
    changed = held.has_changed
    held.take_over(kept(None))
    assert changed.is_set()
    assert not held.has_changed.is_set()
    held.take_over(None)
    assert held.tokens is None
    assert not held.has_expired
