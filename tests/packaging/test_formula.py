"""The lock file and the Homebrew formula that is made of it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.conftest import unavailable
from tests.packaging import package_index
from tests.packaging.conftest import ROOT, Packages

FORMULA = ROOT / "Formula" / "mcp-stdio.rb"
FILES = "https://files.pythonhosted.org/packages/"


def made(*options: str | Path) -> str:
    """What the script prints."""
    script = ROOT / ".github" / "formula.py"
    return package_index.run(sys.executable, script, *options, folder=ROOT).stdout


def ruby() -> str:
    found = shutil.which("ruby")
    if found is None:
        unavailable("no Ruby is installed")
    return found


def said_by(path: Path) -> dict[str, Any]:
    """What Homebrew would hear of the formula."""
    reader = Path(__file__).parent / "homebrew.rb"
    heard = package_index.run(ruby(), "-w", reader, path, folder=path.parent).stdout
    said: dict[str, Any] = json.loads(heard)
    return said


def resources(formula: str) -> list[tuple[str, str, str]]:
    """Name, URL and hash of each."""
    stanza = r'  resource "(.+)" do\n    url "(.+)"\n    sha256 "([0-9a-f]{64})"\n  end\n'
    found = re.findall(stanza, formula)
    assert len(found) == formula.count("resource ")
    return [(name, url, sha256) for name, url, sha256 in found]


def lock() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pylock.toml").read_text(encoding="utf-8"))


def test_what_is_locked_is_what_the_project_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = {package["name"]: package["version"] for package in lock()["packages"]}
    assert lock()["requires-python"] == project["requires-python"]
    for text in project["dependencies"]:
        needed = Requirement(text)
        assert needed.specifier.contains(locked[needed.name]), text


def test_the_lock_file_names_the_public_index_alone() -> None:
    text = (ROOT / "pylock.toml").read_text(encoding="utf-8")
    urls = re.findall(r'"(https?:[^"]*)"', text)
    assert len(urls) > 20
    assert [url for url in urls if not url.startswith(FILES)] == []


def test_the_formula_is_what_the_script_makes() -> None:
    assert FORMULA.read_text(encoding="utf-8") == made()


def test_ruby_reads_the_formula() -> None:
    assert package_index.run(ruby(), "-wc", FORMULA, folder=ROOT).stdout == "Syntax OK\n"
    said = said_by(FORMULA)
    assert said["license"] == [["MIT"]]
    assert said["depends_on"] == [["python@3.14"]]
    (head,) = said["head"]
    assert head == [f"file://{ROOT.as_posix()}", {"using": "git", "branch": "main"}]
    # Limits of `brew audit`.
    ((description,),) = said["desc"]
    assert len(description) < 80
    assert not description.startswith(("A ", "An ", "mcp-stdio"))
    text = FORMULA.read_text(encoding="utf-8")
    heard = [(n, r["url"][0][0], r["sha256"][0][0]) for n, r in said["resource"]]
    assert heard == resources(text) == sorted(heard)


def test_a_release_is_named_by_its_url_and_hash(packages: Packages, tmp_path: Path) -> None:
    url = f"https://example.com/{packages.sdist.name}"
    text = made("--release", url, packages.sdist)
    released = tmp_path / "mcp-stdio.rb"
    released.write_text(text, encoding="utf-8")
    said = said_by(released)
    assert said["url"] == [[url]]
    assert said["sha256"] == [[hashlib.sha256(packages.sdist.read_bytes()).hexdigest()]]
    assert "head" not in said
    assert resources(text) == resources(FORMULA.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("index")
def test_its_resources_are_the_files_of_the_index_and_all_that_is_needed(
    packages: Packages, tmp_path: Path
) -> None:
    """As Homebrew does it: each file fetched, its hash compared, built and installed by itself."""
    needed = resources(FORMULA.read_text(encoding="utf-8"))
    wanted = "".join(f"{name} @ {url}#sha256={sha256}\n" for name, url, sha256 in needed)
    (tmp_path / "resources.txt").write_text(wanted, encoding="utf-8")
    environment = tmp_path / "venv"
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    uv: list[str | Path] = [sys.executable, "-m", "uv"]
    install = [*uv, "pip", "install", "--python", python, "--no-cache", "--no-deps"]
    package_index.run(*uv, "venv", "--quiet", environment, folder=tmp_path)
    package_index.run(*install, "--require-hashes", "-r", "resources.txt", folder=tmp_path)
    package_index.run(*install, packages.wheel, folder=tmp_path)
    if sys.platform != "win32":  # where Homebrew is not, and trio needs one thing more
        package_index.run(*uv, "pip", "check", "--python", python, folder=tmp_path)
        package_index.run(python, "-m", "mcp_stdio", "demo", folder=tmp_path)
