"""The form of our messages, looked for in the source: whoever adds one keeps to it.

A cause and a hint, both in lower case, without a full stop, with their literals in backticks; and
no failure without a hint.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

import mcp_stdio
from mcp_stdio.errors import RelayError

MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(mcp_stdio.__path__, "mcp_stdio.")
    if not found.name.endswith("__main__")
)

LITERAL = re.compile(r"(?<![\w-])(?:--[a-z]|-vv?\b|[A-Z][A-Z0-9]+_[A-Z_]+|https?://)")
"""What has to stand in backticks: options, variables, the beginnings of URLs."""


AS_OTHERS_SAY_IT = ("Unknown tool",)
"""Beginnings of messages that are meant to be what a server would say."""


def texts(node: ast.expr | None, module: ModuleType) -> Iterator[str]:
    """What an expression may say, as far as it is written there; `{}` for what is put in."""
    match node:
        case ast.Constant(str(text)):
            yield text
        case ast.JoinedStr(parts):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else _put_in(part)
                for part in parts
            )
        case ast.IfExp(body=one, orelse=other):
            yield from texts(one, module)
            yield from texts(other, module)
        case ast.BoolOp(values=values):
            for value in values:
                yield from texts(value, module)
        case ast.BinOp(left=left, right=right):
            for begun in texts(left, module):
                for rest in texts(right, module):
                    yield begun + rest
        case ast.Name(name) if isinstance(getattr(module, name, None), str):
            yield getattr(module, name)


def _put_in(part: ast.expr) -> str:
    constant = isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name)
    return "{X}" if constant else "{}"


def failure_of(call: ast.Call, module: ModuleType) -> type[RelayError] | None:
    """The type of failure that a call makes, if it does."""
    if not isinstance(call.func, ast.Name):
        return None
    found = getattr(module, call.func.id, None)
    if isinstance(found, type) and issubclass(found, RelayError):
        return found
    return None


def told(name: str) -> Iterator[tuple[int, str]]:
    """Each cause and hint in the module, with its line."""
    module = importlib.import_module(name)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        match node:
            case ast.Call():
                if failure_of(node, module) or _is_of_a_failure(node):
                    said = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "hint")]
                    for expression in said:
                        for text in texts(expression, module):
                            yield node.lineno, text
            case ast.Assign(targets=[ast.Name(target)], value=ast.Dict(values=values)) if (
                "HINTS" in target
            ):
                for value in values:
                    for text in texts(value, module):
                        yield node.lineno, text
            case ast.Assign(targets=[ast.Name("cause" | "hint" | "usual_hint")], value=value):
                for text in texts(value, module):
                    yield node.lineno, text


def _is_of_a_failure(call: ast.Call) -> bool:
    """Whether it is `super().__init__` of a failure: others take no hint."""
    is_init = isinstance(call.func, ast.Attribute) and call.func.attr == "__init__"
    return is_init and any(keyword.arg == "hint" for keyword in call.keywords)


def fault_of(text: str) -> str | None:
    """What is wrong with the form of a message."""
    word = re.split(r"[^\w+]", text, maxsplit=1)[0]
    outside = "".join(text.split("`")[::2])
    if text != " ".join(text.split()):
        return "it is not one line of words with one space between them"
    if text.endswith((".", "!", ":", ";", ",")):
        return "it ends with a mark"
    if text.count("`") % 2:
        return "a backtick is missing"
    if word[:1].isupper() and word[1:].islower() and not text.startswith(AS_OTHERS_SAY_IT):
        return "it begins with a capital letter"
    if found := LITERAL.search(outside):
        return f"`{found[0]}` stands outside of backticks"
    return None


@pytest.mark.parametrize("name", MODULES)
def test_causes_and_hints_have_one_form(name: str) -> None:
    faults = [f"{line}: {fault}: {text}" for line, text in told(name) if (fault := fault_of(text))]
    assert faults == []


@pytest.mark.parametrize("name", MODULES)
def test_every_failure_has_a_hint(name: str) -> None:
    module = importlib.import_module(name)
    without = []
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(node, ast.Call) or (kind := failure_of(node, module)) is None:
            continue
        takes_hint = "hint" in inspect.signature(kind).parameters
        if takes_hint and kind.usual_hint is None and not _gives_hint(node):
            without.append(f"{node.lineno}: {kind.__name__}")
    assert without == []


def _gives_hint(call: ast.Call) -> bool:
    return any(keyword.arg == "hint" for keyword in call.keywords)


def test_there_is_something_to_look_at() -> None:
    assert sum(1 for name in MODULES for _ in told(name)) > 200


@pytest.mark.parametrize(
    "text, fault",
    [
        ("the server is not there", None),
        ("HTTP+SSE is of 2024-11-05; leave out `--transport`", None),
        ("`{}` refused the connection on port {}", None),
        ("OAuth tokens are not sent over plain http", None),
        ("The server is not there", "it begins with a capital letter"),
        ("check the URL.", "it ends with a mark"),
        ("raise --timeout-read", "`--t` stands outside of backticks"),
        ("set `HOME` or XDG_CONFIG_HOME", "`XDG_CONFIG_HOME` stands outside of backticks"),
        ("raise `--timeout-read", "a backtick is missing"),
        ("two  spaces", "it is not one line of words with one space between them"),
    ],
)
def test_the_form_is_this(text: str, fault: str | None) -> None:
    assert fault_of(text) == fault
