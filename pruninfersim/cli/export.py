"""Command that writes a pass for other programs: ``export``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pruninfersim.cli import values
from pruninfersim.cli.options import Question, Sparsities, asks
from pruninfersim.cli.program import app
from pruninfersim.errors import InvalidInputError


class What(StrEnum):
    """What of a pass is written."""

    estimate = "estimate"
    trace = "trace"
    timeline = "timeline"


@app.command()
@asks()
def export(
    question: Question,
    out: Annotated[
        str, typer.Option(help="File to write: .csv, .parquet or .json; a timeline is .json, for ui.perfetto.dev.")
    ] = "step.json",
    what: Annotated[
        What, typer.Option(help="Ops with their times, ops before the software lowers them, or a timeline.")
    ] = What.estimate,
    method: Annotated[list[str], typer.Option(help="Pruning method to apply first, a+b for two.")] = [],  # noqa: B006
    sparsity: Sparsities = ["0.5"],  # noqa: B006
) -> None:
    """Write the ops of a pass for other programs.

    CSV, Parquet or JSON with the version of its schema, or a timeline that Perfetto and Chrome show.
    """
    import pruninfersim as pis
    from pruninfersim.report import export as written

    file = values.output_file(out)
    if file is None:
        raise InvalidInputError("export writes a file; give its name, not - (`trace --format json` prints)")
    question.one("export")
    named, ratios = values.methods(method), values.read("--sparsity", sparsity, values.fraction)
    if len(question.cases) > 1 or len(named) > 1 or len(ratios) > 1:
        raise InvalidInputError("export writes one pass; give one workload, one method and one sparsity")
    case = question.cases[0]
    ops = case.setup.trace(case.workload)
    if named:
        ops = ops.prune(pis.pruning.at(named[0], ratios[0]))
    if what is What.timeline:
        if file.suffix != ".json":
            raise InvalidInputError(f"a timeline ends in .json; got {file.name}")
        written.write_timeline(case.setup.estimate(ops), file)
    else:
        written.write_export(ops if what is What.trace else case.setup.estimate(ops), file)
    typer.echo(f"wrote {file}")
