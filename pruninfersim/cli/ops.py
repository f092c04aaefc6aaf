"""Commands that look inside of a pass: ``trace``, ``explain``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pruninfersim.cli import values
from pruninfersim.cli.options import Format, Methods, Output, Question, Sparsities, asks
from pruninfersim.cli.program import app
from pruninfersim.cli.show import notes, records, show
from pruninfersim.cli.show import question as question_in_words
from pruninfersim.cli.speedups import Pruned, method_name, pruned_cases
from pruninfersim.cli.speedups import asked as pruned_as
from pruninfersim.errors import InvalidInputError

#: Columns of `trace` that a narrow table can do without, the first goes first.
#: No method: the dense model.
NONE: list[Any] = [None]
DROPPED = ("intensity [FLOP/B]", "provenance", "block", "MB", "GFLOP", "op batch", "kernel", "roofline [ms]")


@app.command()
@asks()
def trace(
    question: Question,
    method: Annotated[list[str], typer.Option(help="Pruning method to apply first, a+b for two.")] = [],  # noqa: B006
    sparsity: Sparsities = ["0.5"],  # noqa: B006
    output: Output = Format.table,
) -> None:
    """Print every op of a pass: shape, time, what bounds it."""
    import pruninfersim as pis

    named = values.methods(method)
    ratios = values.read("--sparsity", sparsity, values.ratio)
    rows: list[dict[str, Any]] = []
    for case in question.cases:
        for chosen in named or NONE:
            for ratio in ratios if chosen and pis.pruning.takes_sparsity(chosen) else ratios[:1]:
                ops = case.setup.trace(case.workload)
                asked: dict[str, Any] = {**case.columns, "method": "dense"}
                if chosen:
                    each = Pruned(case, *pruned_as(chosen, ratio))
                    ops = each.traces()[1]
                    asked |= {"method": method_name(chosen), "sparsity": each.sparsity}
                result = case.setup.estimate(ops)
                own = _ops(result, asked)
                rows += own
                if output is Format.table:
                    _show_one(own, result, asked)
                notes([(case.label(question.cases, asked["method"]), note) for note in result.notes], 0)
    if output is not Format.table:
        show(rows, output, title="")


def _ops(result: Any, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row for each op; columns of an op that have the name of a question are told apart."""
    frame = result.to_frame()
    frame = frame.rename(columns={name: f"op {name}" if name in asked else name for name in frame.columns})
    return [{**asked, **row} for row in records(frame)]


def _show_one(rows: list[dict[str, Any]], result: Any, asked: dict[str, Any]) -> None:
    """Print the ops of one pass as a table."""
    cells = [
        {
            "op": row["name"],
            "block": row["block"],
            "kernel": row["kernel"],
            "count": _whole(row["count"]),
            "op batch": _whole(row["op batch"]),
            "m": _whole(row["m"]),
            "n": _whole(row["n"]),
            "k": _whole(row["k"]),
            "GFLOP": row["flops"] / 1e9,
            "MB": row["bytes"] / 1e6,
            "intensity [FLOP/B]": row["intensity_flop_per_byte"],
            "roofline [ms]": row["roofline_seconds"] * 1e3,
            "time [ms]": row["seconds"] * 1e3,
            "share [%]": row["share"] * 1e2,
            "bound": row["bound"],
            "provenance": row["provenance"],
        }
        for row in rows
    ]
    total = float(result.latency) * 1e3
    show(cells, Format.table, title=f"{question_in_words(asked)}: {total:.4g} ms in {len(rows)} ops", drop=DROPPED)


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


@app.command()
@asks()
def explain(
    question: Question,
    method: Methods,
    sparsity: Sparsities = ["0.5"],  # noqa: B006
    output: Output = Format.table,
) -> None:
    """Say why a pruned model is not faster, in steps that add up.

    From the claim 1/(1-s) to the estimate.
    """
    import pruninfersim as pis

    rows: list[dict[str, Any]] = []
    for each in pruned_cases(question, method, sparsity):
        setup, (dense, pruned) = each.case.setup, each.traces()
        why = pis.explain(dense, pruned, hardware=setup.hardware, stack=setup.stack)
        # Rounded to a femtosecond: a step that cancels exactly is 0, not what floating point leaves of it.
        own = [
            {
                **each.columns,
                "step": step["step"],
                "added [ms]": round(step["seconds"] * 1e3, 12) + 0.0,
                "total [ms]": round(step["total_seconds"] * 1e3, 12) + 0.0,
                "speedup so far": step["speedup_so_far"],
                "meaning": step["meaning"],
            }
            for step in why.to_frame().to_dict(orient="records")
        ]
        rows += own
        if output is Format.table:
            if len(rows) > len(own):
                typer.echo()
            dense_time = float(why.speedup.dense.latency) * 1e3
            show(
                own, output, title=f"Why not faster, dense {dense_time:.4g} ms", drop=("meaning", "total [ms]"), own=()
            )
        said = [(each.case.label(question.cases, each.columns["method"]), note) for note in why.speedup.notes]
        notes(said, 0)
    if not rows:
        raise InvalidInputError("no method can do what is asked")
    if output is not Format.table:
        show(rows, output, title="")
