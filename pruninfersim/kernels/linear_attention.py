"""Recurrences of hybrids (Mamba-2, gated delta net): a share of the roofline, as nothing of the kind was timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, compute_time, pnorm
from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class LinearScan:
    """Time of a recurrence with a state: ``launch + pnorm_2(compute, bytes)``.

    An estimate without a fit. Start-up is that of an elementwise kernel for each of the kernels of a chunked scan; the
    state streams as a copy does (0.85); chunks run at a third of the tensor-core peak, about what small batched
    products with sums in between reach.

    >>> from pruninfersim import hardware
    >>> row = {"kernel": "linear_attention", "gemms": 2, "n": 128, "k": 64, "batch": 64, "b_batch": 32, "b_bytes": 4,
    ...        "b_reads": 2}
    >>> bool(LinearScan().latency(OpTrace.from_rows([row]), hardware.get("h100-sxm"))[0] < 1e-5)
    True
    """

    #: Start-up and drain [s], share of tensor-core peak, share of DRAM rate; see above.
    launch: ClassVar[float] = 4e-6
    compute_efficiency: ClassVar[float] = 0.33
    memory_efficiency: ClassVar[float] = 0.85

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks the peak of the op's dtype.
        """
        compute = compute_time(ops, hardware) / self.compute_efficiency
        memory = ops.traffic / (hardware.memory_bandwidth * self.memory_efficiency)
        return np.asarray(self.launch + pnorm(compute, memory, 2.0))
