"""Calibration: timings of a GPU in, a fitted kernel model with errors and provenance out."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim.calibration import kinds
from pruninfersim.calibration.checks import FEWEST_ROWS, check_cache, copies, possible, rows_of
from pruninfersim.calibration.least_squares import Fit, fit_logs, folds, mape, pair_correlation, pairs
from pruninfersim.calibration.nearest import starting_kernel
from pruninfersim.calibration.record import Band, Calibration, Residuals
from pruninfersim.calibration.timings import parse, read_timings
from pruninfersim.errors import InvalidInputError, UnknownNameError, shown
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, parameters
from pruninfersim.kernels.kind import Kind

__all__ = ["Band", "Calibration", "Residuals", "calibrate", "fit_kernel", "read_timings"]

#: Below so many rows only the parameters that few rows can tell are fitted.
SCARCE_ROWS = 40
#: Below so many rows a weak prior holds the parameters near those of the most similar GPU.
FEW_ROWS = 100
#: The same below so many groups of rows that share a weight shape.
FEW_SHAPES = 20
#: Standard deviation of that prior on each log parameter.
PRIOR_SD = 0.4
#: Folds of the cross-validation.
FOLDS = 5
#: Edges between the ranges of predicted time that get residual quantiles of their own [s].
BAND_EDGES = (1e-5, 2e-4)
#: Fewest held-out rows for which a range gets its own.
BAND_ROWS = 60


@door
def calibrate(
    kind: str,
    timings: pd.DataFrame,
    hardware: HardwareProfile | str | None = None,
    *,
    dtype: str | None = None,
    parameters: str | Sequence[str] = "auto",
    start: Any = None,
    cache: Cache = "replayed",
    source: str | None = None,
) -> Calibration:
    """Fit the kernel model of `kind` to measured timings.

    Robust least squares on log latency (Cauchy loss), parameters in log space within bounds. The held-out errors and
    quantiles come from 5-fold cross-validation in which all rows of a weight shape are left out together.

    Parameters
    ----------
    kind : str
        ``"gemm"``, or another key of `pruninfersim.calibration.kinds.KERNELS`.
    timings : DataFrame
        From `read_timings`, or with the same columns.
    hardware : HardwareProfile or str, optional
        The GPU that was timed; default is the one that the timings name. Rows of other GPUs are left out.
    dtype : str, optional
        Precision to fit; needed only if the timings have several.
    parameters : "auto", "all" or list of str
        Parameters to fit. "auto": all that the rows can tell, from 40 rows on; below, a few of them, the others taken
        from the most similar GPU. Up to 100 rows, or with fewer than 20 weight shapes, a weak prior holds all near
        those of that GPU.
    start : KernelModel, optional
        Where the fit begins, and the values of what is not fitted; default as above.
    cache : {"replayed", "cold"}
        How the timings were taken: a benchmark that cycles a few copies, or operands that stream from HBM.
    source : str, optional
        Where the timings come from; default is what `read_timings` noted.

    Returns
    -------
    Calibration

    Raises
    ------
    UnknownNameError
        If the kind, the GPU or a parameter is not known.
    InvalidInputError
        If there are too few rows, several GPUs or precisions, none of this GPU, rows that repeat others, an unknown
        cache mode, or times that are not of the size that this GPU can have, such as milliseconds.
    FileFormatError
        If a column is missing or a row is bad.

    >>> from pruninfersim import gemm_latency
    >>> m, n = (axis.ravel() for axis in np.meshgrid([1, 64, 512, 4096, 16384], [1024, 2048, 4096, 8192, 14336]))
    >>> slow = 1.3e6 * gemm_latency(m, n, 4096, hardware="h100-sxm")  # a card 30 % slower than the shipped one [us]
    >>> rows = pd.DataFrame({"gpu": "h100-sxm", "dtype": "bf16", "m": m, "n": n, "k": 4096, "latency_us": slow})
    >>> fit = calibrate("gemm", rows, hardware="h100-sxm", cache="cold", source="made up")
    >>> bool(fit.held_out_error < 0.03)
    True
    """
    problem, frame, where = _prepare(kind, timings, hardware, dtype, parameters, start, cache, source)
    again = copies(frame)
    if again:
        raise InvalidInputError(f"{where}: {len(again)} rows repeat others, the time included; remove the copies")
    spec = problem.spec
    fit = problem.fit(frame, problem.base)
    kernel = problem.kernel(fit)
    fold = folds(frame, spec.group, FOLDS)
    held_out = np.empty(len(frame))
    for number in range(int(fold.max()) + 1):
        test = fold == number
        known = frame[~test] if (~test).any() else frame
        fitted = problem.kernel(problem.fit(known.reset_index(drop=True), kernel))
        held_out[test] = problem.log_residual(fitted, frame[test])
    return _record(kind, problem, frame, fit, held_out, where)


def fit_kernel(
    kind: str,
    timings: pd.DataFrame,
    hardware: HardwareProfile | str | None = None,
    *,
    dtype: str | None = None,
    parameters: str | Sequence[str] = "auto",
    start: Any = None,
    cache: Cache = "replayed",
) -> Any:
    """Return the kernel model that `calibrate` fits, without its cross-validation: for tests of one's own.

    Parameters, errors: as in `calibrate`.
    """
    problem, frame, _ = _prepare(kind, timings, hardware, dtype, parameters, start, cache, None)
    return problem.kernel(problem.fit(frame, problem.base))


def _prepare(
    kind: str,
    timings: pd.DataFrame,
    hardware: HardwareProfile | str | None,
    dtype: str | None,
    wanted: str | Sequence[str],
    start: Any,
    cache: Cache,
    source: str | None,
) -> tuple[_Problem, pd.DataFrame, str]:
    """Check the input; return the problem, the rows of one precision and where they come from."""
    spec = kinds.get(kind)
    check_cache(cache)
    where = source or str(timings.attrs.get("source", "timings"))
    gpu, rows = rows_of(parse(timings, kind=kind, where=where), hardware)
    frame = _one_dtype(rows, dtype)
    base, free, prior = _plan(spec, kind, frame, gpu, wanted, start)
    possible(frame["latency_us"].to_numpy() * 1e-6, spec.seconds(base, frame, gpu, cache), gpu.name, where)
    return _Problem(spec, gpu, cache, base, free, prior), frame, where


def _one_dtype(frame: pd.DataFrame, dtype: str | None) -> pd.DataFrame:
    """Return the rows of one precision."""
    found = list(dict.fromkeys(frame["dtype"]))
    if dtype is None and len(found) > 1:
        raise InvalidInputError(f"the timings have several dtypes, {', '.join(found)}: say which to fit, dtype=...")
    rows = frame if dtype is None else frame[frame["dtype"] == dtype]
    if len(rows) < FEWEST_ROWS:
        kind = f" of dtype {shown(dtype)} (there are {', '.join(found)})" if dtype else ""
        raise InvalidInputError(f"a fit needs at least {FEWEST_ROWS} rows{kind}; got {len(rows)}")
    return rows.reset_index(drop=True)


def _plan(
    spec: Kind, kind: str, frame: pd.DataFrame, gpu: HardwareProfile, wanted: str | Sequence[str], start: Any
) -> tuple[Any, tuple[str, ...], float | FloatArray | None]:
    """Decide where the fit begins, which parameters it frees, and how wide the prior is."""
    known = tuple(parameters(spec.kernel))
    count = len(frame)
    untold = spec.untold(frame) if spec.untold else ()
    if wanted in ("auto", "all"):
        few_free = spec.scarce if wanted == "auto" and count < SCARCE_ROWS else known
        free = tuple(name for name in few_free if name not in untold)
    else:
        free = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        unknown = [name for name in free if name not in known]
        if unknown or not free:
            raise UnknownNameError(f"{kind} has no parameter {', '.join(unknown)}. It has: {', '.join(known)}.")
    # Rows of one weight shape share their error, so that many rows of few shapes are few, too.
    few = count < FEW_ROWS or frame.groupby(list(spec.group)).ngroups < FEW_SHAPES
    if start is None and few:
        start = starting_kernel(kind, str(frame["dtype"].iat[0]), gpu)
    base = spec.start(gpu) if start is None else getattr(start, "kernel", start)
    if not isinstance(base, spec.kernel):
        raise InvalidInputError(f"start must be a {spec.kernel.__name__}, or a calibration of one; got {shown(start)}")
    base = spec.settled(base, frame) if spec.settled else base
    if spec.prior_sd:
        return base, free, np.array([spec.prior_sd.get(name, PRIOR_SD) for name in free])
    return base, free, PRIOR_SD if few and count >= SCARCE_ROWS else None


@dataclass(frozen=True)
class _Problem:
    """One calibration problem: everything but the rows."""

    spec: Kind
    gpu: HardwareProfile
    cache: Cache
    base: Any
    free: tuple[str, ...]
    prior: float | FloatArray | None

    def kernel(self, fit: Fit) -> Any:
        """Kernel with the fitted values."""
        return replace(self.base, **{name: float(v) for name, v in zip(self.free, fit.values, strict=True)})

    def fit(self, frame: pd.DataFrame, start: Any) -> Fit:
        """Fit the free parameters to the rows of `frame`, pricing each distinct shape once."""
        meta = [parameters(self.base)[name].metadata for name in self.free]
        keys = [name for name in ("backend", "dtype", *self.spec.columns) if name in frame]
        groups = frame.groupby(keys, sort=False)
        inverse = groups.ngroup().to_numpy()
        distinct = frame.loc[groups.head(1).index].reset_index(drop=True)
        measured = np.log(frame["latency_us"].to_numpy() * 1e-6)

        def residual(values: FloatArray) -> FloatArray:
            kernel = replace(self.base, **dict(zip(self.free, values.tolist(), strict=True)))
            priced = np.log(self.spec.fit_seconds(kernel, distinct, self.gpu, self.cache))
            rows = priced[inverse] - measured
            return rows if self.spec.extra is None else np.concatenate([rows, self.spec.extra(frame, rows)])

        return fit_logs(
            residual,
            np.array([getattr(start, name) for name in self.free]),
            np.array([m["lower"] for m in meta]),
            np.array([m["upper"] for m in meta]),
            centre=np.array([getattr(self.base, name) for name in self.free]),
            prior_sd=self.prior,
        )

    def log_residual(self, kernel: Any, frame: pd.DataFrame) -> FloatArray:
        """ln(measured / predicted) of rows, with nothing known but their ops."""
        predicted = self.spec.seconds(kernel, frame, self.gpu, self.cache)
        return np.asarray(np.log(frame["latency_us"].to_numpy() * 1e-6 / predicted))


def _record(
    kind: str, problem: _Problem, frame: pd.DataFrame, fit: Fit, held_out: FloatArray, source: str
) -> Calibration:
    """Summarise residuals and put the record together."""
    spec, kernel = problem.spec, problem.kernel(fit)
    in_sample = problem.log_residual(kernel, frame)
    seconds = frame["latency_us"].to_numpy() * 1e-6 / np.exp(in_sample)
    ratio_error, correlation = {}, {}
    for axis in spec.axes:
        same = tuple(n for n in ("backend", "dtype", *spec.columns) if n in frame and n != axis)
        large, small = pairs(frame, axis, same)
        if large.size:
            ratio_error[axis] = mape(held_out[large] - held_out[small])
            correlation[axis] = pair_correlation(held_out, large, small)
    rows = frame.assign(predicted_us=seconds * 1e6, log_residual=in_sample, held_out_log_residual=held_out)
    errors = {name: float(v * e) for name, v, e in zip(problem.free, fit.values, fit.log_errors, strict=True)}
    return Calibration(
        kind=kind,
        kernel=kernel,
        standard_errors=errors,
        fitted_error=mape(in_sample),
        held_out_error=mape(held_out),
        residual=summary(held_out),
        bands=_bands(seconds, held_out),
        ratio_error=ratio_error,
        pair_correlation=correlation,
        domain=spec.ranges(spec.as_ops(frame)),
        n_rows=len(frame),
        hardware=problem.gpu.name,
        dtype=str(frame["dtype"].iat[0]),
        source=source,
        date=datetime.date.today().isoformat(),
        cache=problem.cache,
        residuals=rows,
    )


def summary(residual: FloatArray) -> Residuals:
    """Return the quantiles of log residuals.

    >>> summary(np.array([-0.1, 0.0, 0.1])).median
    0.0
    """
    low, median, high = np.quantile(residual, [0.05, 0.5, 0.95])
    return Residuals(float(low), float(median), float(high), float(1.4826 * np.median(np.abs(residual - median))))


def _bands(seconds: FloatArray, residual: FloatArray) -> tuple[Band, ...]:
    """Quantiles per range of predicted time; a range with few rows gets those of all rows."""
    edges = (*BAND_EDGES, np.inf)
    index = np.searchsorted(BAND_EDGES, seconds, side="right")
    out = []
    for number, edge in enumerate(edges):
        rows: NDArray[np.bool_] = index == number
        part = summary(residual[rows] if rows.sum() >= BAND_ROWS else residual)
        out.append(Band(float(edge), part.low, part.high))
    return tuple(out)
