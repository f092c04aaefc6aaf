"""Speedups as a heat map over any two columns: methods on GPUs, sparsity over context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import unknown_name
from pruninfersim.plots.curves import AXES
from pruninfersim.plots.frames import as_frame
from pruninfersim.plots.style import LABELS, case_title, figure, text_of, titled

if TYPE_CHECKING:
    import plotly.graph_objects as go


class HeatmapInfo(NamedTuple):
    """Speedups, shape (row, column); `averaged` names what a cell is the geometric mean over."""

    methods: tuple[str, ...]
    columns: tuple[str, ...]
    speedup: FloatArray
    down: str = "method"
    across: str = "hardware"
    averaged: tuple[str, ...] = ()


def heatmap_info(frame: Any, across: str = "hardware", down: str = "method") -> HeatmapInfo:
    """Return the estimated speedup over two columns of a sweep.

    Parameters
    ----------
    frame : DataFrame or result
        As `pruninfersim.sweep` returns it; or a `Speedup` or `Speedups`.
    across, down : str
        Columns of the frame that go from left to right and from top to bottom: "hardware", "context", "sparsity" ...

    Returns
    -------
    HeatmapInfo
        Where several rows share a cell it holds their geometric mean, and ``averaged`` the columns that they differ in,
        which the figure says.

    Raises
    ------
    UnknownNameError
        If the frame has no such column.

    >>> from pruninfersim import sweep
    >>> frame = sweep(model="llama-3.1-8b", hardware="h100-sxm", phase="decode", method="low-rank", stack="ideal",
    ...               sparsity=[0.25, 0.5], context=[1024, 8192, 65536])
    >>> info = heatmap_info(frame, "context", "sparsity")
    >>> info.columns, info.methods, info.averaged
    (('1024', '8192', '65536'), ('0.25', '0.5'), ())
    """
    rows = as_frame(frame)
    for column in (across, down):
        if column not in rows.columns:
            raise unknown_name("column", column, rows.columns)
    cells = rows.assign(logs=np.log(rows["estimated_speedup"])).groupby([down, across], sort=False, observed=True)
    table = cells["logs"].mean().unstack()
    # In the order of the frame, whatever the grouping made of it.
    table = table.loc[list(dict.fromkeys(rows[down])), list(dict.fromkeys(rows[across]))]
    others = [name for name in LABELS if name in rows.columns and name not in (across, down)]
    several = int(cells.size().max()) > 1
    averaged = [name for name in others if int(cells[name].nunique().max()) > 1] if several else []
    return HeatmapInfo(
        tuple(map(text_of, table.index)),
        tuple(map(text_of, table.columns)),
        np.exp(table.to_numpy(dtype=np.float64)),
        down,
        across,
        tuple(averaged) or (("rows",) if several else ()),
    )


def heatmap_figure(
    info: HeatmapInfo | Any,
    label: str = "",
    title: str = "Estimated speedup",
    *,
    across: str = "hardware",
    down: str = "method",
) -> go.Figure:
    """Return the heat map, with the number in each cell.

    Parameters
    ----------
    info : HeatmapInfo, DataFrame, Speedup or Speedups
        What `heatmap_info` returns, or what it takes.
    label : str
        Name of the horizontal axis; default is that of the column.
    title : str
        What the cells have in common comes below it, and what they are the mean over.
    across, down : as in `heatmap_info`

    >>> info = HeatmapInfo(("static-width", "low-rank"), ("h100-sxm",), np.array([[1.85], [1.55]]))
    >>> [row[0] for row in heatmap_figure(info).data[0].text]
    ['1.85', '1.55']
    """
    case = ""
    if not isinstance(info, HeatmapInfo):
        rows = as_frame(info)
        info = heatmap_info(rows, across, down)
        case = case_title(rows, [info.across, info.down])
    if info.averaged:
        mean = f"geometric mean over {' and '.join(info.averaged)}"
        case = f"{case}; {mean}" if case else mean
    names = {column: AXES.get(column, "") for column in (info.across, info.down)}
    fig = figure(titled(title, case), label or names[info.across], names[info.down])
    fig.add_heatmap(
        z=info.speedup,
        x=info.columns,
        y=info.methods,
        colorscale="Cividis",
        xgap=1,
        ygap=1,
        text=[["" if np.isnan(value) else f"{value:.2f}" for value in row] for row in info.speedup],
        texttemplate="%{text}",
        colorbar={"title": "speedup [1]"},
        hovertemplate=f"{info.down} %{{y}}, {info.across} %{{x}}: %{{z:.3f}}<extra></extra>",
    )
    # Numbers that are names of columns must not become an axis of numbers.
    fig.update_xaxes(type="category", showgrid=False)
    fig.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return fig
