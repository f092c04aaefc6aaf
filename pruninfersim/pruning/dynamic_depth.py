"""Dynamic depth (dynamic M): a router lets each token skip each sub-layer. MoD, D-LLM, SkipGPT.

k, v and the KV cache stay dense, so that later tokens can attend to skipped ones. Everything is an expected value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.doors import door, doors
from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.pruning.base import TINY, mean_where, overhead_rows, record, targets
from pruninfersim.pruning.ratios import Ratio, check_ratio, with_ratio
from pruninfersim.trace import OpTrace

#: GEMMs that run on the kept tokens only.
TOKEN_WISE = ("q", "o", "gate", "up", "down", "gate_up")
#: And these, if skipped tokens leave no keys and values behind.
KEYS = ("k", "v")
#: Kinds of sub-layer that a token can skip.
BLOCKS = ("attention", "mlp")
#: Width of the hidden layer of the router: D -> 16 -> 2 (SkipGPT, as benchmarked in arXiv 2606.09080).
ROUTER_WIDTH = 16.0


@door
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


@doors
@dataclass(frozen=True, eq=False)
class DynamicDepth:
    """Let each token skip sub-layers.

    Attributes
    ----------
    sparsity : Ratio
        Expected fraction of the tokens that skip a sub-layer [1].
    blocks : tuple of str
        Kinds of sub-layer that tokens skip: "attention", "mlp", or both.
    router : {"sublayer", "layer", "none"}
        A router for each sub-layer, one whose decision holds for the whole layer, or a choice that costs nothing.
    kv : {"kept", "skipped"}
        Whether a token that skips attention leaves its keys and values behind for later ones. If not, k and v run on
        kept tokens only, the cache is shorter, and quality pays for it (MoD, arXiv 2404.02258).
    router_width : float
        Width of the hidden layer of a router.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode(batch=8)).prune(DynamicDepth(0.5))
    >>> up = pruned.select(pruned.mask(names=["up"]))
    >>> float(up.b_reads[0]) == 1 - 0.5**8  # weights are read if any of the 8 tokens is active
    True
    """

    name: ClassVar[str] = "dynamic-depth"

    sparsity: Ratio
    blocks: tuple[str, ...] = BLOCKS
    router: Literal["sublayer", "layer", "none"] = "sublayer"
    kv: Literal["kept", "skipped"] = "kept"
    router_width: float = ROUTER_WIDTH

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        checked("router_width", self.router_width, minimum=1, whole=True)
        object.__setattr__(self, "blocks", tuple(self.blocks))
        for name, value, allowed in (
            *(("block", block, BLOCKS) for block in self.blocks),
            ("router", self.router, ("sublayer", "layer", "none")),
            ("kv", self.kv, ("kept", "skipped")),
        ):
            if value not in allowed:
                raise unknown_name(name, value, allowed)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with token-wise kernels, and the router and mask sort of every sub-layer."""
        trace, sparsity = with_ratio(trace, self.sparsity)
        sparsity = np.where(trace.mask(blocks=self.blocks), sparsity, 0.0) if self.blocks != BLOCKS else sparsity
        keep = 1.0 - sparsity
        here = trace.mask(blocks=self.blocks)
        linear = targets(trace, self.name, TOKEN_WISE + (KEYS if self.kv == "skipped" else ()), ["gemm"]) & here
        if "qkv" in trace.name:
            raise InvalidInputError("k and v stay dense while q skips tokens: prune first, then fuse_projections()")
        attention = targets(trace, self.name, ["attention"], ["attention_prefill", "attention_decode"]) & here
        decode = attention & trace.mask(kernels=["attention_decode"])
        prefill = attention & ~decode
        touched = linear | prefill | decode
        packed = touched | (trace.mask(kernels=["act"]) & here)
        left = attention & (self.kv == "skipped")
        stored = trace.mask(kernels=["kv_append"]) & here & (self.kv == "skipped")
        packed = packed | stored
        b_reads = np.where(linear, active_share(trace.m, sparsity), np.where(decode, keep, 1.0))
        kernel = np.where(linear, "token_gemm", trace.kernel)
        kernel = np.where(prefill, "token_attention_prefill", np.where(decode, "token_attention_decode", kernel))
        kept = trace.with_columns(
            kernel=tuple(kernel.tolist()),
            mac_fraction=np.where(touched, trace.mac_fraction * keep, trace.mac_fraction),
            a_reads=np.where(packed, trace.a_reads * keep, trace.a_reads),
            out_writes=np.where(packed, trace.out_writes * keep, trace.out_writes),
            b_reads=trace.b_reads * b_reads,
            n=np.where(left, np.ceil(trace.n * keep - TINY), trace.n),
        )
        routed = {"sublayer": self.blocks, "layer": self.blocks[:1], "none": ()}[self.router]
        extra = [row for block in routed for row in self._router_rows(trace, block)]
        pruned = kept.concat(OpTrace.from_rows(extra)) if extra else kept
        achieved = {block: mean_where(sparsity, touched & trace.mask(blocks=[block]), trace.count) for block in BLOCKS}
        return record(pruned, self.name, self.sparsity, achieved, of=trace, sparsity=sparsity)

    def _router_rows(self, trace: OpTrace, block: str) -> list[dict[str, Any]]:
        router = {"kernel": "router", "gemms": 1.0}
        first: dict[str, Any] = {"name": f"router_{block}_a", "n": self.router_width, "k_axis": "hidden", **router}
        second: dict[str, Any] = {"name": f"router_{block}_b", "n": 2.0, "k": self.router_width, **router}
        sort: dict[str, Any] = {"name": f"mask_sort_{block}", "kernel": "mask_sort", "n": 1.0, "k": 1.0}
        return [
            *overhead_rows(trace, block, wide=("k",), **first),
            *overhead_rows(trace, block, **second),
            *overhead_rows(trace, block, **sort),
        ]
