"""How a server says that it knows a session no more, and whether a request may go into another.

Owns the reading of 404 and of 400s that speak of the session (T-44, Q-19), and the bound on how
often a request is sent on. Opens and sends nothing.
"""

from __future__ import annotations

from mcp_stdio import spec
from mcp_stdio.errors import BadAnswer, SessionLost
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream.handshake import Handshake
from mcp_stdio.upstream.link import LinkLost
from mcp_stdio.upstream.refusal import HttpRefusal

MAX_LOSSES = 4
"""Sessions after which a request is given up that finds one after the other forgotten, none of them
opened for it just now: a busy server that soon expires sessions does that, but not for long."""


class Forgotten(SessionLost):
    """404 to a POST that carried a session id: the server did not process it.

    Where it `came_later`, the session was gone by the time that the request was to come again.
    """

    def __init__(self, *, came_later: bool) -> None:
        when = "before a call can come again" if came_later else "at once"
        super().__init__(f"the server forgets each session {when}", status=404)
        self.came_later = came_later


def may_come_again(
    request: Message, loss: Forgotten | LinkLost, losses: int, *, is_anew: bool
) -> bool:
    """Whether a request may go into another session, having seen so many `losses` before."""
    if isinstance(loss, LinkLost):  # whether it was processed is not known
        return not losses and request.method in spec.SAFE_METHODS
    # What was forgotten was not processed, so it may be sent again, whatever it is (T-44).
    return losses < MAX_LOSSES and (loss.came_later or not is_anew)


def is_over(refusal: BadAnswer, handshake: Handshake) -> bool:
    """Whether the endpoint of a stream is known no more, which says that the stream is over."""
    return refusal.status == 404 and handshake.answers_elsewhere


def speaks_of_session(refusal: HttpRefusal) -> bool:
    """Whether a 400 is about the session: some servers say so instead of 404 (Q-19)."""
    text = refusal.text
    if refusal.answer is not None and refusal.answer.error is not None:
        text += str(refusal.answer.error.get("message", ""))
    return refusal.status == 400 and "session" in text.lower()
