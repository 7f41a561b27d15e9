"""What a flow asks of whoever performs it: the commands it yields, and what each answers with.

A flow is a synchronous generator, so one story has several drivers: the relay performs it, tests
answer from a list. A command that fails is answered by throwing a `RelayError` into the flow.
Owns no policy: which addresses may be reached and how much is read is the performer's business.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from mcp_stdio.oauth.record import Record


@dataclass(frozen=True, slots=True)
class Fetch:
    """One HTTP request without redirects (A-52), answered with `Fetched`.

    `purpose` completes the sentence "could not ..." and names nothing secret. The performer throws
    when there is no response; any status is an answer.
    """

    method: str
    url: str = field(repr=False)  # its path may be the server URL's, which may hold a secret
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The response to a `Fetch`; header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Listen:
    """Open the loopback listener, on `port` or any free one; answered with the redirect URI.

    A port that is given and taken is an `errors.PortTaken`, thrown into the flow. The listener
    stays open until a `Visit` has its answer, or the flow ends; a second `Listen` replaces it
    (A-22).
    """

    port: int | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """Have a person visit `url`; answered with the query of the redirect that bears `state`.

    Redirects with another state, or none, are discarded on the way (A-20). The performer throws
    `errors.TimedOut` when nobody came back in time, and ends the flow in no other way.
    """

    url: str = field(repr=False)
    state: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ShowCode:
    """Show a person where to type `code`, valid for so many seconds; answered with None.

    `complete_url` holds the code already (RFC 8628 section 3.3.1).
    """

    url: str
    code: str = field(repr=False)
    complete_url: str | None = field(default=None, repr=False)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Let so many seconds pass; answered with None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Now:
    """Answered with the wall clock: seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Store this record now, since it must outlive a failure of the flow; answered with None.

    A client that has just been registered is kept this way, and one that is dead is forgotten.
    """

    record: Record


Command: TypeAlias = Fetch | Listen | Visit | ShowCode | Wait | Now | Keep

T = TypeVar("T")

Flow: TypeAlias = Generator[Command, Any, T]
"""A flow that returns a `T`; what it is sent depends on the command it has yielded."""
