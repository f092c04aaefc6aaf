"""A pruning method of one's own: keep a budget of keys per sequence (StreamingLLM, H2O), the rest is evicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim.trace import OpTrace


@dataclass(frozen=True)
class KVEviction:
    """Attend to a share of the keys, and store no others; choosing them costs a pass over the scores."""

    name: ClassVar[str] = "kv-eviction"

    sparsity: ArrayLike = 0.5

    def apply(self, trace: OpTrace) -> OpTrace:
        attention = trace.mask(names=["attention"])
        keep = 1.0 - np.asarray(self.sparsity)[..., None]  # the op axis is last
        keys = np.where(attention, np.ceil(keep * trace.n), trace.n)
        kept = trace.with_columns(n=keys)
        choose = [
            {
                "name": "evict", "kernel": "elementwise", "block": "attention", "layers": trace.layers[i],
                "count": trace.count[..., i], "m": trace.sequences[..., i], "n": 1.0, "k": trace.n[..., i],
                "dtype": trace.dtype[i],
            }
            for i in np.flatnonzero(attention)
        ]  # fmt: skip
        return kept.concat(OpTrace.from_rows(choose))
