"""Attention of the reference paper: dense, on active tokens, and block-sparse, with the scoring of the blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache
from pruninfersim.stacks.paper.gemm import dense_peaks
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

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        rate = self.efficiency * dense_peaks(ops, hardware) * ops.m / (ops.m + self.half_length)
        return np.asarray(ops.flops / rate + self.start)


@dataclass(frozen=True)
class PaperDecodeAttention:
    """Time of split-KV attention of a decode step: the keys and values that are read, plus a start-up time.

    Dynamic depth skips the whole op, start-up included, where no token of the batch is active (`skips`): of tokens
    that are kept with probability p, any is with probability 1 - (1 - p)^batch.

    Values, units, meanings and anchors of the fields: ``hardware_profiles/stacks/paper.toml``.
    """

    efficiency: float
    start: float
    skips: bool = False

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the expected time of one run of each op, shape (*sweep, op) [s]."""
        start = self.start * (1.0 - (1.0 - np.minimum(ops.a_reads, 1.0)) ** ops.sequences if self.skips else 1.0)
        return np.asarray(ops.traffic / (self.efficiency * hardware.memory_bandwidth) + start)


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

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        # The one query of a decode step is not pooled: it is read once.
        queries = np.where(ops.m > 1, self.query_passes, 1.0) * ops.a_traffic
        size = queries + self.key_passes * ops.b_traffic
        return np.asarray(size / (self.copy_efficiency * hardware.memory_bandwidth) + self.start)
