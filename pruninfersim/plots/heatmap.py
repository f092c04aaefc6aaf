"""Speedups as a heat map over any two columns: methods on GPUs, sparsity over context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim.errors import unknown_name
from pruninfersim.plots.curves import AXES, named
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


@door
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


@door
def heatmap_figure(
    info: HeatmapInfo | Any,
    label: str = "",
    title: str = "Estimated speedup",
    *,
    across: str = "hardware",
    down: str = "method",
    facet: str | None = None,
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
    facet : str, optional
        Column of the frame that decides the panel; default is one panel.

    Raises
    ------
    UnknownNameError
        If the frame has no such column.

    >>> info = HeatmapInfo(("static-width", "low-rank"), ("h100-sxm",), np.array([[1.85], [1.55]]))
    >>> [row[0] for row in heatmap_figure(info).data[0].text]
    ['1.85', '1.55']
    """
    case, panels = "", {"": info}
    if not isinstance(info, HeatmapInfo):
        rows = as_frame(info)
        if facet is not None and facet not in rows.columns:
            raise unknown_name("column", facet, rows.columns)
        parts = rows.groupby(facet, sort=False, observed=True) if facet else [("", rows)]
        panels = {named(facet or "", text_of(name)): heatmap_info(part, across, down) for name, part in parts}
        case = case_title(rows, [across, down])
    first = next(iter(panels.values()))
    averaged = dict.fromkeys(name for each in panels.values() for name in each.averaged)
    if averaged:
        mean = f"geometric mean over {' and '.join(averaged)}"
        case = f"{case}; {mean}" if case else mean
    names = {column: AXES.get(column, "") for column in (first.across, first.down)}
    fig = figure(titled(title, case), label or names[first.across], names[first.down], panels=list(panels))
    for column, each in enumerate(panels.values(), start=1):
        place: dict[str, Any] = {"row": 1, "col": column} if len(panels) > 1 else {}
        fig.add_heatmap(
            z=each.speedup,
            x=each.columns,
            y=each.methods,
            coloraxis="coloraxis",
            xgap=1,
            ygap=1,
            text=[["" if np.isnan(value) else f"{value:.2f}" for value in row] for row in each.speedup],
            texttemplate="%{text}",
            hovertemplate=f"{each.down} %{{y}}, {each.across} %{{x}}: %{{z:.3f}}<extra></extra>",
            **place,
        )
    fig.update_layout(coloraxis={"colorscale": "Cividis", "colorbar": {"title": "speedup [1]"}})
    # Numbers that are names of columns must not become an axis of numbers.
    fig.update_xaxes(type="category", showgrid=False)
    fig.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return fig
