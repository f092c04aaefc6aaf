"""2:4 GEMM of the reference paper: sparse tensor cores in prefill, fewer bytes or a long loop over k in decode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache
from pruninfersim.stacks.paper.gemm import (
    STREAM_TOKENS,
    bandwidth,
    dense_peaks,
    operands,
    smooth_max,
)
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class PaperSparse24:
    """Time of a 2:4 GEMM, its padding of few tokens included, without its launch gap.

    The smooth maximum of three limits, plus start and drain. The stream of the operands, with 0.5625 of the weight
    bytes. The loop over k: no CTA splits it, each step waits for the one before, and so a GEMM takes its time however
    few the tokens and wherever the weights are (arXiv 2606.09080, Table 7: 22.3 us for k = 4096 and 71.5 us for 14336
    at any M up to 64; with the stream of up and gate this makes the 255 us of Fig. 6). Above 64 tokens,
    dense-equivalent work at `compute_efficiency` of the dense peak, reached with a half-length in tokens; no waves are
    seen from 256 tokens on (Table 7). A token count that is no multiple of 8 is padded by a kernel of its own.

    Values, units, meanings and anchors of the fields: ``hardware_profiles/stacks/paper.toml``.
    """

    compute_efficiency: float
    half_length: float
    k_step: float
    tile_start: float
    memory_efficiency: float
    replay_bandwidth: float
    padding: float

    #: Elements of k that a CTA takes in at a time.
    K_STEP: ClassVar[float] = 64.0

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        size = operands(ops)
        stream = size / bandwidth(size, hardware, self.memory_efficiency, self.replay_bandwidth, cache)
        work = 2.0 * ops.batch * (ops.m + self.half_length) * ops.n * ops.k
        # Up to 64 tokens the tile is mostly padding, which the loop over k hides.
        tensor = np.where(ops.m > STREAM_TOKENS, work / (self.compute_efficiency * dense_peaks(ops, hardware)), 0.0)
        padded = np.where((ops.m <= STREAM_TOKENS) & (ops.m % 8 > 0), self.padding, 0.0)
        return smooth_max(stream, ops.k / self.K_STEP * self.k_step, tensor) + self.tile_start + padded
