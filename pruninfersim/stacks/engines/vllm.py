"""vLLM, V1: decode in CUDA graphs, a scheduler in Python between steps, prefill beyond 512 tokens without a graph."""

from __future__ import annotations

from pruninfersim.cost.serving import Serving
from pruninfersim.stacks.engines.base import Engine
from pruninfersim.stacks.engines.lowering import Launched

ENGINE = Engine(
    "vllm",
    "vLLM 0.19 in bf16 on a fast host 0.65 ms and 10 us, V1 in W8A8 0.9 to 1.8 ms and 14 to 28 us by host "
    "(casys-kaist/LLMServingSim, bcacdwk/vllmbench)",
    # 24 ms on a typical host, in W8A8 runs without a server (bcacdwk/vllmbench): admission of the requests.
    Launched(quantise="separate", admission=24e-3 / 18e-6, graph_tokens=511.0),
    step=1.2e-3,
    sequence=18e-6,
    decode=512.0,
    prefill=511.0,
    # Two host-bound prefill steps of one length differ by a factor 0.85 to 1.18 (5 and 95 %).
    repeatability=0.16,
    serving=Serving(
        memory_share=0.9,
        reserve=0.5 * 2**30,
        activations=True,
        front=5e-3,
        front_token=0.9e-6,
    ),
)
