"""Which ops of two traces run just alike."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruninfersim.trace.optrace import NEUTRAL, OpTrace
from pruninfersim.trace.parts import parts, shortened

#: Columns that decide how long a run of an op takes; where they agree, the very same kernel runs.
SHAPE_COLUMNS = tuple(name for name in NEUTRAL if name != "count")


@lru_cache(maxsize=4)
def twins(first: OpTrace, second: OpTrace) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """Return which ops of the second trace run just as in the first, and where.

    Pricing and comparing ask the same question of the same pair, one after the other: the last few answers are kept.

    Returns
    -------
    same : ndarray of bool, shape broadcasts to (*sweep, op of second)
        Whether the op has a twin of the same name, kernel, dtype and shape.
    partner : tuple of int, one per op of second
        Index of that twin in the first trace (0 where there is none).
    """
    found = _partners(first, second)
    partner = [i if i is not None else 0 for i in found]
    plain = [name for name in SHAPE_COLUMNS if getattr(first, name).ndim == getattr(second, name).ndim == 1]
    ours, theirs = (np.array([getattr(side, name) for name in plain]) for side in (second, first))
    can = np.array([i is not None for i in found]) & (ours == theirs[:, partner]).all(axis=0)
    pieces = []
    for part in parts(second):
        same: Any = can[part.which]
        there = [partner[i] for i in part.which]
        for name in SHAPE_COLUMNS if same.any() else ():
            if name not in plain:
                same = same & (getattr(part.ops, name) == getattr(first, name)[..., there])
        pieces.append((part.which, shortened(same)))
    if len(pieces) == 1:
        return pieces[0][1], tuple(partner)
    out = np.empty((*np.broadcast_shapes(*(same.shape[:-1] for _, same in pieces)), len(second)), dtype=bool)
    for index, same in pieces:
        out[..., index] = same
    return out, tuple(partner)


@lru_cache(maxsize=4)
def alike(ops: OpTrace) -> NDArray[np.intp]:
    """Return, for each op, the first one that runs the same kernel on the same shape all along the sweep, shape (op,).

    Whatever is wrong with the time of one is wrong with that of the other: q and o of a layer, or the same op of two
    layers that are not folded together.
    """
    out = np.arange(len(ops))
    for part in parts(ops):
        columns = [getattr(part.ops, name) for name in SHAPE_COLUMNS]
        plain = np.array([column for column in columns if column.ndim == 1]).reshape(-1, len(part.which))
        wide = [column for column in columns if column.ndim > 1]
        known: dict[tuple[Any, ...], list[int]] = {}
        labels = zip(part.ops.kernel, part.ops.dtype, part.ops.pattern, strict=True)
        for i, own in enumerate(labels):
            others = known.setdefault((own, plain[:, i].tobytes()), [])
            equal = (j for j in others if all(bool((column[..., i] == column[..., j]).all()) for column in wide))
            found = next(equal, i)
            out[part.which[i]] = part.which[found]
            if found == i:
                others.append(i)
    return out


def _partners(first: OpTrace, second: OpTrace) -> list[int | None]:
    """Return the op of the first trace that each op of the second one was, if any.

    Of ops with the same labels the one of the same layers, or the first that shares layers with it where only one side
    is folded; outside of the layers, the one that is as far from the first of its kind.
    """
    of_layers: dict[Any, list[int]] = {}
    of_kind: dict[Any, list[int]] = {}
    for i, (kind, layers) in enumerate(_identities(first)):
        of_layers.setdefault((kind, layers), []).append(i)
        of_kind.setdefault(kind, []).append(i)
    folded = {i: frozenset(first.layers[i]) for index in of_kind.values() for i in index}
    seen: dict[Any, int] = {}
    out: list[int | None] = []
    for kind, layers in _identities(second):
        place = seen[kind, layers] = seen.get((kind, layers), -1) + 1
        found = of_layers.get((kind, layers), [])[place : place + 1]
        if not found and layers:
            found = [i for i in of_kind.get(kind, ()) if not folded[i].isdisjoint(layers)][:1]
        out.append(found[0] if found else None)
    return out


def _identities(side: OpTrace) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Name, kernel, dtype and pattern of each op, and its layers."""
    return list(zip(zip(side.name, side.kernel, side.dtype, side.pattern, strict=True), side.layers, strict=True))
