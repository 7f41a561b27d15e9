"""The way to the package index, as the tools that install are set up for it on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.peers.installing import Unavailable

LIMIT = 300.0
"""Seconds for one command that may build a dozen small packages over a slow line."""

NOT_INHERITED = ("PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV")


def environment(folder: Path) -> dict[str, str]:
    """What a tool gets that installs into `folder`, and what is installed when it runs.

    Nothing of this checkout is in reach. The interpreter is this one; none is fetched.
    """
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return kept | {
        "PIPX_BIN_DIR": str(folder / "bin"),
        "PIPX_DEFAULT_PYTHON": sys.executable,
        "PIPX_HOME": str(folder / "pipx"),
        "PIPX_MAN_DIR": str(folder / "man"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_TOOL_BIN_DIR": str(folder / "bin"),
        "UV_TOOL_DIR": str(folder / "tools"),
    }


def run(
    *command: str | Path, folder: Path, stdin: str = "", check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`; it must succeed, and shows what it printed if it does not."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=LIMIT,
        check=False,
    )
    assert not check or done.returncode == 0, f"{command}:\n{done.stdout}"
    return done


def see_that_it_is_there(folder: Path) -> None:
    """Look one package up. Raises Unavailable."""
    lookup = [sys.executable, "-m", "uv", "pip", "compile", "--no-cache", "--no-deps", "-"]
    done = run(*lookup, folder=folder, stdin="certifi", check=False)
    if done.returncode != 0:
        raise Unavailable(f"the package index is out of reach:\n{done.stdout}")
