"""What an op costs: cost models, estimates, the clock between kernels, error bands, and the definitions of speedup."""

from pruninfersim._util.lazy import shows
from pruninfersim.cost.clock import Clock, Eager, Graph
from pruninfersim.cost.estimate import Estimate, scalar
from pruninfersim.cost.model import CostModel, Lowering, Priced, Protocol, Provenance
from pruninfersim.kernels.evidence import EVERYWHERE, EXACT, Domain, Spread

__all__ = [
    "EVERYWHERE",
    "EXACT",
    "Clock",
    "CostModel",
    "Domain",
    "Eager",
    "Estimate",
    "Graph",
    "Lowering",
    "Priced",
    "Protocol",
    "Provenance",
    "Spread",
    "scalar",
]

__dir__ = shows(__all__)
