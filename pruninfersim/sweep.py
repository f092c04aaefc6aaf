"""Grids of questions answered in one go: models x hardware x stacks x workloads x methods x sparsities.

The same path as `compare`, on arrays: each distinct op shape is priced once per block, the dense side once for all
methods, and blocks are small enough to keep memory flat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim import hardware as hardware_registry
from pruninfersim import models as model_registry
from pruninfersim import pruning, stacks
from pruninfersim._arrays import FloatArray, checked
from pruninfersim._runs import run_blocks
from pruninfersim.comparison import compare_estimates
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.memory import kv_memory, weight_memory
from pruninfersim.models import ModelConfig
from pruninfersim.trace import trace
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

#: Points that one block evaluates at a time: enough to hide the cost of a numpy call, few enough for the caches.
BLOCK_POINTS = 8192
#: Columns of text, stored as categories.
TEXT = ("model", "hardware", "stack", "method", "phase", "dtype")
#: Array fields of a workload.
FIELDS = ("batch", "query_len", "context")
#: Columns that a frame of explicit rows must have.
ROW_COLUMNS = ("model", "hardware", "method", "sparsity", "phase", "batch", "context")

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Block:
    """One piece of work: its points share model, GPU, stack and phase; its methods share the dense side.

    Attributes
    ----------
    model, hardware, stack, dtype : as `pruninfersim.speedup` takes them
    workload : Workload
        Fields of shape (workload,).
    methods : tuple of str
    sparsity : ndarray
        Shape (sparsity,), crossed with the workloads, or (workload,) if paired.
    paired : bool
    """

    model: ModelConfig
    hardware: HardwareProfile
    stack: str | CostModel
    dtype: str | None
    workload: Workload
    methods: tuple[str, ...]
    sparsity: FloatArray
    paired: bool = False

    def describe(self) -> dict[str, Any]:
        """Return what the block asks, in plain values."""
        workload = [getattr(self.workload, name).tolist() for name in FIELDS]
        points = len(self.sparsity) * (1 if self.paired else len(self.workload.batch))
        stack = stacks.get(self.stack, self.hardware).stack
        labels = [stack, self.dtype, self.workload.phase, self.workload.logits, self.workload.causal, self.methods]
        return {
            "model": self.model.name,
            "hardware": self.hardware.name,
            "asks": [*labels, workload, self.sparsity.tolist(), self.paired, repr(self.model), repr(self.hardware)],
            "rows": points * len(self.methods),
        }

    def evaluate(self) -> dict[str, Any]:
        """Return the columns of all points: method, then workload, then sparsity, in C order."""
        wide = self.workload if self.paired else _reshaped(self.workload, (-1, 1))
        cost_model = stacks.get(self.stack, self.hardware)
        dense = trace(self.model, wide, dtype=self.dtype)
        before = cost_model.predict(dense)
        parts = [self._method_columns(name, wide, before, cost_model) for name in self.methods]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name not in TEXT}
        size = len(columns["sparsity"])
        text = {
            "model": self.model.name,
            "hardware": self.hardware.name,
            "stack": cost_model.stack,
            "phase": wide.phase,
            "dtype": self.dtype or self.model.dtype,
        }
        labels: dict[str, Any] = {name: (np.zeros(size, dtype=np.int32), [value]) for name, value in text.items()}
        labels["method"] = (np.repeat(np.arange(len(parts), dtype=np.int32), size // len(parts)), list(self.methods))
        return {**{name: labels[name] for name in TEXT}, **columns}

    def _method_columns(self, name: str, wide: Workload, before: Any, cost_model: CostModel) -> dict[str, FloatArray]:
        pruned = before.trace.prune(pruning.get(name, self.sparsity))
        result = compare_estimates(before, cost_model.predict(pruned, known=before))
        shape = np.broadcast_shapes(wide.shape, self.sparsity.shape)
        achieved = pruned.applied[-1].achieved
        low, high = result.interval
        columns = {
            "batch": wide.batch,
            "context": wide.context,
            "sparsity": self.sparsity,
            "achieved_attention": achieved.get("attention", np.zeros(())),
            "achieved_mlp": achieved.get("mlp", np.zeros(())),
            "claim": result.claim,
            "flops_speedup": result.flops,
            "ideal_speedup": result.ideal,
            "estimated_speedup": result.estimated,
            "estimated_low": low,
            "estimated_high": high,
            "bound_speedup": result.bound,
            "dense_seconds": before.latency,
            "pruned_seconds": result.pruned.latency,
            "dense_bytes": weight_memory(before.trace) + kv_memory(before.trace),
            "pruned_bytes": weight_memory(pruned) + kv_memory(pruned),
        }
        return {key: np.broadcast_to(np.asarray(value), shape).reshape(-1) for key, value in columns.items()}


def sweep(
    *,
    models: Iterable[str | ModelConfig] | str | ModelConfig = (),
    hardware: Iterable[str | HardwareProfile] | str | HardwareProfile = (),
    workloads: Iterable[Workload] | Workload = (),
    methods: Iterable[str] | str = tuple(pruning.METHODS),
    sparsity: ArrayLike = 0.5,
    stacks: Iterable[str | CostModel] | str | CostModel = ("vendor",),
    dtype: str | None = None,
    rows: pd.DataFrame | None = None,
    executor: Executor | None = None,
    out: str | Path | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Answer a grid of questions, or a frame of explicit ones.

    Parameters
    ----------
    models, hardware, workloads, methods, stacks : one or several
        Axes of the grid. Workloads may have array fields, which are flattened.
    sparsity : array_like, shape (sparsity,)
        Last axis of the grid [1].
    dtype : str, optional
        Precision of the linear layers; default is each model's own.
    rows : DataFrame, optional
        Explicit questions in place of the grid: columns model, hardware, method, sparsity, phase, batch, context,
        and, if wanted, stack. The result has the same rows in the same order.
    executor : concurrent.futures.Executor, optional
        Runs the blocks, for instance a ``ProcessPoolExecutor`` or Dask's ``Client.get_executor()``.
    out : str or Path, optional
        Directory for a partitioned Parquet data set (needs pyarrow). Parts are written atomically; a run that was
        killed resumes where it stopped. The frame that comes back has then one row per part.
    progress : bool, optional
        Whether to show a progress bar; default is on long work in a terminal or notebook.

    Returns
    -------
    DataFrame
        Long form: text columns as categories, seconds and bytes in the column names, speedups without unit.

    Raises
    ------
    UnknownNameError, InvalidInputError
        For unknown names and empty axes.

    >>> from pruninfersim import Workload
    >>> grid = sweep(models="llama-3.1-8b", hardware=["h100-sxm", "l40s"], workloads=Workload.decode(batch=[1, 8]),
    ...              methods="static-width", sparsity=[0.25, 0.5], stacks="ideal")
    >>> len(grid), grid["estimated_speedup"].round(2).tolist()[:2]
    (8, [1.3, 1.87])
    """
    if rows is not None:
        blocks, order = _blocks_of_rows(rows, dtype)
    else:
        blocks, order = _blocks_of_grid(models, hardware, workloads, methods, sparsity, stacks, dtype), None
    return run_blocks(blocks, order=order, executor=executor, out=out, progress=progress)


