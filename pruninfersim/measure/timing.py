"""Takes the time of one case on the GPU, as `pruninfersim.measure.protocol` says."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pruninfersim.errors import PruninfersimError
from pruninfersim.measure.monitor import HOT, Monitor
from pruninfersim.measure.protocol import Protocol

Tensor = Any


class CaseError(PruninfersimError):
    """A case cannot be timed; the message is the reason that is recorded."""


@dataclass(frozen=True)
class Bench:
    """What a case runs.

    Attributes
    ----------
    calls : tuple of callable
        One per copy of the operands; each does one run and returns what it wrote.
    compare : callable or None
        Returns the result of a call and its float32 reference, of the same shape.
    runs : int
        Runs that one call stands for.
    graph : bool
        Whether it is timed inside a CUDA graph.
    """

    calls: tuple[Callable[[], Any], ...]
    compare: Callable[[], tuple[Tensor, Tensor]] | None = None
    runs: int = 1
    graph: bool = True


def relative_error(result: Tensor, reference: Tensor) -> float:
    """Return ``norm(result - reference) / norm(reference)`` in float32; NaN if any element is."""
    wide = reference.float()
    return float((result.float() - wide).norm() / wide.norm())


def check(bench: Bench, tolerance: float) -> float:
    """Return the relative error of a result [1]; NaN where there is nothing to compare.

    Raises
    ------
    CaseError
        If it is above the tolerance, or not a number.
    """
    if bench.compare is None:
        return float("nan")
    error = relative_error(*bench.compare())
    if not error <= tolerance:
        raise CaseError(f"wrong result: relative error {error:.3g}, allowed {tolerance:g}")
    return error


def take(bench: Bench, protocol: Protocol, monitor: Monitor) -> dict[str, Any]:
    """Check, warm up and time; return the columns of `pruninfersim.measure.records.RESULTS`.

    Raises
    ------
    CaseError
        If the result is wrong, or the GPU too hot.
    """
    error = check(bench, protocol.tolerance)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries set themselves up outside of a capture
        for call in bench.calls[:2] * 2:
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    calls = len(bench.calls)
    if bench.graph:
        replay = _captured(bench, calls)
        replay()
        estimate = min(_times(replay, 3)) / calls
        wanted = protocol.calls(estimate, calls)
        if wanted > calls:
            calls, replay = wanted, _captured(bench, wanted)
    else:
        replay = bench.calls[0]
    attempts = []
    for number in range(protocol.attempts):
        if number:
            time.sleep(protocol.rest)
        attempts.append(_attempt(replay, calls * bench.runs, protocol, monitor))
        if steady(attempts[-1], protocol.unsteady):
            break
    return {
        **best_of(attempts),
        "repeats": protocol.repeats,
        "calls": calls * bench.runs,
        "copies": len(bench.calls),
        "error": "" if error != error else error,
    }


def _attempt(replay: Callable[[], Any], runs: int, protocol: Protocol, monitor: Monitor) -> dict[str, Any]:
    """Warm up and time; return latency, spread, and what nvidia-smi said meanwhile."""
    start, done = time.monotonic(), 0
    while done < protocol.warmup_replays or time.monotonic() - start < protocol.warmup:
        replay()
        torch.cuda.synchronize()
        done += 1
    start = time.monotonic()
    seconds = [value / runs for value in _times(replay, protocol.repeats)]
    conditions = monitor.between(start, time.monotonic())
    median = statistics.median(seconds)
    low, high = np.quantile(seconds, [0.05, 0.95])
    return {"latency_us": median * 1e6, "spread": float(high - low) / 2.0 / median, **conditions}


def hot(attempt: dict[str, Any]) -> bool:
    """Return whether clocks were held down for heat.

    >>> hot({"throttle": "power-cap"}), hot({"throttle": "power-cap+sw-thermal"})
    (False, True)
    """
    return any(reason in HOT for reason in attempt["throttle"].split("+"))


def steady(attempt: dict[str, Any], limit: float) -> bool:
    """Return whether an attempt counts as it is."""
    return attempt["spread"] <= limit and not hot(attempt)


def best_of(attempts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the steadiest attempt that was not too hot.

    Raises
    ------
    CaseError
        If all were too hot.
    """
    cool = [attempt for attempt in attempts if not hot(attempt)]
    if not cool:
        last = attempts[-1]
        raise CaseError(
            f"too hot in {len(attempts)} attempts: {last['throttle']} at {last['temperature_c']} C and "
            f"{last['sm_mhz']} MHz, {last['latency_us']:.4g} us in the last"
        )
    return min(cool, key=lambda attempt: float(attempt["spread"]))


def _captured(bench: Bench, calls: int) -> Callable[[], None]:
    """Return the replay of a graph of so many calls, over the copies in turn.

    The results of one round stay alive while the graph is captured, so that each copy of the operands also has memory
    of its own for its result.
    """
    graph = torch.cuda.CUDAGraph()
    alive: deque[Any] = deque(maxlen=len(bench.calls))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The CUDA Graph is empty")
        try:
            with torch.cuda.graph(graph):
                for number in range(calls):
                    alive.append(bench.calls[number % len(bench.calls)]())
        except UserWarning:
            raise CaseError("nothing runs on the GPU") from None
    replay: Callable[[], None] = graph.replay
    return replay


def _times(replay: Callable[[], Any], repeats: int) -> list[float]:
    """Return the time of each of some replays, between events on the stream [s]."""
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for before, after in marks:
        before.record()
        replay()
        after.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) * 1e-3 for before, after in marks]


def release() -> None:
    """Give the memory of the last case back."""
    gc.collect()
    with contextlib.suppress(RuntimeError):  # CUDA may be lost
        torch.cuda.empty_cache()


def context_is_lost() -> bool:
    """Return whether an error has left CUDA unusable for this process."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
