"""Print how fast sweeps, single calls and imports are, and write docs/benchmarks.md.

Usage: python -m benchmarks [--write docs/benchmarks.md] [--parts grid,scalar] [--points 1000000] [...]

Run it in the root of the repository. The defaults are the sizes at which the aims are stated, and take some minutes and
some GB of disk below the directory for temporary files; smaller sizes give the same table with fewer aims judged.
Parts that need Dask or aiconfigurator-core say so where these are not installed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from benchmarks import calls, speed_of_light, sweeps, workers
from benchmarks.table import Part, machine, page, table

PARTS = ("grid", "random", "scalar", "call", "import", "speed-of-light", "dask", "huge")


def options(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help=f"comma-separated, of: {', '.join(PARTS)}")
    parser.add_argument("--points", type=int, default=1_000_000, help="configurations of the grid (and ten times that)")
    parser.add_argument("--random", type=int, default=1_000_000, help="unrelated configurations")
    parser.add_argument("--scalar", type=int, default=200, help="comparisons in the loop")
    parser.add_argument("--light", type=int, default=1_000_000, help="configurations beside aiconfigurator-core")
    parser.add_argument("--dask", type=int, default=20_000_000, help="configurations on Dask workers")
    parser.add_argument("--huge", type=int, default=100_000_000, help="configurations of a grid that no memory holds")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page of the documentation")
    given = parser.parse_args(arguments)
    given.parts = given.parts.split(",")
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {unknown[0]!r}; there are: {', '.join(PARTS)}")
    return given


def run(given: argparse.Namespace) -> list[Part]:
    """Run the parts that are wanted, in the order of the table, and say on standard error which one runs."""
    beside = None
    done = []
    for name in (part for part in PARTS if part in given.parts):
        print(f"{name} ...", file=sys.stderr, flush=True)
        if name == "grid":
            part, beside = sweeps.grid(given.points)
        elif name == "random":
            part = sweeps.unrelated(given.random)
        elif name == "scalar":
            part = sweeps.scalar(given.scalar, beside)
        elif name == "call":
            part = calls.one_call()
        elif name == "import":
            part = calls.importing()
        elif name == "speed-of-light":
            part = speed_of_light.speed_of_light(given.light)
        elif name == "dask":
            part = workers.dask(given.dask)
        else:
            part = sweeps.huge(given.huge)
        done.append(part)
    return done


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks, print the table and write the page."""
    given = options(arguments)
    parts = run(given)
    print(f"{machine()}\n\n{table([line for part in parts for line in part.lines])}")
    if given.write:
        command = ["python", "-m", "benchmarks", *(sys.argv[1:] if arguments is None else arguments)]
        given.write.write_text(page(parts, shlex.join(command)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
