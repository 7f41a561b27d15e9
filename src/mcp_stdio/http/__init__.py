"""The HTTP client face: the one interface that both lanes and the client above them offer.

A `Lane` sends requests; an `Exchange` is one request on its way and its response. The two phases,
`send` (the request has left) and `head` (the server began to answer), are what tells a request
that provably did not run from one that may have. No module outside this package names httpx, ssl or
OSError; no module inside it knows MCP.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeAlias

from mcp_stdio.http.url import Url

Accepts: TypeAlias = Callable[[str], bool]
"""Whether an IP address, in text, may be connected to."""


class Headers:
    """Response headers in their order; names compare case-insensitively (T-23)."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        self._items = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in items
        ]

    @classmethod
    def lowered(cls, items: list[tuple[str, str]]) -> Headers:
        """Headers of text whose names are in lower case already; takes the list over."""
        headers = cls.__new__(cls)
        headers._items = items
        return headers

    def get(self, name: str) -> str | None:
        """The first value of `name` (lower case), or None."""
        for key, value in self._items:
            if key == name:
                return value
        return None

    def get_all(self, name: str) -> list[str]:
        """Every value of `name` (lower case), in order."""
        return [value for key, value in self._items if key == name]

    def combined(self) -> dict[str, str]:
        """Every header once, under its name in lower case; several values as one list."""
        found: dict[str, str] = {}
        for name, value in self._items:
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found


class Request(NamedTuple):
    """One HTTP request; `headers` holds what the protocol asks for, credentials come later.

    `is_replayable` says that the request may run twice without harm; one that may not is never
    put on a connection that idled long enough for the server to be closing it.
    """

    method: str
    url: Url
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    is_replayable: bool = False


class Head(NamedTuple):
    """Status and headers of a response.

    `shown` is told of a 401 or 403 alone: the names of the user's headers that the request had.
    `proxy` is one (host and port) that read the request and may have answered itself.
    """

    status: int
    headers: Headers
    shown: tuple[str, ...] = ()
    proxy: str | None = None

    def __str__(self) -> str:
        """Status and content type, for the log."""
        return f"{self.status} {self.media_type}"

    @property
    def is_to_credential(self) -> bool:
        """Whether the request showed an `Authorization`."""
        return any(name.lower() == "authorization" for name in self.shown)

    @property
    def media_type(self) -> str:
        """The content type in lower case without its parameters; empty when there is none."""
        return (self.headers.get("content-type") or "").partition(";")[0].strip().lower()

    @property
    def is_body_ended_by_close(self) -> bool:
        """Whether nothing but the close tells where the body ends (RFC 9112 section 6.3).

        Then one that the close has cut off looks whole.
        """
        headers = self.headers
        return headers.get("content-length") is None and headers.get("transfer-encoding") is None


class Exchange(ABC):
    """One request that has left, and its response. Always `aclose` it."""

    @property
    def was_sent(self) -> bool:
        """Whether a byte of the request may have left; once True, it stays so.

        Where `send` has sent it, always. False only on a lane that sends no sooner than `head`.
        """
        return True

    @property
    def is_kept(self) -> bool | None:
        """Once there is a head, whether the connection had been used before; None if unknown."""
        return None

    @abstractmethod
    async def head(self) -> Head:
        """Wait for the final response head. Raises ConnectionLost, BadAnswer.

        Where a lane, a redirect or a renewed credential has it sent only now, also what `send`
        raises.
        """

    @abstractmethod
    async def receive_some(self) -> bytes:
        """The next bytes of the body; `b""` once it is complete. Raises ConnectionLost, BadAnswer.

        A body that breaks off raises ConnectionLost, never `b""`.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """End the exchange.

        The connection is kept when the response is complete or completes at once, otherwise it is
        closed; when cancelled, forcefully and without waiting.
        """


class Lane(Protocol):
    """A way to the server."""

    def is_ready(self, request: Request) -> bool:
        """Whether `send` would put all of the request on an open connection without waiting."""
        ...

    async def send(self, request: Request) -> Exchange:
        """Send the request.

        Raises Unreachable (or a subtype) when no byte of it left, ConnectionLost when some did.
        """
        ...

    async def prepare(self, url: Url) -> None:
        """Have a connection ready for the first request; failures stay silent."""
        ...

    def drop_idle(self) -> None:
        """Close every idle connection, for instance after the machine has slept."""
        ...

    async def aclose(self) -> None:
        """Close what is left open."""
        ...
