"""The program, as `mcp-stdio` and as `python -m mcp_stdio`.

Loads the command with the garbage collector at rest: nothing of what is loaded is garbage. Whoever
runs something longer than that sets it to work again.
"""

import gc
import os
import sys

INTERRUPTED = 130
"""The exit code; who has the others is not loaded yet."""


def main() -> int:
    """Run the command line and return the exit code."""
    gc.disable()
    try:
        from mcp_stdio import cli
    except KeyboardInterrupt:  # from here on it is the command line's to tell
        return INTERRUPTED

    return cli.main()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # With `-m` Python looks for modules in the current directory first: a client's is that of
        # the project it has open, whose `json.py` is not ours to run. One that is gone it leaves
        # out by itself, and what comes first then is where the user's own modules are.
        try:
            os.getcwd()
        except OSError:
            pass
        else:
            del sys.path[0]
    sys.exit(main())
