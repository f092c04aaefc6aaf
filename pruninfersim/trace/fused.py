"""Projections that read the same activations as one GEMM, as serving engines run them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pruninfersim.trace.optrace import OpTrace

#: Fused projection -> the projections that it replaces, in order.
FUSED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}


def fused(trace: OpTrace, columns: tuple[str, ...]) -> OpTrace:
    """Return the trace with projections fused, see `OpTrace.fuse_projections`.

    Parameters
    ----------
    trace : OpTrace
    columns : tuple of str
        Names of its numeric columns.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    part_of = {part: name for name, parts in FUSED.items() for part in parts}
    for i, (role, name) in enumerate(zip(trace.roles, trace.name, strict=True)):
        # The second halves of pairs read different inputs.
        if role in part_of and trace.k_axis[i] != "rank":
            kind = (trace.kernel[i], trace.dtype[i], trace.pattern[i], trace.layers[i])
            groups.setdefault((part_of[role], name.removeprefix(role), *kind), []).append(i)
    n, names, gone = trace.n, list(trace.name), []
    for (name, suffix, *_), index in groups.items():
        if [trace.roles[i] for i in index] != list(FUSED[name]) or not _alike(trace, index, columns):
            continue
        width = trace.n[..., index].sum(axis=-1)
        n = np.array(np.broadcast_to(n, (*np.broadcast_shapes(width.shape, n.shape[:-1]), len(trace))))
        n[..., index[0]] = width
        names[index[0]] = f"{name}{suffix}"
        gone += index[1:]
    if not gone:
        return trace
    return trace.with_columns(n=n, name=tuple(names)).select([i for i in range(len(trace)) if i not in gone])


def _alike(trace: OpTrace, index: list[int], names: tuple[str, ...]) -> bool:
    """Whether ops differ in n only, at every point of the sweep."""
    columns = [getattr(trace, name) for name in names if name != "n"]
    plain = np.array([column[index] for column in columns if column.ndim == 1])
    wide = [column[..., index] for column in columns if column.ndim > 1]
    return all(bool((column == column[..., :1]).all()) for column in (plain, *wide) if column.size)
