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
from validation.reliability import put

Inputs = Iterator[tuple[str, str, Callable[[], Verdict]]]
#: Door -> who makes its inputs, and which share of all of them.
DOORS: dict[str, tuple[Callable[[random.Random, Path], Inputs], float]] = {
    "calls": (lambda chance, _: calls.inputs(chance), 0.60),
    "files": (files.inputs, 0.38),
    "commands": (lambda chance, _: commands.inputs(chance), 0.02),
}


def tried(
    door: str, count: int, seed: int, folder: Path, seconds: float = float("inf")
) -> tuple[Counter[str], dict[tuple[str, str], list[str]]]:
    """Return the verdicts on some inputs of a door, and the faults: (kind, detail) -> what was given."""
    chance = random.Random(f"{seed} {door}")
    verdicts: Counter[str] = Counter()
    faults: dict[tuple[str, str], list[str]] = {}
    end = time.perf_counter() + seconds
    for name, text, ask in itertools.islice(DOORS[door][0](chance, folder), count):
        if time.perf_counter() > end:
            break
        verdict = ask()
        verdicts[verdict.kind] += 1
        if verdict.fault:
            faults.setdefault((verdict.kind, f"{name}: {verdict.detail}"), []).append(text)
    return verdicts, faults


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop each door after that time")
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
            every[door], faults = tried(door, part, asked.seed, Path(folder), asked.seconds)
            for (kind, detail), given in sorted(faults.items()):
                print(f"{kind}, {len(given)} times: {detail}\n    {given[0][:400]}")
            found += sum(map(len, faults.values()))
            print(f"{door}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        os.chdir(here)
    kinds = sorted({kind for counts in every.values() for kind in counts} | {"answer", "refused"})
    lines = ["| door | inputs | " + " | ".join(kinds) + " |", "|---|---|" + "---|" * len(kinds)]
    for door, counts in every.items():
        lines.append(f"| {door} | {counts.total()} | " + " | ".join(str(counts[kind]) for kind in kinds) + " |")
    print("\n".join(lines))
    if asked.write:
        put("fuzz", "\n".join(lines))
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
