"""The npm packages that tests talk to: installed on first use, exactly as the lock file has them.

They live in `tests/peers/node_modules`. Test runs side by side are safe: each installs in a folder
of its own and the first to finish renames it into place.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE / "node_modules"
INSTALL_LIMIT = 400.0
"""Seconds for `npm ci` of some 100 small packages over a slow line."""


class Unavailable(Exception):
    """Node or its packages cannot be had here; the text says why."""


def everything_server() -> list[str | Path]:
    """The command of `@modelcontextprotocol/server-everything` over Streamable HTTP.

    Installs it where necessary. Raises Unavailable.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Unavailable("`node` and `npm` are not installed")
    _install(npm)
    package = MODULES / "@modelcontextprotocol" / "server-everything"
    return [
        node,
        "--require",
        HERE / "loopback.cjs",
        package / "dist" / "index.js",
        "streamableHttp",
    ]


def _install(npm: str) -> None:
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    if _installed() == wanted:
        return
    folder = Path(tempfile.mkdtemp(prefix=".installing-", dir=HERE))
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        _run_npm(npm, folder)
        (folder / "node_modules" / ".lock-sha256").write_text(wanted)
        if MODULES.exists():
            with contextlib.suppress(OSError):
                MODULES.rename(folder / "outdated")
        try:
            (folder / "node_modules").rename(MODULES)
        except OSError:
            if _installed() != wanted:  # otherwise another run was faster
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _installed() -> str | None:
    try:
        return (MODULES / ".lock-sha256").read_text()
    except OSError:
        return None


def _run_npm(npm: str, folder: Path) -> None:
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`npm ci` did not end within {INSTALL_LIMIT:g} s") from None
    if done.returncode != 0:
        raise Unavailable(f"`npm ci` ended with {done.returncode}:\n{done.stdout.strip()}")
