"""Who waits for a token, who gets it, and how often anybody is asked for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock

from mcp_stdio.config import OAuth, Source
from mcp_stdio.credentials.rules import Headers
from mcp_stdio.credentials.supplied import Supplied
from mcp_stdio.errors import (
    AskedInVain,
    AuthorizationFailed,
    ConnectionLost,
    RelayError,
    SignInPending,
    StoreFailure,
    TimedOut,
    Unreachable,
)
from mcp_stdio.http import Request
from mcp_stdio.http.client import Client
from mcp_stdio.http.url import Url
from mcp_stdio.oauth.bearer import GLANCE, GRACE, LOOK, PAGE_WAIT, SHORTEST
from mcp_stdio.oauth.commands import Fetched
from mcp_stdio.oauth.cooldown import COOLDOWN
from mcp_stdio.oauth.holding import MARGIN
from mcp_stdio.oauth.notice import Notice
from mcp_stdio.oauth.private import Unwritable
from mcp_stdio.oauth.record import Record
from mcp_stdio.oauth.store import Entry
from mcp_stdio.redaction import MAX_PASSING, protect_passing, redact_known
from tests.http.fakes import Answer
from tests.oauth.fakes import DEVICE, PAGE, SECRET, Rig, ask, now, refusal
from tests.oauth.pump import MCP, found

DEAD = found({"error": "invalid_grant"}, 400)
TROUBLE = [
    Unreachable("no way there"),
    ConnectionLost("broken off"),
    TimedOut("too slow"),
    Fetched(503, {}, b"<h1>Down"),
    found({"error": "temporarily_unavailable"}, 400),
]


@pytest.fixture
def rig(tmp_path: Path, nursery: trio.Nursery) -> Rig:
    return Rig(tmp_path, nursery)


# The first token


async def test_nothing_is_fetched_before_the_server_has_asked_for_it(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """design.md 5: never a sign-in before a challenge."""
    rig.server.judge = lambda token, request: None
    client = rig.client()
    for _ in range(3):
        assert await ask(client) == 200
        await trio.sleep(1000)
    assert rig.server.shown == [None] * 3
    assert rig.authority.fetched == []
    assert not (rig.directory / "kept").exists()


async def test_a_refused_request_signs_in_and_is_sent_again_once(
    rig: Rig, autojump_clock: MockClock
) -> None:
    rig.authority.confirmed.set()
    client = rig.client()
    assert await ask(client) == 200
    assert await ask(client) == 200
    first, second, third = rig.server.shown
    assert first is None
    assert second == third == f"Bearer {(kept := rig.kept()) and kept.access_token}"
    assert rig.authority.names == ["device_code"]


async def test_fifty_refused_requests_sign_in_once(
    rig: Rig, autojump_clock: MockClock
) -> None:
    rig.authority.confirmed.set()
    rig.authority.delay = 0.1
    assert await fifty(rig) == [200] * 50
    assert rig.authority.asked == 1


async def test_fifty_refused_requests_renew_once(
    rig: Rig, autojump_clock: MockClock
) -> None:
    tokens = await rig.signed_in()
    rig.authority.tokens.remove(tokens.access_token)
    rig.authority.delay = 0.1
    assert await fifty(rig) == [200] * 50
    assert rig.authority.names == ["refresh_token"]


async def fifty(rig: Rig) -> list[int]:
    client = rig.client()
    statuses = []

    async def one(number: int) -> None:
        await trio.sleep(number / 100)  # while the metadata is being fetched and after
        statuses.append(await ask(client))

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(one, number)
    return statuses


# Waiting for a person


async def test_a_request_is_held_and_then_told_where_to_sign_in(
    rig: Rig, autojump_clock: MockClock
) -> None:
    client = rig.client()
    started = trio.current_time()
    with pytest.raises(SignInPending, match="sign in, then try again") as caught:
        await ask(client)
    assert trio.current_time() - started == DEVICE.start_wait
    assert caught.value.url == f"{PAGE} (code WDJB-MJHT)"

    # It goes on without the request, and the next one joins it.
    await trio.sleep(100)
    rig.authority.confirmed.set()
    assert await ask(client) == 200
    assert await ask(client) == 200
    assert rig.authority.asked == 1


async def test_a_sign_in_that_is_done_in_time_is_not_noticed(
    rig: Rig, autojump_clock: MockClock
) -> None:
    client = rig.client()

    async def person() -> None:
        await trio.sleep(DEVICE.start_wait - 2)
        rig.authority.confirmed.set()

    rig.nursery.start_soon(person)
    assert await ask(client) == 200


async def test_who_will_not_wait_at_all_is_told_where(rig: Rig, autojump_clock: MockClock) -> None:
    rig.authority.delay = 0.2
    with pytest.raises(SignInPending) as caught:
        await ask(rig.client(rig.bearer(DEVICE._replace(start_wait=0.0))))
    assert caught.value.url  # waited for: it comes before any person has to act


@pytest.mark.parametrize("start_wait", [DEVICE.start_wait, 0.5, 0.0])
async def test_a_slow_authorization_server_holds_nobody_for_long(
    rig: Rig, autojump_clock: MockClock, start_wait: float
) -> None:
    rig.authority.delay = 25
    begun = trio.current_time()
    with pytest.raises(SignInPending) as caught:
        await ask(rig.client(rig.bearer(OAuth(grant="device-code", start_wait=start_wait))))
    assert trio.current_time() - begun == max(start_wait, PAGE_WAIT)
    assert not caught.value.url
    assert caught.value.retryable


@pytest.mark.parametrize("delay", [25, 10, 1])
async def test_a_sign_in_takes_no_longer_than_it_may(
    rig: Rig, autojump_clock: MockClock, delay: float
) -> None:
    """`--oauth-timeout`, whatever takes the time: metadata, or the person."""
    rig.authority.delay = delay
    bearer = rig.bearer(OAuth(grant="device-code", timeout=40.0))
    begun = trio.current_time()
    with pytest.raises(SignInPending):
        await ask(rig.client(bearer))
    with pytest.raises(RelayError, match=r"within \d+ s"):
        await bearer.signed_in()
    assert 35 < trio.current_time() - begun <= 40


async def test_a_renewal_is_no_sign_in(rig: Rig, autojump_clock: MockClock) -> None:
    tokens = await rig.signed_in()
    rig.authority.tokens.remove(tokens.access_token)
    rig.authority.delay = 5
    assert (
        await ask(rig.client(rig.bearer(OAuth(grant="device-code", timeout=1.0, start_wait=60.0))))
        == 200
    )


async def test_a_request_that_is_cancelled_leaves_the_sign_in_to_the_others(
    rig: Rig, autojump_clock: MockClock
) -> None:
    client = rig.client()
    with trio.move_on_after(2) as scope:
        await ask(client)
    assert scope.cancelled_caught
    rig.authority.confirmed.set()
    assert await ask(client) == 200
    assert rig.authority.asked == 1


async def test_whoever_asks_is_told_when_somebody_has_signed_in(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """What `stand_in` relies on."""
    bearer = rig.bearer()
    with pytest.raises(AuthorizationFailed, match="nobody"):
        await bearer.signed_in()
    with pytest.raises(SignInPending):
        await ask(rig.client(bearer))
    with trio.move_on_after(100) as scope:
        await bearer.signed_in()
    assert scope.cancelled_caught
    rig.authority.confirmed.set()
    await bearer.signed_in()
    await bearer.signed_in()
    assert await ask(rig.client(bearer)) == 200


@pytest.mark.parametrize("has_token", [False, True])
async def test_whoever_asks_is_told_that_nobody_will(
    rig: Rig, autojump_clock: MockClock, has_token: bool
) -> None:
    if has_token:
        await rig.signed_in(access_token="void", refresh_token=None)
    bearer = rig.bearer()
    with pytest.raises(SignInPending):
        await ask(rig.client(bearer))
    rig.authority.denies = True
    with pytest.raises(AuthorizationFailed, match="access_denied"):
        await bearer.signed_in()


async def test_a_sign_in_elsewhere_is_noticed(rig: Rig, autojump_clock: MockClock) -> None:
    """What `stand_in` relies on, when a person was asked here in vain."""
    bearer = rig.bearer(OAuth(grant="device-code", timeout=60.0))
    with pytest.raises(SignInPending):
        await ask(rig.client(bearer))
    with pytest.raises(AuthorizationFailed, match="nobody has signed in"):
        await bearer.signed_in()
    with trio.move_on_after(1000) as scope:
        await bearer.signed_in_elsewhere()
    assert scope.cancelled_caught
    begun = trio.current_time()

    async def person() -> None:
        await trio.sleep(10)
        await rig.signed_in()

    rig.nursery.start_soon(person)
    with trio.fail_after(1000):
        await bearer.signed_in_elsewhere()
    assert 10 <= trio.current_time() - begun <= 10 + GLANCE
    await bearer.signed_in()
    assert await ask(rig.client(bearer)) == 200
    assert rig.authority.asked == 1


async def test_a_sign_in_elsewhere_that_was_noticed_already_is_not_waited_for(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """Nor is the token one that was refused here, whoever has kept it."""
    tokens = await rig.signed_in(refresh_token=None)
    rig.authority.tokens.clear()
    rig.authority.denies = True
    bearer = rig.bearer()
    client = rig.client(bearer)
    with pytest.raises(AuthorizationFailed):
        await ask(client)
    await rig.signed_in(access_token=tokens.access_token)
    with trio.move_on_after(1000) as scope:
        await bearer.signed_in_elsewhere()
    assert scope.cancelled_caught
    await rig.signed_in()
    assert await ask(client) == 200
    with trio.fail_after(1000):
        await bearer.signed_in_elsewhere()


# After a sign-in


async def test_a_person_who_said_no_is_not_asked_again_soon(
    rig: Rig, autojump_clock: MockClock
) -> None:
    rig.authority.denies = True
    client = rig.client()
    with pytest.raises(AuthorizationFailed, match="access_denied"):
        await ask(client)
    begun = trio.current_time()
    for _ in range(3):
        with pytest.raises(AuthorizationFailed, match="not tried yet") as caught:
            await ask(client)
        assert str(caught.value).count("not tried yet") == 1
        assert "access_denied" in str(caught.value)
        assert (caught.value.hint or "").startswith("try again in a minute; the sign-in was ")
        assert caught.value.retryable
    assert rig.authority.asked == 1

    rig.authority.denies = False
    rig.authority.confirmed.set()
    await trio.sleep(begun + COOLDOWN + 1 - trio.current_time())
    assert await ask(client) == 200


async def test_a_sign_in_that_worked_may_be_followed_by_another_at_once(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """The server has moved to another authorization server, say: its token was good before."""
    rig.authority.gives_refresh_tokens = False
    rig.authority.confirmed.set()
    client = rig.client()
    for _ in range(3):
        assert await ask(client) == 200
        rig.authority.tokens.clear()
    assert rig.authority.asked == 3


async def test_where_nobody_was_asked_the_next_request_tries_again(
    rig: Rig, autojump_clock: MockClock
) -> None:
    rig.authority.confirmed.set()
    rig.authority.outages = [Unreachable("no way there")]
    client = rig.client()
    with pytest.raises(Unreachable, match="no way there"):
        await ask(client)
    assert await ask(client) == 200


@pytest.mark.parametrize("gives_refresh_tokens", [True, False])
async def test_a_token_just_obtained_that_is_refused_is_the_last(
    rig: Rig, autojump_clock: MockClock, gives_refresh_tokens: bool
) -> None:
    """A-34: E-4 and no loop; a sign-in by hand is taken up."""
    rig.authority.confirmed.set()
    rig.authority.gives_refresh_tokens = gives_refresh_tokens
    good: set[str] = set()
    rig.server.judge = lambda token, request: None if token in good else refusal()
    client = rig.client()
    assert await ask(client) == 401
    for _ in range(3):
        with pytest.raises(AuthorizationFailed, match="just given") as caught:
            await ask(client)
        assert caught.value.hint
    assert rig.authority.names == ["device_code"]

    good.add((await rig.signed_in()).access_token)
    assert await ask(client) == 200
    assert rig.authority.names == ["device_code"]


async def test_a_token_renewed_in_the_background_may_be_replaced(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """Nobody has tried it, so that it is refused says nothing of its authorization server."""
    rig.authority.confirmed.set()
    await rig.signed_in()
    client = rig.client()
    await trio.sleep(3600)
    assert rig.authority.names == ["refresh_token"]
    rig.authority.tokens.clear()
    assert await ask(client) == 200
    assert rig.authority.names == ["refresh_token"] * 2


# Renewal


@pytest.mark.parametrize(
    "lifetime, renewed_at",
    [
        (86400, 86400 - MARGIN),
        (240, 180),
        (40, 30),
        (4, 3),
        (0.001, SHORTEST),  # never without a pause
    ],
)
async def test_a_token_is_renewed_before_it_expires(
    rig: Rig, autojump_clock: MockClock, lifetime: float, renewed_at: float
) -> None:
    """A-32; the margin shrinks with the lifetime."""
    rig.authority.lifetime = lifetime
    rig.authority.confirmed.set()
    assert await ask(rig.client()) in (200, 401)
    rig.authority.grants[1:] = []
    signed_in_at = rig.authority.grants[0][1]
    await trio.sleep(signed_in_at + renewed_at * 2.5 - trio.current_time())
    assert [name for name, _ in rig.authority.grants[1:]] == ["refresh_token"] * 2
    times = [time - signed_in_at for _, time in rig.authority.grants[1:]]
    assert times == pytest.approx([renewed_at, renewed_at * 2])


async def test_a_token_that_lasts_is_left_alone(rig: Rig, autojump_clock: MockClock) -> None:
    rig.authority.lifetime = None
    await rig.signed_in()
    client = rig.client()
    await trio.sleep(10**6)
    assert await ask(client) == 200
    assert rig.authority.fetched == []


async def test_time_that_passed_in_a_machine_s_sleep_counts(
    rig: Rig, autojump_clock: MockClock
) -> None:
    slept = 0.0
    await rig.signed_in()
    rig.bearer(clock=lambda: now() + slept)
    await trio.sleep(100)
    slept = 3500
    await trio.sleep(LOOK + 1)
    assert rig.authority.names == ["refresh_token"]


async def test_a_client_by_itself_asks_again_before_expiry(
    rig: Rig, autojump_clock: MockClock
) -> None:
    rig.authority.gives_refresh_tokens = False
    rig.authority.lifetime = 40
    oauth = OAuth(grant="client-credentials", client_id="machine", client_secret="a-long-secret")
    client = rig.client(rig.bearer(oauth))
    assert await ask(client) == 200
    await trio.sleep(31)
    assert await ask(client) == 200
    assert rig.authority.names == ["client_credentials"] * 2
    assert (kept := rig.kept()) is not None
    assert kept.grant == "client-credentials"  # for `status`: it needs nobody to be renewed


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_a_renewal_that_failed_costs_no_grant(
    rig: Rig, autojump_clock: MockClock, trouble: Any
) -> None:
    """The old token is used while it lives, and the renewal is tried again."""
    await rig.signed_in()
    client = rig.client()
    rig.authority.trouble = [trouble]
    await trio.sleep(3600 - MARGIN + 1)
    assert rig.authority.names == ["refresh_token"]
    assert await ask(client) == 200
    assert rig.authority.names == ["refresh_token"]
    await trio.sleep(LOOK)
    assert rig.authority.names == ["refresh_token"] * 2
    assert await ask(client) == 200
    assert rig.server.shown[0] != rig.server.shown[1]
    assert rig.authority.asked == 0


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_a_request_is_not_told_of_the_outcome_of_another(
    rig: Rig, autojump_clock: MockClock, trouble: Any
) -> None:
    """A call that was refused has not run: nothing of it is unknown, whatever broke elsewhere."""
    tokens = await rig.signed_in()
    rig.authority.tokens.clear()
    rig.authority.trouble = [trouble]
    rig.authority.delay = 1
    client = rig.client()
    failures = []

    async def one() -> None:
        with pytest.raises(RelayError) as caught:
            await ask(client)
        failures.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)
    kind = Unreachable if isinstance(trouble, Unreachable) else AuthorizationFailed
    assert {type(failure) for failure in failures} == {kind}
    assert len({id(failure) for failure in failures}) == 3
    kept = rig.kept()
    assert kept is not None
    assert kept.refresh_token == tokens.refresh_token
    assert await ask(client) == 200
    assert rig.authority.asked == 0


async def test_a_token_that_lives_is_used_while_another_is_fetched(
    rig: Rig, autojump_clock: MockClock
) -> None:
    await rig.signed_in()
    bearer = rig.bearer()
    client = rig.client(bearer)
    rig.authority.delay = 20
    await trio.sleep(3600 - MARGIN + 1)
    begun = trio.current_time()
    assert rig.authority.fetched == ["POST /token"]
    assert bearer.is_ready
    assert await ask(client) == 200
    assert trio.current_time() == begun


async def test_a_token_that_has_expired_is_waited_for(rig: Rig, autojump_clock: MockClock) -> None:
    await rig.signed_in(expires_at=now() - 1)
    bearer = rig.bearer()
    client = rig.client(bearer)
    rig.authority.delay = 5
    assert not bearer.is_ready
    assert await ask(client) == 200
    assert None not in rig.server.shown
    assert rig.authority.fetched == ["POST /token"]
    assert bearer.is_ready


async def test_an_expired_token_is_never_shown(rig: Rig, autojump_clock: MockClock) -> None:
    await rig.signed_in(expires_at=now() - 1, refresh_token=None)
    rig.authority.confirmed.set()
    assert await ask(rig.client()) == 200
    assert rig.server.shown[0] is None


async def test_a_dead_grant_means_one_sign_in_once_the_token_is_refused(
    rig: Rig, autojump_clock: MockClock
) -> None:
    tokens = await rig.signed_in()
    rig.authority.refresh_tokens.clear()
    rig.authority.confirmed.set()
    client = rig.client()
    await trio.sleep(3600 - MARGIN + 1)
    assert rig.authority.names == ["refresh_token"]
    for _ in range(3):
        assert await ask(client) == 200
    assert rig.server.shown == [f"Bearer {tokens.access_token}"] * 3
    assert rig.authority.asked == 0
    await trio.sleep(MARGIN)
    for _ in range(3):
        assert await ask(client) == 200
    assert rig.authority.asked == 1
    assert rig.authority.names == ["refresh_token", "device_code"]  # the dead one is forgotten


async def test_a_grant_that_turns_out_dead_in_a_renewal_is_not_tried_again(
    rig: Rig, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.signed_in()
    rig.authority.refresh_tokens.clear()
    rig.bearer()
    await trio.sleep(10000)
    assert rig.authority.names == ["refresh_token"]
    assert len(caplog.records) == 1


async def test_a_request_refused_in_a_renewal_waits_for_what_comes_of_it(
    rig: Rig, autojump_clock: MockClock
) -> None:
    await rig.signed_in()
    rig.authority.tokens.clear()
    rig.authority.confirmed.set()
    rig.authority.delay = DEVICE.start_wait + 2
    rig.authority.trouble = [DEAD]
    client = rig.client(rig.bearer(DEVICE._replace(start_wait=100.0)))
    await trio.sleep(3600 - MARGIN + 1)
    assert rig.authority.fetched == ["POST /token"]
    assert await ask(client) == 200
    assert rig.authority.names == ["refresh_token", "device_code"]


async def test_a_late_refusal_of_an_older_token_costs_no_time(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """It was renewed meanwhile, for another request: nobody waits for a lock for that."""
    await rig.signed_in()
    bearer = rig.bearer()
    client = rig.client(bearer)
    refused = Request("POST", Url.parse(MCP), await bearer.headers())
    rig.authority.tokens.clear()
    assert await ask(client) == 200
    entry = rig.entry()
    async with entry.locked():
        with trio.fail_after(1):
            assert await bearer.renew(refused, refusal().head)


# Farther reach


async def test_a_step_up_asks_for_what_was_had_and_what_is_missing(
    rig: Rig, autojump_clock: MockClock
) -> None:
    await rig.signed_in(requested_scope="read", scope="read")
    rig.authority.confirmed.set()

    def judge(token: str | None, request: Request) -> Answer | None:
        if rig.authority.scopes == ["read write"]:
            return None
        return refusal(403, error="insufficient_scope", scope="write")

    rig.server.judge = judge
    client = rig.client()
    assert await ask(client) == 200
    assert rig.authority.names == ["device_code"]  # a refresh would bring no more


async def test_a_token_outlasts_the_wait_for_a_step_up(rig: Rig, autojump_clock: MockClock) -> None:
    """Nothing is renewed while a person is waited for, so that is done before they are asked."""
    await rig.signed_in(requested_scope="read", expires_at=now() + 90)

    def judge(token: str | None, request: Request) -> Answer | None:
        if request.body == b"{}":
            return rig.server.protected(token, request)
        return refusal(403, error="insufficient_scope", scope="write")

    rig.server.judge = judge
    client = rig.client(rig.bearer(DEVICE._replace(timeout=300.0)))
    with pytest.raises(SignInPending):
        await ask(client, b"[]")
    for _ in range(8):
        assert await ask(client) == 200
        await trio.sleep(30)
    assert rig.authority.names == ["refresh_token"]
    assert rig.authority.asked == 1
    rig.authority.confirmed.set()
    await trio.sleep(2)
    assert rig.authority.scopes == ["read write"]
    assert rig.authority.names == ["refresh_token", "device_code"]


@pytest.mark.parametrize("trouble", [*TROUBLE, DEAD])
async def test_a_step_up_goes_on_where_nothing_can_be_renewed(
    rig: Rig, autojump_clock: MockClock, trouble: Any
) -> None:
    await rig.signed_in(expires_at=now() + 90)
    rig.authority.confirmed.set()
    rig.authority.trouble = [trouble]
    judged = [refusal(403, error="insufficient_scope", scope="write")]
    rig.server.judge = lambda token, request: judged.pop() if judged else None
    assert await ask(rig.client()) == 200
    assert rig.authority.names == ["refresh_token", "device_code"]


async def test_what_was_asked_for_already_is_not_asked_for_again(
    rig: Rig, autojump_clock: MockClock
) -> None:
    await rig.signed_in(requested_scope="read write", scope="read")
    rig.server.judge = lambda token, request: refusal(
        403, error="insufficient_scope", scope="write"
    )
    assert await ask(rig.client()) == 403
    assert rig.authority.fetched == []


async def test_two_step_ups_for_the_same_scopes_are_enough(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """Of a server that does not say which, nobody can tell what was asked for."""
    await rig.signed_in()
    rig.authority.confirmed.set()
    rig.server.judge = lambda token, request: refusal(403, error="insufficient_scope")
    client = rig.client()
    assert [await ask(client) for _ in range(5)] == [403] * 5
    assert rig.authority.asked == 2


async def test_a_step_up_that_was_not_tried_does_not_count(
    rig: Rig, autojump_clock: MockClock
) -> None:
    await rig.signed_in()
    rig.authority.denies = True
    rig.server.judge = lambda token, request: refusal(
        403, error="insufficient_scope", scope="write"
    )
    client = rig.client()
    for _ in range(4):
        with pytest.raises(AuthorizationFailed, match="access_denied"):
            await ask(client)
    assert rig.authority.asked == 1
    await trio.sleep(COOLDOWN)
    with pytest.raises(AuthorizationFailed, match="access_denied"):
        await ask(client)
    assert rig.authority.asked == 2
    await trio.sleep(COOLDOWN)
    assert await ask(client) == 403
    assert rig.authority.asked == 2


async def test_a_plain_403_is_no_reason_to_sign_in(
    rig: Rig, autojump_clock: MockClock
) -> None:
    await rig.signed_in()
    rig.server.judge = lambda token, request: Answer(403)
    assert await ask(rig.client()) == 403
    assert rig.authority.fetched == []


async def test_a_step_up_met_in_a_sign_in_waits_for_that(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """One at a time: a person has one page before them."""
    await rig.signed_in()
    rig.authority.refresh_tokens.clear()
    answers = [refusal(), refusal(403, error="insufficient_scope", scope="write")]
    rig.server.judge = lambda token, request: answers.pop(0)
    client = rig.client()

    async def one() -> None:
        with pytest.raises(SignInPending):
            await ask(client)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        await trio.sleep(2)
        await one()
    assert rig.authority.asked == 1


# Other processes


async def test_of_two_processes_one_signs_in_and_the_other_finds_the_token(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """A-33: the lock is waited for, and what is kept is read again. There is one page for both."""
    first, second = rig.client(), rig.client()
    for client in first, second:
        with pytest.raises(SignInPending) as caught:
            await ask(client)
        assert caught.value.url == f"{PAGE} (code WDJB-MJHT)"
    rig.authority.confirmed.set()
    assert await ask(second) == 200
    assert await ask(first) == 200
    assert rig.authority.asked == 1
    assert len(set(rig.server.shown) - {None}) == 1


async def test_nobody_is_asked_again_whom_another_process_has_asked_in_vain(
    rig: Rig, autojump_clock: MockClock
) -> None:
    hasty = OAuth(grant="device-code", timeout=60.0)
    clients = [rig.client(rig.bearer(hasty)) for _ in range(3)]
    for client in clients:
        with pytest.raises(SignInPending):
            await ask(client)
    await trio.sleep(60)
    for client in clients:
        with pytest.raises(AskedInVain, match=r"nobody (finished|has signed in)"):
            await ask(client)
    assert rig.authority.asked == 1

    # Somebody who starts the program once more wants to be asked.
    with pytest.raises(SignInPending):
        await ask(rig.client())
    assert rig.authority.asked == 2


async def test_where_another_process_was_killed_another_one_asks_at_once(
    rig: Rig, autojump_clock: MockClock
) -> None:
    client = rig.client()
    entry = rig.entry()
    async with entry.locked():
        for at in (-100.0, None):  # it has asked once in vain, and then again
            page = "https://as.example/of-another"
            entry.announce(Notice(pid=4711, since=now(), url=page, in_vain_at=at and now() + at))
        with pytest.raises(SignInPending) as caught:
            await ask(client)
        assert caught.value.url == page
        await trio.sleep(100)
    await trio.sleep(1)
    assert rig.authority.asked == 1
    with pytest.raises(SignInPending) as caught:
        await ask(client)
    assert caught.value.url.startswith(PAGE)


async def test_a_notice_from_before_the_clock_was_put_back_keeps_nobody_from_asking(
    rig: Rig, autojump_clock: MockClock
) -> None:
    client, entry = rig.client(), rig.entry()
    async with entry.locked():
        page = "https://as.example/of-another"
        entry.announce(Notice(pid=1, since=now(), url=page, in_vain_at=now() + 86_400))
    with pytest.raises(SignInPending) as caught:
        await ask(client)
    assert caught.value.url.startswith(PAGE)


async def test_who_ends_in_the_midst_of_a_sign_in_leaves_it_to_others(
    rig: Rig, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        first = Rig(rig.directory, nursery, rig.authority).bearer()
        for bearer in first, rig.bearer():
            with pytest.raises(SignInPending):
                await ask(rig.client(bearer))
        nursery.cancel_scope.cancel()
    await trio.sleep(5)
    assert rig.authority.asked == 2


@pytest.mark.parametrize("is_by_the_clock", [False, True])
async def test_of_two_processes_one_renews(
    rig: Rig, autojump_clock: MockClock, is_by_the_clock: bool
) -> None:
    await rig.signed_in()
    rig.authority.delay = 3
    clients = [rig.client(), rig.client()]
    if is_by_the_clock:
        await trio.sleep(3600 - MARGIN + 10)
    else:
        rig.authority.tokens.clear()
    statuses = []

    async def one(client: Any) -> None:
        statuses.append(await ask(client))

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(one, client)
    assert statuses == [200, 200]
    assert rig.authority.names == ["refresh_token"]


async def test_a_refused_token_that_another_process_has_left_is_not_taken_up(
    rig: Rig, autojump_clock: MockClock
) -> None:
    tokens = await rig.signed_in()
    rig.authority.tokens.clear()
    rig.authority.confirmed.set()
    rig.authority.refresh_tokens.clear()
    assert await ask(rig.client()) == 200
    assert rig.server.shown[0] == f"Bearer {tokens.access_token}"
    assert rig.authority.asked == 1


async def test_a_token_of_another_process_is_used_once_it_is_kept(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """Not only when the one before is refused."""
    first = await rig.signed_in()
    client = rig.client()
    assert await ask(client) == 200
    await trio.sleep(2)
    second = await rig.signed_in()
    assert await ask(client) == 200
    assert rig.server.shown == [f"Bearer {each.access_token}" for each in (first, second)]


async def test_what_was_signed_out_of_elsewhere_is_not_used_any_more(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """Also where the token cannot be revoked, and the server would go on to take it."""
    tokens = await rig.signed_in()
    client = rig.client()
    assert await ask(client) == 200
    entry = rig.entry()
    async with entry.locked():
        entry.delete()
    await trio.sleep(2)
    rig.authority.confirmed.set()
    assert await ask(client) == 200
    assert rig.server.shown[:2] == [f"Bearer {tokens.access_token}", None]
    assert rig.authority.names == ["device_code"]


# What is kept


async def test_a_store_that_cannot_be_used_is_said(
    rig: Rig, autojump_clock: MockClock
) -> None:
    await rig.signed_in()
    path = rig.entry().path
    path.write_text(json.dumps({"version": 99}))
    client = rig.client()
    for _ in range(2):
        with pytest.raises(AuthorizationFailed, match="newer release") as caught:
            await ask(client)
        assert caught.value.hint
    assert rig.authority.fetched == []
    assert json.loads(path.read_text(encoding="utf-8")) == {"version": 99}


class Full(Entry):
    """Where no tokens can be kept until somebody clears up."""

    has_room = False

    def write(self, record: Record) -> None:
        if record.tokens is not None and not self.has_room:
            raise StoreFailure("no space left on device")
        super().write(record)


async def test_what_a_full_disk_did_not_take_is_written_once_there_is_room(
    rig: Rig, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What lies there is used up, and the next start would need a person."""
    before = await rig.signed_in(expires_at=now() - 1000)
    entry = Full(rig.directory / "kept", MCP, None, "default")
    client = rig.client(rig.bearer(entry=entry))
    assert await ask(client) == 200
    await trio.sleep(5 * LOOK)
    assert rig.kept() == before
    assert caplog.text.count("no space left on device") == 1
    entry.has_room = True
    await trio.sleep(2 * LOOK)  # the look may be due in the very moment that this wakes
    kept = rig.kept()
    assert kept is not None
    assert rig.server.shown[-1] == f"Bearer {kept.access_token}"
    assert "is kept now" in caplog.text
    assert await ask(rig.client()) == 200  # another process
    assert rig.authority.names == ["refresh_token"]


