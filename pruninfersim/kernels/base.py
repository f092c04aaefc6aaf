"""What a kernel model is: a frozen set of parameters that turns op columns into seconds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim._util.arrays import FloatArray, somewhere
from pruninfersim.hardware import HardwareProfile
from pruninfersim.trace import OpTrace

#: "cold": operands stream from HBM, as in a model step. "replayed": a micro-benchmark that cycles a few copies.
Cache = Literal["cold", "replayed"]


class KernelModel(Protocol):
    """Anything that prices ops: frozen, pure, vectorised over ``(*sweep, op)``."""

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the time of one run of each op, shape (*sweep, op) [s].

        Launch gaps are not part of it, and nobody has compared it with the roofline: `CostModel.predict` does both.
        """


@runtime_checkable
class Quantised(Protocol):
    """A kernel model that works in whole tiles and waves, and can tell what it would cost without."""

    def without_quantisation(self) -> KernelModel:
        """Return the same kernel with fractions of tiles and waves."""


def smooth(model: KernelModel) -> KernelModel:
    """Return a kernel model in fractions of tiles and waves, if it works in whole ones."""
    return model.without_quantisation() if isinstance(model, Quantised) else model


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


def two_of_four(ops: OpTrace) -> NDArray[np.bool_]:
    """Return which ops have 2:4 weights, shape (op,)."""
    return np.array([pattern == "2:4" for pattern in ops.pattern], dtype=bool)


def roofline(ops: OpTrace, hardware: HardwareProfile) -> FloatArray:
    """Return the roofline time of one run of each op, shape (*sweep, op) [s].

    max(FLOPs / peak, HBM bytes / bandwidth), at data-sheet rates (Williams et al. 2009, doi:10.1145/1498765.1498785).
    An op of pattern 2:4 counts only the kept MACs, see `peaks`.
    """
    return np.maximum(compute_time(ops, hardware), traffic_time(ops, hardware))


def traffic_time(ops: OpTrace, hardware: HardwareProfile) -> FloatArray:
    """Return bytes / bandwidth of one run of each op, of HBM or of the link to other GPUs, shape (*sweep, op) [s].

    What crosses the link is counted once each way, as reduction within the network needs; a card whose link the profile
    does not tell gets no such bound.
    """
    memory = np.asarray(ops.traffic / hardware.memory_bandwidth)
    if hardware.interconnect_bandwidth is None or "all_reduce" not in ops.kernel:
        return memory
    return np.maximum(memory, ops.wire / (hardware.interconnect_bandwidth / 2.0))


def ceilings(ops: OpTrace, hardware: HardwareProfile) -> tuple[FloatArray, FloatArray]:
    """Return the roofline time of one run of each op, and the time that no kernel beats, shape (*sweep, op) [s].

    The second is the roofline with peaks at the highest clock of the card, see `HardwareProfile.clock_reserve`.
    """
    compute, memory = compute_time(ops, hardware), traffic_time(ops, hardware)
    at_rest = np.maximum(compute, memory)
    reserve = hardware.clock_reserve
    return at_rest, at_rest if reserve == 1.0 else np.maximum(compute / reserve, memory)


def compute_time(ops: OpTrace, hardware: HardwareProfile) -> FloatArray:
    """Return FLOPs / peak of one run of each op, shape (*sweep, op) [s]; an op without a product needs no peak."""
    return np.asarray(ops.flops / peaks(ops, hardware))


def peaks(ops: OpTrace, hardware: HardwareProfile) -> FloatArray:
    """Return the rate at which each op's kept MACs can be done at most, shape (op,) [FLOP/s]; infinite without any.

    A 2:4 peak counts the zeros as work, so that half of it is for the kept ones.

    Raises
    ------
    MissingValueError
        If the profile lacks a peak that an op needs.
    """
    multiplies = somewhere(ops.gemms > 0).tolist()
    rates: dict[tuple[str, str], float] = {}
    for dtype, pattern, needed in zip(ops.dtype, ops.pattern, multiplies, strict=True):
        if needed and (dtype, pattern) not in rates:
            sparse = pattern == "2:4"
            rates[dtype, pattern] = hardware.peak_flops(dtype, sparse=sparse) / (2.0 if sparse else 1.0)
    found = zip(ops.dtype, ops.pattern, multiplies, strict=True)
    return np.array([rates[dtype, pattern] if needed else np.inf for dtype, pattern, needed in found])


@dataclass(frozen=True)
class Roofline:
    """The ideal kernel: exactly its roofline. Stack ``"ideal"`` is this for every op."""

    def latency(self, ops: OpTrace, hardware: HardwareProfile, *, cache: Cache = "cold") -> FloatArray:
        """Return the roofline time of one run of each op, shape (*sweep, op) [s].

        Raises
        ------
        MissingValueError
            If the profile lacks a peak that an op needs.
        """
        return roofline(ops, hardware)
