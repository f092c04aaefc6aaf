"""Maps over batch and context: who wins in each pair of methods, and what the error bands leave open."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim.errors import InvalidInputError
from pruninfersim.plots.style import figure, text_of, titled
from pruninfersim.questions.who_wins import WhoWins

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Ratio at which the colours end: twice as fast, either way.
END = 2.0


class WhoWinsInfo(NamedTuple):
    """One panel a pair: time of the second over the first, shape (pair, batch, context), and whether it is sure."""

    panels: tuple[str, ...]
    batches: tuple[str, ...]
    contexts: tuple[str, ...]
    ratio: FloatArray
    sure: np.ndarray
    case: str = ""


@door
def who_wins_info(found: WhoWins) -> WhoWinsInfo:
    """Return what the figure shows.

    Raises
    ------
    InvalidInputError
        If it is no answer of `pruninfersim.who_wins`.

    >>> from pruninfersim import who_wins
    >>> pair = who_wins(["static-depth", "dense"], model="llama-3.1-8b", hardware="h100-sxm", stack="ideal",
    ...                 batch=[1, 8])
    >>> info = who_wins_info(pair)
    >>> info.panels, info.ratio.shape, bool(info.sure.all())
    (('static-depth against dense',), (1, 2, 7), True)
    """
    if not isinstance(found, WhoWins):
        raise InvalidInputError("this figure is that of who_wins([...], model=..., hardware=...)")
    return WhoWinsInfo(
        tuple(f"{first} against {second}" for first, second in found.pairs),
        tuple(text_of(float(value)) for value in found.batch),
        tuple(text_of(float(value)) for value in found.context),
        found.ratio,
        found.winner != "",
        found.case,
    )


@door
def who_wins_figure(
    info: WhoWinsInfo | WhoWins, title: str = "Who wins: time of the second over the first"
) -> go.Figure:
    """Return the figure: a map for each pair, blue where the first is faster, orange where the second is.

    Each cell has the ratio; in brackets where its 90 % interval holds 1, so that the winner is open.

    >>> from pruninfersim import who_wins
    >>> found = who_wins(["static-depth", "dense"], model="llama-3.1-8b", hardware="h100-sxm", stack="ideal", batch=[1])
    >>> who_wins_figure(found).data[0].text[0][0]
    '1.87'
    """
    if not isinstance(info, WhoWinsInfo):
        info = who_wins_info(info)
    fig = figure(titled(title, info.case), "context [tokens]", "batch [sequences]", panels=info.panels)
    for column, (name, ratio, sure) in enumerate(zip(info.panels, info.ratio, info.sure, strict=True), start=1):
        place = {"row": 1, "col": column} if len(info.panels) > 1 else {}
        cells = [
            [f"{value:.2f}" if certain else f"({value:.2f})" for value, certain in zip(*row, strict=True)]
            for row in zip(ratio, sure, strict=True)
        ]
        fig.add_heatmap(
            z=np.log2(ratio), x=info.contexts, y=info.batches, coloraxis="coloraxis", xgap=1, ygap=1, text=cells,
            texttemplate="%{text}", hovertemplate=f"{name}: batch %{{y}}, context %{{x}}: %{{text}}<extra></extra>",
            **place,
        )  # fmt: skip
    ends = np.log2([1 / END, 1.0, END])
    fig.update_layout(
        coloraxis={
            "colorscale": [[0.0, "#D55E00"], [0.5, "#f7f7f7"], [1.0, "#0072B2"]],
            "cmin": ends[0], "cmax": ends[2],
            "colorbar": {"title": "ratio [1]", "tickvals": ends.tolist(), "ticktext": ["0.5", "1", "2"]},
        },
        width=max(900, 420 * len(info.panels)),
    )  # fmt: skip
    fig.update_xaxes(type="category", showgrid=False)
    fig.update_yaxes(type="category", showgrid=False)
    return fig
