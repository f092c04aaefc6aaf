"""A kernel of one's own: half of the roofline and a start-up time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruninfersim.kernels.base import roofline


@dataclass(frozen=True)
class HalfSpeed:
    start: float = 3e-6

    def latency(self, ops, hardware, *, cache="cold"):
        return np.asarray(2.0 * roofline(ops, hardware) + self.start)
