"""The op trace: one row per operation of a forward pass, as a struct of read-only arrays."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim._util.arrays import TOO_LARGE, FloatArray, ReadOnly, among, checked, ends, frozen, sealed, stack_ops
from pruninfersim._util.doors import doors
from pruninfersim.errors import InvalidInputError, shown, unknown_name
from pruninfersim.models import ModelConfig
from pruninfersim.trace.applied import Applied, PruningMethod, worked_out
from pruninfersim.trace.fused import fused
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

#: Neutral value of every numeric column: what a row has if nobody says otherwise.
NEUTRAL: dict[str, float] = {
    "m": 1.0, "n": 1.0, "k": 1.0, "batch": 1.0, "b_batch": 1.0, "sequences": 1.0, "gemms": 0.0, "count": 1.0,
    "mac_fraction": 1.0, "a_bytes": 2.0, "b_bytes": 2.0, "out_bytes": 2.0, "a_reads": 1.0, "b_reads": 1.0,
    "out_writes": 1.0, "launches": 1.0, "kept": 1.0, "grain": 1.0, "ranks": 1.0,
}  # fmt: skip
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
_COLUMNS = frozenset((*NEUTRAL, *LABELS))


@doors
@dataclass(frozen=True, eq=False, repr=False)
class OpTrace(ReadOnly):
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
        Sequences in the batch, where a kernel needs it apart from ``batch`` (attention); routed tokens (experts).
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
    kept, grain : ndarray
        Of a pattern of blocks that is chosen at run time: share of the blocks that is kept (part of ``mac_fraction``),
        and tokens on the side of a block, in a sliding window, or channels of a group. Both 1 where there is none.
    ranks : ndarray
        GPUs that run the op together, each a part of it; the other columns are those of one of them.
    name, kernel, block, dtype : tuple of str
        Role of the op; key of the kernel that runs it; attention, mlp, embedding or head; compute dtype.
    pattern : tuple of str
        Structured sparsity of B that the tensor cores have a rate for ("2:4"), the routing of experts if it is not
        uniform, "window" of attention that has one, or "".
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
    kept: FloatArray
    grain: FloatArray
    ranks: FloatArray
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

        Raises
        ------
        InvalidInputError
            If a row has a column that no trace has, or a number that is negative, not finite, or beyond the product of
            two sizes.

        >>> trace = OpTrace.from_rows([{"name": "q", "kernel": "gemm", "gemms": 1, "m": [1, 8], "n": 4096, "k": 4096}])
        >>> trace.shape, trace.flops.tolist()
        ((2, 1), [[33554432.0], [268435456.0]])
        """
        if not isinstance(model, ModelConfig | None) or not isinstance(workload, Workload | None):
            raise InvalidInputError(
                f"model must be a ModelConfig and workload a Workload; got {shown(model)}, {shown(workload)}"
            )
        for row in rows:
            for unknown in row.keys() - _COLUMNS:
                raise unknown_name("column of a trace", unknown, _COLUMNS)
        columns: dict[str, Any] = {
            name: sealed(stack_ops([row.get(name, v) for row in rows])) for name, v in NEUTRAL.items()
        }
        plain = np.array([column for column in columns.values() if column.ndim == 1])
        wide = [column for column in columns.values() if column.ndim > 1]
        # A NaN is on no side of any limit. Short columns are looked at together: that is much faster.
        if not all(c.min() >= 0.0 and c.max() < TOO_LARGE**2 for c in (plain, *wide) if c.size):
            for name, column in columns.items():
                checked(name, column, minimum=0.0, below=TOO_LARGE**2)
        labels: dict[str, Any] = {name: tuple(row.get(name, v) for row in rows) for name, v in LABELS.items()}
        return cls(**columns, **labels, model=model, workload=workload)

    # --- shape and size -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.name)

    @cached_property
    def sweep_shape(self) -> tuple[int, ...]:
        """Shape of the sweep axes."""
        return np.broadcast_shapes(*{getattr(self, name).shape[:-1] for name in NEUTRAL})

    @cached_property
    def _matrix(self) -> FloatArray | None:
        """All columns of a single pass, much faster than many short ones; None along a sweep."""
        return None if self.sweep_shape else np.array([getattr(self, name) for name in NEUTRAL])

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

    @cached_property
    def flops(self) -> FloatArray:
        """Expected FLOPs per run of the op; 1 MAC = 2 FLOPs."""
        return sealed(2.0 * self.macs)

    # Every GPU that prices the shapes of a sweep asks for these.

    @cached_property
    def a_traffic(self) -> FloatArray:
        """Bytes of A that cross HBM per run [B]."""
        return sealed(self.batch * self.m * self.k * self.a_bytes * self.a_reads)

    @cached_property
    def b_traffic(self) -> FloatArray:
        """Bytes of B (weights, or keys and values) that cross HBM per run [B]."""
        return sealed(self.b_batch * self.gemms * self.n * self.k * self.b_bytes * self.b_reads)

    @cached_property
    def out_traffic(self) -> FloatArray:
        """Bytes of the output that cross HBM per run [B]; a fused pair of GEMMs writes [m, k]."""
        width = np.where(self.gemms > 1, self.k, self.n)
        return sealed(self.batch * self.m * width * self.out_bytes * self.out_writes)

    @cached_property
    def traffic(self) -> FloatArray:
        """Bytes that cross HBM per run of the op [B]."""
        return sealed(self.a_traffic + self.b_traffic + self.out_traffic)

    @property
    def wire(self) -> FloatArray:
        """Bytes that each rank sends over its link, and receives, per run [B]: those of an all-reduce, once each."""
        between = np.array([key == "all_reduce" for key in self.kernel]) & (self.ranks > 1.0)
        return np.asarray(np.where(between, self.batch * self.m * self.n * self.out_bytes, 0.0))

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
                out &= among(labels, wanted)
        return out

    def select(self, which: ArrayLike) -> OpTrace:
        """Return the ops at `which` (bool mask or indices), in that order."""
        try:
            index = np.flatnonzero(which) if np.asarray(which).dtype == bool else np.asarray(which, dtype=np.intp)
            places = [range(len(self))[i] for i in index.tolist()]
        except Exception:  # out of range, no numbers, or an object that is none at all
            raise InvalidInputError(f"select takes a mask, or places of {len(self)} ops; got {shown(which)}") from None
        matrix = self._matrix
        if matrix is None:
            columns: dict[str, Any] = {name: sealed(getattr(self, name)[..., index]) for name in NEUTRAL}
        else:
            columns = dict(zip(NEUTRAL, sealed(matrix[:, index]), strict=True))
        labels: dict[str, Any] = {name: picked(getattr(self, name), places) for name in LABELS}
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

        >>> from pruninfersim.trace import trace
        >>> from pruninfersim.workload import Workload
        >>> fused = trace("llama-3.1-8b", Workload.decode()).fuse_projections()
        >>> float(fused.select(fused.mask(names=["qkv"])).n[0])
        6144.0
        """
        return fused(self, tuple(NEUTRAL))

    def prune(self, *methods: PruningMethod) -> OpTrace:
        """Apply pruning methods in order and return the pruned trace.

        What a method does not note in `applied` is worked out from the traces before and after.
        """
        trace = self
        for method in methods:
            after = method.apply(trace)
            noted = len(after.applied) > len(trace.applied)
            trace = after if noted else replace(after, applied=(*trace.applied, worked_out(method, trace, after)))
        return trace

    def at(self, index: tuple[int, ...], shape: tuple[int, ...] | None = None) -> OpTrace:
        """Return one point of a sweep.

        Parameters
        ----------
        index : tuple of int
            Place on each axis.
        shape : tuple of int, optional
            Of a sweep that this trace broadcasts to; default is its own.

        >>> from pruninfersim.trace import trace
        >>> from pruninfersim.workload import Workload
        >>> float(trace("llama-3.1-8b", Workload.decode(batch=[1, 8])).at((1,)).workload.batch)
        8.0
        """
        if not isinstance(index, tuple):
            raise InvalidInputError(f"at takes a tuple with one whole number per axis; got {shown(index)}")
        sweep = self.sweep_shape if shape is None else shape

        def point(values: ArrayLike) -> FloatArray:
            return sealed(np.array(np.broadcast_to(values, sweep)[index]))

        columns: dict[str, Any] = {
            name: sealed(np.array(np.broadcast_to(getattr(self, name), (*sweep, len(self)))[index])) for name in NEUTRAL
        }
        applied = tuple(
            Applied(
                each.method,
                point(each.asked),
                {block: point(value) for block, value in each.achieved.items()},
                {role: point(value) for role, value in each.by_role.items()},
            )
            for each in self.applied
        )
        workload = self.workload
        if workload is not None:
            sizes: dict[str, Any] = {name: point(getattr(workload, name)) for name in ("batch", "query_len", "context")}
            workload = replace(workload, **sizes)
        return replace(self, **columns, workload=workload, applied=applied)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per op (and per sweep point, in C order): labels, sizes, FLOPs and bytes of all its runs."""
        import pandas as pd

        points = int(np.prod(self.sweep_shape, dtype=int))
        flat: dict[str, Any] = {"point": np.repeat(np.arange(points), len(self))} if self.sweep_shape else {}
        flat |= {name: list(getattr(self, name)) * points for name in ("name", "block", "kernel", "dtype")}
        numbers = {name: getattr(self, name) for name in ("count", "batch", "m", "n", "k")}
        numbers |= {"flops": self.flops * self.count, "bytes": self.traffic * self.count}
        flat |= {name: np.broadcast_to(column, self.shape).reshape(-1) for name, column in numbers.items()}
        return pd.DataFrame(flat)

    def __repr__(self) -> str:
        of = f" of {self.model.name}" if self.model is not None else ""
        methods = " + ".join(applied.method for applied in self.applied)
        sweep = f", sweep {self.sweep_shape}" if self.sweep_shape else ""
        return f"<OpTrace{of}: {len(self)} ops{f', {methods}' if methods else ''}{sweep}>"

    def __str__(self) -> str:
        head = ("name", "kernel", "count", "batch", "m", "n", "k", "GFLOP", "MB")
        scaled = {"GFLOP": self.flops * self.count / 1e9, "MB": self.traffic * self.count / 1e6}
        numbers = scaled | {name: getattr(self, name) for name in head[2:7]}
        lines: list[tuple[str, ...]] = [head]
        for i in range(len(self)):
            cells = (ends(np.asarray(numbers[name])[..., i], ".4g") for name in head[2:])
            lines.append((self.name[i], self.kernel[i], *cells))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join([repr(self)[1:-1], *("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def picked(labels: tuple[Any, ...], places: Sequence[int]) -> tuple[Any, ...]:
    """Return some of the labels of a column, in that order.

    >>> picked(("q", "k", "v"), [2, 0])
    ('v', 'q')
    """
    # Of one place, `itemgetter` returns the label itself; of none, it is an error.
    return tuple(itemgetter(*places)(labels)) if len(places) > 1 else tuple([labels[place] for place in places])
