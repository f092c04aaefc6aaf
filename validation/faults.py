"""Break what a run stands on while it runs, and look at what is left.

    python validation/faults.py --write

Each fault is injected into a sweep that writes a directory, into the program, or into a file that is read. Afterwards
nothing may be lost that was written, nothing half-written may be read, and one line has to say what happened. Prints a
table of faults, how often each was injected, what went wrong (nothing, if all is well) and the line. Exit code 1 if
anything went wrong. Needs Linux and pyarrow; the row of Dask needs `distributed`.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

import pruninfersim as pis
from pruninfersim.errors import DamagedPartWarning, PruninfersimError
from pruninfersim.pruning.tables import read_ratios

#: A sweep of eight parts, each of some thousand rows.
QUESTION = {
    "models": ["llama-3.2-1b", "qwen3-14b"], "hardware": ["h100-sxm", "l40s"], "methods": ["static-width", "low-rank"],
    "sparsity": [0.1, 0.3, 0.5], "stacks": ["ideal", "paper"], "workloads": pis.Workload.decode(4, range(16, 516)),
    "progress": False,
}  # fmt: skip
#: SIGINT is not ignored, as it is in what a shell runs in the background.
CHILD = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "sys.path.insert(0, sys.argv[2]); import faults; faults.ask(faults.Path(sys.argv[1]))"
)


@dataclass
class Outcome:
    """What came of a fault.

    Attributes
    ----------
    injected : int
    wrong : list of str
        What was lost, half-read or not said.
    said : str
        The line that the user read last.
    """

    injected: int = 0
    wrong: list[str] = field(default_factory=list)
    said: str = "nothing: the result is there"

    def refused(self, what: str, call: Callable[[], Any]) -> None:
        """Note what a call says that must be refused with one line."""
        self.injected += 1
        try:
            call()
        except PruninfersimError as error:
            self.said = str(error)
            if "\n" in self.said:
                self.wrong.append(f"{what}: several lines")
        except Exception as error:  # that is what is looked for
            self.wrong.append(f"{what}: {type(error).__name__}: {error}"[:200])
        else:
            self.wrong.append(f"{what}: was not refused")


def ask(out: Path, **changes: Any) -> pd.DataFrame:
    """Run the sweep into a directory."""
    return pis.sweep(**{**QUESTION, **changes}, out=out)


def content(folder: Path) -> dict[str, bytes]:
    """Return the parts that a reader of a Parquet directory sees."""
    seen = [path for path in folder.rglob("*") if path.is_file() and path.name[0] not in "._"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in seen}


def child(out: Path, **options: Any) -> subprocess.Popen[str]:
    """Start the sweep in another process."""
    here = str(Path(__file__).parent)
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(out), here], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        **options,
    )  # fmt: skip


def resumed(out: Path, whole: dict[str, bytes], outcome: Outcome, what: str) -> None:
    """Note whether a directory holds whole parts only, and the whole set once it was asked for again."""
    if not content(out).items() <= whole.items():
        outcome.wrong.append(f"{what}: a part differs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedPartWarning)
        ask(out)
    if content(out) != whole:
        outcome.wrong.append(f"{what}: another set after it was asked for again")


def stopped(number: signal.Signals, times: int, folder: Path, whole: dict[str, bytes]) -> Outcome:
    """Stop a run with a signal, at different moments, and go on."""
    outcome = Outcome()
    for i in range(times):
        out = folder / f"{number.name}-{i}"
        run = child(out)
        deadline = time.monotonic() + 120
        while run.poll() is None and len(content(out)) < 1 + i % len(whole) and time.monotonic() < deadline:
            time.sleep(0.002)
        if run.poll() is None:
            run.send_signal(number)
            outcome.injected += 1
        said = run.communicate()[1].strip().splitlines()
        outcome.said = said[-1] if said else "nothing"
        resumed(out, whole, outcome, number.name)
    return outcome


def full_disk(times: int, folder: Path, whole: dict[str, bytes]) -> Outcome:
    """Let the disk be full after some bytes: of each part, and of standard output."""
    outcome = Outcome()
    sizes = sorted(len(data) for data in whole.values())
    for i in range(times):
        out = folder / f"full-{i}"
        limit = random.Random(i).randrange(200, sizes[-1])
        run = child(out, preexec_fn=lambda limit=limit: _small_files(limit))  # type: ignore[misc]
        lines = run.communicate()[1].strip().splitlines()
        outcome.injected += 1
        outcome.said = lines[-1] if lines else ""
        if "CannotWriteError" not in outcome.said:
            outcome.wrong.append(f"limit of {limit} bytes: {outcome.said[:150]!r}")
        resumed(out, whole, outcome, "full disk")
    with open("/dev/full", "w", encoding="ascii") as full:
        asked = [sys.executable, "-m", "pruninfersim", "models"]
        run2 = subprocess.run(asked, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    outcome.injected += 1
    if run2.returncode != 1 or len(run2.stderr.strip().splitlines()) != 1:
        outcome.wrong.append(f"/dev/full: exit {run2.returncode}, {run2.stderr[:150]!r}")
    return outcome


def _small_files(limit: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def unwritable(folder: Path) -> Outcome:
    """Write to folders that take no files, and to names that are none."""
    outcome = Outcome()
    fit = pis.Calibration.from_toml(pis.hardware.profiles_directory() / "calibrations/l40s/gemm-bf16.toml")
    file = folder / "a-file"
    file.write_text("not a folder")
    for place in (Path("/proc/none"), file / "below", folder / ("n" * 300), Path("nul\0")):
        outcome.refused(f"sweep to {place!s:.30}", lambda place=place: ask(place))  # type: ignore[misc]
        outcome.refused(f"calibration to {place!s:.30}", lambda place=place: fit.to_toml(place / "x.toml"))  # type: ignore[misc]
        outcome.refused(f"report to {place!s:.30}", lambda place=place: pis.report.write_report(place / "x.html"))  # type: ignore[misc]
    return outcome


def two_writers(times: int, folder: Path, whole: dict[str, bytes]) -> Outcome:
    """Let two processes write the same sweep, and two different ones, into one directory at once."""
    outcome = Outcome()
    for i in range(times):
        out = folder / f"both-{i}"
        runs = [child(out), child(out)]
        said = [run.communicate()[1] for run in runs]
        outcome.injected += 1
        if any(run.returncode for run in runs):
            outcome.wrong.append(f"same sweep: {said}"[:200])
        resumed(out, whole, outcome, "two writers")
    out = folder / "different"
    first = child(out)
    deadline = time.monotonic() + 120
    while not (out / "_plan.json").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    outcome.refused("another sweep", lambda: ask(out, sparsity=[0.2]))
    first.communicate()
    resumed(out, whole, outcome, "another sweep beside it")
    return outcome


class _Dying(ProcessPoolExecutor):
    """An executor whose workers are killed once it has some work."""

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:  # type: ignore[override]
        made = super().submit(*args, **kwargs)
        if not getattr(self, "killed", False):
            self.killed = True
            for process in list(self._processes.values()):
                os.kill(process.pid, signal.SIGKILL)
        return made


def dead_worker(folder: Path, whole: dict[str, bytes]) -> Outcome:
    """Kill the worker of an executor, then ask again without one."""
    outcome = Outcome()
    out = folder / "worker"
    with _Dying(1, mp_context=get_context("spawn")) as executor:
        outcome.refused("dead worker", lambda: ask(out, executor=executor))
    resumed(out, whole, outcome, "dead worker")
    return outcome


def dead_dask_worker(folder: Path, whole: dict[str, bytes]) -> Outcome:
    """Kill a worker of a Dask cluster while it works: its scheduler gives the work to another one."""
    from distributed import Client, LocalCluster

    outcome = Outcome()
    out = folder / "dask"
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        victim = next(iter(client.run(os.getpid).values()))
        work = client.get_executor()
        submit = work.submit

        def killing(*args: Any, **kwargs: Any) -> Any:
            nonlocal victim
            if victim:
                os.kill(victim, signal.SIGKILL)
                victim = 0
            return submit(*args, **kwargs)

        work.submit = killing
        outcome.injected += 1
        ask(out, executor=work)
    resumed(out, whole, outcome, "dead Dask worker")
    return outcome


def corrupt_parts(times: int, folder: Path, whole: dict[str, bytes]) -> Outcome:
    """Flip a bit of a part, cut it, or take its checksum: it is evaluated again, and a warning says so."""
    outcome = Outcome()
    out = folder / "corrupt"
    ask(out)
    chance = random.Random(1)
    for i in range(times):
        part = out / chance.choice(sorted(whole))
        data = bytearray(part.read_bytes())
        if i % 5 == 4:
            part.with_name(f"_{part.stem}.sha256").unlink()
        elif i % 5 == 3:
            part.write_bytes(data[: chance.randrange(len(data))])
        else:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            part.write_bytes(data)
        outcome.injected += 1
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ask(out)
        outcome.said = str(caught[-1].message) if caught else "nothing"
        if content(out) != whole or not caught:
            outcome.wrong.append(f"change {i}: {outcome.said}")
    return outcome


#: Names that are paths, or code for whoever does not quote.
NAMES = ("../../escaped", "/tmp/escaped", "<script>alert(1)</script>", "a\nb", "model=x/hardware=y", "..", "%2e%2e/x")


def hostile_names(folder: Path) -> Outcome:
    """Give models and GPUs names that are paths or HTML: files stay inside of the directory, pages quote them."""
    outcome = Outcome()
    for i, name in enumerate(NAMES):
        model, gpu = pis.models.get("llama-3.2-1b").clone(name), pis.hardware.get("l40s").clone(name)
        asked: dict[str, Any] = {"sparsity": 0.5, "dtype": "bf16"}
        outcome.injected += 1
        out = folder / f"names-{i}"
        pis.sweep(models=model, hardware=gpu, methods="low-rank", stacks="ideal", out=out, progress=False, **asked)
        inside = [path.relative_to(folder).parts[0] for path in folder.rglob("*escaped*")]
        outside = [part for part in inside if not part.startswith("names-")]
        if outside or Path("/tmp/escaped").exists():
            outcome.wrong.append(f"{name!r} left the directory")
        read = pd.read_parquet(out)
        if {str(value) for value in read["model"]} != {name}:
            outcome.wrong.append(f"{name!r} is read as {set(read['model'])}")
        result = pis.speedup(model=model, hardware=gpu, method="low-rank", stack="ideal", **asked)
        if "<script>" in result._repr_html_():
            outcome.wrong.append(f"{name!r} is code in a notebook")
    page = pis.report.html_report(
        model=pis.models.get("llama-3.2-1b").clone(NAMES[2]), methods=["low-rank"], stack="ideal"
    )
    if NAMES[2] in page:
        outcome.wrong.append("a name is code in a report")
    return outcome


def _hostile_files(folder: Path) -> Iterator[Path]:
    """Yield files that are none, are endless, or are too deep."""
    pipe, loop, huge, deep, digits = (folder / name for name in ("pipe", "loop", "huge", "deep", "digits"))
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    with huge.open("wb") as file:
        file.truncate(20 * 2**30)
    deep.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    digits.write_text('{"model_type": "llama", "hidden_size": ' + "9" * 10_000 + "}")
    yield from (pipe, loop, huge, deep, digits, folder, Path("/dev/zero"), Path("/proc/self/mem"), folder / ("n" * 300))


def hostile_files(folder: Path) -> Outcome:
    """Give every reader files that are pipes, devices, loops, huge, or nested a hundred thousand deep."""
    outcome = Outcome()
    readers: list[Callable[[Path], Any]] = [
        pis.ModelConfig.from_hf, pis.hardware.load, pis.Calibration.from_toml, pis.read_timings,
        pis.pareto.read_quality, read_ratios,
    ]  # fmt: skip
    for file in _hostile_files(folder):
        for read in readers:
            start = time.process_time()
            outcome.refused(f"{file.name[:20]} to {read.__qualname__}", lambda read=read, file=file: read(file))  # type: ignore[misc]
            if time.process_time() - start > 20.0:
                outcome.wrong.append(f"{file.name[:20]} to {read.__qualname__}: too slow")
    return outcome


def main() -> int:
    """Run the program."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ask(folder / "whole")
        whole = content(folder / "whole")
        faults: dict[str, Callable[[], Outcome]] = {
            "SIGKILL": lambda: stopped(signal.SIGKILL, 8, folder, whole),
            "SIGINT": lambda: stopped(signal.SIGINT, 6, folder, whole),
            "full disk": lambda: full_disk(6, folder, whole),
            "folders that take no files": lambda: unwritable(folder),
            "two writers": lambda: two_writers(4, folder, whole),
            "dead worker": lambda: dead_worker(folder, whole),
            "dead Dask worker": lambda: dead_dask_worker(folder, whole),
            "corrupt part": lambda: corrupt_parts(100, folder, whole),
            "names that are paths or HTML": lambda: hostile_names(folder),
            "files that are none": lambda: hostile_files(folder),
        }
        lines = ["| fault | injected | went wrong | the last line said |", "|---|---|---|---|"]
        wrong = 0
        for what, inject in faults.items():
            outcome = inject()
            wrong += len(outcome.wrong)
            said = outcome.said.replace(name, "DIR").replace("|", "/").replace("<", "&lt;")
            went = "; ".join(outcome.wrong) or "nothing"
            lines.append(f"| {what} | {outcome.injected} | {went} | {said[:160]} |")
            print(lines[-1], flush=True)
    if "--write" in sys.argv:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from validation.reliability import put

        put("faults", "\n".join(lines))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
