"""Fit the elementwise kernel models to casys-kaist/LLMServingSim (MIT) and write their calibrations.

Usage: python validation/fit_elementwise.py DIRECTORY [--write]

DIRECTORY holds elementwise_llmservingsim.csv.gz: kernel times of vLLM 0.19 under its layerwise profiler (no launch
gaps) on two GPUs. The raw rows are not part of this package; the coefficients are.

Prints the error on token counts that were left out, and on the widths of a model that was left out.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from judging import command_line, lacking, log_residual, report_left_out, ship

from pruninfersim import calibration, hardware
from pruninfersim.calibration import nearest
from pruninfersim.calibration.columns import gpu_name
from pruninfersim.calibration.fit import summary as quantiles
from pruninfersim.calibration.least_squares import mape
from pruninfersim.calibration.record import Band, Calibration
from pruninfersim.kernels.elementwise import Elementwise

FILE = "elementwise_llmservingsim.csv.gz"
SOURCE = "casys-kaist/LLMServingSim, MIT"
#: Kind -> op in the data.
OPS = {
    "elementwise_norm": "layernorm",
    "elementwise_final_norm": "final_layernorm",
    "elementwise_qk_norm": "qk_norm",
    "elementwise_rope": "rotary_emb",
    "elementwise_act": "act_fn",
    "elementwise_embedding": "embedding",
}
#: Ops that tensor parallelism does not split: their tp2 rows repeat tp1.
REPLICATED = ("layernorm", "final_layernorm", "qk_norm", "embedding")
#: Query and KV heads, all of 128.
HEADS = {"Llama-3.1-8B": (32, 8), "Qwen3-32B": (64, 8), "Qwen3-30B-A3B-Instruct-2507": (32, 4)}
#: Where fits begin: the loss has more than one minimum (is the kernel bound by its rows or by memory?).
STARTS = (
    Elementwise(),
    Elementwise(memory_efficiency=2.0, l2_bandwidth=4.0, l2_share=0.25),
    Elementwise(launch=1.5e-6, row_bandwidth=2e11, memory_efficiency=1.5),
)


def load(path: Path) -> pd.DataFrame:
    """Return the rows with the width that a trace would give them."""
    raw = pd.read_csv(path)
    raw["gpu"] = raw["gpu"].map(gpu_name)
    raw["model"] = raw["notes"].str.split().str[0]
    ways = raw["notes"].str.extract(r"tp(\d)")[0].astype(float)
    raw = raw[raw["op"].isin(OPS.values()) & ~((ways > 1) & raw["op"].isin(REPLICATED))].copy()
    heads = raw["model"].map({name: sum(count) * 128 for name, count in HEADS.items()})
    raw["k"] = np.select(
        [raw["op"] == "rotary_emb", raw["op"] == "qk_norm"], [heads / ways[raw.index], heads], raw["k"]
    )
    return raw.drop(columns="backend").replace({"dtype": {"bfloat16": "bf16"}})


def best_fit(kind: str, rows: pd.DataFrame, gpu: str) -> Calibration:
    """Fit from every start and keep the best."""
    fits = [calibration.calibrate(kind, rows, gpu, start=start, source=SOURCE) for start in STARTS]
    return min(fits, key=lambda record: record.fitted_error)


def other_widths(kind: str, rows: pd.DataFrame, gpu: str) -> np.ndarray:
    """Return ln(measured / predicted) of each model's rows, by a fit to the other models; empty for one model."""
    parts = []
    for model in rows["model"].unique() if rows["model"].nunique() > 1 else []:
        test = rows[rows["model"] == model].reset_index(drop=True)
        fitted = best_fit(kind, rows[rows["model"] != model], gpu)
        parts.append(log_residual(kind, fitted.kernel, test, gpu))
    return np.concatenate(parts) if parts else np.empty(0)


def main() -> int:
    """Fit every op on every GPU, write the files if asked, print the tables."""
    arguments = command_line(__doc__).parse_args()
    path = arguments.directory / FILE
    if lacking(path):
        return 0
    frame = load(path)
    lines = []
    for kind, op in OPS.items():
        for gpu in ("rtx-4090", "rtx-pro-6000-server"):
            rows = frame[(frame["gpu"] == gpu) & (frame["op"] == op)]
            if rows.empty:
                continue
            record = best_fit(kind, rows, gpu)
            widths = other_widths(kind, rows, gpu)
            if widths.size:  # the honest band for a model that was not timed
                summary = quantiles(widths)
                record = replace(
                    record,
                    residual=summary,
                    bands=(Band(float("inf"), summary.low, summary.high),),
                    held_out_error=mape(widths),
                )
            if arguments.write:
                ship(record)
            assert record.residuals is not None
            lines.append(
                {
                    "gpu": gpu,
                    "op": op,
                    "other token counts": 100 * mape(record.residuals["held_out_log_residual"].to_numpy()),
                    "other widths": 100 * mape(widths) if widths.size else np.nan,
                }
                | {row.parameter: f"{row.value:.3g}" for row in record.table().itertuples()}
            )
    pd.set_option("display.width", 250, "display.max_columns", 20)
    print(f"error [%] and parameters\n{pd.DataFrame(lines).round(1).to_string(index=False)}")
    for kind, op in OPS.items():
        elsewhere: dict[str, np.ndarray] = {}
        for gpu in frame.loc[frame["op"] == op, "gpu"].unique():
            rows = frame[(frame["gpu"] == gpu) & (frame["op"] == op)].reset_index(drop=True)
            try:
                found, _ = nearest.nearest_calibration(kind, "bf16", hardware.get(gpu), leave_out=[gpu])
            except LookupError:
                continue
            elsewhere[gpu] = log_residual(kind, found.kernel, rows, gpu)
        if elsewhere:
            print(f"{op} from the other GPU")
            report_left_out(kind, "bf16", elsewhere, arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
