"""Where the time goes, op by op, dense beside pruned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pruninfersim import ops
from pruninfersim._util.doors import door
from pruninfersim.cost import Estimate
from pruninfersim.errors import InvalidInputError
from pruninfersim.ops import PARTS
from pruninfersim.plots.style import COLOURS, figure, titled
from pruninfersim.questions.comparison import Speedup
from pruninfersim.questions.table import methods_of

if TYPE_CHECKING:
    import plotly.graph_objects as go


class BreakdownInfo(NamedTuple):
    """Time per part of a pass [ms]; launch gaps are a part of their own."""

    label: str
    milliseconds: dict[str, float]


@door
def breakdown_info(step: Estimate, label: str = "dense") -> BreakdownInfo:
    """Return the time of each part of a single pass; the parts add up to the latency [ms].

    Raises
    ------
    InvalidInputError
        If the estimate is a sweep.

    >>> from pruninfersim import Workload, estimate, trace
    >>> step = estimate(trace("llama-3.1-8b", Workload.decode()), hardware="h100-sxm", stack="ideal")
    >>> abs(sum(breakdown_info(step).milliseconds.values()) - step.latency * 1e3) < 1e-9
    True
    """
    if step.trace.sweep_shape:
        raise InvalidInputError(f"give the estimate of a single pass; this one is a sweep {step.trace.sweep_shape}")
    total = dict.fromkeys([*PARTS, "launch gaps"], 0.0)
    for key, run, count in zip(step.trace.kernel, step.run, step.trace.count, strict=True):
        total[ops.get(key).part] += float(run * count) * 1e3
    total["launch gaps"] = float((step.gap * step.trace.count).sum()) * 1e3
    return BreakdownInfo(label, {part: value for part, value in total.items() if value > 0})


@door
def breakdown_figure(
    sides: Sequence[BreakdownInfo | Estimate] | BreakdownInfo | Estimate | Speedup,
    title: str = "Where the time goes",
    *,
    case: str = "",
) -> go.Figure:
    """Return stacked bars, one per pass: of what `breakdown_info` returns, of estimates, or of a `Speedup`.

    Parameters
    ----------
    sides : list of BreakdownInfo or Estimate, or a Speedup
    title, case : str
        The case comes below the title.

    >>> sides = [BreakdownInfo("dense", {"GEMM": 3.0, "attention": 1.0}), BreakdownInfo("pruned", {"GEMM": 1.5})]
    >>> [(bar.name, bar.x) for bar in breakdown_figure(sides).data]
    [('GEMM', (3.0, 1.5)), ('attention', (1.0, 0.0))]
    """
    if isinstance(sides, Speedup):
        sides = [sides.dense, sides.pruned]
    elif isinstance(sides, BreakdownInfo | Estimate):
        sides = [sides]
    bars = [
        side if isinstance(side, BreakdownInfo) else breakdown_info(side, methods_of(side.trace) or "dense")
        for side in sides
    ]
    fig = figure(titled(title, case), "time [ms]", "", barmode="stack")
    patterns = ("", "/", "x", ".", "-", "+", "|", "\\")
    for i, part in enumerate([*PARTS, "launch gaps"]):
        values = [side.milliseconds.get(part, 0.0) for side in bars]
        if any(values):
            fig.add_bar(
                y=[side.label for side in bars],
                x=values,
                name=part,
                orientation="h",
                marker={"color": COLOURS[i % len(COLOURS)], "pattern": {"shape": patterns[i]}},
                hovertemplate=part + ": %{x:.4g} ms<extra>%{y}</extra>",
            )
    fig.update_layout(legend_traceorder="normal")
    fig.update_yaxes(autorange="reversed", showgrid=False)
    return fig
