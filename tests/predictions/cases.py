"""The predictions that are kept: (key, value) pairs made by public calls only."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

import pruninfersim as pis

Pairs = Iterator[tuple[str, float]]

FAMILIES = (
    "static-depth", "low-rank", "semi-structured", "static-width", "static-width-cross", "dynamic-depth",
    "sparse-attention",
)  # fmt: skip
STACKS = ("vendor", "paper", "ideal")
#: GPU -> model and precision of its grid: every generation, a GPU without any fit, and one of another vendor.
GRID = {
    "a100-sxm-80gb": ("llama-3.1-8b", None),
    "a800-80gb": ("llama-3.1-8b", "fp16"),
    "l40s": ("qwen2.5-7b", "fp8"),
    "rtx-4090": ("llama-3.2-1b", None),
    "h100-sxm": ("llama-3.1-8b", None),
    "h800-sxm": ("mistral-7b-v0.3", None),
    "h200-sxm": ("qwen3-14b", "fp8"),
    "b200-sxm": ("qwen3-32b", None),
    "gb10": ("gemma-3-1b", None),
    "rtx-pro-6000": ("gemma-2-9b", None),
    "rtx-5090": ("phi-4", None),
    "mi300x": ("llama-3.1-70b", None),
}
#: (batch, context) of the grid.
LENGTHS = {"prefill": ((1, 2048), (4, 512)), "decode": ((1, 4096), (32, 1024))}
COLUMNS = ("estimated_speedup", "estimated_low", "estimated_high", "ideal_speedup", "bound_speedup", "claim",
           "dense_seconds", "pruned_seconds")  # fmt: skip


def every() -> Pairs:
    """Yield all kept predictions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in (sweeps, ops, waterfalls, inverse, kernels, memory, per_layer, fits, rankings):
            yield from part()


def sweeps() -> Pairs:
    """Families x GPUs x stacks x phases, from `sweep`."""
    for gpu, (model, dtype) in GRID.items():
        for phase, points in LENGTHS.items():
            batch, context = (np.array(column) for column in zip(*points, strict=True))
            grid = pis.sweep(
                models=model, hardware=gpu, stacks=STACKS, dtype=dtype, methods=FAMILIES, sparsity=[0.5],
                workloads=pis.Workload.of(phase, batch, context), progress=False,
            )  # fmt: skip
            for row in grid.to_dict("records"):
                where = f"{gpu}/{row['stack']}/{phase}/b{row['batch']:g}/c{row['context']:g}/{row['method']}"
                for name in COLUMNS if row["stack"] != "ideal" else ("ideal_speedup", "pruned_seconds"):
                    yield f"sweep/{where}/{name}", row[name]


def ops() -> Pairs:
    """Seconds, FLOPs and bytes of each op, at two sparsities."""
    for gpu, stack in (("h100-sxm", "vendor"), ("rtx-pro-6000", "paper")):
        for phase in LENGTHS:
            dense = pis.trace("llama-3.1-8b", pis.Workload.of(phase, 2, 1000))
            for family in FAMILIES:
                frame = pis.estimate(dense.prune(pis.pruning.get(family, 0.25)), hardware=gpu, stack=stack).to_frame()
                for i, row in enumerate(frame.to_dict("records")):
                    yield f"ops/{gpu}/{stack}/{phase}/{family}/{i}-{row['name']}/seconds", row["seconds"]
                yield f"ops/{gpu}/{stack}/{phase}/{family}/flops", frame["flops"].sum()
                yield f"ops/{gpu}/{stack}/{phase}/{family}/bytes", frame["bytes"].sum()


def waterfalls() -> Pairs:
    """Steps from the claim to the estimate."""
    for gpu, stack in (("l40s", "vendor"), ("rtx-pro-6000", "paper"), ("h100-sxm", "ideal")):
        for phase in LENGTHS:
            dense = pis.trace("llama-3.2-1b", pis.Workload.of(phase, 4, 1024))
            for family in FAMILIES:
                why = pis.explain(dense, dense.prune(pis.pruning.get(family, 0.5)), hardware=gpu, stack=stack)
                for step, seconds in why.steps.items():
                    yield f"explain/{gpu}/{stack}/{phase}/{family}/{step}", float(seconds)


def inverse() -> Pairs:
    """Headroom, required efficiency, break-even, widths."""
    for gpu in ("h100-sxm", "rtx-4090"):
        for phase in LENGTHS:
            dense = pis.trace("llama-3.1-8b", pis.Workload.of(phase, 1, 2048))
            for family in FAMILIES:
                pruned = dense.prune(pis.pruning.get(family, 0.4))
                room = pis.max_speedup(dense, pruned, hardware=gpu)
                for name in ("perfect_changed", "perfect_all", "amdahl"):
                    yield f"headroom/{gpu}/{phase}/{family}/{name}", float(getattr(room, name))
                need = pis.required_efficiency(1.05, dense, pruned, hardware=gpu)
                yield f"headroom/{gpu}/{phase}/{family}/required", float(need)
    for axis in ("sparsity", "batch", "context"):
        for stack in ("vendor", "paper"):
            found = pis.break_even(
                axis=axis, method="dynamic-depth", model="llama-3.1-8b", hardware="rtx-pro-6000", stack=stack
            )
            for i, crossing in enumerate(found):
                yield f"break-even/{axis}/{stack}/{i}", crossing.value
    table = pis.suggest_width("llama-3.1-8b", pis.Workload.prefill(1, 2048), hardware="a100-sxm-80gb", width=9000)
    for row in table.to_dict("records"):
        yield f"width/{row['width']:g}", row["mlp_seconds"]


