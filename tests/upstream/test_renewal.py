"""One attempt for all that need its outcome, and how long it is insisted on."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from mcp_stdio.errors import AuthorizationFailed, ConnectionLost, RelayError, Unreachable
from mcp_stdio.upstream.renewal import Renewal


class Opening:
    """What is tried; it fails with `failures` in turn, and then works."""

    def __init__(self, *failures: RelayError) -> None:
        self.failures = list(failures)
        self.tried = 0

    async def __call__(self) -> None:
        self.tried += 1
        await trio.sleep(1)
        if self.failures:
            raise self.failures.pop(0)


async def test_all_who_ask_share_one_attempt_and_its_failure(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    opening = Opening(ConnectionLost("once"))
    renewal = Renewal(nursery, opening)
    failures = []

    async def one() -> None:
        with pytest.raises(Unreachable) as caught:  # of those who wait, nothing was sent
            await renewal.join()
        failures.append(caught.value)

    async with trio.open_nursery() as askers:
        for _ in range(10):
            askers.start_soon(one)
    assert opening.tried == 1
    assert len(failures) == 10
    await renewal.join()  # the next one tries again
    assert opening.tried == 2


async def test_it_is_insisted_on_until_it_works(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    opening = Opening(*(ConnectionLost(str(number)) for number in range(5)))
    Renewal(nursery, opening).insist()
    await trio.sleep(600)
    assert opening.tried == 6


async def test_a_sign_in_is_not_insisted_on(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Each attempt might open a page in somebody's browser."""
    opening = Opening(ConnectionLost("x"), AuthorizationFailed("401"), ConnectionLost("never met"))
    renewal = Renewal(nursery, opening)
    renewal.insist()
    await trio.sleep(600)
    assert opening.tried == 2
    renewal.insist()  # whoever has a reason may begin anew
    await trio.sleep(600)
    assert opening.tried == 4
