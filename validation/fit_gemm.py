"""Fit the dense GEMM model to the public tables of ai-dynamo/aiconfigurator and write its calibrations.

Usage: python validation/fit_gemm.py [DIRECTORY] [--write] [--gpu NAME ...]

Reads DIRECTORY/gemm_aiconfigurator.csv.gz, or, without DIRECTORY, the PyPI package aiconfigurator-core 0.12.0
(``pip install 'pruninfersim[aiconfigurator]'``); both hold the same rows. Prints the error on shapes that were
fitted, on weight shapes (n, k) left out in folds, on values of n and k left out altogether, and on GPUs left out.
With DIRECTORY/gemm_llmservingsim.csv.gz it also checks cold times and fits the RTX 4090 (--gpu alone: only that).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from judging import log_residual, report_left_out, ship

from pruninfersim import calibration, hardware
from pruninfersim.calibration import nearest, timings
from pruninfersim.calibration.aiconfigurator import SOURCE, SYSTEMS
from pruninfersim.calibration.least_squares import SCALE, mape, pairs
from pruninfersim.calibration.record import Calibration
from pruninfersim.errors import MissingValueError
from pruninfersim.kernels.gemm import Gemm

FILE = "gemm_aiconfigurator.csv.gz"
KIND = "gemm"
#: Timings of another harness: eager vLLM, all weights of a model in turn; not part of this package.
COLD_FILE = "gemm_llmservingsim.csv.gz"
COLD_SOURCE = "casys-kaist/LLMServingSim, MIT; vLLM 0.19.0 eager, kernel times"
COLD_GPU = "rtx-4090"
#: Where its fit begins and what holds the parameters that five weight shapes cannot tell: the same family of kernels on
#: the card that is most like it in memory and in being below its power limit.
COLD_START = "rtx-pro-6000-server"
#: Where fits of `l2_feed` begin [B per clock and SM]: the loss has minima on both sides of what an SM takes in by
#: itself (64 B), since TMA hands one read to several SMs; the start that ends lowest on the fitted rows counts.
FEEDS = (15.0, 64.0, 128.0)
#: Values of n and k that are left out together in the strictest test within a GPU.
LEFT_OUT = (2560, 3584, 7168, 10240)


def load(directory: Path | None, gpu: str) -> pd.DataFrame:
    """Return the rows of one GPU."""
    if directory is None:
        return timings.aiconfigurator(gpu)
    rows = timings.read_timings(directory / FILE, kind=KIND)
    return rows[rows["gpu"] == gpu].sort_values(["dtype", "m", "n", "k", "backend"], ignore_index=True)


def best_start(rows: pd.DataFrame, gpu: str, dtype: str) -> Gemm:
    """Return the kernel with the least loss among fits that begin at different `FEEDS`."""
    fits = [calibration.fit_kernel(KIND, rows, gpu, dtype=dtype, start=Gemm(l2_feed=feed)) for feed in FEEDS]
    return min(fits, key=lambda kernel: float(np.log1p((log_residual(KIND, kernel, rows, gpu) / SCALE) ** 2).sum()))


def ratio_errors(rows: pd.DataFrame, values: np.ndarray) -> dict[str, float]:
    """Mean absolute error [%] of ratios of pairs that differ by at most a factor of two in one axis."""
    out = {}
    for axis in ("m", "n", "k"):
        large, small = pairs(rows, axis, tuple(c for c in ("backend", "m", "n", "k") if c != axis))
        near = rows[axis].to_numpy()[large] <= 2.0 * rows[axis].to_numpy()[small]
        out[f"ratio {axis}"] = 100 * mape((values[large] - values[small])[near])
    return out


def strict(rows: pd.DataFrame, gpu: str, dtype: str, full: Calibration) -> dict[str, float]:
    """Fit without some values of n and k; return the errors on the shapes that have one of them.

    Coverage is that of the full calibration's band, which comes from its folds.
    """
    test = (rows["n"].isin(LEFT_OUT) | rows["k"].isin(LEFT_OUT)).to_numpy()
    kernel = best_start(rows[~test].reset_index(drop=True), gpu, dtype)
    unseen = rows[test].reset_index(drop=True)
    values = log_residual(KIND, kernel, unseen, gpu)
    low, high = full.band(unseen["latency_us"].to_numpy() * 1e-6 / np.exp(values))
    inside = (values >= full.residual.low) & (values <= full.residual.high)
    return {
        "other n, k": 100 * mape(values),
        **ratio_errors(unseen, values),
        "inside 90 %": 100 * inside.mean(),
        "inside 90 %, by band": 100 * ((values >= low) & (values <= high)).mean(),
    }


#: GPU -> its rows and how they were taken.
Timed = dict[str, tuple[pd.DataFrame, str]]


def left_out_gpus(timed: Timed, dtype: str) -> dict[str, np.ndarray]:
    """Return ln(measured / predicted) of each GPU by the shipped calibrations of the others."""
    errors = {}
    for gpu, (rows, cache) in timed.items():
        found, _ = nearest.nearest_calibration(KIND, dtype, hardware.get(gpu), leave_out=[gpu])
        errors[gpu] = log_residual(KIND, found.kernel, rows, gpu, cache)
    return errors


def cold(directory: Path, write: bool) -> Timed:
    """Check cold times against another harness, and fit the RTX 4090, of which only that harness has timings."""
    rows = timings.read_timings(directory / COLD_FILE, kind=KIND)
    rows["backend"] = "vllm 0.19.0 eager"
    print("\neager vLLM, cold weights, m from 1 to 2048, odd ones too: mean absolute error [%]")
    for gpu, part in rows.groupby("gpu"):
        found, extrapolated = nearest.nearest_calibration(KIND, "bf16", hardware.get(str(gpu)), leave_out=[COLD_GPU])
        values = log_residual(KIND, found.kernel, part, str(gpu), "cold")
        odd = (part["m"] % 2 == 1).to_numpy()
        what = "carried over from " if extrapolated else "fitted to replayed timings of "
        print(f"  {gpu}: {100 * mape(values):.1f}, odd m {100 * mape(values[odd]):.1f}; {what}{found.hardware}")
    start, _ = nearest.nearest_calibration(KIND, "bf16", hardware.get(COLD_START))
    part = rows[rows["gpu"] == COLD_GPU].reset_index(drop=True)
    fitted = calibration.calibrate(KIND, part, COLD_GPU, start=start, cache="cold", source=COLD_SOURCE)
    print(fitted)
    print("   ", ", ".join(f"{name} {value:.4g}" for name, value in vars(fitted.kernel).items()))
    if write:
        ship(fitted)
    return {COLD_GPU: (part, "cold")}


def run(directory: Path | None, gpus: list[str], dtype: str, write: bool) -> Timed:
    """Fit one precision on the GPUs, print the table of errors and return the rows."""
    timed: Timed = {}
    table: dict[str, dict[str, float]] = {}
    for gpu in gpus:
        rows = load(directory, gpu)
        rows = rows[rows["dtype"] == dtype].reset_index(drop=True)
        if rows.empty:
            continue
        timed[gpu] = (rows, "replayed")
        start = best_start(rows, gpu, dtype)
        fitted = calibration.calibrate(KIND, rows, gpu, dtype=dtype, start=start, source=SOURCE)
        table[gpu] = {"fitted": 100 * fitted.fitted_error, "folds": 100 * fitted.held_out_error}
        table[gpu] |= strict(rows, gpu, dtype, fitted)
        if write:
            ship(fitted)
        print(fitted, flush=True)
        print("   ", ", ".join(f"{name} {value:.4g}" for name, value in vars(fitted.kernel).items()), flush=True)
    print(f"\n{dtype}: mean absolute error [%]")
    print(pd.DataFrame(table).T.round(2).to_string())
    return timed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--write", action="store_true", help="write the calibrations into hardware_profiles/")
    parser.add_argument("--gpu", nargs="*", default=list(SYSTEMS))
    parser.add_argument("--dtype", nargs="+", default=["bf16"])
    given = parser.parse_args()
    if given.directory is not None and not (given.directory / FILE).exists():
        print(f"skipped: {given.directory / FILE} is not there; leave DIRECTORY out to use aiconfigurator-core")
        return 0
    try:
        timed = {dtype: run(given.directory, given.gpu, dtype, given.write) for dtype in given.dtype if given.gpu}
        if given.directory is not None and (given.directory / COLD_FILE).exists():
            timed.setdefault("bf16", {}).update(cold(given.directory, given.write))
        for dtype, rows in timed.items():
            if given.write and set(given.gpu) == set(SYSTEMS):  # the calibrations read here are those just written
                print(f"\n{dtype}: GPUs left out")
                report_left_out(KIND, dtype, left_out_gpus(rows, dtype), given.write)
    except MissingValueError as error:
        print(f"skipped: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
