"""The official Python SDK 2.x: in an environment of its own, for ours has 1.x under the same name.

It is made on first use in `tests/peers/sdk2/.venv`, of exactly what `requirements.txt` has. The
other modules here run in it as scripts: nothing of ours can be imported there, nor they here.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from tests.peers import installing

HERE = Path(__file__).resolve().parent
PLACE = HERE / ".venv"

_PYTHON = Path("Scripts", "python.exe") if sys.platform == "win32" else Path("bin", "python")


def python() -> Path:
    """Its interpreter. Makes the environment where necessary. Raises Unavailable."""

    def make(folder: Path) -> Path:
        made = folder / "environment"
        installing.run([sys.executable, "-m", "venv", made], folder)
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
        requirements = HERE / "requirements.txt"
        installing.run([made / _PYTHON, "-m", "pip", "install", *quiet, "-r", requirements], folder)
        return made

    of = (HERE / "requirements.txt").read_text(encoding="utf-8") + sys.version + sys.base_prefix
    installing.in_place(PLACE, hashlib.sha256(of.encode()).hexdigest(), make)
    return PLACE / _PYTHON


def script(name: str) -> list[str | Path]:
    """The command that runs one of the scripts here. Raises Unavailable."""
    return [python(), HERE / name]
