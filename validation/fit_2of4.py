"""Fit the 2:4 kernel model to bcacdwk/vllmbench (SlideSparse, Apache-2.0) and write its calibrations.

Usage: python validation/fit_2of4.py DIRECTORY [--write]

DIRECTORY holds gemm_2of4_slidesparse.csv.gz: cuSPARSELt 2:4 beside its cuBLASLt dense twin, best algorithm of a search,
no CUDA graph, operands left in L2 by the replays. The raw rows are not part of this package; the coefficients are.

Prints the error of the ratio dense / 2:4 on weight shapes (n, k) that were left out, and on GPUs that were left out.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from judging import command_line, lacking, log_residual, ship

from pruninfersim import calibration, hardware
from pruninfersim.calibration import nearest
from pruninfersim.calibration.columns import gpu_name
from pruninfersim.calibration.fit import summary as quantiles
from pruninfersim.calibration.least_squares import mape
from pruninfersim.calibration.record import Band, Calibration
from pruninfersim.kernels.gemm_2of4 import SPARSE_NAMES, SparseGemm24

FILE = "gemm_2of4_slidesparse.csv.gz"
SOURCE = "bcacdwk/vllmbench (SlideSparse), Apache-2.0; speedups above 2.15 left out; bf16 and fp16 pooled as bf16"
#: Compute dtype here -> dtype column (2:4 rows), in the data. 16-bit formats run the same kernels and are pooled.
DTYPES = {"bf16": ("BF16->BF16", "FP16->FP16"), "fp8": ("FP8E4M3->BF16",), "int8": ("INT8->BF16", "INT8->INT32")}
#: Above this the dense side of the pair is broken (its search missed a kernel), or only its weights left L2.
LARGEST_SPEEDUP = 2.15
#: Broken dense baselines as a whole.
BROKEN = {("b200-sxm", "int8")}
#: Ranges of m for the error tables.
RANGES = ((0, 128), (128, 1024), (1024, np.inf))


def load(path: Path, dtype: str) -> pd.DataFrame:
    """Return the usable rows of one precision, both sides, as a timings frame."""
    raw = pd.read_csv(path)
    raw = raw[raw["dtype"].isin(DTYPES[dtype])].copy()
    raw["gpu"] = raw["gpu"].map(gpu_name)
    raw["backend"] = raw["backend"] + " " + raw["dtype"]
    raw["format"] = raw["dtype"].str[:4]
    keys = ["gpu", "format", "m", "n", "k"]
    sides = raw.pivot_table(index=keys, columns="sparsity", values="latency_us", aggfunc="median")
    ratio = (sides["dense"] / sides["2_4"]).dropna()
    good = ratio[ratio <= LARGEST_SPEEDUP].index
    frame = raw[pd.MultiIndex.from_frame(raw[keys]).isin(good)]
    return frame.assign(dtype=dtype)


def ratio_rows(frame: pd.DataFrame, errors: np.ndarray) -> pd.DataFrame:
    """Return one row per shape: ln(2:4 / dense), measured over predicted, from those of both sides."""
    keys = ["m", "n", "k"]
    table = frame.assign(residual=errors)
    sparse = table["sparsity"].isin(SPARSE_NAMES)
    sides = [table[sparse == side].groupby(keys)["residual"].median() for side in (True, False)]
    return (sides[0] - sides[1]).dropna().rename("residual").reset_index()


def report(rows: pd.DataFrame) -> dict[str, float]:
    """Mean absolute error of the predicted ratio dense / 2:4, in all and by range of m, and its log bias [%]."""
    residual = rows["residual"].to_numpy()
    line = {"ratio": 100 * mape(-residual)}
    for low, high in RANGES:
        part = residual[(rows["m"] > low) & (rows["m"] <= high)]
        line[f"m <= {high:g}"] = 100 * mape(-part) if part.size else np.nan
    return line | {"bias": 100 * residual.mean()}


def fit(frame: pd.DataFrame, gpu: str, dtype: str) -> tuple[Calibration, pd.DataFrame]:
    """Calibrate one GPU; the recorded residuals are those of the ratio, which is what a stack uses."""
    rows = frame[frame["gpu"] == gpu]
    dense = nearest.nearest_calibration("gemm", "bf16", hardware.get(gpu))[0].kernel
    fitted = calibration.calibrate(
        "gemm_2of4", rows, gpu, dtype=dtype, start=SparseGemm24().beside(dense), source=SOURCE
    )
    assert fitted.residuals is not None
    held_out = ratio_rows(fitted.residuals, fitted.residuals["held_out_log_residual"].to_numpy())
    sides = fitted.residuals["held_out_log_residual"].to_numpy()
    values = held_out["residual"].to_numpy()
    summary = quantiles(values)
    correlation = float(np.clip(1.0 - values.var() / (2.0 * sides.var()), 0.0, 0.95))
    record = replace(
        fitted,
        residual=summary,
        bands=(Band(float("inf"), summary.low, summary.high),),
        ratio_error={**fitted.ratio_error, "sparsity": mape(-values)},
        pair_correlation={"sparsity": correlation},
    )
    return record, held_out


def carried_over(frame: pd.DataFrame, gpu: str, dtype: str) -> pd.DataFrame:
    """Return the ratio residuals of a GPU priced by the calibrations of the others.

    As in a stack, what carries over are the ratios of 2:4 to dense; the dense GEMM is that of the card.
    """
    rows = frame[frame["gpu"] == gpu].reset_index(drop=True)
    found, extrapolated = nearest.nearest_calibration("gemm_2of4", dtype, hardware.get(gpu), leave_out=[gpu])
    assert extrapolated
    dense = nearest.nearest_calibration("gemm", "bf16", hardware.get(gpu))[0].kernel
    kernel = replace(found.kernel.beside(dense), protocol=found.kernel.protocol)
    return ratio_rows(rows, log_residual("gemm_2of4", kernel, rows, gpu))


def main() -> int:
    """Fit every GPU and precision, write the files if asked, print the tables."""
    arguments = command_line(__doc__).parse_args()
    path = arguments.directory / FILE
    if lacking(path):
        return 0
    pd.set_option("display.width", 200)
    for dtype in DTYPES:
        frame = load(path, dtype)
        gpus = [gpu for gpu in frame["gpu"].unique() if (gpu, dtype) not in BROKEN]
        lines, values, left_out = {}, {}, {}
        for gpu in gpus:
            record, held_out = fit(frame, gpu, dtype)
            sides = {"rows": record.n_rows, "times": 100 * record.held_out_error}
            lines[gpu] = report(held_out) | sides
            values[gpu] = {row.parameter: f"{row.value:.3g}" for row in record.table().itertuples()}
            if arguments.write:
                ship(record)
        print(f"\n{dtype}: error on weight shapes left out [%]\n{pd.DataFrame(lines).T.round(1)}")
        print(f"mean over GPUs {np.mean([line['ratio'] for line in lines.values()]):.1f}")
        print(pd.DataFrame(values).T)
        elsewhere = []
        for gpu in gpus:
            rows = carried_over(frame, gpu, dtype)
            low, high = np.quantile(rows["residual"], [0.05, 0.95])
            left_out[gpu] = report(rows) | {"q05": low, "q95": high}
            elsewhere.append(rows["residual"].to_numpy())
        if arguments.write:
            pooled = np.concatenate(elsewhere)
            nearest.write_carried_over_error(f"gemm_2of4-{dtype}", quantiles(pooled), mape(-pooled))
        print(f"\n{dtype}: error on GPUs left out [%] (from the shipped files)\n{pd.DataFrame(left_out).T.round(2)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
