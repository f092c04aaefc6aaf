"""What one method reaches on one GPU at each sparsity, and the least of them that meets a target."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim import pruning
from pruninfersim._util.arrays import FloatArray
from pruninfersim.cost import Estimate, memory
from pruninfersim.pruning import Axis, Method
from pruninfersim.questions.break_even import RANGES
from pruninfersim.questions.comparison import Speedup, compare_estimates
from pruninfersim.questions.loss import Loss
from pruninfersim.questions.prices import of_a_million
from pruninfersim.questions.request import Request, request
from pruninfersim.questions.setup import Setup
from pruninfersim.questions.target import PARTS, Target, chance, reached
from pruninfersim.workload import Workload

#: A pass, or the keywords of a request.
Work: TypeAlias = "Workload | Mapping[str, Any]"
#: Values and intervals by part of a target, the pass whose memory counts, and the whole result.
Answer: TypeAlias = "tuple[dict[str, FloatArray], dict[str, Interval], Estimate, Speedup | Request | Estimate]"
Interval: TypeAlias = "tuple[FloatArray, FloatArray]"
#: Largest sparsity that is tried where neither the method nor a quality table ends before it [1].
LARGEST = RANGES["sparsity"][1]
#: Steps of the first sweep over sparsities, and of the second one inside the step in which the target is met [1].
COARSE, FINE = 0.01, 0.001
TINY = 1e-9


class Reach(NamedTuple):
    """What is reached, each of shape (*sweep): estimate and 90 % interval by part of a target, and whether it fits."""

    values: dict[str, FloatArray]
    intervals: dict[str, Interval]
    room: FloatArray
    result: Speedup | Request | Estimate

    def chance(self, target: Target) -> FloatArray:
        """Return the chance of a target: the least of its parts, none where it does not fit, shape (*sweep) [1]."""
        parts = [
            chance(self.values[name], self.intervals[name], limit, more=PARTS[name].more)
            for name, limit in target.parts.items()
        ]
        return np.where(self.room >= 1.0, np.min(np.broadcast_arrays(*parts), axis=0), 0.0)

    def reached(self, target: Target) -> FloatArray:
        """Return how much of a target is reached: the least of its parts and of the room, shape (*sweep) [1]."""
        parts = [reached(self.values[name], limit, more=PARTS[name].more) for name, limit in target.parts.items()]
        return np.asarray(np.min(np.broadcast_arrays(*parts, np.where(self.room >= 1.0, np.inf, self.room)), axis=0))


def reach(
    work: Work,
    setup: Setup,
    method: Method | None = None,
    sparsity: ArrayLike | None = None,
    price: float | None = None,
) -> Reach:
    """Return what a method reaches at some sparsities, or the dense model without one.

    Parameters
    ----------
    work : Workload or mapping
        A single pass, or keywords of `pruninfersim.request`: batch, prompt, new_tokens, clients.
    setup : Setup
    method : Method, optional
    sparsity : array_like, shape (*sweep), optional
        Of a method that takes one [1].
    price : float, optional
        Of an hour of the GPU, for the cost of a million tokens.

    >>> where = Setup("llama-3.1-8b", "h100-sxm", "ideal")
    >>> found = reach(Workload.decode(16, 4096), where, "static-depth", [0.25, 0.5])
    >>> found.chance(Target(speedup=1.5)).tolist()
    [0.0, 1.0]
    """
    ratio = None if method is None or not pruning.takes_sparsity(method) else Axis(sparsity)  # type: ignore[arg-type]
    values, intervals, step, result = (
        _pass(work, setup, method, ratio) if isinstance(work, Workload) else _request(work, setup, method, ratio)
    )
    need = np.asarray(memory.weight_memory(step.trace) + memory.kv_memory(step.trace))
    values["memory"], intervals["memory"] = need, (need, need)
    if price is not None:
        low, high = intervals["throughput"]
        cost = partial(of_a_million, price, gpus=setup.stack.gpus)
        values["cost"], intervals["cost"] = cost(values["throughput"]), (cost(high), cost(low))
    return Reach(values, intervals, setup.hardware.memory_size / need, result)


def _pass(work: Workload, setup: Setup, method: Method | None, ratio: Axis | None) -> Answer:
    dense = setup.trace(work)
    result: Speedup | Estimate
    speedup, band = np.ones(()), (np.ones(()), np.ones(()))
    if method is None:
        result = after = setup.estimate(dense)
    else:
        before, after = setup.stack.predict_both(dense, dense.prune(pruning.resolve(method, ratio)))
        result = compare_estimates(before, after)
        speedup, band = np.asarray(result.estimated), (np.asarray(result.interval[0]), np.asarray(result.interval[1]))
    tokens = float(work.tokens)
    low, high = (np.asarray(end) for end in after.interval)
    values = {"latency": after.total, "speedup": speedup, "throughput": tokens / after.total}
    intervals = {"latency": (low, high), "speedup": band, "throughput": (tokens / high, tokens / low)}
    return values, intervals, after, result


def _request(work: Mapping[str, Any], setup: Setup, method: Method | None, ratio: Axis | None) -> Answer:
    found = request(
        model=setup.model, hardware=setup.hardware, stack=setup.stack, dtype=setup.dtype, **work, method=method,
        sparsity=ratio,
    )  # fmt: skip
    ends = {"latency": found.interval, "ttft": found.ttft_interval, "tpot": found.tpot_interval}
    intervals = {name: (np.asarray(low), np.asarray(high)) for name, (low, high) in ends.items()}
    rate = np.asarray(found.tokens_per_second)
    values = {"latency": found.total, "ttft": found.ttft, "tpot": found.tpot, "throughput": rate}
    # The rate of a closed loop is that of its tokens, that of a batch ends with the request.
    slower = "latency" if work.get("clients") is None else "tpot"
    low, high = (rate * np.asarray(values[slower]) / end for end in reversed(intervals[slower]))
    plain = {name: np.asarray(value) for name, value in values.items()}
    return plain, intervals | {"throughput": (low, high)}, found.step, found


class Found(NamedTuple):
    """The least sparsity that meets a target, or else the one that comes closest; None where none is allowed."""

    sparsity: float | None
    meets: bool


def grid_of(method: Method, loss: Loss | None, largest_gap: float | None) -> FloatArray:
    """Return the sparsities of the first sweep, shape (point,): every 1 %, the rows of the quality table, and the ends.

    >>> grid_of("semi-structured", None, None)[[0, -1]].tolist()
    [0.01, 0.5]
    """
    family = pruning.EVERY[method] if isinstance(method, str) and method in pruning.EVERY else method
    end = min(pruning.largest(family), LARGEST if loss is None else float(loss.sparsity[-1]))
    points = [np.arange(1, np.floor(end / COARSE + TINY) + 1) * COARSE, [end]]
    if loss is not None:
        points.append(loss.sparsity[(loss.sparsity > 0) & (loss.sparsity <= end)])
        if largest_gap is not None:  # the last sparsity that is allowed, cut to the fine grid
            points.append(np.floor(loss.edges(largest_gap) / FINE) * FINE)
    whole = np.unique(np.round(np.concatenate([np.asarray(each, dtype=float) for each in points]), 9))
    return np.asarray(whole[(whole > 0) & (whole <= end)])


def least(
    work: Work,
    setup: Setup,
    method: Method,
    target: Target,
    *,
    grid: FloatArray,
    refine: bool,
    chance_wanted: float,
    allowed: Any = None,
    price: float | None = None,
) -> Found:
    """Return the least sparsity of a grid at which a method meets a target.

    One sweep over the grid, and a second one, `FINE` steps wide, between the point that meets it and the one before.
    Less pruning may be the faster one here and there (widths that end a wave of tiles): the first sparsity that meets
    the target counts, whatever comes after it.

    Parameters
    ----------
    grid : ndarray, shape (point,)
        Increasing [1].
    refine : bool
        Whether to look between the points of the grid.
    chance_wanted : float
        Least chance that counts as meeting it [1].
    allowed : callable, optional
        Sparsities -> whether each may be taken, of that shape.
    """

    def ok(points: FloatArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Reach]:
        free = np.ones(points.shape, dtype=bool) if allowed is None else np.asarray(allowed(points))
        found = reach(work, setup, method, points, price)
        return free & (found.chance(target) >= chance_wanted), free, found

    meets, free, found = ok(grid)
    if not free.any():
        return Found(None, False)
    if not meets.any():
        closest = np.where(free, found.reached(target), -np.inf)
        return Found(float(grid[int(np.argmax(closest))]), False)
    first = int(np.argmax(meets))
    low, high = (0.0 if first == 0 else float(grid[first - 1])), float(grid[first])
    inside = np.round(np.arange(np.floor(low / FINE + TINY) + 1, np.ceil(high / FINE - TINY)) * FINE, 9)
    if refine and len(inside):
        sooner = ok(inside)[0]
        if sooner.any():
            return Found(float(inside[int(np.argmax(sooner))]), True)
    return Found(high, True)
