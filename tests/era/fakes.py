"""An upstream of a few lines, made of rules, for what stands on top of upstreams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from mcp_stdio import jsonrpc
from mcp_stdio.errors import RelayError
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from mcp_stdio.upstream.refusal import HttpRefusal

Answer = dict[str, Any] | RelayError | float | trio.Event
"""A result, or an error if it has a `code`; a failure; seconds to wait, an event to wait for."""

Step = Answer | Callable[[Message], Answer]

Rule = Step | list[Step]


class FakeUpstream:
    """Answers each method by its rule; without one, with an empty result."""

    def __init__(self, version: str | None = None, /, **rules: Rule) -> None:
        self.version = version
        self.rules: dict[str, Rule] = dict(rules)
        self.seen: list[Message] = []
        self.cancelled: list[Message] = []
        self.refreshed = 0
        self.closed = 0

    def methods(self) -> list[str]:
        return [message.method or "response" for message in self.seen]

    async def send(self, message: Message, call: Call) -> None:
        await call.turn.come()
        self.seen.append(message)
        call.turn.over()
        try:
            await self._answer(message, call)
        except trio.Cancelled:
            self.cancelled.append(message)
            raise

    async def _answer(self, message: Message, call: Call) -> None:
        rule = self.rules.get(message.method, {})
        for step in rule if isinstance(rule, list) else [rule]:
            answer = step(message) if callable(step) else step
            match answer:
                case RelayError():
                    await trio.lowlevel.checkpoint()
                    raise answer
                case trio.Event():
                    await answer.wait()
                case float():
                    await trio.sleep(answer)
                case _ if message.is_request:
                    assert message.id is not None
                    await trio.lowlevel.checkpoint()
                    if "code" in answer:
                        body = (answer["code"], str(answer.get("message", "")), answer.get("data"))
                        await call.emit(jsonrpc.error(message.id, *body))
                    else:
                        await call.emit(jsonrpc.result(message.id, answer))

    def refresh(self) -> None:
        self.refreshed += 1

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed += 1


def refused(
    status: int = 400, code: int | None = None, data: dict[str, Any] | None = None
) -> Callable[[Message], HttpRefusal]:
    """An HTTP error status; with `code` its body is a JSON-RPC error."""

    def refusal(message: Message) -> HttpRefusal:
        answer = None
        if code is not None:
            answer = jsonrpc.error(message.id, code, "refused", data)
        return HttpRefusal(
            f"status {status}", status=status, text="", answer=answer, retry_after=None
        )

    refusal.__name__ = f"{status} {code}"
    return refusal
