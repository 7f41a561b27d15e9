"""What the servers' side asks the client and has no answer to yet.

Remembers which session asked, for the answer must go back there even when another has taken its
place, and which requests wait together with the question: while a person thinks, the server's
silence is not its own. Kept here: a question that nobody answers suspends nothing for ever.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

from mcp_stdio import spec
from mcp_stdio.jsonrpc import Id, Message
from mcp_stdio.upstream.patience import Patience

Asker = TypeVar("Asker")

MAX_OPEN = 1000
"""Questions remembered; a client that answers none must not fill our memory."""


class _Question(NamedTuple, Generic[Asker]):
    asker: Asker
    waiting: list[Patience]


class Questions(Generic[Asker]):
    """The open questions, by their id."""

    def __init__(self) -> None:
        self._open: dict[Id, _Question[Asker]] = {}

    def ask(self, question: Message, asker: Asker, waiting: list[Patience]) -> None:
        """The server asks; the requests in `waiting` wait with it, if it is one for a person."""
        assert question.id is not None
        self.settle(question.id)
        if len(self._open) >= MAX_OPEN:
            self.settle(next(iter(self._open)))
        self._open[question.id] = _Question(asker, waiting)
        if question.method in spec.ASKS_A_PERSON:
            for patience in waiting:
                patience.asked(question.id)

    def drop(self, patience: Patience) -> None:
        """A request is over: nothing waits with it any more."""
        for question in self._open.values():
            if patience in question.waiting:
                question.waiting.remove(patience)

    def forget(self, asker: Asker) -> None:
        """Who asked is gone: nobody waits for answers to it."""
        for id in [id for id, question in self._open.items() if question.asker is asker]:
            self.settle(id)

    def settle(self, id: Any) -> Asker | None:
        """The question is answered or withdrawn; who asked it, None when nobody did."""
        question = self._open.pop(id, None) if type(id) in (str, int) else None
        if question is None:
            return None
        for patience in question.waiting:
            patience.answered(id)
        return question.asker