async def test_what_others_have_written_since_is_not_undone(
    rig: Rig, autojump_clock: MockClock
) -> None:
    await rig.signed_in(expires_at=now() - 1000)
    entry = Full(rig.directory / "kept", MCP, None, "default")
    client = rig.client(rig.bearer(entry=entry))
    assert await ask(client) == 200
    written = await rig.signed_in()
    entry.has_room = True
    await trio.sleep(2 * LOOK)
    assert rig.kept() == written


async def test_what_was_built_upon_is_not_taken_for_what_others_have_written_since(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """What lies there was renewed with, so that nothing can be had for it any more."""
    await rig.signed_in(expires_at=now() + 300)
    client = rig.client(rig.bearer(entry=Full(rig.directory / "kept", MCP, None, "default")))
    assert await ask(client) == 200
    await rig.signed_in(expires_at=now() + 200)  # unseen: nothing is sent for a while
    await trio.sleep(400)
    assert await ask(client) == 200
    await trio.sleep(5)
    assert await ask(client) == 200
    assert rig.authority.names == ["refresh_token"]
    assert rig.authority.asked == 0


class ReadOnly(Entry):
    """On a file system that takes nothing, not even a lock."""

    def locked(self) -> NoReturn:
        raise Unwritable("the lock could not be opened: Read-only file system")

    def write(self, record: Record) -> None:
        raise AssertionError("nobody writes without the lock")


def read_only(rig: Rig, oauth: OAuth = DEVICE) -> Client:
    entry = ReadOnly(rig.directory / "kept", MCP, None, "default")
    return rig.client(rig.bearer(oauth, entry=entry))


async def test_a_token_of_a_store_that_is_read_only_is_renewed(
    rig: Rig, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nobody can write, there is nobody whom the lock would keep away."""
    tokens = await rig.signed_in(expires_at=now() - 1000)
    rig.authority.lifetime = 40
    client = read_only(rig)
    for number in range(1, 5):
        assert await ask(client) == 200
        # Each with the grant that the one before has brought, though that is kept here only.
        assert rig.authority.names == ["refresh_token"] * number
        await trio.sleep(39)
    assert rig.kept() == tokens
    assert caplog.text.count("for as long as this program runs only") == 1
    assert rig.authority.asked == 0


async def test_a_grant_that_is_dead_is_not_shown_again_where_that_cannot_be_noted(
    rig: Rig, autojump_clock: MockClock
) -> None:
    await rig.signed_in(expires_at=now() - 1000)
    rig.authority.refresh_tokens.clear()
    client = read_only(rig)
    for _ in range(3):
        with pytest.raises(AuthorizationFailed, match="Read-only file system"):
            await ask(client)  # nobody is asked for what would be lost with this process
    assert rig.authority.names == ["refresh_token"]
    assert rig.authority.asked == 0


async def test_what_somebody_writes_after_all_counts(rig: Rig, autojump_clock: MockClock) -> None:
    await rig.signed_in(expires_at=now() - 1000)
    client = read_only(rig)
    assert await ask(client) == 200
    await trio.sleep(5)
    written = await rig.signed_in()  # from where it can be written
    assert await ask(client) == 200
    assert rig.server.shown[-1] == f"Bearer {written.access_token}"


async def test_a_program_needs_no_place_to_keep_its_token(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """The grant of client credentials asks nobody; a container may well be read-only."""
    rig.authority.lifetime = 40
    own = OAuth(grant="client-credentials", client_id="client-1", client_secret=SECRET)
    client = rig.client(
        rig.bearer(own, entry=ReadOnly(rig.directory / "kept", MCP, "client-1", "default"))
    )
    for _ in range(3):
        assert await ask(client) == 200
        await trio.sleep(39)
    assert set(rig.authority.names) == {"client_credentials"}


async def test_a_token_that_cannot_be_kept_is_used_all_the_same(
    rig: Rig, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has signed in for it, or the one before is void since it was renewed."""
    rig.authority.confirmed.set()
    client = rig.client(rig.bearer(entry=Full(rig.directory / "kept", MCP, None, "default")))
    for _ in range(3):
        assert await ask(client) == 200
        await trio.sleep(5)
    assert rig.authority.asked == 1
    assert "no space left" in caplog.text


async def test_secrets_are_known_before_they_are_used(
    rig: Rig, autojump_clock: MockClock
) -> None:  # P7, A-43
    tokens = await rig.signed_in(id_token="an-id-token-of-some-length")
    rig.bearer()
    rig.authority.confirmed.set()
    rig.authority.tokens.clear()
    rig.authority.refresh_tokens.clear()
    assert await ask(rig.client()) == 200
    kept = rig.kept()
    assert kept is not None
    assert kept.access_token != tokens.access_token
    for each in tokens, kept:
        for secret in each.access_token, each.refresh_token, each.id_token, SECRET:
            assert secret is None or secret not in redact_known(f"it is {secret} indeed")


async def test_a_token_stays_secret_however_many_cookies_a_server_sets(
    rig: Rig, autojump_clock: MockClock
) -> None:  # P7
    tokens = await rig.signed_in()
    rig.bearer()
    for number in range(MAX_PASSING + 1):
        protect_passing(f"the cookie number {number}")
    assert tokens.refresh_token is not None
    for secret in tokens.access_token, tokens.refresh_token:
        assert secret not in redact_known(f"it is {secret} indeed")


async def test_the_secret_of_a_new_client_is_known_at_once(
    rig: Rig, autojump_clock: MockClock
) -> None:
    rig.authority.client_secret = secret = "the-secret-of-a-new-client"
    with pytest.raises(SignInPending):
        await ask(rig.client())
    assert (record := rig.entry().read()) is not None
    assert record.tokens is None
    assert [each.client_secret for each in record.registrations.values()] == [secret]
    assert secret not in redact_known(f"it is {secret} indeed")


# Together with other headers


def supplied(*values: str, name: str = "X-Api-Key") -> tuple[Supplied, list[str]]:
    """`--header-file` that holds these values one after the other; how often it was read."""
    left, reads = list(values), []

    async def read(source: Source) -> Headers:
        reads.append(source.option)
        value = left.pop(0) if len(left) > 1 else left[0]
        return ((name, value),)

    source = Source(option="--header-file", gives="headers", path="/nowhere")
    return Supplied((), [source], read=read), reads


async def test_headers_of_a_file_go_with_the_token(rig: Rig, autojump_clock: MockClock) -> None:
    rig.authority.confirmed.set()
    others, reads = supplied("key-1")
    client = rig.client(rig.bearer(others=others))
    assert await ask(client) == 200
    assert rig.server.headers()["x-api-key"] == "key-1"
    assert rig.server.headers()["authorization"].startswith("Bearer ")
    assert len(reads) == 2


async def test_a_header_that_has_changed_is_tried_before_anybody_is_asked(
    rig: Rig, autojump_clock: MockClock
) -> None:
    await rig.signed_in()
    others, _ = supplied("key-1", "key-2")
    rig.server.judge = lambda token, request: (
        None if dict(request.headers).get("X-Api-Key") == "key-2" else refusal()
    )
    assert await ask(rig.client(rig.bearer(others=others))) == 200
    assert rig.authority.fetched == []


async def test_an_authorization_of_a_file_gives_way_to_the_token(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """And, never having been sent with it, is no reason to send a request again."""
    rig.authority.confirmed.set()
    others, _ = supplied("Basic abc", name="Authorization")
    client = rig.client(rig.bearer(others=others))
    assert await ask(client) == 200
    rig.authority.tokens.clear()
    assert await ask(client) == 200
    assert rig.server.shown[0] == "Basic abc"
    assert rig.authority.names == ["device_code", "refresh_token"]


# The end


async def test_the_end_leaves_no_lock_and_nobody_waiting(
    rig: Rig, autojump_clock: MockClock
) -> None:
    failures: list[RelayError] = []

    async def one(client: Client) -> None:
        with pytest.raises(AuthorizationFailed, match="broken off") as caught:
            await ask(client)
        failures.append(caught.value)

    async with trio.open_nursery() as requests:
        async with trio.open_nursery() as nursery:
            bearer = Rig(rig.directory, nursery, rig.authority).bearer()
            requests.start_soon(one, rig.client(bearer))
            await trio.sleep(3)
            nursery.cancel_scope.cancel()
    assert failures
    entry = rig.entry()
    with trio.fail_after(0.01):
        async with entry.locked():
            pass


@pytest.mark.parametrize("delay, is_kept", [(0.5, True), (3.0, False)])
async def test_a_renewal_under_way_at_the_end_is_kept(
    rig: Rig, autojump_clock: MockClock, delay: float, is_kept: bool
) -> None:
    """The old refresh token may be dead already; the end waits for the new one, not for ever."""
    tokens = await rig.signed_in()
    rig.authority.delay = delay
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            Rig(rig.directory, nursery, rig.authority).bearer()
            await trio.sleep(3600 - MARGIN + 0.1)
            assert rig.authority.fetched == ["POST /token"]
            ended_at = trio.current_time()
            nursery.cancel_scope.cancel()
    assert trio.current_time() - ended_at <= GRACE + 0.1
    kept = rig.kept()
    assert kept is not None
    assert (kept.access_token != tokens.access_token) == is_kept


async def test_after_the_end_nothing_is_begun(rig: Rig, autojump_clock: MockClock) -> None:
    """A session is ended by a request, which still goes out with the token there is."""
    tokens = await rig.signed_in(expires_at=now() + 10)
    async with trio.open_nursery() as nursery:
        bearer = Rig(rig.directory, nursery, rig.authority).bearer()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    client = rig.client(bearer)
    await trio.sleep(8)
    assert await ask(client) == 200
    assert rig.server.shown == [f"Bearer {tokens.access_token}"]
    await trio.sleep(8)
    with pytest.raises(AuthorizationFailed, match="broken off"):
        await ask(client)
    assert rig.authority.fetched == []


async def test_a_defect_is_told_and_is_not_repeated_without_a_pause(
    rig: Rig, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.signed_in()
    rig.authority.trouble = [ValueError("a defect")]
    client = rig.client()
    await trio.sleep(3600 - MARGIN + 1)
    assert rig.authority.names == ["refresh_token"]
    assert "a defect" in caplog.text
    assert await ask(client) == 200
    await trio.sleep(LOOK)
    assert rig.authority.names == ["refresh_token"] * 2
