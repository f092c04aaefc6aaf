"""Validation: how far the kernel models are from measured timings, by regime, beside simpler models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pruninfersim import hardware as profiles
from pruninfersim._util.arrays import FloatArray
from pruninfersim._util.doors import door
from pruninfersim.calibration import kinds
from pruninfersim.calibration.checks import check_cache, possible, rows_of
from pruninfersim.calibration.least_squares import fit_logs, folds, mape, pairs
from pruninfersim.calibration.nearest import band, nearest_calibration
from pruninfersim.calibration.record import Calibration
from pruninfersim.calibration.timings import parse
from pruninfersim.cost import Provenance
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels.base import Cache, compute_time, roofline
from pruninfersim.kernels.evidence import Spread
from pruninfersim.trace import OpTrace

#: Folds in which the 3-parameter model is fitted, so that it is judged on shapes that it has not seen.
FOLDS = 5
#: Start and bounds of the 3-parameter model: floor [s], fraction of peak FLOP/s, fraction of peak bandwidth.
THREE_START = (5e-6, 0.7, 0.8)
THREE_LOWER = (1e-7, 0.01, 0.01)
THREE_UPPER = (1e-3, 2.0, 5.0)


@door
def validate(
    timings: pd.DataFrame,
    hardware: HardwareProfile | str,
    *,
    kind: str | None = None,
    calibration: Calibration | None = None,
    cache: Cache = "replayed",
) -> pd.DataFrame:
    """Compare measured timings with what the kernel models predict for them.

    The kernel models are those that the vendor stack uses on this GPU: its own calibration, or one that is carried
    over. Where the timings are those that a calibration was fitted to, the errors are errors of the fit; the held-out
    ones are in the calibration itself.

    Parameters
    ----------
    timings : DataFrame
        From `read_timings`, or with the same columns. Rows of other GPUs are left out.
    hardware : HardwareProfile or str
    kind : str, optional
        Kind of kernel; default is the one whose columns the frame has. Elementwise rows may mix ops.
    calibration : Calibration, optional
        Judge this one, for instance one's own, in place of the shipped one.
    cache : {"replayed", "cold"}
        How the timings were taken; see `calibrate`.

    Returns
    -------
    DataFrame
        One row per kind, dtype and regime. All errors are fractions [1] on rows or, where ``quantity`` is "speedup",
        on pairs of rows: of shapes that differ in one axis only, or of the dense and the 2:4 kernel.

        - ``kind``, ``dtype``, ``provenance``: what was judged, and whether it was fitted on this GPU;
        - ``quantity``, ``regime``, ``n``: "time" or "speedup", which rows, how many;
        - ``mape``, ``median``, ``p90``: mean, median and 90 % quantile of abs(predicted / measured - 1);
        - ``bias``: geometric mean of predicted / measured, minus 1;
        - ``coverage``: share inside the 90 % interval;
        - ``roofline_mape``: the same mean error of the roofline at data-sheet rates;
        - ``three_parameter_mape``: that of floor + max(FLOPs / rate, bytes / rate), its three numbers fitted to other
          shapes of these very timings.

    Raises
    ------
    UnknownNameError
        If the kind or the GPU is not known.
    InvalidInputError
        If no row is of this GPU, or the times are not of the size that it can have, such as milliseconds.
    FileFormatError
        If a column is missing or a row is bad.
    MissingValueError
        If nothing of the kind is calibrated, or the profile lacks a peak.

    >>> rows = pd.DataFrame({"gpu": "h100-sxm", "dtype": "bf16", "m": [1, 64, 8192], "n": 4096, "k": 4096,
    ...                      "latency_us": [13.4, 14.5, 420.0]})
    >>> table = validate(rows, "h100-sxm")
    >>> bool(table["mape"][0] < table["roofline_mape"][0])
    True
    """
    gpu = profiles.get(hardware)
    parts = [_summary(part, gpu) for part in judged_rows(timings, gpu, kind=kind, calibration=calibration, cache=cache)]
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True, eq=False)
class Judged:
    """Timings of one kind and dtype with what the models make of them.

    Attributes
    ----------
    kind, dtype : str
    provenance : {"calibrated", "extrapolated"}
    spread : Spread
        90 % band that the library states for these predictions; for kind "gemm_2of4" that of the speedup.
    rows : DataFrame
        The timings, with ``predicted_us``, ``roofline_us`` and ``three_parameter_us``.
    """

    kind: str
    dtype: str
    provenance: Provenance
    spread: Spread
    rows: pd.DataFrame

    def log_residual(self, of: str = "predicted") -> FloatArray:
        """ln(measured / predicted) of a model: "predicted", "roofline" or "three_parameter"."""
        return np.asarray(np.log(self.rows["latency_us"] / self.rows[f"{of}_us"]), dtype=np.float64)


def judged_rows(
    timings: pd.DataFrame,
    hardware: HardwareProfile | str,
    *,
    kind: str | None = None,
    calibration: Calibration | None = None,
    cache: Cache = "replayed",
) -> list[Judged]:
    """Return the rows behind `validate`, one entry per kind and dtype. Parameters and errors: as there."""
    gpu = profiles.get(hardware)
    check_cache(cache)
    where = str(timings.attrs.get("source", "timings"))
    frame = rows_of(parse(timings, kind=kind, where=where, first_line=0), gpu)[1]
    out = []
    for name, part in _by_kind(str(frame.attrs["kind"]), frame):
        for dtype, rows in part.groupby("dtype", sort=False):
            out.append(_judge(name, str(dtype), rows.reset_index(drop=True), gpu, calibration, cache))
    return out


def _by_kind(kind: str, frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Split elementwise rows by the kind that their op belongs to; all others are of one kind."""
    if not kind.startswith("elementwise"):
        yield kind, frame
        return
    left = frame
    for name in (key for key in kinds.KERNELS if key.startswith("elementwise")):
        ops = [op for op in left["op"].unique() if _takes(name, left[left["op"] == op])]
        part = left[left["op"].isin(ops)]
        if len(part):
            yield name, part
        left = left[~left["op"].isin(ops)]
    if len(left):
        raise InvalidInputError(f"no elementwise kind has op {', '.join(left['op'].unique())}; remove these rows")


