"""The ways to serve a client that shakes hands, and what the outcome of one means for the next.

A candidate is an upstream that is given the client's `initialize`. The table of D-A is the order of
the candidates and their two questions: whether one is worth trying after the first has failed, and
what its own outcome says. Decides; sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from mcp_stdio.era import evidence
from mcp_stdio.era.evidence import Outcome, Verdict
from mcp_stdio.errors import AuthorizationFailed, RelayError
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Upstream


class Step(Enum):
    """What to do after a candidate was tried."""

    STAY = "it accepts"
    GO_ON = "it does not, another may"
    STOP = "its answer is the client's"
    STOP_AT_FIRST = "nothing is proven; the first one's answer is the client's"


class Candidate(NamedTuple):
    """One way to serve the client, by `upstream`.

    `verdict` is the era of a server that accepts; `is_native` says that the client then speaks to
    the server in its own era.
    """

    name: str
    upstream: Upstream
    verdict: Verdict
    judge: Callable[[Outcome], Step]
    follows: Callable[[Outcome], bool]
    is_native: bool


def streamable_http(upstream: Upstream) -> Candidate:
    """A session over Streamable HTTP: `initialize` goes out as it came."""
    name, legacy = "Streamable HTTP", Verdict.LEGACY
    return Candidate(name, upstream, legacy, _judge_handshake, lambda _: True, is_native=True)


def bridged(upstream: Upstream) -> Candidate:
    """The stateless era behind a bridge: asks `server/discover` when `initialize` was refused."""
    name, modern = "a bridge to 2026-07-28", Verdict.MODERN
    return Candidate(name, upstream, modern, _judge_bridge, _refuses, is_native=False)


def http_sse(upstream: Upstream) -> Candidate:
    """HTTP+SSE of 2024-11-05: looked for when the URL takes no `initialize`."""

    def follows(first: Outcome) -> bool:
        return isinstance(first, RelayError) and evidence.may_be_http_sse(first)

    name, legacy = "HTTP+SSE", Verdict.LEGACY
    return Candidate(name, upstream, legacy, _judge_handshake, follows, is_native=True)


def _judge_handshake(outcome: Outcome) -> Step:
    if isinstance(outcome, Message):
        return Step.STAY if outcome.error is None else Step.GO_ON
    return Step.GO_ON if evidence.is_refusal(outcome) else Step.STOP_AT_FIRST


def _judge_bridge(outcome: Outcome) -> Step:
    if isinstance(outcome, Message):
        if outcome.error is None:
            return Step.STAY
        verdict = evidence.of_error(outcome.error)
    elif isinstance(outcome, AuthorizationFailed):
        return Step.STOP  # that the credential is wanted here is news, and what to do about it
    else:
        verdict = evidence.of_failed_discovery(outcome)
    return {
        Verdict.MODERN: Step.STOP,
        Verdict.LEGACY: Step.GO_ON,
        Verdict.UNKNOWN: Step.STOP_AT_FIRST,
    }[verdict]


def _refuses(first: Outcome) -> bool:
    if isinstance(first, Message):
        return first.error is not None
    return evidence.is_refusal(first)
