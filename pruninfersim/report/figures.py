"""The figures of a report: curves, breakdown, waterfall, roofline and ranking of one workload."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim import plots, pruning
from pruninfersim.report.blocks import Block, Figure
from pruninfersim.report.sections import Case, waterfalls
from pruninfersim.sweep import sweep
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

#: Sparsities of the curves; a family that cannot go so far ends earlier.
CURVE = tuple(np.round(np.linspace(0.0, 0.7, 15), 3).tolist())
#: Batches and contexts of the curves and of the ranking.
BATCHES, CONTEXTS = (1, 4, 16, 64, 256), (512, 2048, 8192, 32768)


def figures(case: Case, ratio: float, name: str) -> list[Block]:
    """Return the figures of a workload.

    Parameters
    ----------
    case : Case
    ratio : float
        Sparsity of the methods that are given by name [1].
    name : str
        Start of the ids of the figures on the page.
    """
    setup, work = case.setup, case.workload
    common: dict[str, Any] = {
        "models": setup.model, "hardware": setup.hardware, "stacks": setup.stack, "dtype": setup.dtype,
        "progress": False,
    }  # fmt: skip
    methods = list(case.methods.values())
    curves = [sweep(**common, methods=[m], workloads=work, sparsity=_reach(m)) for m in methods]
    by_sparsity = _joined(curves)
    grid: dict[str, Any] = {"methods": methods, "sparsity": ratio}
    batch, context = int(work.batch), int(work.context)
    by_batch = sweep(**common, **grid, workloads=_like(work, batch=BATCHES))
    by_context = sweep(**common, **grid, workloads=_like(work, context=CONTEXTS))
    every = sweep(**common, **grid, workloads=_like(work, batch=np.array(BATCHES)[:, None], context=CONTEXTS))
    every = every.assign(workload=[f"{b:g} × {c:g}" for b, c in zip(every["batch"], every["context"], strict=True)])
    result = case.results[case.focus]
    sides = [plots.breakdown_info(case.dense, "dense")]
    sides += [plots.breakdown_info(r.pruned, method) for method, r in case.results.items()]
    band = "Bands are 90 % intervals."
    return [
        Figure(
            f"{name}-sparsity", plots.curve_figure(plots.curve_info(by_sparsity)),
            f"Estimated speedup against sparsity, with the usual claim 1/(1-s). {band}",
        ),
        Figure(
            f"{name}-breakdown", plots.breakdown_figure(sides),
            f"Time of each part of the pass, dense and at sparsity {ratio:.4g}.",
        ),
        Figure(
            f"{name}-waterfall", plots.waterfall_figure(plots.waterfall_info(case.why[case.focus])),
            f"From the claim to the estimate of {case.focus}: what each effect adds to the time that 1/(1-s) promises.",
        ),
        waterfalls(case),
        Figure(
            f"{name}-roofline",
            plots.roofline_figure(plots.roofline_info(case.dense), plots.roofline_info(result.pruned), "Roofline"),
            f"Ops on the roofline of the GPU, dense to {case.focus}. The area of a marker is the share of the time; "
            "rates are FLOPs over the predicted time.",
        ),
        Figure(
            f"{name}-batch", plots.curve_figure(plots.curve_info(by_batch, "batch"), "batch"),
            f"Estimated speedup against the batch, context {context}, sparsity {ratio:.4g}. {band}",
        ),
        Figure(
            f"{name}-context", plots.curve_figure(plots.curve_info(by_context, "context"), "context"),
            f"Estimated speedup against the context, batch {batch}, sparsity {ratio:.4g}. {band}",
        ),
        Figure(
            f"{name}-ranking", plots.heatmap_figure(plots.heatmap_info(every, "workload"), "batch × context [tokens]"),
            f"Estimated speedup of each method over batch × context, sparsity {ratio:.4g}.",
        ),
    ]  # fmt: skip


def _reach(method: Any) -> list[float]:
    """Return the sparsities of a curve that a method can do; one with a sparsity of its own is a single point."""
    if not pruning.takes_sparsity(method):
        return [0.0]
    end = pruning.largest(pruning.at(method, 0.0))
    return [s for s in CURVE if s <= end]


def _like(workload: Workload, batch: Any = None, context: Any = None) -> Workload:
    """Return workloads of the same kind with another batch or context."""
    of = Workload.of(
        workload.phase, workload.batch if batch is None else batch, workload.context if context is None else context
    )
    return replace(workload, batch=of.batch, query_len=of.query_len, context=of.context)


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(frames, ignore_index=True)