def _takes(kind: str, rows: pd.DataFrame) -> bool:
    """Whether an elementwise kind is fitted to the op of these rows."""
    try:
        kinds.get(kind).as_ops(rows.head(1))
    except InvalidInputError:
        return False
    return True


def _judge(
    kind: str, dtype: str, rows: pd.DataFrame, gpu: HardwareProfile, given: Calibration | None, cache: Cache
) -> Judged:
    spec = kinds.get(kind)
    if given is not None:
        found, extrapolated = given, given.hardware != gpu.name
        if given.kind != kind:
            raise InvalidInputError(f"the timings are of {kind}, the calibration is of {given.kind}")
    else:
        found, extrapolated = nearest_calibration(kind, dtype, gpu)
    ops = spec.as_ops(rows)
    seconds, floor = spec.seconds(found.kernel, rows, gpu, cache), roofline(ops, gpu)
    possible(rows["latency_us"].to_numpy() * 1e-6, seconds, gpu.name, f"{kind}, {dtype}")
    rows = rows.assign(
        predicted_us=1e6 * (np.maximum(seconds, floor) if cache == "cold" else seconds),
        roofline_us=1e6 * floor,
        three_parameter_us=1e6 * _three_parameter(ops, rows, spec.group, gpu),
    )
    spread = found.spread if given is not None else band(kind, found, extrapolated, gpu)
    return Judged(kind, dtype, "extrapolated" if extrapolated else "calibrated", spread, rows)


def _three_parameter(ops: OpTrace, rows: pd.DataFrame, group: tuple[str, ...], gpu: HardwareProfile) -> FloatArray:
    """Seconds by floor + max(compute, memory), each fold predicted from a fit to the others."""
    compute, memory = compute_time(ops, gpu), ops.traffic / gpu.memory_bandwidth
    measured = np.log(rows["latency_us"].to_numpy() * 1e-6)
    fold = folds(rows, group, FOLDS)
    out = np.empty(len(rows))
    for number in range(int(fold.max()) + 1):
        test = fold == number
        known = ~test if (~test).any() else test
        residual = partial(_three_residual, compute=compute[known], memory=memory[known], measured=measured[known])
        fit = fit_logs(residual, np.array(THREE_START), np.array(THREE_LOWER), np.array(THREE_UPPER))
        out[test] = _floor_and_rates(fit.values, compute[test], memory[test])
    return out


