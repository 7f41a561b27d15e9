"""How this very program is started again, by somebody who knows neither our directory nor PATH."""

from __future__ import annotations

import os
import shutil
import sys

SCRIPT = "mcp-stdio"


def command() -> tuple[str, ...]:
    """The words that start this program: the full path of its script, or the interpreter's.

    Links are left as they are: those of tool installers and of Homebrew outlive an upgrade, what
    they lead to does not.
    """
    name = os.path.basename(sys.argv[0])
    if os.path.splitext(name)[0] == SCRIPT and (found := shutil.which(sys.argv[0])) is not None:
        return (os.path.abspath(found),)
    return (sys.executable, "-m", "mcp_stdio")
