"""Headers and credentials as the user gives them: what may be sent, and which credential counts.

Owns the rules for `-H` (T-24), the expansion of `${NAME}`, and the choice among the sources of a
credential: one source given explicitly, which beats the environment; never two. Refuses to know
options and exit codes. Kept here: no complaint repeats a value, since values are secrets.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mcp_stdio.errors import UsageFailure, quote
from mcp_stdio.spec import CONNECTION_HEADERS, is_own_header

AUTHORIZATION = "Authorization"
TOKEN_VARIABLE = "MCP_BEARER_TOKEN"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header name: RFC 9110 section 5.6.2."""

_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
"""A header value: RFC 9110 section 5.5. What is beyond ASCII is sent in UTF-8."""

_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")

Headers = tuple[tuple[str, str], ...]


def parse_headers(lines: Iterable[str], environ: Mapping[str, str]) -> Headers:
    """Read the arguments of `-H`; of a name given twice the last one counts (RFC 9110 5.1).

    Raises UsageFailure.
    """
    headers: dict[str, tuple[str, str]] = {}
    for line in lines:
        name, value = parse_header(line, environ)
        headers.pop(name.lower(), None)
        headers[name.lower()] = (name, value)
    return tuple(headers.values())


def parse_header(line: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Read one `Key: Value`; the space is optional. Raises UsageFailure."""
    name, colon, value = line.partition(":")
    if not colon:
        raise UsageFailure(
            "an argument of `-H` has no colon",
            hint="write it as `-H 'Key: Value'`, in quotes",
        )
    if not _TOKEN.fullmatch(name):
        raise UsageFailure(
            "`-H`: what stands before the colon is no header name",
            hint="names consist of letters, digits and hyphens, as in `-H 'X-Tenant: Value'`",
        )
    if is_own_header(name):
        owner = "connection" if name.lower() in CONNECTION_HEADERS else "protocol"
        raise UsageFailure(
            f"`-H` cannot set `{name}`",
            hint=f"the {owner} itself decides about it; leave it out",
        )
    value = expand(value, environ, where=f"-H '{name}: …'").strip(" \t")
    if not _VALUE.fullmatch(value):
        raise UsageFailure(
            f"`-H`: the value of `{name}` has a line break or another control character",
            hint="a value is one line of printable characters",
        )
    return name, value


def expand(text: str, environ: Mapping[str, str], *, where: str) -> str:
    """Put the environment's value for each `${NAME}`, and `${` for each `$${`.

    Raises UsageFailure for a variable that is not set.
    """

    def value(match: re.Match[str]) -> str:
        name, closing = match.groups()
        if name is None:
            return "${"
        if not closing:
            raise UsageFailure(
                f"`{where}` has a `${{` without a `}}`", hint="write `$${` for a plain `${`"
            )
        if name not in environ:
            raise UsageFailure(
                f"`{where}` names the variable `{quote(name)}`, which is not set",
                hint="set it, or write `$${` for a plain `${`",
            )
        return environ[name]

    return _VARIABLE.sub(value, text)


def expanded(lines: Iterable[str], environ: Mapping[str, str]) -> Iterator[str]:
    """The values that `expand` puts into these lines: each is a secret by itself."""
    for line in lines:
        for match in _VARIABLE.finditer(line):
            if match[1] and match[1] in environ:
                yield environ[match[1]]


@dataclass(frozen=True, slots=True)
class Credential:
    """A value for `Authorization`, and the setting it came from."""

    source: str
    value: str


def bearer(token: str, *, source: str) -> Credential:
    """A bearer token (RFC 6750); white space around it, as files end with, is left out.

    Raises UsageFailure.
    """
    token = token.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise UsageFailure(
            f"`{source}` is not a token",
            hint="a token is one word of printable ASCII characters, without `Bearer` before it",
        )
    return Credential(source, f"Bearer {token}")


def basic(user: str, password: str) -> Credential:
    """The user information of a URL as RFC 7617 has it sent, in UTF-8."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Credential("user information in the URL", f"Basic {pair}")


def choose(explicit: Iterable[Credential], variable: str) -> tuple[Credential | None, str | None]:
    """The one credential that counts, and a note if the `variable`'s was passed over.

    `variable` is the value of MCP_BEARER_TOKEN, empty when unset. Raises UsageFailure naming both
    when two were given explicitly.
    """
    given = list(explicit)
    if len(given) > 1:
        raise UsageFailure(
            f"two credentials were given: `{given[0].source}` and `{given[1].source}`",
            hint="leave one of them out",
        )
    if not given:
        return bearer(variable, source=TOKEN_VARIABLE) if variable else None, None
    if not variable:
        return given[0], None
    return given[0], f"`{TOKEN_VARIABLE}` is not used, because of `{given[0].source}`"
