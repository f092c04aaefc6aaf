"""Colours and layout that all figures share: colour-blind safe, readable on screen and in print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Okabe and Ito (2008), "Color Universal Design": eight colours that colour-blind readers tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
#: Dashes and markers repeat the message of the colours, for black-and-white print.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star", "x", "triangle-down")


def translucent(colour: str, alpha: float = 0.15) -> str:
    """Return a hex colour as rgba, for bands.

    >>> translucent("#0072B2")
    'rgba(0,114,178,0.15)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def figure(title: str, x: str, y: str, **layout: Any) -> go.Figure:
    """Return an empty figure with title and axis labels (with units) in the common style."""
    import plotly.graph_objects as go

    fig = go.Figure()
    fig.update_layout(
        template="simple_white",
        title=title,
        xaxis_title=x,
        yaxis_title=y,
        width=900,
        height=520,
        font_size=14,
        margin={"l": 80, "r": 30, "t": 70, "b": 70},
        legend={"title": None},
        **layout,
    )
    fig.update_xaxes(showgrid=True, gridcolor="#e5e5e5")
    fig.update_yaxes(showgrid=True, gridcolor="#e5e5e5")
    return fig
