"""Static width (static NK): attention heads and FFN channels are gone. FLAP, LLM-Pruner, Tyr-the-Pruner.

The N of one GEMM is the K of the next: q, k, v, gate and up lose outputs, o and down lose inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from pruninfersim._util.arrays import FloatArray, among, checked
from pruninfersim._util.doors import doors
from pruninfersim.errors import unknown_name
from pruninfersim.pruning.base import TINY, mean_where, record, round_up
from pruninfersim.pruning.ratios import Ratio, check_ratio, model_of, with_ratio
from pruninfersim.trace import OpTrace


@doors
@dataclass(frozen=True, eq=False)
class StaticWidth:
    """Remove KV groups (with their query heads) and FFN channels.

    Attributes
    ----------
    sparsity : Ratio
        Fraction of heads and channels removed [1]; `PerBlock` prunes them separately. Whole KV groups go, rounded
        up in number (arXiv 2606.09080: ``ceil(s * kv_heads)``), at least one is left.
    alignment : float
        FFN widths are rounded up to a multiple of this.
    heads : {"kv-groups", "query"}
        "query" keeps every KV head and its cache, and takes as many query heads from each group, rounded up in number,
        at least one is left. `PerBlock` with a zero prunes attention or MLP alone.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode()).prune(StaticWidth(0.3))
    >>> float(pruned.applied[0].achieved["attention"])  # 3 of 8 KV groups
    0.375
    """

    name: ClassVar[str] = "static-width"

    sparsity: Ratio
    alignment: float = 16
    heads: Literal["kv-groups", "query"] = "kv-groups"

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        if self.heads not in ("kv-groups", "query"):
            raise unknown_name("heads", self.heads, ["kv-groups", "query"])
        checked("alignment", self.alignment, minimum=1, whole=True)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with narrower heads and FFN."""
        trace, sparsity = with_ratio(trace, self.sparsity)
        groups, queries = heads_of(trace)
        units = groups if self.heads == "kv-groups" else queries
        gone = np.minimum(np.ceil(sparsity * units - TINY), units - 1)
        head_keep = 1.0 - gone / units
        kv_keep = head_keep if self.heads == "kv-groups" else np.ones_like(head_keep)
        of_axis = {"heads": head_keep, "kv_heads": kv_keep, "qk": (queries * head_keep + kv_keep) / (queries + 1.0)}

        def narrowed(size: FloatArray, axes: tuple[str, ...]) -> FloatArray:
            channels = round_up((1.0 - sparsity) * size, self.alignment, size)
            out = np.where(among(axes, ["ffn"]), channels, size)
            for axis, keep in of_axis.items():
                out = np.where(among(axes, [axis]), size * keep, out)
            return out

        attention = among(trace.k_axis, ["head_dim"])
        pruned = trace.with_columns(
            n=narrowed(trace.n, trace.n_axis),
            k=narrowed(trace.k, trace.k_axis),
            batch=np.where(attention, trace.batch * head_keep, trace.batch),
            b_batch=np.where(attention, trace.b_batch * kv_keep, trace.b_batch),
        )
        heads, channels = among(trace.n_axis, ["heads"]), among(trace.n_axis, ["ffn"])
        achieved = {
            "attention": mean_where(1.0 - pruned.n / trace.n, heads, trace.count),
            "mlp": mean_where(1.0 - pruned.n / trace.n, channels, trace.count),
        }
        return record(pruned, self.name, self.sparsity, achieved, of=trace, sparsity=sparsity)


def heads_of(trace: OpTrace) -> tuple[FloatArray, FloatArray]:
    """Return how many KV groups, and query heads in each, the layer of each op has left, shape (op,) or (*sweep, op).

    An earlier method may have taken some. Heads of a layer may stand in several rows.

    >>> from pruninfersim import Workload, trace
    >>> groups, queries = heads_of(trace("llama-3.1-8b", Workload.decode()))
    >>> float(groups[0]), float(queries[0])
    (8.0, 4.0)
    """
    attention = np.flatnonzero(trace.mask(names=["attention"]))
    if not len(attention):
        model = model_of(trace)
        return np.full(len(trace), float(model.num_kv_heads)), np.full(len(trace), model.num_heads / model.num_kv_heads)
    home: dict[int, list[int]] = {}
    for i in attention:
        for layer in trace.layers[i]:
            home.setdefault(layer, []).append(int(i))
    first = home[trace.layers[attention[0]][0]] if trace.layers[attention[0]] else [attention[0]]
    places = [home.get(row[0], first) if row else first for row in trace.layers]

    def total(column: FloatArray) -> FloatArray:
        return np.stack([column[..., place].sum(axis=-1) for place in places], axis=-1)

    kv, query = total(trace.b_batch / trace.sequences), total(trace.batch / trace.sequences)
    return _constant(np.rint(kv)), _constant(np.rint(query) / np.rint(kv))


def _constant(values: FloatArray) -> FloatArray:
    """Return values without sweep axes that they do not need: the batch has cancelled, most often."""
    first = values.reshape(-1, values.shape[-1])[0]
    return first if np.all(values == first) else values
