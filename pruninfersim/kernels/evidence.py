"""What is known about the error of a kernel model, and where: bands of residuals, and the domain that they hold in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.trace import OpTrace


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

    def with_independent(self, half_width: float) -> Spread:
        """Return the spread with an independent error added; the part that is common to the group keeps its size."""
        new = (self.half_width**2 + half_width**2) ** 0.5
        centre = (self.low + self.high) / 2.0
        share = self.common * (self.half_width / new) ** 2 if new else 0.0
        return Spread(centre - new, centre + new, share)


#: Stands for nothing at all (no bytes moved), which has no logarithm.
TINY = 1e-30
#: Largest factor on a band: further out nobody has looked.
MOST = 5.0
#: A definition has no error: the roofline is exact as what it is.
EXACT = Spread()


@dataclass(frozen=True)
class Quantity:
    """What the domain of a kernel is stated in, and what leaving its range has shown.

    Attributes
    ----------
    name, unit : str
        For messages, such as "tokens" and "".
    of : callable
        OpTrace -> value of each op, shape broadcasts to (*sweep, op).
    below, above : float
        By how much the band widens per halving below, or doubling above the range, as a share of itself [1]: measured
        on rows out there that no fit has seen (validation/regimes.py); 0 where there is no limit.
    reach : float
        Factor above the fitted range up to which the band has held as it is.
    hint : callable, optional
        Ops beyond the range -> what a reader may do about it.
    """

    name: str
    of: Callable[[OpTrace], FloatArray]
    unit: str = ""
    below: float = 0.0
    above: float = 0.0
    reach: float = 1.0
    hint: Callable[[OpTrace], str] | None = None


@dataclass(frozen=True)
class Limit:
    """A quantity, and the range of it in which a kernel model is as good as its band says."""

    quantity: Quantity
    low: float
    high: float


@dataclass(frozen=True)
class Outside:
    """Ops beyond one end of a range.

    Attributes
    ----------
    ops : tuple of int
        Their indices.
    limit : Limit
    value : float
        The value furthest out.
    hint : str
        What a reader may do about it.
    """

    ops: tuple[int, ...]
    limit: Limit
    value: float
    hint: str = ""

    def __str__(self) -> str:
        unit = f" {self.limit.quantity.unit}" if self.limit.quantity.unit else ""
        above = self.value > self.limit.high
        end = self.limit.high if above else self.limit.low
        side = "end" if above else "begin"
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.limit.quantity.name} {_short(self.value)}{unit}; the timings {side} at {_short(end)}{unit}{hint}"


@dataclass(frozen=True)
class Domain:
    """Ranges of a few physical quantities inside which the band of a kernel model was measured."""

    limits: tuple[Limit, ...] = ()

    def widening(self, ops: OpTrace) -> FloatArray:
        """Return the factor on the band of each op, shape () if it is 1 for all, else broadcastable to (*sweep, op).

        Where an op is outside of several ranges, the largest factor counts.
        """
        factor: FloatArray = np.ones(())
        for limit in self.limits:
            values = limit.quantity.of(ops)
            if values.min() < limit.low or values.max() > limit.high:
                octaves = np.log2(np.maximum(values, TINY))
                below = limit.quantity.below * np.maximum(np.log2(limit.low) - octaves, 0.0)
                above = limit.quantity.above * np.maximum(octaves - np.log2(limit.high), 0.0)
                factor = np.maximum(factor, np.minimum(1.0 + below + above, MOST))
        return factor

    def outside(self, ops: OpTrace) -> list[Outside]:
        """Return which ops are beyond which end of which range, at any point of a sweep."""
        found = []
        for limit in self.limits:
            values = np.broadcast_to(limit.quantity.of(ops), ops.shape).reshape(-1, len(ops))
            below, above = values < limit.low, values > limit.high
            for beyond, rate, ends in (
                (below, limit.quantity.below, values.min(axis=0)),
                (above, limit.quantity.above, values.max(axis=0)),
            ):
                index = np.flatnonzero(beyond.any(axis=0)) if rate else np.empty(0, dtype=np.intp)
                if index.size:
                    furthest = index[np.argmax(np.abs(np.log(np.maximum(ends[index], TINY) / limit.high)))]
                    hint = limit.quantity.hint(ops.select(index)) if limit.quantity.hint else ""
                    found.append(Outside(tuple(index.tolist()), limit, float(ends[furthest]), hint))
        return found


#: No ranges: the band is taken to hold wherever the kernel is used.
EVERYWHERE = Domain()


def _short(value: float) -> str:
    """Return a size for a reader: digits up to five places, then an exponent."""
    return f"{value:,.0f}".replace(",", " ") if value == round(value) and value < 1e8 else f"{value:.3g}"


# --- quantities that several kernels share --------------------------------------------------------------------------


def tokens(ops: OpTrace) -> FloatArray:
    """Return rows of A, all instances together."""
    return ops.m


def weight_elements(ops: OpTrace) -> FloatArray:
    """Return elements of B."""
    return ops.n * ops.k


def narrow_side(ops: OpTrace) -> FloatArray:
    """Return the smaller of outputs and inputs."""
    return np.minimum(ops.n, ops.k)


def sequences(ops: OpTrace) -> FloatArray:
    """Return sequences in the batch."""
    return ops.sequences


def keys(ops: OpTrace) -> FloatArray:
    """Return keys of a sequence."""
    return ops.n


def head_size(ops: OpTrace) -> FloatArray:
    """Return the width of one head."""
    return ops.k


def moved(ops: OpTrace) -> FloatArray:
    """Return bytes that an op moves [B]."""
    return ops.traffic
