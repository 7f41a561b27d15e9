"""What an answer says about the era of the server that gave it (protocol.md 1.14, D-A to D-E).

Pure judgement: an answer goes in, a verdict comes out. The rule behind the rows: a server that
knows `server/discover`, or errors that only the modern revision has, is modern; one that refuses it
plainly is of the handshake era; a failure that any server may have on a bad day proves nothing.
Knows neither who asked nor what is done about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from mcp_stdio import retry, spec
from mcp_stdio.errors import CannotBridge, RelayError
from mcp_stdio.jsonrpc import METHOD_NOT_FOUND, Message
from mcp_stdio.upstream.refusal import HandshakeRefused, HttpRefusal


class Verdict(Enum):
    """The era of a server, as far as is known."""

    UNKNOWN = "unknown"
    LEGACY = "opens with `initialize`"
    MODERN = "speaks 2026-07-28 or later"


Outcome = Message | RelayError
"""What came of a request: its response, or the failure to get one."""

PLAIN_REFUSALS = frozenset({400, 404, 405, 406, 415, 422})
"""Statuses with which a server turns down what it does not know; others are accidents."""

OLD_ENDPOINT = frozenset({400, 404, 405})
"""Statuses of an `initialize` after which an HTTP+SSE server is looked for (Q-13)."""

MODERN_ERRORS = frozenset({spec.HEADER_MISMATCH, spec.MISSING_CAPABILITY, spec.UNSUPPORTED_VERSION})

SESSION_ERRORS = frozenset({-32000, -32600})
"""What servers of the handshake era say to a request that is outside of any session."""


def is_modern_version(version: object) -> bool:
    """Whether this is a revision without handshake; they are dates, so later ones compare so."""
    return isinstance(version, str) and version >= spec.R5


def of_discovery(response: Message) -> Verdict:
    """What a response to `server/discover` says."""
    if response.error is not None:
        return of_error(response.error)
    versions = response.result.get("supportedVersions")
    if isinstance(versions, list) and any(map(is_modern_version, versions)):
        return Verdict.MODERN
    return Verdict.LEGACY  # at least one SDK names old versions only


def of_error(error: Mapping[str, Any]) -> Verdict:
    """What a JSON-RPC error says, as the answer to `server/discover` (-32601 is a refusal)."""
    supported = _supported(error)
    if supported is not None:
        modern = any(map(is_modern_version, supported))
        return Verdict.MODERN if modern else Verdict.LEGACY
    return Verdict.MODERN if code_of(error) in MODERN_ERRORS else Verdict.LEGACY


def of_failed_discovery(failure: RelayError) -> Verdict:
    """What it says that `server/discover` ended in a failure."""
    match failure:
        case HttpRefusal(answer=answer) if _has_modern_error(answer):
            return Verdict.MODERN
        case HttpRefusal(status=status) if status in PLAIN_REFUSALS:
            return Verdict.LEGACY
        case CannotBridge():
            return Verdict.LEGACY
    return Verdict.UNKNOWN


def is_refusal(failure: RelayError) -> bool:
    """Whether a failed `initialize` was refused, so that another way is worth trying (D-A, D-D)."""
    if isinstance(failure, HandshakeRefused):
        return True
    return (
        isinstance(failure, HttpRefusal)
        and failure.status is not None
        and 400 <= failure.status < 500
        and failure.status != 403
        and retry.event_of_status(failure.status, None) is None
    )


def may_be_http_sse(failure: RelayError) -> bool:
    """Whether a failed `initialize` may have been sent to an HTTP+SSE server (T-90, Q-13)."""
    match failure:
        case HttpRefusal():
            return failure.status in OLD_ENDPOINT and not _has_modern_error(failure.answer)
        case HandshakeRefused():
            return failure.status in OLD_ENDPOINT
    return False


def contradicts(verdict: Verdict, request: Message, failure: Outcome) -> bool:
    """Whether what came of a request lets doubt that the server is of this era (D-E).

    Servers with sessions may know -32020 and -32021 as well: they want their headers, or a
    capability, and say no more than that.
    """
    error = failure.error if isinstance(failure, Message) else None
    if error is None and isinstance(failure, Message):
        return False
    match verdict:
        case Verdict.LEGACY if error is not None:
            wants_headers = request.method == spec.CALL_TOOL
            return is_about_version(failure) or (
                code_of(error) == spec.HEADER_MISMATCH and not wants_headers
            )
        case Verdict.LEGACY:
            return isinstance(failure, HandshakeRefused)
        case Verdict.MODERN if error is not None:
            return code_of(error) in SESSION_ERRORS
        case Verdict.MODERN:
            return is_refusal_without_answer(failure)
    return False


def is_about_version(outcome: Outcome) -> bool:
    """Whether an answer says that the server speaks modern revisions, and not the one it met."""
    error = outcome.error if isinstance(outcome, Message) else None
    if error is None or of_error(error) is Verdict.LEGACY:
        return False
    return _supported(error) is not None or code_of(error) == spec.UNSUPPORTED_VERSION


def is_refusal_without_answer(failure: Outcome) -> bool:
    """Whether the server turned a request down without a word of JSON-RPC."""
    return (
        isinstance(failure, HttpRefusal)
        and failure.answer is None
        and failure.status in PLAIN_REFUSALS
    )


def may_send_again(request: Message, failure: Outcome) -> bool:
    """Whether a request that met the wrong era may be sent in the right one (P2)."""
    if request.method in spec.SAFE_METHODS:
        return True
    error = failure.error if isinstance(failure, Message) else None
    return error is not None and code_of(error) in (spec.HEADER_MISMATCH, spec.UNSUPPORTED_VERSION)


def _has_modern_error(answer: Message | None) -> bool:
    return (
        answer is not None
        and answer.error is not None
        and code_of(answer.error) != METHOD_NOT_FOUND
        and of_error(answer.error) is Verdict.MODERN
    )


def code_of(error: Mapping[str, Any]) -> int | None:
    """The code of an error; None for what is no code, such as a list, which a server may send."""
    code = error.get("code")
    return code if type(code) is int else None


def _supported(error: Mapping[str, Any]) -> list[Any] | None:
    """The versions that an error names as supported (-32022, or its like in drafts; Q-15)."""
    data = error.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("requested"), str):
        return None
    supported = data.get("supported")
    return supported if isinstance(supported, list) else None
