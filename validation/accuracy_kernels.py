"""Tables of docs/accuracy.md on single kernels: shipped calibrations, regimes, left-out shapes, left-out GPUs."""

from __future__ import annotations

import math
from pathlib import Path

import fit_2of4
import fit_attention
import fit_elementwise
import fit_gemm
import numpy as np
import pandas as pd
from judging import CALIBRATIONS, log_residual

from pruninfersim import calibration, hardware
from pruninfersim.calibration import kinds, nearest, timings
from pruninfersim.calibration.least_squares import mape, range90
from pruninfersim.calibration.record import Calibration
from pruninfersim.calibration.validate import Judged, judged_rows, pairs_along, ratio_half_width, validate
from pruninfersim.kernels.base import parameters

GPUS = tuple(fit_gemm.SYSTEMS)
ATTENTION_GPUS = ("a100-sxm-80gb", "h100-sxm", "l40s", "rtx-pro-6000-server")
#: Shortest prompt that the aims speak of; shorter ones are launch time.
SHORTEST = 128
#: GEMMs that another laboratory timed inside a serving engine.
ELSEWHERE = "gemm_llmservingsim.csv.gz"
#: How the source of a calibration names that laboratory.
LABORATORY = "LLMServingSim"


def percent(value: float, digits: int = 1) -> str:
    """Return a fraction in percent, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f}"


def markdown(frame: pd.DataFrame) -> str:
    """Return a frame as a Markdown table, without its index."""
    lines = [" | ".join(map(str, frame.columns)), " | ".join(["---"] * len(frame.columns))]
    lines += [" | ".join(map(str, row)) for row in frame.itertuples(index=False)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def shipped() -> dict[tuple[str, str, str], Calibration]:
    """Return the shipped calibrations by kind, dtype and GPU."""
    records = [Calibration.from_toml(file) for file in sorted(CALIBRATIONS.glob("*/*.toml"))]
    return {(record.kind, record.dtype, record.hardware): record for record in records}


def shipped_table(known: dict[tuple[str, str, str], Calibration]) -> str:
    """Table of what the shipped files say of themselves."""
    lines = []
    for (kind, dtype, gpu), record in sorted(known.items()):
        ratios = ", ".join(f"{axis} {percent(error)}" for axis, error in record.ratio_error.items())
        lines.append(
            {
                "kernel": kind,
                "dtype": dtype,
                "GPU": gpu,
                "rows": record.n_rows,
                "parameters": f"{len(record.standard_errors)} of {len(parameters(record.kernel))}",
                "fitted [%]": percent(record.fitted_error),
                "held out [%]": percent(record.held_out_error),
                "speedup, held out [%]": ratios,
                "5 to 95 % of measured / predicted [%]": (
                    f"{100 * np.expm1(record.residual.low):+.0f} to {100 * np.expm1(record.residual.high):+.0f}"
                ),
            }
        )
    return markdown(pd.DataFrame(lines))


class Data:
    """The measured timings in one folder, each read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gemm = timings.read_timings(folder / fit_gemm.FILE, kind="gemm")
        self.attention = {kind: fit_attention.load(folder, kind) for kind in fit_attention.FILES}

    def of(self, kind: str, gpu: str, dtype: str = "bf16") -> pd.DataFrame:
        """Return the rows of one kind on one GPU."""
        frame = self.gemm if kind == "gemm" else self.attention[kind]
        return frame[(frame["gpu"] == gpu) & (frame["dtype"] == dtype)].reset_index(drop=True)


def disagreement(rows: pd.DataFrame) -> float:
    """Mean of max / min - 1 of two campaigns on the same shapes."""
    sides = rows.groupby(["m", "n", "k", "backend"])["latency_us"].median().unstack("backend").dropna()
    return float(np.expm1(np.abs(np.log(sides.iloc[:, 0] / sides.iloc[:, 1]))).mean())


