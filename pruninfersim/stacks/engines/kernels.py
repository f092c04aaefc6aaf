"""Kernels that only an engine has: its own work on the host, unfused elementwise ops, quantisation beside a GEMM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel, smooth
from pruninfersim.trace import OpTrace

#: Start and drain of a small kernel that nothing overlaps [s] (norms, casts and copies of eager PyTorch).
SMALL_KERNEL = 2e-6


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
class BareNarrow:
    """An 8- or 4-bit GEMM without the quantisation of its activations, from the 16-bit kernel of the same card.

    Tensor cores take bytes: an 8-bit product of depth k is the 16-bit one of depth k / 2, with the same tiles, the same
    operand bytes and the same prologue. No 8-bit timing is used (tables of 8-bit GEMMs contain the quantisation): 4 to
    9 % off bare fp8 GEMMs.
    """

    wide: KernelModel

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        dtype = "bf16" if "bf16" in hardware.peak else "fp16"
        faster = np.array([hardware.peak_flops(each) for each in ops.dtype]) / hardware.peak_flops(dtype)
        # Whole powers of two: data sheets round, and a depth that is no multiple of a vector load is another kernel.
        share = 2.0 ** -np.round(np.log2(faster))
        twin: dict[str, Any] = {"dtype": (dtype,) * len(ops), "k": ops.k * share, "pattern": ("",) * len(ops)}
        twin |= {"a_bytes": ops.a_bytes / share, "b_bytes": ops.b_bytes / share}
        return self.wide.latency(ops.with_columns(**twin), hardware, cache=cache)

    def without_quantisation(self) -> BareNarrow:
        """Return the same kernel with fractions of tiles and waves."""
        return BareNarrow(smooth(self.wide))
