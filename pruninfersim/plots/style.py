"""Colours and layout that all figures share: colour-blind safe, readable on screen and in print."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pruninfersim.pruning import METHODS

if TYPE_CHECKING:
    import pandas as pd
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


#: Family -> its place among colours, dashes and markers: the same in every figure, whatever else is drawn.
PLACES = {name: place for place, name in enumerate(METHODS)}
#: Columns of a frame that say what a row is about, in the order in which a title names them.
LABELS = ("method", "model", "hardware", "phase", "batch", "context", "sparsity", "stack", "dtype")


def places(names: Iterable[str]) -> dict[str, int]:
    """Return the place of each name among colours, dashes and markers; families have theirs, others take free ones.

    >>> places(["low-rank", "mine"])
    {'low-rank': 1, 'mine': 0}
    """
    wanted = list(dict.fromkeys(names))
    taken = {PLACES[name] for name in wanted if name in PLACES}
    free = [place for place in range(len(COLOURS)) if place not in taken] or list(range(len(COLOURS)))
    others = [name for name in wanted if name not in PLACES]
    return {name: PLACES[name] if name in PLACES else free[others.index(name) % len(free)] for name in wanted}


def case_title(frame: pd.DataFrame, leave_out: Iterable[str] = ()) -> str:
    """Return what all rows of a frame have in common as one line: method, model, GPU, workload, software.

    >>> import pandas as pd
    >>> case_title(pd.DataFrame({"model": ["m", "m"], "hardware": ["l40s", "l40s"], "batch": [1.0, 8.0]}))
    'm on l40s'
    """
    common: dict[str, str] = {}
    for name in LABELS:
        if name in frame.columns and name not in set(leave_out) and frame[name].nunique() == 1:
            common[name] = text_of(frame[name].iloc[0])
    model, gpu = common.pop("model", ""), common.pop("hardware", "")
    where = " on ".join(part for part in (model, gpu) if part)
    first = [common.pop("method", ""), where]
    named = [value if name in ("phase", "stack", "dtype") else f"{name} {value}" for name, value in common.items()]
    return ", ".join(part for part in (*first, *named) if part)


def text_of(value: Any) -> str:
    """Return a value of a column as a reader writes it.

    >>> text_of(4096.0), text_of("l40s")
    ('4096', 'l40s')
    """
    return f"{value:g}" if isinstance(value, float) else str(value)


def titled(title: str, case: str) -> str:
    """Return a title with the case that it is about below it, in smaller letters; names in it are no markup.

    >>> titled("Speedup", "llama-3.1-8b on l40s")
    'Speedup<br><sup>llama-3.1-8b on l40s</sup>'
    """
    return f"{title}<br><sup>{html.escape(case, quote=False)}</sup>" if case else title


def figure(title: str, x: str, y: str, *, panels: Sequence[str] = ("",), **layout: Any) -> go.Figure:
    """Return an empty figure with title and axis labels (with units) in the common style; panels stand side by side."""
    import plotly.graph_objects as go

    if len(panels) > 1:
        from plotly.subplots import make_subplots

        fig = make_subplots(cols=len(panels), shared_yaxes=True, subplot_titles=list(panels), horizontal_spacing=0.03)
    else:
        fig = go.Figure()
    fig.update_layout(
        template="simple_white",
        title=title,
        width=900,
        height=520,
        font_size=14,
        margin={"l": 80, "r": 30, "t": 70 + 20 * ("<br>" in title) + 20 * (len(panels) > 1), "b": 70},
        legend={"title": None},
        **layout,
    )
    fig.update_xaxes(showgrid=True, gridcolor="#e5e5e5", title_text=x)
    fig.update_yaxes(showgrid=True, gridcolor="#e5e5e5")
    fig.update_layout(yaxis_title=y)
    return fig
