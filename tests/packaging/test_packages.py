"""The wheel and the sdist: what is in them, and that each way of installing them gives a program.

The ways are those of the README: pip, `uv tool install`, `uvx`, pipx. Each installs a built file,
as it would one of the package index, into a folder of the test.
"""

from __future__ import annotations

import email
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import mcp_stdio
from tests.packaging import package_index
from tests.packaging.conftest import ROOT, Packages

SCRIPTS = "Scripts" if sys.platform == "win32" else "bin"

VERSION = mcp_stdio.__version__

TOP_LEVEL = {
    ".ci",
    ".github",
    ".gitignore",
    "CHANGELOG.md",
    "Formula",
    "LICENSE",
    "PKG-INFO",
    "README.ja.md",
    "README.md",
    "pylock.toml",
    "pyproject.toml",
    "server.json",
    "src",
    "tests",
}
"""What of the tree is in the sdist: all that its tests look at."""


def package_files() -> set[str]:
    """The files of the package in this tree, from its parent on."""
    source = ROOT / "src"
    return {
        path.relative_to(source).as_posix()
        for path in (source / "mcp_stdio").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_nothing_else(packages: Packages) -> None:
    about = f"mcp_stdio-{VERSION}.dist-info"
    with zipfile.ZipFile(packages.wheel) as wheel:
        names = set(wheel.namelist())
        entries = wheel.read(f"{about}/entry_points.txt").decode()
        license = wheel.read(f"{about}/licenses/LICENSE")
    described = {name for name in names if name.startswith(f"{about}/")}
    assert names - described == package_files()
    assert [name for name in package_files() if not name.endswith(".py")] == ["mcp_stdio/py.typed"]
    assert {name.removeprefix(f"{about}/") for name in described} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }
    assert entries.split() == ["[console_scripts]", "mcp-stdio", "=", "mcp_stdio.__main__:main"]
    assert license == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_says_what_the_project_says(packages: Packages) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(packages.wheel) as wheel:
        said = email.message_from_bytes(wheel.read(f"mcp_stdio-{VERSION}.dist-info/METADATA"))
    assert (said["Name"], said["Version"]) == (project["name"], VERSION)
    assert said["License-Expression"] == "MIT"
    assert said["Requires-Python"] == project["requires-python"]
    assert said["Description-Content-Type"] == "text/markdown"
    needed = [text for text in said.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert len(needed) == len(project["dependencies"])
    assert {"socks", "truststore", "typing"} <= set(said.get_all("Provides-Extra", []))


def test_the_sdist_holds_what_is_tracked_and_nothing_that_tests_install(packages: Packages) -> None:
    prefix = f"mcp_stdio-{VERSION}/"
    with tarfile.open(packages.sdist) as sdist:
        names = {name.removeprefix(prefix) for name in sdist.getnames()}
    assert {name.partition("/")[0] for name in names} == TOP_LEVEL
    source = {name.removeprefix("src/") for name in names if name.startswith("src/")}
    assert source == package_files()
    unwanted = {"node_modules", ".venv", "__pycache__", ".pytest_cache", ".hypothesis"}
    parts = {part for name in names for part in Path(name).parts}
    assert parts.isdisjoint(unwanted)
    assert [part for part in parts if part.startswith(".installing-")] == []


def test_the_index_would_take_both(packages: Packages) -> None:
    check = [sys.executable, "-m", "twine", "check", "--strict"]
    package_index.run(*check, packages.wheel, packages.sdist, folder=packages.wheel.parent)


Command = list[str | Path]
Way = Callable[[Path, Path], list[Command]]
"""Installs a file into a folder and says how the program is started then."""


def pip(package: Path, folder: Path) -> list[Command]:
    run = package_index.run
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    scripts = folder / "venv" / SCRIPTS
    run(scripts / "python", "-m", "pip", "install", "--quiet", package, folder=folder)
    return [[scripts / "mcp-stdio"], [scripts / "python", "-m", "mcp_stdio"]]


def uv_tool(package: Path, folder: Path) -> list[Command]:
    package_index.run(sys.executable, "-m", "uv", "tool", "install", package, folder=folder)
    return [[folder / "bin" / "mcp-stdio"]]


def uvx(package: Path, folder: Path) -> list[Command]:
    # `uvx` is a short name of it.
    run = [sys.executable, "-m", "uv", "tool", "run", "--quiet"]
    return [[*run, "--from", package, "mcp-stdio"]]


def pipx(package: Path, folder: Path) -> list[Command]:
    package_index.run(sys.executable, "-m", "pipx", "install", package, folder=folder)
    return [[folder / "bin" / "mcp-stdio"]]


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    "way,kind",
    [(pip, "wheel"), (uv_tool, "sdist"), (uvx, "wheel"), (pipx, "wheel")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_installed_runs(way: Way, kind: str, packages: Packages, tmp_path: Path) -> None:
    for command in way(getattr(packages, kind), tmp_path):
        version = package_index.run(*command, "--version", folder=tmp_path)
        assert version.stdout == f"mcp-stdio {VERSION}\n"
        package_index.run(*command, "demo", folder=tmp_path)
