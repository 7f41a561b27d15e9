"""Puts what tests install on first use into its place: complete or not at all.

Test runs side by side are safe: each makes the folder elsewhere and the first to finish renames it
into place. A mark inside says of what it was made, so that a change makes it anew.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 400.0
"""Seconds for one command: some 130 small packages over a slow line."""

MARK = ".made-of"


class Unavailable(Exception):
    """A component cannot be had here; the text says why."""


def in_place(place: Path, wanted: str, make: Callable[[Path], Path]) -> None:
    """See that `place` holds what is `wanted`.

    If not, `make` is given an empty folder and returns which folder in it goes there.
    """
    if _mark(place) == wanted:
        return
    folder = Path(tempfile.mkdtemp(prefix=".installing-", dir=HERE))
    try:
        made = make(folder)
        (made / MARK).write_text(wanted)
        if place.exists():
            with contextlib.suppress(OSError):
                place.rename(folder / "outdated")
        try:
            made.rename(place)
        except OSError:
            if _mark(place) != wanted:  # otherwise another run was faster
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(command: Sequence[str | Path], folder: Path) -> None:
    """Run a command that installs; raises Unavailable with what it has printed."""
    name = " ".join([Path(command[0]).name, *map(str, command[1:3])])
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{name}` did not end within {LIMIT:g} s") from None
    if done.returncode != 0:
        raise Unavailable(f"`{name}` ended with {done.returncode}:\n{done.stdout.strip()}")


def _mark(place: Path) -> str | None:
    try:
        return (place / MARK).read_text(encoding="utf-8")
    except OSError:
        return None
