"""TensorRT-LLM 0.9: a C++ runtime with little work between steps."""

from __future__ import annotations

from pruninfersim.cost.serving import Serving
from pruninfersim.stacks.engines.base import Engine
from pruninfersim.stacks.engines.kernels import PerHeadReads
from pruninfersim.stacks.engines.lowering import Launched

ENGINE = Engine(
    "tensorrt-llm-0.9",
    "argonne-lcf/LLM-Inference-Bench, Llama-2-7B and Llama-3-8B on A100 and H100",
    Launched(quantise="fused"),
    step=0.42e-3,
    sequence=15e-6,
    # Its multi-head kernel of that time: only a later one (XQA) shares the reads of a group.
    decode_attention=PerHeadReads,
    serving=Serving(memory_share=0.9, reserve=0.5 * 2**30, activations=True),
)
