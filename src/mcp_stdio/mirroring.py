"""Parameters whose values are repeated in headers, so that servers can be chosen by them.

A tool's input schema annotates such a parameter with `x-mcp-header`. What annotations are valid
stands here (T-31, Q-6; 2026-07-28 streamable-http, Custom Headers), and what headers a call of a
known tool carries (T-30, T-33, T-36). A schema is walked, never applied: no `$ref` is followed.
Values of arguments never leave this module but as headers (T-37). Knows no connection, and not what
becomes of a tool with invalid annotations.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any, NamedTuple

from mcp_stdio import routing, spec
from mcp_stdio.jsonrpc import Message
from mcp_stdio.splice import Endless

Path = tuple[str, ...]

MAX_TOOLS = 1000
"""Tools with mirrored parameters that are remembered; a server must not fill our memory."""

MAX_MIRRORS = 100
"""Mirrored parameters of one tool: each is a header of every call."""

MAX_NAMES = 1000
"""Characters of a tool's name, of a header's, and of all that lead to a parameter."""

MAX_SCHEMAS = 100_000
"""Schemas within one tool that are looked at: megabytes of them, in a tenth of a second."""

MAX_DEPTH = 100
"""How deep they may lie in one another; those that people write reach ten."""

MAX_EXACT = 2**53 - 1
"""The largest integer that every JSON implementation reads exactly (T-36)."""

_TYPES = ("string", "integer", "boolean")

# RFC 9110, section 5.6.2.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

# Where JSON Schema 2020-12 has schemas besides `properties`, and where its predecessors had them.
# Everything else is data (`default`, `const`, `enum`, `examples`) or not defined as a schema.
_WITH_SCHEMAS = frozenset(
    {
        *("items", "contains", "unevaluatedItems", "additionalProperties", "propertyNames"),
        *("unevaluatedProperties", "not", "if", "then", "else", "contentSchema"),
        *("allOf", "anyOf", "oneOf", "prefixItems", "additionalItems"),
    }
)
_WITH_SCHEMAS_BY_NAME = frozenset(
    {"patternProperties", "dependentSchemas", "$defs", "definitions", "dependencies"}
)


class Mirror(NamedTuple):
    """A parameter, by the names that lead to it in the arguments, and its header."""

    path: Path
    header: str


class InvalidAnnotation(Exception):
    """A tool that must not be offered; `str()` is the reason and may quote the server."""


def mirrors_of(tool: Mapping[str, Any]) -> tuple[Mirror, ...]:
    """The mirrored parameters of a tool. Raises InvalidAnnotation."""
    found: dict[str, Mirror] = {}
    for schema, path in _schemas(tool.get("inputSchema")):
        if spec.MIRRORED not in schema:
            continue
        if not path:
            raise InvalidAnnotation(f"`{spec.MIRRORED}` where it can belong to no parameter")
        where = f"`{spec.MIRRORED}` of `{'.'.join(path)}`"
        name = schema[spec.MIRRORED]
        if not isinstance(name, str) or not re.fullmatch(_TOKEN, name):
            raise InvalidAnnotation(f"{where} is no name for a header")
        if len(name) + sum(map(len, path)) > MAX_NAMES:
            raise InvalidAnnotation(f"a `{spec.MIRRORED}` and what it is on have too long names")
        if (fault := _fault_in_type(schema.get("type"))) is not None:
            raise InvalidAnnotation(f"{where} is on a parameter {fault}")
        if name.lower() in found:
            raise InvalidAnnotation(f"{where} has the name `{name}` a second time")
        found[name.lower()] = Mirror(path, spec.PARAMETER_PREFIX + name)
        if len(found) > MAX_MIRRORS:
            raise InvalidAnnotation(f"more than {MAX_MIRRORS} parameters have `{spec.MIRRORED}`")
    return tuple(found.values())


def values(mirrors: tuple[Mirror, ...], arguments: object) -> tuple[tuple[str, str], ...]:
    """The headers for these arguments, none for what is absent, null or of another type.

    Raises Unsendable for a string that no header can carry.
    """
    return tuple(
        (header, routing.encode_value(spelling))
        for path, header in mirrors
        if (spelling := _spelling(_value_at(path, arguments))) is not None
    )


class Catalogue:
    """The tools of one server with mirrored parameters, as they were last listed.

    `is_active` says whether the server wants the headers at all: one of the handshake era does only
    when it has complained about their absence (T-32).
    """

    def __init__(self, *, is_active: bool) -> None:
        self.is_active = is_active
        self._mirrors: dict[str, tuple[Mirror, ...]] = {}

    def learn(self, tool: object) -> str | None:
        """Take over a tool as it was listed; the reason if its annotations are invalid."""
        if not isinstance(tool, dict):
            return None
        mirrors: tuple[Mirror, ...] = ()
        reason = None
        try:
            mirrors = mirrors_of(tool)
        except InvalidAnnotation as exc:
            reason = str(exc)
        if isinstance(name := tool.get("name"), str):
            self._remember(name, mirrors)
        return reason

    def headers(self, message: Message) -> tuple[tuple[str, str], ...]:
        """What the POST of `message` carries besides; nothing for a tool never listed (T-34).

        Raises Unsendable for a string that no header can carry.
        """
        if not self.is_active:
            return ()
        return values(self._mirrors_for(message), message.params.get("arguments"))

    def inexact(self, message: Message) -> list[str]:
        """The headers with integers beyond what every server reads exactly (T-36)."""
        if not self.is_active:
            return []
        arguments = message.params.get("arguments")
        mirrors = self._mirrors_for(message)
        return [header for path, header in mirrors if _is_inexact(_value_at(path, arguments))]

    def _remember(self, name: str, mirrors: tuple[Mirror, ...]) -> None:
        self._mirrors.pop(name, None)
        if mirrors and len(name) <= MAX_NAMES:
            self._mirrors[name] = mirrors
        if len(self._mirrors) > MAX_TOOLS:
            del self._mirrors[next(iter(self._mirrors))]

    def _mirrors_for(self, message: Message) -> tuple[Mirror, ...]:
        name = message.params.get("name") if message.method == spec.CALL_TOOL else None
        return self._mirrors.get(name, ()) if isinstance(name, str) else ()


def _schemas(root: object) -> Iterator[tuple[dict[str, Any], Path | None]]:
    """Every schema in `root`, with its path where only `properties` lead to it.

    Nearest first, and without recursion: how deep it goes is the server's choice.
    """
    waiting: deque[tuple[object, Path | None, int]] = deque([(root, (), 0)])
    number = 0
    while waiting:
        schema, path, depth = waiting.popleft()
        if not isinstance(schema, dict):
            continue
        number += 1
        if number > MAX_SCHEMAS or depth > MAX_DEPTH:
            raise InvalidAnnotation("the schema is too large to be checked")
        yield schema, path
        for keyword, value in schema.items():
            if keyword == "properties" and isinstance(value, dict):
                for name, inner in value.items():
                    waiting.append((inner, None if path is None else (*path, name), depth + 1))
            elif keyword in _WITH_SCHEMAS:
                several = value if isinstance(value, list) else [value]
                waiting.extend((inner, None, depth + 1) for inner in several)
            elif keyword in _WITH_SCHEMAS_BY_NAME and isinstance(value, dict):
                waiting.extend((inner, None, depth + 1) for inner in value.values())


def _fault_in_type(type: object) -> str | None:
    if type in _TYPES:
        return None
    if isinstance(type, list):
        return "with a union of types"
    if isinstance(type, str):
        return f"of the type `{type}`"
    return "without a type"


def _value_at(path: Path, arguments: object) -> object:
    value = arguments
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _spelling(value: object) -> str | None:
    match value:
        case bool():  # before int, which it is a kind of
            return "true" if value else "false"
        case str():  # also an integer of more digits than Python converts: its spelling
            return value
        case int():
            return str(value)
        case float() if value.is_integer():
            return str(int(value))
    return None


def _is_inexact(value: object) -> bool:
    if isinstance(value, int | float):
        return MAX_EXACT < abs(value) < inf
    return isinstance(value, Endless)
