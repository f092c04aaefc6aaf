"""Static width (static NK): attention heads and FFN channels are gone. FLAP, LLM-Pruner, Tyr-the-Pruner.

The N of one GEMM is the K of the next: q, k, v, gate and up lose outputs, o and down lose inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim.pruning.base import TINY, mean_where, record, round_up
from pruninfersim.pruning.ratios import Ratio, check_ratio, model_of, with_ratio
from pruninfersim.trace import OpTrace

#: Axes whose size is a multiple of the number of KV groups.
HEAD_AXES = ("heads", "kv_heads", "qk")


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

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode()).prune(StaticWidth(0.3))
    >>> float(pruned.applied[0].achieved["attention"])  # 3 of 8 KV groups
    0.375
    """

    name: ClassVar[str] = "static-width"

    sparsity: Ratio
    alignment: float = 16

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        checked("alignment", self.alignment, minimum=1, whole=True)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with narrower heads and FFN."""
        trace, sparsity = with_ratio(trace, self.sparsity)
        groups = _kv_groups(trace)
        gone = np.minimum(np.ceil(sparsity * groups - TINY), groups - 1)
        head_keep = 1.0 - gone / groups

        def narrowed(size: FloatArray, axes: tuple[str, ...]) -> FloatArray:
            heads, ffn = np.isin(axes, HEAD_AXES), np.isin(axes, ["ffn"])
            channels = round_up((1.0 - sparsity) * size, self.alignment, size)
            return np.where(heads, size * head_keep, np.where(ffn, channels, size))

        attention = np.isin(trace.k_axis, ["head_dim"])
        pruned = trace.with_columns(
            n=narrowed(trace.n, trace.n_axis),
            k=narrowed(trace.k, trace.k_axis),
            batch=np.where(attention, trace.batch * head_keep, trace.batch),
            b_batch=np.where(attention, trace.b_batch * head_keep, trace.b_batch),
        )
        heads, channels = np.isin(trace.n_axis, ["heads"]), np.isin(trace.n_axis, ["ffn"])
        achieved = {
            "attention": mean_where(1.0 - pruned.n / trace.n, heads, trace.count),
            "mlp": mean_where(1.0 - pruned.n / trace.n, channels, trace.count),
        }
        return record(pruned, self.name, self.sparsity, achieved, of=trace, sparsity=sparsity)


def _kv_groups(trace: OpTrace) -> FloatArray:
    """Return how many KV groups the layer of each op has left, shape (op,) or (*sweep, op).

    An earlier method may have taken some.
    """
    attention = np.flatnonzero(trace.mask(names=["attention"]))
    if not len(attention):
        return np.full(len(trace), float(model_of(trace).num_kv_heads))
    home = {layer: i for i in attention for layer in trace.layers[i]}
    place = [home.get(row[0], attention[0]) if row else attention[0] for row in trace.layers]
    groups = np.rint(trace.b_batch[..., place] / trace.sequences[..., place])
    # The batch has cancelled, most often: do not drag its sweep axis along.
    first = groups.reshape(-1, len(trace))[0]
    return first if np.all(groups == first) else groups
