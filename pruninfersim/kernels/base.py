"""What a kernel model is: a frozen set of parameters that turns op columns into seconds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._arrays import FloatArray
from pruninfersim.hardware import HardwareProfile
from pruninfersim.trace import OpTrace

#: Kernels without a product: they need no compute peak.
NO_GEMM = frozenset(
    ("norm", "qk_norm", "rope", "kv_append", "act", "embedding", "transpose", "mask_sort", "block_index", "elementwise")
)
#: "cold": operands stream from HBM, as in a model step. "replayed": a micro-benchmark that cycles a few copies.
Cache = Literal["cold", "replayed"]


class KernelModel(Protocol):
    """Anything that prices ops: frozen, pure, vectorised over ``(*sweep, op)``."""

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s]; launch gaps are not part of it."""


@runtime_checkable
class Quantised(Protocol):
    """A kernel model that works in whole tiles and waves, and can tell what it would cost without."""

    def without_quantisation(self) -> KernelModel:
        """Return the same kernel with fractions of tiles and waves."""


def parameter(start: float, lower: float, upper: float, unit: str, meaning: str) -> Any:
    """Declare a fitted parameter of a kernel model: a dataclass field whose metadata calibration reads.

    Parameters
    ----------
    start : float
        Default value, and where a fit begins.
    lower, upper : float
        Bounds of the fit; both positive, since fits run in log space.
    unit, meaning : str
        For tables and TOML files; unit "1" where there is none.
    """
    return field(default=start, metadata={"lower": lower, "upper": upper, "unit": unit, "meaning": meaning})


def parameters(model: Any) -> dict[str, dataclasses.Field[Any]]:
    """Return the fitted parameters of a kernel class or instance by name."""
    return {f.name: f for f in dataclasses.fields(model) if "meaning" in f.metadata}


def pnorm(a: ArrayLike, b: ArrayLike, p: ArrayLike) -> FloatArray:
    """Return the smooth maximum (a^p + b^p)^(1/p) of two non-negative arrays, safe for any magnitude.

    >>> float(pnorm(3.0, 4.0, 2.0))
    5.0
    """
    high, low = np.maximum(a, b), np.minimum(a, b)
    ratio = np.divide(low, high, out=np.zeros(np.broadcast(low, high).shape), where=high > 0)
    return np.asarray(high * (1.0 + ratio**p) ** (1.0 / np.asarray(p)), dtype=np.float64)


def roofline(ops: OpTrace, hardware: HardwareProfile) -> FloatArray:
    """Return the roofline time of one run of each op, shape (*sweep, op) [s].

    max(FLOPs / peak, HBM bytes / bandwidth), at data-sheet rates (Williams et al. 2009, doi:10.1145/1498765.1498785).
    An op on 2:4 weights counts only the kept MACs, at half of the 2:4 peak, which counts the zeros as work.
    """
    return np.maximum(compute_time(ops, hardware), ops.traffic / hardware.memory_bandwidth)


def compute_time(ops: OpTrace, hardware: HardwareProfile) -> FloatArray:
    """Return FLOPs / peak of one run of each op, shape (*sweep, op) [s]."""
    rates = {
        (dtype, kernel): hardware.peak_flops(dtype, sparse=True) / 2.0
        if kernel == "gemm_2of4"
        else hardware.peak_flops(dtype)
        for dtype, kernel in set(zip(ops.dtype, ops.kernel, strict=True))
        if kernel not in NO_GEMM
    }
    peak = [rates.get(identity, np.inf) for identity in zip(ops.dtype, ops.kernel, strict=True)]
    return np.asarray(ops.flops / np.array(peak))


@dataclass(frozen=True)
class Roofline:
    """The ideal kernel: exactly its roofline. Stack ``"ideal"`` is this for every op."""

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the roofline time of one run of each op, shape (*sweep, op) [s]."""
        return roofline(ops, hardware)
