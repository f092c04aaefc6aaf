"""Speedup along an axis: sparsity, batch, context or any other column, with interval bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.plots.frames import as_frame
from pruninfersim.plots.style import COLOURS, DASHES, SYMBOLS, case_title, figure, places, text_of, titled, translucent

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: Axes of a sweep -> label with unit.
AXES = {"sparsity": "sparsity [1]", "batch": "batch [sequences]", "context": "context [tokens]"}
#: Columns that tell lines apart, in the order in which a line is named after them.
TELLING = ("method", "hardware", "model", "stack", "dtype", "phase", "batch", "context", "sparsity")
#: Height of a line of the legend of lines [px]; plotly cuts what is taller than the plot.
ENTRY = 32
#: Up to this many points of a logarithmic axis get a tick each.
MOST_TICKS = 12


class CurveInfo(NamedTuple):
    """One line of a speedup plot, each array of shape (point,); `colour` and `facet` are what it is sorted by."""

    method: str
    x: FloatArray
    estimated: FloatArray
    low: FloatArray
    high: FloatArray
    bound: FloatArray
    claim: FloatArray
    label: str = ""
    colour: str = ""
    facet: str = ""


@door
def curve_info(
    frame: Any, axis: str = "sparsity", *, colour: str | None = None, facet: str | None = None
) -> list[CurveInfo]:
    """Return the lines of a speedup plot: one per method, GPU, model or whatever else differs in a frame.

    Parameters
    ----------
    frame : DataFrame or result
        As `pruninfersim.sweep` makes it; or a `Speedup` or `Speedups` with a sweep in it.
    axis : str
        "sparsity", "batch" or "context".
    colour : str, optional
        Column that decides the colour of a line; default is the method, or what differs if all have one method.
    facet : str, optional
        Column that decides the panel of a line; default is one panel.

    Raises
    ------
    UnknownNameError
        If the axis is not sparsity, batch or context, or the frame has no such column.
    InvalidInputError
        If the frame has several rows for the same point of the same line.

    >>> from pruninfersim import sweep
    >>> frame = sweep(model="llama-3.1-8b", hardware=["h100-sxm", "l40s"], phase="decode", methods="static-depth",
    ...               sparsity=[0, 0.25, 0.5], stack="ideal")
    >>> [(line.label, line.estimated.round(2).tolist()) for line in curve_info(frame)]
    [('h100-sxm', [1.0, 1.3, 1.87]), ('l40s', [1.0, 1.3, 1.87])]
    """
    if axis not in AXES:
        raise unknown_name("axis", axis, AXES)
    rows = as_frame(frame)
    for column in (colour, facet):
        if column is not None and column not in rows.columns:
            raise unknown_name("column", column, rows.columns)
    keys = _keys(rows, axis, [name for name in (facet, colour) if name])
    names = [name for name in keys if name != facet and rows[name].nunique() > 1]
    by = colour or next(iter(names), "method")
    lines = []
    groups: Any = rows.groupby(keys, sort=False, observed=True) if keys else [((), rows)]
    for _, part in groups:
        ordered = part.sort_values(axis)
        x = ordered[axis].to_numpy(dtype=float)
        first = {name: text_of(ordered[name].iloc[0]) for name in dict.fromkeys([*keys, by, "method"]) if name in part}
        label = ", ".join(named(name, first[name]) for name in names) or first.get("method", "")
        if len(np.unique(x)) != len(x):
            raise InvalidInputError(
                f"several rows of {label} share a {axis}, and nothing in the frame tells them apart; select some first"
            )
        columns = ("estimated_speedup", "estimated_low", "estimated_high", "bound_speedup", "claim")
        numbers = (ordered[name].to_numpy(dtype=float) for name in columns)
        line = CurveInfo(first.get("method", ""), x, *numbers)
        lines.append(line._replace(label=label, colour=first[by], facet=named(facet, first[facet]) if facet else ""))
    return lines


def _keys(rows: pd.DataFrame, axis: str, first: list[str]) -> list[str]:
    """Return the columns that tell lines apart, those left out that follow from the ones before."""
    keys = list(dict.fromkeys(first))
    count = rows.groupby(keys, observed=True).ngroups if keys else 1
    for name in TELLING:
        if name == axis or name in keys or name not in rows.columns:
            continue
        more = rows.groupby([*keys, name], observed=True).ngroups
        if more > count:
            keys, count = [*keys, name], more
    return keys


def named(column: str, value: str) -> str:
    """Return a value with the name of its column where it would not be understood without.

    >>> named("context", "4096"), named("hardware", "l40s")
    ('context 4096', 'l40s')
    """
    return f"{column} {value}" if column in AXES else value


@door
def curve_figure(
    info: Sequence[CurveInfo] | Any,
    axis: str = "sparsity",
    title: str = "Speedup of pruned models",
    *,
    colour: str | None = None,
    facet: str | None = None,
) -> go.Figure:
    """Return the plot: estimates with 90 % bands, the usual claim 1/(1-s) in grey, bounds in the hover text.

    Parameters
    ----------
    info : list of CurveInfo, DataFrame, Speedup or Speedups
        What `curve_info` returns, or what it takes.
    axis, colour, facet : as in `curve_info`
    title : str
        The case that all lines have in common comes below it.

    >>> from pruninfersim import sweep
    >>> frame = sweep(model="llama-3.1-8b", hardware="h100-sxm", phase="decode", methods="static-depth",
    ...               sparsity=[0, 0.25, 0.5], stack="ideal")
    >>> figure = curve_figure(frame)
    >>> [line.name for line in figure.data if line.name], "on h100-sxm" in figure.layout.title.text
    (['1/(1-s)', 'static-depth'], True)
    """
    case = ""
    if not (isinstance(info, list) and all(isinstance(line, CurveInfo) for line in info)):
        frame = as_frame(info)
        info, case = curve_info(frame, axis, colour=colour, facet=facet), case_title(frame, [axis])
    elif axis not in AXES:
        raise unknown_name("axis", axis, AXES)
    panels = list(dict.fromkeys(line.facet for line in info)) or [""]
    fig = figure(titled(title, case), AXES[axis], "speedup over dense [1]", panels=panels)
    look = _looks(info)
    for column, panel in enumerate(panels, start=1):
        place: dict[str, Any] = {"row": 1, "col": column} if len(panels) > 1 else {}
        lines = [line for line in info if line.facet == panel]
        if axis == "sparsity" and lines:
            longest = max(lines, key=lambda line: len(line.x))
            fig.add_scatter(
                x=longest.x, y=longest.claim, name="1/(1-s)", mode="lines", legendgroup="claim",
                showlegend=column == 1, line={"color": "#8a8a8a", "dash": "dash"},
                hovertemplate="sparsity %{x:.3g}: claim %{y:.2f}<extra></extra>", **place,
            )  # fmt: skip
        for line in lines:
            _draw(fig, line, axis, look, first=line.facet == panels[0], place=place)
    fig.add_hline(y=1.0, line_color="#444444", line_width=1, opacity=1.0)
    shown = sum(trace.showlegend is not False for trace in fig.data)
    fig.update_layout(height=max(fig.layout.height, fig.layout.margin.t + fig.layout.margin.b + ENTRY * shown))
    if axis != "sparsity":
        fig.update_xaxes(type="log")
        spots = sorted({float(x) for line in info for x in line.x})
        if len(spots) <= MOST_TICKS:  # name the points that were asked for, not powers of ten
            fig.update_xaxes(tickmode="array", tickvals=spots, ticktext=[f"{x:g}" for x in spots])
    return fig


def _looks(info: Sequence[CurveInfo]) -> dict[str, tuple[str, str, str]]:
    """Return colour, dash and marker of each label: colours by what lines are sorted by, the rest tells them apart."""
    colours = places(line.colour or line.method for line in info)
    same: dict[str, list[str]] = {}
    for line in info:
        members = same.setdefault(line.colour or line.method, [])
        name = line.label or line.method
        if name not in members:
            members.append(name)
    out = {}
    for key, members in same.items():
        for nth, name in enumerate(members):
            place = colours[key] + nth if len(members) > 1 else colours[key]
            out[name] = (
                COLOURS[colours[key] % len(COLOURS)], DASHES[place % len(DASHES)], SYMBOLS[place % len(SYMBOLS)],
            )  # fmt: skip
    return out


def _draw(
    fig: go.Figure,
    line: CurveInfo,
    axis: str,
    look: dict[str, tuple[str, str, str]],
    *,
    first: bool,
    place: dict[str, Any],
) -> None:
    name = line.label or line.method
    colour, dash, symbol = look[name]
    fig.add_scatter(
        x=np.concatenate([line.x, line.x[::-1]]),
        y=np.concatenate([line.high, line.low[::-1]]),
        fill="toself",
        fillcolor=translucent(colour),
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
        **place,
    )
    fig.add_scatter(
        x=line.x,
        y=line.estimated,
        name=name,
        legendgroup=name,
        showlegend=first,
        mode="lines+markers",
        line={"color": colour, "dash": dash},
        marker={"symbol": symbol, "size": 7},
        customdata=np.column_stack([line.low, line.high, line.bound]),
        hovertemplate=f"{name}, {axis} %{{x}}: %{{y:.2f}} "
        "(90 % %{customdata[0]:.2f} to %{customdata[1]:.2f}), bound %{customdata[2]:.2f}<extra></extra>",
        **place,
    )
