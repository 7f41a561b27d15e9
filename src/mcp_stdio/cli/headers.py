"""Headers and credentials as the command line gives them, and which credential counts.

Owns the expansion of `${NAME}` in `-H`, and the choice among the sources of a credential: one
given explicitly, which beats the environment; never two. Refuses to know options and exit codes.
Kept here: no complaint repeats a value, since values are secrets.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mcp_stdio.credentials import rules
from mcp_stdio.credentials.rules import Headers
from mcp_stdio.errors import UsageFailure, quote

TOKEN_VARIABLE = "MCP_BEARER_TOKEN"

_VARIABLE = r"\$\$\{|\$\{([^}]*)(\}?)"


def parse_headers(lines: Iterable[str], environ: Mapping[str, str]) -> Headers:
    """Read the arguments of `-H`; of a name given twice the last one counts.

    Raises UsageFailure.
    """

    def value(name: str, text: str) -> str:
        return expand(text, environ, where=f"-H '{name}: …'")

    return rules.last_of_each(rules.parse_header(line, where="-H", expand=value) for line in lines)


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

    return re.sub(_VARIABLE, value, text)


def references(text: str) -> list[str]:
    """The variables that `expand` would look up, each once."""
    names = [match[1] for match in re.finditer(_VARIABLE, text) if match[1]]
    return list(dict.fromkeys(names))


def literals(text: str) -> list[str]:
    """What stands before, between and after the variables that `expand` would look up."""
    parts, end = [""], 0
    for match in re.finditer(_VARIABLE, text):
        parts[-1] += text[end : match.start()]
        end = match.end()
        if match[1] is None:
            parts[-1] += "${"
        else:
            parts.append("")
    return [*parts[:-1], parts[-1] + text[end:]]


def expanded(lines: Iterable[str], environ: Mapping[str, str]) -> Iterator[str]:
    """The values that `expand` puts into these lines: each is a secret by itself."""
    for line in lines:
        yield from (environ[name] for name in references(line) if name in environ)


class Credential(NamedTuple):
    """A value for `Authorization`, and the setting it came from; None if it is yet to be had."""

    source: str
    value: str | None = None


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
    if given:
        note = f"`{TOKEN_VARIABLE}` is not used, because of `{given[0].source}`"
        return given[0], note if variable else None
    if variable:
        return Credential(TOKEN_VARIABLE, rules.bearer(variable, where=TOKEN_VARIABLE)), None
    return None, None