def models_table(data: Data, known: dict[tuple[str, str, str], Calibration]) -> str:
    """Table of ours beside simpler models and beside the disagreement of two campaigns."""
    lines = []
    for kind, gpus in (("gemm", GPUS), ("attention_prefill", ATTENTION_GPUS), ("attention_decode", ATTENTION_GPUS)):
        for gpu in gpus:
            rows = data.of(kind, gpu)
            (part,) = judged_rows(rows, gpu, kind=kind)
            record = known.get((kind, "bf16", gpu))
            lines.append(
                {
                    "kernel": kind,
                    "GPU": gpu,
                    "rows": len(rows),
                    "roofline [%]": percent(mape(part.log_residual("roofline"))),
                    "3 parameters, held out [%]": percent(mape(part.log_residual("three_parameter"))),
                    "ours, fitted [%]": percent(mape(part.log_residual())),
                    "ours, held out [%]": percent(math.nan if record is None else record.held_out_error),
                    "two campaigns differ by [%]": percent(disagreement(rows) if kind == "gemm" else math.nan),
                }
            )
    return markdown(pd.DataFrame(lines))


def regime_table(data: Data, kind: str) -> str:
    """Table of errors by regime, one column per GPU: ours (3-parameter model)."""
    columns: dict[str, dict[str, str]] = {}
    for gpu in GPUS if kind == "gemm" else ATTENTION_GPUS:
        table = validate(data.of(kind, gpu), gpu, kind=kind)
        table = table[table["quantity"] == "time"]
        columns[gpu] = {
            row.regime: f"{percent(row.mape)} ({percent(row.three_parameter_mape)}), {100 * row.bias:+.0f}"
            for row in table.itertuples()
        }
    return markdown(pd.DataFrame(columns).rename_axis("regime").reset_index())


def coverage_line(rows: pd.DataFrame, residual: np.ndarray, record: Calibration) -> dict[str, float]:
    """Errors and coverage of 90 % intervals, on rows and on pairs of rows, of shapes that no fit has seen."""
    band = record.spread
    half = ratio_half_width(band)
    spec = kinds.get(record.kind)
    ratios = []
    for axis in spec.axes:
        large, small = pairs_along(record.kind, rows, axis)
        ratios.append(residual[large] - residual[small])
    pooled = np.concatenate(ratios)
    return {
        "n": residual.size,
        "time": mape(residual),
        "time inside": float(np.mean((residual >= band.low) & (residual <= band.high))),
        "pairs": pooled.size,
        "speedup": mape(pooled),
        "speedup inside": float(np.mean(np.abs(pooled) <= half)),
    } | {f"speedup {axis}": mape(part) for axis, part in zip(spec.axes, ratios, strict=True)}


def unseen(data: Data, known: dict[tuple[str, str, str], Calibration]) -> pd.DataFrame:
    """Fit without whole values of n and k (GEMM), or whole numbers of heads, and judge these; one row per GPU."""
    lines = []
    for gpu in GPUS:
        if ("gemm", "bf16", gpu) not in known:
            continue
        rows, record = data.of("gemm", gpu), known["gemm", "bf16", gpu]
        test = (rows["n"].isin(fit_gemm.LEFT_OUT) | rows["k"].isin(fit_gemm.LEFT_OUT)).to_numpy()
        kernel = calibration.fit_kernel("gemm", rows[~test].reset_index(drop=True), gpu, start=record.kernel)
        part = rows[test].reset_index(drop=True)
        residual = log_residual("gemm", kernel, part, gpu)
        lines.append({"kernel": "gemm", "GPU": gpu} | coverage_line(part, residual, record))
    for kind in fit_attention.FILES:
        for gpu in ATTENTION_GPUS:
            rows, record = data.of(kind, gpu), known[kind, "bf16", gpu]
            test = rows["heads"].isin((16, 40)).to_numpy()
            kernel = calibration.fit_kernel(kind, rows[~test].reset_index(drop=True), gpu, start=record.kernel)
            part = rows[test & (rows["kv_len"] >= SHORTEST)].reset_index(drop=True)
            residual = log_residual(kind, kernel, part, gpu)
            lines.append({"kernel": kind, "GPU": gpu} | coverage_line(part, residual, record))
    return pd.DataFrame(lines)


def unseen_table(lines: pd.DataFrame) -> str:
    """Markdown of `unseen`."""
    shown = lines[["kernel", "GPU", "n"]].copy()
    for column in ("time", "time inside", "speedup", "speedup inside"):
        shown[f"{column} [%]"] = [percent(value) for value in lines[column]]
    return markdown(shown)


