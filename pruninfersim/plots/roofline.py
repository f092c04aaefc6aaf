"""Roofline of a GPU with the ops of a trace on it, dense to pruned as arrows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim.cost import Estimate
from pruninfersim.errors import InvalidInputError
from pruninfersim.plots.style import COLOURS, figure, titled
from pruninfersim.questions.comparison import Speedup
from pruninfersim.questions.table import case_of, methods_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

TERA = 1e12
#: Decades that an op has to move for an arrow to be drawn.
VISIBLE = 0.01
#: Share of the time from which an op has its name at the marker; ops closer than this many decades share a text.
NAMED, TOGETHER = 0.02, 0.3
#: Names in a line of such a text.
LINE = 4


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
    case: str = ""


@door
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
    if not isinstance(step, Estimate):
        raise InvalidInputError(f"a roofline is that of an estimate or of a speedup; got {type(step).__name__}")
    if step.trace.sweep_shape:
        raise InvalidInputError(f"give the estimate of a single pass; this one is a sweep {step.trace.sweep_shape}")
    flops, size = step.trace.flops, step.trace.traffic
    working = (flops > 0) & (step.seconds > 0)
    dtype = step.trace.dtype[int(np.argmax(flops * step.trace.count))]
    peak, bandwidth = step.hardware.peak_flops(dtype), step.hardware.memory_bandwidth
    return RooflineInfo(
        tuple(name for name, used in zip(step.trace.name, working, strict=True) if used),
        flops[working] / size[working],
        (flops * step.trace.count)[working] / step.seconds[working],
        step.seconds[working] / step.seconds.sum(),
        peak,
        bandwidth,
        peak / bandwidth,
        step.hardware.title,
        ", ".join(part for part in (methods_of(step.trace), case_of(step.trace, step.hardware, step.stack)) if part),
    )


@door
def roofline_figure(
    dense: RooflineInfo | Estimate | Speedup, pruned: RooflineInfo | Estimate | None = None, title: str | None = None
) -> go.Figure:
    """Return the roofline plot on log axes; with a pruned side, an arrow leads from each op to what it became.

    Ops that carry 2 % of the time or more have their names at the marker, the others in the hover text.

    >>> from pruninfersim import Workload, estimate, pruning, trace
    >>> dense = trace("llama-3.1-8b", Workload.prefill(1, 128))
    >>> pruned = dense.prune(pruning.LowRank(0.5))
    >>> sides = [roofline_info(estimate(ops, hardware="h100-sxm", stack="ideal")) for ops in (dense, pruned)]
    >>> [line.name for line in roofline_figure(*sides).data]
    ['roofline', 'dense', 'pruned']
    """
    if isinstance(dense, Speedup):
        return roofline_figure(dense.dense, dense.pruned, title)
    dense = dense if isinstance(dense, RooflineInfo) else roofline_info(dense)
    pruned = pruned if pruned is None or isinstance(pruned, RooflineInfo) else roofline_info(pruned)
    heading = titled(title or f"Roofline of {dense.hardware}", (pruned or dense).case)
    fig = figure(heading, "arithmetic intensity [FLOP/B]", "rate [TFLOP/s]")
    points = np.concatenate([dense.intensity, [dense.ridge], *([pruned.intensity] if pruned else [])])
    x = np.geomspace(points.min() / 8.0, points.max() * 4.0, 100)
    x = np.sort(np.append(x, dense.ridge))
    fig.add_scatter(
        x=x,
        y=np.minimum(dense.peak, x * dense.bandwidth) / TERA,
        name="roofline",
        mode="lines",
        line={"color": "#444444"},
        hovertemplate="roofline at %{x:.3g} FLOP/B: %{y:.3g} TFLOP/s<extra></extra>",
    )
    sides = [("dense", dense, COLOURS[0], "circle")] + ([("pruned", pruned, COLOURS[1], "diamond")] if pruned else [])
    middle = np.sqrt(x[0] * x[-1])
    for label, side, colour, symbol in sides:
        fig.add_scatter(
            x=side.intensity,
            y=side.rate / TERA,
            name=label,
            mode="markers+text",
            cliponaxis=False,
            marker={
                "color": colour,
                "symbol": symbol,
                "size": 7 + 25 * np.sqrt(side.share),
                "opacity": 0.7,
                "line": {"color": "#ffffff", "width": 1},
            },
            text=_labels(side),
            textposition=[
                "top left" if label == "dense" else f"bottom {'left' if at > middle else 'right'}"
                for at in side.intensity
            ],
            textfont={"size": 12, "color": colour},
            hovertext=side.names,
            customdata=side.share * 100.0,
            hovertemplate=f"{label} %{{hovertext}}: %{{x:.3g}} FLOP/B, %{{y:.3g}} TFLOP/s, "
            "%{customdata:.1f} % of the time<extra></extra>",
        )
    for start, end in _arrows(dense, pruned) if pruned is not None else []:
        fig.add_annotation(
            x=np.log10(end[0]), y=np.log10(end[1]), ax=np.log10(start[0]), ay=np.log10(start[1]),
            xref="x", yref="y", axref="x", ayref="y", showarrow=True, arrowhead=2, arrowsize=1.2, arrowwidth=1.5,
            arrowcolor="#222222", text="",
        )  # fmt: skip
    fig.update_xaxes(type="log", dtick=1, exponentformat="none")
    fig.update_yaxes(type="log", dtick=1, exponentformat="none")
    return fig


def _labels(side: RooflineInfo) -> list[str]:
    """Return a text for each op: ops at one place share theirs, small ops have none."""
    spots = np.log10(np.stack([side.intensity, side.rate], axis=1))
    places: list[list[int]] = []
    for i in np.argsort(-side.rate, kind="stable").tolist():
        if side.share[i] >= NAMED:
            near = [members for members in places if np.abs(spots[i] - spots[members[0]]).max() <= TOGETHER]
            if near:
                near[0].append(i)
            else:
                places.append([i])
    texts = [""] * len(side.names)
    for members in places:
        names = [side.names[i] for i in sorted(members)]
        texts[members[0]] = ",<br>".join(", ".join(names[i : i + LINE]) for i in range(0, len(names), LINE))
    return texts


def _arrows(dense: RooflineInfo, pruned: RooflineInfo) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return (from, to) in plot coordinates of every op on both sides that moved so far that an arrow can be seen."""

    def place(side: RooflineInfo, name: str) -> tuple[float, float]:
        i = side.names.index(name)
        return float(side.intensity[i]), float(side.rate[i]) / TERA

    pairs = [(place(dense, name), place(pruned, name)) for name in dense.names if name in pruned.names]
    moved = [float(np.hypot(*np.log10(np.divide(end, start)))) for start, end in pairs]
    return [pair for pair, distance in zip(pairs, moved, strict=True) if distance > VISIBLE]
