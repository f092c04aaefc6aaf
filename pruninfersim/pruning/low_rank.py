"""Low rank (static K): every weight becomes a pair of thin ones. SVD-LLM, Dobi-SVD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import TOO_LARGE, FloatArray, checked
from pruninfersim._util.doors import door, doors
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning.base import LINEAR, mean_where, record, round_up, targets
from pruninfersim.pruning.ratios import Axis, Ratio, check_ratio, parts, values_of, with_ratio
from pruninfersim.trace import OpTrace


@door
def low_rank_rank(n: ArrayLike, k: ArrayLike, sparsity: ArrayLike, alignment: float = 16) -> FloatArray:
    """Return the rank at which a pair of factors stores ``1 - sparsity`` of the parameters of [n, k].

    r = (1 - s) n k / (n + k), rounded up to the alignment (arXiv 2606.09080, section on low-rank protocol).

    Raises
    ------
    InvalidInputError
        If a size is not positive, or the sparsity is not in [0, 1).

    >>> low_rank_rank(4096, 4096, [0.5, 0.2]).tolist()
    [1024.0, 1648.0]
    """
    outputs, inputs = (checked(name, x, minimum=1e-9, below=TOO_LARGE) for name, x in (("n", n), ("k", k)))
    rank = (1.0 - checked("sparsity", sparsity, minimum=0, below=1)) * outputs * inputs / (outputs + inputs)
    return round_up(rank, alignment, np.minimum(outputs, inputs))


@doors
@dataclass(frozen=True, eq=False)
class LowRank:
    """Replace ``A W.T`` by ``(A W_a.T) W_b.T`` with an [m, r] result in between that is written and read.

    Attributes
    ----------
    sparsity : Ratio
        Fraction of the parameters of each weight removed [1]; `PerRole` gives each linear layer its own.
    alignment : float
        The rank is rounded up to a multiple of this.
    rank : array_like, optional
        Rank of every pair, instead of a sparsity; of a weight smaller than it, its smaller side. What share of the
        parameters that removes is in the record; it may be negative, since full rank stores more than the weight.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode()).prune(LowRank(0.5))
    >>> int(pruned.mask(kernels=["gemm"]).sum())
    14
    """

    name: ClassVar[str] = "low-rank"

    sparsity: Ratio = 0.0
    alignment: float = 16
    rank: ArrayLike | None = None

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        if self.rank is not None:
            checked("rank", self.rank, minimum=1, whole=True)
            if any(np.any(values_of(part)) for _, part in parts(self.sparsity)):
                raise InvalidInputError("give a sparsity or a rank of the factors, not both")
        checked("alignment", self.alignment, minimum=1, whole=True)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with two GEMMs for each prunable one."""
        trace, sparsity = with_ratio(trace, self.sparsity, roles=True)
        linear = targets(trace, self.name, LINEAR, ["gemm"], keeps_kernel=True)
        if "rank" in trace.n_axis:
            raise InvalidInputError("the GEMMs are low-rank pairs already; apply low-rank once, at the final sparsity")
        rank = self._ranks(trace, sparsity)
        order = np.repeat(np.arange(len(trace)), np.where(linear, 2, 1))
        second = np.concatenate([[False], order[1:] == order[:-1]])
        first = np.concatenate([second[1:], [False]])
        pairs, rank_of = trace.select(order), rank[..., order]
        suffix = np.where(first, "_a", np.where(second, "_b", ""))
        pruned = pairs.with_columns(
            n=np.where(first, rank_of, pairs.n),
            k=np.where(second, rank_of, pairs.k),
            name=tuple(f"{name}{end}" for name, end in zip(pairs.name, suffix, strict=True)),
            n_axis=tuple("rank" if x else axis for x, axis in zip(first, pairs.n_axis, strict=True)),
            k_axis=tuple("rank" if x else axis for x, axis in zip(second, pairs.k_axis, strict=True)),
        )
        size = trace.n * trace.k
        removed = 1.0 - rank * (trace.n + trace.k) / size
        achieved = {
            block: mean_where(removed, linear & trace.mask(blocks=[block]), size * trace.count)
            for block in ("attention", "mlp")
        }
        asked = self.sparsity
        if self.rank is not None:
            asked = Axis(np.clip(mean_where(removed, linear, size * trace.count), 0.0, None))
        return record(pruned, self.name, asked, achieved, of=trace, sparsity=sparsity)

    def _ranks(self, trace: OpTrace, sparsity: FloatArray) -> FloatArray:
        if self.rank is None:
            return low_rank_rank(trace.n, trace.k, sparsity, self.alignment)
        given = np.asarray(self.rank, dtype=np.float64)[..., None]
        return round_up(given, self.alignment, np.minimum(trace.n, trace.k))
