"""One self-contained HTML page: what pruning brings for a model on a GPU, why not more, what the numbers rest on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pruninfersim import _report_sections as sections_of
from pruninfersim import hardware as hardware_registry
from pruninfersim import models as model_registry
from pruninfersim import pruning, stacks
from pruninfersim._arrays import checked
from pruninfersim._files import atomically
from pruninfersim._report_page import Html, bullets, page
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.workload import Workload


def write_report(
    out: str | Path,
    *,
    model: str | ModelConfig = "llama-3.1-8b",
    hardware: str | HardwareProfile = "h100-sxm",
    methods: Iterable[str] = tuple(pruning.METHODS),
    sparsity: float = 0.5,
    workloads: Workload | Iterable[Workload] | None = None,
    stack: str | CostModel = "vendor",
    dtype: str | None = None,
) -> Path:
    """Write a report and return its path; a reader sees the whole file or none.

    Parameters
    ----------
    out : str or Path
        File to write; its directory must exist.
    model, hardware, methods, sparsity, workloads, stack, dtype : as in `html_report`

    Raises
    ------
    InvalidInputError
        If the directory does not exist or cannot be written to.

    >>> import pruninfersim as pis
    >>> path = write_report("report.html", methods=["static-width"], stack="ideal", workloads=pis.Workload.decode())
    >>> path.stat().st_size > 1e6  # plotly.js is in it
    True
    """
    text = html_report(
        model=model,
        hardware=hardware,
        methods=methods,
        sparsity=sparsity,
        workloads=workloads,
        stack=stack,
        dtype=dtype,
    )
    path = Path(out)
    try:
        atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(
            f"cannot write {path}: {error.strerror}. Choose a file in a directory that exists"
        ) from None
    return path


def html_report(
    *,
    model: str | ModelConfig = "llama-3.1-8b",
    hardware: str | HardwareProfile = "h100-sxm",
    methods: Iterable[str] = tuple(pruning.METHODS),
    sparsity: float = 0.5,
    workloads: Workload | Iterable[Workload] | None = None,
    stack: str | CostModel = "vendor",
    dtype: str | None = None,
) -> str:
    """Return a report as one HTML page that loads nothing: summary, tables, figures, assumptions, provenance, versions.

    Parameters
    ----------
    model, hardware, stack, dtype : as in `pruninfersim.speedup`
    methods : several str
        Names of pruning methods. One that cannot do this sparsity, or that the GPU has no figure for, is left out with
        a note.
    sparsity : float
        Of the tables and breakdowns; curves go from 0 to 0.7 [1].
    workloads : Workload or several, optional
        Single workloads; default is prefill of 2048 tokens at batch 1 and decode at batch 16 and context 2048.

    Raises
    ------
    UnknownNameError, InvalidInputError
        For unknown names, sweeps as workloads, and if no method is left.

    >>> page = html_report(methods=["static-depth"], stack="ideal")
    >>> page.count("plotly.js of plotly.py"), "Provenance" in page
    (1, True)
    """
    config, gpu = model_registry.get(model), hardware_registry.get(hardware)
    names = tuple(dict.fromkeys(methods))
    for name in names:
        if name not in pruning.METHODS:
            raise unknown_name("method", name, pruning.METHODS)
    checked("sparsity", sparsity, minimum=0, below=1)
    logits = stacks.default_logits(stack)
    wanted = (Workload.prefill(1, 2048, logits=logits), Workload.decode(16, 2048)) if workloads is None else workloads
    several = [wanted] if isinstance(wanted, Workload) else list(wanted)
    if not several:
        raise InvalidInputError("no workload to report on; give at least one, or leave workloads out")
    cases = [sections_of.case(config, gpu, workload, names, sparsity, stack, dtype) for workload in several]
    label = stacks.get(stack, gpu).stack
    title = f"Pruning {config.name} on {gpu.title}"
    lead = f"Predicted with stack {label} at a sparsity of {sparsity:.4g}, {dtype or config.dtype}. No GPU was used."
    sections: list[tuple[str, list[Html]]] = [
        ("Summary", [block for case in cases for block in sections_of.summary(case)])
    ]
    sections.append(("Speedups", [bullets(sections_of.TERMS), *(sections_of.speedups(case) for case in cases)]))
    for i, case in enumerate(cases):
        sections.append((case.name, sections_of.figures(case, config, gpu, stack, dtype, f"c{i}")))
    sections.append(("Assumptions", [bullets(sections_of.ASSUMPTIONS)]))
    sections.append(("Provenance", sections_of.provenance(cases)))
    sections.append(("Input and versions", sections_of.question(config, gpu, names, sparsity, several, label, dtype)))
    return page(title, lead, sections)
