"""What happens between kernels: how launch gaps combine with the time that the kernels themselves take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pruninfersim._util.arrays import Answer, FloatArray
from pruninfersim.trace import OpTrace


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


@dataclass(frozen=True)
class Chain(Answer):
    """What the host does beside the GPU in one step, and how well it is known.

    Attributes
    ----------
    seconds : ndarray, shape (*sweep)
        Time in which the host issues all launches of the step, and does its own work after it [s]. Zero under a graph.
    wait : ndarray, shape broadcasts to (*sweep, op)
        Part of the gap of one run of each op in which the GPU waits for the host [s].
    launches : ndarray, shape (*sweep)
        Launches that the host issues in the step; zero under a graph.
    low, high : float
        90 % band of measured over assumed time of an issue [1].
    repeatability : float
        Half-width at 90 % of ln of two measurements of a speedup where the host sets the time [1].
    """

    seconds: FloatArray
    wait: FloatArray
    launches: FloatArray
    low: float = 1.0
    high: float = 1.0
    repeatability: float = 0.0

    def points(self, rows: slice, size: int) -> Chain:
        """Return some points of a sweep of one axis of `size` points."""
        parts = {
            name: column[rows] if column.ndim > least and len(column) == size else column
            for name, least in (("seconds", 0), ("wait", 1), ("launches", 0))
            for column in (getattr(self, name),)
        }
        return replace(self, **parts)


@dataclass(frozen=True)
class EngineClock:
    """The clock of a serving engine: small steps run in a CUDA graph, the others are issued one kernel at a time.

    A graph adds `gap` to the launches that their kernel's own time does not hold. Without one a step takes
    ``max(GPU, launches x issue)``; ops that launch nothing are the host's own work (scheduler, sampling), which comes
    after the step in both cases.

    Attributes
    ----------
    gap : float
        Between two kernels of a graph [s].
    issue : float
        Time in which the host issues one kernel [s].
    decode, prefill : float
        New tokens up to which a decode step, or a prefill, runs in a graph; 0 if none does.
    low, high : float
        90 % band of measured over assumed `issue` [1].
    repeatability : float
        Half-width at 90 % of ln of two measurements of a speedup where the host sets the time [1].
    """

    gap: float
    issue: float
    decode: float = 0.0
    prefill: float = 0.0
    low: float = 1.0
    high: float = 1.0
    repeatability: float = 0.0

    def gaps(self, run: FloatArray, count: FloatArray, launches: FloatArray) -> FloatArray:
        """Return the waits if the step runs in no graph, shape (*sweep, op) [s]; `step` knows which one does."""
        return Eager(self.issue).gaps(run, count, launches)

    def step(self, ops: OpTrace, run: FloatArray, launches: FloatArray) -> tuple[FloatArray, Chain]:
        """Return the gaps of a lowered trace, shape (*sweep, op) [s], and what the host does.

        Parameters
        ----------
        ops : OpTrace
            Its launches are those that the engine issues.
        run : ndarray, shape (*sweep, op)
            Time of one run of each op [s].
        launches : ndarray, shape broadcasts to (*sweep, op)
            Launches of one run that its own time does not contain.
        """
        inside = self._captured(ops)[..., None]
        gaps = np.where(inside, self.gap, 0.0) * launches
        # Ops of no step of a model are timed alone, and wait for no host.
        issued = np.where(inside | (ops.workload is None), 0.0, ops.launches)
        total = np.asarray((issued * ops.count).sum(axis=-1, keepdims=True))
        device = (ops.launches > 0) * ops.count
        work = np.asarray((run * device).sum(axis=-1, keepdims=True))
        own = np.asarray((run * (ops.count - device)).sum(axis=-1))
        waiting = np.maximum(total * self.issue - work, 0.0)
        wait = np.asarray(issued * waiting / np.where(total > 0, total, 1.0))
        count = total[..., 0]
        host = np.where(count > 0, count * self.issue + own, 0.0)
        chain = Chain(host, wait, count, self.low, self.high, self.repeatability)
        return np.asarray(gaps + wait), chain

    def _captured(self, ops: OpTrace) -> NDArray[np.bool_]:
        """Whether each step runs in a graph, shape (*sweep) of bool."""
        work = ops.workload
        if work is None:
            return np.asarray(self.decode > 0)
        return np.asarray(work.tokens <= (self.decode if work.phase == "decode" else self.prefill))
