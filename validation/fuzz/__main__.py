"""Try many inputs on every public call, command and file reader, and count what comes of them.

    python -m validation.fuzz --inputs 100000 --seed 1

An input is a call with values that its keywords take and some that are hostile; a command line; or a file that was
valid before something happened to it. What comes out has to be an answer without NaN and negative times, or one line of
the library's own family of errors, within limits of time and memory. Prints the faults by kind, then a table of inputs
by door. Exit code 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from validation.fuzz import calls, commands, files
from validation.fuzz.judge import Verdict, limit_memory

Inputs = Iterator[tuple[str, str, Callable[[], Verdict]]]
#: Door -> who makes its inputs, and which share of all of them.
DOORS: dict[str, tuple[Callable[[random.Random, Path], Inputs], float]] = {
    "calls": (lambda chance, _: calls.inputs(chance), 0.60),
    "files": (files.inputs, 0.38),
    "commands": (lambda chance, _: commands.inputs(chance), 0.02),
}


def tried(door: str, count: int, seed: int, folder: Path) -> tuple[Counter[str], dict[tuple[str, str], list[str]]]:
    """Return the verdicts on some inputs of a door, and the faults: (kind, detail) -> what was given."""
    chance = random.Random(f"{seed} {door}")
    verdicts: Counter[str] = Counter()
    faults: dict[tuple[str, str], list[str]] = {}
    for name, text, ask in itertools.islice(DOORS[door][0](chance, folder), count):
        verdict = ask()
        verdicts[verdict.kind] += 1
        if verdict.fault:
            faults.setdefault((verdict.kind, f"{name}: {verdict.detail}"), []).append(text)
    return verdicts, faults


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--door", choices=sorted(DOORS), action="append")
    asked = parser.parse_args()
    limit_memory()
    every: dict[str, Counter[str]] = {}
    found = 0
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for door, (_, share) in DOORS.items():
            if asked.door and door not in asked.door:
                continue
            start = time.perf_counter()
            part = asked.inputs if asked.door else round(share * asked.inputs)
            every[door], faults = tried(door, part, asked.seed, Path(folder))
            for (kind, detail), given in sorted(faults.items()):
                print(f"{kind}, {len(given)} times: {detail}\n    {given[0][:400]}")
            found += sum(map(len, faults.values()))
            print(f"{door}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        os.chdir(here)
    kinds = sorted({kind for counts in every.values() for kind in counts} | {"answer", "refused"})
    print("| door | inputs | " + " | ".join(kinds) + " |\n|---|---|" + "---|" * len(kinds))
    for door, counts in every.items():
        print(f"| {door} | {counts.total()} | " + " | ".join(str(counts[kind]) for kind in kinds) + " |")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
