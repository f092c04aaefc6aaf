"""How the errors of kernel models add up in a step, and cancel in a ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import FloatArray
from pruninfersim.kernels.evidence import Spread

#: Rows of a matrix product done at a time: few enough that a BLAS library does not start threads of its own, with which
#: the workers of a sweep would fight over the cores.
PRODUCT_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of the ops of one step, ready to be added up.

    Attributes
    ----------
    share : ndarray, shape (*sweep, op)
        Share of each op in the time of the step [1].
    spreads : sequence of Spread, one per op
    groups : sequence of str, one per op
        Ops of one group share the common part of their error.
    """

    share: FloatArray
    spreads: Sequence[Spread]
    groups: Sequence[str]

    def _column(self, name: str) -> FloatArray:
        return np.array([getattr(spread, name) for spread in self.spreads], dtype=np.float64)

    def weighted(self, values: FloatArray, weights: FloatArray) -> FloatArray:
        """Return sums over the ops of values of shape (*sweep, op) with weights of shape (op,) or (op, group)."""
        flat = values.reshape(-1, len(self.groups))
        parts = [flat[start : start + PRODUCT_ROWS] @ weights for start in range(0, max(len(flat), 1), PRODUCT_ROWS)]
        return np.asarray(np.concatenate(parts).reshape(values.shape[:-1] + weights.shape[1:]))

    def by_group(self, name: str, known: Sequence[str]) -> FloatArray:
        """Return the common part of a side of the band of each known group, shape (*sweep, group)."""
        member = np.array([[group == wanted for wanted in known] for group in self.groups], dtype=np.float64)
        weight = self._column(name) * np.sqrt(self._column("common"))
        return self.weighted(self.share, weight[:, None] * member)

    def band(self) -> tuple[FloatArray, FloatArray]:
        """Return the log of the 5 % and 95 % quantiles of measured / predicted for the step, shape (*sweep)."""
        return -np.sqrt(self._variance("low")), np.sqrt(self._variance("high"))

    def _variance(self, name: str) -> FloatArray:
        shared = self.by_group(name, sorted(set(self.groups)))
        own = self.weighted(self.share**2, self._column(name) ** 2 * (1.0 - self._column("common")))
        return np.asarray((shared**2).sum(axis=-1) + own)


def ratio_half_width(top: Errors, bottom: Errors, same: NDArray[np.bool_], partner: Sequence[int]) -> FloatArray:
    """Return the half-width of ln(top / bottom) at 90 %, shape (*sweep) [1].

    The common part of the error of a group cancels as far as the group has the same share on both sides; the own part
    of an op cancels only if the very same shape runs on both sides.

    Parameters
    ----------
    top, bottom : Errors
        The two steps, for instance dense and pruned.
    same : ndarray of bool, shape (*sweep, op of bottom)
        Whether the op has the shape and kernel of its partner.
    partner : sequence of int
        Index in `top` of the partner of each op of `bottom` (any index where there is none).
    """
    known = sorted(set(top.groups) | set(bottom.groups))
    shared = top.by_group("half_width", known) - bottom.by_group("half_width", known)
    variance = (shared**2).sum(axis=-1)
    alike = np.asarray(same).reshape(-1, len(bottom.groups))
    below = np.flatnonzero(alike.any(axis=0))
    pairs = []
    for side, paired in ((bottom, below), (top, np.asarray(partner, dtype=np.intp)[below])):
        weight = side._column("half_width") * np.sqrt(1.0 - side._column("common"))
        pairs.append(side.share[..., paired] * weight[paired])
        weight[paired] = 0.0
        variance = variance + side.weighted(side.share**2, weight**2)
    # A pair of ops that run alike counts by its difference: exactly nothing where both shares are equal.
    variance = variance + ((pairs[0] - pairs[1]) ** 2).sum(axis=-1)
    if not alike[:, below].all():
        # Alike at some points of a sweep only: elsewhere both errors count in full, 2 x y more than the difference.
        variance = variance + 2.0 * np.where(same[..., below], 0.0, pairs[0] * pairs[1]).sum(axis=-1)
    return np.asarray(np.sqrt(variance))
