"""How the errors of kernel models add up in a step, and cancel in a ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray
from pruninfersim.kernels.evidence import Spread

#: Columns of a matrix product done at a time: few enough that a BLAS library does not start threads of its own, with which
#: the workers of a sweep would fight over the cores.
PRODUCT_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of the ops of one step, ready to be added up.

    Attributes
    ----------
    seconds : sequence of (ndarray of int, ndarray)
        Places of some ops, and the time of each of them in the step, shape broadcasts to (*sweep, op of those) [s].
        Together they have each op once.
    total : ndarray, shape (*sweep)
        Time of the step [s].
    spreads : sequence of Spread, one per op
    groups : sequence of str, one per op
        Ops of one group share the common part of their error.
    shapes : ndarray of int, shape (op,)
        Ops of one number run the same kernel on the same shape, and share their whole error (see `alike`).
    """

    seconds: Sequence[tuple[NDArray[np.intp], FloatArray]]
    total: FloatArray
    spreads: Sequence[Spread]
    groups: Sequence[str]
    shapes: NDArray[np.intp]

    def _column(self, name: str) -> FloatArray:
        return np.array([getattr(spread, name) for spread in self.spreads], dtype=np.float64)

    def weighted(self, weights: FloatArray, where: NDArray[np.bool_] | None = None) -> FloatArray:
        """Return sums over the ops of their shares of the step, with weights of shape (op, column).

        Parameters
        ----------
        weights : ndarray, shape (op, column)
        where : ndarray of bool, shape broadcasts to (*sweep, op), optional
            Points of the sweep at which an op counts; default is all.

        Returns
        -------
        ndarray, shape (*sweep, column)
        """
        shape = (weights.shape[1], *self.total.shape)
        out = np.zeros(shape)
        for index, seconds in self.seconds:
            chosen = weights[index]
            if chosen.any():
                values = seconds if where is None else seconds * where[..., index]
                out += _products(np.moveaxis(values, -1, 0), chosen.T, len(shape))
        out /= np.where(self.total > 0, self.total, 1.0)
        return np.moveaxis(out, 0, -1)

    def by_group(self, name: str, known: Sequence[str]) -> FloatArray:
        """Return the common part of a side of the band of each known group, shape (*sweep, group)."""
        member = np.array([[group == wanted for wanted in known] for group in self.groups], dtype=np.float64)
        weight = self._column(name) * np.sqrt(self._column("common"))
        return self.weighted(weight[:, None] * member)

    def band(self) -> tuple[FloatArray, FloatArray]:
        """Return the log of the 5 % and 95 % quantiles of measured / predicted for the step, shape (*sweep)."""
        return -np.sqrt(self._variance("low")), np.sqrt(self._variance("high"))

    def _variance(self, name: str) -> FloatArray:
        shared = self.by_group(name, sorted(set(self.groups)))
        own = self.weighted(self.own(name)[:, None] * _members(self.shapes, self.shapes))
        return np.asarray((shared**2).sum(axis=-1) + (own**2).sum(axis=-1))

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
    shared = top.by_group("half_width", known) - bottom.by_group("half_width", known)
    own, rest = (side.own("half_width")[:, None] for side in (top, bottom))
    first = own * _members(top.shapes, top.shapes)
    partners = rest * _members(top.shapes[np.asarray(partner, dtype=np.intp)], top.shapes)
    others = rest * _members(bottom.shapes, bottom.shapes)
    there: list[NDArray[np.bool_] | None] = [None, None]
    if same.ndim == 1:
        partners, others = partners * same[:, None], others * ~same[:, None]
    else:  # alike at some points of a sweep only
        there = [same, ~same]
    # Shapes that are exact, or on one side only, need no column: most of the time goes into columns of a whole sweep.
    both = first.any(axis=0) | partners.any(axis=0)
    apart = top.weighted(first[:, both]) - bottom.weighted(partners[:, both], there[0])
    new = bottom.weighted(others[:, others.any(axis=0)], there[1])
    return np.asarray(np.sqrt(_squares(shared) + _squares(apart) + _squares(new)))


def _products(values: FloatArray, weights: FloatArray, ndim: int) -> FloatArray:
    """Return weights of shape (column, op) times values of shape (op, *some sweep), with `ndim` axes."""
    some = values.shape[1:]
    flat = values.reshape(len(values), -1)
    starts = range(0, max(flat.shape[1], 1), PRODUCT_ROWS)
    products = np.concatenate([weights @ flat[:, start : start + PRODUCT_ROWS] for start in starts], axis=1)
    return products.reshape(len(weights), *(1,) * (ndim - 1 - len(some)), *some)


def _squares(values: FloatArray) -> FloatArray:
    """Return sums of squares over the last axis, without an array of the squares."""
    return np.asarray(np.einsum("...i,...i->...", values, values))


def _members(of: NDArray[np.intp], among: NDArray[np.intp]) -> FloatArray:
    """Return which of the distinct shapes of `among` each op has, shape (op, distinct) of 0 and 1."""
    return np.asarray(of[:, None] == np.unique(among), dtype=np.float64)
