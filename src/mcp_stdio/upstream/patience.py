"""How long a request may go without an answer: the silence allowed, the longest time in all.

One cancel scope with a moving deadline instead of one for every read. It also ends a request whose
session was lost, since that is the same event to the task concerned: nothing more will come.
"""

from __future__ import annotations

from math import inf
from types import TracebackType

import trio

from mcp_stdio.errors import RelayError, TimedOut
from mcp_stdio.jsonrpc import Id

ANSWER_TIME = 600.0
"""Seconds that a person may take to answer a question of the server: the coffee is included."""

LONGEST_PAUSE = 60.0
"""Seconds of a pause the server asked for that are not counted as its silence."""


GRAIN = 0.1
"""Seconds by which the silence may seem to last longer than it did. Moving a deadline costs trio
2 µs, and a quick answer shows three signs of life. Of a silence shorter than
ten times this, a tenth."""


class Patience:
    """`with patience:` raises TimedOut, or what `give_up` was told, when there is no more of it.

    `silence` and `total` are seconds; None means without limit. The total counts from `begun`, a
    time of trio's clock, or from now. The silence counts from the last
    `heard`. It does not run before the first one and from `hold` to the next `heard`; while the
    server waits for a person it is ANSWER_TIME, if that is longer. Unless `is_harmless`, what was
    asked may have an effect, also when nobody waits for its answer any more.
    """

    __slots__ = (
        "_deadline", "_end", "_grain", "_is_done", "_questions", "_reason", "_scope", "_silence",
        "_total", "is_harmless",
    )  # fmt: skip

    def __init__(
        self, *, silence: float | None, total: float | None, begun: float | None = None
    ) -> None:
        self._silence = inf if silence is None else silence
        self._grain = min(GRAIN, self._silence / 10)
        self._total = inf if total is None else total
        if total is None:
            self._end = inf
        else:
            self._end = (trio.current_time() if begun is None else begun) + total
        self._deadline = self._end
        self._scope: trio.CancelScope | None = None  # once it is entered
        self._questions: set[Id] | None = None  # those it was ever asked, without the answered
        self._reason: RelayError | None = None
        self._is_done = False
        self.is_harmless = True

    def heard(self, pause: float = 0.0) -> None:
        """There was a sign of life: the silence begins anew, after a `pause` that was agreed on."""
        deadline = trio.current_time() + self._silence
        if pause:
            deadline += min(pause, LONGEST_PAUSE)
        if self._questions:
            deadline = max(deadline, trio.current_time() + ANSWER_TIME)
        if deadline >= self._end:
            self.hold()
        elif not 0 <= deadline - self._deadline < self._grain:
            self._move(deadline)

    def hold(self) -> None:
        """The server is not the one to act: let only the total run."""
        if self._deadline != self._end:
            self._move(self._end)

    def relax(self) -> None:
        """From now on silence is what is expected: let only the total run."""
        self._silence = inf
        self.hold()

    def _move(self, deadline: float) -> None:
        self._deadline = deadline
        if self._scope is not None:
            self._scope.deadline = deadline

    def asked(self, question: Id) -> None:
        """The server waits for a person: allow for that until it was `answered`."""
        if self._questions is None:
            self._questions = set()
        self._questions.add(question)
        self.heard()

    def answered(self, question: Id) -> None:
        """The server waits for this answer no more."""
        if self._questions and question in self._questions:
            self._questions.remove(question)
            self.heard()

    def unasked(self) -> None:
        """Whoever asked is gone: the silence counts from now on, whatever was asked."""
        if self._questions:
            self._questions.clear()
            self.heard()

    def finish(self, within: float) -> None:
        """The wait was rewarded elsewhere: what is under way has so many seconds left."""
        self._is_done = True
        self._end = trio.current_time() + within
        self._move(self._end)

    @property
    def is_done(self) -> bool:
        """Whether the wait was rewarded elsewhere: a failure means nothing any more."""
        return self._is_done

    def give_up(self, reason: RelayError) -> None:
        """End the wait now with this failure."""
        self._reason = reason
        if self._scope is not None:
            self._scope.cancel()
        else:  # not begun yet
            self._deadline = -inf

    @property
    def ended_by_time(self) -> bool:
        """Whether it was the time that ran out."""
        was_ended = self._scope is not None and self._scope.cancel_called
        return was_ended and self._reason is None and not self._is_done

    @property
    def remaining(self) -> float:
        """Seconds that a pause of our own may take."""
        return min(self._silence, self._end - trio.current_time())

    def __enter__(self) -> Patience:
        self._scope = trio.CancelScope(deadline=self._deadline)
        self._scope.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        scope = self._scope
        assert scope is not None
        swallowed = bool(scope.__exit__(kind, value, traceback))
        if not scope.cancelled_caught:
            return swallowed
        if self._is_done:
            return True
        if self._reason is not None:
            raise self._reason
        if trio.current_time() >= self._end:
            raise self._timed_out(
                f"no answer within {self._total:g} s, the longest a call may take",
                "raise `--timeout-call` if the server needs longer",
            )
        raise self._timed_out(
            f"the server was silent for {self._silence:g} s",
            "raise `--timeout-read` if the server needs longer",
        )

    def _timed_out(self, cause: str, hint: str) -> TimedOut:
        if not self.is_harmless:
            hint = f"the call may have run: check its effect before you call again; {hint}"
        failure = TimedOut(cause, hint=hint)
        failure.retryable = self.is_harmless
        return failure