def _many(values: Iterable[T] | T, kind: type | tuple[type, ...], name: str) -> list[T]:
    several: list[T] = [values] if isinstance(values, kind) else list(values)  # type: ignore[arg-type, list-item]
    if not several:
        raise InvalidInputError(f"the axis {name} is empty; give at least one")
    return several


def _blocks_of_grid(
    models: Any, hardware: Any, workloads: Any, methods: Any, sparsity: ArrayLike, stacks: Any, dtype: str | None
) -> list[Block]:
    chosen = [model_registry.get(model) for model in _many(models, (str, ModelConfig), "models")]
    gpus = [hardware_registry.get(gpu) for gpu in _many(hardware, (str, HardwareProfile), "hardware")]
    names = tuple(_many(methods, str, "methods"))
    ratios = np.atleast_1d(checked("sparsity", sparsity, minimum=0, below=1)).reshape(-1)
    for name in names:
        pruning.get(name, ratios)
    pieces = [
        piece
        for workload in _flattened(_many(workloads, Workload, "workloads"))
        for piece in _chunks(workload, max(1, BLOCK_POINTS // len(ratios)))
    ]
    return [
        Block(model, gpu, stack, dtype, piece, names, ratios)
        for model in chosen
        for gpu in gpus
        for stack in _many(stacks, (str, CostModel), "stacks")
        for piece in pieces
    ]


def _blocks_of_rows(rows: pd.DataFrame, dtype: str | None) -> tuple[list[Block], FloatArray]:
    missing = [name for name in ROW_COLUMNS if name not in rows.columns]
    if missing:
        raise InvalidInputError(f"rows lack the column {', '.join(missing)}; needed: {', '.join(ROW_COLUMNS)}")
    keys = ["model", "hardware", "method", "phase"] + (["stack"] if "stack" in rows.columns else [])
    blocks: list[Block] = []
    order: list[Any] = []
    groups: dict[Any, Any] = rows.groupby(keys, sort=False, observed=True).indices
    for values, index in groups.items():
        label = dict(zip(keys, values, strict=True))
        for start in range(0, len(index), BLOCK_POINTS):
            part = index[start : start + BLOCK_POINTS]
            batch, context, ratio = (rows[name].to_numpy()[part] for name in ("batch", "context", "sparsity"))
            blocks.append(
                Block(
                    model_registry.get(label["model"]),
                    hardware_registry.get(label["hardware"]),
                    label.get("stack", stacks.DEFAULT),
                    dtype,
                    Workload.of(
                        label["phase"], batch, context, stacks.default_logits(label.get("stack", stacks.DEFAULT))
                    ),
                    (label["method"],),
                    checked("sparsity", ratio, minimum=0, below=1),
                    paired=True,
                )
            )
            order.append(part)
    return blocks, np.concatenate(order) if order else np.zeros(0)


def _flattened(workloads: Sequence[Workload]) -> list[Workload]:
    """Merge workloads of one kind into one with fields of shape (workload,)."""
    kinds: dict[tuple[Any, ...], list[Workload]] = {}
    for workload in workloads:
        kinds.setdefault((workload.phase, workload.logits, workload.causal), []).append(workload)
    merged = []
    for (phase, logits, causal), members in kinds.items():
        fields = [
            np.concatenate([np.broadcast_to(getattr(w, name), w.shape).reshape(-1) for w in members]) for name in FIELDS
        ]
        merged.append(Workload(phase, fields[0], fields[1], fields[2], logits, causal))
    return merged


def _chunks(workload: Workload, size: int) -> list[Workload]:
    """Cut a flat workload into pieces of at most `size`."""
    count = workload.shape[0]
    return [_taken(workload, slice(start, start + size)) for start in range(0, count, size)]


def _taken(workload: Workload, part: slice) -> Workload:
    return replace(workload, **{name: getattr(workload, name)[part] for name in FIELDS})


def _reshaped(workload: Workload, shape: tuple[int, ...]) -> Workload:
    return replace(workload, **{name: getattr(workload, name).reshape(shape) for name in FIELDS})
