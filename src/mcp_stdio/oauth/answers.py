"""Answers of OAuth endpoints, read with suspicion: documents, tokens, errors.

An OAuth error (RFC 6749 section 5.2) is `Declined`, whatever status it comes under; a status that
says nothing of OAuth is `Refused`, so that a gateway's bad day costs no grant. Texts are shown only
by `errors.quote` (A-53), and what travels on in a form or a header is ASCII without control
characters (RFC 6749, appendix A).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from urllib.parse import quote as quote_url

from mcp_stdio.errors import Declined, Refused, Unusable, quote
from mcp_stdio.oauth.commands import Fetch, Fetched, Flow

JSON = ("Accept", "application/json")
FORM = "application/x-www-form-urlencoded"

TRANSIENT_ERRORS = frozenset({"server_error", "temporarily_unavailable"})
"""OAuth errors that say "later" (RFC 6749 section 4.1.2.1; used at token endpoints as well)."""

HINTS = {
    "access_denied": "the sign-in was cancelled or not allowed; try again when it is",
    "expired_token": "the code was not typed in in time; sign in again",
    "invalid_scope": "ask for other scopes with `--oauth-scope`",
    "invalid_target": "try `--no-resource-indicator`, or name what the server knows with "
    "`--oauth-resource`",
}
"""What helps against an OAuth error that a person can avoid."""

_TEXT = re.compile(r"[\x20-\x7e]+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


def is_transient(status: int | None) -> bool:
    """Whether a status speaks of the moment and not of the request."""
    return status is not None and (status >= 500 or status in (408, 429))


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that the body is, or None."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def text(document: Mapping[str, Any], name: str) -> str | None:
    """A member that may go into a form: printable ASCII, not empty; else None."""
    value = document.get(name)
    return value if isinstance(value, str) and _TEXT.fullmatch(value) else None


def seconds(document: Mapping[str, Any], name: str) -> float | None:
    """A positive number of seconds, perhaps written as a string; None for anything else."""
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def words(document: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """A member that is a list of strings; None if it is missing or anything else."""
    value = document.get(name)
    if not isinstance(value, list):
        return None
    return tuple(word for word in value if isinstance(word, str))


def scopes(text: str | None) -> tuple[str, ...]:
    """The scopes of a `scope` value, each once, without what cannot be one."""
    return tuple(dict.fromkeys(word for word in (text or "").split() if _SCOPE.fullmatch(word)))


def fetch_document(
    url: str, purpose: str, headers: tuple[tuple[str, str], ...] = ()
) -> Flow[dict[str, Any] | None]:
    """Fetch a metadata document; None where there is none (A-5).

    A server that is in trouble raises, for what it would have said is not known.
    """
    fetched = yield Fetch("GET", url, (JSON, *headers), purpose=purpose)
    if is_transient(fetched.status):
        raise refused(fetched, url, purpose)
    return json_object(fetched.body) if fetched.status == 200 else None


def answer(fetched: Fetched, url: str, purpose: str) -> dict[str, Any]:
    """The members of a successful answer, in JSON or in form encoding.

    Raises Declined for an OAuth error, also under 200, and Refused for any other failure.
    """
    members = json_object(fetched.body)
    if members is None and FORM in fetched.headers.get("content-type", "").lower():
        members = dict(parse_qsl(fetched.body.decode(errors="replace")))
    if members is not None and isinstance(members.get("error"), str):
        raise declined(members, purpose, status=fetched.status)
    if members is None or not 200 <= fetched.status < 300:
        raise refused(fetched, url, purpose)
    return members


def declined(members: Mapping[str, Any], purpose: str, *, status: int | None = None) -> Exception:
    """The failure that an OAuth error stands for; transient ones are no verdict on the grant."""
    error = quote(str(members["error"]))
    said = members.get("error_description")
    detail = f"{error}: {quote(said)}" if isinstance(said, str) and said.strip() else error
    cause = f"could not {purpose}: {detail}"
    if members["error"] in TRANSIENT_ERRORS or is_transient(status):
        return Refused(cause, status=status or 503, hint="try again later")
    return Declined(cause, error=error, hint=HINTS.get(str(members["error"])), status=status)


def refused(fetched: Fetched, url: str, purpose: str) -> Refused:
    """The failure of an answer that is no OAuth answer."""
    host = urlsplit(url).netloc
    begun = fetched.body.decode(errors="replace")
    what = f"HTTP {fetched.status}" if not 200 <= fetched.status < 300 else "no usable answer"
    said = f": {quote(begun)}" if begun.strip() else ""
    return Refused(
        f"could not {purpose}: {what} from `{host}`{said}",
        status=fetched.status,
        text=begun[:4096],
        hint="try again later; if it stays so, tell who runs the authorization server",
    )


def unusable(purpose: str, reason: str) -> Unusable:
    """The failure of an answer that was given and cannot be used."""
    return Unusable(f"could not {purpose}: {reason}")


def form_encoded(pairs: Iterable[tuple[str, str]]) -> str:
    """The pairs as a query or a form; a space is `%20`, which every reader understands."""
    return urlencode(list(pairs), quote_via=quote_url)
