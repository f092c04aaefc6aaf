"""Hugging Face transformers, eager PyTorch: no graph, nothing fused, one kernel issued after another."""

from __future__ import annotations

from pruninfersim.cost.serving import Serving
from pruninfersim.stacks.engines.base import Engine
from pruninfersim.stacks.engines.lowering import Launched

#: Launches of one decode step of Llama in transformers 5.24 with SDPA, counted by a dispatch hook on a tiny model: a
#: layer is 40 (two norms of 8 and their residual adds, rope 10, seven projections, two `cat` of the cache, attention,
#: SiLU, product), and a step 25 more plus 28 of greedy `generate`. A norm of q and k each is 8.
LAUNCHES = (("norm", 9.0), ("qk_norm", 16.0), ("rope", 10.0), ("kv_append", 2.0), ("act", 2.0))
#: 25 + 28, without embedding, head and the final norm, which the trace has.
PER_STEP = 25.0 + 28.0 - 1.0 - 1.0 - 9.0
#: Bytes over those of one fused kernel: a norm in fp32 moves 34 B per element and its residual add 6, fused both are 8;
#: q and k norms 34 over 4; rope 20 over 4; SiLU and product 10 over 6.
MOVED = (("norm", 5.0), ("qk_norm", 8.5), ("rope", 5.0), ("act", 10.0 / 6.0), ("kv_append", 1.0))

ENGINE = Engine(
    "transformers",
    "launches counted in transformers 5.24; 28 us on a cloud L4, 10 to 23 us on servers",
    Launched(fused=False, of=LAUNCHES, per_step=PER_STEP, copies_cache=True),
    decode=0.0,
    prefill=0.0,
    unfused=MOVED,
    # Largest batches of an 8B model on 80 GB that papers report (62 and 30 at 8k and 16k tokens).
    serving=Serving(memory_share=0.98, reserve=0.5 * 2**30),
)
