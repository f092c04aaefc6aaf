"""Table of docs/accuracy.md on quantised GEMMs: what was aimed at, and what is reached on shapes not fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from fit_quantised import GEMMS, folder_of, named, quantise, tables

from pruninfersim import gemm_latency
from pruninfersim.calibration import calibrate
from pruninfersim.calibration.record import Calibration
from pruninfersim.hardware import get
from pruninfersim.stacks import vendor

HEAD = """\
## Quantised GEMMs

*Measured timings.* fp8 of cuBLAS from the bf16 set of its card: no fp8 timing is used, so that every row of it is held
out. Its own fits, and those of libraries that do not split k, are judged on weight shapes left out in folds; all fp8
layers with their quantisation. *Before*: fits to fp8 rows with a constant for the quantisation inside of the GEMM (held
out), and no fit where there is none. Bare twins: fp8 GEMMs of SlideSparse from a fit to its 16-bit ones. Ratios: bf16
over fp8 on the same shape, measured and predicted from bf16. The kernels that quantise run one after the other: the aim
is of their sum.
"""
BLACKWELL = ("b200-sxm", "b300-sxm", "gb200", "gb300")
HOPPER = ("h100-sxm", "h200-sxm")
PRO = ("rtx-pro-6000-server",)
#: What -> (cards, kind, dtype, aim [%]).
FITTED: dict[str, tuple[tuple[str, ...], str, str, float | None]] = {
    "fp8 per tensor with its quantisation, own fit: H100 and H200": (HOPPER, "gemm", "fp8", 5.0),
    "fp8 per tensor with its quantisation, own fit: B200-class": (BLACKWELL, "gemm", "fp8", 7.0),
    "fp8 per tensor with its quantisation, own fit: RTX PRO 6000": (PRO, "gemm", "fp8", 8.5),
    "fp8 per tensor with its quantisation, own fit: L40S": (("l40s",), "gemm", "fp8", 9.5),
    "fp8 block, TensorRT-LLM, B200-class": (BLACKWELL, "gemm_trtllm", "fp8_block", 7.0),
    "fp8 block, TensorRT-LLM, Hopper": (HOPPER, "gemm_trtllm", "fp8_block", 11.0),
    "fp8 block, TensorRT-LLM, L40S": (("l40s",), "gemm_trtllm", "fp8_block", 10.5),
    "fp8 block, TensorRT-LLM, RTX PRO 6000": (PRO, "gemm_trtllm", "fp8_block", 19.0),
    "fp8 block, SGLang, B200-class": (BLACKWELL, "gemm_sglang", "fp8_block", 11.5),
    "fp8 block, SGLang, Hopper": (HOPPER, "gemm_sglang", "fp8_block", 14.5),
    "nvfp4, TensorRT-LLM, B200 and GB200": (("b200-sxm", "gb200"), "gemm_trtllm", "nvfp4", 6.0),
    "nvfp4, TensorRT-LLM, B300 and GB300": (("b300-sxm", "gb300"), "gemm_trtllm", "nvfp4", 13.0),
    "nvfp4, TensorRT-LLM, RTX PRO 6000": (PRO, "gemm_trtllm", "nvfp4", 10.5),
    "int4 weight-only, A100": (("a100-sxm-80gb",), "gemm_trtllm", "int4_wo", 13.5),
    "int8 weight-only, A100": (("a100-sxm-80gb",), "gemm_trtllm", "int8_wo", 12.5),
    "quantisation kernels, Hopper and L40S: absmax": ((*HOPPER, "l40s"), "quantise_absmax", "fp8", None),
    "quantisation kernels, Hopper and L40S: cast": ((*HOPPER, "l40s"), "quantise_cast", "fp8", None),
    "quantisation kernels, others: absmax": ((*BLACKWELL, *PRO), "quantise_absmax", "fp8", None),
    "quantisation kernels, others: cast": ((*BLACKWELL, *PRO), "quantise_cast", "fp8", None),
}
#: What -> (cards, aim [%]): absmax and cast, one after the other.
SUMS = {
    "quantisation kernels, Hopper and L40S: absmax + cast": ((*HOPPER, "l40s"), 4.0),
    "quantisation kernels, others: absmax + cast": ((*BLACKWELL, *PRO), 8.0),
}
#: Cards -> aim of fp8 layers from bf16 alone, of their ratio to bf16, and the held-out error of fits before [%].
LAYERS = {
    HOPPER: (5.0, 6.0, "4.5"),
    BLACKWELL: (7.5, 9.0, "5.6 (B200 alone)"),
    PRO: (9.0, 11.0, "7.7"),
    ("l40s",): (10.0, 15.0, "11.4"),
}
#: Card -> aim of bare fp8 twins [%].
TWINS = {"rtx-4090": 7.0, "b200-sxm": 8.0, "gb10": 12.0}
#: What, aim, before, reached [%].
Line = tuple[str, float | None, str, float]
NONE = "–"
TWIN_FILE = "gemm_2of4_slidesparse.csv.gz"


def table(folder: Path, known: dict[tuple[str, str, str], Calibration]) -> str:
    """Return what was aimed at beside what is reached, as a Markdown table."""
    lines = [*_layers(folder, known), *_twins(folder)]
    for what, (gpus, kind, dtype, aim) in FITTED.items():
        reached = [known[kind, dtype, gpu].held_out_error for gpu in gpus]
        lines.append((what, aim, NONE, 100 * float(np.mean(reached))))
    lines += _sums(folder)
    rows = [
        f"| {what} | {NONE if aim is None else f'{aim:g}'} | {before} | {reached:.1f} |"
        for what, aim, before, reached in lines
    ]
    return "\n".join(["| what | aim [%] | before [%] | reached [%] |", "| --- | --- | --- | --- |", *rows]) + "\n"


def _layers(folder: Path, known: dict[tuple[str, str, str], Calibration]) -> list[Line]:
    """Errors of timed fp8 layers and of their ratio to bf16, from the bf16 set of the card."""
    files = [folder / "gemm_aiconfigurator.csv.gz", folder_of(folder) / GEMMS]
    rows = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    rows = named(rows[rows["backend"].str.startswith("trtllm")])
    out = []
    for gpus, (aim, of_ratio, before) in LAYERS.items():
        errors, ratios = [], []
        for gpu in gpus:
            part = rows[rows["gpu"] == gpu]
            narrow = part[part["dtype"] == "fp8"]
            both = narrow.merge(part[part["dtype"] == "bfloat16"], on=["m", "n", "k"], suffixes=("", "_wide"))
            at = {"hardware": gpu, "cache": "replayed"}
            fit = known["gemm", "bf16", gpu]  # given as one's own, it speaks for fp8 too
            fit = replace(fit, kernel=replace(fit.kernel, protocol="trtllm"))
            stack = vendor(get(gpu), [fit], quantise="dynamic", library="trtllm")
            shape = [both[axis].to_numpy() for axis in ("m", "n", "k")]
            fp8 = 1e6 * np.asarray(gemm_latency(*shape, dtype="fp8", stack=stack, **at))
            wide = 1e6 * np.asarray(gemm_latency(*shape, stack=stack, **at))
            errors.append(np.abs(fp8 / both["latency_us"] - 1.0))
            ratios.append(np.abs((wide / fp8) / (both["latency_us_wide"] / both["latency_us"]) - 1.0))
        name = ", ".join(gpus)
        out.append((f"fp8 per tensor with its quantisation, from bf16: {name}", aim, before, _percent(errors)))
        out.append((f"ratio to bf16: {name}", of_ratio, NONE, _percent(ratios)))
    return out


def _twins(folder: Path) -> list[Line]:
    """Errors of bare fp8 GEMMs from a fit to the 16-bit ones of the same card and data set."""
    rows = pd.read_csv(folder / TWIN_FILE)
    rows = named(rows[rows["sparsity"] == "dense"])
    out = []
    for gpu, aim in TWINS.items():
        part = rows[rows["gpu"] == gpu].drop(columns="sparsity")
        wide = part[part["dtype"].isin(["BF16->BF16", "FP16->FP16"])].assign(dtype="bf16").reset_index(drop=True)
        stack = vendor(get(gpu), [calibrate("gemm", wide, gpu)])
        fp8 = part[part["dtype"].str.startswith("FP8")]
        shape = [fp8[axis].to_numpy() for axis in ("m", "n", "k")]
        seconds = np.asarray(gemm_latency(*shape, hardware=gpu, dtype="fp8", cache="replayed", stack=stack))
        error = np.abs(1e6 * seconds / fp8["latency_us"] - 1.0)
        out.append((f"bare fp8 twins, from 16 bit: {gpu}", aim, NONE, _percent([error])))
    return out


def _sums(folder: Path) -> list[Line]:
    """Errors of the two kernels that quantise one after the other, on widths left out in folds."""
    keys, step = ["m", "k"], {}
    for fitted in quantise(tables(folder, "quantise")):
        rows = fitted.residuals
        predicted = rows["latency_us"] / np.exp(rows["held_out_log_residual"])
        step[fitted.hardware, fitted.kind] = rows.assign(predicted=predicted).set_index(keys)[
            ["latency_us", "predicted"]
        ]
    out: list[Line] = []
    for what, (gpus, aim) in SUMS.items():
        errors = []
        for gpu in gpus:
            both = (step[gpu, "quantise_absmax"] + step[gpu, "quantise_cast"]).dropna()
            errors.append(np.abs(both["predicted"] / both["latency_us"] - 1.0))
        out.append((what, aim, NONE, _percent(errors)))
    return out


def _percent(errors: list[pd.Series]) -> float:
    return 100.0 * float(np.mean([np.mean(each) for each in errors]))


if __name__ == "__main__":
    import sys

    import accuracy_kernels

    print(table(Path(sys.argv[1]), accuracy_kernels.shipped()))
