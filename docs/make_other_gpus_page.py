"""Write docs/other-gpus.md: run ``python docs/make_other_gpus_page.py`` after a change of the stack "vendor"."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pruninfersim import hardware
from pruninfersim.questions import pareto
from pruninfersim.report.blocks import Block, Points, Section, Table, Text, to_markdown
from pruninfersim.reproduce import passes
from pruninfersim.reproduce.kernels import crossover

PAGE = Path(__file__).with_name("other-gpus.md")
GPUS = ("h100-sxm", "h200-sxm", "b200-sxm", "l40s")
GAPS = (2.0, 4.0, 6.0, 8.0, 11.0, 14.0, 16.0, 18.0, 22.0, 26.0)
LEAD = (
    "The questions of the [reference paper](paper.md) for GPUs that it did not have: Llama-3.1-8B in bf16, its seven "
    "workloads, stack `vendor` (calibrated vendor libraries in place of the paper's research kernels; LM head on the "
    "last token). Nothing here was measured; brackets are 90 % intervals."
)


def realised(frames: dict[str, object]) -> Table:
    rows = []
    for family in passes.FAMILIES:
        for phase in passes.PHASES:
            cells = []
            for frame in frames.values():
                at = passes.means(frame).loc[(family, phase, 0.5)] / 2.0
                cells.append(f"{at['mean']:.2f} [{at['low']:.2f}, {at['high']:.2f}]")
            rows.append((family, phase, *cells))
    return Table(
        "Share of 1/(1-s) realised at 50 %, mean over the workloads", ("family", "phase", *frames), tuple(rows)
    )


def frontiers(frames: dict[str, object]) -> list[Block]:
    spans = {}
    odds = {}
    for gpu, frame in frames.items():
        best = pareto.frontier(passes.prefill_curves(frame))
        spans[gpu] = [f"{r.family} {r.start:.1f} to {r.end:.1f}" for r in passes.ranges(best)]
        gap, leads = passes.sampled_winners(frame)
        at = [int(np.argmin(np.abs(gap - g))) for g in GAPS]
        odds[gpu] = [max(((float(v[i]), f) for f, v in leads.items())) for i in at]
    length = max(len(span) for span in spans.values())
    rows = tuple(zip(*(span + [""] * (length - len(span)) for span in spans.values()), strict=True))
    sure = tuple(
        (f"{gap:g}", *(f"{odds[gpu][i][1]} {odds[gpu][i][0]:.0%}" for gpu in frames)) for i, gap in enumerate(GAPS)
    )
    return [
        Table("Who leads in prefill over which quality losses [%]", tuple(frames), rows),
        Table(
            "Family that leads most often in random draws of the families' errors, and in how many",
            ("quality loss [%]", *frames),
            sure,
        ),
    ]


def crossings() -> Table:
    asked = (
        ("2:4, q", "semi-structured", ("q",)),
        ("2:4, up", "semi-structured", ("up",)),
        ("2:4, down", "semi-structured", ("down",)),
        ("2:4, whole prefill", "semi-structured", ()),
        ("dynamic-depth, q", "dynamic-depth", ("q",)),
        ("dynamic-depth, up", "dynamic-depth", ("up",)),
        ("dynamic-depth, down", "dynamic-depth", ("down",)),
        ("dynamic-depth, whole prefill", "dynamic-depth", ()),
    )
    rows = tuple(
        (label, *(str(crossover(family, gpu=gpu, stack="vendor", names=names)) for gpu in GPUS))
        for label, family, names in asked
    )
    return Table("Tokens M from which a method at 50 % is never slower than dense", ("what", *GPUS), rows)


def sections() -> list[Section]:
    frames = {gpu: passes.predicted("llama-3.1-8b", gpu, stack="vendor") for gpu in GPUS}
    names = ", ".join(f"`{gpu}` ({hardware.get(gpu).title})" for gpu in GPUS)
    return [
        ("Realised shares", [realised(frames), Text(f"GPUs: {names}.")]),
        (
            "Prefill Pareto frontier",
            [
                Text(
                    "Quality is Table 10 of the paper, speed the mean of the predicted prefill speedup. Ranges leave "
                    "out what a smaller loss dominates."
                ),
                *frontiers(frames),
            ],
        ),
        (
            "Crossovers",
            [
                Text("'Always' means at every M from 1 on, 'never' that dense is ahead at 32768 tokens still."),
                crossings(),
            ],
        ),
        (
            "How far to trust it",
            [
                Points(
                    (
                        "GEMMs were timed on all four GPUs, attention on the H100 and the L40S, 2:4 on the B200; "
                        "everything else is carried over from other GPUs, see [Accuracy](accuracy.md).",
                        "Dynamic depth and sparse attention have no vendor kernels: they are composed of library "
                        "calls, and their intervals are wider for it.",
                        "Shares differ from the paper's, as this stack fuses elementwise kernels and runs the "
                        "LM head on the last token only, which leaves more of a pass to prune.",
                        "A winner with less than two thirds of the draws is a guess. The draws take the errors of "
                        "two families as independent.",
                        "Intervals of a mean are means of intervals: the errors of the workloads are taken as one.",
                    )
                )
            ],
        ),
    ]


if __name__ == "__main__":
    note = "Generated by docs/make_other_gpus_page.py. Do not edit."
    PAGE.write_text(to_markdown("The same questions on other GPUs", LEAD, sections(), note), encoding="utf-8")
