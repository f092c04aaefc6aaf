"""Fit the attention kernel models to ai-dynamo/aiconfigurator timings and write their calibrations.

Usage: python validation/fit_attention.py DIRECTORY [--write]

DIRECTORY holds attention_prefill_aiconfigurator.csv.gz and attention_decode_aiconfigurator.csv.gz: FlashAttention 2
and 3 through vLLM, head_dim 128, CUDA graph, one layer replayed, so that a small KV cache stays in L2.

Prints errors on shapes left out of the fit, on regions left out of the fit, and on GPUs left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from pruninfersim import calibration, hardware, kinds, timings, transfer
from pruninfersim.calibration_fit import mape
from pruninfersim.kernels.base import parameters

FILES = {
    "attention_prefill": "attention_prefill_aiconfigurator.csv.gz",
    "attention_decode": "attention_decode_aiconfigurator.csv.gz",
}
SOURCE = "ai-dynamo/aiconfigurator (Apache-2.0), PyPI aiconfigurator-core 0.12.0, vLLM"
#: Compute capability of the GPUs on which vLLM runs FlashAttention 3; the others run FlashAttention 2.
FA3 = ("9.0",)
#: Regions that are left out to see how the model extrapolates: name -> rows that are tested.
REGIONS = {
    "heads 40, 64": lambda f: f["heads"] >= 40,
    "batch >= 16": lambda f: f["batch"] >= 16,
    "long": lambda f: f["kv_len"] > np.where(f["q_len"] > 1, 2048, 4096),
}


def load(directory: Path, kind: str) -> pd.DataFrame:
    """Return the usable rows of one phase; a prompt of one token is a decode step and left out of prefill."""
    raw = pd.read_csv(directory / FILES[kind])
    if kind == "attention_prefill":
        raw = raw[raw["q_len"] > 1]
    return timings.parse(raw.reset_index(drop=True), kind=kind, where=FILES[kind], first_line=0)


def start(kind: str, gpu: str) -> object:
    """Return where a fit begins: the algorithm follows from the architecture."""
    algorithm = "fa3" if hardware.get(gpu).compute_capability in FA3 else "fa2"
    return kinds.get(kind).kernel(algorithm=algorithm)


def error(kind: str, kernel: object, rows: pd.DataFrame, gpu: str) -> float:
    """Mean absolute error of a kernel on rows [%]."""
    predicted = kinds.get(kind).seconds(kernel, rows.reset_index(drop=True), hardware.get(gpu), "replayed")
    return 100 * mape(np.log(predicted * 1e6 / rows["latency_us"].to_numpy()))


def main() -> int:
    """Fit every GPU, write the files if asked, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--write", action="store_true", help="write hardware_profiles/calibrations/<gpu>/attention_*.toml"
    )
    arguments = parser.parse_args()
    missing = [name for name in FILES.values() if not (arguments.directory / name).exists()]
    if missing:
        print(f"skipped: {', '.join(missing)} not in {arguments.directory}; see validation/README.md for the source")
        return 0
    pd.set_option("display.width", 200)
    for kind in FILES:
        frame = load(arguments.directory, kind)
        lines, values = {}, {}
        for gpu in frame["gpu"].unique():
            rows = frame[frame["gpu"] == gpu].reset_index(drop=True)
            fitted = calibration.calibrate(kind, rows, gpu, start=start(kind, gpu), source=SOURCE)
            low, high = fitted.residual.low, fitted.residual.high
            lines[gpu] = {
                "rows": len(rows),
                "fitted": 100 * fitted.fitted_error,
                "held out": 100 * fitted.held_out_error,
            }
            lines[gpu] |= {"q05": 100 * np.expm1(low), "q95": 100 * np.expm1(high)}
            for name, where in REGIONS.items():
                test = where(rows)
                inside = calibration.calibrate(kind, rows[~test].reset_index(drop=True), gpu, start=start(kind, gpu))
                lines[gpu][name] = error(kind, inside.kernel, rows[test], gpu)
            values[gpu] = {name: f"{getattr(fitted.kernel, name):.3g}" for name in parameters(fitted.kernel)}
            if arguments.write:
                fitted.to_toml(hardware.profiles_directory() / "calibrations" / gpu / f"{kind}-bf16.toml")
        for gpu in lines:
            rows = frame[frame["gpu"] == gpu]
            found, _ = transfer.nearest_calibration(kind, "bf16", hardware.get(gpu), leave_out=[gpu])
            lines[gpu]["GPU left out"] = error(kind, found.kernel, rows, gpu)
        print(f"\n{kind}: mean absolute error [%]\n{pd.DataFrame(lines).T.round(1)}\n{pd.DataFrame(values).T}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
