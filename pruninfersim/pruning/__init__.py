"""Pruning methods: frozen objects that turn a trace into a trace. One file per method."""

from pruninfersim._util.lazy import shows
from pruninfersim.pruning.activation_sparsity import ActivationSparsity
from pruninfersim.pruning.dynamic_depth import DynamicDepth, active_share
from pruninfersim.pruning.dynamic_width import DynamicWidth
from pruninfersim.pruning.early_exit import EarlyExit
from pruninfersim.pruning.experts import ExpertPruning
from pruninfersim.pruning.kv_eviction import KVEviction
from pruninfersim.pruning.kv_selection import KVSelection
from pruninfersim.pruning.layer_choices import LayerChoices
from pruninfersim.pruning.low_rank import LowRank, low_rank_rank
from pruninfersim.pruning.n_of_m import NOfM
from pruninfersim.pruning.prefill_depth import PrefillDepth
from pruninfersim.pruning.prefill_selection import PrefillSelection
from pruninfersim.pruning.quantized import Quantized
from pruninfersim.pruning.ratios import Axis, PerBlock, PerLayer, PerRole, Ratio
from pruninfersim.pruning.registry import (
    EVERY,
    METHODS,
    MORE,
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
from pruninfersim.pruning.token_merging import TokenMerging
from pruninfersim.pruning.token_pruning import TokenPruning
from pruninfersim.pruning.unstructured import Unstructured
from pruninfersim.pruning.vocabulary import Vocabulary

__all__ = [
    "EVERY",
    "METHODS",
    "MORE",
    "ActivationSparsity",
    "Axis",
    "Composed",
    "DynamicDepth",
    "DynamicWidth",
    "EarlyExit",
    "ExpertPruning",
    "KVEviction",
    "KVSelection",
    "LayerChoices",
    "LowRank",
    "Method",
    "NOfM",
    "PerBlock",
    "PerLayer",
    "PerRole",
    "PrefillDepth",
    "PrefillSelection",
    "Quantized",
    "Ratio",
    "SemiStructured",
    "SparseAttention",
    "StaticDepth",
    "StaticWidth",
    "StaticWidthCross",
    "TokenMerging",
    "TokenPruning",
    "Unstructured",
    "Vocabulary",
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

__dir__ = shows(__all__)
