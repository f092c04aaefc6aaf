"""A trace in parts: ops of one kernel, dtype and pattern, with columns no longer than they vary.

Weights, tokens and keys of a sweep vary along different axes, but a column of a trace holds all ops, and so has all of
these axes. Split by kernel, most columns are short again, and what is worked out from them is, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray, first_last, last_first, sealed
from pruninfersim.trace.optrace import LABELS, NEUTRAL, OpTrace, picked

#: Up to this many entries of ``(*sweep, op)``, splitting a trace costs more than it saves.
SMALL = 64


class Part(NamedTuple):
    """Some ops of a trace.

    Attributes
    ----------
    which : ndarray of int, shape (op of the part,)
        Place of each op in the trace.
    ops : OpTrace
        Columns that broadcast to (*sweep, op of the part).
    """

    which: NDArray[np.intp]
    ops: OpTrace


def parts(trace: OpTrace) -> tuple[Part, ...]:
    """Return the parts of a trace: one for each kernel, dtype and pattern, or all ops in one if the trace is small."""
    small = math.prod(trace.shape) <= SMALL
    return (Part(np.arange(len(trace)), trace),) if small else split(trace)


@lru_cache(maxsize=8)
def split(trace: OpTrace) -> tuple[Part, ...]:
    """Return one part for each kernel, dtype and pattern.

    >>> from pruninfersim.trace import trace
    >>> from pruninfersim.workload import Workload
    >>> step = trace("llama-3.1-8b", Workload.decode(batch=[[1], [8]], context=[512, 1024, 2048]))
    >>> [(part.ops.kernel[0], part.ops.shape) for part in split(step)][1:3]
    [('norm', (2, 1, 3)), ('gemm', (2, 1, 7))]
    """
    members: dict[Any, list[int]] = {}
    for i, kind in enumerate(zip(trace.kernel, trace.dtype, trace.pattern, strict=True)):
        members.setdefault(kind, []).append(i)
    plain = [name for name in NEUTRAL if getattr(trace, name).ndim == 1]
    matrix = np.array([getattr(trace, name) for name in plain])  # one matrix is much faster than many short columns
    wide = {name: getattr(trace, name) for name in NEUTRAL if name not in plain}
    out = []
    for index in members.values():
        columns: dict[str, Any] = dict(zip(plain, sealed(matrix[:, index]), strict=True))
        columns |= {name: sealed(shortened(column[..., index])) for name, column in wide.items()}
        labels: dict[str, Any] = {name: picked(getattr(trace, name), index) for name in LABELS}
        ops = OpTrace(**columns, **labels, model=trace.model, workload=trace.workload, applied=trace.applied)
        out.append(Part(np.array(index), ops))
    return tuple(out)


def total(trace: OpTrace, values: Callable[[OpTrace], FloatArray]) -> FloatArray:
    """Return the sum over all ops of what `values` says of some, as a read-only array, shape (*sweep)."""
    out = sum((np.asarray(values(part.ops)).sum(axis=-1) for part in parts(trace)), np.zeros(()))
    return np.broadcast_to(out, trace.sweep_shape)


def squeezed(column: NDArray[Any], axes: int) -> NDArray[Any]:
    """Return a column of length 1 along those of its first axes along which it does not vary."""
    for axis in range(axes):
        if column.shape[axis] > 1:
            along = (slice(None),) * axis
            first = column[(*along, slice(0, 1))]
            # The last entry alone tells most columns that vary from those that do not.
            if (column[(*along, slice(-1, None))] == first).all() and (column == first).all():
                column = first
    return column


def shortened(column: NDArray[Any]) -> NDArray[Any]:
    """Return a column, shape (*sweep, op), without the sweep axes along which it does not vary (of length 1 there).

    Each op is contiguous in memory: sums over ops, and products along a sweep, are several times as fast as on rows of
    a few ops.

    >>> shortened(np.array([[1.0, 5.0], [1.0, 5.0]])).tolist()
    [1.0, 5.0]
    """
    column = squeezed(column, column.ndim - 1)
    if column.size == column.shape[-1]:
        return column.reshape(-1)
    return first_last(np.ascontiguousarray(last_first(column)))
