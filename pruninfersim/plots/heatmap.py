"""Speedups of methods on GPUs as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import unknown_name
from pruninfersim.plots.style import figure

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


class HeatmapInfo(NamedTuple):
    """Geometric mean speedup, shape (method, column); the columns are GPUs if nobody asks for something else."""

    methods: tuple[str, ...]
    columns: tuple[str, ...]
    speedup: FloatArray


def heatmap_info(frame: pd.DataFrame, across: str = "hardware") -> HeatmapInfo:
    """Return the geometric mean of the estimated speedup over all axes of a sweep but the method and one more.

    Parameters
    ----------
    frame : DataFrame
        As `pruninfersim.sweep` returns it.
    across : str
        Column of the frame that goes from left to right: "hardware", "model", "context" or any other.

    Raises
    ------
    UnknownNameError
        If the frame has no such column.

    >>> from pruninfersim import Workload, sweep
    >>> frame = sweep(models="llama-3.1-8b", hardware=["h100-sxm", "l40s"], workloads=Workload.decode(), stacks="ideal")
    >>> heatmap_info(frame).speedup.shape
    (7, 2)
    """
    if across not in frame.columns:
        raise unknown_name("column", across, frame.columns)
    logs = np.log(frame["estimated_speedup"])
    table = logs.groupby([frame["method"], frame[across]], sort=False, observed=True).mean().unstack()
    # In the order of the frame, whatever the grouping made of it.
    table = table.loc[list(dict.fromkeys(frame["method"])), list(dict.fromkeys(frame[across]))]
    names = [f"{name:g}" if isinstance(name, float) else str(name) for name in table.columns]
    return HeatmapInfo(tuple(map(str, table.index)), tuple(names), np.exp(table.to_numpy(dtype=np.float64)))


def heatmap_figure(info: HeatmapInfo, label: str = "", title: str = "Estimated speedup") -> go.Figure:
    """Return the heat map, with the number in each cell; `label` names the horizontal axis.

    >>> info = HeatmapInfo(("static-width", "low-rank"), ("h100-sxm",), np.array([[1.85], [1.55]]))
    >>> [row[0] for row in heatmap_figure(info).data[0].text]
    ['1.85', '1.55']
    """
    fig = figure(title, label, "")
    fig.add_heatmap(
        z=info.speedup,
        x=info.columns,
        y=info.methods,
        colorscale="Cividis",
        xgap=1,
        ygap=1,
        text=[[f"{value:.2f}" for value in row] for row in info.speedup],
        texttemplate="%{text}",
        colorbar={"title": "speedup [1]"},
        hovertemplate="%{y} on %{x}: %{z:.3f}<extra></extra>",
    )
    # Numbers that are names of columns must not become an axis of numbers.
    fig.update_xaxes(type="category", showgrid=False)
    fig.update_yaxes(autorange="reversed", showgrid=False)
    return fig
