"""Vocabulary pruning: tokens that a use never needs leave the LM head, and the embedding table with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import checked
from pruninfersim._util.doors import doors
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning.base import record, round_up, targets
from pruninfersim.pruning.ratios import Axis, check_ratio, check_sweep
from pruninfersim.trace import OpTrace


@doors
@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Keep a share of the vocabulary in the LM head.

    The claim of a method is the removed share of the weights *of the layers*, LM head and embedding left out; this one
    removes none of these, so that it claims a speedup of 1. The record says the share of the head in `achieved`.

    Attributes
    ----------
    sparsity : array_like
        Share of the vocabulary removed [1].
    size : array_like, optional
        Entries kept, instead of a share.
    alignment : float
        The size is rounded up to a multiple of this.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode()).prune(Vocabulary(0.75))
    >>> float(pruned.select(pruned.mask(names=["lm_head"])).n[0])
    32064.0
    """

    name: ClassVar[str] = "vocabulary"

    sparsity: ArrayLike = 0.0
    size: ArrayLike | None = None
    alignment: float = 64

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        checked("alignment", self.alignment, minimum=1, whole=True)
        if self.size is not None:
            checked("size", self.size, minimum=1, whole=True)
            if np.any(np.asarray(self.sparsity)):
                raise InvalidInputError("give a sparsity or a size of the vocabulary, not both")

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with a narrower LM head."""
        check_sweep(trace, self.sparsity)
        head = targets(trace, self.name, ["lm_head"], ["lm_head"])
        keep = 1.0 - np.asarray(self.sparsity, dtype=np.float64)[..., None]
        wanted = keep * trace.n if self.size is None else np.asarray(self.size, dtype=np.float64)[..., None]
        pruned = trace.with_columns(n=np.where(head, round_up(wanted, self.alignment, trace.n), trace.n))
        gone = (1.0 - pruned.n / trace.n)[..., head].max(axis=-1, initial=0.0)
        return record(pruned, self.name, Axis(0.0), {"head": gone})
