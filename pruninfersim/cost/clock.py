"""What happens between kernels: how launch gaps combine with the time that the kernels themselves take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pruninfersim._util.arrays import FloatArray


class Clock(Protocol):
    """Anything that says how long a step waits between kernels; frozen, pure, vectorised over ``(*sweep, op)``."""

    def gaps(self, run: FloatArray, count: FloatArray, launches: FloatArray) -> FloatArray:
        """Return the wait that belongs to one run of each op, shape broadcasts to (*sweep, op) [s].

        Parameters
        ----------
        run : ndarray, shape (*sweep, op)
            Time of one run of each op [s].
        count, launches : ndarray, shapes broadcast to (*sweep, op)
            Runs of each op in the pass; launches of one run that its own time does not contain.
        """


@dataclass(frozen=True)
class Graph:
    """A CUDA graph: the GPU starts one kernel after the other, and each launch adds a gap.

    Attributes
    ----------
    gap : float
        [s]

    >>> Graph(1e-6).gaps(np.array([5e-6, 1e-6]), np.ones(2), np.array([1.0, 2.0])).tolist()
    [1e-06, 2e-06]
    """

    gap: float = 0.0

    def gaps(self, run: FloatArray, count: FloatArray, launches: FloatArray) -> FloatArray:
        """Return the launches of a run times the gap, shape of `launches` [s]."""
        return launches * self.gap


@dataclass(frozen=True)
class Eager:
    """No graph: the host issues kernels while the GPU works, and a step takes the longer of the two.

    Where the host is behind, its lead over the GPU is spread over the launches, so that ops still add up to the step.

    Attributes
    ----------
    issue : float
        Time in which the host issues one kernel [s].

    >>> waits = Eager(4e-6).gaps(np.array([5e-6, 1e-6]), np.ones(2), np.ones(2))  # 8 us to issue 6 us of work
    >>> waits.round(9).tolist()
    [1e-06, 1e-06]
    """

    issue: float

    def gaps(self, run: FloatArray, count: FloatArray, launches: FloatArray) -> FloatArray:
        """Return what the GPU waits for the host, in proportion to the launches, shape (*sweep, op) [s]."""
        work = np.asarray((run * count).sum(axis=-1, keepdims=True))
        issued = np.asarray((launches * count + 0.0 * run).sum(axis=-1, keepdims=True))
        waiting = np.maximum(issued * self.issue - work, 0.0)
        return np.asarray(launches * waiting / np.where(issued > 0, issued, 1.0))
