"""How the errors of kernel models add up in a step, and cancel in a ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pruninfersim._arrays import FloatArray


@dataclass(frozen=True)
class Spread:
    """90 % prediction band of one kernel model, from held-out residuals.

    Attributes
    ----------
    low, high : float
        5 % and 95 % quantiles of ln(measured / predicted) [1].
    common : float
        Correlation of the errors of two different shapes on one GPU, 0 to 1 [1]: the part of the error that cancels
        in a ratio and does not average out in a sum.
    """

    low: float = 0.0
    high: float = 0.0
    common: float = 0.0

    @property
    def half_width(self) -> float:
        """Half of the band in log units."""
        return (self.high - self.low) / 2.0

    def widened(self, factor: float) -> Spread:
        """Return the spread with a wider band (a model used outside what it was fitted on)."""
        return Spread(self.low * factor, self.high * factor, self.common)


#: A definition has no error: the roofline is exact as what it is.
EXACT = Spread()


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

    def by_group(self, values: FloatArray, known: Sequence[str]) -> FloatArray:
        """Return the sum of per-op values over the ops of each known group, shape (*sweep, group)."""
        member = np.array([[group == wanted for wanted in known] for group in self.groups], dtype=np.float64)
        return np.asarray(values @ member)

    def band(self) -> tuple[FloatArray, FloatArray]:
        """Return the log of the 5 % and 95 % quantiles of measured / predicted for the step, shape (*sweep)."""
        sides = []
        for name in ("low", "high"):
            error = self.share * self._column(name)
            sides.append(np.sqrt(self._variance(error)))
        return -sides[0], sides[1]

    def _variance(self, error: FloatArray) -> FloatArray:
        known = sorted(set(self.groups))
        common = self._column("common")
        shared = self.by_group(error * np.sqrt(common), known)
        own = error**2 * (1.0 - common)
        return np.asarray((shared**2).sum(axis=-1) + own.sum(axis=-1))


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
    errors = [side.share * side._column("half_width") for side in (top, bottom)]
    commons = [side._column("common") for side in (top, bottom)]
    shared = [
        side.by_group(error * np.sqrt(common), known)
        for side, error, common in zip((top, bottom), errors, commons, strict=True)
    ]
    own = [error * np.sqrt(1.0 - common) for error, common in zip(errors, commons, strict=True)]
    cancelled = 2.0 * np.where(same, own[1] * own[0][..., list(partner)], 0.0).sum(axis=-1)
    variance = ((shared[0] - shared[1]) ** 2).sum(axis=-1) + (own[0] ** 2).sum(axis=-1) + (own[1] ** 2).sum(axis=-1)
    return np.asarray(np.sqrt(np.maximum(variance - cancelled, 0.0)))
