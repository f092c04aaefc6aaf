"""Speedup along an axis: sparsity, batch or context, with interval bands."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.plots.style import COLOURS, DASHES, SYMBOLS, figure, translucent

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: Axes of a sweep -> label with unit.
AXES = {"sparsity": "sparsity [1]", "batch": "batch [sequences]", "context": "context [tokens]"}

#: Up to this many points of a logarithmic axis get a tick each.
MOST_TICKS = 12


class CurveInfo(NamedTuple):
    """One line of a speedup plot, each array of shape (point,)."""

    method: str
    x: FloatArray
    estimated: FloatArray
    low: FloatArray
    high: FloatArray
    bound: FloatArray
    claim: FloatArray


def curve_info(frame: pd.DataFrame, axis: str = "sparsity") -> list[CurveInfo]:
    """Return the lines of a speedup plot, one per method, from a frame that `pruninfersim.sweep` made.

    Raises
    ------
    UnknownNameError
        If the axis is not sparsity, batch or context.
    InvalidInputError
        If the frame has several points per method at one place of the axis.

    >>> from pruninfersim import Workload, sweep
    >>> frame = sweep(models="llama-3.1-8b", hardware="h100-sxm", workloads=Workload.decode(),
    ...               methods="static-depth", sparsity=[0, 0.25, 0.5], stacks="ideal")
    >>> curve_info(frame)[0].estimated.round(2).tolist()
    [1.0, 1.3, 1.87]
    """
    if axis not in AXES:
        raise unknown_name("axis", axis, AXES)
    lines = []
    for method, rows in frame.groupby("method", sort=False, observed=True):
        ordered = rows.sort_values(axis)
        x = ordered[axis].to_numpy(dtype=float)
        if len(np.unique(x)) != len(x):
            raise InvalidInputError(
                f"several rows of {method} share a {axis}; select one model, GPU and workload first"
            )
        columns = ("estimated_speedup", "estimated_low", "estimated_high", "bound_speedup", "claim")
        lines.append(CurveInfo(str(method), x, *(ordered[name].to_numpy(dtype=float) for name in columns)))
    return lines


def curve_figure(info: list[CurveInfo], axis: str = "sparsity", title: str = "Speedup of pruned models") -> go.Figure:
    """Return the plot: estimates with 90 % bands, the usual claim 1/(1-s) in grey, bounds in the hover text.

    >>> from pruninfersim import Workload, sweep
    >>> frame = sweep(models="llama-3.1-8b", hardware="h100-sxm", workloads=Workload.decode(),
    ...               methods="static-depth", sparsity=[0, 0.25, 0.5], stacks="ideal")
    >>> [line.name for line in curve_figure(curve_info(frame)).data if line.name]
    ['1/(1-s)', 'static-depth']
    """
    fig = figure(title, AXES[axis], "speedup over dense [1]")
    if axis == "sparsity" and info:
        longest = max(info, key=lambda line: len(line.x))
        fig.add_scatter(
            x=longest.x,
            y=longest.claim,
            name="1/(1-s)",
            mode="lines",
            line={"color": "#8a8a8a", "dash": "dash"},
            hovertemplate="sparsity %{x:.3g}: claim %{y:.2f}<extra></extra>",
        )
    for i, line in enumerate(info):
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
        fig.add_scatter(
            x=np.concatenate([line.x, line.x[::-1]]),
            y=np.concatenate([line.high, line.low[::-1]]),
            fill="toself",
            fillcolor=translucent(colour),
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=line.method,
        )
        fig.add_scatter(
            x=line.x,
            y=line.estimated,
            name=line.method,
            legendgroup=line.method,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 7},
            customdata=np.column_stack([line.low, line.high, line.bound]),
            hovertemplate=f"{line.method}, {axis} %{{x}}: %{{y:.2f}} "
            "(90 % %{customdata[0]:.2f} to %{customdata[1]:.2f}), bound %{customdata[2]:.2f}<extra></extra>",
        )
    fig.add_hline(y=1.0, line_color="#444444", line_width=1, opacity=1.0)
    if axis != "sparsity":
        fig.update_xaxes(type="log")
        places = sorted({float(x) for line in info for x in line.x})
        if len(places) <= MOST_TICKS:  # name the points that were asked for, not powers of ten
            fig.update_xaxes(tickmode="array", tickvals=places, ticktext=[f"{x:g}" for x in places])
    return fig
