"""Pruning methods: frozen objects that turn a trace into a trace. One file per family of the taxonomy."""

from __future__ import annotations

from typing import Any

from pruninfersim.errors import unknown_name
from pruninfersim.pruning.base import PerBlock, PerLayer, Ratio
from pruninfersim.pruning.dynamic_depth import DynamicDepth, active_share
from pruninfersim.pruning.low_rank import LowRank, low_rank_rank
from pruninfersim.pruning.semi_structured import SemiStructured
from pruninfersim.pruning.sparse_attention import SparseAttention
from pruninfersim.pruning.static_depth import StaticDepth
from pruninfersim.pruning.static_width import StaticWidth
from pruninfersim.pruning.static_width_cross import StaticWidthCross
from pruninfersim.trace import PruningMethod

__all__ = [
    "METHODS",
    "DynamicDepth",
    "LowRank",
    "PerBlock",
    "PerLayer",
    "Ratio",
    "SemiStructured",
    "SparseAttention",
    "StaticDepth",
    "StaticWidth",
    "StaticWidthCross",
    "active_share",
    "get",
    "low_rank_rank",
]

#: Name -> class. A method that another package adds needs no entry here: pass the object itself.
METHODS: dict[str, Any] = {
    method.name: method
    for method in (StaticDepth, LowRank, SemiStructured, StaticWidth, StaticWidthCross, DynamicDepth, SparseAttention)
}


def get(name: str, sparsity: Ratio, **options: Any) -> PruningMethod:
    """Return the method called `name` at a sparsity.

    Raises
    ------
    UnknownNameError
        If no method has this name.
    InvalidInputError
        If the sparsity is outside [0, 1).

    >>> get("low-rank", 0.5).name
    'low-rank'
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    method: PruningMethod = METHODS[name](sparsity, **options)
    return method
