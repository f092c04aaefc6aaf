"""Dynamic width: every token chooses its groups of heads and FFN channels. WIDE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pruninfersim._util.arrays import checked
from pruninfersim._util.doors import doors
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning.base import mean_where, overhead_rows, record, targets
from pruninfersim.pruning.dynamic_depth import active_share
from pruninfersim.pruning.ratios import Ratio, check_ratio, with_ratio
from pruninfersim.trace import OpTrace

#: Linear layers whose outputs, and whose inputs, a token chooses.
OUTPUTS, INPUTS = ("q", "gate", "up"), ("o", "down")
#: Groups narrower than this leave a tile of a tensor-core kernel half empty: 32 are measured to be slower than dense
#: on K, 128 and more are not (dynamic-pruning kernels on an RTX 5090).
NARROW_GROUP = 64.0


@doors
@dataclass(frozen=True, eq=False)
class DynamicWidth:
    """Let each token use a share of the query heads and of the FFN channels, in groups.

    k and v stay dense, so that all later tokens find what they look for. A weight is read if any token of the pass
    uses its group.

    Attributes
    ----------
    sparsity : Ratio
        Expected share of the groups that a token leaves out [1].
    group : float
        Channels of a group; groups below 64 run on kernels of their own.
    router_rank : float
        Width of the hidden layer of the router of each sub-layer.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.prefill(tokens=2048)).prune(DynamicWidth(0.5))
    >>> float(pruned.select(pruned.mask(names=["up"])).mac_fraction[0])
    0.5
    """

    name: ClassVar[str] = "dynamic-width"

    sparsity: Ratio
    group: float = 128
    router_rank: float = 32

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        checked("group", self.group, minimum=1, whole=True)
        checked("router_rank", self.router_rank, minimum=1, whole=True)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with grouped GEMMs, fewer query heads per token, and routers."""
        trace, sparsity = with_ratio(trace, self.sparsity)
        keep = 1.0 - sparsity
        outputs, inputs = (targets(trace, self.name, roles, ["gemm"]) for roles in (OUTPUTS, INPUTS))
        if {"qkv", "gate_up"} & set(trace.name):
            raise InvalidInputError("q and k differ in what they compute: prune first, then fuse_projections()")
        attention = targets(trace, self.name, ["attention"], ["attention_prefill", "attention_decode"])
        decode = attention & trace.mask(kernels=["attention_decode"])
        prefill = attention & ~decode
        linear, act = outputs | inputs, trace.mask(kernels=["act"])
        # A KV head is read if any query head of its group is used.
        per_group = np.maximum(trace.batch / trace.b_batch, 1.0)
        b_reads = np.where(linear, active_share(trace.m, sparsity), 1.0)
        b_reads = np.where(decode, active_share(per_group, sparsity), b_reads)
        width = "fine_gemm" if self.group < NARROW_GROUP else "group_gemm"
        kernel = np.where(outputs, f"{width}_n", np.where(inputs, f"{width}_k", trace.kernel))
        kernel = np.where(prefill, "token_attention_prefill", np.where(decode, "token_attention_decode", kernel))
        some = linear | attention
        pruned = trace.with_columns(
            kernel=tuple(kernel.tolist()),
            mac_fraction=np.where(some, trace.mac_fraction * keep, trace.mac_fraction),
            a_reads=np.where(inputs | attention | act, trace.a_reads * keep, trace.a_reads),
            out_writes=np.where(outputs | attention | act, trace.out_writes * keep, trace.out_writes),
            b_reads=trace.b_reads * b_reads,
            grain=np.where(linear, self.group, trace.grain),
        )
        pruned = pruned.concat(OpTrace.from_rows(self._router_rows(trace)))
        achieved = {
            block: mean_where(sparsity, some & trace.mask(blocks=[block]), trace.count)
            for block in ("attention", "mlp")
        }
        return record(pruned, self.name, self.sparsity, achieved, of=trace, sparsity=sparsity)

    def _router_rows(self, trace: OpTrace) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for block, role in (("attention", "q"), ("mlp", "up")):
            places = [trace.roles.index(role)] if role in trace.roles else []
            channels = float(np.max(trace.n[..., places])) if places else self.group
            router: dict[str, Any] = {"kernel": "router", "gemms": 1.0}
            rows += overhead_rows(
                trace, block, wide=("k",), name=f"router_{block}_a", n=self.router_rank, k_axis="hidden", **router
            )
            rows += overhead_rows(
                trace, block, name=f"router_{block}_b", n=np.ceil(channels / self.group), k=self.router_rank, **router
            )
            rows += overhead_rows(trace, block, name=f"mask_sort_{block}", kernel="mask_sort", n=1.0, k=1.0)
        return rows
