"""How a result knows its question: as one line, as rows of a table, as plain values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pruninfersim._util.arrays import ends
from pruninfersim.cost.memory import kv_memory, weight_memory
from pruninfersim.hardware import HardwareProfile
from pruninfersim.trace import OpTrace

if TYPE_CHECKING:
    from pruninfersim.questions.comparison import Speedup

#: Most points of a sweep that a printed table shows.
MOST_ROWS = 12
#: Columns of a printed table, of those of `rows`, with the head that a reader sees.
SHOWN = {
    "sparsity": "sparsity",
    "batch": "batch",
    "context": "context",
    "estimated_speedup": "estimated",
    "estimated_low": "low",
    "estimated_high": "high",
    "headroom_speedup": "headroom",
    "bound_speedup": "bound",
}


def methods_of(trace: OpTrace) -> str:
    """Return the methods that a trace went through, each with the sparsity that was asked of it; empty if none.

    >>> from pruninfersim import Workload, pruning, trace
    >>> methods_of(trace("llama-3.1-8b", Workload.decode()).prune(pruning.LowRank(0.25)))
    'low-rank 0.25'
    """
    return " + ".join(f"{applied.method} {_rounded(applied.asked)}" for applied in trace.applied)


def _rounded(values: Any) -> str:
    return ends(np.round(np.asarray(values, dtype=np.float64), 4))


def case_of(trace: OpTrace, hardware: HardwareProfile, stack: str) -> str:
    """Return model, GPU, workload, software and precision of a trace as one line.

    >>> from pruninfersim import Workload, hardware, trace
    >>> case_of(trace("llama-3.1-8b", Workload.decode([1, 8], 4096)), hardware.get("l40s"), "vendor")
    'llama-3.1-8b on l40s, decode, batch 1 to 8, context 4096, vendor, bf16'
    """
    parts = [f"{trace.model.name if trace.model else 'own trace'} on {hardware.name}"]
    if trace.workload is not None:
        parts += [
            trace.workload.phase, f"batch {ends(trace.workload.batch)}", f"context {ends(trace.workload.context)}",
        ]  # fmt: skip
    return ", ".join([*parts, stack, dtype_of(trace)])


def dtype_of(trace: OpTrace) -> str:
    """Return the precision of the linear layers: that of most FLOPs."""
    if not len(trace):
        return ""
    work = np.broadcast_to(trace.flops * trace.count, trace.shape).reshape(-1, len(trace)).max(axis=0)
    return trace.dtype[int(np.argmax(work))]


def rows(result: Speedup) -> dict[str, Any]:
    """Return one column per fact of a result, each of shape (point,), with the names that `pruninfersim.sweep` uses."""
    before, after = result.dense, result.pruned
    shape = np.shape(result.estimated)
    workload, achieved = after.trace.workload, dict.fromkeys(("attention", "mlp"), np.asarray(1.0))
    for reached in result.achieved.values():
        achieved = {block: kept * (1.0 - np.asarray(reached.get(block, 0.0))) for block, kept in achieved.items()}
    claim = np.nan if result.claim is None else result.claim
    numbers: dict[str, Any] = {
        "batch": np.nan if workload is None else workload.batch,
        "context": np.nan if workload is None else workload.context,
        "sparsity": 1.0 - 1.0 / np.asarray(claim),
        **{f"achieved_{block}": 1.0 - kept for block, kept in achieved.items()},
        "claim": claim,
        "flops_speedup": result.flops,
        "ideal_speedup": result.ideal,
        "estimated_speedup": result.estimated,
        "estimated_low": result.interval[0],
        "estimated_high": result.interval[1],
        "headroom_speedup": result.headroom,
        "bound_speedup": result.bound,
        "dense_seconds": before.total,
        "pruned_seconds": after.total,
    }
    room = result.hardware.memory_size
    for name, side in (("dense", before), ("pruned", after)):
        numbers[f"{name}_bytes"] = weight_memory(side.trace) + kv_memory(side.trace)
        numbers[f"{name}_fits"] = numbers[f"{name}_bytes"] <= room
    if len(after.trace.applied) == 1:  # of one method, what was asked; of several, what all of them claim
        numbers["sparsity"] = after.trace.applied[0].asked
    flat = {name: np.broadcast_to(np.asarray(value), shape).reshape(-1) for name, value in numbers.items()}
    labels = {
        "model": result.model.name if result.model else "",
        "hardware": result.hardware.name,
        "stack": result.stack,
        "method": result.method,
        "phase": workload.phase if workload else "",
        "dtype": dtype_of(before.trace),
    }
    size = int(np.prod(shape, dtype=int))
    return {name: [label] * size for name, label in labels.items()} | flat


def plain(value: Any) -> Any:
    """Return numbers as floats and bools, and arrays as nested lists of them, ready for JSON."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def printed(columns: dict[str, Any], *, labels: tuple[str, ...] = ()) -> str:
    """Return rows as a short table of text: the points, the estimate with its interval, headroom and bound."""
    names = [*labels, *SHOWN]
    size = len(columns["estimated_speedup"])
    varies = [name for name in names if name in SHOWN and (name not in ("sparsity", "batch", "context")
              or len(set(np.asarray(columns[name]).tolist())) > 1 or size == 1)]  # fmt: skip
    shown = [*labels, *varies]
    lines = [[SHOWN.get(name, name) for name in shown]]
    for i in range(min(size, MOST_ROWS)):
        lines.append([_cell(name, columns[name][i]) for name in shown])
    text = aligned(lines, left=[j for j, name in enumerate(shown) if name in labels])
    more = [f"... {size - MOST_ROWS} more: to_frame()"] if size > MOST_ROWS else []
    return "\n".join([text, *more])


def aligned(lines: Sequence[Sequence[str]], *, left: Collection[int] = ()) -> str:
    """Return rows of cells as columns of text; those at the places `left` are words, the others numbers.

    >>> print(aligned([["method", "loss"], ["low-rank", "6.7"]], left=[0]))
    method    loss
    low-rank   6.7
    """
    widths = [max(len(line[j]) for line in lines) for j in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if j in left else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{float(value):g}" if name in ("sparsity", "batch", "context") else f"{float(value):.2f}"
