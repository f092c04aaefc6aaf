"""Why is my pruned model not faster? A waterfall from the FLOPs claim to the estimate that adds up exactly.

With T the dense and T' the pruned estimate, phi = 1 - s what the claim leaves, and for each role i (q, up, attention
...) its dense time t_i, what was asked to be left of it a_i, its ratios pruned to dense f_i of FLOPs (of bytes where
there are none), r_i of roofline times and e_i of times without tile and wave quantisation::

    T'  =  phi T                                       the claim
        +  sum over untouched roles (1 - phi) t_i      what was not pruned
        +  sum over changed roles (a_i - phi) t_i      more, or less, is asked of this role than of all
        +  sum over changed roles (f_i - a_i) t_i      FLOPs that rounding and the method itself keep
        +  sum over changed roles (r_i - f_i) t_i      bytes do not shrink as FLOPs do
        +  sum over changed roles (e_i - r_i) t_i      kernels are less efficient on the pruned shapes
        +  sum over changed roles (t'_i - e_i t_i)     tiles, waves and alignment of the pruned shapes
        +  sum over added roles t'_j                   overhead ops
        +  launch gaps of T' - phi times those of T    launches

Two traces that no method connects claim nothing: phi is 1, a_i is f_i, and there is no rounding.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from pruninfersim._util.arrays import Answer, FloatArray, among
from pruninfersim._util.doors import door, doors
from pruninfersim._util.lazy import drawn
from pruninfersim.cost import Estimate, scalar
from pruninfersim.cost.speedups import claimed_share
from pruninfersim.questions.answers import Side, sides
from pruninfersim.questions.comparison import Speedup
from pruninfersim.questions.vocabulary import Question
from pruninfersim.trace import FUSED

if TYPE_CHECKING:
    import pandas as pd

#: Steps of the waterfall, in order, with what they say to a reader. Two traces without a method start at "dense".
STEPS = {
    "claim": "dense time times the FLOPs the claim leaves, 1 - s",
    "not pruned": "ops that the method leaves as they are",
    "removed here": "work that is asked to go beyond the claim's average, or short of it",
    "rounding": "FLOPs that rounding and the method itself keep",
    "memory": "bytes do not shrink as FLOPs do",
    "efficiency": "kernels run further from their roofline on the pruned shapes",
    "tiles and waves": "tiles, waves and alignment of the pruned shapes",
    "overhead ops": "work that the method adds",
    "launches": "launch gaps that are left",
}
#: Steps that an engine adds, in front of the launches, and its word for these.
ENGINE_STEPS = {
    "engine step": "the engine's own time after a step: scheduler, sampling",
    "engine sequences": "the engine's own time for each sequence: sampling, detokenising",
}
MEANING = STEPS | ENGINE_STEPS | {"dense": "dense time: no method, no claim"}


@doors
@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Answer):
    """A waterfall from the claim to the estimate.

    Attributes
    ----------
    steps : dict of str to ndarray or float, shape (*sweep)
        Seconds that each step adds, in order; they sum to the pruned estimate [s].
    speedup : Speedup
        The comparison behind it.
    roles : tuple of str
        Roles of ops on either side.
    by_role : dict of str to ndarray, shape (*sweep, role)
        The steps between claim and launches, role by role [s].
    """

    steps: dict[str, FloatArray | float]
    speedup: Speedup
    roles: tuple[str, ...] = field(repr=False)
    by_role: dict[str, FloatArray] = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per step: seconds added, running total, speedup so far; of a sweep also the point."""
        import pandas as pd

        shape = np.shape(self.speedup.estimated)
        size, names = int(np.prod(shape, dtype=int)), list(self.steps)
        seconds = np.stack([np.broadcast_to(np.asarray(self.steps[name]), shape).reshape(-1) for name in names], axis=1)
        total = np.cumsum(seconds, axis=1)
        dense = np.broadcast_to(self.speedup.dense.total, shape).reshape(-1, 1)
        point = {"point": np.repeat(np.arange(size), len(names))} if shape else {}
        return pd.DataFrame(
            {
                **point,
                "step": names * size,
                "seconds": seconds.reshape(-1),
                "total_seconds": total.reshape(-1),
                "speedup_so_far": (dense / total).reshape(-1),
                "meaning": [MEANING[step] for step in names] * size,
            }
        )

    def plot(self, kind: str | None = None, **options: Any) -> Any:
        """Return the waterfall as a plotly figure; of a sweep, take a point first: ``speedup.at(0).explain()``."""
        return drawn(self, kind, options)

    def __str__(self) -> str:
        shape = np.shape(self.speedup.estimated)
        if not shape:
            frame = self.to_frame()
            lines = [
                f"{step:>16}  {seconds * 1e3:+10.4f} ms  speedup {so_far:5.2f}  {MEANING[step]}"
                for step, seconds, so_far in zip(frame["step"], frame["seconds"], frame["speedup_so_far"], strict=True)
            ]
            bound = [f"{'':>16}  {note}" for note in self.speedup.notes if note.startswith("host-bound")]
            return "\n".join(lines + bound[:1])
        lines = [f"milliseconds that each step adds, least and most of {shape} points"]
        for step, values in self.steps.items():
            low, high = float(np.min(values)) * 1e3, float(np.max(values)) * 1e3
            lines.append(f"{step:>16}  {low:+10.4f} to {high:+10.4f} ms  {MEANING[step]}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Explanation of {self.speedup!r}>"

    def _repr_html_(self) -> str:
        title = html.escape(self.speedup.question)
        if np.ndim(self.speedup.estimated):
            return f"<p>{title}</p><pre>{html.escape(str(self))}</pre>"
        return f"<p>{title}</p>{self.to_frame().to_html(index=False)}"


@door
def explain(
    dense: Side | Speedup | None = None, pruned: Side | None = None, **question: Unpack[Question]
) -> Explanation:
    """Break the gap between 1/(1-s) and the estimated speedup into steps that add up exactly.

    Parameters
    ----------
    dense, pruned : OpTrace, Estimate or model
        As in `pruninfersim.compare`; or a `Speedup` alone, which has both sides, the GPU and the stack.
    **question
        Keywords of `pruninfersim.speedup`: `hardware` and `stack` of two traces, or the whole question by names.

    Raises
    ------
    UnknownNameError, MissingValueError
        As `pruninfersim.estimate`.
    InvalidInputError
        If traces come without a GPU, a speedup with one, or a keyword is not known.

    >>> from pruninfersim import Workload, pruning, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> why = explain(dense, dense.prune(pruning.LowRank(0.5)), hardware="h100-sxm", stack="ideal")
    >>> abs(sum(why.steps.values()) / why.speedup.pruned.latency - 1) < 1e-12
    True
    """
    result = sides("explain", dense, pruned, question)
    before, after = result.dense, result.pruned
    keep = claimed_share(after.trace)
    sides_roles = _roles(before, after)
    roles = tuple(dict.fromkeys(role for side in sides_roles for role in side))
    by_role = _by_role(before, after, keep[..., None], sides_roles, roles)
    gaps = [(side.trace.count * side.gap).sum(axis=-1) for side in (before, after)]
    by_role = _with_engine(by_role, roles)
    steps: dict[str, Any] = {name: values.sum(axis=-1) for name, values in by_role.items()}
    steps |= {"claim": keep * before.seconds.sum(axis=-1), "launches": gaps[1] - keep * gaps[0]}
    first = "claim" if after.trace.applied else "dense"
    order = [*list(STEPS)[:-1], *(name for name in ENGINE_STEPS if name in steps), "launches"]
    named = {first if name == "claim" else name: scalar(np.asarray(steps[name])) for name in order}
    return Explanation(named, result, roles, by_role)


def _with_engine(by_role: dict[str, FloatArray], roles: tuple[str, ...]) -> dict[str, FloatArray]:
    """Return the steps with the engine's own time in steps of its own."""
    out = dict(by_role)
    for name in (name for name in ENGINE_STEPS if name in roles):
        mine = np.array([role == name for role in roles])
        whole = sum(by_role.values())
        out = {step: np.where(mine, 0.0, values) for step, values in out.items()}
        out[name] = np.asarray(np.where(mine, whole, 0.0))
    return out


def _roles(before: Estimate, after: Estimate) -> list[list[str]]:
    """Return the role of each op of both sides; projections that one side fuses are one role on the other, too."""
    sides = [side.trace.roles for side in (before, after)]
    part_of = {part: name for name, parts in FUSED.items() if name in {*sides[0], *sides[1]} for part in parts}
    return [[part_of.get(role, role) for role in side] for side in sides]


def _by_role(
    before: Estimate, after: Estimate, keep: FloatArray, sides_roles: list[list[str]], roles: tuple[str, ...]
) -> dict[str, FloatArray]:
    """Return what each role adds to each step, shape (*sweep, role) [s]."""
    members = [np.array([[role == each for each in roles] for role in side], np.float64) for side in sides_roles]

    def summed(side: Estimate, values: FloatArray) -> FloatArray:
        return np.asarray((values * side.trace.count) @ members[side is after])

    def ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
        return np.divide(top, bottom, out=np.zeros(np.broadcast(top, bottom).shape), where=bottom > 0)

    sides = (before, after)
    run, new = (summed(side, side.run) for side in sides)
    flops = [summed(side, side.trace.flops) for side in sides]
    size = [summed(side, side.trace.traffic) for side in sides]
    least = [summed(side, side.floor) for side in sides]
    smooth = [summed(side, side.cost_model.without_quantisation().predict(side.trace).run) for side in sides]
    work = np.where(flops[0] > 0, ratio(flops[1], flops[0]), ratio(size[1], size[0]))
    roof, even = ratio(least[1], least[0]), ratio(smooth[1], smooth[0])
    known = among(roles, sides_roles[0])
    touched = known & ~((run == new) & (work == 1.0) & (roof == 1.0))
    claims = bool(after.trace.applied)
    asked = np.stack(np.broadcast_arrays(*(claimed_share(after.trace, role) for role in roles)), axis=-1)
    left = asked if claims else work
    return {
        "not pruned": np.where(known & ~touched, (1.0 - keep) * run, 0.0),
        "removed here": np.where(touched, (left - keep) * run, 0.0),
        "rounding": np.where(touched, (work - left) * run, 0.0),
        "memory": np.where(touched, (roof - work) * run, 0.0),
        "efficiency": np.where(touched, (even - roof) * run, 0.0),
        "tiles and waves": np.where(touched, new - even * run, 0.0),
        "overhead ops": np.where(known, 0.0, new),
    }
