"""Helpers that every pruning method uses: which ops to change, widths, rows that a method adds, what it achieved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim._util.arrays import FloatArray, among
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning.ratios import PerBlock, PerLayer, PerRole, Ratio, asked
from pruninfersim.trace import Applied, OpTrace

#: Names of the GEMMs that carry the prunable weights of a layer.
LINEAR = ("q", "k", "v", "o", "gate", "up", "down", "qkv", "gate_up")
#: Norm that opens a block; it goes when the sub-layer goes.
OPENER = {"attention": "attn_norm", "mlp": "mlp_norm"}
#: Slack of a rounding, so that 0.1 + 0.2 layers do not become one more or one less.
TINY = 1e-9


def targets(
    trace: OpTrace, method: str, roles: Sequence[str], kernels: Sequence[str], *, keeps_kernel: bool = False
) -> NDArray[np.bool_]:
    """Return the ops of some roles that a method is to change, shape (op,) of bool.

    Parameters
    ----------
    keeps_kernel : bool
        Whether the changed ops run on the kernels that they had: then the other method can come second.

    Raises
    ------
    InvalidInputError
        If the model, or another method, has given one of these roles a kernel that this method cannot change: it would
        be passed over in silence.
    """
    named = among(trace.roles, roles)
    ready = named & trace.mask(kernels=kernels)
    taken = sorted({trace.kernel[i] for i in np.flatnonzero(named & ~ready)})
    if taken:
        earlier = " and ".join(dict.fromkeys(applied.method for applied in trace.applied))
        if not earlier:
            where = trace.model.name if trace.model else "this trace"
            raise InvalidInputError(
                f"{method} changes {' and '.join(kernels)} ops, and {where} has {', '.join(taken)}: the method does "
                "not go with this architecture"
            )
        advice = (
            f"Apply {method} first, and {earlier} after it"
            if keeps_kernel
            else f"In no order do {method} and {earlier} go together: no kernel does both. Leave one of them out, or "
            "give them different blocks"
        )
        raise InvalidInputError(
            f"{method} changes {' and '.join(kernels)} ops, but some run as {', '.join(taken)} already. {advice}"
        )
    return np.asarray(ready)


def no_kernel(pattern: str, dtype: str) -> str:
    """Return why a sparsity pattern and a format of weights do not go together, for a reader."""
    return (
        f"no kernel that was timed runs {pattern} weights in {dtype}: cuSPARSELt has them in bf16, fp16, fp8 and int8 "
        "(Sparse-Marlin serves int4 in groups of 128 on Ampere only, without timings here). Leave one of the two out, "
        "or take fp8"
    )


def round_up(values: ArrayLike, multiple: float, limit: ArrayLike = np.inf) -> FloatArray:
    """Round widths up to a multiple, at least one multiple and never above `limit`.

    >>> round_up([1638.4, 3.0], 16, limit=[4096, 8]).tolist()
    [1648.0, 8.0]
    """
    rounded = np.ceil(np.asarray(values) / multiple - TINY) * multiple
    return np.asarray(np.minimum(np.maximum(rounded, multiple), limit), dtype=np.float64)


def record(
    pruned: OpTrace,
    method: str,
    ratio: Ratio,
    achieved: Mapping[str, Any],
    *,
    of: OpTrace | None = None,
    sparsity: FloatArray | None = None,
) -> OpTrace:
    """Return the pruned trace with a note of what a method was asked to remove, and what it removed after rounding.

    Parameters
    ----------
    pruned : OpTrace
    method : str
    ratio : Ratio
    achieved : mapping of str to array_like
        Sparsity reached per kind of block [1].
    of : OpTrace, optional
        Before the method, unfolded where the ratio is per layer; default is `pruned`. Weighs the parts of a ratio that
        is not the same for all.
    sparsity : ndarray, shape (*sweep, op of `of`), optional
        What is asked of each op [1]; needed for such a ratio only.

    >>> from pruninfersim import Workload, trace
    >>> noted = record(trace("llama-3.1-8b", Workload.decode()), "mine", 0.5, {"mlp": 0.48})
    >>> float(noted.applied[0].asked), float(noted.applied[0].achieved["mlp"])
    (0.5, 0.48)
    """
    reached = {block: np.asarray(value, dtype=np.float64) for block, value in achieved.items()}
    by_role: dict[str, FloatArray] = {}
    before = pruned if of is None else of
    if sparsity is not None and isinstance(ratio, PerLayer | PerBlock | PerRole):
        roles = np.array(before.roles)
        by_role = {str(role): mean_where(sparsity, roles == role, before.count) for role in dict.fromkeys(before.roles)}
    note = Applied(method, asked(before, ratio, sparsity), reached, by_role)
    return replace(pruned, applied=(*pruned.applied, note))


def mean_where(values: FloatArray, which: np.ndarray, weights: FloatArray) -> FloatArray:
    """Return the weighted mean of per-op values over the chosen ops, shape (*sweep); 0 where nothing is chosen."""
    weight = np.where(which, weights, 0.0)
    total = weight.sum(axis=-1)
    mean = (values * weight).sum(axis=-1) / np.where(total > 0, total, 1.0)
    return np.asarray(mean)


def openers(trace: OpTrace, block: str) -> list[int]:
    """Return which ops open a block: its norm, or the first GEMM of an MLP that shares the norm of attention."""
    for name in (OPENER[block], "up"):
        index = [i for i, (own, b) in enumerate(zip(trace.name, trace.block, strict=True)) if (own, b) == (name, block)]
        if index:
            return index
    return []


def overhead_rows(trace: OpTrace, block: str, *, wide: Sequence[str] = (), **columns: Any) -> list[dict[str, Any]]:
    """Return rows of work that a method adds to every layer that still has `block`.

    Each row takes its count, layers and element sizes from a norm that opens the block, so that it goes when the
    block goes; an unfolded trace gets one row per layer. The columns named in `wide` are the hidden size there.

    Raises
    ------
    InvalidInputError
        If the trace has no such block.
    """
    index = openers(trace, block)
    if not index:
        raise InvalidInputError(f"the trace has no {block} block left to prune; apply this method before removing it")
    return [
        {
            "block": block,
            "layers": trace.layers[i],
            "dtype": trace.dtype[i],
            "count": trace.count[..., i],
            "m": trace.m[..., i],
            "a_bytes": trace.a_bytes[..., i],
            "b_bytes": trace.a_bytes[..., i],
            "out_bytes": trace.out_bytes[..., i],
        }
        | dict.fromkeys(wide, trace.k[..., i])
        | columns
        for i in index
    ]
