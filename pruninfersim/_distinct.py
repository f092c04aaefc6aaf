"""Each distinct op shape is priced once: find the distinct rows of a sweep, and put their results back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruninfersim._arrays import sealed
from pruninfersim.trace import LABELS, NEUTRAL, OpTrace

#: Columns that say how often an op runs, not how long one run takes.
UNTIMED = ("count", "launches")
#: Below this many ops, finding duplicates costs more than pricing them.
SMALL = 64
#: Codes that are spread over more than this many times their number are squeezed by sorting.
SPARSE = 8


def distinct(ops: OpTrace) -> tuple[OpTrace, NDArray[np.intp]]:
    """Return the distinct shapes of ops that share kernel and dtype, and which of them each op is.

    Parameters
    ----------
    ops : OpTrace
        All of one kernel and one dtype.

    Returns
    -------
    shapes : OpTrace
        Sweep shape (shape,), one op.
    index : ndarray of int, shape (*sweep, op)
        ``shapes`` entry of each op.

    >>> rows = [{"m": [1, 8, 1]}, {"m": 8}]
    >>> shapes, index = distinct(OpTrace.from_rows(rows))
    >>> index.shape, shapes.shape
    ((3, 2), (2, 1))
    """
    full = ops.shape
    size = int(np.prod(full))
    timed = [name for name in NEUTRAL if name not in UNTIMED]
    code = np.zeros((1,) * len(full), dtype=np.int64)
    span = 1
    for name in timed:
        column = getattr(ops, name)
        if column.min() == column.max():
            continue
        values, inverse = np.unique(column, return_inverse=True)
        code, span = code * len(values) + inverse.reshape(column.shape), span * len(values)
        if span > SPARSE * size:
            code, span = _squeezed(code, span)
    code, span = _squeezed(code, span)
    index = np.broadcast_to(code, full)
    first = np.empty(span, dtype=np.intp)
    first[index.reshape(-1)[::-1]] = np.arange(size - 1, -1, -1)
    place = np.unravel_index(first, full)
    columns: dict[str, Any] = {
        name: sealed(np.broadcast_to(getattr(ops, name), full)[place][:, None]) for name in timed
    }
    columns |= {name: sealed(np.ones(1)) for name in UNTIMED}
    labels: dict[str, Any] = {name: getattr(ops, name)[:1] for name in LABELS}
    return replace(ops, **columns, **labels), index


def _squeezed(code: NDArray[np.int64], span: int) -> tuple[NDArray[np.int64], int]:
    """Renumber codes below `span` without gaps."""
    if span > SPARSE * code.size:  # sorting beats a table of all possible codes
        values, inverse = np.unique(code, return_inverse=True)
        return inverse.reshape(code.shape).astype(np.int64), len(values)
    used = np.zeros(span, dtype=bool)
    used[code] = True
    number = np.cumsum(used) - 1
    return number[code], int(number[-1]) + 1
