"""What the stack "paper" was asked to reach, what it reached, and a summary, as far as published figures tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim.plots.style import COLOURS, SYMBOLS, figure
from pruninfersim.questions.pareto import Frontier
from pruninfersim.report.blocks import Block, Figure, Points, Table, Text
from pruninfersim.reproduce import passes
from pruninfersim.reproduce import text as words
from pruninfersim.reproduce.passes import FAMILIES, records

if TYPE_CHECKING:
    import pandas as pd

#: Quality losses at which the winner is asked for: (family, from, to) [%].
WINNERS = (("static-depth", 1.0, 4.0), ("dynamic-depth", 5.5, 11.0), ("static-width", 17.3, 26.0))
#: Transitions as the paper states them: name, family, whether its end counts, between which quality losses [%].
TRANSITIONS = (
    ("dynamic-depth takes the lead", "dynamic-depth", False, (4.0, 5.0)),
    ("dynamic-depth gives it up", "dynamic-depth", True, (16.0, 17.0)),
    ("static-width takes it", "static-width", False, (16.0, 17.0)),
)
#: Components of Fig. 6 below this share of their layer are noise.
MATERIAL = 0.1
NEVER = ("low-rank", "semi-structured", "static-width-cross", "sparse-attention")


def summary(main: pd.DataFrame, best: Frontier) -> list[Block]:
    """Return what a reader should take away, how to read the page, and all published speedups in one figure."""
    grid, means = passes.beside_grid(main), passes.beside_table2(main)
    share = passes.shares(main)
    error = 100.0 * (means["mean_p"] / means["mean"] - 1.0).abs()
    count = int(grid["inside"].sum())
    largest = (share["predicted"] - share["measured"]).abs().max()
    # 1/(1-s) is 2 at a half, where all of the published grid lies.
    naive = 100.0 * (2.0 / grid["speedup"] - 1.0).abs().mean()
    lead = "; ".join(f"{r.family} {r.start:.1f} to {r.end:.1f} %" for r in passes.ranges(best))
    return [
        Points(
            (
                f"The {len(grid)} published speedups of the grid: mean absolute error "
                f"{grid['error'].abs().mean():.1f} % (1/(1-s) misses them by {naive:.0f} %); {count} lie inside "
                "their 90 % interval.",
                f"The {len(means)} means of Table 2: mean absolute error {error.mean():.1f} %, {error.max():.1f} % "
                "at most.",
                f"Share of 1/(1-s) at 50 %: within {largest:.3f} in all 14 cells of family and phase.",
                f"Who leads in prefill over quality loss: {lead}.",
                "Missed: where dynamic depth gives up the lead in prefill; one random draw of dynamic depth in decode. "
                "Reasons are in the last section.",
            )
        ),
        *(Text(text) for text in words.HOW),
        _scatter(grid),
    ]


def _scatter(grid: pd.DataFrame) -> Figure:
    fig = figure("Published speedups, measured and predicted", "measured [1]", "predicted [1]")
    fig.update_layout(height=600)
    ends = [0.85, 2.05]
    fig.add_scatter(x=ends, y=ends, mode="lines", name="equal", line={"color": "#8a8a8a", "dash": "dash"})
    for i, family in enumerate(FAMILIES):
        rows = grid[grid["family"] == family]
        fig.add_scatter(
            x=rows["speedup"],
            y=rows["estimated_speedup"],
            error_y={
                "array": rows["estimated_high"] - rows["estimated_speedup"],
                "arrayminus": rows["estimated_speedup"] - rows["estimated_low"],
                "thickness": 1,
                "width": 2,
            },
            text=[f"{r.phase}, batch {r.batch}, context {r.context}" for r in records(rows)],
            mode="markers",
            name=family,
            marker={"color": COLOURS[i], "symbol": SYMBOLS[i], "size": 9},
            hovertemplate=family + ", %{text}: measured %{x:.2f}, predicted %{y:.2f}<extra></extra>",
        )
    return Figure("scatter", fig, "Speedups at 50 %, Llama-3.1-8B on an RTX PRO 6000; bars are 90 % intervals.")


def targets(main: pd.DataFrame, parts: pd.DataFrame, dense: pd.DataFrame, best: Frontier) -> list[Block]:
    """Return what the stack was asked to reach, and what it reached as far as published figures tell."""
    rows = (*_speedup_targets(main), *_time_targets(main, parts, dense), *_frontier_targets(best))
    return [
        Text(
            "Errors are absolute, in percent; a cell is a family in a phase. 'Open' rows compare with measurements "
            "that are not published; the predictions are below, for anyone who has them."
        ),
        Table("Targets", ("what", "target", "stretch", "reached", "target met"), rows),
    ]


def _row(what: str, target: str, stretch: str, reached: str, met: Any = None) -> tuple[str, ...]:
    return what, target, stretch, reached, "open" if met is None else "yes" if met else "no"


def _mean_and_most(errors: pd.Series) -> str:
    return f"{errors.mean():.1f} %, at most {errors.max():.1f} %"


def _speedup_targets(main: pd.DataFrame) -> list[tuple[str, ...]]:
    grid, means = passes.beside_grid(main), passes.beside_table2(main)
    error = grid["error"].abs()
    groups: Any = error.groupby([grid["family"], grid["phase"]]).mean()
    decode, rest = groups[("dynamic-depth", "decode")], groups.drop(("dynamic-depth", "decode"))
    table2 = 100.0 * (means["mean_p"] / means["mean"] - 1.0).abs()
    worst = f"at most {rest.max():.1f} % ({' '.join(rest.idxmax())})"
    unknown = "kept back; predictions below"
    return [
        _row("published grid, 42 speedups", "3.5", "2.4", f"{error.mean():.2f} %", error.mean() <= 3.5),
        _row("the same by cell, but the next row", "6", "4", worst, rest.max() <= 6),
        _row("dynamic-depth in decode", "8", "5", f"{decode:.1f} %", decode <= 8),
        _row("whole grid, Llama-3.1-8B; by cell", "4; 6", "2.8; 4",
             f"{unknown}; means of Table 2: {_mean_and_most(table2)}"),
        _row("Qwen3-14B, never fitted; by cell", "4.5; 8", "3; 6", unknown),
        _row("A800, never fitted; by cell", "6; 10", "4; 8", unknown),
        _row("curves from 0 to 70 %", "4.5", "2.5", f"{unknown}; at 0 % (digitised): {zero_errors():.1f} %"),
    ]  # fmt: skip


def _time_targets(main: pd.DataFrame, parts: pd.DataFrame, dense: pd.DataFrame) -> list[tuple[str, ...]]:
    totals, pieces, ratios = figure6_errors(parts)
    whole, share = dense[dense["part"] == "total [s]"], dense[dense["part"] != "total [s]"]
    seconds = 100.0 * (whole["predicted"] / whole["measured"] - 1.0).abs()
    points = 100.0 * (share["predicted"] - share["measured"]).abs()
    cells = passes.shares(main)
    off = (cells["predicted"] - cells["measured"]).abs().max()
    with_ratios = f"{_mean_and_most(totals)}; over the dense layer {ratios.mean():.1f} %"
    in_points = f"{points.mean():.1f} points, at most {points.max():.1f}"
    return [
        _row("Fig. 2, totals", "4", "2", _mean_and_most(seconds), seconds.mean() <= 4),
        _row("Fig. 2, shares [points]", "2", "1", in_points, points.mean() <= 2),
        _row("Fig. 6, totals", "5", "3", with_ratios, totals.mean() <= 5),
        _row("Fig. 6, parts above 10 % of a layer", "12", "8", _mean_and_most(pieces), pieces.mean() <= 12),
        _row("share of 1/(1-s) at 50 %, 14 cells", "0.04", "0.02", f"at most {off:.3f}", off <= 0.04),
    ]


def _frontier_targets(best: Frontier) -> list[tuple[str, ...]]:
    found = passes.ranges(best)
    rows = []
    for family, start, end in WINNERS:
        held = leads(best, family, start, end)
        rows.append(
            _row(
                f"prefill: {family} at {start:g} to {end:g} %",
                "yes",
                "",
                "leads" if held else "does not lead everywhere",
                held,
            )
        )
    winners = sorted({r.family for r in found} & set(NEVER))
    rows.append(_row("prefill: the others never lead", "yes", "", _others(winners), not winners))
    for what, family, end, (low, high) in TRANSITIONS:
        at = [r.end if end else r.start for r in found if r.family == family]
        place = at[-1] if end else at[0]
        shift = max(low - place, place - high, 0.0)
        reached = f"at {place:.1f} %, the paper says {low:g} to {high:g} %"
        rows.append(_row(f"{what} [points]", "1.5", "", reached, shift <= 1.5))
    return rows


def _others(winners: list[str]) -> str:
    return f"{', '.join(winners)} do" if winners else f"none of {', '.join(NEVER)} does"


def leads(best: Frontier, family: str, start: float, end: float) -> bool:
    """Return whether a family has the highest curve over a whole range of quality losses [%]."""
    inside = (best.gap >= start) & (best.gap <= end)
    return all(name == family for name, here in zip(best.family, inside, strict=True) if here)


def zero_errors() -> float:
    """Return the mean absolute error at sparsity 0 against the middle of the digitised ranges [%]."""
    names = passes.published("zero_sparsity").set_index("family")
    frame = passes.predicted(*passes.SETTINGS[0], sparsities=[0.0], methods=list(names.index))
    means: Any = passes.means(frame)["mean"].xs(0.0, level="sparsity")
    middle = (names["low"] + names["high"]) / 2.0
    # Dynamic depth in decode: Table 2 has 0.75 at 25 %, so that its digitised range is that of prefill.
    errors = [v / middle[f] - 1.0 for (f, p), v in means.items() if (f, p) != ("dynamic-depth", "decode")]
    return float(100.0 * np.mean(np.abs(errors)))


def figure6_errors(parts: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return absolute errors [%] of Fig. 6: totals, components above 10 % of them, and totals over the "
    "dense layer."""
    total = parts[parts["part"] == "total"].set_index(["phase", "family"])
    rest = parts[parts["part"] != "total"].set_index(["phase", "family"])
    material = rest[rest["measured"] > MATERIAL * total["measured"].reindex(rest.index)]
    base = total.xs("dense", level="family")[["measured", "predicted"]]
    over = total[["measured", "predicted"]].div(base, level="phase").drop("dense", level="family")

    def error(frame: pd.DataFrame) -> pd.Series:
        return 100.0 * (frame["predicted"] / frame["measured"] - 1.0).abs()

    return error(total), error(material), error(over)
