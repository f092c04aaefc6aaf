"""Speed of sweeps, single calls and imports, printed as a Markdown table.

Usage: python benchmarks/sweep.py [--points 1000000] [--random 100000] [--markdown docs/benchmarks.md]

Ratios are taken within one run, so that a slow or busy machine changes both sides alike. The scalar loop calls
`pruninfersim.compare` once per configuration, as a script without arrays would.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

import pruninfersim as pis

MODELS = ("llama-3.1-8b", "llama-2-7b", "qwen3-14b", "llama-3.2-3b", "mistral-7b-v0.3")
GPUS = ("h100-sxm", "a100-sxm-80gb", "h200-sxm", "b200-sxm", "l40s", "rtx-pro-6000-server")
METHODS = tuple(pis.pruning.METHODS)


def timed(work: Callable[[], object], repeats: int = 1) -> float:
    """Return the shortest wall time of `repeats` runs [s]."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return float(best)


def grid(points: int) -> Callable[[], pd.DataFrame]:
    """Return a sweep of about `points` configurations: models x GPUs x workloads x methods x sparsities."""
    sparsity = np.linspace(0.0, 0.5, 16)
    per_workload = len(MODELS) * len(GPUS) * len(METHODS) * len(sparsity)
    lengths = max(1, round(points / per_workload / 2 / 8))
    tokens = np.unique(np.round(np.geomspace(128, 32768, lengths)))
    workloads = [
        pis.Workload.prefill(batch=np.array([1, 2, 3, 4, 6, 8, 12, 16])[:, None], tokens=tokens),
        pis.Workload.decode(batch=np.array([1, 2, 4, 8, 16, 32, 64, 128])[:, None], context=tokens),
    ]
    return lambda: pis.sweep(models=MODELS, hardware=GPUS, workloads=workloads, sparsity=sparsity, progress=False)


def random_rows(points: int) -> pd.DataFrame:
    """Return unrelated configurations, hardly two of which share a shape."""
    draw = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "model": draw.choice(MODELS, points),
            "hardware": draw.choice(GPUS, points),
            "method": draw.choice(METHODS, points),
            "sparsity": draw.uniform(0.0, 0.5, points),
            "phase": draw.choice(["prefill", "decode"], points),
            "batch": draw.integers(1, 257, points),
            "context": draw.integers(16, 8193, points),
        }
    )


def scalar_loop(rows: pd.DataFrame) -> None:
    """Answer each row with a call of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pis.errors.ProvenanceWarning)
        for row in rows.itertuples():
            pis.speedup(
                model=row.model, hardware=row.hardware, method=row.method, sparsity=row.sparsity, phase=row.phase,
                batch=row.batch, context=row.context,
            )  # fmt: skip


def one_call() -> None:
    """Answer the question of the README."""
    pis.speedup(model="llama-3.1-8b", hardware="h100-sxm", method="static-width", sparsity=0.5, phase="decode")


def import_seconds(modules: str) -> float:
    """Return the processor time of an import in a new interpreter, best of five [s]."""
    code = f"import time; t = time.process_time(); import {modules}; print(time.process_time() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    return min(float(run.stdout) for run in runs)


def main() -> int:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--random", type=int, default=100_000)
    parser.add_argument("--scalar", type=int, default=200)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    timed(one_call)  # load calibrations
    lines = []

    tenth, whole = grid(arguments.points // 10), grid(arguments.points)
    size = {}
    seconds = {}
    for name, work in (("tenth", tenth), ("whole", whole)):
        frame: list[pd.DataFrame] = []
        seconds[name] = timed(lambda work=work, frame=frame: frame.append(work()))
        size[name] = len(frame.pop())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    per_point = seconds["whole"] / size["whole"]
    growth = seconds["whole"] / seconds["tenth"] * (10 * size["tenth"] / size["whole"])
    lines.append(
        (
            "grid, vendor stack",
            f"{size['whole']:,} configurations",
            f"{seconds['whole']:.1f} s",
            f"{per_point * 1e6:.1f} us each",
        )
    )
    lines.append(("grid, peak memory of the process", "", f"{memory:.2f} GB", ""))
    lines.append(
        ("grid, ten times the points", f"{size['tenth']:,} to {size['whole']:,}", f"{growth:.1f} times the time", "")
    )

    rows = random_rows(arguments.random)
    scattered = timed(lambda: pis.sweep(rows=rows, progress=False)) / len(rows)
    lines.append(
        (
            "unrelated configurations",
            f"{len(rows):,}",
            f"{scattered * len(rows):.1f} s",
            f"{scattered * 1e6:.0f} us each",
        )
    )

    loop = timed(lambda: scalar_loop(rows[: arguments.scalar])) / arguments.scalar
    lines.append(
        (
            "scalar loop over compare()",
            f"{arguments.scalar}",
            f"{loop * arguments.scalar:.2f} s",
            f"{loop * 1e3:.2f} ms each",
        )
    )
    lines.append(("grid against scalar loop", "", f"{loop / per_point:,.0f} times as fast", ""))
    lines.append(("one pis.speedup call, warm", "", f"{timed(one_call, 50) * 1e3:.2f} ms", ""))
    ratio = import_seconds("pruninfersim") / import_seconds("numpy, pydantic")
    lines.append(("import pruninfersim", "", f"{ratio:.2f} times import numpy, pydantic", ""))

    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    text = f"| what | size | result | |\n|---|---|---|---|\n{table}\n"
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"
    print(f"{machine}\n\n{text}")
    if arguments.markdown:
        page = f"# Benchmarks\n\nMade by `python benchmarks/sweep.py` on a machine with {machine}.\n\n{text}"
        arguments.markdown.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
