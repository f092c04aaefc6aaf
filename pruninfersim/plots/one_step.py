"""One step from a result to its figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim._util.doors import door
from pruninfersim.calibration.record import Calibration
from pruninfersim.cost import Estimate
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.plots.bars import bars_figure
from pruninfersim.plots.breakdown import breakdown_figure, breakdown_info
from pruninfersim.plots.calibration import calibration_figure
from pruninfersim.plots.curves import AXES, curve_figure
from pruninfersim.plots.frames import as_frame
from pruninfersim.plots.frontier import frontier_figure
from pruninfersim.plots.heatmap import heatmap_figure
from pruninfersim.plots.recommendation import recommendation_figure
from pruninfersim.plots.roofline import roofline_figure
from pruninfersim.plots.sites import sites_figure
from pruninfersim.plots.waterfall import waterfall_figure
from pruninfersim.plots.who_wins import who_wins_figure
from pruninfersim.questions.comparison import Speedup
from pruninfersim.questions.explain import Explanation
from pruninfersim.questions.pareto import Frontier
from pruninfersim.questions.recommendation import Recommendation
from pruninfersim.questions.several import Speedups
from pruninfersim.questions.sites import Sites
from pruninfersim.questions.table import case_of, methods_of
from pruninfersim.questions.who_wins import WhoWins

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Figures of one pass, and figures of several.
SINGLE = ("waterfall", "breakdown", "roofline")
MANY = ("bars", "curve", "heatmap")
#: Results of one figure of their own: its name and what draws it.
OWN: dict[type, tuple[str, Callable[..., go.Figure]]] = {
    Calibration: ("calibration", calibration_figure),
    Frontier: ("frontier", frontier_figure),
    Recommendation: ("recommendation", recommendation_figure),
    Sites: ("sites", sites_figure),
    WhoWins: ("who wins", who_wins_figure),
}


@door
def plot(what: Any, kind: str | None = None, **options: Any) -> go.Figure:
    """Return the figure of a result, a frame, an explanation, an estimate, a calibration or a frontier.

    Parameters
    ----------
    what : Speedup, Speedups, DataFrame, Explanation, Estimate, Calibration, Frontier, Recommendation, Sites or WhoWins
        A frame is that of `pruninfersim.sweep` or ``to_frame()``.
    kind : {"waterfall", "breakdown", "roofline", "bars", "curve", "heatmap", "calibration", "frontier", ...}, optional
        Default: the waterfall of a comparison, the breakdown of an estimate, the curve of results along one axis, the
        heat map of those along two, bars where nothing is an axis.
    **options
        Of the figure: `axis`, `colour`, `facet` of curves, `across`, `down`, `facet` of heat maps, `across`, `colour`,
        `facet` of bars, `title`.

    Raises
    ------
    UnknownNameError
        If there is no such kind.
    InvalidInputError
        If the kind does not fit: a waterfall of a sweep, a curve of a single comparison.

    >>> from pruninfersim import speedup
    >>> result = speedup(model="llama-3.1-8b", hardware="h100-sxm", method="low-rank", sparsity=0.5, stack="ideal")
    >>> plot(result).data[0].type, plot(result, "roofline").data[0].name
    ('waterfall', 'roofline')
    """
    known = (*SINGLE, *MANY, *(name for name, _ in OWN.values()))
    if kind is not None and kind not in known:
        raise unknown_name("kind of figure", kind, known)
    for own, (only, figure) in OWN.items():
        if kind is not None and isinstance(what, own) != (kind == only):
            raise InvalidInputError(f"the kind {only!r} is that of a {own.__name__}, which has no other")
        if isinstance(what, own):
            return figure(what, **options)
    if isinstance(what, Estimate):
        return _of_estimate(what, kind or "breakdown", options)
    if isinstance(what, Explanation):
        what = what.speedup
        kind = kind or "waterfall"
    if isinstance(what, Speedups) and len(what) == 1:
        what = what[0]
    alone = isinstance(what, Speedup) and not np.ndim(what.estimated)
    if kind in SINGLE or (kind is None and alone):
        return _of_comparison(what, kind or "waterfall", alone, options)
    return _of_rows(as_frame(what), kind, options)


def _of_estimate(step: Estimate, kind: str, options: dict[str, Any]) -> go.Figure:
    case = case_of(step.trace, step.hardware, step.stack)
    if kind == "roofline":
        return roofline_figure(step, **options)
    if kind == "breakdown":
        return breakdown_figure([breakdown_info(step, methods_of(step.trace) or "dense")], **_case(options, case))
    raise InvalidInputError(f"an estimate has a breakdown and a roofline, no {kind}; a Speedup has one")


def _of_comparison(what: Any, kind: str, alone: bool, options: dict[str, Any]) -> go.Figure:
    if not alone:
        shape = np.shape(what.estimated) if isinstance(what, Speedup) else ()
        take = f"result.at({', '.join('0' * len(shape))})" if shape else "results[0]"
        raise InvalidInputError(f"a {kind} shows one comparison; take one first: {take}.plot({kind!r})")
    if kind == "waterfall":
        return waterfall_figure(what.explain(), **options)
    if kind == "roofline":
        return roofline_figure(what.dense, what.pruned, **options)
    case = case_of(what.dense.trace, what.hardware, what.stack)
    both = (what.dense.trace, what.pruned.trace)
    names = [methods_of(ops) or (ops.model.name if ops.model else "dense") for ops in both]
    if what.pruned.trace.applied:
        names[0] = "dense"
    sides = [breakdown_info(what.dense, names[0]), breakdown_info(what.pruned, names[1])]
    return breakdown_figure(sides, **_case(options, case))


def _case(options: dict[str, Any], case: str) -> dict[str, Any]:
    return {"case": case} | options


def _of_rows(frame: Any, kind: str | None, options: dict[str, Any]) -> go.Figure:
    varying = [name for name in AXES if name in frame.columns and frame[name].nunique() > 1]
    lines = len(frame.drop_duplicates([name for name in ("model", "hardware", "stack", "method", "phase", "dtype")
                                       if name in frame.columns]))  # fmt: skip
    if kind is None:
        crossed = len(varying) >= 2 and lines == 1
        kind = "bars" if not varying or len(frame) == lines else "heatmap" if crossed else "curve"
    if kind == "bars":
        return bars_figure(frame, **options)
    if kind == "heatmap":
        pair = {"across": varying[1], "down": varying[0]} if len(varying) >= 2 and lines == 1 else {}
        return heatmap_figure(frame, **(pair | options))
    if not varying and "axis" not in options:
        raise InvalidInputError(
            "a curve needs an axis; give sparsity, batch or context as a list, for instance sparsity=[0.25, 0.5]"
        )
    return curve_figure(frame, **({"axis": varying[0] if varying else "sparsity"} | options))
