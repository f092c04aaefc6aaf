"""Kernels that only an engine has: its own work on the host, unfused elementwise ops, ungrouped attention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel, smooth
from pruninfersim.kernels.token_gemm import SMALL_KERNEL
from pruninfersim.trace import OpTrace

#: Bytes that an SM reads from L2 in a clock, 0.4 of the 64 that its port takes: one number for Llama-3-8B (four query
#: heads to a KV head) in TensorRT-LLM 0.9 on A100 and H100 (argonne-lcf/LLM-Inference-Bench). Without it the error
#: grows with context and batch there, and not for Llama-2-7B (one to one).
L2_RATE = 0.4 * 64.0


@dataclass(frozen=True)
class HostWork:
    """Work of the host between two steps: a time per row (one step, or one sequence).

    >>> from pruninfersim import hardware
    >>> ops = OpTrace.from_rows([{"kernel": "host_sequence", "m": 32}])
    >>> float(HostWork(1e-5).latency(ops, hardware.get("l4"))[0])
    0.00032
    """

    seconds: float

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        return np.asarray(self.seconds * ops.m + 0.0 * ops.n)


@dataclass(frozen=True)
class SmallKernels:
    """Kernels of a few bytes: as many starts as the op launches."""

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        return np.asarray(SMALL_KERNEL * ops.launches + 0.0 * ops.m)


@dataclass(frozen=True)
class Unfused:
    """An elementwise op as several kernels, each with its start and its own passes over memory.

    Attributes
    ----------
    one : KernelModel
        Prices one kernel of that traffic.
    moved : float
        Bytes that the kernels move together over those of the fused op [1].
    """

    one: KernelModel
    moved: float

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        wide = ops.with_columns(a_reads=ops.a_reads * self.moved, out_writes=ops.out_writes * self.moved)
        starts = SMALL_KERNEL * np.maximum(ops.launches - 1.0, 0.0)
        return np.asarray(self.one.latency(wide, hardware, cache=cache) + starts)

    def without_quantisation(self) -> Unfused:
        """Return the same kernels with fractions of waves."""
        return Unfused(smooth(self.one), self.moved)


@dataclass(frozen=True)
class PerHeadReads:
    """Decode attention in which every query head walks the cache by itself: the heads of a group share no reads.

    The cache comes from DRAM once; what the other heads of a group read of it again comes from L2, at `L2_RATE`. With
    one KV head for each query head it is the kernel that it is made from.
    """

    one: KernelModel

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        shared = self.one.latency(ops, hardware, cache=cache)
        reads = ops.batch * ops.n * ops.k * ops.gemms * ops.b_bytes
        return np.asarray(np.maximum(shared, reads / (L2_RATE * hardware.sm_count * hardware.clock)))

    def without_quantisation(self) -> PerHeadReads:
        """Return the same kernel with fractions of waves."""
        return PerHeadReads(smooth(self.one))
