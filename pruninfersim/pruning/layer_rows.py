"""Rows of some layers apart from those of the others, and experts of fewer tokens."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.models.architectures.routing import active_share
from pruninfersim.trace import OpTrace


def split_layers(trace: OpTrace, chosen: Iterable[int]) -> OpTrace:
    """Return an equal trace in which every row stands for chosen layers only, or for others only.

    Rows of the others come first, each in front of its twin; whole rows stay as they are.

    >>> from pruninfersim import Workload
    >>> from pruninfersim import trace as make
    >>> split = split_layers(make("llama-3.1-8b", Workload.decode()), range(30, 32))
    >>> [layers[-1] for layers, name in zip(split.layers, split.name) if name == "q"]
    [29, 31]
    """
    some = frozenset(chosen)
    index: list[int] = []
    labels: list[tuple[int, ...]] = []
    shares: list[float] = []
    for i, row in enumerate(trace.layers):
        parts = [tuple(x for x in row if (x in some) is inside) for inside in (False, True)]
        for part in [part for part in parts if part] or [row]:
            index.append(i)
            labels.append(part)
            shares.append(len(part) / len(row) if row else 1.0)
    apart = trace.select(index)
    return apart.with_columns(count=apart.count * np.array(shares), layers=tuple(labels))


def experts_of(trace: OpTrace, tokens: FloatArray) -> OpTrace:
    """Return the trace with the experts that so many tokens go through; one without experts stays as it is.

    Parameters
    ----------
    trace : OpTrace
        With the tokens of each expert in its rows already.
    tokens : ndarray, shape (*sweep, op)
        Tokens before they spread over the experts.
    """
    moe = trace.mask(kernels=["moe"])
    if not moe.any():
        return trace
    top_k = trace.m * trace.batch / np.maximum(tokens, 1e-9)
    routing = next(trace.pattern[i] for i in np.flatnonzero(moe)) or "uniform"
    share = active_share(tokens, np.minimum(top_k, trace.b_batch), trace.b_batch, routing)
    return trace.with_columns(
        b_reads=np.where(moe, share, trace.b_reads), sequences=np.where(moe, tokens, trace.sequences)
    )
