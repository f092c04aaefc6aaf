"""Dynamic depth (dynamic M): a router lets each token skip each sub-layer. MoD, D-LLM, SkipGPT.

k, v and the KV cache stay dense, so that later tokens can attend to skipped ones. Everything is an expected value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning.base import mean_where, overhead_rows, record, targets
from pruninfersim.pruning.ratios import Ratio, check_ratio, with_ratio
from pruninfersim.trace import OpTrace

#: GEMMs that run on the kept tokens only.
TOKEN_WISE = ("q", "o", "gate", "up", "down", "gate_up")
#: Width of the hidden layer of the router: D -> 16 -> 2 (SkipGPT, as benchmarked in arXiv 2606.09080).
ROUTER_WIDTH = 16.0


def active_share(tokens: ArrayLike, sparsity: ArrayLike) -> FloatArray:
    """Return the probability that a tile of `tokens` rows has at least one kept token, 1 - s^tokens.

    Raises
    ------
    InvalidInputError
        If the tokens are not positive, or the sparsity is not in [0, 1].

    >>> active_share(8, 0.5).item() == 1 - 0.5**8
    True
    """
    rows = checked("tokens", tokens, minimum=1e-9)
    return np.asarray(1.0 - checked("sparsity", sparsity, minimum=0, below=np.nextafter(1.0, 2.0)) ** rows)


@dataclass(frozen=True, eq=False)
class DynamicDepth:
    """Let each token skip sub-layers.

    Attributes
    ----------
    sparsity : Ratio
        Expected fraction of the tokens that skip a sub-layer [1].

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode(batch=8)).prune(DynamicDepth(0.5))
    >>> up = pruned.select(pruned.mask(names=["up"]))
    >>> float(up.b_reads[0]) == 1 - 0.5**8  # weights are read if any of the 8 tokens is active
    True
    """

    name: ClassVar[str] = "dynamic-depth"

    sparsity: Ratio

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with token-wise kernels, and the router and mask sort of every sub-layer."""
        trace, sparsity = with_ratio(trace, self.sparsity)
        keep = 1.0 - sparsity
        linear = targets(trace, self.name, TOKEN_WISE, ["gemm"])
        if "qkv" in trace.name:
            raise InvalidInputError("k and v stay dense while q skips tokens: prune first, then fuse_projections()")
        attention = targets(trace, self.name, ["attention"], ["attention_prefill", "attention_decode"])
        decode = attention & trace.mask(kernels=["attention_decode"])
        prefill = attention & ~decode
        touched = linear | prefill | decode
        packed = touched | trace.mask(kernels=["act"])
        b_reads = np.where(linear, active_share(trace.m, sparsity), np.where(decode, keep, 1.0))
        kernel = np.where(linear, "token_gemm", trace.kernel)
        kernel = np.where(prefill, "token_attention_prefill", np.where(decode, "token_attention_decode", kernel))
        kept = trace.with_columns(
            kernel=tuple(kernel.tolist()),
            mac_fraction=np.where(touched, trace.mac_fraction * keep, trace.mac_fraction),
            a_reads=np.where(packed, trace.a_reads * keep, trace.a_reads),
            out_writes=np.where(packed, trace.out_writes * keep, trace.out_writes),
            b_reads=trace.b_reads * b_reads,
        )
        extra = [row for block in ("attention", "mlp") for row in self._router_rows(trace, block)]
        pruned = kept.concat(OpTrace.from_rows(extra))
        achieved = {
            block: mean_where(sparsity, touched & trace.mask(blocks=[block]), trace.count)
            for block in ("attention", "mlp")
        }
        return record(pruned, self.name, self.sparsity, achieved, of=trace, sparsity=sparsity)

    def _router_rows(self, trace: OpTrace, block: str) -> list[dict[str, Any]]:
        router = {"kernel": "router", "gemms": 1.0}
        first: dict[str, Any] = {"name": f"router_{block}_a", "n": ROUTER_WIDTH, "k_axis": "hidden", **router}
        second: dict[str, Any] = {"name": f"router_{block}_b", "n": 2.0, "k": ROUTER_WIDTH, **router}
        sort: dict[str, Any] = {"name": f"mask_sort_{block}", "kernel": "mask_sort", "n": 1.0, "k": 1.0}
        return [
            *overhead_rows(trace, block, wide=("k",), **first),
            *overhead_rows(trace, block, **second),
            *overhead_rows(trace, block, **sort),
        ]
