"""Draw the pictures of the README anew: `python .github/pictures [NAME ...] [--into FOLDER]`."""

from __future__ import annotations

import argparse
from pathlib import Path

import benchmark
import nursery
import terminal

PICTURES = {"benchmark": benchmark.draw, "nursery": nursery.draw, "test": terminal.draw}


def main() -> None:
    """Write the pictures that are named, or all, into the folder."""
    parser = argparse.ArgumentParser(prog=".github/pictures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    parser.add_argument(
        "--into", type=Path, default=Path(__file__).parent.parent / "assets", metavar="FOLDER"
    )
    given = parser.parse_args()
    for name in given.names or PICTURES:
        (given.into / f"{name}.svg").write_text(PICTURES[name]().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
