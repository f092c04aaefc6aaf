"""Predict, before anyone writes a kernel, how much faster a pruned LLM gets on a GPU.

>>> import pruninfersim as pis
>>> pis.speedup(model="llama-3.1-8b", hardware="h100-sxm", method="static-width", sparsity=0.5, stack="ideal").estimated
1.8...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruninfersim import errors, hardware, models, pruning, stacks
from pruninfersim._util.lazy import lazy
from pruninfersim.cost import CostModel, Estimate, Priced
from pruninfersim.hardware import HardwareProfile
from pruninfersim.models import ModelConfig
from pruninfersim.questions.comparison import Speedup
from pruninfersim.questions.explain import Explanation, explain
from pruninfersim.questions.setup import Setup, compare, estimate, speedup
from pruninfersim.questions.single_kernel import attention_latency, gemm_latency
from pruninfersim.sweep import sweep
from pruninfersim.trace import OpTrace, trace
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    from pruninfersim import plots, report, testing
    from pruninfersim.calibration import timings
    from pruninfersim.calibration.fit import calibrate
    from pruninfersim.calibration.record import Calibration
    from pruninfersim.calibration.timings import read_timings
    from pruninfersim.calibration.validate import validate
    from pruninfersim.cost import memory
    from pruninfersim.questions import pareto
    from pruninfersim.questions.break_even import break_even
    from pruninfersim.questions.hardware_ranking import compare_hardware
    from pruninfersim.questions.headroom import max_speedup, required_efficiency
    from pruninfersim.questions.layer_kernels import all_reduce_latency, mla_latency, moe_latency
    from pruninfersim.questions.widths import suggest_width

__version__ = "0.1.0"

#: Names that need a heavy import (scipy, pandas, plotly) -> where they live; imported when first asked for.
_LAZY = {
    "Calibration": "pruninfersim.calibration.record",
    "all_reduce_latency": "pruninfersim.questions.layer_kernels",
    "break_even": "pruninfersim.questions.break_even",
    "calibrate": "pruninfersim.calibration.fit",
    "compare_hardware": "pruninfersim.questions.hardware_ranking",
    "max_speedup": "pruninfersim.questions.headroom",
    "memory": "pruninfersim.cost.memory:",
    "mla_latency": "pruninfersim.questions.layer_kernels",
    "moe_latency": "pruninfersim.questions.layer_kernels",
    "pareto": "pruninfersim.questions.pareto:",
    "plots": "pruninfersim.plots:",
    "read_timings": "pruninfersim.calibration.timings",
    "report": "pruninfersim.report:",
    "required_efficiency": "pruninfersim.questions.headroom",
    "suggest_width": "pruninfersim.questions.widths",
    "testing": "pruninfersim.testing:",
    "timings": "pruninfersim.calibration.timings:",
    "validate": "pruninfersim.calibration.validate",
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
    "Setup",
    "Speedup",
    "Workload",
    "all_reduce_latency",
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
    "memory",
    "mla_latency",
    "models",
    "moe_latency",
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

__getattr__ = lazy(globals(), _LAZY)


def __dir__() -> list[str]:
    return sorted(__all__)
