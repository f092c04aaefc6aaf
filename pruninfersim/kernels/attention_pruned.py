"""Pruned attention as vendor libraries can run it: block-sparse (FlexAttention class), and token-wise by gathering."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel, Quantised, parameter
from pruninfersim.trace import OpTrace


def dense_attention(ops: OpTrace, phase: str) -> OpTrace:
    """Return pruned attention ops as the dense ones that they replace: causal in prefill, all keys in decode."""
    share = 1.0 - ops.m / (2.0 * np.maximum(ops.n, ops.m)) if phase == "prefill" else np.ones_like(ops.m)
    return ops.with_columns(
        kernel=(f"attention_{phase}",) * len(ops),
        mac_fraction=share,
        a_reads=np.ones_like(ops.m),
        b_reads=np.ones_like(ops.m),
        out_writes=np.ones_like(ops.m),
    )


@dataclass(frozen=True)
class BlockSparseAttention:
    """Attention over a share of the key blocks, by a kernel that walks a list of blocks.

    ``T = setup + (T_dense - setup) x kept share / efficiency``: the kernel does the kept work at a fraction of the rate
    of the dense kernel, and reads its block list first. FlexAttention reaches 90 % of FlashAttention 2 in the forward
    pass (Dong et al. 2024, arXiv 2412.05496, abstract and Fig. 5); the list costs what a short launch costs.

    Attributes
    ----------
    dense : KernelModel
        Prices the dense attention.
    phase : {"prefill", "decode"}

    >>> BlockSparseAttention.__dataclass_fields__["efficiency"].default
    0.9
    """

    dense: KernelModel
    phase: str
    efficiency: float = parameter(0.9, 0.3, 1.0, "1", "rate of the kept work over that of the dense kernel")
    setup: float = parameter(3e-6, 1e-7, 2e-5, "s", "launch of the kernel and its walk through the block list")

    def without_quantisation(self) -> KernelModel:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(self, dense=_smooth(self.dense))

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        whole = dense_attention(ops, self.phase)
        kept = ops.mac_fraction / whole.mac_fraction
        full = self.dense.latency(whole, hardware, cache=cache)
        setup = np.minimum(self.setup, full)
        return np.asarray(setup + (full - setup) * kept / self.efficiency)


@dataclass(frozen=True)
class GatheredAttention:
    """Attention of the tokens that a router kept: dense attention of fewer queries, or of fewer sequences.

    Their rows are packed once per sub-layer, before q, and put back after o: ops of their own in the trace.

    Attributes
    ----------
    dense : KernelModel
        Prices the dense attention.
    phase : {"prefill", "decode"}
        In prefill fewer queries attend to all keys before them; in decode fewer sequences attend at all.
    """

    dense: KernelModel
    phase: str

    def without_quantisation(self) -> KernelModel:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(self, dense=_smooth(self.dense))

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        # Q is read for the kept tokens only, so that its share is theirs; the rest of mac_fraction is mask or window.
        kept = ops.a_reads
        whole = dense_attention(ops, self.phase).with_columns(mac_fraction=ops.mac_fraction / kept)
        if self.phase == "prefill":
            fewer = whole.with_columns(m=np.maximum(ops.m * kept, 1.0))
        else:
            sequences = np.maximum(ops.sequences * kept, 1.0)
            scale = sequences / ops.sequences
            fewer = whole.with_columns(sequences=sequences, batch=ops.batch * scale, b_batch=ops.b_batch * scale)
        return np.asarray(self.dense.latency(fewer, hardware, cache=cache))


def _smooth(model: KernelModel) -> KernelModel:
    return model.without_quantisation() if isinstance(model, Quantised) else model
