"""The op trace: one row per operation of a forward pass, as a struct of read-only arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim import models
from pruninfersim._util.arrays import FloatArray, frozen, sealed, stack_ops
from pruninfersim.models import ModelConfig
from pruninfersim.workload import Workload

#: Neutral value of every numeric column: what a row has if nobody says otherwise.
NEUTRAL: dict[str, float] = {
    "m": 1.0,
    "n": 1.0,
    "k": 1.0,
    "batch": 1.0,
    "b_batch": 1.0,
    "sequences": 1.0,
    "gemms": 0.0,
    "count": 1.0,
    "mac_fraction": 1.0,
    "a_bytes": 2.0,
    "b_bytes": 2.0,
    "out_bytes": 2.0,
    "a_reads": 1.0,
    "b_reads": 1.0,
    "out_writes": 1.0,
    "launches": 1.0,
}
#: Labels of a row, with their neutral value.
LABELS: dict[str, Any] = {
    "name": "",
    "kernel": "elementwise",
    "block": "",
    "dtype": "bf16",
    "pattern": "",
    "layers": (),
    "n_axis": "",
    "k_axis": "",
}


#: Fused projection -> the projections that it is made of.
FUSED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}


class PruningMethod(Protocol):
    """Anything that turns a trace into a trace."""

    @property
    def name(self) -> str:
        """Registry name, for instance ``"static-width"``."""

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the pruned trace; the given one stays as it is."""


