"""Commands about GPUs for a model: ``compare-hardware``, ``memory``."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from pruninfersim.cli import values
from pruninfersim.cli.options import Format, Methods, Output, Question, Sparsities, asks
from pruninfersim.cli.program import app
from pruninfersim.cli.show import notes, records, show
from pruninfersim.cli.speedups import method_name, pruned_cases

#: GPUs that are compared where nobody names any.
COMPARED = ["h100-sxm", "a100-sxm-80gb", "l40s", "rtx-4090"]


@app.command("compare-hardware")
@asks(gpu=COMPARED)
def compare_hardware(
    question: Question,
    method: Methods = ["all"],  # noqa: B006  # typer copies it
    sparsity: Sparsities = ["0.5"],  # noqa: B006
    price: Annotated[
        list[str], typer.Option(help="Price of an hour, GPU=PRICE, in a currency of your choice; may be repeated.")
    ] = [],  # noqa: B006
    output: Output = Format.table,
) -> None:
    """Compare GPUs for a model: speedup, rate, memory, cost."""
    import pruninfersim as pis

    prices = values.prices(price) or None
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in pruned_cases(question, method, sparsity):
        setup, case = each.case.setup, each.case
        key = (setup.model.name, setup.stack.stack, setup.dtype, case.phase, case.batch, case.context, each.sparsity)
        group = groups.setdefault(key, {"each": each, "methods": {}, "gpus": {}})
        group["methods"][each.method] = group["gpus"][setup.hardware.name] = setup
    rows, said = [], []
    for group in groups.values():
        each = group["each"]
        frame = pis.compare_hardware(
            each.case.setup.model,
            each.case.workload,
            list(group["methods"]),
            hardware=[setup.hardware for setup in group["gpus"].values()],
            sparsity=each.sparsity,
            stack=_stacks({name: setup.stack for name, setup in group["gpus"].items()}),
            dtype=each.case.setup.dtype,
            price_per_hour=prices,
        )
        for found in records(frame):
            rows.append(_gpu_row({**each.case.columns, "gpu": found["hardware"]}, found))
            if found["note"]:
                said.append((f"{found['method']} on {found['hardware']}", found["note"]))
    legend = {
        "estimated": "speedup over the dense model on the same GPU.",
        "time [ms]": "of one pass.",
        "rank": "1 is the GPU of most tokens per second among those of the same method that fit.",
        "memory [%]": "weights and KV cache over the memory of one GPU.",
    }
    drop = ("limited by", "low", "high", "bound", "memory [%]", "rank")
    show(rows, output, title="GPUs compared", legend=legend, drop=drop, own=("gpu", "method"))
    notes(said, 0)


def _stacks(costs: dict[str, Any]) -> Any:
    """Return a function from a GPU to its cost model."""
    return lambda gpu: costs[gpu.name]


def _gpu_row(asked: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    seconds, share = found["seconds"], found["memory_share"]
    row = {
        **asked,
        "sparsity": found["sparsity"],
        "method": found["method"],
        "estimated": found["estimated_speedup"],
        "low": found["estimated_low"],
        "high": found["estimated_high"],
        "bound": found["bound_speedup"],
        "time [ms]": None if seconds is None else seconds * 1e3,
        "tokens/s": found["tokens_per_second"],
        "limited by": found["limited_by"],
        "memory [%]": None if share is None else 100.0 * share,
        "fits": None if found["fits"] is None else bool(found["fits"]),
        "rank": None if found["rank_hardware"] is None else int(found["rank_hardware"]),
    }
    if "cost_per_million_tokens" in found:
        row["cost of 1M tokens"] = found["cost_per_million_tokens"]
    return row


@app.command()
@asks(phase=["decode"])
def memory(
    question: Question,
    method: Methods = ["all"],  # noqa: B006
    sparsity: Sparsities = ["0.5"],  # noqa: B006
    output: Output = Format.table,
) -> None:
    """Say whether a model fits on one GPU, and the largest batch.

    Weights and KV cache, dense and pruned.
    """
    rows: list[dict[str, Any]] = []
    dense_done = set()
    for each in pruned_cases(question, method, sparsity):
        dense, pruned = each.traces()
        if id(each.case) not in dense_done:
            dense_done.add(id(each.case))
            rows.append({**each.case.columns, "sparsity": 0.0, "method": "dense", **_memory(dense, each.case)})
        named = {"sparsity": each.sparsity, "method": method_name(each.method)}
        rows.append({**each.case.columns, **named, **_memory(pruned, each.case)})
    caption = (
        "GB are 10^9 bytes. largest batch: of sequences of this context, weights and KV cache alone: activations and "
        "what the driver and the engine need are not counted."
    )
    drop = ("KV of a sequence [GB]", "GPU [GB]")
    show(rows, output, title="Memory", caption=caption, drop=drop)


def _memory(ops: Any, case: Any) -> dict[str, Any]:
    """Return what a trace needs, and how many sequences would fit."""
    from pruninfersim.cost.memory import kv_memory, weight_memory

    mine = case.setup.stack.lower(ops)  # of several GPUs, what one of them holds
    weights, cache = float(weight_memory(mine)), float(kv_memory(mine))
    size, each = float(case.setup.hardware.memory_size), cache / case.batch
    left = size - weights
    return {
        "weights [GB]": weights / 1e9,
        "KV cache [GB]": cache / 1e9,
        "KV of a sequence [GB]": each / 1e9,
        "GPU [GB]": size / 1e9,
        "used [%]": 100.0 * (weights + cache) / size,
        "fits": weights + cache <= size,
        "largest batch": max(0, math.floor(left / each)) if each > 0 else None,
    }
