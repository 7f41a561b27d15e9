"""The npm packages that tests use: installed on first use, exactly as the lock file has them.

They live in `tests/peers/node_modules`. One of them is Node itself, for the conformance suite needs
a newer one than many systems have; it is fetched only where that is so.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from tests.peers import installing
from tests.peers.installing import HERE, Unavailable

MODULES = HERE / "node_modules"

SUITE_NEEDS = 22
"""The oldest major version of Node on which the conformance suite runs."""


def everything_server(
    transport: Literal["streamableHttp", "sse"] = "streamableHttp",
) -> list[str | Path]:
    """The command of `@modelcontextprotocol/server-everything` over one of its HTTP transports.

    Installs it where necessary. Raises Unavailable.
    """
    node = _install()
    package = MODULES / "@modelcontextprotocol" / "server-everything"
    return [node, "--require", HERE / "loopback.cjs", package / "dist" / "index.js", transport]


def conformance_suite() -> list[str | Path]:
    """The command of `@modelcontextprotocol/conformance`, the official suite.

    Installs it where necessary. Raises Unavailable.
    """
    node: str | Path = _install()
    if _major(node) < SUITE_NEEDS:
        # npm has brought the package that was made for this machine, if there is one.
        brought = sorted(MODULES.glob("node-*-*/bin/node*"))
        if not brought:
            raise Unavailable(f"no Node {SUITE_NEEDS} or newer, and npm has none for this machine")
        node = brought[0]
    return [node, MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"]


def _major(node: str | Path) -> int:
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        raise Unavailable(f"`node --version` failed: {exc}") from exc
    return int(done.stdout.lstrip("v").partition(".")[0])


def _install() -> str:
    """Have the packages in place; the system's Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Unavailable("`node` and `npm` are not installed")
    # What is optional among the packages is Node, some 180 MB of it.
    options = ["--omit=optional"] if _major(node) >= SUITE_NEEDS else []

    def make(folder: Path) -> Path:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        quiet = ["--no-audit", "--no-fund", "--no-update-notifier"]
        installing.run([npm, "ci", "--ignore-scripts", *quiet, *options], folder)
        return folder / "node_modules"

    lock = (HERE / "package-lock.json").read_bytes()
    wanted = hashlib.sha256(lock + " ".join(options).encode()).hexdigest()
    installing.in_place(MODULES, wanted, make)
    return node
