"""Two checkpoints compared: what a pruned model, with a configuration of its own, gains over its parent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pruninfersim import models
from pruninfersim.errors import InvalidInputError
from pruninfersim.models import ModelConfig
from pruninfersim.trace import Applied, OpTrace, layer_weights, trace
from pruninfersim.workload import Workload


def both_traces(
    parent: ModelConfig | str, pruned: ModelConfig | str, workload: Workload | None, dtype: str | None = None
) -> tuple[OpTrace, OpTrace]:
    """Return the traces of a parent and of a checkpoint that was made from it.

    The second is noted to have lost the share of the layers' weights by which the two differ, so that the claim of the
    comparison is what those weights claim.

    Raises
    ------
    InvalidInputError
        If there is no workload, or the checkpoint has more weights than its parent.

    >>> blocks = [{"attention": {"no_op": i % 2 == 1}, "ffn": {}} for i in range(32)]
    >>> sizes = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    ...          "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "block_configs": blocks}
    >>> halved = ModelConfig.from_hf(sizes, name="half of the attention")
    >>> dense, pruned = both_traces("llama-3.1-8b", halved, Workload.decode())
    >>> round(float(pruned.applied[0].asked), 4)
    0.0962
    """
    if workload is None:
        raise InvalidInputError("comparing two models needs workload=, for instance Workload.decode(batch=16)")
    before, after = (trace(models.get(model), workload, dtype=dtype) for model in (parent, pruned))
    shares = {}
    for block in ("attention", "mlp", ""):
        had, left = (
            np.where(t.mask(blocks=[block] if block else []), layer_weights(t), 0.0).sum(axis=-1)
            for t in (before, after)
        )
        shares[block] = np.asarray(np.where(had > 0, 1.0 - left / np.where(had > 0, had, 1.0), 0.0))
    removed = shares.pop("")
    if (removed < -1e-9).any():
        raise InvalidInputError(
            f"{models.get(pruned).name} has more weights in its layers than {models.get(parent).name}; the first model "
            "is the parent, the second the pruned one"
        )
    note = Applied(f"checkpoint {models.get(pruned).name}", np.maximum(removed, 0.0), shares)
    return before, replace(after, applied=(note,))
