"""``pruninfersim measure``: plan, then time, on the GPU at hand."""

from __future__ import annotations

import datetime
import textwrap
from dataclasses import asdict
from pathlib import Path

import pruninfersim
from pruninfersim import hardware
from pruninfersim._util.table import printable, screen_width, table
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
    if plan_only:
        plan = planning.plan(cases, hardware.get(gpu or PLANNED_GPU), protocol=protocol, budget=seconds)
        show(plan)
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
    show(plan)
    if done:
        say(f"{len(done)} shapes are in {out} already; they are not taken again.")
    from pruninfersim.measure.executor import Executor

    with Executor(protocol) as executor:
        try:
            outcome = run(plan, recorder, executor.execute)
        except ContextLostError as error:
            raise PruninfersimError(
                f"CUDA is unusable after an error ({error}); run the same command again, it goes on after this shape"
            ) from None
    report(outcome, out)
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


def say(text: str) -> None:
    """Print a line, wrapped to the screen."""
    print(printable(textwrap.fill(text, screen_width() or 10_000, break_long_words=False, break_on_hyphens=False)))


def show(plan: Plan) -> None:
    """Print what would run, by kind, and how long it takes."""
    say(f"Plan for {plan.hardware}: {len(plan.steps)} shapes, about {duration(plan.wall)}")
    rows = [
        {
            "file": f"{kind}.csv",
            "shapes": count,
            "time": duration(wall),
            "known to": "a factor of 2" if doubt >= planning.UNKNOWN_DOUBT else f"± {100 * doubt:.0f} %",
        }
        for kind, (count, wall, doubt) in plan.by_kind().items()
    ]
    print(printable(f"\n{table(rows, screen_width())}\n"))
    if plan.budget is not None:
        first = ", ".join(str(step.case) for step in plan.steps[:3])
        say(f"Budget {duration(plan.budget)}: {plan.left_out} shapes are left out. First: {first}.")


def report(outcome: Outcome, out: Path) -> None:
    """Print what was timed, and what failed and why."""
    late = f", {outcome.not_reached} not reached within the budget" if outcome.not_reached else ""
    say(f"{outcome.timed} shapes timed, {len(outcome.failed)} failed{late}. Files: {out}/*.csv")
    for case, reason in list(outcome.failed.items())[:SHOWN]:
        say(f"failed: {case}: {reason}")
    if len(outcome.failed) > SHOWN:
        say(f"and {len(outcome.failed) - SHOWN} more; see the lines '# failed' in the files")


def duration(seconds: float) -> str:
    """Return a time for a reader.

    >>> duration(12.3), duration(495)
    ('12 s', '8 min 15 s')
    """
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
