"""Copies around the token-wise GEMMs of a sub-layer, as one would write it: gather once, scatter once."""

from __future__ import annotations

from typing import Any

import numpy as np

from pruninfersim.trace import OpTrace

#: GEMMs that read the rows which the gather of their sub-layer has packed.
FIRST = ("q", "gate", "up", "gate_up")
#: GEMMs whose rows the scatter of their sub-layer puts back into the residual stream.
LAST = ("o", "down")


def with_token_copies(trace: OpTrace) -> OpTrace:
    """Return the trace with the gather and the scatter of every token-wise sub-layer.

    The kept rows are packed before q and before gate and up, which share them; o and down put theirs back. What lies
    between runs on packed rows. A single token is a row already: it runs or not, and nothing is copied.

    Ops that are neither first nor last, or a trace that has its copies, get none.

    >>> from pruninfersim import Workload, pruning
    >>> from pruninfersim.trace import trace
    >>> step = trace("llama-3.1-8b", Workload.prefill(1, 512)).prune(pruning.DynamicDepth(0.5))
    >>> [name for name in with_token_copies(step).name if name.startswith(("gather", "scatter"))]
    ['gather_attention', 'scatter_attention', 'gather_mlp', 'scatter_mlp']
    """
    if "token_copy" in trace.kernel:
        return trace
    token_wise = np.flatnonzero(trace.mask(kernels=["token_gemm"])).tolist()
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for i in token_wise:
        role = trace.name[i]
        if role in FIRST + LAST:
            what = "gather" if role in FIRST else "scatter"
            rows.setdefault((what, trace.block[i], trace.layers[i], trace.dtype[i]), _copy(trace, i, what))
    return trace.concat(OpTrace.from_rows(list(rows.values()))) if rows else trace


def _copy(trace: OpTrace, i: int, what: str) -> dict[str, Any]:
    """Return the row of a copy beside GEMM `i`: what it reads, or what it writes, once in and once out."""
    first = what == "gather"
    width, axis = (trace.k, trace.k_axis) if first else (trace.n, trace.n_axis)
    size, kept = (trace.a_bytes, trace.a_reads) if first else (trace.out_bytes, trace.out_writes)
    tokens = trace.m[..., i]
    return {
        "name": f"{what}_{trace.block[i]}",
        "kernel": "token_copy",
        "block": trace.block[i],
        "dtype": trace.dtype[i],
        "layers": trace.layers[i],
        "count": trace.count[..., i],
        "m": tokens,
        "n": width[..., i],
        "k": width[..., i],
        "n_axis": axis[i],
        "k_axis": axis[i],
        "a_bytes": size[..., i],
        "b_bytes": size[..., i],
        "out_bytes": size[..., i],
        "a_reads": np.where(tokens > 1, kept[..., i], 0.0),
        "out_writes": np.where(tokens > 1, kept[..., i], 0.0),
        "launches": np.where(tokens > 1, 1.0, 0.0),
    }
