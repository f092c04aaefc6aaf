"""The figure of a view, made by the figures of `pruninfersim.plots`, and the point behind a click on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pruninfersim import plots
from pruninfersim.app import answers
from pruninfersim.app.answers import Point, focus
from pruninfersim.app.state import State
from pruninfersim.plots.style import COLOURS, places
from pruninfersim.questions.hardware_ranking import DENSE

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: Height of a figure [px].
HEIGHT = 460


class Shown(NamedTuple):
    """A figure, what it is about, how to read it, what it could not show, and its rows if they say more than it."""

    figure: go.Figure
    title: str
    caption: str
    left_out: tuple[str, ...] = ()
    frame: pd.DataFrame | None = None


def shown(state: State) -> Shown:
    """Return the figure of the view of a state; errors as the questions of `pruninfersim.app.answers`.

    >>> shown(State(view="roofline")).title
    'Roofline: static-width@0.5 on h100-sxm'
    """
    made = VIEWS[state.view](state)
    made.figure.update_layout(
        title=None, width=None, height=HEIGHT, autosize=True, margin={"l": 64, "r": 16, "t": 24, "b": 56},
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0}, font_size=13,
    )  # fmt: skip
    made.figure.update_xaxes(automargin=True, tickangle=None)
    return made


def _waterfall(state: State) -> Shown:
    result = answers.speedup(state, focus(state))
    fig = plots.waterfall_figure(plots.waterfall_info(result))
    return Shown(
        fig, f"From the claim to the estimate: {state.methods[0]} on {state.gpus[0]}",
        "The first bar is what 1/(1-s) promises of the dense time; each step adds what the promise leaves out; the "
        "last bar is the estimate. Click a step for what each op adds to it.",
    )  # fmt: skip


def _sparsity(state: State) -> Shown:
    lines = answers.curves(state)
    fig = plots.curve_figure(lines)
    look = places(line.colour for line in lines)
    for line in lines:
        fig.add_scatter(
            x=line.x, y=line.bound, name=f"bound of {line.label}", mode="lines", showlegend=False,
            legendgroup=line.label, hoverinfo="skip",
            line={"color": COLOURS[look[line.colour] % len(COLOURS)], "dash": "dot", "width": 1.2},
        )  # fmt: skip
    top = max(float(np.max([line.bound[-1], line.high.max()])) for line in lines)
    fig.update_yaxes(range=[0.0, 1.05 * top])
    return Shown(
        fig, f"Speedup over sparsity on {state.gpus[0]}",
        "Lines are estimates, bands their 90 % intervals, dotted lines what no kernel exceeds; grey is the claim "
        "1/(1-s). The ratios of a mixture grow together. Click a point for its ops.",
    )  # fmt: skip


def _roofline(state: State) -> Shown:
    fig = plots.roofline_figure(answers.speedup(state, focus(state)))
    return Shown(
        fig, f"Roofline: {state.methods[0]} on {state.gpus[0]}",
        "Each op before (circle) and after pruning (diamond); arrows show how it moves, areas its share of the time. "
        "Left of the ridge memory limits it, right of it the tensor cores.",
    )  # fmt: skip


def _map(state: State) -> Shown:
    info, fits = answers.over_map(state)
    fig = plots.heatmap_figure(info)
    fig.data[0].text = [
        [f"{value:.2f}" if fit else f"({value:.2f})" for value, fit in zip(values, can, strict=True)]
        for values, can in zip(info.speedup, fits, strict=True)
    ]
    return Shown(
        fig, f"Batch × context: {state.methods[0]} on {state.gpus[0]}, {state.phase}",
        "Estimated speedup. In parentheses where weights and KV cache of the pruned model do not fit into one GPU. "
        "Click a cell for its ops.",
    )  # fmt: skip


def _gpus(state: State) -> Shown:
    frame, left_out = answers.ranking(state)
    # The label of a method says its ratios; a column of sparsities would tell bars of one GPU apart once more.
    pruned = frame[(frame["method"] != DENSE) & frame["estimated_speedup"].notna()].drop(columns="sparsity")
    fig = plots.bars_figure(plots.bars_info(pruned, "hardware", colour="method"))
    keys = answers.colour_keys(state.methods)
    look = places(keys.values())
    for bar in fig.data:
        if bar.name in keys:
            bar.marker.color = COLOURS[look[keys[bar.name]] % len(COLOURS)]
    return Shown(
        fig, "GPUs side by side",
        "Estimated speedup over the dense model on the same GPU, with 90 % intervals; the grey mark is the bound. "
        "Click a bar for its ops.", tuple(left_out), frame,
    )  # fmt: skip


def _pareto(state: State) -> Shown:
    families, left_out = answers.quality_curves(state)
    fig = plots.frontier_figure(plots.frontier_info(families))
    of = "the uploaded table" if state.quality else "Table 10 of arXiv 2606.09080, measured on Llama-3.1-8B"
    return Shown(
        fig, f"Speedup against quality loss on {state.gpus[0]}",
        f"Quality is from {of}; speed is predicted for the model and the workload at the left. Grey is the most speed "
        "for a loss. Click a point for its ops.", tuple(left_out),
    )  # fmt: skip


#: View -> what makes its figure.
VIEWS = {
    "waterfall": _waterfall, "sparsity": _sparsity, "roofline": _roofline, "map": _map, "gpus": _gpus,
    "pareto": _pareto,
}  # fmt: skip


def step_of(state: State, click: Mapping[str, Any] | None) -> str:
    """Return the step of the waterfall that a click is on, or an empty text.

    >>> step_of(State(), {"points": [{"x": "not<br>pruned"}]})
    'not pruned'
    """
    points = (click or {}).get("points") or [{}]
    return str(points[0].get("x", "")).replace("<br>", " ") if state.view == "waterfall" else ""


def point_of(state: State, click: Mapping[str, Any] | None) -> Point:
    """Return the comparison behind a click on the figure of a state; the focus where the click means none of its own.

    Parameters
    ----------
    state : State
    click : mapping, optional
        As plotly.js tells it: points with their place on the axes, trace and index.

    >>> point_of(State(view="map"), {"points": [{"x": "8192", "y": "16", "curveNumber": 0}]})
    Point(gpu='h100-sxm', method='static-width@0.5', batch=16, context=8192)
    """
    here = focus(state)
    try:
        spot = (click or {})["points"][0]
        curve, index = int(spot["curveNumber"]), spot.get("pointNumber", 0)
        if state.view == "map":
            return Point(here.gpu, here.method, int(spot["y"]), int(spot["x"]))
        if state.view == "gpus" and spot["x"] in state.gpus:
            return Point(spot["x"], state.methods[curve // 2], here.batch, here.context)
        if state.view == "sparsity" and 0 < curve <= 2 * len(state.methods):
            method = state.methods[(curve - 1) // 2]
            scale = float(answers.scales(method)[int(index)])
            return Point(here.gpu, answers.scaled(method, scale), here.batch, here.context)
        if state.view == "pareto" and curve:
            return Point(here.gpu, _of_quality(state, curve - 1, float(spot["x"])), here.batch, here.context)
    except (KeyError, IndexError, ValueError, TypeError):
        pass  # a click on nothing, or on a figure that has changed since
    return here


def _of_quality(state: State, curve: int, gap: float) -> str:
    """Return the method at a point of a quality curve."""
    families, _ = answers.quality_curves(state)
    family = list(families)[curve]
    rows = answers.quality_table(state)
    mine = rows[rows["family"] == family]
    nearest = mine.iloc[int(np.argmin(np.abs(mine["gap_percent"].to_numpy(dtype=float) - gap)))]
    return f"{family}@{float(nearest['sparsity']):.12g}" if gap > 0 else focus(state).method
