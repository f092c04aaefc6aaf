"""A library picks among candidate kernels: arithmetic on arrays of all candidates, in place.

Most of the time of a sweep goes into such arrays, of dozens of candidates per shape. Fresh memory for each step would
cost more than the step.
"""

from __future__ import annotations

import numpy as np

from pruninfersim._util.arrays import FloatArray


def to_power(values: FloatArray, exponent: float) -> None:
    """Raise positive values to a power in place; exp and log are vectorised, pow is not everywhere."""
    np.log(values, out=values)
    values *= exponent
    np.exp(values, out=values)


def soft_fastest(times: FloatArray, selection: int, many: int, scratch: FloatArray | None = None) -> FloatArray:
    """Return the smooth minimum over candidates, ``(sum t**-selection / many)**(-1/selection)``, in place.

    What the best of several candidates takes in the mean if each is off by a random factor of relative size
    ``1/selection``. Unlike a weighted mean it never rises when a candidate gets faster.

    Parameters
    ----------
    times : ndarray, shape (candidate, shape)
        Positive [s].
    selection : int
        At least 1: how much faster candidates are preferred.
    many : int
        Candidates whose tie takes the time of each of them: where all are limited by the same, that is exact.
    scratch : ndarray, optional
        Memory of the same shape to work in.

    Returns
    -------
    ndarray, shape (shape,) [s]

    >>> soft_fastest(np.array([[1.0, 1.0], [1.0, 9.0]]), 2, 2).round(3).tolist()
    [1.0, 1.406]
    """
    best = times.min(axis=0)
    ratio = np.divide(best, times, out=times)
    power = np.empty_like(times) if scratch is None else scratch
    squared = ratio  # by squaring: a few multiplications are far cheaper than pow
    for digit in f"{selection:b}"[1:]:
        squared = np.multiply(squared, squared, out=power)
        if digit == "1":
            power *= ratio
    return np.asarray(best * (squared.sum(axis=0) / many) ** (-1.0 / selection))
