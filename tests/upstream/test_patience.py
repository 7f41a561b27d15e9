"""How long a request waits (T-63), on a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from mcp_stdio.errors import SessionLost, TimedOut
from mcp_stdio.upstream.patience import Patience

Step = float | Callable[[Patience], object]


async def end(patience: Patience, *steps: Step) -> tuple[float, str]:
    """When and how it ends: by the failure's text, or `done` when the steps are over."""
    begin = trio.current_time()
    try:
        with patience:
            for step in steps:
                if callable(step):
                    step(patience)
                else:
                    await trio.sleep(step)
    except (TimedOut, SessionLost) as failure:
        return round(trio.current_time() - begin, 3), str(failure)
    return round(trio.current_time() - begin, 3), "done"


SILENT = "the server was silent for 10 s"
TOO_LONG = "no answer within 25 s, the longest a call may take"


@pytest.mark.parametrize(
    "steps, at, how",
    [
        pytest.param([20.0], 20.0, "done", id="not begun"),
        pytest.param([Patience.heard, 9.0], 9.0, "done", id="in time"),
        pytest.param([Patience.heard, 11.0], 10.0, SILENT, id="too late"),
        pytest.param([*[Patience.heard, 9.0] * 2], 18.0, "done", id="heard again and again"),
        pytest.param([*[Patience.heard, 9.0] * 3], 25.0, TOO_LONG, id="too long in all"),
        pytest.param([*[Patience.heard, 0.07] * 500], 25.0, TOO_LONG, id="talkative, too long"),
        pytest.param([30.0], 25.0, TOO_LONG, id="total before the beginning"),
        pytest.param([Patience.heard, Patience.hold, 20.0], 20.0, "done", id="held"),
        pytest.param([Patience.hold, 12.0, Patience.heard, 11.0], 22.0, SILENT, id="held before"),
        pytest.param([lambda p: p.heard(4), 20.0], 14.0, SILENT, id="after an agreed pause"),
        pytest.param([lambda p: p.asked(1), 20.0], 20.0, "done", id="asked"),
        pytest.param(
            [lambda p: p.asked(1), Patience.heard, 20.0], 20.0, "done", id="asked, a word after it"
        ),
        pytest.param(
            [lambda p: p.asked(1), 3.0, lambda p: p.answered(1), 20.0], 13.0, SILENT, id="answered"
        ),
        pytest.param(
            [lambda p: p.asked(1), lambda p: p.asked("1"), lambda p: p.answered(1), 20.0],
            20.0,
            "done",
            id="one of two answered",
        ),
        pytest.param(
            [Patience.hold, lambda p: p.answered("other"), 20.0], 20.0, "done", id="another's"
        ),
        pytest.param([lambda p: p.asked(1), 30.0], 25.0, TOO_LONG, id="never answered"),
    ],
)
async def test_silence_and_total(
    autojump_clock: MockClock, steps: list[Step], at: float, how: str
) -> None:
    assert await end(Patience(silence=10, total=25), *steps) == (at, how)


@pytest.mark.parametrize("silence", [0.01, 0.1, 0.3])
async def test_a_short_silence_begins_anew_as_well(
    autojump_clock: MockClock, silence: float
) -> None:
    steps: list[Step] = [Patience.heard, silence / 2] * 100
    patience = Patience(silence=silence, total=None)
    assert await end(patience, *steps) == (round(silence * 50, 3), "done")


async def test_without_limits(autojump_clock: MockClock) -> None:
    patience = Patience(silence=None, total=None)
    assert await end(patience, Patience.heard, 1e6) == (1e6, "done")


async def test_giving_up_ends_the_wait_with_its_reason(autojump_clock: MockClock) -> None:
    patience = Patience(silence=10, total=25)
    reason = SessionLost("over")
    assert await end(patience, 3.0, lambda p: p.give_up(reason), 3.0) == (3.0, "over")
    assert not patience.ended_by_time


async def test_a_block_that_was_ready_is_not_punished(autojump_clock: MockClock) -> None:
    patience = Patience(silence=10, total=25)
    with patience:
        patience.give_up(SessionLost("over"))


async def test_it_tells_whether_time_ran_out(autojump_clock: MockClock) -> None:
    patience = Patience(silence=10, total=25)
    await end(patience, Patience.heard, 5.0)
    assert not patience.ended_by_time
    await end(patience := Patience(silence=10, total=25), Patience.heard, 15.0)
    assert patience.ended_by_time


async def test_a_cancel_from_outside_is_not_its_own(autojump_clock: MockClock) -> None:
    with trio.move_on_after(3) as outside:
        with Patience(silence=10, total=25) as patience:
            patience.heard()
            await trio.sleep_forever()
    assert outside.cancelled_caught
    assert not patience.ended_by_time


async def test_what_a_pause_may_take(autojump_clock: MockClock) -> None:
    patience = Patience(silence=10, total=25)
    assert patience.remaining == 10
    await trio.sleep(20)
    assert patience.remaining == pytest.approx(5)
    assert Patience(silence=None, total=None).remaining == float("inf")
