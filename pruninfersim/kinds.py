"""What calibration knows about each kind of kernel: its model, its CSV columns, how rows become ops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pruninfersim import precision
from pruninfersim._arrays import FloatArray
from pruninfersim.errors import unknown_name
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, KernelModel
from pruninfersim.kernels.gemm import PROTOCOLS, Gemm
from pruninfersim.trace import OpTrace

#: (kernel, frame, hardware, cache) -> seconds per row, shape (row,).
Predictor = Callable[[Any, pd.DataFrame, HardwareProfile, Cache], FloatArray]


@dataclass(frozen=True)
class Kind:
    """How one kind of kernel is timed, priced and fitted.

    Attributes
    ----------
    kernel : type
        Frozen dataclass that follows `KernelModel`; its defaults are where a fit begins.
    shape : tuple of str
        Numeric columns of a timings file that say what ran, beside gpu, backend, dtype and latency_us.
    labels : tuple of str
        Text columns that say what ran (an op, a sparsity).
    group : tuple of str
        Columns whose values stay together in one fold of the cross-validation.
    axes : tuple of str
        Columns along which pruning shrinks a shape: pairs that differ in one of them give the ratio errors.
    as_ops : callable
        Frame -> OpTrace, one op per row, sweep shape ().
    scarce : tuple of str
        Parameters that are fitted when there are too few rows for the others.
    predict : callable, optional
        Used in place of ``kernel.latency(as_ops(frame))`` while fitting, where a row tells more than its op does
        (the replay protocol behind a backend).
    extra : callable, optional
        (frame, log residual per row) -> further residuals to fit, for instance of ratios between rows.
    """

    kernel: type[Any]
    shape: tuple[str, ...]
    group: tuple[str, ...]
    axes: tuple[str, ...]
    as_ops: Callable[[pd.DataFrame], OpTrace]
    scarce: tuple[str, ...]
    labels: tuple[str, ...] = ()
    predict: Predictor | None = None
    extra: Callable[[pd.DataFrame, FloatArray], FloatArray] | None = None

    def seconds(self, kernel: KernelModel, frame: pd.DataFrame, hardware: HardwareProfile, cache: Cache) -> FloatArray:
        """Return what the kernel model predicts for the rows, with nothing known but their ops [s]."""
        return kernel.latency(self.as_ops(frame), hardware, cache=cache)

    def fit_seconds(self, kernel: KernelModel, frame: pd.DataFrame, hardware: HardwareProfile, cache: Cache) -> FloatArray:
        """Return what the kernel model predicts for the rows, with all that their columns tell [s]."""
        return (self.predict or self.seconds)(kernel, frame, hardware, cache)


def rows_as_ops(frame: pd.DataFrame, columns: dict[str, Any], *, kernel: str, name: str = "") -> OpTrace:
    """Build a trace with one op per row of a timings frame.

    Parameters
    ----------
    frame : DataFrame
        Has a ``dtype`` column of precision names.
    columns : dict
        Numeric trace columns, scalars or one value per row; element sizes follow the precision unless given.
    kernel, name : str
        Labels of all rows.
    """
    sizes = [precision.get(dtype) for dtype in frame["dtype"]]
    wide: dict[str, Any] = {
        "a_bytes": [p.input_bytes for p in sizes],
        "b_bytes": [p.weight_bytes for p in sizes],
        "out_bytes": [p.output_bytes for p in sizes],
        **columns,
    }
    count = len(frame)
    blank = OpTrace.from_rows([{}]).select(np.zeros(count, dtype=int))
    numbers = {key: np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)) for key, value in wide.items()}
    labels = {"name": (name or kernel,) * count, "kernel": (kernel,) * count, "dtype": tuple(p.dtype for p in sizes)}
    return blank.with_columns(**numbers, **labels)


def _gemm_ops(frame: pd.DataFrame) -> OpTrace:
    columns = {axis: frame[axis].to_numpy() for axis in ("m", "n", "k")}
    return rows_as_ops(frame, {**columns, "gemms": 1.0}, kernel="gemm")


def _gemm_seconds(kernel: Gemm, frame: pd.DataFrame, hardware: HardwareProfile, cache: Cache) -> FloatArray:
    """Price each row under the replay protocol of its backend, where that is known."""
    protocol = frame["backend"].str.split().str[0].to_numpy() if "backend" in frame else np.full(len(frame), "")
    out = np.empty(len(frame))
    for name in np.unique(protocol):
        rows = protocol == name
        ops = _gemm_ops(frame[rows])
        out[rows] = kernel.latency(ops, hardware, cache=cache, footprint=PROTOCOLS.get(name))
    return out


#: The kinds of kernels that can be calibrated.
KERNELS: dict[str, Kind] = {
    "gemm": Kind(
        kernel=Gemm,
        shape=("m", "n", "k"),
        group=("n", "k"),
        axes=("m", "n", "k"),
        as_ops=_gemm_ops,
        scarce=("launch", "compute_efficiency", "memory_efficiency"),
        predict=_gemm_seconds,
    ),
}


def get(kind: str) -> Kind:
    """Return what calibration knows about `kind`.

    Raises
    ------
    UnknownNameError
        If there is no such kind.

    >>> get("gemm").shape
    ('m', 'n', 'k')
    """
    if kind not in KERNELS:
        raise unknown_name("kernel kind", kind, KERNELS)
    return KERNELS[kind]
