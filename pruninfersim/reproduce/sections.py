"""Tables and figures of the page on the reference paper, measured beside predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim import plots
from pruninfersim._util.defaults import PHASES
from pruninfersim.plots.breakdown import BreakdownInfo
from pruninfersim.plots.curves import CurveInfo
from pruninfersim.plots.style import COLOURS, PLACES, SYMBOLS
from pruninfersim.questions import pareto
from pruninfersim.report.blocks import Block, Figure, Heading, Table, Text
from pruninfersim.reproduce import kernels as parts_of
from pruninfersim.reproduce import passes
from pruninfersim.reproduce.passes import FAMILIES, WORKLOADS, records
from pruninfersim.reproduce.targets import figure6_errors, zero_errors

if TYPE_CHECKING:
    import pandas as pd

#: Frontier as the paper describes it: family -> quality losses over which it leads [%].
STATED = {"static-depth": "0 to 4", "dynamic-depth": "5 to 16", "static-width": "17 to 26"}


def percent(value: float) -> str:
    """Return a ratio minus one as signed percent."""
    return f"{100.0 * value:+.1f} %"


def grid(main: pd.DataFrame) -> list[Block]:
    """Return the published part of the grid: errors by family and phase, and every point."""
    both = passes.beside_grid(main)
    head = ("family", "phase", "batch", "context", "measured", "predicted", "90 % interval", "error")
    rows = tuple(
        (
            r.family, r.phase, str(r.batch), str(r.context), f"{r.speedup:.2f}", f"{r.estimated_speedup:.2f}",
            f"{r.estimated_low:.2f} to {r.estimated_high:.2f}{'' if r.inside else ' (outside)'}", f"{r.error:+.1f} %",
        )
        for r in records(both)
    )  # fmt: skip
    table: Any = both["error"].abs().groupby([both["family"], both["phase"]]).mean().unstack()
    bias: Any = both["error"].groupby([both["family"], both["phase"]]).mean().unstack()
    errors = tuple(
        (f, *(f"{table.loc[f, p]:.1f}" for p in PHASES), *(f"{bias.loc[f, p]:+.2f}" for p in PHASES)) for f in FAMILIES
    )
    return [
        Table(
            "Error by family and phase [%], three workloads each",
            ("family", "prefill, absolute", "decode, absolute", "prefill, mean", "decode, mean"),
            errors,
            ("", "n", "n", "n", "n"),
        ),
        Table("Every published point, 50 %", head, rows, ("", "", "n", "n", "n", "n", "n", "n"), folded=True),
    ]


def table2(main: pd.DataFrame) -> list[Block]:
    """Return Table 2 beside predictions."""
    rows = tuple(
        (
            r.family, r.phase, f"{100 * r.sparsity:.0f} %", f"{r.mean:.2f} [{r.min:.2f}, {r.max:.2f}]",
            f"{r.mean_p:.2f} [{r.min_p:.2f}, {r.max_p:.2f}]", percent(r.mean_p / r.mean - 1.0),
        )
        for r in records(passes.beside_table2(main))
    )  # fmt: skip
    head = ("family", "phase", "sparsity", "measured", "predicted", "error of mean")
    return [Table("Mean [min, max] over the seven workloads", head, rows, ("", "", "n", "n", "n", "n"))]


def realised(main: pd.DataFrame) -> list[Block]:
    """Return the share of 1/(1-s) that each family realises."""
    share: Any = passes.shares(main).pivot(index="family", columns="phase").loc[list(FAMILIES)]
    rows = tuple(
        (f, *(f"{row[(kind, p)]:.2f}" for p in PHASES for kind in ("measured", "predicted")))
        for f, row in share.iterrows()
    )
    head = ("family", "prefill, measured", "prefill, predicted", "decode, measured", "decode, predicted")
    return [Table("Share of 1/(1-s) = 2 that is realised at 50 %", head, rows, ("", "n", "n", "n", "n"))]


def curves(frame: pd.DataFrame) -> list[Block]:
    """Return speedup over sparsity in both phases."""
    table, stated = passes.means(frame), passes.published("table2")
    blocks: list[Block] = [
        Text(
            "Means over the seven workloads; bands are means of 90 % intervals. Open markers are measured means of "
            "Table 2. Pruned code paths at sparsity 0 are not free, and the paper digitised says so for three "
            "families: "
            + "; ".join(f"{r.family} {r.low:.2f} to {r.high:.2f}" for r in records(passes.published("zero_sparsity")))
            + f". Predicted means miss the middle of these ranges by {zero_errors():.1f} % on average."
        )
    ]
    for phase in PHASES:
        mine = table.xs(phase, level="phase")
        info = []
        for family in FAMILIES:
            rows = mine.xs(family, level="method").sort_index()
            x = rows.index.to_numpy(dtype=float)
            mean, low, high, bound = (rows[name].to_numpy(dtype=float) for name in ("mean", "low", "high", "bound"))
            info.append(CurveInfo(family, x, mean, low, high, bound, 1.0 / (1.0 - x)))
        fig = plots.curve_figure(info, "sparsity", f"Speedup over sparsity, {phase}")
        fig.update_yaxes(range=[0.6, 3.4])
        for family in FAMILIES:
            seen = stated[(stated["family"] == family) & (stated["phase"] == phase)]
            fig.add_scatter(
                x=seen["sparsity"], y=seen["mean"], mode="markers", showlegend=False, legendgroup=family,
                marker={
                    "color": COLOURS[PLACES[family]], "symbol": f"{SYMBOLS[PLACES[family]]}-open", "size": 13,
                    "line": {"width": 2},
                },
                hovertemplate=f"{family}, measured: %{{y:.2f}}<extra></extra>",
            )  # fmt: skip
        shown = [s for s in passes.CURVE if round(10 * s, 6) == round(10 * s)]
        numbers = tuple(
            (line.method, *(f"{line.estimated[line.x == s][0]:.2f}" if s in line.x else "" for s in shown))
            for line in info
        )
        head = ("family", *(f"{100 * s:.0f} %" for s in shown))
        blocks.append(
            Figure(
                f"curves-{phase}",
                fig,
                f"Predicted speedup in {phase}, Llama-3.1-8B on an RTX PRO 6000.",
                Table(f"Predicted mean speedup over sparsity, {phase}", head, numbers, ("", *["n"] * len(shown))),
            )
        )
    return blocks


def frontier(main: pd.DataFrame) -> list[Block]:
    """Return the Pareto frontier in prefill, who leads where, and how sure that is."""
    families = passes.prefill_curves(main)
    best = pareto.frontier(families)
    mixed = pareto.frontier(passes.prefill_curves(main, published_speeds=True))
    gap, sampled = passes.sampled_winners(main)
    fig = plots.frontier_figure(plots.frontier_info(families), "Prefill speedup against quality loss")
    spans = [[f"{r.family}: {r.start:.1f} to {r.end:.1f}" for r in passes.ranges(b)] for b in (best, mixed)]
    length = max(len(span) for span in spans)
    stated = [f"{family}: {where}" for family, where in STATED.items()]
    columns = [column + [""] * (length - len(column)) for column in (spans[0], spans[1], stated)]
    shown = (2.0, 4.0, 6.0, 8.0, 11.0, 14.0, 16.0, 18.0, 22.0, 26.0)
    rows = []
    for at in shown:
        i = int(np.argmin(np.abs(gap - at)))
        name = best.family[i]
        odds = sorted(((float(v[i]), f) for f, v in sampled.items()), reverse=True)
        rows.append(
            (
                f"{at:g}",
                name,
                f"{best.speed[i]:.2f}",
                ", ".join(f"{f} {share:.0%}" for share, f in odds if share > 0.05),
            )
        )
    means: Any = passes.means(main)
    dynamic = 100.0 * (means.loc[("dynamic-depth", "prefill", 0.5), "mean"] / 1.44 - 1.0)
    return [
        Text(
            "Quality is Table 10 as measured; speed is the mean over the seven workloads of the predicted prefill "
            "speedup. A family is the piecewise-linear curve through its method of least loss at each sparsity, "
            "from (0, 1). Ranges leave out what a smaller loss dominates."
        ),
        Figure(
            "frontier",
            fig,
            "Curves of the families and the highest of them (grey); beyond 30.8 % a smaller loss is faster.",
        ),
        Table(
            "Who leads over which quality losses [%]",
            ("predicted", "predicted, with speeds of Table 2 at 25 and 50 %", "the paper states"),
            tuple(zip(*columns, strict=True)),
        ),
        Text(
            "Between about 11 and 16 % static depth and dynamic depth are close. The last point of dynamic depth "
            f"(50 %, loss 15.59 %) is predicted {dynamic:+.1f} % off, which hands part of that range to static "
            "depth; with the measured speeds of Table 2 dynamic depth keeps it."
        ),
        Table(
            "How sure the winner is: share of random draws of the families' errors in which each leads",
            ("quality loss [%]", "winner", "speedup", "leads in"),
            tuple(rows),
            ("", "", "n", ""),
        ),
    ]


def figure2(dense: pd.DataFrame) -> list[Block]:
    """Return Fig. 2 beside predictions."""

    def text(part: str, value: float) -> str:
        return f"{value:.4g}" if part == "total [s]" else f"{100 * value:.1f} %"

    rows = tuple(
        (
            r.phase, r.part, text(r.part, r.measured), text(r.part, r.predicted),
            percent(r.predicted / r.measured - 1.0)
            if r.part == "total [s]"
            else f"{100 * (r.predicted - r.measured):+.1f} points",
        )
        for r in records(dense)
    )  # fmt: skip
    head = ("phase", "part", "measured", "predicted", "difference")
    return [Table("Dense Llama-3.1-8B, batch 1, 32k context", head, rows, ("", "", "n", "n", "n"))]


def figure6(parts: pd.DataFrame) -> list[Block]:
    """Return Fig. 6 beside predictions, as figures and tables."""
    totals, pieces, ratios = figure6_errors(parts)
    blocks: list[Block] = [
        Text(
            f"Totals miss by {totals.mean():.1f} % on average (at most {totals.max():.1f} %), components above 10 % "
            f"of their layer by {pieces.mean():.1f} %, totals over the dense layer by {ratios.mean():.1f} %. The "
            "layers of Fig. 6 exceed the pass of Fig. 2 by 3 to 4 %; the absolute times of the stack lie between "
            "the two."
        )
    ]
    for phase, unit, scale in (("prefill", "ms", 1e3), ("decode", "us", 1e6)):
        here = parts[parts["phase"] == phase]
        sides, rows = [], []
        for family in dict.fromkeys(here["family"]):
            mine: Any = here[here["family"] == family].set_index("part")
            for label in ("measured", "predicted"):
                values = {p: float(mine.loc[p, label]) * 1e3 for p in parts_of.PARTS_OF_A_LAYER}
                sides.append(BreakdownInfo(f"{family}, {label}", values))
            cells = [
                f"{mine.loc[p, 'measured'] * scale:.3g} / {mine.loc[p, 'predicted'] * scale:.3g}" for p in mine.index
            ]
            off = mine.loc["total", "predicted"] / mine.loc["total", "measured"] - 1.0
            rows.append((family, *cells, percent(off)))
        fig = plots.breakdown_figure(sides, f"One layer at 50 %, {phase}, measured and predicted")
        fig.update_layout(height=640, margin_l=220)
        head = ("family", *parts_of.PARTS_OF_A_LAYER, "total", "error of total")
        blocks += [
            Figure(f"fig6-{phase}", fig, f"Fig. 6, {phase}: measured above predicted."),
            Table(f"Fig. 6, {phase}: measured / predicted [{unit}]", head, tuple(rows), ("", *["n"] * 7)),
        ]
    blocks.append(
        Text(
            "A decode step of dynamic depth is the mean of a kept and a skipped token (GEMV variant). Zeros that "
            "dynamic depth fills in, and padding of 2:4, are inside the GEMM column of the prediction and in other "
            "columns of the measurement."
        )
    )
    return blocks


def kernels() -> list[Block]:
    """Return crossovers and the rates of single kernels (Tables 7 to 9)."""
    table = passes.published("table7")
    tokens = np.unique(table["tokens"].to_numpy(dtype=float))
    rates = parts_of.gemm_rates(tokens)
    sides = ("dense", "semi_structured", "dynamic_depth")
    rows7 = tuple(
        (
            str(int(r.tokens)), r.projection,
            *(f"{getattr(r, s):.3g} / {rates[r.projection, s][tokens == r.tokens][0] / 1e12:.3g}" for s in sides),
        )
        for r in records(table)
    )  # fmt: skip
    blocks: list[Block] = [
        Heading("Crossovers"),
        _crossovers(),
        Heading("Rates of single kernels, measured / predicted [TFLOP/s]"),
        Text(
            "Dense-equivalent: the FLOPs of the dense kernel over the time of the pruned one. Table 7 is a replayed "
            "micro-benchmark and is predicted as one: weights that fit in L2 come from there."
        ),
        Table("Table 7: GEMMs", ("tokens", "projection", *_names(sides)), rows7, ("n", "", "n", "n", "n"), folded=True),
    ]
    sides = ("dense", "dynamic_depth", "sparse_attention")
    pruned = tuple(f"{side}_50" for side in sides[1:])
    for name, phase, key, columns in (
        ("Table 8: attention in prefill, by prompt", "prefill", "tokens", (sides[0], *pruned)),
        ("Table 9: attention in decode at 32768 keys, by batch", "decode", "batch", sides),
    ):
        measured = passes.published("table8" if phase == "prefill" else "table9")
        found = parts_of.attention_rates(phase, measured[key].to_numpy(dtype=float))
        rows = tuple(
            (
                str(getattr(r, key)),
                *(f"{getattr(r, s):.4g} / {found[s.removesuffix('_50')][i] / 1e12:.4g}" for s in columns),
            )
            for i, r in enumerate(records(measured))
        )
        blocks.append(Table(name, (key, *_names(columns)), rows, ("n", "n", "n", "n"), folded=True))
    return blocks


def _names(sides: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(side.removesuffix("_50").replace("_", "-") for side in sides)


def _crossovers() -> Table:
    gemms = {
        family: "; ".join(f"{name} {parts_of.replayed_crossover(family, name)}" for name in ("q", "up", "down"))
        for family in ("semi-structured", "dynamic-depth")
    }
    rows = (
        ("2:4 against dense, single GEMMs", "about 128 tokens; 8 where N is large (up)", gemms["semi-structured"]),
        ("dynamic depth against dense, single GEMMs", "about 512 tokens", gemms["dynamic-depth"]),
        ("dynamic depth against dense, whole prefill", "", str(parts_of.crossover("dynamic-depth"))),
        ("attention takes as long as gate, up and down", "near 32k tokens", f"{parts_of.attention_meets_ffn():.0f}"),
    )
    return Table("Tokens M from which it holds [90 % interval]", ("what", "measured", "predicted"), rows)


def whole_grid(grid: pd.DataFrame, csv: str) -> list[Block]:
    """Return the predicted grid of all settings, folded."""
    blocks: list[Block] = [
        Text(
            "Predicted speedups at the workloads and sparsities that the paper measured. The command also writes "
            f"{csv}, with intervals and times. Lay your measurements beside them."
        )
    ]
    head = ("family", "phase", "sparsity", *(f"{context // 1024}k, batch {batch}" for batch, context in WORKLOADS))
    for setting in passes.SETTINGS:
        model, gpu, dtype = setting
        rows = grid[(grid["model"] == model) & (grid["gpu"] == gpu) & (grid["dtype"] == dtype)]
        found = []
        groups: Any = rows.groupby(["family", "phase", "sparsity"], sort=False)
        for (family, phase, sparsity), group in groups:
            at = {(r.batch, r.context): r.speedup for r in records(group)}
            found.append((family, phase, f"{100 * sparsity:g} %", *(f"{at[workload]:.3f}" for workload in WORKLOADS)))
        name = f"{model} on {gpu}, {dtype}: predicted speedups"
        blocks.append(Table(name, head, tuple(found), ("", "", *["n"] * 8), folded=True))
    return blocks
