"""Fit mixtures of experts, all-reduce and latent attention to timings of GPUs; print held-out errors, write files.

Usage: python validation/fit_moe.py DIRECTORY [--write] [--gpu NAME] [--kind KIND]

DIRECTORY holds moe_aiconfigurator.csv.gz, allreduce_aiconfigurator.csv.gz and mla_aiconfigurator.csv.gz. Held-out
errors leave out layer shapes, sizes of messages, or head counts and lengths in folds; of mixtures the rows outside of a
seeded sample are judged, too. From which size a library calls NCCL is read off all rows of a card, before the fit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from judging import command_line, lacking, log_residual, ship

from pruninfersim import calibration, hardware
from pruninfersim.calibration import columns, kinds, timings
from pruninfersim.calibration.least_squares import mape
from pruninfersim.kernels.all_reduce import LIBRARIES, AllReduce
from pruninfersim.kernels.base import parameters
from pruninfersim.kernels.mla import LatentPrefill

SOURCE = "ai-dynamo/aiconfigurator (Apache-2.0), PyPI aiconfigurator-core 0.12.0"
FILES = {name: f"{name}_aiconfigurator.csv.gz" for name in ("moe", "allreduce", "mla")}
#: Fitted rows of one card and format of mixtures.
SAMPLE = 1500
#: Cards as the tables call them where no profile knows the name.
CARDS = {"A100-SXM4": "a100-sxm-80gb"}
#: Kind -> (phase, form, library) of latent attention.
LATENT = {
    "mla_decode": ("decode", "absorbed", "trtllm"),
    "mla_decode_sglang": ("decode", "absorbed", "sglang"),
    "mla_prefill": ("prefill", "expanded", "trtllm"),
    "mla_prefill_sglang": ("prefill", "expanded", "sglang"),
    "mla_prefill_absorbed": ("prefill", "absorbed", "sglang"),
}
#: A library's own all-reduce takes this share of NCCL's time at most; sizes go in steps of 4.
FASTER, STEP = 0.9, 4.0
#: Shares of L2 from which fits of prefill begin.
SHARES = (0.05, 0.2, 0.5)
KINDS = ("moe", "moe_triton", *LIBRARIES.values(), *LATENT)


def table(directory: Path, name: str) -> pd.DataFrame:
    """Return a table with GPUs and libraries as they are called here."""
    raw = pd.read_csv(directory / "moe" / FILES[name])
    raw["gpu"] = raw["gpu"].map({n: CARDS.get(n, columns.gpu_name(n)) for n in raw["gpu"].unique()})
    raw["library"] = raw["library" if name == "allreduce" else "backend"].str.split("-").str[0]
    return raw


def load(directory: Path, kind: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield GPU, format and rows of a kind."""
    if kind in LATENT:
        raw = table(directory, "mla").assign(dtype=lambda rows: rows["kv_dtype"])
        phase, form, library = LATENT[kind]
        raw = raw[(raw["phase"] == phase) & (raw["form"] == form) & (raw["library"] == library)]
    elif kind in LIBRARIES.values():
        raw = table(directory, "allreduce").assign(dtype="bf16")
        raw = raw[raw["library"] == kind.removeprefix("all_reduce_")]
    else:
        raw = table(directory, "moe")
        triton = raw["kernel"].str.contains("triton")
        whole = raw["dtype"] != "fp8_block"  # DeepGEMM and Triton's blocks are other kernels
        raw = raw[whole & (triton if kind == "moe_triton" else (raw["library"] == "trtllm") & ~triton)]
    for (gpu, dtype), rows in raw.groupby(["gpu", "dtype"]):
        plain = rows.drop(columns=["library", "backend", "kernel"], errors="ignore").reset_index(drop=True)
        yield str(gpu), str(dtype), timings.parse(plain, kind=kind, where=FILES["moe"])


def start(kind: str, gpu: str, rows: pd.DataFrame, nccl: pd.DataFrame | None) -> Any:
    """Return where a fit begins; all-reduce of libraries on NVLink: with what NCCL does from some size on."""
    spec = kinds.get(kind)
    kernel = spec.start(hardware.get(gpu))
    if isinstance(kernel, LatentPrefill):
        # What stays in L2 is a step of the time: a fit finds the one that is nearest to where it begins.
        begins = [replace(kernel, l2_share=share) for share in SHARES]
        fits = [calibration.fit_kernel(kind, rows, gpu, start=begin, parameters="all") for begin in begins]
        return begins[int(np.argmin([mape(log_residual(kind, fit, rows, gpu)) for fit in fits]))]
    if kind == "all_reduce_nccl":
        return replace(kernel, **{name: getattr(kernel, f"nccl_{name}") for name in parameters(kernel)})
    if nccl is None or nccl["num_gpus"].nunique() < 2 or hardware.get(gpu).interconnect_bandwidth is None:
        return kernel
    known = calibration.fit_kernel("all_reduce_nccl", nccl, gpu, start=start("all_reduce_nccl", gpu, nccl, None))
    both = rows.merge(nccl, on=["num_gpus", "bytes"], suffixes=("", "_nccl"))
    same = both[both["latency_us"] > FASTER * both["latency_us_nccl"]]
    edges = []
    for ranks in (2, 8):
        first = float(same.loc[same["num_gpus"] == ranks, "bytes"].min())
        own = both.loc[(both["num_gpus"] == ranks) & (both["bytes"] < first), "bytes"]
        edges.append(float(np.sqrt(first * (own.max() if len(own) else first / STEP**2))))
    return replace(
        kernel, hand_over_two=edges[0], hand_over_eight=edges[1],
        **{f"nccl_{name}": getattr(known, name) for name in parameters(known)},
    )  # fmt: skip


def main() -> int:
    """Fit every kind, format and GPU, print errors, write the files if asked."""
    arguments = command_line(__doc__, kinds_of=KINDS).parse_args()
    if lacking(*(arguments.directory / "moe" / name for name in FILES.values())):
        return 0
    rings = {gpu: rows for gpu, _, rows in load(arguments.directory, "all_reduce_nccl")}
    for kind in [arguments.kind] if arguments.kind else KINDS:
        for gpu, dtype, rows in load(arguments.directory, kind):
            if arguments.gpu not in (None, gpu):
                continue
            chosen = np.zeros(len(rows), dtype=bool)
            chosen[np.random.default_rng(0).permutation(len(rows))[:SAMPLE]] = True
            nccl = rings.get(gpu) if kind in LIBRARIES.values() and kind != "all_reduce_nccl" else None
            fitted = calibration.calibrate(
                kind, rows[chosen].reset_index(drop=True), gpu, start=start(kind, gpu, rows, nccl),
                parameters="all", source=SOURCE,
            )  # fmt: skip
            print(f"{kind} {dtype} {gpu}: {len(rows)} rows, held out {100 * fitted.held_out_error:.1f} %", end="")
            if not chosen.all():
                unseen = log_residual(kind, fitted.kernel, rows[~chosen], gpu)
                print(f", not sampled {100 * mape(unseen):.1f} %", end="")
            if isinstance(fitted.kernel, AllReduce):
                print(f", NCCL from {fitted.kernel.hand_over_two:.3g}, {fitted.kernel.hand_over_eight:.3g} B", end="")
            print(flush=True)
            if arguments.write:
                ship(fitted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