def left_out_gpus(data: Data) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Judge every GPU by the calibrations of the others; return the table, and pooled log residuals by kind."""
    lines, pooled, correlation = [], {}, {}

    def add(kind: str, dtype: str, gpu: str, residual: np.ndarray, ratio_sd: float) -> None:
        low, median, high = np.quantile(residual, [0.05, 0.5, 0.95])
        lines.append(
            {"kernel": kind, "dtype": dtype, "GPU left out": gpu, "rows": residual.size, "error": mape(residual),
             "5 %": low, "median": median, "95 %": high}
        )  # fmt: skip
        family = "elementwise" if kind.startswith("elementwise") else kind
        pooled.setdefault(family, []).append(residual)
        correlation.setdefault(family, []).append(ratio_sd)

    for kind, gpus in (("gemm", GPUS), ("attention_prefill", ATTENTION_GPUS), ("attention_decode", ATTENTION_GPUS)):
        for gpu in gpus:
            rows = data.of(kind, gpu, "bf16")
            own = CALIBRATIONS.glob(f"*/{kind}-bf16.toml")
            if rows.empty or sum(file.parent.name != gpu for file in own) == 0:
                continue
            found, _ = nearest.nearest_calibration(kind, "bf16", hardware.get(gpu), leave_out=[gpu])
            residual = log_residual(kind, found.kernel, rows, gpu)
            add(kind, "bf16", gpu, residual, ratio_range(kind, rows, residual))
    if (path := data.folder / fit_2of4.FILE).exists():
        for dtype in fit_2of4.DTYPES:
            frame = fit_2of4.load(path, dtype)
            for gpu in (g for g in frame["gpu"].unique() if (g, dtype) not in fit_2of4.BROKEN):
                # This is the error of the ratio itself: nothing of it cancels further.
                residual = fit_2of4.carried_over(frame, gpu, dtype)["residual"].to_numpy()
                add("gemm_2of4", dtype, gpu, residual, math.nan)
    if (path := data.folder / fit_elementwise.FILE).exists():
        frame = fit_elementwise.load(path)
        for kind, op in fit_elementwise.OPS.items():
            for gpu in frame.loc[frame["op"] == op, "gpu"].unique():
                rows = frame[(frame["gpu"] == gpu) & (frame["op"] == op)].reset_index(drop=True)
                if frame.loc[frame["op"] == op, "gpu"].nunique() < 2:
                    continue
                found, _ = nearest.nearest_calibration(kind, "bf16", hardware.get(gpu), leave_out=[gpu])
                residual = log_residual(kind, found.kernel, rows, gpu)
                add(kind, "bf16", gpu, residual, ratio_range(kind, rows, residual))
    table = pd.DataFrame(lines)
    summary = {}
    for family, parts in pooled.items():
        low, high = np.quantile(np.concatenate(parts), [0.05, 0.95])
        sd = (high - low) / 2.0 / 1.6449
        common = 1.0 - 0.5 * float(np.mean(np.square(correlation[family]))) / sd**2
        summary[family] = np.array([low, high, np.clip(common, 0.0, 0.95)])
    return table, summary


def ratio_range(kind: str, rows: pd.DataFrame, residual: np.ndarray) -> float:
    """Range of the log error of speedups between rows that differ in one axis, as a standard deviation."""
    parts = []
    for axis in kinds.get(kind).axes:
        large, small = pairs_along(kind, rows, axis)
        if large.size:
            parts.append(residual[large] - residual[small])
    return range90(np.concatenate(parts))


def left_out_table(table: pd.DataFrame, summary: dict[str, np.ndarray]) -> str:
    """Markdown of `left_out_gpus`."""
    shown = table.drop(columns="error").assign(**{"error [%]": [percent(e) for e in table["error"]]})
    for column in ("5 %", "median", "95 %"):
        shown[column] = [f"{value:+.2f}" for value in shown[column]]
    pooled = pd.DataFrame(
        [
            {
                "kernel": k,
                "5 %": f"{v[0]:+.2f}",
                "95 %": f"{v[1]:+.2f}",
                "common": "–" if np.isnan(v[2]) else f"{v[2]:.2f}",
            }
            for k, v in summary.items()
        ]
    )
    return markdown(shown) + "\nPooled:\n\n" + markdown(pooled)


def elsewhere_parts(data: Data) -> list[tuple[str, Judged]]:
    """Return what the models make of the GEMMs of another laboratory, by GPU; empty without its file."""
    path = data.folder / ELSEWHERE
    rows = timings.read_timings(path, kind="gemm") if path.exists() else pd.DataFrame({"gpu": []})
    return [(gpu, judged_rows(rows, gpu, kind="gemm", cache="cold")[0]) for gpu in rows["gpu"].unique()]


def fitted_here(gpu: str) -> bool:
    """Whether the GEMM calibration of a GPU comes from the timings of that laboratory."""
    return LABORATORY in nearest.nearest_calibration("gemm", "bf16", hardware.get(gpu))[0].source


def elsewhere(data: Data) -> list[tuple[str, float, int]]:
    """Return GPU, error [1] and number of rows of the cards that are calibrated, but not to these rows."""
    return [
        (gpu, mape(part.log_residual()), len(part.rows))
        for gpu, part in elsewhere_parts(data)
        if part.provenance == "calibrated" and not fitted_here(gpu)
    ]


def elsewhere_table(data: Data) -> str:
    """Table of GEMM timings of another laboratory, inside a serving engine, with cold weights."""
    lines = []
    for gpu, part in elsewhere_parts(data):
        residual = part.log_residual()
        inside = np.mean((residual >= part.spread.low) & (residual <= part.spread.high))
        lines.append(
            {
                "GPU": gpu,
                "provenance": part.provenance,
                "fitted to these rows": "yes" if fitted_here(gpu) else "no",
                "rows": residual.size,
                "roofline [%]": percent(mape(part.log_residual("roofline"))),
                "ours [%]": percent(mape(residual)),
                "bias [%]": f"{100 * np.expm1(-residual.mean()):+.0f}",
                "inside 90 % [%]": percent(float(inside)),
            }
        )
    return markdown(pd.DataFrame(lines)) if lines else "Not available.\n"


def held_out(data: Data, kind: str, gpu: str, record: Calibration) -> float:
    """Held-out error [1] of attention on the lengths that the aims speak of, by folds over shapes."""
    rows = data.of(kind, gpu)
    fitted = calibration.calibrate(kind, rows, gpu, start=record.kernel).residuals
    assert fitted is not None
    return mape(fitted.loc[fitted["kv_len"] >= SHORTEST, "held_out_log_residual"].to_numpy())


def scatter(parts: list[tuple[str, Judged]], path: Path, points: int = 500) -> None:
    """Write a picture of predicted against measured time, one panel per part, both axes logarithmic."""
    side, gap = 260, 50
    texts = []
    for number, (title, part) in enumerate(parts):
        few = part.rows.iloc[np.linspace(0, len(part.rows) - 1, min(points, len(part.rows))).astype(int)]
        x, y = np.log10(few["latency_us"].to_numpy()), np.log10(few["predicted_us"].to_numpy())
        low, high = np.floor(min(x.min(), y.min())), np.ceil(max(x.max(), y.max()))
        left, scale = gap + number * (side + gap), side / (high - low)
        dots = "".join(
            f"M{left + a:.1f} {gap + b:.1f}h0" for a, b in zip((x - low) * scale, side - (y - low) * scale, strict=True)
        )
        texts += [
            f'<rect x="{left}" y="{gap}" width="{side}" height="{side}" fill="none" stroke="#888"/>',
            f'<path d="M{left} {gap + side}L{left + side} {gap}" stroke="#888" stroke-dasharray="4"/>',
            f'<path d="{dots}" stroke="#0072B2" stroke-width="3" stroke-linecap="round" stroke-opacity="0.4"/>',
            f'<text x="{left}" y="{gap - 8}">{title}</text>',
            f'<text x="{left}" y="{gap + side + 16}">{10**low:g}</text>',
            f'<text x="{left + side}" y="{gap + side + 16}" text-anchor="end">{10**high:g} measured [us]</text>',
            f'<text x="{left - 6}" y="{gap + 60}" transform="rotate(-90 {left - 6} {gap + 60})">predicted [us]</text>',
        ]
    width, height = gap + len(parts) * (side + gap), side + 2 * gap
    font = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font}>'
    path.write_text(
        "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *texts, "</svg>"]) + "\n"
    )
