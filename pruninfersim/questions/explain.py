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

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim import hardware as hardware_registry
from pruninfersim import stacks
from pruninfersim._util.arrays import FloatArray
from pruninfersim.cost import CostModel, Estimate, scalar
from pruninfersim.cost.speedups import claimed_share
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.questions.comparison import Speedup, compare_estimates
from pruninfersim.stacks import Stack
from pruninfersim.trace import OpTrace

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


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
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
        """Return one row per step of a single comparison: seconds added, running total, speedup so far."""
        import pandas as pd

        seconds = np.array([float(value) for value in self.steps.values()])
        total = np.cumsum(seconds)
        dense = float(self.speedup.dense.latency)
        return pd.DataFrame(
            {
                "step": list(self.steps),
                "seconds": seconds,
                "total_seconds": total,
                "speedup_so_far": dense / total,
                "meaning": [MEANING[step] for step in self.steps],
            }
        )

    def __str__(self) -> str:
        frame = self.to_frame()
        lines = [
            f"{step:>16}  {seconds * 1e3:+10.4f} ms  speedup {so_far:5.2f}  {MEANING[step]}"
            for step, seconds, so_far in zip(frame["step"], frame["seconds"], frame["speedup_so_far"], strict=True)
        ]
        bound = [f"{'':>16}  {note}" for note in self.speedup.notes if note.startswith("host-bound")]
        return "\n".join(lines + bound[:1])

    def __repr__(self) -> str:
        return f"<Explanation of {self.speedup!r}>"

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))


def explain(
    dense: OpTrace | Speedup,
    pruned: OpTrace | None = None,
    *,
    hardware: HardwareProfile | str | None = None,
    stack: str | Stack | CostModel = "vendor",
) -> Explanation:
    """Break the gap between 1/(1-s) and the estimated speedup into steps that add up exactly.

    Parameters
    ----------
    dense, pruned : OpTrace
        Or a `Speedup` alone, which has both sides, the GPU and the stack.
    hardware : HardwareProfile or str
    stack : str, callable or CostModel

    Raises
    ------
    UnknownNameError, MissingValueError
        As `pruninfersim.estimate`.
    InvalidInputError
        If traces come without a GPU, or a speedup with one.

    >>> from pruninfersim import Workload, pruning, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> why = explain(dense, dense.prune(pruning.LowRank(0.5)), hardware="h100-sxm", stack="ideal")
    >>> abs(sum(why.steps.values()) / why.speedup.pruned.latency - 1) < 1e-12
    True
    """
    result = _compared(dense, pruned, hardware, stack)
    before, after = result.dense, result.pruned
    keep = claimed_share(after.trace)
    roles = tuple(dict.fromkeys(before.trace.roles + after.trace.roles))
    by_role = _by_role(before, after, keep[..., None], roles)
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


def _compared(
    dense: OpTrace | Speedup,
    pruned: OpTrace | None,
    hardware: HardwareProfile | str | None,
    stack: str | Stack | CostModel,
) -> Speedup:
    if isinstance(dense, Speedup):
        if pruned is not None or hardware is not None:
            raise InvalidInputError("a Speedup has both sides and its GPU already: explain(speedup)")
        return dense
    if pruned is None or hardware is None:
        raise InvalidInputError("explain needs a dense trace, a pruned trace and hardware=..., or a Speedup")
    cost_model = stacks.get(stack, hardware_registry.get(hardware))
    return compare_estimates(cost_model.predict(dense), cost_model.predict(pruned))


def _by_role(before: Estimate, after: Estimate, keep: FloatArray, roles: tuple[str, ...]) -> dict[str, FloatArray]:
    """Return what each role adds to each step, shape (*sweep, role) [s]."""

    def summed(side: Estimate, values: FloatArray) -> FloatArray:
        member = np.array([[role == wanted for wanted in roles] for role in side.trace.roles], dtype=np.float64)
        return np.asarray((values * side.trace.count) @ member)

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
    known = np.isin(roles, before.trace.roles)
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
