"""How this very program is started again, by somebody who knows neither our directory nor PATH."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence

SCRIPT = "mcp-stdio"


def command(started_as: str | None = None) -> tuple[str, ...]:
    """The words that start this program: the full path of its script, or the interpreter's.

    `started_as` is the first word that it was started by; this process's own by default.

    Links are left as they are: those of tool installers and of Homebrew outlive an upgrade, what
    they lead to does not.
    """
    word = sys.argv[0] if started_as is None else started_as
    name = os.path.splitext(os.path.basename(word))[0]
    if name == SCRIPT and (found := shutil.which(word)) is not None:
        return (os.path.abspath(found),)
    # Without `-P` it would look for its modules in whatever directory the client is in.
    return (sys.executable, "-P", "-m", "mcp_stdio")


def is_for_one_run(command: Sequence[str]) -> bool:
    """Whether what starts this program is in a cache of `uvx` or `pipx run`, and will vanish."""
    *places, _ = re.split(r"[/\\]", command[0].lower())
    is_of_uv = any(re.fullmatch(r"(archive|builds|environments)-v\d+", place) for place in places)
    return is_of_uv or ("pipx" in places and not {"cache", ".cache", "caches"}.isdisjoint(places))
