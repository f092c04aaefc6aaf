"""Options of a recommendation: how much of the target each reaches, with its interval, and at what quality loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim.errors import InvalidInputError
from pruninfersim.plots.style import COLOURS, figure, places, titled
from pruninfersim.questions.recommendation import Option, Recommendation
from pruninfersim.questions.target import PARTS, Target, reached

if TYPE_CHECKING:
    import plotly.graph_objects as go


class RecommendationInfo(NamedTuple):
    """Options in their order; `reached`, `low` and `high` are shares of the target, shape (option,) [1]."""

    labels: tuple[str, ...]
    methods: tuple[str, ...]
    reached: FloatArray
    low: FloatArray
    high: FloatArray
    chance: FloatArray
    loss: FloatArray
    case: str = ""


@door
def recommendation_info(found: Recommendation) -> RecommendationInfo:
    """Return how much of the target each option reaches: 1 meets it; of several parts, the one that is furthest off.

    Raises
    ------
    InvalidInputError
        If it is not a recommendation.

    >>> from pruninfersim import recommend
    >>> info = recommendation_info(recommend("llama-3.1-8b", "h100-sxm", "ideal", target={"speedup": 1.5}))
    >>> info.labels[-1], bool(info.reached[0] >= 1.0 > info.reached[-1])
    ('dense', True)
    """
    if not isinstance(found, Recommendation):
        raise InvalidInputError("this figure is that of a recommendation: recommend(model, hardware, target=...)")
    options = [option for option in found if option.values]
    several = len({option.hardware for option in options}) > 1
    return RecommendationInfo(
        tuple(f"{option.label}, {option.hardware}" if several else option.label for option in options),
        tuple(option.method for option in options),
        np.array([option.reached for option in options]),
        np.array([_end(option, found.target, worse=True) for option in options]),
        np.array([_end(option, found.target, worse=False) for option in options]),
        np.array([option.chance for option in options]),
        np.array([np.nan if option.quality_loss is None else option.quality_loss for option in options]),
        found.question,
    )


def _end(option: Option, target: Target, *, worse: bool) -> float:
    """Return the share of the target at the worse, or the better, end of all intervals."""
    ends = [
        float(reached(option.intervals[name][int(PARTS[name].more is not worse)], limit, more=PARTS[name].more))
        for name, limit in target.parts.items()
    ]
    return min(ends) if option.fits else option.reached


@door
def recommendation_figure(
    info: RecommendationInfo | Recommendation, title: str = "Share of the target that is reached"
) -> go.Figure:
    """Return the figure: a bar for each option with its 90 % interval, and the target as a line at 1.

    >>> from pruninfersim import recommend
    >>> found = recommend("llama-3.1-8b", "h100-sxm", "ideal", target={"speedup": 1.5}, max_quality_loss=20)
    >>> recommendation_figure(found).data[0].y[0] == found.closest.label
    True
    """
    if not isinstance(info, RecommendationInfo):
        info = recommendation_info(info)
    look = places(info.methods)
    said: list[str] = []
    for chance, loss in zip(info.chance, info.loss, strict=True):
        said.append(f"chance {chance:.2f}" + ("" if np.isnan(loss) else f", loss {loss:.1f} %"))
    fig = figure(titled(title, info.case), "share of the target [1]", "")
    errors: dict[str, Any] = {
        "type": "data", "symmetric": False, "array": info.high - info.reached, "arrayminus": info.reached - info.low,
    }  # fmt: skip
    fig.add_bar(
        x=info.reached, y=info.labels, orientation="h", error_x=errors, customdata=said,
        marker_color=[COLOURS[look[method]] for method in info.methods],
        hovertemplate="%{y}: %{x:.3f} of the target, %{customdata}<extra></extra>",
    )  # fmt: skip
    fig.add_vline(x=1.0, line_dash="dash", line_color="#333333", line_width=1.5, opacity=1.0)
    fig.update_yaxes(type="category", autorange="reversed", showgrid=False, automargin=True)
    for label, text in zip(info.labels, said, strict=True):
        fig.add_annotation(
            x=0, y=label, text=text, showarrow=False, xanchor="left", xshift=6, font={"size": 11, "color": "#111111"},
            bgcolor="rgba(255,255,255,0.8)",
        )  # fmt: skip
    fig.update_layout(showlegend=False, height=max(300, 160 + 34 * len(info.labels)))
    return fig
