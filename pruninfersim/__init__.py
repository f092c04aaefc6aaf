"""Predict, before anyone writes a kernel, how much faster a pruned LLM gets on a GPU.

>>> import pruninfersim as pis
>>> pis.speedup(model="llama-3.1-8b", hardware="h100-sxm", method="static-width", sparsity=0.5, stack="ideal").estimated
1.8...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruninfersim._util.lazy import lazy, shows

if TYPE_CHECKING:
    from pruninfersim import app, errors, hardware, models, plots, pruning, report, reproduce, stacks, testing
    from pruninfersim.calibration import timings
    from pruninfersim.calibration.fit import calibrate
    from pruninfersim.calibration.record import Calibration
    from pruninfersim.calibration.timings import read_timings
    from pruninfersim.calibration.validate import validate
    from pruninfersim.cost import CostModel, Estimate, Priced, memory
    from pruninfersim.hardware import HardwareProfile
    from pruninfersim.models import ModelConfig
    from pruninfersim.questions import pareto
    from pruninfersim.questions.answers import compare, estimate, speedup
    from pruninfersim.questions.availability import availability
    from pruninfersim.questions.break_even import break_even
    from pruninfersim.questions.calibrate_engine import calibrate_engine
    from pruninfersim.questions.capacity import capacity
    from pruninfersim.questions.comparison import Speedup
    from pruninfersim.questions.explain import Explanation, explain
    from pruninfersim.questions.hardware_ranking import compare_hardware
    from pruninfersim.questions.headroom import max_speedup, required_efficiency
    from pruninfersim.questions.layer_kernels import all_reduce_latency, mla_latency, moe_latency
    from pruninfersim.questions.request import request
    from pruninfersim.questions.setup import Setup
    from pruninfersim.questions.several import Speedups
    from pruninfersim.questions.single_kernel import attention_latency, gemm_latency
    from pruninfersim.questions.widths import suggest_width
    from pruninfersim.sweep import sweep
    from pruninfersim.trace import OpTrace, trace
    from pruninfersim.workload import Workload

__version__ = "0.1.0"

#: Public name -> where it lives; imported when first asked for, so that the command line starts at once.
_LAZY = {
    "Calibration": "pruninfersim.calibration.record",
    "CostModel": "pruninfersim.cost",
    "Estimate": "pruninfersim.cost",
    "Explanation": "pruninfersim.questions.explain",
    "HardwareProfile": "pruninfersim.hardware",
    "ModelConfig": "pruninfersim.models",
    "OpTrace": "pruninfersim.trace",
    "Priced": "pruninfersim.cost",
    "Setup": "pruninfersim.questions.setup",
    "Speedup": "pruninfersim.questions.comparison",
    "Workload": "pruninfersim.workload",
    "Speedups": "pruninfersim.questions.several",
    "attention_latency": "pruninfersim.questions.single_kernel",
    "availability": "pruninfersim.questions.availability",
    "app": "pruninfersim.app:",
    "all_reduce_latency": "pruninfersim.questions.layer_kernels",
    "break_even": "pruninfersim.questions.break_even",
    "calibrate": "pruninfersim.calibration.fit",
    "compare": "pruninfersim.questions.answers",
    "calibrate_engine": "pruninfersim.questions.calibrate_engine",
    "capacity": "pruninfersim.questions.capacity",
    "compare_hardware": "pruninfersim.questions.hardware_ranking",
    "errors": "pruninfersim.errors:",
    "estimate": "pruninfersim.questions.answers",
    "explain": "pruninfersim.questions.explain",
    "gemm_latency": "pruninfersim.questions.single_kernel",
    "hardware": "pruninfersim.hardware:",
    "max_speedup": "pruninfersim.questions.headroom",
    "memory": "pruninfersim.cost.memory:",
    "models": "pruninfersim.models:",
    "mla_latency": "pruninfersim.questions.layer_kernels",
    "moe_latency": "pruninfersim.questions.layer_kernels",
    "pareto": "pruninfersim.questions.pareto:",
    "plots": "pruninfersim.plots:",
    "pruning": "pruninfersim.pruning:",
    "read_timings": "pruninfersim.calibration.timings",
    "report": "pruninfersim.report:",
    "reproduce": "pruninfersim.reproduce:",
    "request": "pruninfersim.questions.request",
    "required_efficiency": "pruninfersim.questions.headroom",
    "speedup": "pruninfersim.questions.answers",
    "stacks": "pruninfersim.stacks:",
    "suggest_width": "pruninfersim.questions.widths",
    "sweep": "pruninfersim.sweep",
    "testing": "pruninfersim.testing:",
    "timings": "pruninfersim.calibration.timings:",
    "trace": "pruninfersim.trace",
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
    "Speedups",
    "Workload",
    "all_reduce_latency",
    "app",
    "attention_latency",
    "availability",
    "break_even",
    "calibrate",
    "calibrate_engine",
    "capacity",
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
    "reproduce",
    "request",
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
__dir__ = shows(__all__)
