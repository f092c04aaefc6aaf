"""SGLang: the scheduler overlaps with the step; fp8 is quantised by kernels of its own, in blocks."""

from __future__ import annotations

from pruninfersim.cost.serving import Serving
from pruninfersim.stacks.engines.base import Engine
from pruninfersim.stacks.engines.lowering import Launched

ENGINE = Engine(
    "sglang",
    "ai-dynamo/aiconfigurator, SGLang 0.5.6 in block fp8: no time beside the kernels",
    Launched(quantise="input"),
    serving=Serving(memory_share=0.9, reserve=0.5 * 2**30, activations=True),
)
