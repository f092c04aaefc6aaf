"""Which ops of two traces run just alike."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruninfersim.trace.optrace import NEUTRAL, OpTrace

#: Columns that decide how long a run of an op takes; where they agree, the very same kernel runs.
SHAPE_COLUMNS = tuple(name for name in NEUTRAL if name != "count")


@lru_cache(maxsize=4)
def twins(first: OpTrace, second: OpTrace) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """Return which ops of the second trace run just as in the first, and where.

    Pricing and comparing ask the same question of the same pair, one after the other: the last few answers are kept.

    Returns
    -------
    same : ndarray of bool, shape (*sweep, op of second)
        Whether the op has a twin of the same name, kernel, dtype and shape.
    partner : tuple of int, one per op of second
        Index of that twin in the first trace (0 where there is none).
    """
    index = {identity: i for i, identity in enumerate(_identities(first))}
    found = [index.get(identity) for identity in _identities(second)]
    partner = [i if i is not None else 0 for i in found]
    same: Any = np.array([i is not None for i in found])
    for name in SHAPE_COLUMNS:
        same = same & (getattr(second, name) == getattr(first, name)[..., partner])
    return same, tuple(partner)


def _identities(side: OpTrace) -> list[tuple[str | int, ...]]:
    """Name, kernel, dtype and pattern of each op, and how many such ops came before it."""
    seen: dict[tuple[str, ...], int] = {}
    out: list[tuple[str | int, ...]] = []
    for identity in zip(side.name, side.kernel, side.dtype, side.pattern, strict=True):
        seen[identity] = seen.get(identity, -1) + 1
        out.append((*identity, seen[identity]))
    return out
