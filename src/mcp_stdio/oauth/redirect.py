"""What comes back from an authorization page: the query of the redirect, as values.

Read here whether it came over the loopback listener or was pasted by a person. Owns what counts
as the redirect that is waited for (A-20): it bears the state, compared in constant time, and every
parameter once (RFC 6749 section 3.1), so that nobody can slip a second code in beside the first.
What the parameters say, `iss` and `error` included, is the login's business. No I/O.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

MAX_PARAMETERS = 64
"""More than any authorization server sends; a limit for who tries."""

_WRAPPING = "<>\"'`"


def parameters(query: str) -> dict[str, str]:
    """The parameters of a query, form-decoded. Raises ValueError with a reason."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise ValueError("it has too many parameters") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a parameter twice")
    return found


def is_awaited(found: Mapping[str, str], state: str) -> bool:
    """Whether this is the answer to the request with this state: a code or an error (A-20)."""
    given = found.get("state", "").encode(errors="replace")
    is_ours = hmac.compare_digest(given, state.encode(errors="replace"))
    return is_ours and ("code" in found or "error" in found)


def pasted(text: str) -> dict[str, str]:
    """The parameters in what a person pastes: a whole URL, as the address bar has it, or its query.

    Quotes around it and line breaks in it, as terminals and mail programs make them, do not matter.
    Raises ValueError with a reason.
    """
    joined = "".join(text.split()).strip(_WRAPPING)
    if not joined:
        raise ValueError("it is empty")
    if "://" in joined.partition("?")[0]:
        try:
            query = urlsplit(joined).query
        except ValueError:
            raise ValueError("it is no URL") from None
    else:
        query = joined.partition("#")[0].rpartition("?")[2]
    found = parameters(query)
    if "code" not in found and "error" not in found:
        raise ValueError("it has neither a `code` nor an `error`")
    return found
