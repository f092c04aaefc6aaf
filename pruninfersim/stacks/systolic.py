"""Accelerators with a few large matrix engines (TPU, Gaudi): the roofline times stated efficiencies, with a wide band.

The models of the vendor stack count CTAs on dozens of SMs; a systolic part has one to eight engines that a compiler
feeds, and no timing of one is at hand. So nothing of the kind is claimed: every kernel takes the smooth maximum of its
compute and its traffic at the efficiencies below, and the band says what that may miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from pruninfersim import ops as catalogue
from pruninfersim._util.arrays import FloatArray
from pruninfersim.calibration.record import Calibration
from pruninfersim.cost import CostModel, Priced, Spread
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, compute_time, pnorm
from pruninfersim.kernels.token_gemm import MaskSort, VendorTokenGemm
from pruninfersim.trace import OpTrace

#: 90 % band: a fifth faster (data-sheet bandwidth, or peak, is then reached) to twice as slow; an assumption. Common to
#: all shapes for the most part: the efficiencies are wrong for a whole part, not for a shape.
BAND = Spread(-0.22, 0.7, 0.8)
SOURCE = "roofline at stated efficiencies; no timings of systolic parts"


@dataclass(frozen=True)
class SystolicKernel:
    """Time of any op on a systolic part: ``pnorm_4(compute / 0.87, traffic / 0.8)``.

    Compute: 0.76 of peak is published for prefill of a whole model on TPU v4 (Pope et al., arXiv 2211.05102), 0.99 for
    a GEMM of 8192 on Gaudi 2 (arXiv 2501.00210); between the two. Memory: the middle of the fitted DRAM shares of
    the GPUs that were timed, 0.75 to 0.93. Overlap: exponent of the same fits.

    >>> from pruninfersim import hardware
    >>> row = {"kernel": "gemm", "gemms": 1.0, "m": 1, "n": 8192, "k": 8192, "a_bytes": 2, "b_bytes": 2, "out_bytes": 2}
    >>> ops, gpu = OpTrace.from_rows([row]), hardware.get("tpu-v6e")
    >>> round(float(SystolicKernel().latency(ops, gpu)[0]) * gpu.memory_bandwidth / 2 / 8192**2, 2)
    1.25
    """

    COMPUTE: ClassVar[float] = 0.87
    MEMORY: ClassVar[float] = 0.8
    OVERLAP: ClassVar[float] = 4.0

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks a peak that an op needs.
        """
        memory = ops.traffic / (hardware.memory_bandwidth * self.MEMORY)
        return np.broadcast_to(pnorm(compute_time(ops, hardware) / self.COMPUTE, memory, self.OVERLAP), ops.shape)


def systolic(like: CostModel, calibrations: Sequence[Calibration] = ()) -> CostModel:
    """Return a stack on a systolic part: clock, protocol and lowering of another stack, and kernels of its own.

    Parameters
    ----------
    like : CostModel
        Its kernels are replaced.
    calibrations : sequence of Calibration
        Of this part: their kernels take the place of the roofline.
    """
    model = SystolicKernel()
    kernels = {key: Priced(model, "extrapolated", BAND, op.group, SOURCE) for key, op in catalogue.CATALOGUE.items()}
    kernels["token_gemm"] = replace(kernels["token_gemm"], model=VendorTokenGemm(model))
    kernels["mask_sort"] = replace(kernels["mask_sort"], model=MaskSort())
    made = replace(like, kernels=kernels, calibrated=partial(_with_more, like, tuple(calibrations)))
    for calibration in calibrations:
        key = calibration.kind.removeprefix("elementwise_")
        made = made.with_kernel(key if calibration.dtype == "bf16" else f"{key}/{calibration.dtype}", calibration)
    return made


def _with_more(like: CostModel, known: tuple[Calibration, ...], more: Sequence[Calibration]) -> CostModel:
    return systolic(like, (*known, *more))
