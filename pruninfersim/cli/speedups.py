"""Commands about one model on one GPU: ``speedup``, ``trace``, ``explain``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

import pruninfersim as pis
from pruninfersim.cli.options import Format, Output, Question, Sparsity, asks, methods
from pruninfersim.cli.program import app
from pruninfersim.cli.show import show
from pruninfersim.errors import ProvenanceWarning


@app.command()
@asks()
def speedup(
    question: Question,
    method: Annotated[
        str, typer.Option(help="Pruning methods: a name, several with commas, a+b for one after the other, or all.")
    ] = "all",
    sparsity: Sparsity = 0.5,
    against: Annotated[
        Path | None, typer.Option(help="config.json of the parent: compare this (pruned) model with it, no method.")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Predict the speedup of pruning methods, or of a pruned checkpoint over its parent."""
    setup, workload = question.setup, question.workload()
    results: dict[str, pis.Speedup] = {}
    notes: list[str] = []
    with warnings.catch_warnings():
        # The notes of each result say the same and are printed below the table.
        warnings.simplefilter("ignore", ProvenanceWarning)
        if against is not None:
            result = pis.compare(
                pis.ModelConfig.from_hf(against),
                setup.model,
                hardware=setup.hardware,
                stack=setup.stack,
                workload=workload,
            )
            results[result.method] = result
        for chosen in methods(method) if against is None else []:
            # Of all methods, those that cannot do what is asked are left out; of the ones that were named, none.
            all_of = pis.pruning.METHODS[chosen] if method == "all" and isinstance(chosen, str) else None
            why = all_of and pis.pruning.unfit(all_of, sparsity, setup.hardware, setup.dtype)
            if why:
                notes.append(f"{chosen}: left out, {why}")
                continue
            result = setup.speedup(chosen, sparsity, workload)
            results[result.method] = result
    if output is Format.json:
        typer.echo(json.dumps({name: result.to_dict() for name, result in results.items()}, indent=2))
        return
    frame = pd.DataFrame([_row(name, result) for name, result in results.items()])
    show(frame, output, title=f"Speedup of {question}", caption=_caption(results, notes))


def _row(name: str, result: pis.Speedup) -> dict[str, Any]:
    achieved = {block: float(value) for blocks in result.achieved.values() for block, value in blocks.items()}
    low, high = result.interval
    return {
        "method": name,
        "achieved attention": achieved.get("attention", 0.0),
        "achieved mlp": achieved.get("mlp", 0.0),
        "1/(1-s)": result.claim,
        "flops": result.flops,
        "ideal": result.ideal,
        "estimated": result.estimated,
        "low": low,
        "high": high,
        "headroom": result.headroom,
        "bound": result.bound,
        "dense [ms]": float(result.dense.latency) * 1e3,
        "pruned [ms]": float(result.pruned.latency) * 1e3,
    }


def _caption(results: dict[str, pis.Speedup], notes: list[str]) -> str:
    lines = [
        "estimated: what this stack delivers, 90 % interval low to high.",
        "headroom: the same with perfect kernels for the ops that change.",
        "bound: no kernels and no fusion make it faster.",
        "ideal: both sides at their roofline. flops: ratio of FLOPs. 1/(1-s): the usual claim.",
    ]
    lines += [f"{name}: {note}" for name, result in results.items() for note in result.notes]
    return "\n".join(lines + notes)


@app.command()
@asks()
def trace(
    question: Question,
    method: Annotated[str | None, typer.Option(help="Pruning method to apply first.")] = None,
    sparsity: Sparsity = 0.5,
    output: Output = Format.table,
) -> None:
    """Print every op of a forward pass: shape, FLOPs, bytes, time and what bounds it."""
    ops = question.setup.trace(question.workload())
    if method is not None:
        ops = ops.prune(*(pis.pruning.resolve(part, sparsity) for part in methods(method)))
    result = question.setup.estimate(ops)
    show(result.to_frame(), output, title=f"{question}: {result!r}", caption="\n".join(result.notes))


@app.command()
@asks()
def explain(
    question: Question,
    method: Annotated[str, typer.Option(help="Name of a pruning method, or a+b for one after the other.")],
    sparsity: Sparsity = 0.5,
    output: Output = Format.table,
) -> None:
    """Say why a pruned model is not faster: steps from the claim 1/(1-s) to the estimate, which add up."""
    setup = question.setup
    dense = setup.trace(question.workload())
    pruned = dense.prune(*(pis.pruning.resolve(part, sparsity) for part in methods(method)))
    why = pis.explain(dense, pruned, hardware=setup.hardware, stack=setup.stack)
    frame = why.to_frame()
    if output is Format.table:
        # Rounded to a femtosecond: a step that cancels exactly is 0, not what floating point leaves of it.
        milliseconds = frame[["seconds", "total_seconds"]].mul(1e3).round(12)
        frame = pd.DataFrame(
            {
                "step": frame["step"],
                "added [ms]": milliseconds["seconds"],
                "total [ms]": milliseconds["total_seconds"],
                "speedup so far": frame["speedup_so_far"],
                "meaning": frame["meaning"],
            }
        )
    dense_time = f"dense {float(why.speedup.dense.latency) * 1e3:.4g} ms"
    title = f"{why.speedup.method} at sparsity {sparsity:g}, {question}; {dense_time}"
    show(frame, output, title=title, caption="\n".join(why.speedup.notes))
