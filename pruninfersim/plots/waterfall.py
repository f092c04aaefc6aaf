"""Waterfall from the FLOPs claim to the estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pruninfersim._util.doors import door
from pruninfersim.errors import InvalidInputError
from pruninfersim.plots.style import COLOURS, figure, titled
from pruninfersim.questions.comparison import Speedup
from pruninfersim.questions.explain import Explanation

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Share of the total below which a step is labelled 0.
NEGLIGIBLE = 5e-4


class WaterfallInfo(NamedTuple):
    """Bars of a waterfall."""

    steps: list[str]
    milliseconds: list[float]
    total_milliseconds: float
    dense_milliseconds: float
    speedup: float
    case: str = ""


@door
def waterfall_info(why: Explanation | Speedup) -> WaterfallInfo:
    """Return the bars of an explanation of a single comparison, or of the comparison itself [ms].

    Raises
    ------
    InvalidInputError
        If it is a sweep.

    >>> from pruninfersim import Workload, pruning, trace
    >>> from pruninfersim.questions.explain import explain
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> info = waterfall_info(explain(dense, dense.prune(pruning.LowRank(0.5)), hardware="h100-sxm", stack="ideal"))
    >>> abs(sum(info.milliseconds) - info.total_milliseconds) < 1e-9
    True
    """
    if isinstance(why, Speedup):
        why = why.explain()
    if not isinstance(why, Explanation):
        raise InvalidInputError(
            f"a waterfall is that of a speedup or its explanation; a {type(why).__name__} has bars and curves"
        )
    shape = np.shape(why.speedup.estimated)
    if shape:
        raise InvalidInputError(
            f"a waterfall shows one comparison; this is a sweep of shape {shape}: take result.at(...)"
        )
    frame = why.to_frame()
    return WaterfallInfo(
        frame["step"].tolist(),
        (frame["seconds"] * 1e3).tolist(),
        float(why.speedup.pruned.latency) * 1e3,
        float(why.speedup.dense.latency) * 1e3,
        float(why.speedup.estimated),
        why.speedup.question,
    )


@door
def waterfall_figure(
    info: WaterfallInfo | Explanation | Speedup, title: str = "Why is the pruned model not faster?"
) -> go.Figure:
    """Return the waterfall: what the claim promises, what each effect adds, and the estimate at the end.

    >>> info = WaterfallInfo(["claim", "not pruned"], [5.0, 1.0], 6.0, 10.0, 10.0 / 6.0)
    >>> waterfall_figure(info).data[0].text
    ('5', '1', '6')
    """
    if not isinstance(info, WaterfallInfo):
        info = waterfall_info(info)
    fig = figure(titled(f"{title} (speedup {info.speedup:.2f})", info.case), "", "time of the pruned pass [ms]")
    fig.add_waterfall(
        x=[step.replace(" ", "<br>", 1) for step in [*info.steps, "estimate"]],
        y=[*info.milliseconds, info.total_milliseconds],
        measure=["absolute", *["relative"] * (len(info.steps) - 1), "total"],
        increasing={"marker": {"color": COLOURS[1]}},
        decreasing={"marker": {"color": COLOURS[2]}},
        totals={"marker": {"color": COLOURS[0]}},
        text=[_label(value, info.total_milliseconds) for value in [*info.milliseconds, info.total_milliseconds]],
        textposition="outside",
        hovertemplate="%{x}: %{y:.4g} ms<extra></extra>",
        showlegend=False,
    )
    fig.add_hline(
        y=info.dense_milliseconds, line_dash="dash", line_color="#444444", line_width=1.5, opacity=1.0,
        annotation_text=f"dense {info.dense_milliseconds:.3g} ms", annotation_position="top left",
    )  # fmt: skip
    # Room for the labels above the highest bar and above the dense line.
    running = np.cumsum(info.milliseconds)
    fig.update_yaxes(range=[min(0.0, float(running.min())), 1.12 * max(float(running.max()), info.dense_milliseconds)])
    fig.update_xaxes(showgrid=False, tickangle=0)
    return fig


def _label(value: float, total: float) -> str:
    """Return a bar's text; what nobody can see in the bar is 0."""
    return f"{value:.3g}" if abs(value) >= NEGLIGIBLE * total else "0"
