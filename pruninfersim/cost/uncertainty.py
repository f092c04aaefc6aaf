"""How the errors of kernel models add up in a step, and cancel in a ratio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray, first_last, last_first
from pruninfersim.kernels.evidence import Spread

#: Columns of a matrix product done at a time: few enough that a BLAS library does not start threads of its own, with
#: which the workers of a sweep would fight over the cores.
PRODUCT_COLUMNS = 1024


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of the ops of one step, ready to be added up.

    Attributes
    ----------
    seconds : callable
        Returns the time of each op in the step, times the factor on its band, shape (*sweep, op) [s]; not called where
        no op has an error.
    total : ndarray, shape (*sweep)
        Time of the step [s].
    spreads : sequence of Spread, one per op
    groups : sequence of str, one per op
        Ops of one group share the common part of their error.
    shapes : ndarray of int, shape (op,)
        Ops of one number run the same kernel on the same shape, and share their whole error (see `alike`).
    """

    seconds: Callable[[], FloatArray]
    total: FloatArray
    spreads: Sequence[Spread]
    groups: Sequence[str]
    shapes: NDArray[np.intp]

    def _column(self, name: str) -> FloatArray:
        return np.array([getattr(spread, name) for spread in self.spreads], dtype=np.float64)

    def weighted(self, weights: FloatArray, where: NDArray[np.bool_] | None = None) -> FloatArray:
        """Return sums over the ops of their shares of the time, shape (*sweep, column).

        Parameters
        ----------
        weights : ndarray, shape (op, column)
        where : ndarray of bool, shape broadcasts to (*sweep, op), optional
            Points of the sweep at which an op counts; default is all.
        """
        if not weights.size:
            return np.zeros((*self.total.shape, 0))
        values = self.seconds() if where is None else self.seconds() * where
        flat = last_first(values).reshape(len(weights), -1)
        starts = range(0, max(flat.shape[1], 1), PRODUCT_COLUMNS)
        products = np.concatenate([weights.T @ flat[:, start : start + PRODUCT_COLUMNS] for start in starts], axis=1)
        products /= np.where(self.total > 0, self.total, 1.0).reshape(-1)
        return first_last(products.reshape(-1, *values.shape[:-1]))

    def common(self, name: str, known: Sequence[str]) -> FloatArray:
        """Return the part of a side of the band that ops of each known group share, shape (op, group)."""
        member = np.array([[group == wanted for wanted in known] for group in self.groups], dtype=np.float64)
        return np.asarray((self._column(name) * np.sqrt(self._column("common")))[:, None] * member)

    def band(self) -> tuple[FloatArray, FloatArray]:
        """Return the log of the 5 % and 95 % quantiles of measured / predicted for the step, shape (*sweep)."""
        return -np.sqrt(self._variance("low")), np.sqrt(self._variance("high"))

    def _variance(self, name: str) -> FloatArray:
        own = self.own(name)[:, None] * _members(self.shapes, self.shapes)
        return _squares(self.weighted(_used(np.hstack([self.common(name, sorted(set(self.groups))), own]))))

    def own(self, name: str) -> FloatArray:
        """Return the part of a side of the band that ops of other shapes do not share, shape (op,)."""
        return self._column(name) * np.sqrt(1.0 - self._column("common"))


def ratio_half_width(top: Errors, bottom: Errors, same: NDArray[np.bool_], partner: Sequence[int]) -> FloatArray:
    """Return the half-width of ln(top / bottom) at 90 %, shape (*sweep) [1].

    The common part of the error of a group cancels as far as the group has the same share on both sides; the own part
    of a kernel on a shape cancels as far as the very same shape runs on both sides.

    Parameters
    ----------
    top, bottom : Errors
        The two steps, for instance dense and pruned.
    same : ndarray of bool, shape broadcasts to (*sweep, op of bottom)
        Whether the op has the shape and kernel of its partner.
    partner : sequence of int
        Index in `top` of the partner of each op of `bottom` (any index where there is none).
    """
    known = sorted(set(top.groups) | set(bottom.groups))
    own, rest = (side.own("half_width")[:, None] for side in (top, bottom))
    before = np.hstack([top.common("half_width", known), own * _members(top.shapes, top.shapes)])
    shared = bottom.common("half_width", known)
    partners = rest * _members(top.shapes[np.asarray(partner, dtype=np.intp)], top.shapes)
    others = rest * _members(bottom.shapes, bottom.shapes)
    # Shapes that are exact, or on one side only, need no column: most of the time goes into columns of a whole sweep.
    both = before.any(axis=0) | np.hstack([shared, partners]).any(axis=0)
    if same.ndim == 1:
        after = bottom.weighted(np.hstack([shared, partners * same[:, None]])[:, both])
        new = bottom.weighted(_used(others * ~same[:, None]))
    else:  # alike at some points of a sweep only
        columns = np.split(both, [shared.shape[1]])
        sums = bottom.weighted(shared[:, columns[0]]), bottom.weighted(partners[:, columns[1]], same)
        after = np.concatenate(sums, axis=-1)
        new = bottom.weighted(_used(others), ~same)
    return np.asarray(np.sqrt(_squares(top.weighted(before[:, both]) - after) + _squares(new)))


def _used(weights: FloatArray) -> FloatArray:
    """Return the columns that are not zero."""
    return weights[:, weights.any(axis=0)]


def _squares(values: FloatArray) -> FloatArray:
    """Return sums of squares over the last axis, without an array of the squares."""
    return np.asarray(np.einsum("...i,...i->...", values, values))


def _members(of: NDArray[np.intp], among: NDArray[np.intp]) -> FloatArray:
    """Return which of the distinct shapes of `among` each op has, shape (op, distinct) of 0 and 1."""
    # Of a few numbers a set is quicker than `np.unique`, whose first call imports numpy.ma.
    return np.asarray(of[:, None] == np.array(sorted(set(among.tolist())), dtype=np.intp), dtype=np.float64)
