"""What is to be reached: a latency, a rate, a speedup, memory or cost, and the chance of it, given an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.doors import doors
from pruninfersim._util.words import refuse
from pruninfersim.errors import InvalidInputError, shown

#: Standard deviations of a normal distribution at its 95 % quantile, the upper end of a 90 % interval.
NORMAL_95 = 1.6448536269514722
#: Distribution behind each chance, in words.
DISTRIBUTION = (
    "two halves of a log-normal distribution, joined at the estimate, whose 5 % and 95 % quantiles are the ends of the "
    "90 % interval"
)


class Part(NamedTuple):
    """One kind of target: what it is, the unit it is told in and how many are one in SI, whether more is better."""

    text: str
    unit: str
    scale: float = 1.0
    more: bool = False


#: Kinds of target.
PARTS: dict[str, Part] = {
    "latency": Part("latency", "ms", 1e3),
    "ttft": Part("time to the first token", "ms", 1e3),
    "tpot": Part("time per output token", "ms", 1e3),
    "speedup": Part("speedup", "", more=True),
    "throughput": Part("throughput", "tokens/s", more=True),
    "memory": Part("memory", "GB", 1e-9),
    "cost": Part("cost of 1M tokens", ""),
}


@doors
@dataclass(frozen=True)
class Target:
    """What is to be reached; every part that is given has to be.

    Attributes
    ----------
    latency : float, optional
        At most this long: the pass, or of a request all of it [s].
    ttft, tpot : float, optional
        Of a request: at most this long to the first token, and per output token after it [s].
    speedup : float, optional
        At least this much faster than the dense model on the same GPU [1].
    throughput : float, optional
        At least so many tokens per second, of the whole batch [1/s].
    memory : float, optional
        At most so much for weights and KV cache of one GPU [B].
    cost : float, optional
        At most so much for a million tokens, in the currency of the prices that go with it.

    Raises
    ------
    InvalidInputError
        If there is no part, or one is not a positive number.

    >>> print(Target(latency=0.05, memory=16e9))
    latency at most 50 ms and memory at most 16 GB
    """

    latency: float | None = None
    ttft: float | None = None
    tpot: float | None = None
    speedup: float | None = None
    throughput: float | None = None
    memory: float | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        if not self.parts:
            raise InvalidInputError(f"a target has at least one of {', '.join(PARTS)}, such as {{'latency': 0.05}}")
        for name, value in self.parts.items():
            if np.ndim(checked(f"the target {name}", value, minimum=1e-12)):
                raise InvalidInputError(f"the target {name} is one number; got {shown(value)}")

    @classmethod
    def of(cls, given: Target | Mapping[str, float] | None) -> Target:
        """Return a target from a mapping of its parts.

        Raises
        ------
        InvalidInputError
            If a part has another name, or there is none.

        >>> Target.of({"speedup": 1.5}).parts
        {'speedup': 1.5}
        """
        if isinstance(given, Target):
            return given
        if not isinstance(given, Mapping):
            raise InvalidInputError(f"a target is a mapping such as {{'latency': 0.05}} [s]; got {shown(given)}")
        refuse("a target", [str(name) for name in given if name not in PARTS], PARTS)
        return cls(**given)

    @property
    def parts(self) -> dict[str, float]:
        """The parts that are given, by name."""
        return {name: value for name in PARTS if (value := getattr(self, name)) is not None}

    def __str__(self) -> str:
        return " and ".join(
            f"{part.text} at {'least' if part.more else 'most'} {value * part.scale:g} {part.unit}".rstrip()
            for part, value in ((PARTS[name], value) for name, value in self.parts.items())
        )


def chance(value: ArrayLike, interval: tuple[ArrayLike, ArrayLike], limit: ArrayLike, *, more: bool) -> FloatArray:
    """Return the chance that a quantity is within its limit: on the distribution that `DISTRIBUTION` words.

    Parameters
    ----------
    value : array_like
        The estimate, which is the median.
    interval : tuple of two array_like
        Ends of its 90 % interval, one on either side of it; without width it is certain.
    limit : array_like
        Broadcasts with the others.
    more : bool
        Whether the quantity is to be at least the limit; else at most.

    Returns
    -------
    ndarray of the shape that all broadcast to [1]

    >>> chance(1.0, (0.8, 1.25), [0.8, 1.0, 1.25], more=False).round(2).tolist()
    [0.05, 0.5, 0.95]
    >>> chance(2.0, (2.0, 2.0), [1.9, 2.1], more=True).tolist()
    [1.0, 0.0]
    """
    from scipy.special import ndtr

    far = np.log(np.asarray(limit, dtype=np.float64) / np.asarray(value, dtype=np.float64))
    low, high = (np.abs(np.log(np.asarray(end) / np.asarray(value))) / NORMAL_95 for end in interval)
    width = np.where(far > 0, high, low)
    with np.errstate(divide="ignore", invalid="ignore"):
        standard = np.where(width > 0, far / width, np.where(far == 0, 0.0, np.copysign(np.inf, far)))
    # Exactly at the limit, what is certain is within it.
    certain = (far == 0) & (np.maximum(low, high) == 0)
    return np.where(certain, 1.0, ndtr(-standard if more else standard))


def reached(value: ArrayLike, limit: ArrayLike, *, more: bool) -> FloatArray:
    """Return how much of a target an estimate reaches [1]: from 1 on it is met.

    >>> reached([0.05, 0.1], 0.05, more=False).tolist(), float(reached(3.0, 4.0, more=True))
    ([1.0, 0.5], 0.75)
    """
    ratio = np.asarray(value, dtype=np.float64) / np.asarray(limit, dtype=np.float64)
    return np.asarray(ratio if more else 1.0 / ratio)
