"""Commands that write pages: ``report``, ``reproduce-paper``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import pruninfersim as pis
from pruninfersim.cli.options import Question, Sparsity, asks, methods
from pruninfersim.cli.program import app


@app.command()
@asks(phase="both")
def report(
    question: Question,
    out: Annotated[Path, typer.Option(help="HTML file to write; it needs no network.")] = Path("report.html"),
    method: Annotated[
        str, typer.Option(help="Pruning methods: names with commas, a+b for one after the other, or all.")
    ] = "all",
    sparsity: Sparsity = 0.5,
) -> None:
    """Write one HTML page with tables, plots, assumptions and provenance."""
    setup = question.setup
    phases = ["prefill", "decode"] if question.phase == "both" else [question.phase]
    path = pis.report.write_report(
        out,
        model=setup.model,
        hardware=setup.hardware,
        methods=methods(method),
        sparsity=sparsity,
        workloads=[question.workload(phase) for phase in phases],
        stack=setup.stack,
        dtype=setup.dtype,
    )
    typer.echo(f"wrote {path}")


@app.command("reproduce-paper")
def reproduce_paper(
    out: Annotated[Path, typer.Option(help="HTML file to write; the predicted grid goes next to it, as CSV.")] = Path(
        "paper.html"
    ),
    markdown: Annotated[Path | None, typer.Option(help="Write the page as Markdown, too.")] = None,
) -> None:
    """Predict the figures of arXiv 2606.09080 and lay them beside its measurements."""
    from pruninfersim import reproduce

    for path in reproduce.write_reproduction(out, markdown):
        typer.echo(f"wrote {path}")
