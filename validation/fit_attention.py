"""Fit the attention kernel models to ai-dynamo/aiconfigurator timings and write their calibrations.

Usage: python validation/fit_attention.py DIRECTORY [--write]

DIRECTORY holds attention_prefill_aiconfigurator.csv.gz and attention_decode_aiconfigurator.csv.gz: FlashAttention 2
and 3 through vLLM, head_dim 128, CUDA graph, one layer replayed, so that a small KV cache stays in L2.

The versions that were timed split keys in a way of their own: decode is fitted with ``splits="vllm"``.

Prints errors on shapes left out of the fit, on regions left out of the fit, how often the 90 % band of the folds holds
there, and errors on GPUs left out.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from judging import command_line, lacking, log_residual, report_left_out, ship

from pruninfersim import calibration, hardware
from pruninfersim.calibration import kinds, nearest, timings
from pruninfersim.calibration.least_squares import folds, mape
from pruninfersim.calibration.record import Calibration
from pruninfersim.kernels.base import parameters

FILES = {
    "attention_prefill": "attention_prefill_aiconfigurator.csv.gz",
    "attention_decode": "attention_decode_aiconfigurator.csv.gz",
}
SOURCE = "ai-dynamo/aiconfigurator (Apache-2.0), PyPI aiconfigurator-core 0.12.0, vLLM"
#: Regions that are left out to see how the model extrapolates: name -> rows that are tested.
REGIONS = {
    "heads 40, 64": lambda f: f["heads"] >= 40,
    "batch >= 16": lambda f: f["batch"] >= 16,
    "batch 128": lambda f: f["batch"] >= 128,
    "long": lambda f: f["kv_len"] > np.where(f["q_len"] > 1, 2048, 4096),
}
#: Folds of the check of the band: its quantiles come from the other folds.
FOLDS = 5


def load(directory: Path, kind: str) -> pd.DataFrame:
    """Return the usable rows of one phase; a prompt of one token is a decode step and left out of prefill."""
    raw = pd.read_csv(directory / FILES[kind])
    if kind == "attention_prefill":
        raw = raw[raw["q_len"] > 1]
    return timings.parse(raw.reset_index(drop=True), kind=kind, where=FILES[kind])


def start(kind: str, gpu: str) -> Any:
    """Return where a fit to these timings begins: with the split of the library that was timed."""
    kernel = kinds.get(kind).start(hardware.get(gpu))
    return replace(kernel, splits="vllm") if kind == "attention_decode" else kernel


def coverage(kind: str, fitted: Calibration) -> float:
    """Share of held-out rows inside a 90 % band whose quantiles come from other shapes [%]."""
    assert fitted.residuals is not None
    rows = fitted.residuals
    values = rows["held_out_log_residual"].to_numpy()
    # Other groups than those of the fit's folds would mix rows of one fit; the same ones keep the bands apart.
    fold = folds(rows, kinds.get(kind).group, FOLDS)
    inside = np.zeros(len(rows), dtype=bool)
    for number in range(FOLDS):
        low, high = np.quantile(values[fold != number], [0.05, 0.95])
        inside |= (fold == number) & (values >= low) & (values <= high)
    return 100 * float(inside.mean())


def left_out_gpus(kind: str, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return ln(measured / predicted) of each GPU by the shipped calibrations of the others."""
    errors = {}
    for gpu, rows in frame.groupby("gpu"):
        found, _ = nearest.nearest_calibration(kind, "bf16", hardware.get(str(gpu)), leave_out=[str(gpu)])
        errors[str(gpu)] = log_residual(kind, found.kernel, rows, str(gpu))
    return errors


def main() -> int:
    """Fit every GPU, write the files if asked, print the tables."""
    arguments = command_line(__doc__).parse_args()
    if lacking(*(arguments.directory / name for name in FILES.values())):
        return 0
    pd.set_option("display.width", 220)
    pd.set_option("display.max_columns", 30)
    for kind in FILES:
        frame = load(arguments.directory, kind)
        lines, values = {}, {}
        for gpu in frame["gpu"].unique():
            rows = frame[frame["gpu"] == gpu].reset_index(drop=True)
            fitted = calibration.calibrate(kind, rows, gpu, start=start(kind, gpu), source=SOURCE)
            lines[gpu] = {
                "rows": len(rows),
                "fitted": 100 * fitted.fitted_error,
                "held out": 100 * fitted.held_out_error,
                "q05": 100 * np.expm1(fitted.residual.low),
                "q95": 100 * np.expm1(fitted.residual.high),
                "in band": coverage(kind, fitted),
            }
            for name, where in REGIONS.items():
                test = where(rows).to_numpy()
                known = rows[~test].reset_index(drop=True)
                inside = calibration.fit_kernel(kind, known, gpu, start=start(kind, gpu))
                unseen = log_residual(kind, inside, rows[test], gpu)
                lines[gpu][name] = 100 * mape(unseen)
                lines[gpu][f"{name}, in band"] = 100 * np.mean(
                    (unseen >= fitted.residual.low) & (unseen <= fitted.residual.high)
                )
            values[gpu] = {name: f"{getattr(fitted.kernel, name):.3g}" for name in parameters(fitted.kernel)}
            if arguments.write:
                ship(fitted)
        print(f"\n{kind}: mean absolute error [%]\n{pd.DataFrame(lines).T.round(1)}\n{pd.DataFrame(values).T}")
        print(f"{kind}: GPUs left out (from the shipped files)")
        report_left_out(kind, "bf16", left_out_gpus(kind, frame), arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
