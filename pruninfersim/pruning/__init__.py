"""Pruning methods: frozen objects that turn a trace into a trace. One file per family of the taxonomy."""

from pruninfersim.pruning.dynamic_depth import DynamicDepth, active_share
from pruninfersim.pruning.low_rank import LowRank, low_rank_rank
from pruninfersim.pruning.quantized import Quantized
from pruninfersim.pruning.ratios import Axis, PerBlock, PerLayer, PerRole, Ratio
from pruninfersim.pruning.registry import (
    METHODS,
    Composed,
    Method,
    at,
    get,
    largest,
    names,
    resolve,
    takes_sparsity,
    unfit,
)
from pruninfersim.pruning.semi_structured import SemiStructured
from pruninfersim.pruning.sparse_attention import SparseAttention
from pruninfersim.pruning.static_depth import StaticDepth
from pruninfersim.pruning.static_width import StaticWidth
from pruninfersim.pruning.static_width_cross import StaticWidthCross

__all__ = [
    "METHODS",
    "Axis",
    "Composed",
    "DynamicDepth",
    "LowRank",
    "Method",
    "PerBlock",
    "PerLayer",
    "PerRole",
    "Quantized",
    "Ratio",
    "SemiStructured",
    "SparseAttention",
    "StaticDepth",
    "StaticWidth",
    "StaticWidthCross",
    "active_share",
    "at",
    "get",
    "largest",
    "low_rank_rank",
    "names",
    "resolve",
    "takes_sparsity",
    "unfit",
]
