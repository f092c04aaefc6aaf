"""vLLM up to 0.5: decode in CUDA graphs, and a scheduler that costs each sequence more than in V1."""

from __future__ import annotations

from pruninfersim.cost.serving import Serving
from pruninfersim.stacks.engines.base import Engine
from pruninfersim.stacks.engines.lowering import Launched

ENGINE = Engine(
    "vllm-0.5",
    "argonne-lcf/LLM-Inference-Bench, Llama-2-7B and Llama-3-8B on A100 and H100",
    Launched(),
    step=0.95e-3,
    sequence=53e-6,
    decode=256.0,
    prefill=0.0,
    serving=Serving(memory_share=0.9, reserve=0.1 * 2**30, activations=True, chunked=False),
)
