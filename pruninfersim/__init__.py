"""Predict, before anyone writes a kernel, how much faster a pruned LLM gets on a GPU.

>>> import pruninfersim as pis
>>> pis.speedup(model="llama-3.1-8b", hardware="h100-sxm", method="static-width", sparsity=0.5, stack="ideal").bound
1.8...
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pruninfersim import errors, hardware, models, pruning, stacks
from pruninfersim.comparison import Speedup, compare, estimate, speedup
from pruninfersim.cost import CostModel, Estimate, Priced
from pruninfersim.explain import Explanation, explain
from pruninfersim.hardware import HardwareProfile
from pruninfersim.latency import attention_latency, gemm_latency
from pruninfersim.models import ModelConfig
from pruninfersim.sweep import sweep
from pruninfersim.trace import OpTrace, trace
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    from pruninfersim import pareto, plots, report, testing, timings
    from pruninfersim.calibration import Calibration, calibrate
    from pruninfersim.hardware_comparison import compare_hardware
    from pruninfersim.inverse import break_even, max_speedup, required_efficiency, suggest_width
    from pruninfersim.timings import read_timings
    from pruninfersim.validation import validate

__version__ = "0.1.0"

#: Names that need a heavy import (scipy, pandas, plotly) -> where they live; imported when first asked for.
_LAZY = {
    "Calibration": "calibration",
    "break_even": "inverse",
    "calibrate": "calibration",
    "compare_hardware": "hardware_comparison",
    "max_speedup": "inverse",
    "required_efficiency": "inverse",
    "suggest_width": "inverse",
    "pareto": "",
    "plots": "",
    "read_timings": "timings",
    "report": "",
    "testing": "",
    "timings": "",
    "validate": "validation",
}

__all__ = [
    "Calibration",
    "CostModel",
    "Estimate",
    "Explanation",
    "HardwareProfile",
    "ModelConfig",
    "OpTrace",
    "Priced",
    "Speedup",
    "Workload",
    "attention_latency",
    "break_even",
    "calibrate",
    "compare",
    "compare_hardware",
    "errors",
    "estimate",
    "explain",
    "gemm_latency",
    "hardware",
    "max_speedup",
    "models",
    "pareto",
    "plots",
    "pruning",
    "read_timings",
    "report",
    "required_efficiency",
    "speedup",
    "stacks",
    "suggest_width",
    "sweep",
    "testing",
    "timings",
    "trace",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'pruninfersim' has no attribute {name!r}")
    home = importlib.import_module(f"pruninfersim.{_LAZY[name] or name}")
    value = getattr(home, name) if _LAZY[name] else home
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
