"""How the messages of a session travel: the seam between the handshake era and its two transports.

`session` knows the handshake and what a lost session means; a `Transport` knows what has to be open
for a session to be begun, what is listened to under it, and how it is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mcp_stdio.upstream.handshake import Handshake
from mcp_stdio.upstream.questions import Questions


class Transport(Protocol):
    """A way to have sessions with one server."""

    async def connect(
        self, questions: Questions[Handshake], lost: Callable[[Handshake], None]
    ) -> Handshake:
        """Have ready what a session needs before its `initialize`. Raises RelayError.

        `questions` takes what the server asks under it. `lost` is told when the session ends with
        a connection, as long as nobody has called its `lose`.
        """
        ...

    def listen(self, handshake: Handshake) -> None:
        """Hear what the server says of its own accord, now that `initialized` was accepted."""
        ...

    async def leave(self, handshake: Handshake) -> None:
        """End the session, whatever the server says to that."""
        ...
