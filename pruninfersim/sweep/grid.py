"""Grids of questions answered in one go: models x hardware x stacks x workloads x methods x sparsities.

The same path as `compare`, on arrays: each distinct op shape is priced once per block, the dense side once for all
methods, and blocks are small enough to keep memory flat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim import hardware as hardware_registry
from pruninfersim import models as model_registry
from pruninfersim import pruning, stacks
from pruninfersim._util.arrays import checked
from pruninfersim.cost import CostModel
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method
from pruninfersim.questions.setup import Setup
from pruninfersim.stacks import Stack
from pruninfersim.sweep.blocks import FIELDS, Block, taken
from pruninfersim.sweep.runs import run_blocks
from pruninfersim.trace import PruningMethod
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

#: Points that one block evaluates at a time: enough to hide the cost of a numpy call, few enough for the caches.
BLOCK_POINTS = 16384
#: Blocks that one task evaluates together: enough to share their traces, few enough for its memory.
TOGETHER = 8
#: Columns that a frame of explicit rows must have.
ROW_COLUMNS = ("model", "hardware", "method", "sparsity", "phase", "batch", "context")


def sweep(
    *,
    models: Iterable[str | ModelConfig] | str | ModelConfig = (),
    hardware: Iterable[str | HardwareProfile] | str | HardwareProfile = (),
    workloads: Iterable[Workload] | Workload = (),
    methods: Iterable[Method] | PruningMethod | str | None = None,
    sparsity: ArrayLike = 0.5,
    stacks: Iterable[str | Stack | CostModel] | str | Stack | CostModel = ("vendor",),
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
        Axes of the grid. Workloads may have array fields, which are flattened. Methods are names (default: all), method
        objects, or sequences of them, which are compositions.
    sparsity : array_like, shape (sparsity,)
        Last axis of the grid [1], of the methods that are given by name. A method object has its own, and one row for
        each point of the other axes.
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


def _many(values: Any, kind: type | tuple[type, ...], name: str) -> list[Any]:
    """Return the entries of an axis, which may be given alone: a stack is a function, too, and a method an object."""
    one = isinstance(values, kind) or callable(values) or hasattr(values, "apply")
    several = [values] if one else list(values)
    if not several:
        raise InvalidInputError(f"the axis {name} is empty; give at least one")
    return several


def _blocks_of_grid(
    models: Any, hardware: Any, workloads: Any, methods: Any, sparsity: ArrayLike, stacks: Any, dtype: str | None
) -> list[Block]:
    chosen = [model_registry.get(model) for model in _many(models, (str, ModelConfig), "models")]
    gpus = [hardware_registry.get(gpu) for gpu in _many(hardware, (str, HardwareProfile), "hardware")]
    several = pruning.names() if methods is None else _many(methods, str, "methods")
    named = tuple(method for method in several if pruning.takes_sparsity(method))
    fixed = tuple(method for method in several if not pruning.takes_sparsity(method))
    ratios = np.atleast_1d(checked("sparsity", sparsity, minimum=0, below=1)).reshape(-1)
    for method in several:
        pruning.at(method, pruning.Axis(ratios))
    parts = [(kind, axis) for kind, axis in ((named, ratios), (fixed, np.zeros(1))) if kind]
    pieces = [
        piece
        for workload in _flattened(_many(workloads, Workload, "workloads"))
        for piece in _chunks(workload, max(1, BLOCK_POINTS // len(ratios)))
    ]
    questions = [(gpu, stack) for gpu in gpus for stack in _many(stacks, (str, CostModel), "stacks")]
    families: dict[tuple[int, ...], int] = {}
    return [
        Block(
            model, gpu, stack, dtype, piece, methods, axis,
            family=families.setdefault((i, question // TOGETHER, j, part), len(families)),
        )
        for i, model in enumerate(chosen)
        for question, (gpu, stack) in enumerate(questions)
        for j, piece in enumerate(pieces)
        for part, (methods, axis) in enumerate(parts)
    ]  # fmt: skip


def _blocks_of_rows(rows: pd.DataFrame, dtype: str | None) -> tuple[list[Block], NDArray[np.intp]]:
    missing = [name for name in ROW_COLUMNS if name not in rows.columns]
    if missing:
        raise InvalidInputError(f"rows lack the column {', '.join(missing)}; needed: {', '.join(ROW_COLUMNS)}")
    keys = ["model", "hardware", "phase"] + (["stack"] if "stack" in rows.columns else [])
    for name in (*keys, "method"):
        empty = np.flatnonzero(rows[name].isna())
        if empty.size:
            raise InvalidInputError(f"rows have no {name} in row {empty[0]}; fill it in, or leave the row out")
    method, names = rows["method"].factorize()
    blocks: list[Block] = []
    order: list[NDArray[np.intp]] = []
    groups: dict[Any, Any] = rows.groupby(keys, sort=False, observed=True).indices
    for values, index in groups.items():
        label = dict(zip(keys, values, strict=True))
        # Methods one after the other, so that all of them share the dense side.
        index = index[np.argsort(method[index], kind="stable")]
        for start in range(0, len(index), BLOCK_POINTS):
            part = index[start : start + BLOCK_POINTS]
            batch, context, ratio = (rows[name].to_numpy()[part] for name in ("batch", "context", "sparsity"))
            which, lengths = np.unique(method[part], return_counts=True)
            setup = Setup(label["model"], label["hardware"], label.get("stack", stacks.DEFAULT), dtype)
            blocks.append(
                Block(
                    setup.model,
                    setup.hardware,
                    setup.stack,
                    dtype,
                    setup.workload(label["phase"], batch, context),
                    tuple(names[i] for i in which),
                    checked("sparsity", ratio, minimum=0, below=1),
                    tuple(lengths.tolist()),
                    len(blocks),
                )
            )
            order.append(part)
    return blocks, np.concatenate(order) if order else np.zeros(0, dtype=np.intp)


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
    return [taken(workload, slice(start, start + size)) for start in range(0, count, size)]
