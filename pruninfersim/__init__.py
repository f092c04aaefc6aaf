"""Predict, before anyone writes a kernel, how much faster a pruned LLM gets on a GPU.

>>> import pruninfersim as pis
>>> pis.speedup(model="llama-3.1-8b", hardware="h100-sxm", method="static-width", sparsity=0.5, stack="ideal").bound
1.9...
"""

from pruninfersim import errors, hardware, models, pruning, stacks
from pruninfersim.comparison import Speedup, compare, estimate, speedup
from pruninfersim.cost import CostModel, Estimate, Priced
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.trace import OpTrace, trace
from pruninfersim.workload import Workload

__version__ = "0.1.0"

__all__ = [
    "CostModel",
    "Estimate",
    "HardwareProfile",
    "ModelConfig",
    "OpTrace",
    "Priced",
    "Speedup",
    "Workload",
    "compare",
    "errors",
    "estimate",
    "hardware",
    "models",
    "pruning",
    "speedup",
    "stacks",
    "trace",
]


def __dir__() -> list[str]:
    return sorted(__all__)
