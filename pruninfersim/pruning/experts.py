"""Pruning of mixtures of experts: fewer experts (REAP, arXiv 2510.13999), or fewer of them per token (skipping).

Dropping saves memory, and time only where a batch uses most experts anyhow: a token goes through as many as before.
Skipping saves weights in proportion at small batches, and work at large ones, but no memory. The width of experts is
pruned by `StaticWidth`, as that of any MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import checked
from pruninfersim.errors import InvalidInputError
from pruninfersim.models.architectures.routing import active_share
from pruninfersim.trace import Applied, OpTrace, layer_weights


@dataclass(frozen=True, eq=False)
class ExpertPruning:
    """Drop routed experts, or let every token skip some of its own.

    Attributes
    ----------
    dropped : array_like
        Fraction of the experts removed, in [0, 1) [1].
    skipped : array_like
        Fraction of a token's experts that it skips on average, in [0, 1) [1].

    >>> from pruninfersim import Workload, trace
    >>> halved = trace("qwen3-30b-a3b", Workload.decode(batch=1)).prune(ExpertPruning(skipped=0.5))
    >>> row = halved.select(halved.mask(kernels=["moe"]))
    >>> float(row.b_reads[0] * row.b_batch[0])  # experts whose weights one token reads
    4.0
    """

    name: ClassVar[str] = "expert-pruning"
    #: Kernel key that a model has to have.
    prunes: ClassVar[str] = "moe"

    dropped: ArrayLike = 0.0
    skipped: ArrayLike = 0.0

    def __post_init__(self) -> None:
        for name in ("dropped", "skipped"):
            checked(name, getattr(self, name), minimum=0.0, below=1.0)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with fewer experts.

        Raises
        ------
        InvalidInputError
            If the model has no routed experts, or a token would have more than there are left.
        """
        moe, router = trace.mask(kernels=["moe"]), trace.mask(names=["expert_router"])
        if not moe.any():
            name = trace.model.name if trace.model else "this trace"
            raise InvalidInputError(
                f"expert-pruning needs a model with routed experts, such as qwen3-30b-a3b or mixtral-8x7b; {name} has "
                "none"
            )
        dropped = np.asarray(self.dropped, dtype=np.float64)[..., None]
        left = np.maximum(np.rint(trace.b_batch * (1.0 - dropped)), 1.0)
        tokens = np.maximum(trace.sequences, 1e-9)
        top_k = trace.m * trace.batch / tokens * (1.0 - np.asarray(self.skipped, dtype=np.float64)[..., None])
        if (np.where(moe, top_k, 0.0) > left).any():
            raise InvalidInputError("dropped leaves fewer experts than a token goes through; drop fewer, or skip some")
        routings = {trace.pattern[i] or "uniform" for i in np.flatnonzero(moe)}
        share = active_share(tokens, np.minimum(top_k, left), left, routings.pop())
        pruned = trace.with_columns(
            batch=np.where(moe, left, trace.batch),
            b_batch=np.where(moe, left, trace.b_batch),
            m=np.where(moe, top_k * tokens / left, trace.m),
            b_reads=np.where(moe, share, trace.b_reads),
            n=np.where(router, np.maximum(np.rint(trace.n * (1.0 - dropped)), 1.0), trace.n),
        )
        had, have = (layer_weights(t).sum(axis=-1) for t in (trace, pruned))
        removed = np.asarray(1.0 - have / had)
        return pruned.with_columns(applied=(*trace.applied, Applied(self.name, removed, {"mlp": removed})))
