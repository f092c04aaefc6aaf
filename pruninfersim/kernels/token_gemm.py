"""Token-wise GEMMs composed of library calls: index and copies of the kept rows, and the GEMM on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, compute_time, pnorm
from pruninfersim.kernels.dense import RARE, OnDense, dense_gemm
from pruninfersim.kernels.elementwise import Elementwise
from pruninfersim.trace import OpTrace

#: Start-up and drain of a gather, scatter or other small kernel [s]: between the 1.4e-6 and 3.5e-6 of rotary, norm and
#: embedding kernels on two GPUs (fitted to casys-kaist/LLMServingSim, MIT).
SMALL_KERNEL = 2e-6


def expected(runs: FloatArray, busy: FloatArray) -> FloatArray:
    """Return the expected time of an op that runs with a probability, and else finds nothing to do, of their shape [s].

    >>> float(expected(np.array(0.5), np.array(1e-5)))
    6e-06
    """
    return np.asarray(runs * busy + (1.0 - runs) * np.minimum(SMALL_KERNEL, busy))


@dataclass(frozen=True)
class VendorTokenGemm(OnDense):
    """Expected time of a GEMM on the kept tokens only, without a fused kernel: a dense GEMM on rows that are packed.

    Of m tokens, Binomial(m, keep) are kept. The GEMM runs if any is (probability ``b_reads`` = 1 - s^m, as the trace
    says), then on ``m * keep / b_reads`` rows in the mean; the rest of the time a kernel finds nothing to do. Index
    (`MaskSort`) and copies (`TokenCopy`) are ops of their own, for they come once per sub-layer, not once per GEMM.

    With both, "GEMM-M naive" of the dynamic-pruning kernels measured on an RTX 5090 (M = N = K, half of the rows) is
    reproduced to 5 to 20 %; see `MaskSort`.
    """

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the expected time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks a figure that the dense GEMM needs.
        """
        runs = np.clip(ops.b_reads, RARE, 1.0)
        kept = dense_gemm(ops, m=np.maximum(ops.m * ops.mac_fraction / runs, 1.0))
        return expected(runs, self.dense.latency(kept, hardware, cache=cache))


@dataclass(frozen=True)
class TokenCopy:
    """Time of a gather or scatter of the kept rows: a small kernel, and its bytes at the rate of a copy.

    Nothing moves for a single token, which is a row already: such an op has no traffic, and takes no time.
    """

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        copied = ops.traffic / (hardware.memory_bandwidth * Elementwise.COPY_EFFICIENCY)
        return np.where(ops.traffic > 0, SMALL_KERNEL + copied, 0.0)


@dataclass(frozen=True)
class MaskSort:
    """Time to turn a token mask into the index of the kept rows with library calls (sort or scan, compaction).

    ``flag + step x log2(min(tokens, 1024))``: to order n flags takes a tree of log2 n steps, one after the other, over
    the 1024 threads of a CTA at most; what more tokens there are, each thread counts in its registers. A step is
    latency, in clocks of an SM, so that it goes with their clock. One token has no order: a kernel that looks at
    its flag is all.

    The step is the one number fitted to "GEMM-M naive" in the published timings of dynamic-pruning kernels on an RTX
    5090 (M = N = K, half of the rows, CUDA graph, layout preparation included): 0.239, 0.928 and 1.478 times the speed
    of dense at 1024, 2048 and 4096, which is 50 us at all three. Fewer tokens are extrapolated.

    >>> from pruninfersim import hardware
    >>> from pruninfersim.trace import OpTrace
    >>> ops = OpTrace.from_rows([{"kernel": "mask_sort", "m": [1, 2048]}])
    >>> MaskSort().latency(ops, hardware.get("rtx-5090"))[:, 0].round(7).tolist()
    [2e-06, 5e-05]
    """

    step: float = 4.8e-6
    #: Threads of the largest CTA.
    THREADS: ClassVar[float] = 1024.0
    #: Boost clock of the GPU that was timed [Hz].
    TIMED_CLOCK: ClassVar[float] = 2.407e9

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        slower = self.TIMED_CLOCK / hardware.clock
        copied = ops.traffic / (hardware.memory_bandwidth * Elementwise.COPY_EFFICIENCY)
        steps = np.log2(np.clip(ops.batch * ops.m, 1.0, self.THREADS))
        return np.asarray(SMALL_KERNEL + np.maximum(self.step * slower * steps, copied))


@dataclass(frozen=True)
class BatchedGemm:
    """Time of many small GEMMs in one launch, such as the block scores of block-sparse attention.

    ``launch + pnorm_2(compute of whole 64 x 64 tiles, bytes)``. Nothing of the kind is timed here: the compute
    efficiency is the lowest that a FlashAttention-2 prefill loop of the same depth (head_dim 128) reaches (0.54 on an
    L40S; vLLM timings of ai-dynamo/aiconfigurator, Apache-2.0), the memory efficiency is that of streaming GEMMs.
    """

    #: Start-up and drain [s], share of tensor-core peak, share of DRAM rate; sources above.
    launch: ClassVar[float] = 2.5e-6
    compute_efficiency: ClassVar[float] = 0.54
    memory_efficiency: ClassVar[float] = 0.85
    #: Edge of a tile.
    TILE: ClassVar[float] = 64.0

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks the peak of the op's dtype.
        """
        padded = ops.with_columns(m=self.TILE * np.ceil(ops.m / self.TILE), n=self.TILE * np.ceil(ops.n / self.TILE))
        compute = compute_time(padded, hardware) / self.compute_efficiency
        memory = ops.traffic / (hardware.memory_bandwidth * self.memory_efficiency)
        return np.asarray(self.launch + pnorm(compute, memory, 2.0))
