"""One process beside two Dask workers, on the same grid."""

from __future__ import annotations

import importlib.util
import os

from benchmarks import child
from benchmarks.child import EXECUTORS, Order
from benchmarks.sweeps import each, judged, sized
from benchmarks.table import Line, Part, duration

#: Size at which the aim is stated.
FULL = 20_000_000
AIM = "> 1.5 times"


def dask(points: int) -> Part:
    """The same grid in one process, on a pool of two, and on two Dask workers, all to Parquet."""
    if importlib.util.find_spec("distributed") is None:
        return Part((Line("Dask", "", "left out: not installed (`pip install 'pruninfersim[dask]'`)"),), MEANING)
    runs = {name: child.run(Order("grid", points, out=True, executor=name)) for name in EXECUTORS}
    lines = [
        Line(f"grid to Parquet, {EXECUTORS[name]}", sized(result), duration(result.seconds), each(result))
        for name, result in runs.items()
    ]
    enough = (os.cpu_count() or 1) >= 2
    for name in ("pool", "dask"):
        gain = runs["here"].seconds / runs[name].seconds
        aim, met = (AIM, judged(runs[name], gain >= 1.5, FULL) if enough else None) if name == "dask" else ("", None)
        lines.append(Line(f"- {EXECUTORS[name]} over one process", "", f"{gain:.2f} times", "", aim, met))
    return Part(tuple(lines), MEANING)


MEANING = """
**Dask**: the same grid three times, each written to Parquet: in one process (no `executor`), on a
`ProcessPoolExecutor` of two, and on a `LocalCluster` of two worker processes with one thread each
(`executor=client.get_executor()`). All share one machine and its disk. Starting the processes is not counted, and the
workers of the cluster keep freed memory, which they do not by default
([Sweeps](sweep.md#larger-than-one-process)).
"""
