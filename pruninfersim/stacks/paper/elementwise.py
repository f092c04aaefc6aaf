"""Elementwise work of the reference paper: eager kernels, nothing fused, each with its own pass over memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class PaperElementwise:
    """Time of the unfused kernels that do the work of one fused op, without their launch gaps.

    As many kernels as the lowered op launches share ``passes`` times the bytes of the fused op. What a kernel finds in
    L2, written by the one before it, makes it faster, up to `l2_gain` where its bytes are few.

    Values, units, meanings and anchors of the fields: ``hardware_profiles/stacks/paper.toml``.
    """

    efficiency: float
    l2_gain: float
    start: float
    passes: float = 1.0

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        size = ops.traffic * self.passes / ops.launches
        warm = np.exp(-size / hardware.l2_size) if hardware.l2_size else np.zeros_like(size)
        bandwidth = self.efficiency * hardware.memory_bandwidth * (1.0 + (self.l2_gain - 1.0) * warm)
        return np.asarray(ops.launches * (size / bandwidth + self.start))
