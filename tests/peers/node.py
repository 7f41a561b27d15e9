"""The npm packages that tests use: installed on first use, exactly as the lock file has them.

They live in `tests/peers/node_modules`. One of them is Node itself, for the conformance suite and
the authorization server need a newer one than many systems have; it is fetched only where that is
so.
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

MODERN = 22
"""The oldest major version of Node on which the suite and the authorization server run."""

CHROMIUM = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    # Where neither macOS nor Windows puts programs on the path.
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
)
"""What a browser that Playwright can steer is called."""


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
    return [_modern(), MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"]


def authorization_server() -> list[str | Path]:
    """The command of `authorization_server.mjs`, which runs `oidc-provider`.

    Installs it where necessary. Raises Unavailable.
    """
    return [_modern(), HERE / "authorization_server.mjs"]


def browser() -> list[str | Path]:
    """The command of `browser.mjs`, which steers a Chromium; that one is the system's.

    Installs the rest where necessary. Raises Unavailable.
    """
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        raise Unavailable("no Chromium is installed (Debian has it as `chromium`)")
    return [_modern(), HERE / "browser.mjs", "--chromium", chromium]


def _modern() -> str | Path:
    node: str | Path = _install()
    if _major(node) < MODERN:
        # npm has brought the package that was made for this machine, if there is one.
        brought = sorted(MODULES.glob("node-*-*/bin/node*"))
        if not brought:
            raise Unavailable(f"no Node {MODERN} or newer, and npm has none for this machine")
        node = brought[0]
    return node


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
    options = ["--omit=optional"] if _major(node) >= MODERN else []

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
