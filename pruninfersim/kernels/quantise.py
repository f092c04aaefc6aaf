"""Quantisation of activations: the kernels that an engine runs before a narrow GEMM, unless another does their work.

Three ways are in use. Fused: the norm or the activation before the GEMM writes narrow values (static scales), and there
is no kernel. Per token: one kernel finds the largest value of a row and casts it. Dynamic per tensor: one kernel finds
the largest value of all, and a second one casts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, parameter, pnorm
from pruninfersim.kernels.evidence import Quantity, Spread, moved
from pruninfersim.kernels.kind import Kind, Regime, rows_as_ops
from pruninfersim.kernels.replay import crossing
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd

#: How activations get narrow.
How = Literal["fused", "per-token", "dynamic"]
#: Kernels of each way, in the order in which they run.
STEPS: dict[str, tuple[str, ...]] = {
    "fused": (),
    "per-token": ("quantise_token",),
    "dynamic": ("quantise_absmax", "quantise_cast"),
}
#: A GEMM behind other kernels starts later than one in a row of equal GEMMs, as it was timed [s]: timed fp8 layers
#: minus their timed quantisation (TensorRT-LLM, eight GPUs; ai-dynamo/aiconfigurator, Apache-2.0).
BEHIND = 1.0e-6


@dataclass(frozen=True)
class Quantise:
    """Time of a kernel that reads 16-bit activations and finds their largest value, casts them, or both.

    ``launch + pnorm_3(memory, rows)``: what is not left in L2 comes from DRAM, and each CTA has its rows to walk along.

    >>> from pruninfersim import hardware
    >>> row = {"kernel": "quantise_token", "m": [1, 8192], "n": 8192, "k": 8192, "out_bytes": 1}
    >>> one, many = Quantise().latency(OpTrace.from_rows([row]), hardware.get("h100-sxm"))[..., 0]
    >>> bool(one < 4e-6), bool(many > 3 * 8192**2 / 3.35e12)
    (True, True)
    """

    launch: float = parameter(2.2e-6, 5e-7, 2e-5, "s", "start-up and drain, and what a reduction waits for")
    memory_efficiency: float = parameter(0.8, 0.1, 1.5, "1", "fraction of data-sheet DRAM bandwidth")
    l2_bandwidth: float = parameter(1.0, 0.2, 10.0, "1", "L2 bandwidth over data-sheet DRAM bandwidth")
    l2_share: float = parameter(0.7, 0.05, 5.0, "1", "share of L2 up to which the operands of a kernel stay in it")
    row_time: float = parameter(5e-8, 1e-9, 3e-6, "s", "time of a CTA for a row of 4096 elements")

    #: CTAs that one SM holds; exponents of the overlap and of the L2 limit; fixed.
    ROWS_PER_SM: ClassVar[float] = 8.0
    OVERLAP: ClassVar[float] = 3.0
    MISS_SHARPNESS: ClassVar[float] = 4.0

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        The kernel before has just written what this one reads, so that L2 gives in a step what it gives in a benchmark.
        """
        size, rows = ops.traffic, ops.batch * ops.m
        waves = np.ceil(rows / (self.ROWS_PER_SM * hardware.sm_count))
        miss = crossing(size, self.l2_share, hardware, self.MISS_SHARPNESS)
        memory = size * (miss / self.memory_efficiency + (1.0 - miss) / self.l2_bandwidth) / hardware.memory_bandwidth
        return np.asarray(self.launch + pnorm(memory, self.row_time * waves * ops.k / 4096.0, self.OVERLAP))


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------


def _kind(kernel: str, out_writes: float) -> Kind:
    """Return the kind of one kernel; `k` is the width of a row."""

    def as_ops(frame: pd.DataFrame) -> OpTrace:
        width = frame["k"].to_numpy()
        wide = {"m": frame["m"].to_numpy(), "n": width, "k": width, "out_writes": out_writes, "a_bytes": 2.0}
        return rows_as_ops(frame, wide | {"out_bytes": 1.0}, kernel=kernel)

    return Kind(
        kernel=Quantise,
        shape=("m", "k"),
        labels=("op",),
        group=("k",),
        axes=("m", "k"),
        as_ops=as_ops,
        scarce=("launch", "memory_efficiency"),
        # Each of eight GPUs from the others of its kind (validation/accuracy_quantised.py).
        left_out=Spread(-0.35, 0.35, 0.6),
        quantities=(Quantity("moved", moved, "B", above=1.0),),
        regimes=(Regime.of_column("m", 16, 256), Regime.of_column("k", 2048, 8192)),
        family="quantise",
    )


KINDS = {
    "quantise_absmax": _kind("quantise_absmax", 0.0),
    "quantise_cast": _kind("quantise_cast", 1.0),
    "quantise_token": _kind("quantise_token", 1.0),
}
