"""A forward pass as a struct of arrays: one row per operation."""

from pruninfersim._util.lazy import shows
from pruninfersim.trace.applied import Applied, PruningMethod, layer_weights
from pruninfersim.trace.build import trace
from pruninfersim.trace.fused import FUSED
from pruninfersim.trace.optrace import LABELS, NEUTRAL, OpTrace
from pruninfersim.trace.parts import SMALL, Part, parts, split, total
from pruninfersim.trace.twins import SHAPE_COLUMNS, alike, twins

__all__ = [
    "FUSED",
    "LABELS",
    "NEUTRAL",
    "SHAPE_COLUMNS",
    "SMALL",
    "Applied",
    "OpTrace",
    "Part",
    "PruningMethod",
    "alike",
    "layer_weights",
    "parts",
    "split",
    "total",
    "trace",
    "twins",
]

__dir__ = shows(__all__)
