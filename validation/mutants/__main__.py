"""Which faults the tests would miss: one small change to the package at a time, and whether a test fails.

    python -m validation.mutants [--sample 100] [--seed 0] [PART ...]

PART is a file or folder of the package, for instance ``pruning`` or ``cost/clock.py``; default are `PARTS`. First all
tests run once under `coverage`, which says which of them run a line, and how long they take (``--lines FILE`` keeps
that for the next time). Then a seeded sample of each part's mutants (``--sample 0``: all of them) is tried: the tests
that run the changed line go one by one, the quickest first, until one fails or ``--seconds`` of tests are over. A
change inside of a function is put into a fork of a process that has collected the tests; one that runs on import, into
a fork of a process that has not loaded the package. Nothing is written to the files of the package.

Prints each mutant, then survivors as differences, then a table. Needs the extra `test` and `coverage`; reference
measurements are not used. One process runs at a time.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import random
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from validation.mutants.changes import Mutant, mutants_of
from validation.mutants.lines import OPTIONS, ROOT, TOP, Lines, Recorder
from validation.mutants.runs import NOT_PUT, Result, Warm, fresh, in_fork, silent

PARTS = ("trace", "pruning", "cost", "stacks", "models/architectures", "questions/comparison.py")
#: What takes long to load, and is the same for every mutant.
LOADED = (
    "coverage", "dask.dataframe", "hypothesis", "pandas", "plotly.graph_objects", "pydantic", "pyarrow.parquet",
    "scipy.optimize", "scipy.special", "typer", "_pytest.assertion.rewrite",
)  # fmt: skip


def sampled(part: str, size: int, seed: str) -> list[Mutant]:
    """Return a seeded sample of the mutants of a file or folder of the package; all of them for size 0."""
    files = [TOP / part] if part.endswith(".py") else sorted((TOP / part).rglob("*.py"))
    every = [m for path in files for m in mutants_of(path.relative_to(TOP).as_posix(), path.read_text("utf-8"))]
    return every if not 0 < size < len(every) else random.Random(f"{seed} {part}").sample(every, size)


def record(path: Path) -> str:
    """Write which tests run which line."""
    silent()
    recorder = Recorder()
    pytest.main([*OPTIONS, str(ROOT / "tests")], plugins=[recorder])
    recorder.write(path)
    return ""


def tried(mutants: list[Mutant], lines: Lines, budget: float) -> list[Result]:
    """Return what becomes of mutants; print each."""
    screen = os.dup(1)

    def show(result: Result) -> None:
        os.write(screen, f"{result.mutant}: {result.verdict} {result.by}\n".encode())

    with tempfile.TemporaryFile("w+") as said:

        def tell(result: Result) -> None:
            if result.by != NOT_PUT:
                show(result)
                said.write(f"{mutants.index(result.mutant)}\t{result.by}\t{result.tried}\t{result.tests}\n")
                said.flush()

        def warm() -> str:
            silent()
            inside = [mutant for mutant in mutants if mutant.inside]
            pytest.main([*OPTIONS, str(ROOT / "tests")], plugins=[Warm(inside, lines, budget, tell)])
            return ""

        in_fork(warm)
        said.seek(0)
        rows = [line.rstrip("\n").split("\t") for line in said]
    results = [Result(mutants[int(number)], by, int(some), int(every)) for number, by, some, every in rows]
    for mutant in set(mutants) - {result.mutant for result in results}:
        tests, every = lines.of(mutant, budget)
        by = in_fork(partial(fresh, mutant, tests), 3 * budget + 60) if tests else ""
        lines.caught[mutant.file][by] += 1
        results.append(Result(mutant, by, len(tests), every))
        show(results[-1])
    os.close(screen)
    return results


def difference(mutant: Mutant) -> str:
    """Return a mutant as the lines that it changes."""
    before = (TOP / mutant.file).read_text(encoding="utf-8")
    both = before.splitlines(), mutant.applied(before).splitlines()
    lines = difflib.unified_diff(*both, mutant.file, f"{mutant.file} ({mutant.kind})", n=1, lineterm="")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: {' '.join(PARTS)}")
    parser.add_argument("--sample", type=int, default=100, help="mutants of each part at most, 0 for all of them")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--seconds", type=float, default=10.0, help="of tests for one mutant, at most")
    parser.add_argument("--lines", type=Path, help="file that says which tests run a line; made if it is not there")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in ("PRUNINFERSIM_VALIDATION_DATA", "PYTEST_ADDOPTS"):
        os.environ.pop(name, None)
    for name in LOADED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        path = options.lines or Path(folder) / "lines.json"
        if not path.exists():
            in_fork(lambda: record(path))
        lines = Lines(path)
    if wrong := in_fork(partial(fresh, None, lines.one_of_each_file())):
        sys.exit(f"{wrong} fails without any change: nothing can be told")
    counts: dict[str, Counter[str]] = {}
    for part in options.parts or PARTS:
        results = tried(sampled(part, options.sample, options.seed), lines, options.seconds)
        for result in results:
            if result.verdict != "caught":
                print(f"\n{result.verdict}, {result.tried} of {result.tests}\n{difference(result.mutant)}")
        counts[part] = Counter(result.verdict for result in results)
    print(f"\n{'part':28}{'mutants':>8}{'caught':>8}{'survived':>9}{'no test':>9}")
    for part, count in (*counts.items(), ("all", sum(counts.values(), Counter()))):
        print(f"{part:28}{count.total():>8}{count['caught']:>8}{count['survived']:>9}{count['no test']:>9}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
