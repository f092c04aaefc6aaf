"""Each distinct op shape is priced once: find the distinct shapes of a sweep, and which of them each op has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray, sealed, somewhere
from pruninfersim.trace import LABELS, SHAPE_COLUMNS, OpTrace, split, twins
from pruninfersim.trace.parts import Part, squeezed

#: Codes that are spread over more than this many times their number are squeezed by sorting.
SPARSE = 8

Codes = NDArray[np.intp]


class Group(NamedTuple):
    """Ops of one kernel, dtype and pattern, and their distinct shapes.

    Attributes
    ----------
    part : Part
        The ops.
    shapes : OpTrace
        Each shape once, as one op.
    place : ndarray of int, shape broadcasts to (*sweep, op of the part)
        Which of ``shapes``, in C order, each op has.
    """

    part: Part
    shapes: OpTrace
    place: Codes


@dataclass(frozen=True, eq=False)
class Shapes:
    """The distinct op shapes of a trace: the same question to every cost model.

    Attributes
    ----------
    trace : OpTrace
    known : OpTrace or None
        A trace that is priced already, for instance the dense one.
    old : Part or None
        Ops that run in `known` just alike, all along the sweep.
    partner : ndarray of int, shape (op of old,)
        Their places in `known`.
    groups : tuple of Group
        All others.
    """

    trace: OpTrace
    known: OpTrace | None
    old: Part | None
    partner: Codes
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, trace: OpTrace, known: OpTrace | None = None) -> Shapes:
        """Find the distinct shapes of a trace, and those that another trace has as well.

        >>> from pruninfersim import Workload, pruning, trace
        >>> dense = trace("llama-3.1-8b", Workload.decode(batch=[1, 8, 8, 64]))
        >>> pruned = dense.prune(pruning.SparseAttention([0.0, 0.1, 0.2, 0.3]))
        >>> [group.shapes.kernel[0] for group in Shapes.of(pruned, dense).groups]
        ['block_sparse_decode', 'block_score', 'block_index']
        """
        new: NDArray[np.bool_] = np.ones(len(trace), dtype=bool)
        partner: tuple[int, ...] = ()
        if known is not None:
            same, partner = twins(known, trace)
            new = somewhere(~same)
        groups, old = [], np.flatnonzero(~new)
        for part in split(trace):
            left = np.flatnonzero(new[part.which])
            if left.size:
                some = part if left.size == len(part.which) else Part(part.which[left], part.ops.select(left))
                groups.append(Group(some, *distinct(some.ops)))
        rest = Part(old, trace.select(old)) if old.size else None
        return cls(trace, known, rest, np.array(partner, dtype=np.intp)[old] if old.size else old, tuple(groups))


def distinct(ops: OpTrace) -> tuple[OpTrace, Codes]:
    """Return the distinct shapes of ops that share kernel, dtype and pattern, and which of them each op is.

    Columns that vary along different axes (tokens along the workloads, a rank along sparsities and ops) stay apart:
    their values are counted on short axes, and the shapes are the product of them.

    Parameters
    ----------
    ops : OpTrace
        All of one kernel, dtype and pattern.

    Returns
    -------
    shapes : OpTrace
        One op; one sweep axis for each set of columns that vary together.
    index : ndarray of int, shape broadcasts to (*sweep, op)
        Which of ``shapes``, in C order, each op has.

    >>> rows = [{"m": [1, 8, 1], "n": 16}, {"m": [1, 8, 1], "n": 32}]
    >>> shapes, index = distinct(OpTrace.from_rows(rows))
    >>> shapes.shape, index.tolist()
    ((2, 2, 1), [[0, 1], [2, 3], [0, 1]])
    """
    constant: dict[str, FloatArray] = {}
    parts: list[_Part] = []
    axes = len(ops.shape)
    for name in SHAPE_COLUMNS:
        column = _shortened(getattr(ops, name), axes)
        if column.size == 1:
            constant[name] = column.reshape(1)
            continue
        part = _Part({name: column}, *_counted(column))
        apart = []
        for other in parts:
            if any(a > 1 and b > 1 for a, b in zip(part.code.shape, other.code.shape, strict=True)):
                part = part.joined(other)
            else:
                apart.append(other)
        parts = [*apart, part]
    columns: dict[str, Any] = {name: sealed(value) for name, value in constant.items()}
    index: Codes = np.zeros((1,) * axes, dtype=np.intp)
    for axis, part in enumerate(parts):
        index = index * part.span + part.code
        wide = [1] * len(parts) + [1]
        wide[axis] = part.span
        columns |= {name: sealed(values.reshape(wide)) for name, values in part.values().items()}
    columns["count"] = sealed(np.ones(1))
    labels: dict[str, Any] = {name: getattr(ops, name)[:1] for name in LABELS}
    return replace(ops, **columns, **labels), index


@dataclass(frozen=True, eq=False)
class _Part:
    """Columns that vary together, and a code, from 0 to below `span`, for each combination of their values."""

    columns: dict[str, FloatArray]
    code: Codes
    span: int

    def joined(self, other: _Part) -> _Part:
        """Return the part of all columns of both."""
        code, span = _squeezed(self.code * other.span + other.code, self.span * other.span)
        return _Part(self.columns | other.columns, code, span)

    def values(self) -> dict[str, FloatArray]:
        """Return the values of each column, shape (code,)."""
        first = np.empty(self.span, dtype=np.intp)
        first[self.code.reshape(-1)] = np.arange(self.code.size)  # any op with that code will do
        shape = self.code.shape
        return {name: np.broadcast_to(column, shape).reshape(-1)[first] for name, column in self.columns.items()}


def _shortened(column: FloatArray, ndim: int) -> FloatArray:
    """Return a column of `ndim` axes, of length 1 where it is the same all along."""
    if column.size == 1 or (column == column.flat[0]).all():
        return np.asarray(column.flat[:1]).reshape((1,) * ndim)
    return squeezed(column.reshape((1,) * (ndim - column.ndim) + column.shape), ndim)


def _counted(column: NDArray[Any]) -> tuple[Codes, int]:
    """Number the distinct values of a column: code of each entry, and how many there are."""
    flat = column.reshape(-1)
    order = flat.argsort()
    ascending = flat[order]
    code = np.empty(flat.size, dtype=np.intp)
    code[order] = np.concatenate([[0], np.cumsum(ascending[1:] != ascending[:-1])])
    return code.reshape(column.shape), int(code[order[-1]]) + 1


def _squeezed(code: Codes, span: int) -> tuple[Codes, int]:
    """Renumber codes below `span` without gaps."""
    if span > SPARSE * code.size:  # sorting beats a table of all possible codes
        return _counted(code)
    used = np.zeros(span, dtype=bool)
    used[code] = True
    number = np.cumsum(used) - 1
    return number[code], int(number[-1]) + 1
