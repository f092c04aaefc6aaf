"""Answers as parts of the page: headline, tables, notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dash import html

from pruninfersim.app import answers
from pruninfersim.app.state import State
from pruninfersim.questions.explain import MEANING

if TYPE_CHECKING:
    import pandas as pd

    from pruninfersim.questions.comparison import Speedup

#: Head of a column of the table of methods -> what it says, for the line below it.
TERMS = {
    "1/(1-s)": "the usual claim",
    "FLOPs": "ratio of FLOPs",
    "ideal": "both sides at their roofline",
    "estimated": "what this engine delivers, with its 90 % interval",
    "headroom": "the same with perfect kernels for the ops that change",
    "bound": "no kernels and no fusion make it faster",
}


def sentence(state: State) -> str:
    """Return the answer in one sentence, for readers who listen.

    >>> sentence(State(stack="ideal"))
    'static-width@0.5 on h100-sxm: 1.89 times as fast as dense (90 % interval 1.89 to 1.89).'
    """
    result = answers.speedup(state, answers.focus(state))
    low, high = result.interval
    return (
        f"{state.methods[0]} on {state.gpus[0]}: {result.estimated:.2f} times as fast as dense (90 % interval "
        f"{low:.2f} to {high:.2f})."
    )


def headline(state: State) -> Any:
    """Return the cards of the first method on the first GPU."""
    method = state.methods[0]
    result = answers.speedup(state, answers.focus(state))
    low, high = result.interval
    dense, pruned = answers.room(state), answers.room(state, method)
    fits = {True: "fits", False: "does not fit"}
    cards = [
        ("Speedup", f"{result.estimated:.2f}×", f"90 %: {low:.2f} to {high:.2f}"),
        (f"One {state.phase}", milliseconds(result.pruned.latency), f"dense {milliseconds(result.dense.latency)}"),
        ("Headroom", f"{result.headroom:.2f}×", "with perfect kernels for what changes"),
        ("Bound", f"{result.bound:.2f}×", f"no kernel exceeds it; claim {result.claim:.2f}×"),
        ("Memory", fits[bool(result.pruned.fits)], f"weights {pruned.weight_bytes / 1e9:.1f} GB; dense "
         f"{dense.weight_bytes / 1e9:.1f} GB {fits[bool(result.dense.fits)]}"),
        ("Largest batch", f"{pruned.largest_batch}", f"at context {state.context}; dense {dense.largest_batch}"),
    ]  # fmt: skip
    return html.Dl(
        [
            html.Div([html.Dt(name), html.Dd(value, className="value"), html.Dd(more, className="hint")])
            for name, value, more in cards
        ],
        className="cards",
    )


def milliseconds(seconds: Any) -> str:
    """Return a time as a reader writes it.

    >>> milliseconds(0.0237), milliseconds(2.5e-5), milliseconds(3.2)
    ('23.7 ms', '0.025 ms', '3.2 s')
    """
    value = float(seconds)
    return f"{value:.3g} s" if value >= 1.0 else f"{value * 1e3:.3g} ms"


def rate(value: float) -> str:
    """Return a rate as a reader writes it.

    >>> rate(46250.4), rate(12.34)
    ('46,250', '12.3')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def methods(state: State) -> Any:
    """Return all methods on the first GPU side by side: the speedups, and the request."""
    rows = [_row(label, result) for label, result in answers.every(state)]
    asked = answers.requests(state)
    served = [
        (
            label, milliseconds(each.ttft), milliseconds(each.tpot), milliseconds(each.total),
            rate(float(each.tokens_per_second)), f"{asked[0][1].total / each.total:.2f}",
        )
        for label, each in asked
    ]  # fmt: skip
    terms = "; ".join(f"{name}: {meaning}" for name, meaning in TERMS.items())
    lengths = f"{state.prompt} + {state.new_tokens} tokens, batch {state.batch}"
    return [
        table(f"Speedups on {state.gpus[0]}", ("method", *TERMS, "90 %", "dense", "pruned"), rows),
        html.P(terms + ".", className="hint"),
        table(f"A request of {lengths}", ("method", "TTFT", "TPOT", "total", "tokens/s", "speedup"), served),
    ]


def _row(label: str, result: Speedup) -> tuple[str, ...]:
    low, high = result.interval
    numbers = (result.claim, result.flops, result.ideal, result.estimated, result.headroom, result.bound)
    times = (milliseconds(side.latency) for side in (result.dense, result.pruned))
    return (label, *(f"{float(number):.2f}" for number in numbers if number is not None), f"{low:.2f} – {high:.2f}",
            *times)  # fmt: skip


def gpus(frame: pd.DataFrame) -> Any:
    """Return the table below the figure of GPUs."""
    rows = [
        (
            row["hardware"], row["method"], "–" if row["note"] else milliseconds(row["seconds"]),
            "–" if row["note"] else rate(row["tokens_per_second"]), f"{100 * row['memory_share']:.0f} %",
            "yes" if row["fits"] else "no", row["limited_by"] or "–", row["provenance"] or "–",
        )
        for row in frame.to_dict("records")
    ]  # fmt: skip
    head = ("GPU", "method", "time", "tokens/s", "memory", "fits", "limited by", "rests on")
    return table("GPUs, dense and pruned", head, rows)


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """Return a table with a caption, in a box that scrolls by itself where the screen is narrow."""
    return html.Div(
        html.Table(
            [
                html.Caption(caption),
                html.Thead(html.Tr([html.Th(name, scope="col") for name in head])),
                html.Tbody(
                    [html.Tr([html.Th(row[0], scope="row"), *(html.Td(cell) for cell in row[1:])]) for row in rows]
                ),
            ]
        ),
        className="scroll", role="region", tabIndex="0", **{"aria-label": caption},
    )  # fmt: skip


def notes(state: State) -> Any:
    """Return what to know before quoting the numbers."""
    found = answers.notes(state)
    if not found:
        return html.P("Nothing: every op rests on a definition, or on timings of this GPU.")
    return html.Ul([html.Li([html.Strong(f"{who}: ") if who else "", note]) for who, note in found])


def step(state: State, name: str) -> Any:
    """Return the table of what each op adds to a step of the waterfall; None for a step that is not made of ops."""
    added = answers.step(state, name)
    if not added:
        return None
    rows = [(role, f"{seconds * 1e3:+.4g}") for role, seconds in added]
    return table(f"{name}: {MEANING[name]}, {state.methods[0]} on {state.gpus[0]}", ("op", "adds [ms]"), rows)


def ops(state: State, point: answers.Point) -> Any:
    """Return the table of ops behind a point."""
    rows = [
        (
            row["name"], f"{row['count']:g}", f"{row['m']:g} × {row['n']:g} × {row['k']:g}",
            "–" if row["seconds before"] != row["seconds before"] else f"{row['seconds before'] * 1e3:.4g}",
            "–" if row["seconds"] == 0 else f"{row['seconds'] * 1e3:.4g}", f"{100 * row['share']:.1f} %",
            row["bound"], row["provenance"],
        )
        for row in answers.ops(state, point).to_dict("records")
    ]  # fmt: skip
    head = ("op", "runs", "m × n × k", "dense [ms]", "pruned [ms]", "share", "limited by", "rests on")
    return table(f"{point.method} on {point.gpu}, batch {point.batch}, context {point.context}", head, rows)
