"""What would run, in which order, and how long it takes; needs no GPU and no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pruninfersim import stacks
from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import InvalidInputError, PruninfersimError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.measure.cases import Case
from pruninfersim.measure.protocol import Protocol

#: Share of the data-sheet rates that a plan counts on, and what a launch costs at least [s].
COMPUTE, MEMORY, LAUNCH = 0.6, 0.75, 4e-6
#: L2 size where the profile has none [B].
TYPICAL_L2 = 50e6
#: Half-width of the 90 % band of ln(measured / predicted) of a kind that nobody has calibrated [1]: a factor of 2.
UNKNOWN_DOUBT = float(np.log(2.0))
#: Start of the process, of CUDA and of the libraries [s].
STARTUP = 15.0
UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Step:
    """A case with what the plan expects of it.

    Attributes
    ----------
    case : Case
    latency : float
        Rough time of one run on the planned GPU [s].
    wall : float
        Time that the measurement takes, set-up and warm-up included [s].
    doubt : float
        Half-width of the 90 % band of the present prediction, in log units [1].
    """

    case: Case
    latency: float
    wall: float
    doubt: float


@dataclass(frozen=True)
class Plan:
    """Steps in the order in which they run.

    Attributes
    ----------
    hardware : str
        GPU that the times are for.
    steps : tuple of Step
    left_out : int
        Cases that the budget has no room for.
    budget : float or None
        [s]
    """

    hardware: str
    steps: tuple[Step, ...]
    left_out: int = 0
    budget: float | None = None

    @property
    def wall(self) -> float:
        """Expected time of the whole run [s]."""
        return STARTUP + sum(step.wall for step in self.steps)

    def by_kind(self) -> dict[str, tuple[int, float, float]]:
        """Return, per kind: cases, expected time [s], and largest doubt [1]."""
        out: dict[str, tuple[int, float, float]] = {}
        for step in self.steps:
            count, wall, doubt = out.get(step.case.kind, (0, 0.0, 0.0))
            out[step.case.kind] = (count + 1, wall + step.wall, max(doubt, step.doubt))
        return out


def parse_budget(text: str) -> float:
    """Return a time such as ``"8m"``, ``"90s"`` or ``"1.5h"`` [s].

    Raises
    ------
    InvalidInputError
        If it is none.

    >>> parse_budget("8m"), parse_budget("90s")
    (480.0, 90.0)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in UNITS or float(match[1]) <= 0:
        what = text.strip()
        ask = f". Say which: {what}s, {what}m or {what}h" if re.fullmatch(r"\d+(\.\d+)?", what) else ""
        raise InvalidInputError(f"budget must be a time with its unit, such as 90s, 8m or 1.5h; got {text!r}{ask}")
    return float(match[1]) * UNITS[match[2]]


def expected_latency(case: Case, hardware: HardwareProfile) -> float:
    """Return a rough time of one run [s]: the roofline at usual shares of the peak rates, and a cost per launch.

    Good enough to plan with, and to size a graph; nothing is predicted with it.
    """
    rates = hardware.peak
    peak = rates.get(case.dtype) or rates.get("bf16") or rates.get("fp16") or max(rates.values())
    work = max(case.flops / (COMPUTE * peak), case.traffic / (MEMORY * hardware.memory_bandwidth))
    return work + case.launches * LAUNCH


def wall_time(case: Case, latency: float, hardware: HardwareProfile, protocol: Protocol) -> float:
    """Return how long it takes to measure a case [s]."""
    copies = protocol.copies(case.traffic, hardware.l2_size or TYPICAL_L2)
    replay = latency * protocol.calls(latency, copies)
    return case.setup + max(protocol.warmup, protocol.warmup_replays * replay) + protocol.repeats * replay


