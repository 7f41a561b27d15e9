"""`python -m mcp_stdio` is the same as `mcp-stdio`."""

import sys

from mcp_stdio.cli import main

if __name__ == "__main__":
    sys.exit(main())
