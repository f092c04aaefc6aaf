"""TensorRT-LLM 1.0 and later: the scheduler overlaps with the step, and static scales are fused into the op before."""

from __future__ import annotations

from pruninfersim.cost.serving import Serving
from pruninfersim.stacks.engines.base import Engine
from pruninfersim.stacks.engines.lowering import Launched

ENGINE = Engine(
    "tensorrt-llm",
    "ai-dynamo/aiconfigurator, TensorRT-LLM 1.0.0rc3: no time beside the kernels",
    Launched(quantise="fused"),
    serving=Serving(memory_share=0.9, reserve=0.5 * 2**30, activations=True),
)
