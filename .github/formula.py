"""Prints the Homebrew formula, made of `pyproject.toml` and the lock file.

After either has changed:

    uv pip compile --universal --format pylock.toml -o pylock.toml pyproject.toml
    python .github/formula.py > Formula/mcp-stdio.rb

(`--upgrade` takes newer releases of what is locked already.)

It needs the package `packaging`, which the extra `test` of this project brings along.

The formula in the repository builds from the repository it lies in, so that tapping a clone is
enough. One that names a release is made by

    python .github/formula.py --release URL SDIST

where URL is the place from which Homebrew is to get the file SDIST.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parent.parent

PROTOCOL = "https://modelcontextprotocol.io"
"""Stands for a homepage until the project has one."""

SYSTEMS = [("darwin", "Darwin"), ("linux", "Linux")]
"""Where Homebrew runs: `sys.platform` and `platform.system()`."""

PURE = re.compile(r"[.-]py3[^-]*-none-any\.whl$")
"""The wheels that Homebrew takes where there is no sdist (its `language/python.rb`)."""

HEAD = """\
# The source is the repository that this formula lies in.
head "file://#{File.expand_path("..", __dir__)}", using: :git, branch: "main\""""

FORMULA = """\
# Made by `python .github/formula.py`, from `pyproject.toml` and `pylock.toml`.
class McpStdio < Formula
  include Language::Python::Virtualenv

  desc "{description}"
  homepage "{homepage}"
{source}

  depends_on "python@{python}"

{resources}

  def install
    virtualenv_install_with_resources
  end

  test do
    assert_match(/^mcp-stdio \\d/, shell_output("#{{bin}}/mcp-stdio --version"))
    system bin/"mcp-stdio", "demo"
  end
end
"""

RESOURCE = """\
resource "{name}" do
  url "{url}"
  sha256 "{sha256}"
end"""


def formula(release: tuple[str, Path] | None) -> str:
    """The text of the formula: of a release (its URL, the file there), or of the repository."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = tomllib.loads((ROOT / "pylock.toml").read_text(encoding="utf-8"))
    python = newest_python(project["classifiers"])
    licensed = f'license "{project["license"]}"'
    if release:
        url, sdist = release
        sha256 = hashlib.sha256(sdist.read_bytes()).hexdigest()
        source = f'url "{url}"\nsha256 "{sha256}"\n{licensed}'
    else:
        source = f"{licensed}\n{HEAD}"
    return FORMULA.format(
        description=without_article(project["description"]),
        homepage=project.get("urls", {}).get("Homepage", PROTOCOL),
        source=textwrap.indent(source, "  "),
        python=python,
        resources=textwrap.indent("\n\n".join(resources(lock["packages"], python)), "  "),
    )


def newest_python(classifiers: list[str]) -> str:
    """The newest Python that the project says it runs on, as `3.14`."""
    found = [re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", c) for c in classifiers]
    return f"3.{max(int(match[1]) for match in found if match)}"


def without_article(description: str) -> str:
    """As Homebrew wants it: `A local …` becomes `Local …`."""
    text = description.removeprefix("A ")
    return text[0].upper() + text[1:]


def resources(packages: list[dict[str, Any]], python: str) -> Iterator[str]:
    """The stanza of each package that is needed with this Python on one of Homebrew's systems."""
    for package in packages:
        if "marker" in package and not is_needed(Marker(package["marker"]), python):
            continue
        file = package.get("sdist") or pure_wheel(package)
        yield RESOURCE.format(
            name=package["name"], url=file["url"], sha256=file["hashes"]["sha256"]
        )


def is_needed(marker: Marker, python: str) -> bool:
    """Whether the marker holds on one of Homebrew's systems."""
    return any(
        marker.evaluate(
            {
                "implementation_name": "cpython",
                "os_name": "posix",
                "platform_python_implementation": "CPython",
                "platform_system": system,
                "python_full_version": f"{python}.0",
                "python_version": python,
                "sys_platform": platform,
            }
        )
        for platform, system in SYSTEMS
    )


def pure_wheel(package: dict[str, Any]) -> dict[str, Any]:
    """The wheel of a package that has no sdist."""
    for wheel in package["wheels"]:
        if PURE.search(wheel["url"]):
            found: dict[str, Any] = wheel
            return found
    sys.exit(f"error: `{package['name']}` has neither an sdist nor a wheel that runs everywhere")


def main() -> None:
    """Print the formula."""
    parser = argparse.ArgumentParser(description="Print the Homebrew formula.")
    parser.add_argument("--release", nargs=2, metavar=("URL", "SDIST"))
    given = parser.parse_args().release
    print(formula((given[0], Path(given[1])) if given else None), end="")


if __name__ == "__main__":
    main()
