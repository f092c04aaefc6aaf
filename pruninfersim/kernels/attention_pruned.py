"""Pruned attention as vendor libraries can run it: block-sparse (FlexAttention class), and token-wise by gathering."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.attention_chunk import ChunkAttention
from pruninfersim.kernels.attention_prefill import PrefillAttention
from pruninfersim.kernels.base import Cache, KernelModel, parameter, parameters
from pruninfersim.kernels.dense import RARE, OnDense, dense_attention
from pruninfersim.kernels.token_gemm import expected
from pruninfersim.trace import OpTrace

#: Share of a Hopper GPU's tensor-core peak that FlashAttention 2 reaches, see `on_plain_tensor_cores`.
FA2_ON_HOPPER = 0.35


def on_plain_tensor_cores(model: KernelModel) -> KernelModel:
    """Return dense attention as FlashAttention 2 would run it: what compiled kernels are measured against.

    Its instructions are the older ones, which reach 35 % of the tensor-core peak of a Hopper GPU (Shah et al. 2024,
    arXiv 2407.08608, abstract); far from the power limit, at that rate. The same share is assumed for later ones.

    >>> on_plain_tensor_cores(PrefillAttention(algorithm="fa3")).compute_efficiency
    0.35
    """
    if isinstance(model, ChunkAttention):
        return replace(model, whole=on_plain_tensor_cores(model.whole))
    if not isinstance(model, PrefillAttention) or model.algorithm == "fa2":
        return model
    droop = parameters(model)["power_droop"].metadata["lower"]
    efficiency = min(model.compute_efficiency, FA2_ON_HOPPER)
    return replace(model, algorithm="fa2", compute_efficiency=efficiency, power_droop=droop)


@dataclass(frozen=True)
class BlockSparseAttention(OnDense):
    """Attention over a share of the key blocks, by a kernel that walks a list of blocks.

    ``T = setup + lists + (T_dense - setup) x live share / efficiency``: the kernel does the live work at a fraction of
    the rate of a dense kernel. FlexAttention reaches 90 % of FlashAttention 2 in the forward pass (Dong et al. 2024,
    arXiv 2412.05496, abstract and Fig. 5); that kernel is the dense one here, on Hopper too, where FlashAttention 3
    is faster.

    Prefill skips a tile of 128 x 128 if no block of the pattern in it is kept. Of blocks of `grain` tokens, kept at
    random, a tile holds ``(128 / grain)^2``, so that ``live = 1 - (1 - kept)^((128 / grain)^2)``: the share that is
    kept if blocks are as large as a tile, nearly everything if they are of 16. A decode step reads pages, which it
    packs into tiles: its live share is what is kept.

    Each CTA of 128 queries finds its list and fills its loop anew: `lists` is ``waves x list_time``, in waves of one
    CTA per SM. At 90 % sparsity Block-Sparse-Attention on an A100 is 4.0, 5.56 and 7.69 times as fast as dense at 8192,
    16384 and 65536 tokens (figure of github.com/mit-han-lab/Block-Sparse-Attention; 32 heads of 128 assumed). Beyond
    the ninth that is left at 90 % of the rate, that is 22.8, 22.3 and 24.6 us a wave.

    Attributes
    ----------
    phase : {"prefill", "decode"}

    >>> BlockSparseAttention.__dataclass_fields__["efficiency"].default
    0.9
    """

    phase: str
    efficiency: float = parameter(0.9, 0.3, 1.0, "1", "rate of the kept work over that of FlashAttention 2")
    setup: float = parameter(3e-6, 1e-7, 2e-5, "s", "launch of the kernel")
    list_time: float = parameter(23e-6, 1e-6, 1e-4, "s", "walk of one CTA through its block list, and its start")
    quantised: bool = True

    #: Edge of a tile of queries and keys, the least that the kernel skips.
    TILE: ClassVar[float] = 128.0

    def without_quantisation(self) -> Self:
        """Return the same kernel in fractions of tiles and waves."""
        return replace(super().without_quantisation(), quantised=False)

    def live(self, ops: OpTrace) -> FloatArray:
        """Return the expected share of the kernel's tiles that it cannot skip, shape (*sweep, op) [1]."""
        if self.phase == "decode":
            return ops.kept
        blocks = np.maximum(self.TILE / ops.grain, 1.0) ** 2
        return np.asarray(1.0 - (1.0 - np.minimum(ops.kept, 1.0)) ** blocks)

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        share = np.minimum(ops.mac_fraction / np.maximum(ops.kept, RARE), 1.0)
        dense = on_plain_tensor_cores(self.dense)
        full = dense.latency(dense_attention(ops, self.phase, mac_fraction=share), hardware, cache=cache)
        setup = np.minimum(self.setup, full)
        lists = np.zeros_like(full)
        if self.phase == "prefill":
            whole = np.ceil if self.quantised else (lambda x: np.maximum(x, 1.0))
            lists = self.list_time * whole(ops.batch * whole(ops.m / self.TILE) / hardware.sm_count)
        return np.asarray(setup + lists + (full - setup) * self.live(ops) / self.efficiency)


@dataclass(frozen=True)
class GatheredAttention(OnDense):
    """Expected time of attention of the tokens that a router kept: dense attention of fewer queries and sequences.

    Of the m queries of a sequence, Binomial(m, keep) are kept. A sequence attends if any is, with probability
    ``1 - s^m``, then with ``m keep / (1 - s^m)`` queries in the mean; the kernel runs if any sequence attends. The rest
    of the time a kernel finds nothing to do. Rows are packed once per sub-layer, before q, and put back after o: ops of
    their own in what the stack lowers to.

    Attributes
    ----------
    phase : {"prefill", "decode"}
        In prefill fewer queries attend to all keys before them; in decode fewer sequences attend at all.
    """

    phase: str

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the expected time of one run of each op, shape (*sweep, op) [s]."""
        # Q is read for the kept tokens only, so that its share is theirs; the rest of mac_fraction is mask or window.
        kept = np.clip(ops.a_reads, RARE, 1.0)
        skipped = 1.0 - kept
        attends = np.maximum(1.0 - skipped**ops.m, RARE)
        runs = np.maximum(1.0 - skipped ** (ops.m * ops.sequences), RARE)
        scale = attends / runs
        fewer = dense_attention(
            ops,
            self.phase,
            mac_fraction=ops.mac_fraction / kept,
            m=ops.m * kept / attends,
            sequences=ops.sequences * scale,
            batch=ops.batch * scale,
            b_batch=ops.b_batch * scale,
        )
        return expected(runs, self.dense.latency(fewer, hardware, cache=cache))
