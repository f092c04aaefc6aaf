"""Block-sparse attention (dynamic NK): only some blocks of keys are attended to. SeerAttention, BLASST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pruninfersim._util.arrays import checked
from pruninfersim._util.doors import doors
from pruninfersim.pruning.base import mean_where, record, targets
from pruninfersim.pruning.ratios import Ratio, check_ratio, with_ratio
from pruninfersim.trace import OpTrace


@doors
@dataclass(frozen=True, eq=False)
class SparseAttention:
    """Attend to a share of the key blocks, chosen per query block from pooled scores.

    Attributes
    ----------
    sparsity : Ratio
        Fraction of the blocks skipped [1].
    block_size : float
        Tokens that are pooled into one score, along queries and keys; 16 in arXiv 2606.09080.

    In prefill every KV block is still wanted by some query block, so that K and V are read once in full; a decode
    step reads the chosen blocks only. Scores and block lists are computed at sparsity 0 too.

    Small blocks choose better and cost more: scores grow with the square of their number, and a kernel skips whole
    tiles of its own only. Which blocks are kept is taken to be random, so that a prefill kernel with tiles of 128 x 128
    hardly ever finds one without a block of 16 to keep (`BlockSparseAttention`); blocks of 64 or 128 are for such
    kernels. The ``paper`` stack prices a kernel that was written for blocks of 16.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode(context=4096)).prune(SparseAttention(0.5))
    >>> float(pruned.select(pruned.mask(names=["attention"])).b_reads[0])
    0.5
    """

    name: ClassVar[str] = "sparse-attention"

    sparsity: Ratio
    block_size: float = 16

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        checked("block_size", self.block_size, minimum=1, whole=True)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with block-sparse attention, block scoring and index building."""
        trace, sparsity = with_ratio(trace, self.sparsity)
        keep = 1.0 - sparsity
        attention = targets(trace, self.name, ["attention"], ["attention_prefill", "attention_decode"])
        decode = attention & trace.mask(kernels=["attention_decode"])
        prefill = attention & ~decode
        kernel = np.where(prefill, "block_sparse_prefill", np.where(decode, "block_sparse_decode", trace.kernel))
        sparse = trace.with_columns(
            kernel=tuple(kernel.tolist()),
            mac_fraction=np.where(prefill | decode, trace.mac_fraction * keep, trace.mac_fraction),
            b_reads=np.where(decode, trace.b_reads * keep, trace.b_reads),
            kept=np.where(prefill | decode, keep, trace.kept),
            grain=np.where(prefill | decode, self.block_size, trace.grain),
        )
        extra = [row for i in np.flatnonzero(prefill | decode) for row in self._score_rows(trace, int(i))]
        pruned = sparse.concat(OpTrace.from_rows(extra)) if extra else sparse
        achieved = {"attention": mean_where(sparsity, prefill | decode, trace.count)}
        return record(pruned, self.name, self.sparsity, achieved, of=trace, sparsity=sparsity)

    def _score_rows(self, trace: OpTrace, index: int) -> list[dict[str, Any]]:
        """Return the pooled QK.T and the selection from its scores, for the attention op at `index`."""
        same = ("batch", "b_batch", "sequences", "count", "mac_fraction", "a_bytes", "b_bytes", "out_bytes")
        of = {name: getattr(trace, name)[..., index] for name in same}
        queries = np.ceil(trace.m[..., index] / self.block_size)
        keys = np.ceil(trace.n[..., index] / self.block_size)
        common = {"layers": trace.layers[index], "block": "attention", "m": queries}
        share = {"a_reads": of["mac_fraction"], "out_writes": of["mac_fraction"]}
        score = (
            common
            | of
            | {
                "name": "block_score",
                "kernel": "block_score",
                "gemms": 1.0,
                "n": keys,
                "k": trace.k[..., index],
                "k_axis": "head_dim",
                "out_writes": of["mac_fraction"],
                "dtype": trace.dtype[index],
            }
        )
        choose = (
            common
            | of
            | share
            | {
                "name": "block_index",
                "kernel": "block_index",
                "n": keys,
                "k": keys,
                "k_axis": "head_dim",
                "dtype": trace.dtype[index],
            }
        )
        return [score, choose]
