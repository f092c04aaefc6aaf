"""Quality against speed: the curves of the families and their frontier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pruninfersim._util.doors import door
from pruninfersim.errors import InvalidInputError
from pruninfersim.plots.style import COLOURS, SYMBOLS, figure, places
from pruninfersim.questions.pareto import Curve, Frontier, frontier

if TYPE_CHECKING:
    import plotly.graph_objects as go


class FrontierInfo(NamedTuple):
    """Curves of the families and who leads where."""

    curves: tuple[Curve, ...]
    best: Frontier


@door
def frontier_info(families: Mapping[str, Curve] | Frontier) -> FrontierInfo:
    """Return the curves and their frontier.

    Parameters
    ----------
    families : mapping of str to Curve, or Frontier
        What `pareto.curves` or `pareto.frontier` returns.

    Raises
    ------
    InvalidInputError
        If it is neither.

    >>> from pruninfersim.questions import pareto
    >>> info = frontier_info(pareto.curves(pareto.published_quality(), lambda family, s: 1 / (1 - s)))
    >>> info.best.family[50]
    'dynamic-depth'
    """
    if isinstance(families, Frontier):
        return FrontierInfo(families.curves, families)
    if not isinstance(families, Mapping):
        raise InvalidInputError("a frontier is that of curves: pareto.curves(table, model=..., hardware=...)")
    return FrontierInfo(tuple(families.values()), frontier(families))


@door
def frontier_figure(
    info: FrontierInfo | Frontier | Mapping[str, Curve], title: str = "Speedup against quality loss"
) -> go.Figure:
    """Return the plot: one line per family, the frontier as a wide grey line, transitions as vertical lines.

    >>> from pruninfersim.questions import pareto
    >>> info = frontier_info(pareto.curves(pareto.published_quality(), lambda family, s: 1 / (1 - s)))
    >>> figure = frontier_figure(info)
    >>> figure.data[0].name, len(figure.data) == 1 + len(info.curves)
    ('frontier', True)
    """
    if not isinstance(info, FrontierInfo):
        info = frontier_info(info)
    look = places(curve.family for curve in info.curves)
    fig = figure(title, "quality loss [%]", "speedup over dense [1]")
    fig.add_scatter(
        x=info.best.gap, y=info.best.speed, name="frontier", mode="lines", line={"color": "#bbbbbb", "width": 8},
        text=info.best.family, hovertemplate="%{x:.1f} %: %{y:.2f} (%{text})<extra></extra>",
    )  # fmt: skip
    for curve in info.curves:
        fig.add_scatter(
            x=curve.gap,
            y=curve.speed,
            name=curve.family,
            mode="lines+markers",
            line={"color": COLOURS[look[curve.family]]},
            marker={"symbol": SYMBOLS[look[curve.family]], "size": 9},
        )
    for gap, _, after in info.best.transitions:
        fig.add_vline(x=gap, line_dash="dot", line_color="#777777", line_width=1.5, opacity=1.0)
        fig.add_annotation(
            x=gap, y=1.0, yref="paper", text=after, textangle=-90, showarrow=False, xanchor="right", yanchor="top",
            font_size=12,
        )  # fmt: skip
    return fig
