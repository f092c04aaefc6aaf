"""What the conformance checks share: workloads, and complaints that say where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pruninfersim._util.arrays import FloatArray
from pruninfersim.cost.speedups import total_flops
from pruninfersim.errors import ConformanceError
from pruninfersim.trace import LABELS, NEUTRAL, OpTrace
from pruninfersim.workload import Workload

#: Small workloads of both phases, compute-bound and memory-bound.
WORKLOADS = (
    Workload.prefill(batch=1, tokens=512),
    Workload.prefill(batch=2, tokens=2048),
    Workload.decode(batch=1, context=1024),
    Workload.decode(batch=8, context=4096),
)
#: Relative difference that floating-point sums in another order may show.
CLOSE = 1e-9


def require(condition: bool, message: str) -> None:
    """Complain unless a condition holds."""
    if not condition:
        raise ConformanceError(message)


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a ConformanceError that says where."""
    try:
        yield
    except ConformanceError:
        raise
    except Exception as error:
        raise ConformanceError(f"{what} raised {type(error).__name__}: {error}") from error


def snapshot(ops: OpTrace) -> tuple[Any, ...]:
    """Return everything in a trace as plain values that compare by content."""
    if not isinstance(ops, OpTrace):
        return (ops,)
    arrays = [np.asarray(getattr(ops, name)) for name in NEUTRAL]
    columns = [(array.shape, array.tobytes()) for array in arrays]
    return (*columns, *(getattr(ops, name) for name in LABELS), id(ops.model), id(ops.workload), len(ops.applied))


def totals(ops: OpTrace) -> tuple[FloatArray, FloatArray]:
    """Return the FLOPs and the bytes of a pass."""
    return total_flops(ops), np.asarray((ops.traffic * ops.count).sum(axis=-1))
