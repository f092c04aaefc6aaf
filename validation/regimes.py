"""How often the 90 % bands of the shipped calibrations hold outside the shapes that these were fitted to.

Usage: python validation/regimes.py [FOLDER] [--pooled] [--only gemm lm_head attention head_size gemm_2of4 elementwise]

FOLDER is the one above 'timings' and 'moe'; default: what the environment variable PRUNINFERSIM_VALIDATION_DATA names.
Without it only the GEMMs of the PyPI package aiconfigurator-core are judged, which every regime of 'gemm' comes from.

Prints a table as CSV: 5, 50 and 95 % quantiles of ln(measured / predicted), the band of the calibration, the share of
rows inside it, and the factor on both sides of the band with which 90 % of the rows are inside. With --pooled: one line
per regime over all GPUs. Where nothing is measured beyond the fitted shapes (attention, 2:4, elementwise ops), the
kernel is fitted again without a regime, and judged on that regime by the band of the shipped calibration; for
elementwise ops also fitted to one width only, and judged on the others by the band of that fit.

GEMMs of aiconfigurator are priced replayed and with the replay protocol not known, as their bands were (--protocol:
with the protocol of each row); those of LLMServingSim cold.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fit_2of4
import fit_attention
import fit_elementwise
import fit_gemm
import numpy as np
import pandas as pd
from judging import log_residual, shipped

from pruninfersim import calibration
from pruninfersim.calibration import timings
from pruninfersim.calibration.aiconfigurator import GRID_M, GRID_NK, SYSTEMS
from pruninfersim.calibration.least_squares import mape
from pruninfersim.calibration.record import Calibration

VARIABLE = "PRUNINFERSIM_VALIDATION_DATA"
#: Attention with other head sizes, and the names of its GPUs that have a calibration.
HEAD_SIZES = "attention_more_aiconfigurator.csv.gz"
HEAD_SIZE_GPUS = {"H100-SXM5": "h100-sxm", "L40S": "l40s", "RTXPRO6000": "rtx-pro-6000-server"}
ELEMENTWISE_GPUS = ("rtx-4090", "rtx-pro-6000-server")
#: Smallest and largest n and k, largest m, and smallest and largest n * k of the fitted GEMMs.
LEAST, MOST, TOKENS = GRID_NK[0], GRID_NK[-1], GRID_M[-1]
FEWEST, LARGEST = LEAST**2, MOST**2
#: Outputs from which a GEMM of the data is a LM head.
VOCABULARY = 100_000

#: Frame -> which rows belong to a regime, shape (row,).
Where = Callable[[pd.DataFrame], Any]


def between(values: Any, low: float, high: float) -> Any:
    """Whether low <= values <= high."""
    return (values >= low) & (values <= high)


def usual(f: pd.DataFrame, *axes: str) -> Any:
    """Whether the axes of a GEMM are as large as in the fitted shapes; m always has to be."""
    inside = f["m"] <= TOKENS
    for axis in axes:
        inside &= between(f[axis], LEAST, MOST)
    return inside


def thin(f: pd.DataFrame, axis: str) -> Any:
    """Whether an axis of a GEMM is shorter than in the fitted shapes."""
    return f[axis] < LEAST


def weights(f: pd.DataFrame) -> Any:
    """Weight elements n * k of GEMMs."""
    return f["n"] * f["k"]


def shorter(f: pd.DataFrame) -> Any:
    """Return the shorter of n and k."""
    return np.minimum(f["n"], f["k"])


#: Regimes of dense GEMMs; those of one paragraph overlap with those of others.
GEMM: dict[str, Where] = {
    "fitted": lambda f: f["m"].isin(GRID_M) & f["n"].isin(GRID_NK) & f["k"].isin(GRID_NK),
    "other n, k inside": lambda f: usual(f, "n", "k") & ~(f["n"].isin(GRID_NK) & f["k"].isin(GRID_NK)),
    "odd m inside": lambda f: usual(f, "n", "k") & (f["m"] % 2 == 1) & (f["m"] > 1),
    "m 16384": lambda f: (f["m"] == 2 * TOKENS) & between(f["n"], LEAST, MOST) & between(f["k"], LEAST, MOST),
    "m 32768": lambda f: (f["m"] == 4 * TOKENS) & between(f["n"], LEAST, MOST) & between(f["k"], LEAST, MOST),
    "wide, n 51200 or 65536": lambda f: usual(f, "k") & (f["n"] > MOST),
    "wide, n k inside": lambda f: usual(f, "k") & (f["n"] > MOST) & (weights(f) <= LARGEST),
    "deep, k 51200 or 65536": lambda f: usual(f, "n") & (f["k"] > MOST),
    "deep, n k inside": lambda f: usual(f, "n") & (f["k"] > MOST) & (weights(f) <= LARGEST),
    "n k beyond 2.7e8": lambda f: usual(f) & (weights(f) > LARGEST),
    "n k 2.7e8 to 5.4e8": lambda f: usual(f) & (weights(f) > LARGEST) & (weights(f) <= 2 * LARGEST),
    "n k 5.4e8 to 1.1e9": lambda f: usual(f) & (weights(f) > 2 * LARGEST) & (weights(f) <= 4 * LARGEST),
    "n k beyond 1.1e9": lambda f: usual(f) & (weights(f) > 4 * LARGEST),
    "m and n k beyond": lambda f: (f["m"] > TOKENS) & (weights(f) > LARGEST),
    "thin n": lambda f: usual(f, "k") & thin(f, "n"),
    "thin k": lambda f: usual(f, "n") & thin(f, "k"),
    "thin n and k": lambda f: usual(f) & thin(f, "n") & thin(f, "k"),
    "thin n or k, n k inside": lambda f: usual(f) & (shorter(f) < LEAST) & between(weights(f), FEWEST, LARGEST),
    "n k 6.5e4 to 2.6e5": lambda f: usual(f) & between(weights(f), FEWEST / 4, FEWEST - 1),
    "n k 1.6e4 to 6.5e4": lambda f: usual(f) & between(weights(f), FEWEST / 16, FEWEST / 4 - 1),
    "n k below 1.6e4": lambda f: usual(f) & (weights(f) < FEWEST / 16),
    "shorter of n, k 256": lambda f: usual(f) & (shorter(f) == 256),
    "shorter of n, k 128": lambda f: usual(f) & (shorter(f) == 128),
    "shorter of n, k 64": lambda f: usual(f) & (shorter(f) == 64),
    "shorter of n, k 32": lambda f: usual(f) & (shorter(f) == 32),
    "thin and m beyond": lambda f: (f["m"] > TOKENS) & (shorter(f) < LEAST),
}

#: Regimes of attention that are left out of a fit: which rows it may see, and which are judged.
ATTENTION: dict[str, tuple[Where, Where]] = {
    "keys > 4096": (lambda f: f["kv_len"] <= 4096, lambda f: f["kv_len"] > 4096),
    "keys > 4096, fitted to 1024": (lambda f: f["kv_len"] <= 1024, lambda f: f["kv_len"] > 4096),
    "keys < 256": (lambda f: f["kv_len"] >= 256, lambda f: f["kv_len"] < 256),
}

#: Regimes of 2:4 that are left out of a fit. Weights of 2e8 elements and more, and of less than 2e6, are few squares.
SPARSE: dict[str, Where] = {
    "m <= 256": lambda f: f["m"] <= 256,
    "m <= 128": lambda f: f["m"] <= 128,
    "m >= 8192": lambda f: f["m"] >= 8192,
    "n k < 4e6": lambda f: weights(f) < 4e6,
    "n k < 1e7": lambda f: weights(f) < 1e7,
    "n k > 6e7": lambda f: weights(f) > 6e7,
    "n k > 1.5e8": lambda f: weights(f) > 1.5e8,
}


def moved(f: pd.DataFrame) -> Any:
    """Elements of the rows of an elementwise op, which the bytes that it moves are proportional to."""
    return f["m"] * f["k"]


#: Regimes of elementwise ops that are left out of a fit.
ELEMENTWISE: dict[str, Where] = {
    "m >= 1024": lambda f: f["m"] >= 1024,
    "m >= 512": lambda f: f["m"] >= 512,
    "m >= 128": lambda f: f["m"] >= 128,
    "largest width": lambda f: f["k"] == f["k"].max(),
    "smallest width": lambda f: f["k"] == f["k"].min(),
    "bytes > 1/2 of the most": lambda f: moved(f) > moved(f).max() / 2,
    "bytes > 1/4 of the most": lambda f: moved(f) > moved(f).max() / 4,
    "bytes > 1/8 of the most": lambda f: moved(f) > moved(f).max() / 8,
    "bytes < 8 times the least": lambda f: moved(f) < 8 * moved(f).min(),
}


def needed_factor(values: np.ndarray, low: float, high: float) -> float:
    """Return the factor on both sides of a band with which 90 % of the values are inside it."""
    return float(np.quantile(np.where(values > 0, values / high, values / low), 0.9))


def line(record: Calibration, regime: str, values: np.ndarray) -> dict[str, Any]:
    """One row of the table from ln(measured / predicted)."""
    low, high = record.spread.low, record.spread.high
    quantiles = np.quantile(values, [0.05, 0.5, 0.95])
    return {
        "kind": record.kind,
        "dtype": record.dtype,
        "gpu": record.hardware,
        "regime": regime,
        "rows": values.size,
        **dict(zip(("low", "median", "high"), quantiles, strict=True)),
        "band_low": low,
        "band_high": high,
        "coverage": float(np.mean((values >= low) & (values <= high))),
        "factor": needed_factor(values, low, high),
    }


def gemms(protocol: bool) -> Iterator[dict[str, Any]]:
    """Judge shipped dense GEMMs on every shape of aiconfigurator."""
    for gpu in SYSTEMS:
        every = timings.aiconfigurator(gpu, grid=False)
        for dtype, rows in every.groupby("dtype"):
            record = shipped("gemm", str(dtype), gpu)
            if record is None:
                continue
            rows = rows.reset_index(drop=True)
            values = log_residual("gemm", record.kernel, rows, gpu, protocol=protocol)
            for regime, where in GEMM.items():
                test = np.asarray(where(rows))
                if test.any():
                    yield line(record, regime, values[test])


def lm_heads(folder: Path) -> Iterator[dict[str, Any]]:
    """Judge dense GEMMs on LM heads of another harness; where these were fitted, also without them."""
    rows = timings.read_timings(folder / fit_gemm.COLD_FILE, kind="gemm").assign(backend="vllm 0.19.0 eager")
    for gpu, part in rows.groupby("gpu"):
        record = shipped("gemm", "bf16", str(gpu))
        assert record is not None
        part = part.reset_index(drop=True)
        head = (part["n"] >= VOCABULARY).to_numpy()
        values = log_residual("gemm", record.kernel, part, str(gpu), "cold")
        half = between(part["n"], MOST * 3, VOCABULARY).to_numpy()
        small = between(part["n"], LEAST, MOST) & between(part["k"], LEAST, MOST)
        yield line(record, "eager vLLM, n and k inside", values[small.to_numpy()])
        yield line(record, "eager vLLM, LM head", values[head])
        if half.any():
            yield line(record, "eager vLLM, n 51200 to 76000", values[half])
        if gpu == fit_gemm.COLD_GPU:
            start = shipped("gemm", "bf16", fit_gemm.COLD_START)
            kernel = calibration.fit_kernel("gemm", part[~head], str(gpu), start=start, cache="cold")
            unseen = log_residual("gemm", kernel, part[head].reset_index(drop=True), str(gpu), "cold")
            yield line(record, "eager vLLM, LM head, left out", unseen)


def attention(folder: Path) -> Iterator[dict[str, Any]]:
    """Judge attention on numbers of keys that were left out of a fit."""
    for kind in fit_attention.FILES:
        for gpu, rows in fit_attention.load(folder, kind).groupby("gpu"):
            record = shipped(kind, "bf16", str(gpu))
            if record is None:
                continue
            for regime, (seen, judged) in ATTENTION.items():
                known, start = rows[seen(rows)].reset_index(drop=True), fit_attention.start(kind, str(gpu))
                kernel = calibration.fit_kernel(kind, known, str(gpu), start=start)
                unseen = rows[judged(rows)].reset_index(drop=True)
                yield line(record, f"{regime}, left out", log_residual(kind, kernel, unseen, str(gpu)))


def head_sizes(file: Path) -> Iterator[dict[str, Any]]:
    """Judge shipped attention, fitted to heads of 128, on other head sizes: bf16, no windows, FlashAttention."""
    raw = pd.read_csv(file)
    raw = raw[(raw["window"] == 0) & (raw["kv_dtype"] == "bf16") & raw["gpu"].isin(HEAD_SIZE_GPUS)]
    raw = raw[raw["kernel"].str.contains("flash_attn")].rename(columns={"kv_dtype": "dtype"})
    raw["gpu"] = raw["gpu"].replace(HEAD_SIZE_GPUS)
    for (phase, gpu, size), rows in raw.groupby(["phase", "gpu", "head_dim"]):
        record = shipped(f"attention_{phase}", "bf16", str(gpu))
        assert record is not None
        rows = timings.parse(rows.reset_index(drop=True), kind=record.kind)
        values = log_residual(record.kind, record.kernel, rows, str(gpu))
        batch, heads = rows["batch"] <= 128, (rows["heads"] >= 8) & (rows["kv_heads"] >= 4)  # as in the fitted rows
        for regime, test in {
            "": batch & heads,
            ", 256 keys and more": batch & heads & (rows["kv_len"] >= 256),
            ", fewer keys": batch & heads & (rows["kv_len"] < 256),
            ", batch above 128": ~batch & heads,
            ", fewer heads": batch & ~heads,
        }.items():
            if test.any():
                yield line(record, f"head size {size}{regime}", values[test.to_numpy()])


def sparse(file: Path) -> Iterator[dict[str, Any]]:
    """Judge the ratio of 2:4 to dense on regimes that were left out of a fit."""
    for dtype in fit_2of4.DTYPES:
        for gpu, rows in fit_2of4.load(file, dtype).groupby("gpu"):
            record = shipped("gemm_2of4", dtype, str(gpu))
            if record is None or (gpu, dtype) in fit_2of4.BROKEN:
                continue
            for regime, where in SPARSE.items():
                test = np.asarray(where(rows))
                kernel = calibration.fit_kernel("gemm_2of4", rows[~test], str(gpu), dtype=dtype)
                unseen = rows[test].reset_index(drop=True)
                values = log_residual("gemm_2of4", kernel, unseen, str(gpu))
                ratios = fit_2of4.ratio_rows(unseen, values)["residual"].to_numpy()
                if ratios.size:
                    yield line(record, f"{regime}, left out", ratios)


def elementwise(file: Path) -> Iterator[dict[str, Any]]:
    """Judge elementwise ops on regimes that were left out of a fit."""
    frame = fit_elementwise.load(file)
    for kind, op in fit_elementwise.OPS.items():
        for gpu in ELEMENTWISE_GPUS:
            rows = frame[(frame["gpu"] == gpu) & (frame["op"] == op)].reset_index(drop=True)
            record = shipped(kind, "bf16", gpu)
            if record is None or rows.empty:
                continue
            for regime, where in ELEMENTWISE.items():
                test = np.asarray(where(rows))
                if test.all():
                    continue
                seen = rows[~test].reset_index(drop=True)
                fits = [calibration.fit_kernel(kind, seen, gpu, start=start) for start in fit_elementwise.STARTS]
                errors = [mape(log_residual(kind, kernel, seen, gpu)) for kernel in fits]
                kernel = fits[int(np.argmin(errors))]
                yield line(record, f"{regime}, left out", log_residual(kind, kernel, rows[test], gpu))
            for width in rows["k"].unique() if rows["k"].nunique() > 1 else []:
                one = fit_elementwise.best_fit(kind, rows[rows["k"] == width], gpu)
                unseen = rows[rows["k"] != width]
                yield line(one, "all widths but one", log_residual(kind, one.kernel, unseen, gpu))


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """One line per regime: rows of all GPUs, coverage and needed factor over GPUs."""
    table = table.assign(kind=table["kind"].str.replace(r"elementwise_.*(norm)$", r"elementwise_*\1", regex=True))
    return (
        table.groupby(["kind", "dtype", "regime"], sort=False)
        .agg(
            gpus=("gpu", "nunique"),
            rows=("rows", "sum"),
            bias=("median", "median"),
            coverage_least=("coverage", "min"),
            coverage_median=("coverage", "median"),
            factor_median=("factor", "median"),
            factor_most=("factor", "max"),
        )
        .reset_index()
    )


def main() -> None:
    """Read the command line, judge every regime and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get(VARIABLE))
    parser.add_argument("--pooled", action="store_true", help="one line per regime over all GPUs")
    parser.add_argument("--protocol", action="store_true", help="price GEMMs with the replay protocol of their row")
    parts = {
        "gemm": lambda folder, given: gemms(given.protocol),
        "lm_head": lambda folder, given: lm_heads(folder / "timings"),
        "attention": lambda folder, given: attention(folder / "timings"),
        "head_size": lambda folder, given: head_sizes(folder / "moe" / HEAD_SIZES),
        "gemm_2of4": lambda folder, given: sparse(folder / "timings" / fit_2of4.FILE),
        "elementwise": lambda folder, given: elementwise(folder / "timings" / fit_elementwise.FILE),
    }
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    given = parser.parse_args()
    lines: list[dict[str, Any]] = []
    for name in given.only:
        if name != "gemm" and given.folder is None:
            print(f"skipped {name}: give FOLDER or set {VARIABLE}", file=sys.stderr)
            continue
        lines += parts[name](Path(given.folder or "."), given)
        print(f"{name} done", file=sys.stderr, flush=True)
    table = pd.DataFrame(lines)
    print((pooled(table) if given.pooled else table).round(3).to_csv(index=False), end="")


if __name__ == "__main__":
    main()
