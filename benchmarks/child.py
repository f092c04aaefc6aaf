"""One sweep in a process of its own: its time, its rows, its peak memory, and what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import pruninfersim as pis
from benchmarks import questions
from benchmarks.table import timed

ROOT = Path(__file__).resolve().parents[1]
#: Executors -> what the table calls them.
EXECUTORS = {"here": "one process", "pool": "pool of 2 processes", "dask": "2 Dask workers of one thread each"}
#: What Dask sets in the environment of its workers. MALLOC_TRIM_THRESHOLD_ among it has them hand memory back to the
#: system that the next array needs again, and page faults then take as long as the work itself.
ENVIRONMENT = "distributed.nanny.pre-spawn-environ"


@dataclass(frozen=True)
class Order:
    """A sweep to run: "grid" or "rows", how many, to Parquet or into memory, and on which of the executors."""

    kind: str
    points: int
    out: bool = False
    executor: str = "here"


@dataclass(frozen=True)
class Result:
    """What a sweep took: configurations, time [s], peak memory of its process [B], size of its files [B]."""

    rows: int
    seconds: float
    peak: int
    written: int


def run(order: Order) -> Result:
    """Run a sweep in a new process."""
    command = [sys.executable, "-m", "benchmarks.child", json.dumps(asdict(order))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{order} failed:\n{done.stderr}")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def warm_up(models: Sequence[str], gpus: Sequence[str]) -> None:
    """Load all calibrations of what will be asked, pandas and pyarrow."""
    singles = [pis.Workload.prefill(1, 128), pis.Workload.decode(1, 128)]
    asked = questions.grid(1) | {"models": models, "hardware": gpus, "workloads": singles, "sparsity": 0.5}
    with tempfile.TemporaryDirectory() as folder:
        pis.sweep(**asked, progress=False, out=Path(folder) / "grid")


@contextmanager
def started(name: str) -> Iterator[Executor | None]:
    """Start an executor whose threads or processes are warm."""
    asked = (questions.MODELS, questions.GPUS)
    if name == "dask":
        import dask
        from distributed import Client, LocalCluster

        kept = {name: x for name, x in dask.config.get(ENVIRONMENT).items() if name != "MALLOC_TRIM_THRESHOLD_"}
        with (
            dask.config.set({ENVIRONMENT: kept}),
            tempfile.TemporaryDirectory() as folder,
            LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=folder
            ) as cluster,
            Client(cluster) as client,
        ):
            client.run(warm_up, *asked)
            yield client.get_executor()
    elif name == "pool":
        with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=warm_up, initargs=asked) as executor:
            wait([executor.submit(time.sleep, 0.1) for _ in range(4)])  # enough for both to start and warm up
            yield executor
    else:
        warm_up(*asked)
        yield None


def peak_memory() -> int:
    """Return the most memory that this process has held [B].

    Read from Linux: what `getrusage` says includes the memory of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(order: Order) -> Result:
    """Run a sweep in this process."""
    question = {"rows": questions.random_rows(order.points)} if order.kind == "rows" else questions.grid(order.points)
    frames = []
    with started(order.executor) as executor, tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "sweep" if order.out else None
        seconds = timed(lambda: frames.append(pis.sweep(**question, executor=executor, out=out, progress=False)))
        written = sum(file.stat().st_size for file in Path(folder).rglob("*.parquet"))
    frame = frames[0]
    rows = int(frame["rows"].sum()) if order.out else len(frame)
    return Result(rows, seconds, peak_memory(), written)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Order(**json.loads(sys.argv[1]))))))
