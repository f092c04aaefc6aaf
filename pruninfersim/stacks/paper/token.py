"""Kernels of dynamic depth: GEMMs that run on the active tokens only, the router and the mask sort."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache
from pruninfersim.kernels.dense import RARE
from pruninfersim.stacks.paper.gemm import STREAM_TOKENS, PaperGemm, dense_peaks
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class PaperTokenGemm:
    """Expected time of a GEMM on the share of the tokens that is active, without its launch gap.

    Prefill: active tokens are packed into tiles of 128 x 128; a wave is the least, above it time grows without steps
    (Table 7: 2.53 waves of `up` take 2.56 times one). It runs if any token is active. The rows of skipped tokens are
    filled with zeros beforehand.
    Decode: the stream of the dense kernel times the share of the weights that is read, which is the probability that
    any token of the batch is active; one token runs as a GEMV.

    Values, units, meanings and anchors of the fields: ``hardware_profiles/stacks/paper.toml``.
    """

    dense: PaperGemm
    efficiency: float
    zero_fill: float
    copy_efficiency: float
    single_penalty: float
    batch_efficiency: float
    quantised: bool = True

    TILE: ClassVar[float] = 128.0

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the expected time of one run of each op, shape (*sweep, op) [s]."""
        whole = self.dense.stream(ops, hardware, cache) * ops.b_reads
        stream = np.where(ops.m > 1, whole / self.batch_efficiency, whole * self.single_penalty)
        return np.where(ops.m > STREAM_TOKENS, self._tiled(ops, hardware), stream)

    def without_quantisation(self) -> PaperTokenGemm:
        """Return the same kernel without rounding up of tiles."""
        return replace(self, quantised=False, dense=self.dense.without_quantisation())

    def _tiled(self, ops: OpTrace, hardware: HardwareProfile) -> FloatArray:
        # The wave runs if any token is active (`b_reads`), then on those that are.
        runs = np.clip(ops.b_reads, RARE, 1.0)
        active = ops.m * ops.mac_fraction / runs / self.TILE
        across = ops.n / self.TILE
        if self.quantised:
            # A random number of active tokens fills its last tile by half in the mean; never more tiles than dense.
            active, across = np.minimum(active + 0.5, np.ceil(ops.m / self.TILE)), np.ceil(across)
        waves = np.maximum(1.0, ops.batch * active * across / hardware.sm_count)
        tile = 2.0 * self.TILE**2 * ops.k * hardware.sm_count
        rate = self.efficiency * self.dense.compute_efficiency * self.dense.share(ops)
        compute = waves * tile / (rate * dense_peaks(ops, hardware))
        zeros = self.zero_fill * ops.batch * ops.m * ops.n * ops.out_bytes
        fill = zeros / (self.copy_efficiency * hardware.memory_bandwidth)
        return np.asarray(runs * compute + self.dense.tile_start + fill)


@dataclass(frozen=True)
class PaperMaskSort:
    """Time to turn the router's scores into lists of active tokens, and what else a sub-layer of dynamic depth adds.

    A fixed time, plus time per token in prefill; in decode one fixed time for a single token and one for a batch.

    Values, units, meanings and anchors of the fields: ``hardware_profiles/stacks/paper.toml``.
    """

    prefill_start: float
    token_bytes: float
    single: float
    batched: float

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        many = self.prefill_start + ops.batch * ops.m * self.token_bytes / hardware.memory_bandwidth
        few = np.where(ops.m > 1, self.batched, self.single)
        return np.where(ops.m > STREAM_TOKENS, many, few)
