"""Fit the kernels of quantised models to the public tables of ai-dynamo/aiconfigurator and write their calibrations.

Usage: python validation/fit_quantised.py DIRECTORY [--write] [--what bf16 library quantise fp8 experts]

Reads gemm_quant_aiconfigurator.csv.gz and quantise_aiconfigurator.csv.gz in DIRECTORY, or in a folder "quant" in it or
beside it, and for "fp8" and "experts" gemm_aiconfigurator.csv.gz in DIRECTORY and moe_aiconfigurator.csv.gz in a folder
"moe" beside it; they hold rows of the PyPI package aiconfigurator-core 0.12.0. "bf16": dense GEMMs of B300, GB200 and
GB300. "library": GEMMs of TensorRT-LLM and SGLang that do not split k; the rows contain the kernel that quantises.
"quantise": kernels that quantise, timed alone. "fp8": GEMMs of cuBLAS, timed with both kernels that quantise before
them; it begins with the bf16 set of its card, which speaks for fp8 where there are no such rows. "experts": mixtures of
experts in blocks of fp8.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from judging import ship

from pruninfersim import calibration, hardware
from pruninfersim._util.arrays import FloatArray
from pruninfersim.calibration import kinds, nearest
from pruninfersim.calibration.aiconfigurator import SOURCE
from pruninfersim.calibration.columns import gpu_name
from pruninfersim.calibration.record import Calibration
from pruninfersim.hardware import HardwareProfile
from pruninfersim.kernels import gemm
from pruninfersim.kernels.base import Cache, parameters
from pruninfersim.kernels.library_gemm import LibraryGemm
from pruninfersim.kernels.quantise import BEHIND, STEPS

GEMMS = "gemm_quant_aiconfigurator.csv.gz"
KERNELS = "quantise_aiconfigurator.csv.gz"
DENSE = "gemm_aiconfigurator.csv.gz"
EXPERTS = "moe_aiconfigurator.csv.gz"
#: Kind -> (backend, op) of its rows: the one kernel of vLLM finds the largest value of a row and casts it.
ROWS_OF = {
    "quantise_absmax": ("trtllm", "absmax"),
    "quantise_cast": ("trtllm", "cast"),
    "quantise_token": ("vllm", "cast"),
}
#: Card of the same generation from which the fits of bf16 begin.
START = "b200-sxm"
#: Rows that are not of a kernel priced here: the SmoothQuant plug-in of A100.
LEFT_OUT = ("sq",)
#: Slow-down by the power limit belongs to the card: that of its bf16 set. Splits are not there.
HELD = ("split_cost", "split_bandwidth", "vector_latency", "power_droop")


def folder_of(directory: Path) -> Path:
    """Return the folder that holds the tables."""
    known = [
        folder for folder in (directory, directory / "quant", directory.parent / "quant") if (folder / GEMMS).exists()
    ]
    return known[0] if known else directory


def bf16(rows: pd.DataFrame) -> Iterator[Calibration]:
    """Yield the dense GEMM fits of cards without another table."""
    start, _ = nearest.nearest_calibration("gemm", "bf16", hardware.get(START))
    for gpu, part in rows[rows["dtype"] == "bfloat16"].groupby("gpu"):
        yield calibration.calibrate("gemm", part.reset_index(drop=True), str(gpu), source=SOURCE, start=start)


def library(rows: pd.DataFrame) -> Iterator[Calibration]:
    """Yield the fits of GEMMs of libraries that do not split k."""
    cublas = (rows["dtype"] == "fp8") & rows["backend"].str.startswith("trtllm")
    rows = rows[~cublas & ~rows["dtype"].isin(["bfloat16", *LEFT_OUT])]
    for (gpu, backend, dtype), part in rows.groupby(["gpu", "backend", "dtype"]):
        wide, _ = nearest.nearest_calibration("gemm", "bf16", hardware.get(gpu))
        start = replace(LibraryGemm(), power_droop=wide.kernel.power_droop)
        held = (*HELD, "quantise_bandwidth") if dtype.endswith("_wo") else HELD
        free = [name for name in parameters(LibraryGemm) if name not in held]
        kind = f"gemm_{backend.split()[0]}"
        rows_of = part.reset_index(drop=True)
        yield calibration.calibrate(kind, rows_of, gpu, source=SOURCE, start=start, parameters=free)


def quantise(rows: pd.DataFrame) -> Iterator[Calibration]:
    """Yield the fits of kernels that quantise; a few rows are 0."""
    rows = rows[rows["latency_us"] > 0].assign(dtype="fp8")
    for gpu, part in rows.groupby("gpu"):
        for kind, (backend, op) in ROWS_OF.items():
            chosen = part[(part["op"] == op) & part["backend"].str.startswith(backend)].reset_index(drop=True)
            yield calibration.calibrate(kind, chosen, str(gpu), source=SOURCE)


def layer_seconds(kernel: gemm.Gemm, frame: pd.DataFrame, card: HardwareProfile, cache: Cache) -> FloatArray:
    """Price GEMMs behind the two kernels that quantise their activations [s]."""
    rows = frame.assign(op="")
    before = sum(
        kinds.get(step).seconds(nearest.nearest_calibration(step, "fp8", card)[0].kernel, rows, card, cache)
        for step in STEPS["dynamic"]
    )
    return np.asarray(gemm.rows_by_backend(kernel, frame, card, cache) + before + BEHIND)


def fp8(rows: pd.DataFrame) -> Iterator[Calibration]:
    """Yield the fits of fp8 GEMMs of cuBLAS, whose errors are those of the layers as they were timed.

    What a split of k costs is a sum of fp32 in either format, and the power limit and the DRAM are the card's: all as
    in 16 bit.
    """
    kinds.KERNELS["gemm_layer"] = replace(gemm.KIND, predict=layer_seconds, seconds_of=layer_seconds, one_set=False)
    chosen = rows[(rows["dtype"] == "fp8") & rows["backend"].str.startswith("trtllm")]
    for gpu, part in chosen.groupby("gpu"):
        start, _ = nearest.nearest_calibration("gemm", "bf16", hardware.get(str(gpu)))
        rows_of = part.reset_index(drop=True)
        free = [name for name in parameters(gemm.Gemm) if name not in (*HELD, "memory_efficiency")]
        fitted = calibration.calibrate("gemm_layer", rows_of, str(gpu), source=SOURCE, start=start, parameters=free)
        yield replace(fitted, kind="gemm")


def experts(rows: pd.DataFrame) -> Iterator[Calibration]:
    """Yield the fits of mixtures of experts in blocks of fp8, of the CUTLASS kernels of TensorRT-LLM."""
    chosen = rows[(rows["dtype"] == "fp8_block") & rows["backend"].str.startswith("trtllm")]
    for gpu, part in chosen.groupby("gpu"):
        start, _ = nearest.nearest_calibration("moe", "fp8", hardware.get(str(gpu)))
        yield calibration.calibrate("moe", part.reset_index(drop=True), str(gpu), source=SOURCE, start=start)


def tables(directory: Path, what: str) -> pd.DataFrame:
    """Return the rows that one group of fits is of."""
    folder = folder_of(directory)
    files = {
        "quantise": [folder / KERNELS],
        "fp8": [directory / DENSE, folder / GEMMS],
        "experts": [directory.parent / "moe" / EXPERTS],
    }
    rows = pd.concat([pd.read_csv(file) for file in files.get(what, [folder / GEMMS])], ignore_index=True)
    return named(rows)


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the names that profiles have; each is looked up once."""
    return rows.assign(gpu=rows["gpu"].map({name: gpu_name(name) for name in rows["gpu"].unique()}))


#: What is fitted -> its fits.
FITS = {"bf16": bf16, "library": library, "quantise": quantise, "fp8": fp8, "experts": experts}


def main() -> int:
    """Fit, print, and on request write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--write", action="store_true", help="write the calibrations into hardware_profiles/")
    parser.add_argument("--what", nargs="+", default=list(FITS), choices=list(FITS))
    given = parser.parse_args()
    folder = folder_of(given.directory)
    if not (folder / GEMMS).exists():
        print(f"skipped: {folder / GEMMS} is not there")
        return 0
    for what in given.what:
        for fitted in FITS[what](tables(given.directory, what)):
            print(fitted, flush=True)
            if given.write:
                ship(fitted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
