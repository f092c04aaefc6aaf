"""Roofline of a GPU with the ops of a trace on it, dense to pruned as arrows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pruninfersim._arrays import FloatArray
from pruninfersim.cost import Estimate
from pruninfersim.errors import InvalidInputError
from pruninfersim.plots.style import COLOURS, figure

if TYPE_CHECKING:
    import plotly.graph_objects as go


class RooflineInfo(NamedTuple):
    """Ops with FLOPs on a roofline, arrays of shape (op,)."""

    names: tuple[str, ...]
    intensity: FloatArray
    rate: FloatArray
    share: FloatArray
    peak: float
    bandwidth: float
    ridge: float
    hardware: str


def roofline_info(step: Estimate) -> RooflineInfo:
    """Return intensity [FLOP/B], rate [FLOP/s] and share of the time of the ops of a single pass.

    Raises
    ------
    InvalidInputError
        If the estimate is a sweep.

    >>> from pruninfersim import Workload, estimate, trace
    >>> info = roofline_info(estimate(trace("llama-3.1-8b", Workload.decode()), hardware="h100-sxm", stack="ideal"))
    >>> bool(info.intensity[info.names.index("up")] < 1.0 < info.ridge)
    True
    """
    if step.trace.sweep_shape:
        raise InvalidInputError(f"give the estimate of a single pass; this one is a sweep {step.trace.sweep_shape}")
    flops, size = step.trace.flops, step.trace.traffic
    working = (flops > 0) & (step.seconds > 0)
    dtype = step.trace.dtype[int(np.argmax(flops * step.trace.count))]
    peak, bandwidth = step.hardware.peak_flops(dtype), step.hardware.memory_bandwidth
    return RooflineInfo(
        tuple(name for name, used in zip(step.trace.name, working, strict=True) if used),
        (flops / size)[working],
        (flops * step.trace.count)[working] / step.seconds[working],
        step.seconds[working] / step.seconds.sum(),
        peak,
        bandwidth,
        peak / bandwidth,
        step.hardware.title,
    )


def roofline_figure(dense: RooflineInfo, pruned: RooflineInfo | None = None, title: str | None = None) -> go.Figure:
    """Return the roofline plot on log axes; with a pruned side, an arrow leads from each op to what it became."""
    fig = figure(title or f"Roofline of {dense.hardware}", "arithmetic intensity [FLOP/B]", "rate [FLOP/s]")
    points = np.concatenate([dense.intensity, [dense.ridge], *([pruned.intensity] if pruned else [])])
    x = np.geomspace(points.min() / 3.0, points.max() * 3.0, 100)
    fig.add_scatter(
        x=x, y=np.minimum(dense.peak, x * dense.bandwidth), name="roofline", mode="lines", line={"color": "#444444"}
    )
    sides = [("dense", dense, COLOURS[0], "circle")] + ([("pruned", pruned, COLOURS[1], "diamond")] if pruned else [])
    for label, side, colour, symbol in sides:
        fig.add_scatter(
            x=side.intensity,
            y=side.rate,
            name=label,
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8 + 30 * np.sqrt(side.share), "opacity": 0.75},
            text=side.names,
            customdata=side.share * 100.0,
            hovertemplate="%{text}: %{x:.3g} FLOP/B, %{y:.3g} FLOP/s, %{customdata:.1f} % of the time",
        )
    if pruned is not None:
        for i, name in enumerate(dense.names):
            if name in pruned.names:
                j = pruned.names.index(name)
                fig.add_annotation(
                    x=np.log10(pruned.intensity[j]), y=np.log10(pruned.rate[j]),
                    ax=np.log10(dense.intensity[i]), ay=np.log10(dense.rate[i]),
                    xref="x", yref="y", axref="x", ayref="y", showarrow=True, arrowhead=2,
                    arrowcolor="#888888", text="",
                )  # fmt: skip
    fig.update_xaxes(type="log")
    fig.update_yaxes(type="log")
    return fig
