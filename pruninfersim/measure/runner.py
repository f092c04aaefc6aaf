"""Runs a plan: case after case, each recorded before the next, failures included."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pruninfersim.errors import PruninfersimError
from pruninfersim.measure.cases import Case
from pruninfersim.measure.planning import Plan, Step
from pruninfersim.measure.records import Recorder

#: Characters of the reason of a failure that are kept.
LONGEST_REASON = 300
#: Times one step; raises whatever it likes where that is not possible.
Execute = Callable[[Step], Mapping[str, Any]]


class ContextLostError(PruninfersimError):
    """CUDA is unusable after an error; a new process can go on."""


@dataclass
class Outcome:
    """What a run did.

    Attributes
    ----------
    timed : int
    failed : dict of Case to str
        Reason of each failure.
    not_reached : int
        Cases that the budget left no time for.
    """

    timed: int = 0
    failed: dict[Case, str] = field(default_factory=dict)
    not_reached: int = 0


def run(
    plan: Plan,
    recorder: Recorder,
    execute: Execute,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Run the steps of a plan in order, with a bar on standard error.

    Parameters
    ----------
    plan : Plan
        With a budget, the run ends when it is spent, even if the plan was too hopeful.
    recorder : Recorder
    execute : callable
    clock : callable
        Seconds.

    Raises
    ------
    ContextLostError
        If CUDA is unusable; the case that did it is recorded as failed, so that the same command goes on after it.
    """
    outcome, start = Outcome(), clock()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measure", total=len(plan.steps))
        for number, step in enumerate(plan.steps):
            if plan.budget is not None and clock() - start >= plan.budget:
                outcome.not_reached = len(plan.steps) - number
                break
            bar.update(task, description=f"{step.case!s:.60}")
            try:
                result = execute(step)
            except ContextLostError as error:
                recorder.failure(step.case, str(error))
                raise
            except Exception as error:  # any library may raise anything; the run goes on
                outcome.failed[step.case] = reason_of(error)
                recorder.failure(step.case, outcome.failed[step.case])
            else:
                recorder.success(step.case, result)
                outcome.timed += 1
            bar.advance(task)
    return outcome


def reason_of(error: BaseException) -> str:
    """Return an error as one line.

    >>> reason_of(RuntimeError("out of memory\\nTried to allocate 2 GiB"))
    'RuntimeError: out of memory Tried to allocate 2 GiB'
    """
    text = " ".join(str(error).split())[:LONGEST_REASON] or "no message"
    return text if isinstance(error, PruninfersimError) else f"{type(error).__name__}: {text}"