def kernels() -> Pairs:
    """Single kernels, cold and replayed."""
    sizes = ((1, 4096, 4096), (33, 14336, 4096), (512, 1024, 4096), (4096, 4096, 14336), (100, 4100, 1001))
    for gpu in ("a100-sxm-80gb", "h100-sxm", "b200-sxm", "l40s", "rtx-4090", "gb10"):
        for m, n, k in sizes:
            for kernel in ("dense", "2:4"):
                for cache in ("cold", "replayed"):
                    seconds = pis.gemm_latency(m, n, k, hardware=gpu, kernel=kernel, cache=cache)  # type: ignore[arg-type]
                    yield f"gemm/{gpu}/{kernel}/{cache}/{m}x{n}x{k}", float(seconds)
        for phase, query, context in (("prefill", 2048, 2048), ("prefill", 100, 4000), ("decode", 1, 9000)):
            for heads, kv in ((32, 8), (16, 16)):
                for cache in ("cold", "replayed"):
                    seconds = pis.attention_latency(
                        phase=phase, batch=3, query_len=query, context=context, heads=heads, kv_heads=kv,
                        hardware=gpu, cache=cache,
                    )  # fmt: skip
                    yield f"attention/{gpu}/{phase}/{cache}/{query}/{context}/{heads}/{kv}", float(seconds)


def memory() -> Pairs:
    """Bytes of weights and KV cache."""
    for model in ("llama-3.1-8b", "gemma-2-9b", "qwen2.5-0.5b"):
        dense = pis.trace(model, pis.Workload.decode(8, 4096))
        for family in FAMILIES:
            sides = pis.sweep(
                models=model, hardware="h100-sxm", workloads=pis.Workload.decode(8, 4096), methods=family,
                sparsity=[0.5], stacks="ideal",
            )  # fmt: skip
            yield f"memory/{model}/{family}/dense", float(sides["dense_bytes"].iloc[0])
            yield f"memory/{model}/{family}/pruned", float(sides["pruned_bytes"].iloc[0])
        yield f"memory/{model}/flops", float((dense.flops * dense.count).sum())


def per_layer() -> Pairs:
    """Ratios per layer and per block."""
    dense = pis.trace("llama-3.2-1b", pis.Workload.decode([1, 8], 2048))
    ratios = np.linspace(0.1, 0.5, 16)
    blocks = pis.pruning.PerBlock(attention=0.25, mlp=0.5)
    made: dict[str, Any] = {
        "width/layer": pis.pruning.StaticWidth(pis.pruning.PerLayer(ratios)),
        "low-rank/layer": pis.pruning.LowRank(pis.pruning.PerLayer(ratios)),
        "cross/layer": pis.pruning.StaticWidthCross(pis.pruning.PerLayer(ratios)),
        "dynamic/layer": pis.pruning.DynamicDepth(pis.pruning.PerLayer(ratios)),
        "attention/layer": pis.pruning.SparseAttention(pis.pruning.PerLayer(ratios)),
        "2of4/layer": pis.pruning.SemiStructured(pis.pruning.PerLayer(ratios)),
        "width/block": pis.pruning.StaticWidth(blocks),
        "depth/block": pis.pruning.StaticDepth(blocks),
        "depth/sublayer": pis.pruning.StaticDepth(0.3, unit="sublayer"),
        "depth/listed": pis.pruning.StaticDepth(layers=(3, 7), mlp_layers=(9,)),
    }
    for name, method in made.items():
        for stack in ("vendor", "paper"):
            result = pis.compare(dense, dense.prune(method), hardware="a100-sxm-80gb", stack=stack)
            for i in range(2):
                yield f"ratios/{stack}/{name}/{i}/estimated", float(np.asarray(result.estimated)[i])
                yield f"ratios/{stack}/{name}/{i}/low", float(np.asarray(result.interval[0])[i])
                yield f"ratios/{stack}/{name}/{i}/claim", float(np.broadcast_to(np.asarray(result.claim), 2)[i])


def fits() -> Pairs:
    """Calibrations of made-up cards that are slower than the shipped ones."""
    m, n = (axis.ravel() for axis in np.meshgrid([1, 64, 512, 4096], [1024, 4096, 14336]))
    slow = 1.2e6 * np.asarray(pis.gemm_latency(m, n, 4096, hardware="h100-sxm", cache="replayed"))
    rows = pd.DataFrame({"gpu": "h100-sxm", "dtype": "bf16", "m": m, "n": n, "k": 4096, "latency_us": slow})
    fit = pis.calibrate("gemm", rows, hardware="h100-sxm", source="made up")
    for row in fit.table().to_dict("records"):
        yield f"fit/gemm/{row['parameter']}", row["value"]
    for row in pis.validate(rows, "l40s").to_dict("records") if "l40s" in set(rows["gpu"]) else ():
        yield f"validate/{row['quantity']}/{row['regime']}", row["mape"]
    for row in pis.validate(rows, "h100-sxm").to_dict("records"):
        yield f"validate/{row['quantity']}/{row['regime']}", row["mape"]


def rankings() -> Pairs:
    """GPUs side by side."""
    frame = pis.compare_hardware(
        "llama-3.1-8b", [pis.Workload.prefill(1, 4096), pis.Workload.decode(16, 4096)],
        ["static-width", "low-rank"], hardware=["h100-sxm", "l40s", "rtx-4090"],
    )  # fmt: skip
    for row in frame.to_dict("records"):
        where = f"{row['phase']}/{row['hardware']}/{row['method']}"
        for name in ("estimated_speedup", "estimated_low", "tokens_per_second", "memory_share", "limited_share"):
            yield f"ranking/{where}/{name}", row[name]
