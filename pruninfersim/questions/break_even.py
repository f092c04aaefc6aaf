"""Where does a method start, or stop, to win?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Never

import numpy as np
from scipy.optimize import brentq

from pruninfersim import pruning
from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.defaults import CONTEXT
from pruninfersim._util.doors import door
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError, shown, unknown_name
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.vocabulary import one_only
from pruninfersim.stacks import Stack
from pruninfersim.workload import Logits

Axis = Literal["sparsity", "batch", "context"]
#: Range that is searched where the caller gives none.
RANGES: dict[str, tuple[float, float]] = {"sparsity": (0.0, 0.95), "batch": (1, 1024), "context": (16, 131072)}
#: Points of the scan that brackets crossings before they are refined.
SCAN = 129
#: ln of a speedup that counts as none where the host sets both times.
TIE = 1e-9


@dataclass(frozen=True)
class Crossing:
    """A place where one side overtakes the other.

    Attributes
    ----------
    value : float
        Sparsity [1], batch [sequences] or context [tokens] at which it happens; whole numbers are the first value
        on the far side.
    wins_above : bool
        Whether the method wins above the value (True) or below it.
    """

    value: float
    wins_above: bool


class Crossings(list[Crossing]):
    """Where the winner changes, in increasing order, and who wins where nothing does.

    Attributes
    ----------
    winner : str
        Who wins throughout; empty where there is a crossing, and "neither" where both sides are equally fast.
    axis : str
    between : tuple of two floats
        Range that was searched.
    """

    def __init__(
        self, found: Iterable[Crossing], *, winner: str = "", axis: str = "", between: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        super().__init__(found)
        self.winner, self.axis, self.between = winner, axis, between

    def __repr__(self) -> str:
        if self:
            return super().__repr__()
        return f"[] ({self.winner} wins from {self.axis} {self.between[0]:g} to {self.between[1]:g})"


@door
def break_even(
    axis: Axis | None = None,
    *,
    method: Method | None = None,
    against: Method | None = None,
    model: str | ModelConfig | None = None,
    hardware: str | HardwareProfile | None = None,
    phase: str = "prefill",
    sparsity: float = 0.5,
    batch: float = 1,
    context: float = CONTEXT,
    between: tuple[float, float] | None = None,
    stack: str | Stack | CostModel = "vendor",
    dtype: str | None = None,
    logits: Logits | None = None,
    tp: int = 1,
    ep: int = 1,
    **other: Never,
) -> Crossings:
    """Return where a method starts or stops to win against dense, or against another method.

    Parameters
    ----------
    axis : {"sparsity", "batch", "context"}
        What varies; the argument of that name is then ignored.
    method : str, method object, or a sequence of them
        Names take the sparsity; along the axis "sparsity" there has to be one.
    against : the same, optional
        Another method, at the same sparsity if it is given by name; default is the dense model.
    between : tuple of two floats, optional
        Range of the search, by default 0 to 0.95, 1 to 1024, 16 to 131072.
    model, hardware, phase, sparsity, batch, context, stack, dtype, logits, tp, ep : as in `pruninfersim.speedup`

    Returns
    -------
    Crossings
        A list of `Crossing` in increasing order; empty if one side wins throughout: its ``winner`` says who. Where the
        host of an engine sets both times, the method does not win: the crossing is where the GPU becomes the slower
        one. The range is scanned at 129 points, so that two crossings closer than that may be missed.

    Raises
    ------
    UnknownNameError
        If a name is not known.
    InvalidInputError
        If something is missing, a list, or out of range; if `between` is empty or the wrong way round.

    >>> found = break_even("sparsity", method="dynamic-depth", model="llama-3.1-8b", hardware="h100-sxm",
    ...                    stack="ideal")
    >>> [(0 < c.value < 0.1, c.wins_above) for c in found]
    [(True, True)]
    >>> break_even("batch", method="static-width", model="llama-3.1-8b", hardware="h100-sxm", stack="ideal").winner
    'static-width'
    """
    refuse(break_even, other)
    if axis not in RANGES:
        raise unknown_name("axis", axis, RANGES)
    if method is None or model is None or hardware is None:
        raise InvalidInputError(
            f"break_even needs a model, a hardware and a method: break_even({shown(axis)}, model=...)"
        )
    one_only("break_even", model=model, hardware=hardware, phase=phase, stack=stack, dtype=dtype)
    low, high = between or RANGES[axis]
    if not low < high:
        raise InvalidInputError(f"between must be two numbers, the lower one first; got {shown(between)}")
    fixed = {"sparsity": sparsity, "batch": batch, "context": context}
    setup = Setup(model, hardware, stack, dtype, tp, ep)

    def lead(values: FloatArray) -> FloatArray:
        """ln of how much faster the method is than its rival."""
        at = fixed | {axis: values}
        dense = setup.trace(setup.workload(phase, at["batch"], at["context"], logits))
        ours, theirs = (
            None if rival is None else pruning.at(rival, pruning.Axis(at["sparsity"])) for rival in (method, against)
        )
        sides = (dense if rival is None else dense.prune(rival) for rival in (theirs, ours))
        before, after = (setup.estimate(side) for side in sides)
        leads = np.log(before.total / after.total)
        if before.chain is None or after.chain is None:
            return leads
        # A host that is behind makes a tie of both, exact but for rounding: nobody wins, and the end of it is found.
        behind = (before.chain.seconds > before.busy) & (after.chain.seconds > after.busy)
        return np.where(behind & (np.abs(leads) < TIE), -TIE, leads)

    grid = np.linspace(low, high, SCAN) if axis == "sparsity" else np.unique(np.round(np.geomspace(low, high, SCAN)))
    leads = lead(grid)
    crossings = []
    for i in np.flatnonzero(np.sign(leads[:-1]) * np.sign(leads[1:]) < 0):
        refine = _root if axis == "sparsity" else _first_whole
        crossings.append(Crossing(refine(lead, grid[i], grid[i + 1]), bool(leads[i + 1] > 0)))
    winner = "" if crossings else _winner(leads, method, against)
    return Crossings(crossings, winner=winner, axis=axis, between=(float(low), float(high)))


def _winner(leads: FloatArray, method: Method, against: Method | None) -> str:
    """Return who is ahead where the lead never changes hands."""
    if not np.any(leads):
        return "neither"
    rival = "dense" if against is None else pruning.at(against, 0.0).name
    return pruning.at(method, 0.0).name if leads.sum() > 0 else rival


def _root(lead: Any, low: float, high: float) -> float:
    return float(brentq(lambda x: float(lead(np.asarray(x))), low, high, xtol=1e-4))


def _first_whole(lead: Any, low: float, high: float) -> float:
    """Return the first whole number at which the sign is that of `high`."""
    candidates = np.arange(low + 1, high + 1)
    if len(candidates) > SCAN:  # bisect down to a range that can be scanned
        middle = float(np.floor((low + high) / 2))
        same = np.sign(float(lead(np.asarray(middle)))) == np.sign(float(lead(np.asarray(high))))
        return _first_whole(lead, low, middle) if same else _first_whole(lead, middle, high)
    leads = lead(candidates)
    return float(candidates[np.argmax(np.sign(leads) == np.sign(leads[-1]))])
