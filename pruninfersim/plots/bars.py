"""Speedups side by side as bars: GPUs, methods, models, with their intervals and bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.plots.curves import TELLING, named
from pruninfersim.plots.frames import as_frame
from pruninfersim.plots.style import COLOURS, case_title, figure, places, text_of, titled

if TYPE_CHECKING:
    import plotly.graph_objects as go


class BarInfo(NamedTuple):
    """Bars of one colour, arrays of shape (bar,)."""

    colour: str
    names: tuple[str, ...]
    estimated: FloatArray
    low: FloatArray
    high: FloatArray
    bound: FloatArray
    facet: str = ""


@door
def bars_info(
    frame: Any, across: str | None = None, *, colour: str | None = None, facet: str | None = None
) -> list[BarInfo]:
    """Return one bar per row of a frame.

    Parameters
    ----------
    frame : DataFrame or result
        As `pruninfersim.sweep` returns it; or a `Speedup` or `Speedups`.
    across : str, optional
        Column that names the bars; default is the GPU if there are several, else what differs.
    colour : str, optional
        Column that colours them; default is the method.
    facet : str, optional
        Column that decides the panel of a bar; default is one panel.

    Raises
    ------
    UnknownNameError
        If the frame has no such column.
    InvalidInputError
        If several rows would be one bar.

    >>> from pruninfersim import speedup
    >>> both = speedup(model="llama-3.1-8b", hardware=["l40s", "h100-sxm"], method="low-rank", sparsity=0.5,
    ...                stack="ideal")
    >>> [(info.colour, info.names) for info in bars_info(both)]
    [('low-rank', ('l40s', 'h100-sxm'))]
    >>> [info.facet for info in bars_info(both, facet="hardware")]
    ['l40s', 'h100-sxm']
    """
    rows = as_frame(frame)
    differing = [name for name in TELLING if name in rows.columns and rows[name].nunique() > 1]
    by = colour or "method"
    taken = (by, facet)
    along = across or next((name for name in ("hardware", *differing) if name in differing and name not in taken), by)
    for column in (by, along, facet):
        if column is not None and column not in rows.columns:
            raise unknown_name("column", column, rows.columns)
    left = [name for name in differing if name not in (by, along, facet)]
    names = [", ".join(text_of(row[name]) for name in (along, *left)) for row in rows.to_dict("records")]
    table = rows.assign(_bar=names, _panel=[named(facet, text_of(x)) for x in rows[facet]] if facet else "")
    if table.duplicated(["_bar", by, "_panel"]).any():
        raise InvalidInputError("several rows would be one bar; select some of them first")
    columns = ("estimated_speedup", "estimated_low", "estimated_high", "bound_speedup")
    bars = []
    groups: Any = table.groupby([by, "_panel"], sort=False, observed=True)
    for (key, panel), part in groups:
        estimated, low, high, bound = (part[name].to_numpy(dtype=float) for name in columns)
        bars.append(BarInfo(text_of(key), tuple(part["_bar"]), estimated, low, high, bound, panel))
    return bars


@door
def bars_figure(
    info: list[BarInfo] | Any,
    title: str = "Estimated speedup",
    *,
    across: str | None = None,
    colour: str | None = None,
    facet: str | None = None,
) -> go.Figure:
    """Return the bars, with 90 % intervals; the bound is a mark above each.

    Parameters
    ----------
    info : list of BarInfo, DataFrame, Speedup or Speedups
        What `bars_info` returns, or what it takes.
    title : str
        What the bars have in common comes below it.
    across, colour, facet : as in `bars_info`

    >>> info = [BarInfo("low-rank", ("l40s",), *(np.array([x]) for x in (1.5, 1.4, 1.6, 2.0)))]
    >>> [bar.name for bar in bars_figure(info).data]
    ['low-rank', 'bound']
    """
    case = ""
    if not (isinstance(info, list) and all(isinstance(part, BarInfo) for part in info)):
        frame = as_frame(info)
        info, case = bars_info(frame, across, colour=colour, facet=facet), case_title(frame)
    panels = list(dict.fromkeys(part.facet for part in info)) or [""]
    fig = figure(titled(title, case), "", "speedup over dense [1]", panels=panels, barmode="group")
    look = places(part.colour for part in info)
    told: set[str] = set()
    mark = 0.012 * float(max(part.bound.max() for part in info))
    for part in info:
        place: dict[str, Any] = {"row": 1, "col": panels.index(part.facet) + 1} if len(panels) > 1 else {}
        fig.add_bar(
            x=part.names,
            y=part.estimated,
            name=part.colour,
            offsetgroup=part.colour,
            legendgroup=part.colour,
            showlegend=part.colour not in told,
            marker_color=COLOURS[look[part.colour]],
            error_y={"array": part.high - part.estimated, "arrayminus": part.estimated - part.low, "color": "#444444"},
            customdata=np.column_stack([part.low, part.high, part.bound]),
            hovertemplate=f"{part.colour}, %{{x}}: %{{y:.2f}} (90 % %{{customdata[0]:.2f}} to %{{customdata[1]:.2f}}), "
            "bound %{customdata[2]:.2f}<extra></extra>",
            **place,
        )
        fig.add_bar(
            x=part.names,
            y=np.full(len(part.names), mark),
            base=part.bound,
            name="bound",
            offsetgroup=part.colour,
            legendgroup="bound",
            showlegend=not told,
            marker_color="#8a8a8a",
            customdata=part.bound,
            hovertemplate=f"{part.colour}, %{{x}}: bound %{{customdata:.2f}}<extra></extra>",
            **place,
        )
        told.add(part.colour)
    fig.add_hline(y=1.0, line_color="#444444", line_width=1, opacity=1.0)
    fig.update_xaxes(type="category", showgrid=False)
    fig.update_layout(showlegend=True)
    return fig
