"""Elementwise work and norms of a vendor stack: a floor, rows that take their time, DRAM, and what L2 still holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, parameter, pnorm
from pruninfersim.kernels.evidence import Quantity, Spread, moved
from pruninfersim.kernels.kind import Kind, Regime, rows_as_ops
from pruninfersim.kernels.replay import crossing
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Elementwise:
    """Time of one elementwise kernel (norm, rotary embedding, activation, copy) without its launch gap.

    ``launch + pnorm_2(rows, memory)``: a CTA owns a row, so that a wide row takes time even when there is only one;
    memory moves all bytes, those that do not fit L2 at DRAM speed.

    A micro-benchmark, and a model step as well, finds activations in L2 that the kernel before has just written. A
    roofline counts them as crossing HBM nevertheless. So ``cache="cold"`` lets what L2 holds move at the data-sheet
    DRAM rate, never faster, and the rest at the rate that a copy kernel reaches. ``"replayed"`` is what a profiler
    sees, L2 hits and all.

    >>> from pruninfersim import hardware
    >>> from pruninfersim.trace import OpTrace
    >>> act = {"kernel": "act", "m": [1, 4096], "n": 14336, "k": 14336, "a_reads": 2}
    >>> one, many = Elementwise().latency(OpTrace.from_rows([act]), hardware.get("h100-sxm"))[..., 0]
    >>> bool(one < 6e-6), bool(many > 3 * 2 * 4096 * 14336 / 3.35e12)
    (True, True)
    """

    launch: float = parameter(1.8e-6, 2e-7, 1e-5, "s", "start-up and drain of the kernel")
    row_bandwidth: float = parameter(4e10, 1e9, 1e13, "B/s", "bytes per second that one CTA moves in its row")
    memory_efficiency: float = parameter(
        1.0, 0.3, 4.0, "1", "DRAM rate over its data-sheet rate; above 1: L2 hits remain"
    )
    l2_bandwidth: float = parameter(3.0, 1.0, 12.0, "1", "L2 bandwidth over DRAM bandwidth")
    l2_share: float = parameter(0.6, 0.05, 5.0, "1", "share of L2 up to which the operands of a kernel stay in it")
    quantised: bool = True

    #: CTAs of 256 threads that one SM holds (2048 threads).
    ROWS_PER_SM: ClassVar[float] = 8.0
    #: Exponents: overlap of rows and memory, sharpness of the L2 limit; fixed.
    OVERLAP: ClassVar[float] = 2.0
    MISS_SHARPNESS: ClassVar[float] = 4.0
    #: Most that a copy kernel reaches of the data-sheet DRAM rate: 0.92, as dense GEMMs do when they stream weights
    #: (fitted 0.76 to 0.93; ai-dynamo/aiconfigurator); no timing here is free of L2 hits.
    COPY_EFFICIENCY: ClassVar[float] = 0.92

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]."""
        size = ops.traffic
        row = size / (ops.batch * ops.m)
        waves = ops.batch * ops.m / (self.ROWS_PER_SM * hardware.sm_count)
        waves = np.ceil(waves) if self.quantised else np.maximum(waves, 1.0)
        bandwidth = hardware.memory_bandwidth
        miss = crossing(size, self.l2_share, hardware, self.MISS_SHARPNESS)
        if cache == "replayed":
            memory = size * (miss / self.memory_efficiency + (1.0 - miss) / self.l2_bandwidth) / bandwidth
        else:
            memory = size * (miss / min(self.memory_efficiency, self.COPY_EFFICIENCY) + (1.0 - miss)) / bandwidth
        return np.asarray(self.launch + pnorm(waves * row / self.row_bandwidth, memory, self.OVERLAP))

    def without_quantisation(self) -> Elementwise:
        """Return the same kernel with fractions of waves."""
        return replace(self, quantised=False)


# --- how timings of it are read, fitted and judged ------------------------------------------------------------------


def _elements(frame: pd.DataFrame, _: HardwareProfile) -> FloatArray:
    return np.asarray(frame["m"].to_numpy() * frame["k"].to_numpy() * 1e-6)


def _kind(kernel: str, names: tuple[str, ...], a_reads: float, out_writes: float) -> Kind:
    """Return the kind of one elementwise op; `k` is the width of its row, as in a trace."""

    def as_ops(frame: pd.DataFrame) -> OpTrace:
        other = sorted(set(frame["op"]) - set(names))
        if other:
            raise InvalidInputError(
                f"these timings hold op {', '.join(other)}; elementwise_{names[0]} is fitted to "
                f"{' or '.join(names)} only. "
                "Select its rows first"
            )
        width = frame["k"].to_numpy()
        columns = {"m": frame["m"].to_numpy(), "n": width, "k": width, "a_reads": a_reads, "out_writes": out_writes}
        return rows_as_ops(frame, columns, kernel=kernel, name=names[0])

    return Kind(
        kernel=Elementwise,
        shape=("m", "k"),
        labels=("op",),
        group=("m",),
        axes=("m", "k"),
        as_ops=as_ops,
        scarce=("launch", "row_bandwidth", "memory_efficiency"),
        left_out=Spread(-0.46, 0.49, 0.7),
        # Fits without the rows that move most miss those that move 2, 4 and 16 times as much by 1 to 2, 1.4 to 3.5 and
        # 4 to 12 times their band.
        quantities=(Quantity("moved", moved, "B", above=1.0),),
        regimes=(Regime.of_column("m", 16, 256), Regime("m*k [1e6]", _elements, (0.1, 1.0, 10.0))),
        family="elementwise",
    )


KINDS = {
    "elementwise_norm": _kind("norm", ("norm", "layernorm", "attn_norm", "mlp_norm"), 2.0, 2.0),
    "elementwise_final_norm": _kind("norm", ("final_norm", "final_layernorm"), 2.0, 2.0),
    "elementwise_qk_norm": _kind("qk_norm", ("qk_norm",), 1.0, 1.0),
    "elementwise_rope": _kind("rope", ("rope", "rotary_emb"), 1.0, 1.0),
    "elementwise_act": _kind("act", ("act", "act_fn"), 2.0, 1.0),
    "elementwise_embedding": _kind("embedding", ("embedding",), 1.0, 1.0),
}
