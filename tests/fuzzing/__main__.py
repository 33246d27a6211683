"""Break files and read them: ``python -m tests.fuzzing [--count N] [--seed N] [KIND …]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzzing.campaign import run, table
from tests.fuzzing.readers import KINDS


def main() -> int:
    """Run a campaign, print its figures, and what failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; all, if none is named")
    parser.add_argument("--count", type=int, default=10_000, help="files in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a folder for the sound files, to look at")
    given = parser.parse_args()
    if unknown := set(given.kinds) - KINDS.keys():
        parser.error(f"no kind {', '.join(sorted(unknown))}; kinds: {', '.join(KINDS)}")
    figures = run(given.count, given.seed, given.kinds or tuple(KINDS), given.jobs, given.keep, show=True)
    print(table(figures))
    return int(bool(figures.failures))


if __name__ == "__main__":
    sys.exit(main())
