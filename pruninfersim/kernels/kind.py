"""What calibration has to know about one kind of kernel; each kernel's file ends with its own `Kind`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray
from pruninfersim.hardware import HardwareProfile, precision
from pruninfersim.kernels.base import Cache, KernelModel
from pruninfersim.kernels.evidence import Domain, Limit, Quantity, Spread
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    import pandas as pd

#: (kernel, frame, hardware, cache) -> seconds per row, shape (row,).
Predictor = Callable[[Any, "pd.DataFrame", HardwareProfile, Cache], FloatArray]


@dataclass(frozen=True)
class Regime:
    """A quantity by which rows are grouped, and the edges between the groups (each belongs to the group below)."""

    name: str
    values: Callable[[pd.DataFrame, HardwareProfile], FloatArray]
    edges: tuple[float, ...]

    @classmethod
    def of_column(cls, name: str, *edges: float) -> Regime:
        """Return the regime of a column of the timings."""
        return cls(name, lambda frame, _: np.asarray(frame[name], dtype=np.float64), edges)

    def groups(self, frame: pd.DataFrame, gpu: HardwareProfile) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Yield the label and rows of each group that has any."""
        index = np.searchsorted(self.edges, self.values(frame, gpu), side="left")
        for number in range(len(self.edges) + 1):
            rows = index == number
            if rows.any():
                yield self._label(number), rows

    def _label(self, number: int) -> str:
        if number == len(self.edges):
            return f"{self.name} > {self.edges[-1]:g}"
        if number == 0:
            return f"{self.name} <= {self.edges[0]:g}"
        return f"{self.edges[number - 1]:g} < {self.name} <= {self.edges[number]:g}"


@dataclass(frozen=True)
class Kind:
    """How one kind of kernel is timed, priced, fitted, trusted and carried over.

    Attributes
    ----------
    kernel : type
        Frozen dataclass that follows `KernelModel`; its defaults are where a fit begins.
    shape : tuple of str
        Numeric columns of a timings file that say what ran, beside gpu, backend, dtype and latency_us.
    labels : tuple of str
        Text columns that say what ran (an op, a sparsity).
    optional : tuple of str
        Numeric columns that say what ran where a timings file has them; 0 or blank is none (a window).
    group : tuple of str
        Columns whose values stay together in one fold of the cross-validation.
    axes : tuple of str
        Columns along which pruning shrinks a shape: pairs that differ in one of them give the ratio errors.
    as_ops : callable
        Frame -> OpTrace, one op per row, sweep shape ().
    scarce : tuple of str
        Parameters that are fitted when there are too few rows for the others.
    left_out : Spread
        90 % band on a GPU that was left out of all fits.
    quantities : tuple of Quantity
        What the domain of a calibration is stated in.
    regimes : tuple of Regime
        By what `validate` groups its rows.
    family : str
        Kinds of one family share the common part of their error; default is that of the key.
    predict : callable, optional
        Used in place of ``kernel.latency(as_ops(frame))`` while fitting, where a row tells more than its op does
        (the replay protocol behind a backend).
    seconds_of : callable, optional
        Used in place of ``kernel.latency(as_ops(frame))`` everywhere, where a row is more than one kernel.
    extra : callable, optional
        (frame, log residual per row) -> further residuals to fit, for instance of ratios between rows.
    prior_sd : mapping of str to float
        Standard deviations of a normal prior on log parameters, around the kernel's defaults, that every fit of the
        kind uses; empty if only fits with few rows need one.
    untold : callable, optional
        frame -> names of parameters that its rows cannot tell and that stay at their start.
    similarity : tuple of callables
        What makes two GPUs similar for this kind, most telling first; empty for `nearest.SIMILARITY`.
    variant : callable, optional
        GPU -> the fields of the kernel that follow from its architecture and are not fitted.
    carry : callable, optional
        (kernel, GPU it was fitted on, another GPU) -> the kernel for the other one, where parameters cannot carry over
        as they are.
    settled : callable, optional
        (kernel, frame) -> the kernel with the fields that follow from how the rows were timed, and are not fitted.
    one_set : bool
        Whether parameters do not depend on the width of the operands, so that the 16-bit set speaks for narrow formats.
    usual : mapping
        Fields of the kernel that follow from the library that was timed, with what libraries do as a rule. A fit keeps
        those of its timings; a stack, and a fit that starts from it, take these.
    """

    kernel: type[Any]
    shape: tuple[str, ...]
    group: tuple[str, ...]
    axes: tuple[str, ...]
    as_ops: Callable[[pd.DataFrame], OpTrace]
    scarce: tuple[str, ...]
    left_out: Spread
    quantities: tuple[Quantity, ...]
    regimes: tuple[Regime, ...]
    labels: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    family: str = ""
    predict: Predictor | None = None
    seconds_of: Predictor | None = None
    extra: Callable[[pd.DataFrame, FloatArray], FloatArray] | None = None
    prior_sd: Mapping[str, float] = field(default_factory=dict)
    untold: Callable[[pd.DataFrame], tuple[str, ...]] | None = None
    similarity: tuple[Callable[[HardwareProfile], str], ...] = ()
    variant: Callable[[HardwareProfile], dict[str, Any]] | None = None
    carry: Callable[[Any, HardwareProfile, HardwareProfile], Any] | None = None
    settled: Callable[[Any, pd.DataFrame], Any] | None = None
    one_set: bool = False
    usual: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that say what ran, those that a file may lack too."""
        return (*self.shape, *self.labels, *self.optional)

    def as_usual(self, kernel: Any) -> Any:
        """Return a fitted kernel as a stack runs it, whatever library was timed."""
        return replace(kernel, **self.usual) if self.usual else kernel

    def start(self, hardware: HardwareProfile) -> Any:
        """Return the kernel model with default parameters, as a fit for this GPU begins with."""
        return self.kernel(**(self.variant(hardware) if self.variant else {}))

    def seconds(self, kernel: KernelModel, frame: pd.DataFrame, hardware: HardwareProfile, cache: Cache) -> FloatArray:
        """Return what the kernel model predicts for the rows, with nothing known but their ops [s]."""
        if self.seconds_of is not None:
            return self.seconds_of(kernel, frame, hardware, cache)
        return kernel.latency(self.as_ops(frame), hardware, cache=cache)

    def fit_seconds(
        self, kernel: KernelModel, frame: pd.DataFrame, hardware: HardwareProfile, cache: Cache
    ) -> FloatArray:
        """Return what the kernel model predicts for the rows, with all that their columns tell [s]."""
        return (self.predict or self.seconds)(kernel, frame, hardware, cache)

    def ranges(self, ops: OpTrace) -> dict[str, tuple[float, float]]:
        """Return the range of each quantity among ops, by its name."""
        values = {quantity.name: quantity.of(ops) for quantity in self.quantities}
        return {name: (float(column.min()), float(column.max())) for name, column in values.items()}

    def domain(self, ranges: Mapping[str, tuple[float, float]]) -> Domain:
        """Return the domain of a fit whose rows span these ranges."""
        known = {quantity.name: quantity for quantity in self.quantities}
        return Domain(tuple(Limit(known[name], low, high * known[name].reach) for name, (low, high) in ranges.items()))


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
