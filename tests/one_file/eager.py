"""A stack of one's own: every kernel at half of its roofline, norms in three launches, a host that is behind."""

from __future__ import annotations

import numpy as np
from one_file.half_speed import HalfSpeed

from pruninfersim.cost import CostModel, Eager, Priced, Protocol, Spread
from pruninfersim.hardware import HardwareProfile
from pruninfersim.trace import OpTrace


def lower(trace: OpTrace) -> OpTrace:
    fused = trace.fuse_projections()
    return fused.with_columns(launches=np.where(fused.mask(kernels=["norm"]), 3.0, 1.0))


def eager(hardware: HardwareProfile) -> CostModel:
    priced = Priced(HalfSpeed(), "extrapolated", Spread(-0.2, 0.2, 0.5), "all", "made up")
    return CostModel(
        "eager-toy", hardware, {}, priced, lower=lower, clock=Eager(40e-6), protocol=Protocol(logits="all")
    )