def doubt_of(kind: str, hardware: HardwareProfile, stack: str = stacks.DEFAULT) -> float:
    """Return the half-width of the 90 % band of what is predicted today for kernels of a kind, in log units [1].

    A kind that is priced by its roofline, or not at all, counts as known to a factor of 2; a calibration carried over
    from another GPU counts by the band that it states, which is wider for that reason.
    """
    try:
        priced = stacks.get(stack, hardware).kernels.get(kind.removeprefix("elementwise_"))
    except PruninfersimError:  # no such stack in this version, or none for this GPU
        return UNKNOWN_DOUBT
    if priced is None or priced.provenance == "roofline" or priced.spread.half_width <= 0:
        return UNKNOWN_DOUBT
    return priced.spread.half_width


def plan(
    cases: Sequence[Case],
    hardware: HardwareProfile,
    *,
    protocol: Protocol | None = None,
    budget: float | None = None,
    done: frozenset[tuple[str, str]] = frozenset(),
) -> Plan:
    """Order cases by what they tell, and cut the list at a budget.

    Kinds take turns: next is the kind whose time so far, divided by its doubt, is least, so that a kind that is known
    to 10 % gets a seventh of the time of one that is known to a factor of 2. Within a kind the next case is the one
    farthest, in log shape, from those taken before (the first lies in the middle), so that any prefix of the list
    covers the range of shapes. Without a budget all cases run, suite by suite in their usual order.

    Parameters
    ----------
    cases : sequence of Case
    hardware : HardwareProfile
        GPU that the times are for.
    protocol : Protocol, optional
    budget : float, optional
        [s]
    done : frozenset of (kind, key)
        Cases that are in the files already.

    Returns
    -------
    Plan
    """
    protocol = protocol or Protocol()
    doubts = {kind: doubt_of(kind, hardware) for kind in {case.kind for case in cases}}
    steps = []
    for case in cases:
        if (case.kind, case.key) not in done:
            latency = expected_latency(case, hardware)
            steps.append(Step(case, latency, wall_time(case, latency, hardware, protocol), doubts[case.kind]))
    if budget is None:
        return Plan(hardware.name, tuple(steps))
    queues: dict[str, list[Step]] = {}
    for step in steps:
        queues.setdefault(step.case.kind, []).append(step)
    queues = {kind: [queue[i] for i in spread_order(features(queue))] for kind, queue in queues.items()}
    spent = dict.fromkeys(queues, 0.0)
    chosen: list[Step] = []
    left = budget - STARTUP
    while queues:
        kind = min(queues, key=lambda name: spent[name] / doubts[name])
        step = queues[kind].pop(0)
        if not queues[kind]:
            del queues[kind]
        if step.wall <= left:
            left -= step.wall
            spent[kind] += step.wall
            chosen.append(step)
    return Plan(hardware.name, tuple(chosen), len(steps) - len(chosen), budget)


def features(steps: Sequence[Step]) -> FloatArray:
    """Return where cases lie, shape (case, feature): log2 of numbers, one axis per value of a label."""
    shapes: list[dict[str, Any]] = [{"dtype": step.case.dtype, **step.case.shape} for step in steps]
    columns = []
    for name in shapes[0]:
        values = [shape[name] for shape in shapes]
        if isinstance(values[0], str):
            # Two labels are as far apart as shapes that differ by a factor of 4.
            columns += [np.where(np.array(values) == label, np.sqrt(2.0), 0.0) for label in sorted(set(values))]
        else:
            columns.append(np.log2(np.maximum(np.array(values, dtype=np.float64), 1e-3)))
    return np.stack(columns, axis=-1)


def spread_order(points: FloatArray) -> list[int]:
    """Return an order in which each point is as far as can be from all before it; the first is the most central.

    >>> spread_order(np.array([[0.0], [1.0], [2.0], [3.0], [8.0]]))
    [3, 4, 0, 1, 2]
    """
    first = int(np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=-1)))
    order = [first]
    nearest = ((points - points[first]) ** 2).sum(axis=-1)
    nearest[first] = -1.0
    while len(order) < len(points):
        chosen = int(np.argmax(nearest))
        order.append(chosen)
        nearest = np.minimum(nearest, ((points - points[chosen]) ** 2).sum(axis=-1))
        nearest[order] = -1.0
    return order
