"""Checks that the tree is what a tag says, and prints what the changelog says of it.

    python .github/release.py v1.2.3

The version, the heading in the changelog with the day of the release, and `server.json` must agree
with the tag, and the server must have a name of its owner's; what stands under the heading is what
the release says of itself.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PLACEHOLDER = "com.example/"
"""The namespace in `server.json` for as long as nobody has put in one that they own."""


def notes(tag: str, root: Path = ROOT) -> str:
    """What the changelog says of this release. Raises ValueError where something disagrees."""
    version = tag.removeprefix("v")
    if tag == version:
        raise ValueError(f"the tag `{tag}` does not begin with `v`")
    init = (root / "src" / "mcp_stdio" / "__init__.py").read_text(encoding="utf-8")
    if f'__version__ = "{version}"\n' not in init:
        raise ValueError(f"the version of the package is not `{version}`")
    server = json.loads((root / "server.json").read_text(encoding="utf-8"))
    if {server["version"], *(package["version"] for package in server["packages"])} != {version}:
        raise ValueError(f"the versions in `server.json` are not `{version}`")
    if server["name"].startswith(PLACEHOLDER):
        raise ValueError(f"the name in `server.json` still begins with `{PLACEHOLDER}`")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)"
    section = re.search(heading, changelog, re.MULTILINE | re.DOTALL)
    if section is None:
        raise ValueError(f"`CHANGELOG.md` has no heading `## [{version}] - YYYY-MM-DD`")
    if not section[1].strip():
        raise ValueError(f"`CHANGELOG.md` says nothing of {version}")
    return section[1].strip()


def main() -> None:
    """Print the notes, or what disagrees."""
    if len(sys.argv) != 2:
        sys.exit("usage: release.py TAG")
    try:
        print(notes(sys.argv[1]))
    except ValueError as exc:
        sys.exit(f"error: {exc}")


if __name__ == "__main__":
    main()
