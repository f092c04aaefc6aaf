"""One self-contained HTML page: what pruning brings for a model on a GPU, why not more, what the numbers rest on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Never, TypeAlias, TypedDict, Unpack, get_args

import numpy as np
from plotly.offline import get_plotlyjs

from pruninfersim import pruning, stacks
from pruninfersim._util.arrays import checked
from pruninfersim._util.defaults import CONTEXT
from pruninfersim._util.doors import door
from pruninfersim._util.files import check_place, write_text
from pruninfersim._util.words import refuse
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.vocabulary import alternatives
from pruninfersim.report import sections as of
from pruninfersim.report.blocks import Points, Section, to_html
from pruninfersim.report.figures import figures
from pruninfersim.report.page import SCRIPT_FILE
from pruninfersim.stacks import Stack
from pruninfersim.workload import Workload

#: Sequences of a report where nobody says.
BATCH = {"prefill": 1, "decode": 16}
PlotlyJs: TypeAlias = Literal["inline", "directory"]


class Asked(TypedDict, total=False):
    """What a report is asked for; see `html_report`."""

    model: str | ModelConfig
    hardware: str | HardwareProfile
    method: Method | None
    methods: Iterable[Method] | None
    sparsity: float
    phase: str | Iterable[str] | None
    batch: int | Iterable[int] | None
    context: int | Iterable[int] | None
    workloads: Workload | Iterable[Workload] | None
    stack: str | Stack | CostModel
    dtype: str | None


@door
def write_report(out: str | Path, *, plotlyjs: PlotlyJs = "inline", **asked: Unpack[Asked]) -> Path:
    """Write a report and return its path; a reader sees the whole file or none.

    Parameters
    ----------
    out : str or Path
        File to write; its directory must exist.
    plotlyjs : {"inline", "directory"}
        Where plotly.js is (4.8 MB): in the page, or in a file beside it, which the reports of a directory share.
    **asked
        As in `html_report`.

    Raises
    ------
    InvalidInputError
        If the directory does not exist or cannot be written to.

    >>> import pruninfersim as pis
    >>> path = write_report("report.html", methods=["static-width"], stack="ideal", workloads=pis.Workload.decode())
    >>> path.stat().st_size > 1e6  # plotly.js is in it
    True
    """
    if plotlyjs not in get_args(PlotlyJs):
        raise unknown_name("value of plotlyjs", plotlyjs, get_args(PlotlyJs))
    path = Path(out)
    check_place(path)
    text = html_report(plotlyjs=plotlyjs, **asked)
    if plotlyjs == "directory":
        write_text(path.parent / SCRIPT_FILE, get_plotlyjs())
    return write_text(path, text)


@door
def html_report(
    *,
    model: str | ModelConfig = "llama-3.1-8b",
    hardware: str | HardwareProfile = "h100-sxm",
    method: Method | None = None,
    methods: Iterable[Method] | None = None,
    sparsity: float = 0.5,
    phase: str | Iterable[str] | None = None,
    batch: int | Iterable[int] | None = None,
    context: int | Iterable[int] | None = None,
    workloads: Workload | Iterable[Workload] | None = None,
    stack: str | Stack | CostModel = stacks.DEFAULT,
    dtype: str | None = None,
    plotlyjs: PlotlyJs = "inline",
    **other: Never,
) -> str:
    """Return a report as one HTML page that loads nothing: summary, tables, figures, assumptions, provenance, versions.

    Parameters
    ----------
    model, hardware, stack, dtype : as in `pruninfersim.speedup`
    method : Method, optional
        The only one: a name, an object, or a sequence, which is a composition; in place of `methods`.
    methods : several methods, optional
        Names (default: all), method objects, or sequences of them, which are compositions. One that cannot do this
        sparsity, or that the GPU has no figure for, is left out with a note.
    sparsity : float
        Of the methods that are given by name, in tables and breakdowns; curves go from 0 to 0.7 [1].
    phase, batch, context : one or several, optional
        As in `pruninfersim.speedup`, each crossed with the others; default is both phases, batch 1 in prefill and 16
        in decode, and 1024 tokens.
    workloads : Workload or several, optional
        Single workloads, in place of `phase`, `batch` and `context`.
    plotlyjs : {"inline", "directory"}
        As in `write_report`, which also writes the file.

    Raises
    ------
    UnknownNameError, InvalidInputError
        For unknown names and keywords, sweeps as workloads, and if no method is left.

    >>> page = html_report(methods=["static-depth"], stack="ideal")
    >>> page.count("plotly.js of plotly.py"), "Provenance" in page
    (1, True)
    >>> page = html_report(method="low-rank", phase="decode", batch=[1, 8], context=4096, stack="ideal")
    >>> "Decode, batch 8, context 4096" in page
    True
    """
    refuse("report", other, Asked.__annotations__)
    setup = Setup(model, hardware, stack, dtype)
    ratio = float(checked("sparsity", sparsity, minimum=0, below=1))
    if method is not None and methods is not None:
        raise InvalidInputError("give method (one, or a composition) or methods (alternatives), not both")
    given_methods = methods if method is None else [method]
    several = pruning.names() if given_methods is None else _several(alternatives(given_methods))
    given = {name: x for name, x in (("phase", phase), ("batch", batch), ("context", context)) if x is not None}
    if given and workloads is not None:
        raise InvalidInputError(f"the workloads say it already; leave {next(iter(given))} out")
    wanted = _crossed(setup, **given) if workloads is None else workloads
    asked = [wanted] if isinstance(wanted, Workload) else list(wanted)
    if not asked:
        raise InvalidInputError("no workload to report on; give at least one, or leave workloads out")
    cases = [of.case(setup, workload, several, ratio) for workload in asked]
    title = f"Pruning {setup.model.name} on {setup.hardware.title}"
    lead = f"Predicted with stack {setup.stack.stack} at a sparsity of {ratio:.4g}, {setup.dtype}. No GPU was used."
    sections: list[Section] = [
        ("Summary", [block for case in cases for block in of.summary(case)]),
        ("Speedups", [Points(of.TERMS), *(of.speedups(case) for case in cases)]),
        *((case.name, figures(case, ratio, f"c{i}")) for i, case in enumerate(cases)),
        ("Assumptions", [Points(of.ASSUMPTIONS)]),
        ("Provenance", of.provenance(cases)),
        ("Input and versions", of.question(cases, ratio)),
    ]
    return to_html(title, lead, sections, inline=plotlyjs == "inline")


def _crossed(
    setup: Setup, phase: Any = ("prefill", "decode"), batch: Any = None, context: Any = CONTEXT
) -> list[Workload]:
    """Return a workload for each phase, batch and context."""
    phases, contexts = ([x] if isinstance(x, str) or np.ndim(x) == 0 else list(x) for x in (phase, context))
    return [
        setup.workload(name, size, tokens)
        for name in phases
        for size in np.ravel(BATCH.get(name, 1) if batch is None else batch).tolist()
        for tokens in contexts
    ]


def _several(methods: Iterable[Method]) -> list[Method]:
    """Return the methods, each name once; an unknown one is an error here, not a method that is left out."""
    several = list(dict.fromkeys(methods)) if all(isinstance(m, str) for m in methods) else list(methods)
    for method in several:
        pruning.at(method, 0.0)
    return several
