"""Who opens the page of a sign-in, as the variable `BROWSER` has it.

`plain` fetches and sends forms off, `chromium` is a real browser that clicks; either is told by
options whether the user agrees, refuses or goes away (see `plain_browser.py` and `browser.mjs`).
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.peers import node
from tests.peers.installing import HERE

Command = list[str | Path]


def plain(*options: str | Path) -> Command:
    return [sys.executable, HERE / "plain_browser.py", *options]


def chromium(*options: str | Path) -> Command:
    """Installs what it needs. Raises Unavailable."""
    return [*node.browser(), *options]


def variable(command: Sequence[str | Path]) -> str:
    """The value of `BROWSER`; `%s` stands for the URL."""
    return f"{quoted(command)} %s"


def quoted(command: Sequence[str | Path]) -> str:
    """The command as a line for a shell."""
    words = [str(word) for word in command]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
