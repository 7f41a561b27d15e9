"""What may be sent as a header or as a token, wherever it was found.

Owns the form of a `Key: Value` (T-24) and of a bearer token. Refuses to know options, files and
commands: `where` is what the user calls the place. Kept here: no complaint repeats a value, since
values are secrets.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable

from mcp_stdio.errors import UsageFailure
from mcp_stdio.spec import CONNECTION_HEADERS, is_own_header

AUTHORIZATION = "Authorization"

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
"""A header name: RFC 9110 section 5.6.2."""

_VALUE = r"[^\x00-\x08\x0a-\x1f\x7f]*"
"""A header value: RFC 9110 section 5.5. What is beyond ASCII is sent in UTF-8."""

Header = tuple[str, str]
Headers = tuple[Header, ...]


def parse_header(
    line: str, *, where: str, expand: Callable[[str, str], str] = lambda name, value: value
) -> Header:
    """Read one `Key: Value`; the space is optional. Raises UsageFailure.

    `expand` is given name and value and makes the value that counts.
    """
    name, colon, value = line.partition(":")
    if not colon:
        raise UsageFailure(
            f"`{where}`: there is no colon in it", hint="a header is written as `Key: Value`"
        )
    if not re.fullmatch(_TOKEN, name):
        raise UsageFailure(
            f"`{where}`: what stands before the colon is no header name",
            hint="names consist of letters, digits and hyphens, as in `X-Tenant: Value`",
        )
    if is_own_header(name):
        owner = "connection" if name.lower() in CONNECTION_HEADERS else "protocol"
        raise UsageFailure(
            f"`{where}` cannot set `{name}`",
            hint=f"the {owner} itself decides about it; leave it out",
        )
    value = expand(name, value).strip(" \t")
    if not re.fullmatch(_VALUE, value):
        raise UsageFailure(
            f"`{where}`: the value of `{name}` has a line break or another control character",
            hint="a value is one line of printable characters",
        )
    return name, value


def parse_lines(text: str, *, where: str) -> Headers:
    """Read lines of `Key: Value`; empty ones and those that begin with `#` count for nothing.

    Raises UsageFailure naming the line.
    """
    lines = enumerate(text.split("\n"), 1)
    return last_of_each(
        parse_header(line.removesuffix("\r"), where=f"{where}, line {number}")
        for number, line in lines
        if line.strip() and not line.startswith("#")
    )


def last_of_each(headers: Iterable[Header]) -> Headers:
    """Each header once; of a name given twice the last one counts (names: RFC 9110 5.1)."""
    last: dict[str, Header] = {}
    for name, value in headers:
        last.pop(name.lower(), None)
        last[name.lower()] = (name, value)
    return tuple(last.values())


def bearer(token: str, *, where: str) -> str:
    """The value of `Authorization` for a bearer token (RFC 6750).

    White space around it, as files end with, is left out. Raises UsageFailure.
    """
    token = token.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise UsageFailure(
            f"`{where}` gives no token",
            hint="a token is one word of printable ASCII characters, without `Bearer` before it",
        )
    return f"Bearer {token}"


def basic(user: str, password: str) -> str:
    """The value of `Authorization` for a name and a password, in UTF-8 (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def is_credential(name: str) -> bool:
    """Whether the header of this name says who is asking."""
    return name.lower() == AUTHORIZATION.lower()


def secrets_of(name: str, value: str) -> tuple[str, ...]:
    """What of a header must not be shown: its value; of a credential also what has no scheme."""
    return (value, value.partition(" ")[2]) if is_credential(name) else (value,)
