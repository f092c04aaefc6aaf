"""torch.compile with a static cache, as gpt-fast: fused kernels in one CUDA graph, no scheduler."""

from __future__ import annotations

from pruninfersim.cost.serving import Serving
from pruninfersim.stacks.engines.base import Engine
from pruninfersim.stacks.engines.lowering import Launched

ENGINE = Engine(
    "torch-compile",
    "pytorch-labs/gpt-fast, batch 1",
    Launched(),
    serving=Serving(memory_share=0.98, reserve=0.5 * 2**30),
)
