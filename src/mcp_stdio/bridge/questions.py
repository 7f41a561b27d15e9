"""The relay's own requests to the client, and the answers it waits for (B-13, B-14).

Each has an id of its own, so any number of calls may ask at the same time. Whoever asks waits no
longer than a person may take; when it stops waiting, for whatever reason, the client is told that
the question is off.
"""

from __future__ import annotations

import logging

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.errors import TimedOut
from mcp_stdio.jsonrpc import Id, Message
from mcp_stdio.upstream import Call, Emit
from mcp_stdio.upstream.patience import ANSWER_TIME

log = logging.getLogger(__name__)

WITHDRAWAL = 0.5
"""Seconds for telling the client that a question is off: one line, and the client may be slow."""


class _Open:
    def __init__(self) -> None:
        self.answered = trio.Event()
        self.answer: Message | None = None


class Questions:
    """The open questions by their id; `emit` reaches the client when no request does any more."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._open: dict[Id | None, _Open] = {}

    def settle(self, answer: Message) -> None:
        """Hand a response of the client to whoever waits for it (S-3)."""
        question = self._open.get(answer.id)
        if question is None or question.answer is not None:
            log.warning("dropped a response to a question that nobody asks")
            return
        question.answer = answer
        question.answered.set()

    async def ask(
        self,
        question: Message,
        call: Call,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> Message:
        """Ask the client and wait for its response; started once the question is written.

        Raises TimedOut.
        """
        self._open[question.id] = waiting = _Open()
        try:
            await call.emit(question)
            task_status.started()
            with trio.move_on_after(ANSWER_TIME):
                await waiting.answered.wait()
            if waiting.answer is None:
                raise TimedOut(
                    f"the client did not answer `{question.method}` within {ANSWER_TIME:g} s",
                    hint="answer what the client asks, then call again",
                )
            return waiting.answer
        finally:
            del self._open[question.id]
            if waiting.answer is None:
                with call.leave.shielded(WITHDRAWAL):
                    await self._emit(_withdrawal(question))


def _withdrawal(question: Message) -> Message:
    params = {"requestId": question.id, "reason": "the call that asked is over"}
    return jsonrpc.notification(spec.CANCELLED, params)
