"""The program, as `mcp-stdio` and as `python -m mcp_stdio`.

Loads the command with the garbage collector at rest: nothing of what is loaded is garbage. Whoever
runs something longer than that sets it to work again.
"""

import gc
import sys


def main() -> int:
    """Run the command line and return the exit code."""
    gc.disable()
    from mcp_stdio import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
