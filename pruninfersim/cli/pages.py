"""Commands that write pages: ``report``, ``reproduce-paper``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pruninfersim.cli import values
from pruninfersim.cli.options import Methods, Question, Sparsities, asks
from pruninfersim.cli.program import app
from pruninfersim.errors import InvalidInputError


@app.command()
@asks(phase=["both"])
def report(
    question: Question,
    out: Annotated[str, typer.Option(help="HTML file to write, - for standard output.")] = "report.html",
    method: Methods = ["all"],  # noqa: B006  # typer copies it
    sparsity: Sparsities = ["0.5"],  # noqa: B006
    plotlyjs: Annotated[
        str, typer.Option(help="Where plotly.js is (4.8 MB): inline, or directory, a file that pages there share.")
    ] = "inline",
) -> None:
    """Write one HTML page with tables, plots and provenance.

    The page needs no network.
    """
    import pruninfersim as pis

    file = values.output_file(out)
    ratios = values.read("--sparsity", sparsity, values.fraction)
    if len(ratios) > 1:
        raise InvalidInputError("report takes one sparsity; its curves show the others")
    setup = question.one("report")
    if file is None and plotlyjs == "directory":
        raise InvalidInputError("--plotlyjs directory puts a file beside the page; give --out the name of one, not -")
    asked: dict[str, Any] = {
        "plotlyjs": plotlyjs,
        "model": setup.model,
        "hardware": setup.hardware,
        "methods": None if values.several(method) == ["all"] else values.methods(method),
        "sparsity": ratios[0],
        "workloads": [case.workload for case in question.cases],
        "stack": setup.stack,
        "dtype": setup.dtype,
    }
    if file is None:
        values.write(None, pis.report.html_report(**asked))
    else:
        typer.echo(f"wrote {pis.report.write_report(file, **asked)}")


@app.command("reproduce-paper")
def reproduce_paper(
    out: Annotated[str, typer.Option(help="HTML file to write; the predicted grid goes next to it, as CSV.")] = (
        "paper.html"
    ),
    markdown: Annotated[str | None, typer.Option(help="Write the page as Markdown, too.")] = None,
) -> None:
    """Predict the figures of arXiv 2606.09080.

    They are laid beside its measurements.
    """
    file = values.output_file(out)
    text = None if markdown is None else values.output_file(markdown, "--markdown")
    if file is None or (markdown is not None and text is None):
        raise InvalidInputError("reproduce-paper writes several files; give the name of one, not -")
    from pruninfersim import reproduce

    for path in reproduce.write_reproduction(file, text):
        typer.echo(f"wrote {path}")
