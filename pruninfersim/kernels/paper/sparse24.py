"""2:4 GEMM of the reference paper: sparse tensor cores in prefill, fewer bytes at a lower rate in decode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruninfersim._arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, roofline
from pruninfersim.kernels.paper.gemm import STREAM_TOKENS, operands, peaks
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class PaperSparse24:
    """Time of a 2:4 GEMM, its padding of few tokens included, without its launch gap.

    Prefill: dense-equivalent work at `compute_efficiency` of the dense peak, reached with a half-length in tokens; no
    waves are seen from 256 tokens on (Table 7). Decode: the operands with 0.5625 of the weight bytes at a share of the
    DRAM rate. On compute capability 8.0 the split-K path does not trigger and that share is smaller.
    A token count that is no multiple of 8 is padded by a kernel of its own.

    Values, units, meanings and anchors of the fields: ``hardware_profiles/stacks/paper.toml``.
    """

    compute_efficiency: float
    half_length: float
    tile_start: float
    memory_efficiency: float
    memory_efficiency_sm80: float
    stream_start: float
    padding: float
    launches: float

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]; at least the roofline."""
        work = 2.0 * ops.batch * (ops.m + self.half_length) * ops.n * ops.k
        tiled = work / (self.compute_efficiency * peaks(ops, hardware)) + self.tile_start
        ampere = hardware.compute_capability == "8.0"
        share = self.memory_efficiency_sm80 if ampere else self.memory_efficiency
        stream = operands(ops) / (share * hardware.memory_bandwidth) + self.stream_start
        padded = stream + np.where(ops.m % 8 > 0, self.padding, 0.0)
        return np.maximum(np.where(ops.m > STREAM_TOKENS, tiled, padded), roofline(ops, hardware))
