"""``pruninfersim measure``: plan, then time, on the GPU at hand."""

from __future__ import annotations

import datetime
import os
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

import pruninfersim
from pruninfersim import hardware
from pruninfersim.errors import PruninfersimError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.measure import device, planning, suites
from pruninfersim.measure.planning import Plan
from pruninfersim.measure.protocol import Protocol, digest
from pruninfersim.measure.records import Recorder
from pruninfersim.measure.runner import ContextLostError, Outcome, run

#: GPU of a plan where none is named.
PLANNED_GPU = "h100-sxm"
#: Failures that are listed at the end; all are in the files.
SHOWN = 10


def measure(
    suite: str = "all",
    *,
    plan_only: bool = False,
    budget: str | None = None,
    gpu: str | None = None,
    out: Path = Path("timings"),
    repeats: int = Protocol.repeats,
    retry_failed: bool = False,
) -> int:
    """Print the plan, or time what it holds; return the exit code.

    Parameters
    ----------
    suite : str
        ``"all"``, or names of `pruninfersim.measure.suites.SUITES` separated by commas.
    plan_only : bool
        Needs neither torch nor a GPU.
    budget : str, optional
        Time for all, such as ``"8m"``: the most informative shapes are taken first.
    gpu : str, optional
        Name of the GPU profile; default is the GPU at hand, in a plan h100-sxm.
    out : Path
        Folder of the CSV files.
    repeats : int
    retry_failed : bool
        Whether to try shapes again that failed in an earlier run.

    Raises
    ------
    PruninfersimError
        If there is no torch or no GPU, a name is unknown, or the files were written under other conditions.
    """
    cases = suites.select(suite)
    seconds = None if budget is None else planning.parse_budget(budget)
    protocol = Protocol(repeats=repeats)
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)
    if plan_only:
        plan = planning.plan(cases, hardware.get(gpu or PLANNED_GPU), protocol=protocol, budget=seconds)
        show(plan, console)
        return 0
    torch = device.need_cuda()
    profile = _profile(torch.cuda.get_device_name(0), gpu)
    environment = device.environment(torch)
    recorder = Recorder(
        out,
        {
            "pruninfersim": pruninfersim.__version__,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **environment,
            "protocol": asdict(protocol),
        },
        digest(protocol, environment),
        gpu=profile.name,
        backend=f"torch {torch.__version__}",
    )
    done = recorder.resume({case.kind for case in cases}, retry_failed=retry_failed)
    plan = planning.plan(cases, profile, protocol=protocol, budget=seconds, done=done)
    show(plan, console)
    if done:
        console.print(f"{len(done)} shapes are in {out} already; they are not taken again.")
    from pruninfersim.measure.executor import Executor

    with Executor(protocol) as executor:
        try:
            outcome = run(plan, recorder, executor.execute, console=console)
        except ContextLostError as error:
            raise PruninfersimError(
                f"CUDA is unusable after an error ({error}); run the same command again, it goes on after this shape"
            ) from None
    report(outcome, out, console)
    return 0


def _profile(title: str, gpu: str | None) -> HardwareProfile:
    """Return the profile of the GPU at hand."""
    name = gpu or device.profile_name(title)
    if name is None:
        raise PruninfersimError(
            f"there is no profile of {title!r}: name the one to use with --gpu (`pruninfersim hardware` lists all), or "
            f"add a file of your own to a folder in {hardware.SEARCH_PATH_VARIABLE}"
        )
    return hardware.get(name)


def show(plan: Plan, console: Console) -> None:
    """Print what would run, by kind, and how long it takes."""
    table = Table(title=f"Plan for {plan.hardware}: {len(plan.steps)} shapes, about {duration(plan.wall)}")
    table.title_justify = "left"
    for name in ("file", "shapes", "time", "known to ±"):
        table.add_column(name, justify="left" if name == "file" else "right")
    for kind, (count, wall, doubt) in plan.by_kind().items():
        known = "a factor of 2" if doubt >= planning.UNKNOWN_DOUBT else f"{100 * doubt:.0f} %"
        table.add_row(f"{kind}.csv", str(count), duration(wall), known)
    console.print(table)
    if plan.budget is not None:
        first = ", ".join(str(step.case) for step in plan.steps[:3])
        console.print(f"Budget {duration(plan.budget)}: {plan.left_out} shapes are left out. First: {first}.")


def report(outcome: Outcome, out: Path, console: Console) -> None:
    """Print what was timed, and what failed and why."""
    late = f", {outcome.not_reached} not reached within the budget" if outcome.not_reached else ""
    console.print(f"{outcome.timed} shapes timed, {len(outcome.failed)} failed{late}. Files: {out}/*.csv")
    for case, reason in list(outcome.failed.items())[:SHOWN]:
        console.print(f"failed: {case}: {reason}", markup=False, highlight=False)
    if len(outcome.failed) > SHOWN:
        console.print(f"and {len(outcome.failed) - SHOWN} more; see the lines '# failed' in the files")


def duration(seconds: float) -> str:
    """Return a time for a reader.

    >>> duration(12.3), duration(495)
    ('12 s', '8 min 15 s')
    """
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
