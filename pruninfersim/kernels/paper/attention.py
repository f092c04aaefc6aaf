"""Attention of the reference paper: dense, on active tokens, and block-sparse, with the scoring of the blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruninfersim._arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, roofline
from pruninfersim.kernels.paper.gemm import peaks
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class PaperPrefillAttention:
    """Time of FlashAttention on a prompt: the work that is done, at a rate that grows with the prompt.

    ``T = FLOPs / (efficiency peak m / (m + half_length)) + start`` with m queries of a sequence. Token-wise and
    block-sparse attention differ in efficiency and half-length only.

    Values, units, meanings and anchors of the fields: ``hardware_profiles/stacks/paper.toml``.
    """

    efficiency: float
    half_length: float
    start: float
    launches: float

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]; at least the roofline."""
        rate = self.efficiency * peaks(ops, hardware) * ops.m / (ops.m + self.half_length)
        return np.maximum(ops.flops / rate + self.start, roofline(ops, hardware))


@dataclass(frozen=True)
class PaperDecodeAttention:
    """Time of split-KV attention of a decode step: the keys and values that are read, plus a start-up time.

    Dynamic depth skips the whole op, start-up included, where its token is not active (`skips`).

    Values, units, meanings and anchors of the fields: ``hardware_profiles/stacks/paper.toml``.
    """

    efficiency: float
    start: float
    launches: float
    skips: bool = False

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the expected time of one run of each op, shape (*sweep, op) [s]; at least the roofline."""
        start = self.start * (ops.mac_fraction if self.skips else 1.0)
        seconds = ops.traffic / (self.efficiency * hardware.memory_bandwidth) + start
        return np.maximum(seconds, roofline(ops, hardware))


@dataclass(frozen=True)
class PaperBlockScore:
    """Time to pool queries and keys, to score their blocks and to choose: passes over the pooled operands.

    Linear in the number of query blocks (prefill) and key blocks (decode, where pooled keys are cached).

    Values, units, meanings and anchors of the fields: ``hardware_profiles/stacks/paper.toml``.
    """

    query_passes: float
    key_passes: float
    copy_efficiency: float
    start: float
    launches: float

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]; at least the roofline."""
        # The one query of a decode step is not pooled: it is read once.
        queries = np.where(ops.m > 1, self.query_passes, 1.0) * ops.a_traffic
        size = queries + self.key_passes * ops.b_traffic
        seconds = size / (self.copy_efficiency * hardware.memory_bandwidth) + self.start
        return np.maximum(seconds, roofline(ops, hardware))


@dataclass(frozen=True)
class PaperBlockIndex:
    """Time to write the lists of chosen blocks: their bytes alone, since the scoring kernel chooses as well."""

    launches: float = 0.0

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]: the roofline."""
        return roofline(ops, hardware)