def _three_residual(values: FloatArray, compute: FloatArray, memory: FloatArray, measured: FloatArray) -> FloatArray:
    return np.asarray(np.log(_floor_and_rates(values, compute, memory)) - measured)


def _floor_and_rates(values: FloatArray, compute: FloatArray, memory: FloatArray) -> FloatArray:
    return np.asarray(values[0] + np.maximum(compute / values[1], memory / values[2]))


def _summary(part: Judged, gpu: HardwareProfile) -> pd.DataFrame:
    """Table of one kind and dtype: times in all and by regime, then speedups."""
    models = [part.log_residual(of) for of in ("predicted", "roofline", "three_parameter")]
    sparse = part.kind == "gemm_2of4"
    # The band of a 2:4 calibration is that of its ratio to dense, which is what the vendor stack uses.
    held = None if sparse else (part.spread.low, part.spread.high)
    lines = [_line("time", "all", models, held)]
    for regime in kinds.get(part.kind).regimes:
        for label, rows in regime.groups(part.rows, gpu):
            lines.append(_line("time", label, [values[rows] for values in models], held))
    if sparse:
        lines += _twin_lines(part, models)
    else:
        lines += _pair_lines(part, models)
    head = {"kind": part.kind, "dtype": part.dtype, "provenance": part.provenance}
    return pd.DataFrame([head | line for line in lines])


def _pair_lines(part: Judged, models: list[FloatArray]) -> list[dict[str, object]]:
    """Speedups between shapes that differ in one axis."""
    half = ratio_half_width(part.spread)
    lines = []
    for axis in kinds.get(part.kind).axes:
        large, small = pairs_along(part.kind, part.rows, axis)
        if large.size:
            ratios = [values[large] - values[small] for values in models]
            lines.append(_line("speedup", f"smaller {axis}", ratios, (-half, half)))
    return lines


def pairs_along(kind: str, rows: pd.DataFrame, axis: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places (larger, smaller) of rows of a kind that differ along one axis only, see `least_squares.pairs`.

    A prompt attends to itself: its keys go with its queries.

    >>> rows = pd.DataFrame({"m": [1, 2], "n": [4096, 4096], "k": [4096, 4096]})
    >>> [place.tolist() for place in pairs_along("gemm", rows, "m")]
    [[1], [0]]
    """
    tied = ("q_len", "kv_len") if axis == "q_len" else (axis,)
    return pairs(rows, axis, tuple(c for c in ("backend", *kinds.get(kind).columns) if c in rows and c not in tied))


def _twin_lines(part: Judged, models: list[FloatArray]) -> list[dict[str, object]]:
    """Speedups of 2:4 over dense of the same shape."""
    extra = kinds.get(part.kind).extra
    if extra is None:
        return []
    ratios = [extra(part.rows, values) for values in models]
    # `extra` gives dense / 2:4; the band is recorded for 2:4 / dense.
    return [_line("speedup", "dense to 2:4", ratios, (-part.spread.high, -part.spread.low))] if ratios[0].size else []


def ratio_half_width(spread: Spread) -> float:
    """Half-width at 90 % of ln of the ratio of two shapes of one kernel: what the two do not share.

    >>> round(ratio_half_width(Spread(-0.1, 0.1, 0.5)), 3)
    0.1
    """
    return float(spread.half_width * np.sqrt(2.0 * (1.0 - spread.common)))


def _line(quantity: str, regime: str, models: list[FloatArray], held: tuple[float, float] | None) -> dict[str, object]:
    """One row of the table from ln(measured / predicted) of the model and of the two simpler ones."""
    residual = models[0]
    error = np.abs(np.expm1(-residual))
    inside = np.nan if held is None else float(np.mean((residual >= held[0]) & (residual <= held[1])))
    return {
        "quantity": quantity,
        "regime": regime,
        "n": residual.size,
        "mape": mape(residual),
        "median": float(np.median(error)),
        "bias": float(np.expm1(-residual.mean())),
        "p90": float(np.quantile(error, 0.9)),
        "coverage": inside,
        "roofline_mape": mape(models[1]),
        "three_parameter_mape": mape(models[2]),
    }
