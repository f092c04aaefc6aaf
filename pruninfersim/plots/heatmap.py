"""Speedups of methods on GPUs as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pruninfersim._arrays import FloatArray
from pruninfersim.plots.style import figure

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


class HeatmapInfo(NamedTuple):
    """Geometric mean speedup, shape (method, hardware)."""

    methods: tuple[str, ...]
    hardware: tuple[str, ...]
    speedup: FloatArray


def heatmap_info(frame: pd.DataFrame) -> HeatmapInfo:
    """Return the geometric mean of the estimated speedup over all other axes of a sweep.

    >>> from pruninfersim import Workload, sweep
    >>> frame = sweep(models="llama-3.1-8b", hardware=["h100-sxm", "l40s"], workloads=Workload.decode(), stacks="ideal")
    >>> heatmap_info(frame).speedup.shape
    (7, 2)
    """
    logs = np.log(frame["estimated_speedup"])
    table = logs.groupby([frame["method"], frame["hardware"]], sort=False, observed=True).mean().unstack()
    return HeatmapInfo(
        tuple(map(str, table.index)), tuple(map(str, table.columns)), np.exp(table.to_numpy(dtype=np.float64))
    )


def heatmap_figure(info: HeatmapInfo, title: str = "Estimated speedup") -> go.Figure:
    """Return the heat map, with the number in each cell."""
    fig = figure(title, "", "")
    fig.add_heatmap(
        z=info.speedup,
        x=info.hardware,
        y=info.methods,
        colorscale="Cividis",
        text=[[f"{value:.2f}" for value in row] for row in info.speedup],
        texttemplate="%{text}",
        colorbar={"title": "speedup [1]"},
        hovertemplate="%{y} on %{x}: %{z:.3f}<extra></extra>",
    )
    fig.update_yaxes(autorange="reversed", showgrid=False)
    return fig
