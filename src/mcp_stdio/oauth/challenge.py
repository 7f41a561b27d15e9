"""What a server says about the credential it wants: its `WWW-Authenticate` headers, read.

A header may hold several challenges and a response several headers; all of them are read (A-1), and
the Bearer one counts. Nothing here raises: a server that writes nonsense has said nothing. Grammar:
RFC 9110 section 11.6.1, read generously where servers are known to be sloppy (unquoted URLs).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

INSUFFICIENT_SCOPE = "insufficient_scope"


@dataclass(frozen=True, slots=True)
class Challenge:
    """The Bearer challenge of a response, and the schemes (lower case) of all its challenges."""

    resource_metadata: str | None = None
    scope: str | None = None
    error: str | None = None
    error_description: str | None = None
    schemes: frozenset[str] = field(default_factory=frozenset)

    @property
    def offers_only_dpop(self) -> bool:
        """Whether what is wanted is a token bound to a key, which is not built (design 8)."""
        return "dpop" in self.schemes and "bearer" not in self.schemes

    @property
    def wants_more_scope(self) -> bool:
        """Whether the credential was understood and does not reach far enough (A-40)."""
        return self.error == INSUFFICIENT_SCOPE


MEMBERS = ("resource_metadata", "scope", "error", "error_description")


def parse(values: Iterable[str]) -> Challenge:
    """Read every `WWW-Authenticate` value of one response; an empty challenge if there is none."""
    offered = [challenge for value in values for challenge in challenges(value)]
    bearers = [parameters for scheme, parameters in offered if scheme == "bearer"]
    # Of several, the one that says most: some gateways put a bare one in front of the server's.
    told = max(bearers, key=lambda said: sum(name in said for name in MEMBERS), default={})
    return Challenge(
        **{name: told.get(name) for name in MEMBERS},
        schemes=frozenset(scheme for scheme, _ in offered),
    )


_GAP = re.compile(r"[\s,]++")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]++")
_EQUALS = re.compile(r"[ \t]*+=[ \t]*+")
_TOKEN68 = re.compile(r"[ \t]++[A-Za-z0-9._~+/-]++=*+[ \t]*+(?=,|\Z)")
_QUOTED = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"?', re.DOTALL)
_BARE = re.compile(r'[^\s,"]++')
"""More than the grammar's token, so that an unquoted URL is read as a whole."""


def challenges(value: str) -> list[tuple[str, dict[str, str]]]:
    """The scheme (lower case) and the parameters of each challenge in one header value."""
    found: list[tuple[str, dict[str, str]]] = []
    at = 0
    while at < len(value):
        if gap := _GAP.match(value, at):
            at = gap.end()
        elif not (token := _TOKEN.match(value, at)):
            at += 1
        elif equals := _EQUALS.match(value, token.end()):
            text, at = _value(value, equals.end())
            if found:
                found[-1][1].setdefault(token[0].lower(), text)
        else:
            found.append((token[0].lower(), {}))
            credential = _TOKEN68.match(value, token.end())
            at = credential.end() if credential else token.end()
    return found


def _value(value: str, at: int) -> tuple[str, int]:
    if quoted := _QUOTED.match(value, at):
        return re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), quoted.end()
    if bare := _BARE.match(value, at):
        return bare[0], bare.end()
    return "", at
