"""What the client hears about a request that is unfinished when everything ends.

One answer, as for every request (P1). A listen stream has no failure to tell of: it ends as the
revision 2026-07-28 has a server end it, with its result and then a `notifications/cancelled` (S-16,
Q-3). Decides what is said; knows neither when nor where.
"""

from __future__ import annotations

from mcp_stdio import jsonrpc, spec
from mcp_stdio.errors import RelayError
from mcp_stdio.jsonrpc import Message


def last_words(request: Message, cause: RelayError) -> list[Message]:
    """The messages that end an unfinished request, its response the first of them."""
    assert request.id is not None
    if request.method != spec.LISTEN:
        return [jsonrpc.failure(request.id, cause)]
    about = {"resultType": "complete", "_meta": {spec.META_SUBSCRIPTION: request.id}}
    return [
        jsonrpc.result(request.id, about),
        jsonrpc.notification(spec.CANCELLED, {"requestId": request.id}),
    ]
