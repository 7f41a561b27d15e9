"""`server.json`, by which the registry of MCP servers offers the program to clients.

The schema is the one that the file names; the package `skillsaw` carries a copy of each.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from importlib import resources
from typing import Any

import jsonschema
import pytest

import mcp_stdio
from tests.packaging import package_index
from tests.packaging.conftest import ROOT


@pytest.fixture
def server() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "server.json").read_text(encoding="utf-8"))
    return document


def schema(uri: str) -> dict[str, Any]:
    """The copy of the schema at this URI."""
    date = uri.split("/")[-2].replace("-", "_")
    copy = resources.files(f"skillsaw.schemas.mcp_registry.v{date}") / "server.schema.json"
    document: dict[str, Any] = json.loads(copy.read_text(encoding="utf-8"))
    assert document["$id"] == uri
    return document


def is_valid(server: dict[str, Any]) -> bool:
    return jsonschema.Draft7Validator(schema(server["$schema"])).is_valid(server)


def test_it_is_valid(server: dict[str, Any]) -> None:
    jsonschema.validate(server, schema(server["$schema"]), jsonschema.Draft7Validator)


@pytest.mark.parametrize("member", ["name", "description", "version", "packages.transport"])
def test_the_schema_would_miss_a_member(server: dict[str, Any], member: str) -> None:
    outer, _, inner = member.rpartition(".")
    del (server[outer][0] if outer else server)[inner]
    assert not is_valid(server)


def test_versions_and_names_agree(server: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (package,) = server["packages"]
    assert server["version"] == package["version"] == mcp_stdio.__version__
    assert package["identifier"] == project["name"]
    # `uvx NAME` runs the program of that name.
    assert package["runtimeHint"] == "uvx"
    assert package["identifier"] in project["scripts"]


def test_it_names_options_and_variables_that_exist(server: dict[str, Any]) -> None:
    (package,) = server["packages"]
    command = [sys.executable, "-m", "mcp_stdio", "--help"]
    known = package_index.run(*command, folder=ROOT / "src").stdout
    arguments = package["packageArguments"]
    assert arguments[0]["type"] == "positional"
    names = [argument["name"] for argument in arguments if argument["type"] == "named"]
    names += [variable["name"] for variable in package["environmentVariables"]]
    words = set(re.findall(r"[\w-]+", known))
    assert [name for name in names if name not in words] == []
