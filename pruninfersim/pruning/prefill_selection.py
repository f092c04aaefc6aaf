"""Prefill selection: attention to chosen blocks, and what it costs to choose them.

MInference, FlexPrefill (sampled), XAttention (antidiagonals), SeerAttention (pooled), BLASST (a threshold inside of
the kernel), NSA (every query scores compressed keys).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.doors import doors
from pruninfersim.errors import unknown_name
from pruninfersim.pruning.base import mean_where, record, targets
from pruninfersim.pruning.budget import score_row, top_k_row
from pruninfersim.pruning.ratios import Ratio, check_ratio, with_ratio
from pruninfersim.trace import OpTrace

#: Edge of a tile of prefill kernels [tokens]. Kernels of these methods are made for their blocks and skip each of them,
#: smaller ones too, which a pattern that knows nothing of the kernel cannot have (`SparseAttention`).
KERNEL_TILE = 128.0


@doors
@dataclass(frozen=True, eq=False)
class PrefillSelection:
    """Skip blocks of QKᵀ and PV of the prompt; decode stays dense.

    Attributes
    ----------
    sparsity : Ratio
        Share of the attended query x key area that is skipped [1].
    block : float
        Edge of a block in queries and keys.
    estimator : {"pooled", "sampled", "antidiagonal", "every-query", "threshold"}
        How blocks are scored. "pooled": means of query blocks with means of key blocks (SeerAttention). "sampled": the
        last `block` queries with all keys (MInference, arXiv 2407.02490; FlexPrefill). "antidiagonal": every
        `stride`-th product along antidiagonals, that is 1 / stride of QKᵀ (XAttention, arXiv 2503.16428).
        "every-query": each query with one compressed key per `stride` keys (NSA, arXiv 2502.11089). "threshold": QKᵀ is
        computed in full, PV of blocks below a threshold is left out, and nothing is scored (BLASST).
    stride : float
        Of "antidiagonal" and "every-query".

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.prefill(tokens=65536)).prune(PrefillSelection(0.9))
    >>> round(float(pruned.select(pruned.mask(names=["attention"])).mac_fraction[0]), 3)
    0.05
    """

    name: ClassVar[str] = "prefill-selection"

    sparsity: Ratio
    block: float = 64
    estimator: str = "pooled"
    stride: float = 16

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        checked("block", self.block, minimum=1, whole=True)
        checked("stride", self.stride, minimum=1, whole=True)
        if self.estimator not in ESTIMATORS:
            raise unknown_name("estimator", self.estimator, ESTIMATORS)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with block-sparse prefill attention and the scoring of its blocks."""
        trace, sparsity = with_ratio(trace, self.sparsity)
        attention = trace.mask(names=["attention"])
        step = trace.workload is not None and trace.workload.phase == "decode"
        prefill = attention & (not step)
        if not step:
            # Layers that run on one token of a prompt stay dense.
            targets(trace, self.name, ["attention"], ["attention_prefill", "attention_decode"])
            prefill = attention & trace.mask(kernels=["attention_prefill"])
        skipped = sparsity * (0.5 if self.estimator == "threshold" else 1.0)  # one of the two products
        sparse = trace.with_columns(
            kernel=tuple(np.where(prefill, "block_sparse_prefill", trace.kernel).tolist()),
            mac_fraction=np.where(prefill, trace.mac_fraction * (1.0 - skipped), trace.mac_fraction),
            kept=np.where(prefill, 1.0 - skipped, trace.kept),
            grain=np.where(prefill, np.maximum(self.block, KERNEL_TILE), trace.grain),
        )
        rows = ESTIMATORS[self.estimator]
        extra = [row for i in np.flatnonzero(prefill) for row in rows(self, trace, sparsity, int(i))]
        pruned = sparse.concat(OpTrace.from_rows(extra)) if extra else sparse
        achieved = {"attention": mean_where(skipped, attention, trace.count)}
        return record(pruned, self.name, self.sparsity, achieved, of=trace, sparsity=sparsity)

    def _choose(self, trace: OpTrace, sparsity: FloatArray, i: int, queries: FloatArray) -> dict[str, Any]:
        blocks = np.ceil(trace.n[..., i] / self.block)
        return top_k_row(trace, i, "block_choose", queries, blocks, np.ceil((1.0 - sparsity[..., i]) * blocks))

    def _blocks(self, trace: OpTrace, i: int) -> FloatArray:
        return np.ceil(trace.m[..., i] / self.block)


Rows = list[dict[str, Any]]


def _pooled(method: PrefillSelection, trace: OpTrace, sparsity: FloatArray, i: int) -> Rows:
    queries, keys = method._blocks(trace, i), np.ceil(trace.n[..., i] / method.block)
    scores = score_row(trace, i, "block_score", queries, keys)
    return [scores, method._choose(trace, sparsity, i, queries)]


def _sampled(method: PrefillSelection, trace: OpTrace, sparsity: FloatArray, i: int) -> Rows:
    queries = np.minimum(method.block, trace.m[..., i])
    seen = 1.0 - queries / (2.0 * trace.n[..., i])
    scores = score_row(
        trace, i, "block_score", queries, trace.n[..., i], mac_fraction=seen, out_writes=1.0 / method.block
    )
    return [scores, method._choose(trace, sparsity, i, method._blocks(trace, i))]


def _antidiagonal(method: PrefillSelection, trace: OpTrace, sparsity: FloatArray, i: int) -> Rows:
    # [m / stride, stride d] with [n / stride, stride d]: all of Q and K is read; sums per block are written.
    m, n, k = (getattr(trace, name)[..., i] for name in ("m", "n", "k"))
    per_block = (method.stride / method.block) ** 2
    scores = score_row(
        trace, i, "block_score", np.ceil(m / method.stride), np.ceil(n / method.stride), k=k * method.stride,
        out_writes=trace.mac_fraction[..., i] * np.minimum(per_block, 1.0),
    )  # fmt: skip
    return [scores, method._choose(trace, sparsity, i, method._blocks(trace, i))]


def _every_query(method: PrefillSelection, trace: OpTrace, sparsity: FloatArray, i: int) -> Rows:
    m = trace.m[..., i]
    scores = score_row(trace, i, "block_score", m, np.ceil(trace.n[..., i] / method.stride))
    return [scores, method._choose(trace, sparsity, i, m)]


def _threshold(method: PrefillSelection, trace: OpTrace, sparsity: FloatArray, i: int) -> Rows:
    return []


#: Name -> rows that score and choose the blocks of one attention op.
ESTIMATORS: dict[str, Callable[[PrefillSelection, OpTrace, FloatArray, int], Rows]] = {
    "pooled": _pooled,
    "sampled": _sampled,
    "antidiagonal": _antidiagonal,
    "every-query": _every_query,
    "threshold": _threshold,
}
