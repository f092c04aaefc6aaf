"""Write of new keys and values to the cache, as a kernel of its own in front of attention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.attention_prefill import WRITERS, PrefillAttention
from pruninfersim.kernels.base import Cache, pnorm
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class KVAppend:
    """Write of new keys and values to the cache: one CTA of up to 512 threads per token, or the bytes of wide ones.

    Attributes
    ----------
    per_token : float
        `PrefillAttention.kv_write` of a calibration [s].
    memory_efficiency : float
        Fraction of data-sheet DRAM bandwidth of the copy [1].
    convert : float
        `NarrowPrefillAttention.convert`, of what is stored narrower than it comes [s]; fits of five GPUs: 0.4 to 2 ns.

    >>> KVAppend(4e-9).per_token
    4e-09
    """

    per_token: float = 4.7e-9
    memory_efficiency: float = 0.79
    convert: float = 1e-9

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        moved = ops.traffic / (hardware.memory_bandwidth * self.memory_efficiency)
        width = ops.n / 2.0 / WRITERS
        narrowed = np.where(ops.out_bytes < ops.a_bytes, self.convert * width, 0.0)
        each = self.per_token * np.minimum(width, 1.0) + narrowed
        return pnorm(moved, each * ops.m, PrefillAttention.WRITE_OVERLAP)
