"""Does a pruning method keep the contract of one?"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from pruninfersim import models, pruning
from pruninfersim import ops as catalogue
from pruninfersim.cost.speedups import total_flops
from pruninfersim.errors import InvalidInputError
from pruninfersim.models import ModelConfig
from pruninfersim.testing.common import CLOSE, WORKLOADS, reported, require, snapshot, totals
from pruninfersim.trace import LABELS, NEUTRAL, Applied, OpTrace, PruningMethod, trace
from pruninfersim.workload import Workload

#: Columns that must be positive, not just non-negative.
SIZES = ("m", "n", "k", "batch", "b_batch", "sequences", "a_bytes", "b_bytes", "out_bytes")
#: How far below zero an achieved sparsity may be: rounding up to an alignment may store a little more than dense.
ROUNDING = 0.05


def check_pruning(
    method: PruningMethod,
    *,
    model: str | ModelConfig = "llama-3.1-8b",
    workloads: Sequence[Workload] = WORKLOADS,
    kernels: Collection[str] = tuple(catalogue.CATALOGUE),
) -> None:
    """Check that a pruning method keeps the contract of a method; return nothing if it does.

    `apply` must be pure, return finite non-negative read-only columns with the op axis last, name kernels that exist,
    not raise the FLOPs of an op that the dense trace has too (work that it adds goes in rows of its own), give the same
    for one sweep as for its points, and the same for layers folded together as for layers apart. If it notes what it
    removed (`Applied`), the note must make sense; if it does not, `OpTrace.prune` works one out.

    Parameters
    ----------
    method : PruningMethod
        Its own numeric fields may be arrays.
    model : str or ModelConfig
    workloads : sequence of Workload
        Single workloads, without sweep axes.
    kernels : collection of str
        Kernel keys that a row may name; the default is every key of the catalogue, `pruninfersim.ops`.

    Raises
    ------
    ConformanceError
        If the contract is broken; the message says how.
    InvalidInputError
        If a workload has sweep axes.

    >>> from pruninfersim import pruning
    >>> check_pruning(pruning.StaticWidth(0.5))
    """
    config = models.get(model)
    label = str(getattr(method, "name", ""))
    require(bool(label), f"{type(method).__name__} has no name")
    by_kind: dict[tuple[Any, ...], list[tuple[Workload, OpTrace]]] = {}
    for workload in workloads:
        if workload.shape:
            raise InvalidInputError(f"give workloads without sweep axes; got one of shape {workload.shape}")
        dense = trace(config, workload)
        pruned = _apply(method, dense, label)
        _check_structure(dense, pruned, label, kernels)
        _check_work(dense, pruned, label)
        _check_record(dense, pruned, label)
        unfolded = _apply(method, dense.unfold(), label)
        for what, before, after in zip(("FLOPs", "bytes"), totals(pruned), totals(unfolded), strict=True):
            same = np.allclose(before, after, rtol=CLOSE, atol=0)
            require(same, f"{label}: {what} differ if layers are folded ({before}) or apart ({after})")
        kind = (workload.phase, workload.logits, workload.causal, workload.routing)
        by_kind.setdefault(kind, []).append((workload, pruned))
    for points in by_kind.values():
        _check_sweep(method, config, points, label)
    _check_axis(method, trace(config, workloads[0]), label)


# --- parts of check_pruning -----------------------------------------------------------------------------------------


def _apply(method: PruningMethod, dense: OpTrace, label: str) -> OpTrace:
    before = snapshot(dense)
    with reported(f"{label}: apply"):
        pruned, again = method.apply(dense), method.apply(dense)
    require(snapshot(dense) == before, f"{label}: apply changed the trace that it was given; return a new one")
    require(isinstance(pruned, OpTrace), f"{label}: apply returned {type(pruned).__name__}, not an OpTrace")
    require(snapshot(pruned) == snapshot(again), f"{label}: apply gave two results for the same trace")
    return pruned


def _check_structure(dense: OpTrace, pruned: OpTrace, label: str, kernels: Collection[str]) -> None:
    size = len(pruned.name)
    for name in NEUTRAL:
        column = getattr(pruned, name)
        float_array = isinstance(column, np.ndarray) and column.dtype == np.float64
        require(float_array, f"{label}: column {name} is not a float64 array; use OpTrace.with_columns")
        fits = column.ndim > 0 and column.shape[-1] == size
        require(fits, f"{label}: column {name} has shape {column.shape}; its last axis must be the {size} ops")
        require(not column.flags.writeable, f"{label}: column {name} can be changed; use OpTrace.with_columns")
        require(bool(np.isfinite(column).all()), f"{label}: column {name} is not finite")
        low = "positive" if name in SIZES else "non-negative"
        right = bool((column > 0).all() if name in SIZES else (column >= 0).all())
        require(right, f"{label}: column {name} must be {low}; its smallest value is {column.min():g}")
    for name in LABELS:
        values = getattr(pruned, name)
        right = isinstance(values, tuple) and len(values) == size
        require(right, f"{label}: label {name} must be a tuple with one entry for each of the {size} ops")
    strangers = sorted(set(pruned.kernel) - set(kernels))
    require(not strangers, f"{label}: no stack has a kernel for {', '.join(strangers)}. Known: {', '.join(kernels)}")
    unmarked = [
        f"{n} ({key})"
        for n, key, pattern in zip(pruned.name, pruned.kernel, pruned.pattern, strict=True)
        if key in catalogue.CATALOGUE and catalogue.get(key).pattern != pattern
        if not (pattern == "window" and catalogue.get(key).group == "attention")
    ]
    require(not unmarked, f"{label}: the label pattern does not fit the kernel key of {', '.join(unmarked)}")
    wrong = [
        f"{n} of {part}" for n, part in zip(pruned.name, pruned.block, strict=True) if part not in set(dense.block)
    ]
    require(not wrong, f"{label}: unknown block: {', '.join(wrong)}; use one of {', '.join(sorted(set(dense.block)))}")
    same = pruned.model is dense.model and pruned.workload is dense.workload
    require(same, f"{label}: the pruned trace has lost its model or workload; use with_columns, select and concat")
    with reported(f"{label}: sweep axes of the pruned trace"):
        _ = pruned.shape


def _check_work(dense: OpTrace, pruned: OpTrace, label: str) -> None:
    for name in dict.fromkeys(dense.name):
        before, after = (total_flops(side.select(side.mask(names=[name]))) for side in (dense, pruned))
        more = bool(np.any(after > before * (1.0 + CLOSE)))
        require(not more, f"{label}: {name} has more FLOPs than in the dense trace; give added work its own row")


def _check_record(dense: OpTrace, pruned: OpTrace, label: str) -> None:
    if len(pruned.applied) == len(dense.applied):  # `OpTrace.prune` works it out
        return
    last = pruned.applied[-1]
    require(isinstance(last, Applied), f"{label}: applied holds {type(last).__name__}, not Applied")
    require(last.method == label, f"{label}: applied names the method {last.method!r}")
    require(bool(last.achieved), f"{label}: applied does not say which sparsity was achieved")
    for what, values in {"asked": last.asked, **last.achieved}.items():
        array = np.asarray(values, dtype=np.float64)
        low = 0.0 if what == "asked" else -ROUNDING
        right = bool(np.all((array >= low) & (array < 1.0)))
        require(right, f"{label}: sparsity {what} must be in [0, 1); got {array.min():g} to {array.max():g}")
        with reported(f"{label}: sparsity {what} of shape {array.shape}"):
            np.broadcast_shapes(array.shape, pruned.sweep_shape)


def _check_sweep(
    method: PruningMethod, config: ModelConfig, points: Sequence[tuple[Workload, OpTrace]], label: str
) -> None:
    """Compare one trace with sweep axes with its points."""
    own = points[0][1].sweep_shape
    axes = (len(points), *(1,) * len(own))
    first = points[0][0]
    batch, query, context = (
        np.array([float(getattr(workload, name)) for workload, _ in points]).reshape(axes)
        for name in ("batch", "query_len", "context")
    )
    if first.phase == "prefill":
        sweep = Workload.prefill(
            batch, query, prefix=context - query, logits=first.logits, causal=first.causal, routing=first.routing
        )
    else:
        sweep = Workload.decode(batch, context, routing=first.routing)
    together = _apply(method, trace(config, sweep), label)
    shape = (len(points), *own)
    with reported(f"{label}: sweep of shape {shape}"):
        for index, (_, alone) in enumerate(points):
            require(together.name == alone.name, f"{label}: a sweep has other ops than its points")
            for name in NEUTRAL:
                wide = np.broadcast_to(getattr(together, name), (*shape, len(together)))[index]
                same = np.allclose(wide, getattr(alone, name), rtol=CLOSE, atol=0)
                require(same, f"{label}: column {name} of a sweep differs from that of its points")


def _check_axis(method: PruningMethod, dense: OpTrace, label: str) -> None:
    """A method with one sparsity takes an axis of them, which is how sweeps and break-even ask it."""
    made: Any = method
    ratio = getattr(method, "sparsity", None)
    known = dataclasses.is_dataclass(method) and "sparsity" in {field.name for field in dataclasses.fields(method)}
    if not known or not isinstance(ratio, float | int):
        return
    with reported(f"{label}: a sparsity of shape (2,)"):
        several = _apply(dataclasses.replace(made, sparsity=pruning.Axis([ratio, ratio])), dense, label)
        wide = totals(several), totals(_apply(method, dense, label))
    for what, axis, alone in zip(("FLOPs", "bytes"), *wide, strict=True):
        same = np.allclose(axis, alone, rtol=CLOSE, atol=0)
        require(same, f"{label}: {what} of two equal sparsities ({axis}) are not those of one ({alone})")
