"""What a session was told to keep: the log level and the subscriptions.

A new session has to be told it again (T-44), and only what the server granted in the old one.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcp_stdio import spec
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Emit


class Standing:
    """The requests in force, in the order they were granted; iterating gives them as they came."""

    def __init__(self) -> None:
        self._granted: dict[tuple[str, str], Message] = {}

    def __iter__(self) -> Iterator[Message]:
        return iter(list(self._granted.values()))

    @property
    def uris(self) -> list[str]:
        """The resources that are subscribed to."""
        return [name for kind, name in self._granted if kind == "uri"]

    def clear(self) -> None:
        """The client has begun anew: nothing is in force."""
        self._granted.clear()

    def concerns(self, request: Message) -> bool:
        """Whether the outcome of this request is to be noted."""
        return request.method in (spec.SET_LEVEL, spec.SUBSCRIBE, spec.UNSUBSCRIBE)

    def noting(self, request: Message, emit: Emit) -> Emit:
        """An `emit` that notes on the way whether the request was granted."""

        async def note(message: Message) -> None:
            if message.is_response and message.error is None:
                self._note(request)
            await emit(message)

        return note

    def _note(self, request: Message) -> None:
        match request.method, request.params:
            case spec.SET_LEVEL, _:
                self._granted["level", ""] = request
            case spec.SUBSCRIBE, {"uri": str(uri)}:
                self._granted["uri", uri] = request
            case spec.UNSUBSCRIBE, {"uri": str(uri)}:
                self._granted.pop(("uri", uri), None)