@dataclass(frozen=True)
class Applied:
    """What a pruning method was asked to remove, and what it removed after rounding.

    Attributes
    ----------
    method : str
    asked : ndarray, shape (*sweep)
        Sparsity asked for [1].
    achieved : dict of str to ndarray, shape (*sweep)
        Sparsity reached per kind of block [1].
    by_role : dict of str to ndarray, shape (*sweep)
        What was asked of each role [1]; empty if it was the same of all.
    """

    method: str
    asked: FloatArray
    achieved: dict[str, FloatArray]
    by_role: dict[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class OpTrace:
    """Struct of arrays, one entry per op; numeric columns broadcast to ``(*sweep, op)``, op axis last.

    An op is a GEMM ``A[m, k] @ B[n, k].T -> out[m, n]`` done ``batch`` times with ``b_batch`` distinct B, or a fused
    pair of them (attention, ``gemms = 2``: K and V are the two B operands and out is [m, k]), or elementwise work
    (``gemms = 0``: A is [m, k], out is [m, n], no B).

    Attributes
    ----------
    m, n, k : ndarray
        Rows (tokens), output features, input features. In attention: queries, keys, head_dim of one head.
    batch, b_batch : ndarray
        Instances of A and out (attention: batch x query heads), and of B (batch x KV heads).
    sequences : ndarray
        Sequences in the batch, where a kernel needs it apart from ``batch`` (attention).
    gemms : ndarray
        GEMMs fused in the op: 0 (elementwise), 1, or 2 (attention).
    count : ndarray
        How often the op runs in one forward pass (layers folded together).
    mac_fraction : ndarray
        Expected share of the multiply-accumulates that is done (causal 0.5, 2:4 0.5, token-wise keep).
    a_bytes, b_bytes, out_bytes : ndarray
        Bytes stored per element [B]; 2:4 bf16 weights store 1.125.
    a_reads, b_reads, out_writes : ndarray
        How often the operand crosses HBM: 1, 0 if fused away, 2 for two inputs of that shape, a share if only
        part of it is touched.
    launches : ndarray
        Kernels that one run of the op is, as the software launches it: 1 in a fresh trace; a stack's lowering says
        what it is there.
    name, kernel, block, dtype : tuple of str
        Role of the op; key of the kernel that runs it; attention, mlp, embedding or head; compute dtype.
    pattern : tuple of str
        Structured sparsity of B that the tensor cores have a rate for ("2:4"), or "".
    layers : tuple of tuple of int
        Layers that the row stands for (empty outside the layers).
    n_axis, k_axis : tuple of str
        Which model dimension n and k are: hidden, heads, kv_heads, ffn, vocab, rank ... Pruning of a dimension
        follows these labels.
    """

    m: FloatArray
    n: FloatArray
    k: FloatArray
    batch: FloatArray
    b_batch: FloatArray
    sequences: FloatArray
    gemms: FloatArray
    count: FloatArray
    mac_fraction: FloatArray
    a_bytes: FloatArray
    b_bytes: FloatArray
    out_bytes: FloatArray
    a_reads: FloatArray
    b_reads: FloatArray
    out_writes: FloatArray
    launches: FloatArray
    name: tuple[str, ...]
    kernel: tuple[str, ...]
    block: tuple[str, ...]
    dtype: tuple[str, ...]
    pattern: tuple[str, ...]
    layers: tuple[tuple[int, ...], ...]
    n_axis: tuple[str, ...]
    k_axis: tuple[str, ...]
    model: ModelConfig | None = None
    workload: Workload | None = None
    applied: tuple[Applied, ...] = ()

    # --- construction -------------------------------------------------------------------------------------------

    @classmethod
    def from_rows(
        cls, rows: Sequence[dict[str, Any]], *, model: ModelConfig | None = None, workload: Workload | None = None
    ) -> OpTrace:
        """Build a trace from one dict per op; columns that a row leaves out get their neutral value.

        >>> trace = OpTrace.from_rows([{"name": "q", "kernel": "gemm", "gemms": 1, "m": [1, 8], "n": 4096, "k": 4096}])
        >>> trace.shape, trace.flops.tolist()
        ((2, 1), [[33554432.0], [268435456.0]])
        """
        columns: dict[str, Any] = {
            name: sealed(stack_ops([row.get(name, v) for row in rows])) for name, v in NEUTRAL.items()
        }
        labels: dict[str, Any] = {name: tuple(row.get(name, v) for row in rows) for name, v in LABELS.items()}
        return cls(**columns, **labels, model=model, workload=workload)

    # --- shape and size -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.name)

    @cached_property
    def sweep_shape(self) -> tuple[int, ...]:
        """Shape of the sweep axes."""
        return np.broadcast_shapes(*{getattr(self, name).shape[:-1] for name in NEUTRAL})

    @property
    def shape(self) -> tuple[int, ...]:
        """``(*sweep, op)``."""
        return (*self.sweep_shape, len(self))

    @property
    def roles(self) -> tuple[str, ...]:
        """Role of each op: its name, and for the halves of a low-rank pair the name of the GEMM that they replace."""
        axes = zip(self.n_axis, self.k_axis, strict=True)
        return tuple(name[: -len("_a")] if "rank" in pair else name for name, pair in zip(self.name, axes, strict=True))

    # --- derived columns ----------------------------------------------------------------------------------------

    @property
    def macs(self) -> FloatArray:
        """Expected multiply-accumulates per run of the op."""
        return self.batch * self.gemms * self.m * self.n * self.k * self.mac_fraction

    @property
    def flops(self) -> FloatArray:
        """Expected FLOPs per run of the op; 1 MAC = 2 FLOPs."""
        return 2.0 * self.macs

    @property
    def a_traffic(self) -> FloatArray:
        """Bytes of A that cross HBM per run [B]."""
        return self.batch * self.m * self.k * self.a_bytes * self.a_reads

    @property
    def b_traffic(self) -> FloatArray:
        """Bytes of B (weights, or keys and values) that cross HBM per run [B]."""
        return self.b_batch * self.gemms * self.n * self.k * self.b_bytes * self.b_reads

    @property
    def out_traffic(self) -> FloatArray:
        """Bytes of the output that cross HBM per run [B]; a fused pair of GEMMs writes [m, k]."""
        width = np.where(self.gemms > 1, self.k, self.n)
        return self.batch * self.m * width * self.out_bytes * self.out_writes

    @property
    def traffic(self) -> FloatArray:
        """Bytes that cross HBM per run of the op [B]."""
        return self.a_traffic + self.b_traffic + self.out_traffic

    # --- change without mutation --------------------------------------------------------------------------------

    def with_columns(self, **columns: Any) -> OpTrace:
        """Return a copy with some columns or labels replaced (arrays are frozen)."""
        clean: dict[str, Any] = {name: frozen(value) if name in NEUTRAL else value for name, value in columns.items()}
        return replace(self, **clean)

    def mask(
        self, *, names: Sequence[str] = (), kernels: Sequence[str] = (), blocks: Sequence[str] = ()
    ) -> NDArray[Any]:
        """Return which ops match all of the given labels, shape (op,) of bool."""
        out = np.ones(len(self), dtype=bool)
        for wanted, labels in ((names, self.name), (kernels, self.kernel), (blocks, self.block)):
            if wanted:
                out &= np.isin(np.array(labels, dtype=str), list(wanted))
        return out

    def select(self, which: ArrayLike) -> OpTrace:
        """Return the ops at `which` (bool mask or indices), in that order."""
        index = np.flatnonzero(which) if np.asarray(which).dtype == bool else np.asarray(which, dtype=np.intp)
        columns: dict[str, Any]
        if all(getattr(self, name).ndim == 1 for name in NEUTRAL):  # one matrix is much faster than many short columns
            matrix = np.array([getattr(self, name) for name in NEUTRAL])
            columns = dict(zip(NEUTRAL, sealed(matrix[:, index]), strict=True))
        else:
            columns = {name: sealed(getattr(self, name).take(index, axis=-1)) for name in NEUTRAL}
        places = index.tolist()
        labels: dict[str, Any] = {name: tuple([getattr(self, name)[i] for i in places]) for name in LABELS}
        return OpTrace(**columns, **labels, model=self.model, workload=self.workload, applied=self.applied)

    def concat(self, *others: OpTrace) -> OpTrace:
        """Return this trace followed by the ops of the others."""
        parts = (self, *others)
        columns: dict[str, Any] = {}
        for name in NEUTRAL:
            arrays = [getattr(part, name) for part in parts]
            shapes = {array.shape[:-1] for array in arrays}
            if len(shapes) > 1:
                sweep = np.broadcast_shapes(*shapes)
                arrays = [np.broadcast_to(array, (*sweep, array.shape[-1])) for array in arrays]
            columns[name] = sealed(np.concatenate(arrays, axis=-1))
        labels: dict[str, Any] = {name: tuple([x for part in parts for x in getattr(part, name)]) for name in LABELS}
        return OpTrace(**columns, **labels, model=self.model, workload=self.workload, applied=self.applied)

    def unfold(self) -> OpTrace:
        """Return an equal trace in which every row stands for at most one layer, ready for per-layer ratios."""
        index = [i for i, layers in enumerate(self.layers) for _ in range(max(1, len(layers)))]
        shares = [1.0 / max(1, len(layers)) for layers in self.layers for _ in range(max(1, len(layers)))]
        layers: list[tuple[int, ...]] = []
        for row in self.layers:
            layers += [(x,) for x in row] or [()]
        wide = self.select(index)
        return wide.with_columns(count=wide.count * np.array(shares), layers=tuple(layers))

    def fuse_projections(self) -> OpTrace:
        """Return the trace with q, k, v as one GEMM and gate, up as another, as serving engines run them.

        GEMMs are fused that read the same A, run the same kernel in the same layers, and differ in their outputs only:
        dense ones, 2:4 ones, and the first halves of low-rank pairs, each among themselves. Projections that a method
        has changed in kind stay apart (token-wise q beside dense k and v). Prune first, then fuse; fusing twice changes
        nothing.

        >>> from pruninfersim.workload import Workload
        >>> fused = trace("llama-3.1-8b", Workload.decode()).fuse_projections()
        >>> float(fused.select(fused.mask(names=["qkv"])).n[0])
        6144.0
        """
        groups: dict[tuple[Any, ...], list[int]] = {}
        part_of = {part: name for name, parts in FUSED.items() for part in parts}
        for i, (role, name) in enumerate(zip(self.roles, self.name, strict=True)):
            # The second halves of pairs read different inputs.
            if role in part_of and self.k_axis[i] != "rank":
                kind = (self.kernel[i], self.dtype[i], self.pattern[i], self.layers[i])
                groups.setdefault((part_of[role], name.removeprefix(role), *kind), []).append(i)
        n, names, gone = self.n, list(self.name), []
        for (name, suffix, *_), index in groups.items():
            if [self.roles[i] for i in index] != list(FUSED[name]) or not self._alike(index):
                continue
            width = self.n[..., index].sum(axis=-1)
            n = np.array(np.broadcast_to(n, (*np.broadcast_shapes(width.shape, n.shape[:-1]), len(self))))
            n[..., index[0]] = width
            names[index[0]] = f"{name}{suffix}"
            gone += index[1:]
        if not gone:
            return self
        return self.with_columns(n=n, name=tuple(names)).select(np.setdiff1d(np.arange(len(self)), gone))

    def _alike(self, index: list[int]) -> bool:
        """Whether ops differ in n only, at every point of the sweep."""
        columns = (getattr(self, name)[..., index] for name in NEUTRAL if name != "n")
        return all(bool((column == column[..., :1]).all()) for column in columns)

    def prune(self, *methods: PruningMethod) -> OpTrace:
        """Apply pruning methods in order and return the pruned trace.

        What a method does not note in `applied` is worked out from the traces before and after.
        """
        trace = self
        for method in methods:
            after = method.apply(trace)
            noted = len(after.applied) > len(trace.applied)
            trace = after if noted else replace(after, applied=(*trace.applied, _worked_out(method, trace, after)))
        return trace

    def __repr__(self) -> str:
        sweep = f", sweep {self.sweep_shape}" if self.sweep_shape else ""
        return f"<OpTrace of {len(self)} ops{sweep}>"


def layer_weights(trace: OpTrace) -> FloatArray:
    """Return how many weights each op of the layers multiplies with, shape (*sweep, op); 0 for all other ops.

    Products of activations have no label on one of their dimensions, and routers are not what is pruned.
    """
    labelled = [n != "" and k != "" for n, k in zip(trace.n_axis, trace.k_axis, strict=True)]
    inside = np.array(labelled) & np.isin(np.array(trace.block, dtype=str), ["attention", "mlp"])
    kept = np.array([0.5 if pattern == "2:4" else 1.0 for pattern in trace.pattern])
    weights = kept * trace.b_batch * trace.n * trace.k * trace.count
    return np.asarray(np.where(inside & (np.asarray(trace.gemms) == 1.0), weights, 0.0))


def _worked_out(method: PruningMethod, before: OpTrace, after: OpTrace) -> Applied:
    """Note what a method did: the removed share of the weights by block; asked for is its own sparsity, if it has one.

    Rows that the method adds do not count, only the roles that were there before.
    """
    old, new = layer_weights(before), layer_weights(after)
    ours = np.isin(after.roles, before.roles)

    def removed(blocks: list[str]) -> FloatArray:
        had = np.where(before.mask(blocks=blocks), old, 0.0).sum(axis=-1)
        left = np.where(after.mask(blocks=blocks) & ours, new, 0.0).sum(axis=-1)
        return np.where(had > 0, 1.0 - left / np.where(had > 0, had, 1.0), 0.0)

    try:
        asked = np.asarray(getattr(method, "sparsity", None), dtype=np.float64)
    except (TypeError, ValueError):  # a ratio that only the method understands
        asked = np.asarray(np.nan)
    achieved = {block: removed([block]) for block in ("attention", "mlp")}
    everywhere = removed(["attention", "mlp"])
    return Applied(method.name, everywhere if np.isnan(asked).any() else asked, achieved)


#: Columns that decide how long a run of an op takes; where they agree, the very same kernel runs.
SHAPE_COLUMNS = tuple(name for name in NEUTRAL if name != "count")


@lru_cache(maxsize=4)
def twins(first: OpTrace, second: OpTrace) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """Return which ops of the second trace run just as in the first, and where.

    Pricing and comparing ask the same question of the same pair, one after the other: the last few answers are kept.

    Returns
    -------
    same : ndarray of bool, shape (*sweep, op of second)
        Whether the op has a twin of the same name, kernel, dtype and shape.
    partner : tuple of int, one per op of second
        Index of that twin in the first trace (0 where there is none).
    """
    index = {identity: i for i, identity in enumerate(_identities(first))}
    found = [index.get(identity) for identity in _identities(second)]
    partner = [i if i is not None else 0 for i in found]
    same: Any = np.array([i is not None for i in found])
    for name in SHAPE_COLUMNS:
        same = same & (getattr(second, name) == getattr(first, name)[..., partner])
    return same, tuple(partner)


def _identities(side: OpTrace) -> list[tuple[str | int, ...]]:
    """Name, kernel, dtype and pattern of each op, and how many such ops came before it."""
    seen: dict[tuple[str, ...], int] = {}
    out: list[tuple[str | int, ...]] = []
    for identity in zip(side.name, side.kernel, side.dtype, side.pattern, strict=True):
        seen[identity] = seen.get(identity, -1) + 1
        out.append((*identity, seen[identity]))
    return out


def trace(model: ModelConfig | str, workload: Workload, *, dtype: str | None = None) -> OpTrace:
    """Return the dense op trace of one forward pass.

    Parameters
    ----------
    model : ModelConfig or str
        A configuration, or the name of a shipped one.
    workload : Workload
        Array fields are sweep axes.
    dtype : str, optional
        Precision of the linear layers (see `pruninfersim.hardware.precision`); default is the model's own.

    Returns
    -------
    OpTrace
        Columns broadcast to ``(*workload.shape, op)``.

    Raises
    ------
    UnknownNameError
        If the model or dtype is not known.

    >>> from pruninfersim.workload import Workload
    >>> dense = trace("llama-3.1-8b", Workload.decode(batch=1, context=4096))
    >>> weights = dense.select(dense.mask(kernels=["gemm", "lm_head"]))
    >>> float((weights.b_traffic * weights.count).sum()) / 1e9
    15.009316864
    """
    config = models.get(model)
    rows = config.rows(workload, dtype or config.dtype)
    return OpTrace.from_rows(rows, model=config, workload=workload)
