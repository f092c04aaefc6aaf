"""A made-up stack whose answers can be worked out by hand: whole tiles in whole waves, efficiencies, launch gaps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

import pruninfersim as pis
from pruninfersim.cost import CostModel, Graph, Priced, Spread
from pruninfersim.kernels.base import roofline
from pruninfersim.ops import CATALOGUE

#: Side of the square tiles of the made-up GEMM.
TILE = 128
SPREAD = Spread(-0.08, 0.12, 0.4)


@dataclass(frozen=True)
class Slow:
    """A kernel at a share of its roofline."""

    efficiency: float = 0.5

    def latency(self, ops, hardware, *, cache="cold"):
        return roofline(ops, hardware) / self.efficiency


@dataclass(frozen=True)
class Staircase:
    """A GEMM in whole tiles and whole waves of one tile per SM, at the peak rate, with no memory to wait for."""

    whole: bool = True

    def without_quantisation(self):
        return replace(self, whole=False)

    def latency(self, ops, hardware, *, cache="cold"):
        up = np.ceil if self.whole else np.asarray
        tiles = up(ops.m / TILE) * up(ops.n / TILE) * ops.batch
        waves = up(tiles / hardware.sm_count)
        rate = hardware.peak_flops(ops.dtype[0]) / hardware.sm_count
        return waves * 2.0 * TILE * TILE * ops.k * ops.mac_fraction / rate


def toy(
    gpu: str = "h100-sxm", *, efficiency: float = 0.5, spread: Spread = SPREAD, launch_gap: float = 1e-6
) -> CostModel:
    """Every op at a share of its roofline but dense GEMMs, which run on a staircase."""
    profile = pis.hardware.get(gpu)
    slow = Priced(Slow(efficiency), "calibrated", spread, "all", "made up")
    kernels = dict.fromkeys(CATALOGUE, slow)
    stair = Priced(Staircase(), "calibrated", spread, "all", "made up")
    return CostModel("toy", profile, kernels | {"gemm": stair}, clock=Graph(launch_gap))
