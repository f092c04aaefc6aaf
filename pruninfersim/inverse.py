"""Questions asked backwards: where does a method start to win, how good must my kernel be, which width to take."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.optimize import brentq

from pruninfersim import models as model_registry
from pruninfersim import pruning
from pruninfersim._arrays import FloatArray, checked
from pruninfersim.comparison import Speedup, compare_estimates, estimate
from pruninfersim.cost import CostModel, scalar
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.stacks import default_logits
from pruninfersim.trace import OpTrace, trace, twins
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

Axis = Literal["sparsity", "batch", "context"]
#: Range that is searched where the caller gives none.
RANGES: dict[str, tuple[float, float]] = {"sparsity": (0.0, 0.95), "batch": (1, 1024), "context": (16, 131072)}
#: Points of the scan that brackets crossings before they are refined.
SCAN = 129
#: A width lies on an edge if the next one adds more than this many times its share of channels in time.
EDGE = 2.0
#: Fields of `Headroom` -> what each supposes, for its table.
HEADROOM = {
    "estimated": "all kernels run as this stack has them",
    "perfect_changed": "the kernels of the changed ops run at their roofline",
    "perfect_all": "every kernel runs at its roofline (the bound)",
    "amdahl": "the changed ops take no time but their launches",
}


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


def break_even(
    *,
    axis: Axis,
    method: str,
    against: str | None = None,
    model: str | ModelConfig,
    hardware: str | HardwareProfile,
    phase: str = "prefill",
    sparsity: float = 0.5,
    batch: float = 1,
    context: float = 1024,
    between: tuple[float, float] | None = None,
    stack: str | CostModel = "vendor",
    dtype: str | None = None,
) -> list[Crossing]:
    """Return where a method starts or stops to win against dense, or against another method.

    Parameters
    ----------
    axis : {"sparsity", "batch", "context"}
        What varies; the argument of that name is then ignored.
    method : str
    against : str, optional
        Another method at the same sparsity; default is the dense model.
    between : tuple of two floats, optional
        Range of the search, by default 0 to 0.95, 1 to 1024, 16 to 131072.
    model, hardware, phase, sparsity, batch, context, stack, dtype : as in `pruninfersim.speedup`

    Returns
    -------
    list of Crossing
        In increasing order; empty if one side wins throughout. The range is scanned at 129 points, so that two
        crossings closer than that may be missed.

    Raises
    ------
    UnknownNameError, InvalidInputError

    >>> found = break_even(axis="sparsity", method="dynamic-depth", model="llama-3.1-8b", hardware="h100-sxm",
    ...                    stack="ideal")
    >>> [(0 < c.value < 0.1, c.wins_above) for c in found]
    [(True, True)]
    """
    if axis not in RANGES:
        raise unknown_name("axis", axis, RANGES)
    low, high = between or RANGES[axis]
    fixed = {"sparsity": sparsity, "batch": batch, "context": context}
    config = model_registry.get(model)

    def lead(values: FloatArray) -> FloatArray:
        """ln of how much faster the method is than its rival."""
        at = fixed | {axis: values}
        workload = Workload.of(phase, at["batch"], at["context"], default_logits(stack))
        dense = trace(config, workload, dtype=dtype)

        def seconds(ops: OpTrace) -> FloatArray:
            return np.asarray(estimate(ops, hardware=hardware, stack=stack).latency)

        rival = dense if against is None else dense.prune(pruning.get(against, at["sparsity"]))
        return np.log(seconds(rival) / seconds(dense.prune(pruning.get(method, at["sparsity"]))))

    grid = np.linspace(low, high, SCAN) if axis == "sparsity" else np.unique(np.round(np.geomspace(low, high, SCAN)))
    leads = lead(grid)
    crossings = []
    for i in np.flatnonzero(np.sign(leads[:-1]) * np.sign(leads[1:]) < 0):
        refine = _root if axis == "sparsity" else _first_whole
        crossings.append(Crossing(refine(lead, grid[i], grid[i + 1]), bool(leads[i + 1] > 0)))
    return crossings


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


@dataclass(frozen=True, eq=False)
class Headroom:
    """What is left to gain for a pruned model.

    Attributes
    ----------
    estimated : float or ndarray, shape (*sweep)
        Speedup that the stack delivers [1].
    perfect_changed : float or ndarray
        If the kernels of the changed ops ran at their roofline, and the rest as it does [1].
    perfect_all : float or ndarray
        If every kernel ran at its roofline: the ``bound`` [1].
    amdahl : float or ndarray
        If the changed ops took no time but their launches: what the untouched part leaves [1].
    """

    estimated: FloatArray | float
    perfect_changed: FloatArray | float
    perfect_all: FloatArray | float
    amdahl: FloatArray | float

    def _repr_html_(self) -> str:
        if np.ndim(self.estimated):
            return f"<pre>{html.escape(repr(self))}</pre>"
        cells = "".join(
            f"<tr><th>{name}</th><td>{float(getattr(self, name)):.3f}</td><td>{meaning}</td></tr>"
            for name, meaning in HEADROOM.items()
        )
        return f"<table><caption>Speedup if</caption>{cells}</table>"


def max_speedup(
    dense: OpTrace, pruned: OpTrace, *, hardware: HardwareProfile | str, stack: str | CostModel = "vendor"
) -> Headroom:
    """Return what better kernels could still gain, and what the untouched part of the model forbids.

    Raises
    ------
    UnknownNameError, MissingValueError
        As `pruninfersim.estimate`.

    >>> from pruninfersim import Workload, pruning, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> room = max_speedup(dense, dense.prune(pruning.SemiStructured()), hardware="h100-sxm", stack="ideal")
    >>> bool(1.6 < room.perfect_changed < 1.7 < room.amdahl)
    True
    """
    result, rest, perfect = _split(dense, pruned, hardware, stack)
    total = np.asarray(result.dense.latency)
    return Headroom(
        result.estimated,
        scalar(np.asarray(total / (rest + perfect))),
        result.bound,
        scalar(np.divide(total, rest, out=np.full(rest.shape, np.inf), where=rest > 0)),
    )


def required_efficiency(
    target: float,
    dense: OpTrace,
    pruned: OpTrace,
    *,
    hardware: HardwareProfile | str,
    stack: str | CostModel = "vendor",
) -> FloatArray | float:
    """Return the share of its roofline that your kernel must reach for a target end-to-end speedup.

    "Your kernel" is every op that pruning changed or added; launch gaps and all other ops stay as the stack has them.

    Parameters
    ----------
    target : float
        Speedup wanted over the dense model [1].
    dense, pruned, hardware, stack : as in `pruninfersim.compare`

    Returns
    -------
    float or ndarray, shape (*sweep) [1]
        Above 1 where no kernel can do it, infinite where the untouched part alone takes too long.

    Raises
    ------
    InvalidInputError
        If the target is not positive.

    >>> from pruninfersim import Workload, pruning, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> pruned = dense.prune(pruning.SemiStructured())
    >>> 0.7 < required_efficiency(1.4, dense, pruned, hardware="h100-sxm", stack="ideal") < 0.85
    True
    """
    wanted = float(checked("target", target, minimum=1e-9))
    result, rest, perfect = _split(dense, pruned, hardware, stack)
    budget = np.asarray(result.dense.latency) / wanted - rest
    return scalar(np.where(budget > 0, perfect / np.where(budget > 0, budget, 1.0), np.inf))


def _split(
    dense: OpTrace, pruned: OpTrace, hardware: HardwareProfile | str, stack: str | CostModel
) -> tuple[Speedup, FloatArray, FloatArray]:
    """Return the comparison, the time that better kernels cannot touch, and the roofline of the changed ops [s]."""
    result = compare_estimates(*(estimate(side, hardware=hardware, stack=stack) for side in (dense, pruned)))
    after, changed = result.pruned, ~twins(dense, pruned)[0]
    gaps = after.trace.count * after.gap
    rest = np.where(changed, gaps, after.seconds).sum(axis=-1)
    return result, np.asarray(rest), np.asarray(np.where(changed, after.roofline_seconds, 0.0).sum(axis=-1))


def suggest_width(
    model: str | ModelConfig,
    workload: Workload,
    *,
    hardware: HardwareProfile | str,
    width: float,
    within: float = 0.1,
    step: int = 16,
    stack: str | CostModel = "vendor",
    dtype: str | None = None,
) -> pd.DataFrame:
    """Return FFN widths near a wanted one that fall on tile and wave edges, with what each buys.

    A width is worth naming if it is the last one before an edge: no larger one is as fast, and the next one costs more
    than twice its share of channels. Where time is smooth in the width (memory-bound decode) there is none, and only
    the wanted width comes back.

    Parameters
    ----------
    model : str or ModelConfig
    workload : Workload
        A single one.
    width : float
        Wanted FFN width [features].
    within : float
        Search from ``width * (1 - within)`` to ``width * (1 + within)`` [1].
    step : int
        Widths are multiples of this [features].

    Returns
    -------
    DataFrame
        Columns width, mlp_seconds (gate, up and down of all layers), change (of that time against the wanted
        width), channels (against it), sorted by width.

    Raises
    ------
    InvalidInputError
        If the workload is a sweep or the width is not positive.

    >>> table = suggest_width("llama-3.1-8b", Workload.prefill(1, 2048), hardware="h100-sxm", width=7168,
    ...                       within=0.02, stack="ideal")
    >>> bool(table.width.between(7168 * 0.98, 7168 * 1.02).all())
    True
    """
    import pandas as pd

    if workload.shape:
        raise InvalidInputError(f"give a single workload; this one is a sweep of shape {workload.shape}")
    wanted = float(checked("width", width, minimum=step))
    config = model_registry.get(model)
    first, last = np.ceil(wanted * (1 - within) / step), np.floor(wanted * (1 + within) / step)
    widths = np.unique(np.append(np.arange(max(first, 1), last + 1) * step, wanted))
    ops = trace(config, workload, dtype=dtype)
    mlp = ops.select(ops.mask(names=["gate", "up", "down"]))
    ffn_n, ffn_k = np.isin(mlp.n_axis, ["ffn"]), np.isin(mlp.k_axis, ["ffn"])
    wide = mlp.with_columns(n=np.where(ffn_n, widths[:, None], mlp.n), k=np.where(ffn_k, widths[:, None], mlp.k))
    seconds = np.asarray(estimate(wide, hardware=hardware, stack=stack).latency)
    later = np.minimum.accumulate(np.append(seconds[1:], np.inf)[::-1])[::-1]
    here = seconds[widths == wanted][0]
    frame = pd.DataFrame(
        {"width": widths, "mlp_seconds": seconds, "change": seconds / here - 1.0, "channels": widths / wanted - 1.0}
    )
    # The step after an edge costs more than its channels; the last width has no step to judge by.
    edge = np.append(seconds[1:] / seconds[:-1] - 1.0 > EDGE * (widths[1:] / widths[:-1] - 1.0), False)
    kept: pd.DataFrame = frame[(edge & (seconds < later)) | (widths == wanted)].reset_index(drop=True)
    return kept
