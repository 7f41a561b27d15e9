"""One call whose answer may be a question: asked, answered and sent again, until it is done (B-14).

The server asks by its result and keeps nothing; the client is asked by requests, as in its own era.
Kept here: who is asked at the same time and who one after the other, how often and how long all
this may go on, and that the client's own time-out hears a sign of life meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping

import trio

from mcp_stdio import jsonrpc, spec, splice
from mcp_stdio.bridge import input_required
from mcp_stdio.bridge.input_required import DECLINED, Question
from mcp_stdio.bridge.introduction import Introduction
from mcp_stdio.bridge.questions import Questions
from mcp_stdio.errors import BadAnswer, CannotBridge, RelayError, quote
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from mcp_stdio.upstream.progress import Rising

MAX_ROUNDS = 16
"""Rounds with questions in one call; a form that is filled in anew each time needs a few."""

MAX_QUESTIONS = 100
"""Questions of one round: each costs a person's time or a model's, and is asked at once."""

MAX_WAITS = 100
"""Rounds without a question, in which the server wants to be called again: 50 minutes of them."""

FIRST_PAUSE = 1.0
"""Seconds before the second such call in a row; doubled each time."""

LONGEST_PAUSE = 30.0
"""Seconds of the longest pause between them."""

LIFE_SIGN = 10.0
"""Seconds between the signs of life while a person thinks; clients give up after 60 and more."""

WAITING = "waiting for input"

Send = Callable[[Message, Call], Awaitable[Message | None]]
"""Sends a request and returns its response; what else comes goes to the call."""


class Rounds:
    """The rounds of one `request` of the client; `progress` is the way its progress takes."""

    def __init__(
        self,
        request: Message,
        call: Call,
        *,
        introduction: Introduction,
        questions: Questions,
        ids: Iterator[str],
        progress: Rising,
        send: Send,
    ) -> None:
        self._request = request
        self._call = call
        self._introduction = introduction
        self._questions = questions
        self._ids = ids
        self._progress = progress
        self._send = send
        self._asked = 0
        self._waited = 0
        self._pause = 0.0
        self._visited: list[str] = []  # elicitations with a URL that the person agreed to

    async def finish(self, response: Message | None) -> Message | None:
        """The response that is no question any more, given the first one. Raises RelayError."""
        while response is not None and input_required.is_question(response):
            self._call.turn.over()
            asked = input_required.read(response)
            answers: Mapping[str, str] = {}
            if asked.requests:
                answers = await self._answers(asked.requests)
            else:
                await self._wait()
            id = next(self._ids)
            retry = input_required.again(self._request, id, answers, asked.state)
            again = Call(
                self._progress.emit, self._call.turn, self._call.leave, self._progress.emit_all
            )
            response = await self._send(retry, again)
        if response is not None and response.error is None:
            for elicitation in self._visited:
                params = {"elicitationId": elicitation}
                await self._call.emit(jsonrpc.notification(spec.ELICITATION_COMPLETE, params))
        return response

    async def _wait(self) -> None:
        """Let the server have its time: it asks nothing, and wants to be called again."""
        self._waited += 1
        if self._waited > MAX_WAITS:
            raise _too_many_rounds()
        await trio.sleep(self._pause)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)

    async def _answers(self, requests: Mapping[str, str]) -> Mapping[str, str]:
        """The client's answers to the questions of one round, as JSON under the same keys."""
        self._asked += 1
        if self._asked > MAX_ROUNDS:
            raise _too_many_rounds()
        self._pause = 0.0
        if len(requests) > MAX_QUESTIONS:
            raise BadAnswer(f"the server asks for more than {MAX_QUESTIONS} things at once")
        questions = {
            key: input_required.question(text, self._introduction, self._ids)
            for key, text in requests.items()
        }
        answers: dict[str, str] = {}
        failures: list[RelayError] = []
        async with trio.open_nursery() as nursery:

            async def ask(
                key: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
            ) -> None:
                try:
                    answers[key] = await self._answer(questions[key], task_status)
                except RelayError as failure:  # as it is, not in a group
                    failures.append(failure)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(self._show_life)
            async with trio.open_nursery() as asking:
                for key, question in questions.items():
                    if not question.is_elicitation:
                        await asking.start(ask, key)
                for key, question in questions.items():  # a person sees one form at a time
                    if question.is_elicitation:
                        await ask(key)
            nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]
        return {key: answers[key] for key in questions}

    async def _answer(self, question: Question, task_status: trio.TaskStatus[None]) -> str:
        """The client's answer to one question, as it wrote it."""
        asked = question.request
        answer = await self._questions.ask(asked, self._call, task_status=task_status)
        if answer.error is not None:
            if question.is_elicitation:
                return DECLINED
            # There is no form in which the server could be told.
            text = quote(str(answer.error.get("message", "")))
            raise CannotBridge(
                f"the client answered `{asked.method}` with an error: {text or 'it says no more'}",
                hint="the server needs that answer: have the client give it, then call again",
            )
        if question.elicitation is not None and answer.result.get("action") == "accept":
            self._visited.append(question.elicitation)
        result = splice.get(answer.raw.decode(), "result")
        assert result is not None
        return result

    async def _show_life(self) -> None:
        """Tell the client's time-out that its request is alive, if it said how."""
        token = spec.meta_of(self._request).get("progressToken")
        while isinstance(token, str | int):
            await trio.sleep(LIFE_SIGN)
            if (value := self._progress.above(token)) is not None:
                params = {"progressToken": token, "progress": value, "message": WAITING}
                await self._progress.emit(jsonrpc.notification(spec.PROGRESS, params))


def _too_many_rounds() -> BadAnswer:
    return BadAnswer("too many rounds: the server never stops asking for input")
