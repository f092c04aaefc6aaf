"""Fit attention beyond one head size: heads of 64 to 256, windows, caches of 8 bit; write the calibrations.

Usage: python validation/fit_attention_more.py DIRECTORY [--write] [--gpu NAME] [--kind KIND]

DIRECTORY holds attention_more_aiconfigurator.csv.gz and the two files of `fit_attention`, which have the rows of 128
wide heads of some GPUs. A seeded sample of each head size and window is fitted, the rest is not: errors are given of
shapes left out in folds, and of the rows outside of the sample.

GPUs that `fit_attention` has fitted keep what 128-wide heads have told, errors and domain included, so that here only
the rates of other head sizes are free; all others are fitted as a whole.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fit_attention import FILES
from judging import command_line, lacking, log_residual, ship

from pruninfersim import calibration, hardware
from pruninfersim.calibration import columns, kinds, nearest, timings
from pruninfersim.calibration.least_squares import mape
from pruninfersim.calibration.record import Calibration

MORE = "attention_more_aiconfigurator.csv.gz"
SOURCE = "ai-dynamo/aiconfigurator (Apache-2.0), PyPI aiconfigurator-core 0.12.0, vLLM 0.24.0"
#: Kind -> phase and cache.
KINDS = {
    "attention_prefill": ("prefill", "bf16"),
    "attention_decode": ("decode", "bf16"),
    "attention_prefill_kv8": ("prefill", "fp8"),
    "attention_decode_kv8": ("decode", "fp8"),
}
#: Fitted rows of a head size and window.
SAMPLE = 300
#: What other head sizes tell of a kernel whose 128-wide heads are known.
HEADS = {"prefill": ("narrow_heads", "wide_heads"), "decode": ("narrow_block", "wide_block")}
#: GPUs that `fit_attention` has fitted.
KNOWN = ("h100-sxm", "l40s", "rtx-pro-6000-server")


def load(directory: Path, kind: str) -> pd.DataFrame:
    """Return all rows of a kind; a prompt of one token is a decode step and left out of prefill."""
    phase, cache = KINDS[kind]
    raw = pd.read_csv(directory / "moe" / MORE)
    raw = raw[(raw["phase"] == phase) & (raw["kv_dtype"] == cache)].assign(dtype=cache)
    if cache == "bf16":
        old = pd.read_csv(directory / "timings" / FILES[kind])
        raw = pd.concat([raw, old[old["gpu"] != "A100-SXM4-80GB"].assign(window=0)])
    raw["gpu"] = raw["gpu"].map({name: columns.gpu_name(name) for name in raw["gpu"].unique()})
    if phase == "prefill":
        raw = raw[raw["q_len"] > 1]
    return timings.parse(raw.drop(columns="backend").reset_index(drop=True), kind=kind, where=MORE)


def sample(rows: pd.DataFrame) -> np.ndarray:
    """Return which rows are fitted: up to `SAMPLE` of each head size and window."""
    rng = np.random.default_rng(0)
    chosen = np.zeros(len(rows), dtype=bool)
    for index in rows.groupby(["head_dim", "window"]).indices.values():
        chosen[rng.permutation(index)[:SAMPLE]] = True
    return chosen


def start(kind: str, gpu: str) -> tuple[Any, Any]:
    """Return where a fit begins, and which parameters are free."""
    phase, cache = KINDS[kind]
    if cache == "bf16" and gpu in KNOWN:
        return nearest.nearest_calibration(kind, "bf16", hardware.get(gpu))[0].kernel, HEADS[phase]
    kernel = kinds.get(kind).start(hardware.get(gpu))
    return (replace(kernel, splits="vllm") if phase == "decode" else kernel), "auto"


def table(fitted: Calibration, rows: pd.DataFrame, chosen: np.ndarray) -> pd.DataFrame:
    """Return held-out errors by head size and window [%]: of the folds, and of the rows that no fit has seen."""
    assert fitted.residuals is not None
    groups = ["head_dim", "window"]
    folds = fitted.residuals.groupby(groups)["held_out_log_residual"].agg(mape)
    rest = rows[~chosen]
    values = log_residual(fitted.kind, fitted.kernel, rest, fitted.hardware)
    unseen = rest.assign(r=values).groupby(groups)["r"].agg(mape)
    return (100 * pd.DataFrame({"folds": folds, "unseen": unseen})).round(1)


def _beside_known(kind: str, gpu: str, fitted: Calibration) -> Calibration:
    """Return what is shipped of 128-wide heads, its errors and domain, with the rates of others beside it."""
    known = nearest.nearest_calibration(kind, "bf16", hardware.get(gpu))[0]
    errors = {**known.standard_errors, **fitted.standard_errors}
    return replace(known, kernel=fitted.kernel, standard_errors=errors)


def main() -> int:
    """Fit every GPU and kind, print errors, write the files if asked."""
    arguments = command_line(__doc__, kinds_of=KINDS).parse_args()
    if lacking(arguments.directory / "moe" / MORE):
        return 0
    for kind in [arguments.kind] if arguments.kind else KINDS:
        frame = load(arguments.directory, kind)
        for gpu in [arguments.gpu] if arguments.gpu else frame["gpu"].unique():
            rows = frame[frame["gpu"] == gpu].reset_index(drop=True)
            chosen = sample(rows)
            kernel, free = start(kind, gpu)
            fitted = calibration.calibrate(
                kind, rows[chosen].reset_index(drop=True), gpu, start=kernel, parameters=free, source=SOURCE
            )
            print(f"\n{kind} {gpu}: held out {100 * fitted.held_out_error:.1f} %")
            print({name: float(f"{getattr(fitted.kernel, name):.3g}") for name in fitted.standard_errors})
            print(table(fitted, rows, chosen).T.to_string(), flush=True)
            if arguments.write:
                ship(fitted if free == "auto" else _beside_known(kind, gpu, fitted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
