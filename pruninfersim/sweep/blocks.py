"""Pieces of a sweep, and their evaluation: blocks that ask the same of several GPUs are evaluated together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pruninfersim import pruning, stacks
from pruninfersim._util.arrays import FloatArray, first_last, sealed
from pruninfersim.cost import CostModel, Estimate, Lowering
from pruninfersim.cost.distinct import Shapes
from pruninfersim.cost.memory import kv_memory, weight_memory
from pruninfersim.cost.speedups import claimed_share, claimed_speedup, flops_speedup, ideal_speedup
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.pruning import Method
from pruninfersim.questions.comparison import estimated_interval
from pruninfersim.stacks import Stack
from pruninfersim.trace import NEUTRAL, OpTrace, trace
from pruninfersim.workload import Workload

#: Columns of text, stored as categories.
TEXT = ("model", "hardware", "stack", "method", "phase", "dtype")
#: Columns of numbers.
NUMBERS = (
    "batch", "context", "sparsity", "achieved_attention", "achieved_mlp", "claim", "flops_speedup", "ideal_speedup",
    "estimated_speedup", "estimated_low", "estimated_high", "bound_speedup", "dense_seconds", "pruned_seconds",
    "dense_bytes", "pruned_bytes", "dense_fits", "pruned_fits",
)  # fmt: skip
#: Array fields of a workload.
FIELDS = ("batch", "query_len", "context")

Columns = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Block:
    """One piece of work: its points share model, GPU, stack and phase; its methods share the dense side.

    Attributes
    ----------
    model, hardware, stack, dtype : as `pruninfersim.speedup` takes them
    workload : Workload
        Fields of shape (workload,), or with an axis for each of what a grid crosses.
    methods : tuple of Method
        All by name, or all with sparsities of their own.
    sparsity : ndarray
        Shape (sparsity,), crossed with workloads and methods, or (workload,) if paired; of methods with sparsities of
        their own one number that nobody reads.
    lengths : tuple of int
        Of a paired block: how many of its workloads each method has, one method after the other. Empty in a grid,
        where every method has all of them.
    family : int
        Blocks of one family differ in GPU and stack only: they share their traces.
    """

    model: ModelConfig
    hardware: HardwareProfile
    stack: str | Stack | CostModel
    dtype: str | None
    workload: Workload
    methods: tuple[Method, ...]
    sparsity: FloatArray
    lengths: tuple[int, ...] = ()
    family: int = 0

    def describe(self) -> dict[str, Any]:
        """Return what the block asks, in plain values."""
        workload = [getattr(self.workload, name).tolist() for name in FIELDS]
        points = len(self.sparsity) * (1 if self.lengths else math.prod(self.workload.shape))
        stack = stacks.get(self.stack, self.hardware).stack
        methods = [method if isinstance(method, str) else repr(method) for method in self.methods]
        kind = [getattr(self.workload, name) for name in ("phase", "logits", "causal", "routing")]
        labels = [stack, self.dtype, *kind, methods]
        asks = [*labels, workload, self.sparsity.tolist(), self.lengths, repr(self.model), repr(self.hardware)]
        return {
            "model": self.model.name,
            "hardware": self.hardware.name,
            "asks": asks,
            "rows": points if self.lengths else points * len(self.methods),
        }


def evaluate(family: Sequence[Block]) -> list[Columns]:
    """Return the columns of each block of a family, see `one_by_one`."""
    return list(one_by_one(family))


def one_by_one(family: Sequence[Block]) -> Iterator[Columns]:
    """Yield the columns of each block of a family: method, then workload, then sparsity, in C order.

    Whoever lets go of the columns of a block before asking for the next one needs memory for one block less each time.
    """
    first = family[0]
    shared, priced = _answers(family)
    numbers = _joined(shared)
    size = len(numbers["sparsity"])
    which = np.repeat(np.arange(len(shared), dtype=np.int32), [len(part["sparsity"]) for part in shared])
    for block in family:
        labels = {
            "model": block.model.name,
            "hardware": block.hardware.name,
            "stack": stacks.get(block.stack, block.hardware).stack,
            "phase": first.workload.phase,
            "dtype": block.dtype or block.model.dtype,
        }
        text: Columns = {name: (np.zeros(size, dtype=np.int32), [label]) for name, label in labels.items()}
        text["method"] = (which, [pruning.at(method, 0.0).name for method in block.methods])
        room = block.hardware.memory_size
        inside = {f"{name}_fits": numbers[f"{name}_bytes"] <= room for name in ("dense", "pruned")}
        every = text | numbers | inside | _joined(priced.pop(0))
        yield {name: every[name] for name in (*TEXT, *NUMBERS)}


def _answers(family: Sequence[Block]) -> tuple[list[Columns], list[list[Columns]]]:
    """Return the columns of each method that all blocks share, and of each block those of each method.

    What does not depend on the GPU is done once: traces, pruning, distinct shapes, FLOPs and bytes.
    """
    first = family[0]
    workload = first.workload
    costs = [stacks.get(block.stack, block.hardware) for block in family]
    dense = trace(first.model, workload, dtype=first.dtype)
    shapes = _lowered(costs, dense, {})
    before = [cost.predict(shapes[cost.lower]) for cost in costs]
    shared: list[Columns] = []
    priced: list[list[Columns]] = [[] for _ in family]
    for method, rows in zip(first.methods, _rows(first), strict=True):
        if rows is None:  # sparsities first: numpy is fastest along the last axis, and lengths are the longest one
            ops, sides, asked = dense, before, workload
            ratios = first.sparsity.reshape(-1, *(1,) * len(workload.shape))
        else:
            ratios, asked = first.sparsity[rows], taken(workload, rows)
            ops, sides = _points(dense, rows, asked), [_points_of(side, rows, asked) for side in before]
        pruned = ops.prune(pruning.at(method, pruning.Axis(ratios)))
        shape = np.broadcast_shapes(asked.shape, ratios.shape)
        given = ratios if pruning.takes_sparsity(method) else 1.0 - claimed_share(pruned)
        shapes = _lowered(costs, pruned, {side.cost_model.lower: side.trace for side in sides})
        # Lowering changes no product and no weight, and its trace has been taken apart already.
        counts = _counts(asked, given, sides[0].trace, shapes[costs[0].lower].trace)
        shared.append(_flat(counts, shape, rows is None))
        for side, parts in zip(sides, priced, strict=True):
            after = side.cost_model.predict(shapes[side.cost_model.lower], known=side)
            parts.append(_flat(_times(side, after), shape, rows is None))
    return shared, priced


def _rows(block: Block) -> list[slice] | list[None]:
    """Return which workloads each method has; None for all of them, crossed with the sparsities."""
    if not block.lengths:
        return [None] * len(block.methods)
    ends = np.cumsum(block.lengths).tolist()
    return [slice(end - length, end) for end, length in zip(ends, block.lengths, strict=True)]


def _lowered(costs: Sequence[CostModel], ops: OpTrace, known: Mapping[Lowering, OpTrace]) -> dict[Lowering, Shapes]:
    """Return the distinct shapes of a trace as each stack lowers it, and which of them a known trace has."""
    return {lower: Shapes.of(lower(ops), known.get(lower)) for lower in dict.fromkeys(cost.lower for cost in costs)}


def _points(ops: OpTrace, rows: slice, workload: Workload) -> OpTrace:
    """Return some points of a trace with one sweep axis, and their workload."""
    size = ops.sweep_shape[0]

    def some(column: FloatArray) -> FloatArray:
        return column[rows] if column.ndim > 1 and len(column) == size else column

    columns: dict[str, Any] = {name: sealed(some(getattr(ops, name))) for name in NEUTRAL}
    return replace(ops, workload=workload, **columns)


def _points_of(side: Estimate, rows: slice, workload: Workload) -> Estimate:
    """Return some points of an estimate with one sweep axis, and their workload."""
    size = side.total.shape[0]

    def some(column: FloatArray) -> FloatArray:
        return column[rows] if column.ndim > 1 and len(column) == size else column

    timed = tuple(part.each(some) for part in side.timed)
    chain = side.chain and side.chain.points(rows, size)
    return replace(side, trace=_points(side.trace, rows, workload), timed=timed, chain=chain)


def _counts(workload: Workload, sparsity: FloatArray, dense: OpTrace, pruned: OpTrace) -> dict[str, Any]:
    """Return what depends on no GPU; of a composition, what its last method achieved."""
    achieved = pruned.applied[-1].achieved
    return {
        "batch": workload.batch,
        "context": workload.context,
        "sparsity": sparsity,
        "achieved_attention": achieved.get("attention", np.zeros(())),
        "achieved_mlp": achieved.get("mlp", np.zeros(())),
        "claim": claimed_speedup(pruned),
        "flops_speedup": flops_speedup(dense, pruned),
        "dense_bytes": weight_memory(dense) + kv_memory(dense),
        "pruned_bytes": weight_memory(pruned) + kv_memory(pruned),
    }


def _times(before: Estimate, after: Estimate) -> dict[str, Any]:
    """Return what a GPU and a stack make of it."""
    estimated, low, high, bound = estimated_interval(before, after)
    return {
        "ideal_speedup": ideal_speedup(before, after),
        "estimated_speedup": estimated,
        "estimated_low": low,
        "estimated_high": high,
        "bound_speedup": bound,
        "dense_seconds": before.total,
        "pruned_seconds": after.total,
    }


def _flat(columns: dict[str, Any], shape: tuple[int, ...], crossed: bool) -> Columns:
    """Return columns of one row per point: workload, then sparsity, whose axis is the first if they are crossed."""
    full = {name: np.broadcast_to(np.asarray(value), shape) for name, value in columns.items()}
    return {name: (first_last(value) if crossed else value).reshape(-1) for name, value in full.items()}


def _joined(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def taken(workload: Workload, part: slice, axis: int = 0) -> Workload:
    """Return some points of a workload along an axis; fields that do not vary along it stay as they are."""
    fields = {name: getattr(workload, name) for name in FIELDS}
    along = (*(slice(None),) * axis, part)
    short = {name: field[along] for name, field in fields.items() if field.ndim > axis and field.shape[axis] > 1}
    return replace(workload, **fields | short)
