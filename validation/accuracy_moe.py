"""Table of docs/accuracy.md on mixtures of experts, all-reduce, latent attention, and attention of all head sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from fit_attention_more import KINDS, load, sample
from judging import log_residual

from pruninfersim import attention_latency
from pruninfersim.calibration import nearest
from pruninfersim.calibration.least_squares import mape
from pruninfersim.calibration.record import Calibration
from pruninfersim.hardware import get

HEAD = """\
## Mixtures of experts, all-reduce, latent attention, other heads

*Measured timings.* Mixtures of experts, all-reduce and latent attention: layer shapes, sizes or head counts left out in
folds; from which size a library calls NCCL is read off all sizes. Attention: what `attention_latency(cache="replayed")`
says of rows that no fit has seen; where all rows of a head size and window are few and were fitted, folds. *Carried
over*: the fit of H100 on H200 and the other way round.
"""
Known = dict[tuple[str, str, str], Calibration]
HOPPER, BLACKWELL = ("h100-sxm", "h200-sxm"), ("b200-sxm",)
PRO, ADA, AMPERE = ("rtx-pro-6000-server",), ("l40s",), ("a100-sxm-80gb",)
NVLINK = (*AMPERE, *HOPPER, *BLACKWELL)
#: What -> (cards, kinds or "kind/format", aim [%]); every kind and format that is shipped of a card counts alike.
RECORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], float]] = {
    "MoE, TensorRT-LLM, Hopper and B200": ((*HOPPER, *BLACKWELL), ("moe",), 8.0),
    "MoE, TensorRT-LLM, RTX PRO 6000": (PRO, ("moe/bf16", "moe/fp8"), 9.0),
    "MoE, TensorRT-LLM, RTX PRO 6000, fp8 in blocks": (PRO, ("moe/fp8_block",), 9.0),
    "MoE, TensorRT-LLM, L40S": (ADA, ("moe",), 12.0),
    "MoE, Triton of SGLang": ((*AMPERE, *HOPPER, *BLACKWELL, *PRO, *ADA), ("moe_triton",), 18.0),
    "MoE, TensorRT-LLM, A100": (AMPERE, ("moe",), 18.0),
    **{
        f"all-reduce, NVLink, {gpu}": (
            (gpu,),
            tuple(f"all_reduce_{library}" for library in ("trtllm", "vllm", "sglang", "nccl")),
            10.0,
        )
        for gpu in NVLINK
    },
    "all-reduce, PCIe, RTX PRO 6000": (PRO, ("all_reduce_vllm", "all_reduce_nccl"), 17.0),
    "latent attention, decode, Hopper": (HOPPER, ("mla_decode", "mla_decode_sglang"), 8.5),
    "latent attention, decode, B200": (BLACKWELL, ("mla_decode", "mla_decode_sglang"), 14.0),
    "latent attention, prefill, Hopper and B200": (
        (*HOPPER, *BLACKWELL),
        ("mla_prefill", "mla_prefill_sglang", "mla_prefill_absorbed"),
        7.5,
    ),
    "latent attention, prefill, RTX PRO 6000": (PRO, ("mla_prefill",), 7.5),
}
#: Attention: kind -> (cards, aim without window, aim with one) [%].
ATTENTION: dict[str, tuple[tuple[tuple[str, ...], float, float], ...]] = {
    "attention_prefill": (((*HOPPER, *BLACKWELL), 8.5, 8.5), (PRO, 8.5, 8.5), (ADA, 8.5, 11.0)),
    "attention_decode": (((*HOPPER, *BLACKWELL), 8.5, 9.0), (PRO, 13.0, 9.0), (ADA, 13.0, 9.0)),
    "attention_prefill_kv8": (((*HOPPER, *BLACKWELL), 12.0, 12.0), (PRO, 12.0, 12.0), (ADA, 12.0, 12.0)),
    "attention_decode_kv8": (((*HOPPER, *BLACKWELL), 11.0, 11.0), (PRO, 11.0, 11.0), (ADA, 11.0, 11.0)),
}
#: Decode of 64-wide heads with a window of 128 on Hopper, short and not explained: aim [%].
SHORT_WINDOW = 18.0
#: Aim of attention on a card that was left out [%].
CARRIED = 12.0
#: Fewest rows outside of the fit that make an error of their own.
FEW = 30


def table(folder: Path, known: Known) -> str:
    """Return what was aimed at beside what is reached on what was not fitted, as a Markdown table."""
    rows = [
        f"| {what} | {aim:g} | {reached:.1f} | {'yes' if reached <= aim else '**no**'} |"
        for what, aim, reached in [*_recorded(known), *_attention(folder, known)]
    ]
    head = ["| on what was not fitted | aim [%] | reached [%] | met |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows]) + "\n"


def _recorded(known: Known) -> Iterator[tuple[str, float, float]]:
    """Errors of folds as the shipped calibrations state them, formats and libraries of a card alike."""
    for what, (gpus, names, aim) in RECORDS.items():
        found = [
            c.held_out_error
            for (kind, dtype, gpu), c in known.items()
            if gpu in gpus and not {kind, f"{kind}/{dtype}"}.isdisjoint(names)
        ]
        yield what, aim, 100.0 * float(np.mean(found))


def _attention(folder: Path, known: Known) -> Iterator[tuple[str, float, float]]:
    """Errors of attention by cards, window and head size; and of cards that were left out."""
    for kind, lines in ATTENTION.items():
        phase, cache = KINDS[kind]
        frame = load(folder, kind)
        for gpus, whole, with_window in lines:
            errors = pd.concat([_errors(kind, gpu, frame) for gpu in gpus])
            for windowed, part in errors.groupby(errors["window"] > 0):
                short = windowed & (kind == "attention_decode") & (part["head_dim"] == 64) & part["gpu"].isin(HOPPER)
                for size, group in part[~short].groupby("head_dim"):
                    name = f"{phase}, cache {cache}, heads of {size:g}{', windows' if windowed else ''}"
                    yield f"{name}: {', '.join(gpus)}", with_window if windowed else whole, _mean(group)
                if short.any():
                    yield "decode, heads of 64, window of 128, Hopper", SHORT_WINDOW, _mean(part[short])
        for gpu in HOPPER:
            found, _ = nearest.nearest_calibration(kind, cache, get(gpu), leave_out=[gpu])
            error = 100 * mape(log_residual(kind, found.kernel, frame[frame["gpu"] == gpu], gpu))
            yield f"{phase}, cache {cache}, carried over to {gpu}", CARRIED, error


def _errors(kind: str, gpu: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the error of every row that was not fitted; of all rows where too few are left."""
    rows = frame[frame["gpu"] == gpu].reset_index(drop=True)
    left = rows.assign(unseen=~sample(rows))
    enough = left.groupby(["head_dim", "window"])["unseen"].transform("sum") >= FEW
    left = left[left["unseen"] | ~enough].reset_index(drop=True)
    phase, cache = KINDS[kind]
    shape = {
        "batch": left["batch"], "query_len": left["q_len"], "context": left["kv_len"], "heads": left["heads"],
        "kv_heads": left["kv_heads"], "head_dim": left["head_dim"],
    }  # fmt: skip
    seconds = np.empty(len(left))
    for windowed in (False, True):
        at = np.flatnonzero((left["window"] > 0) == windowed)
        asked = {name: values.to_numpy()[at] for name, values in shape.items()}
        if windowed:
            asked["window"] = left["window"].to_numpy()[at]
        if at.size:
            seconds[at] = attention_latency(
                phase=phase, hardware=gpu, kv_dtype=None if cache == "bf16" else cache, cache="replayed", **asked
            )
    return left.assign(error=100.0 * np.abs(1e6 * seconds / left["latency_us"] - 1.0))


def _mean(rows: pd.DataFrame) -> float:
    """Mean over cards, each with the mean of its head sizes and windows, so that none counts by its rows."""
    return float(rows.groupby(["gpu", "head_dim", "window"])["error"].mean().mean())


if __name__ == "__main__":
    import sys

    import accuracy_kernels

    print(HEAD)
    print(table(Path(sys.argv[1]), accuracy_kernels.shipped()))
