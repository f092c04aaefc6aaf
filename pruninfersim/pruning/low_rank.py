"""Low rank (static K): every weight becomes a pair of thin ones. SVD-LLM, Dobi-SVD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pruninfersim._util.arrays import TOO_LARGE, FloatArray, among, checked
from pruninfersim._util.doors import door, doors
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning.base import LINEAR, mean_where, record, round_up, targets
from pruninfersim.pruning.ratios import Axis, Ratio, check_ratio, parts, values_of, with_ratio
from pruninfersim.trace import OpTrace

#: Linear layers that read the residual stream, whose first factors layers can share (Basis Sharing leaves out o, down).
SHARING = ("q", "k", "v", "gate", "up", "qkv", "gate_up")


@door
def low_rank_rank(
    n: ArrayLike,
    k: ArrayLike,
    sparsity: ArrayLike,
    alignment: float = 16,
    *,
    columns: ArrayLike = 0.0,
    shared: ArrayLike = 1.0,
) -> FloatArray:
    """Return the rank at which a pair of factors stores ``1 - sparsity`` of the parameters of [n, k].

    r = (1 - s) n k / (n + k), rounded up to the alignment (arXiv 2606.09080, section on low-rank protocol). Columns
    that are stored as they are leave less for the factors; a first factor that L layers share costs each a part of it:
    r = ((1 - s) n k - n c) L / (k - c + L n).

    Parameters
    ----------
    n, k, sparsity : array_like
    alignment : float
    columns : array_like
        Input columns beside the pair [1].
    shared : array_like
        Layers with one first factor [1].

    Raises
    ------
    InvalidInputError
        If a size is not positive, the sparsity is not in [0, 1), or the columns alone store more.

    >>> low_rank_rank(4096, 4096, [0.5, 0.2]).tolist()
    [1024.0, 1648.0]
    >>> low_rank_rank(4096, 4096, 0.5, shared=2).tolist(), low_rank_rank(4096, 4096, 0.5, columns=512).tolist()
    (1376.0, 832.0)
    """
    outputs, inputs = (checked(name, x, minimum=1e-9, below=TOO_LARGE) for name, x in (("n", n), ("k", k)))
    keep = 1.0 - checked("sparsity", sparsity, minimum=0, below=1)
    own = checked("columns", columns, minimum=0, below=TOO_LARGE)
    of = checked("shared", shared, minimum=1, below=TOO_LARGE)
    left = keep * outputs * inputs - outputs * own
    if np.any(left <= 0):
        raise InvalidInputError(
            "the kept columns alone store more than the sparsity leaves: keep fewer of them, or prune less"
        )
    checked("alignment", alignment, minimum=1, below=TOO_LARGE)
    rank = left * of / (inputs - own + of * outputs)
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
    kept : array_like
        Share of the input columns that stay a thin dense weight beside the pair, which adds its result [1].
    shared : int
        Neighbouring layers with one first factor of q, k, v, gate and up (Basis Sharing, arXiv 2410.03765): stored
        once, multiplied by each, and of a higher rank at the same sparsity.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode()).prune(LowRank(0.5))
    >>> int(pruned.mask(kernels=["gemm"]).sum())
    14
    """

    name: ClassVar[str] = "low-rank"

    sparsity: Ratio = 0.0
    alignment: float = 16
    rank: ArrayLike | None = None
    kept: ArrayLike = 0.0
    shared: int = 1

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        if self.rank is not None:
            checked("rank", self.rank, minimum=1, whole=True)
            if any(np.any(values_of(part)) for _, part in parts(self.sparsity)):
                raise InvalidInputError("give a sparsity or a rank of the factors, not both")
        checked("alignment", self.alignment, minimum=1, whole=True)
        checked("kept", self.kept, minimum=0, below=1)
        checked("shared", self.shared, minimum=1, whole=True)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with two GEMMs for each prunable one, and one more for the columns that are kept."""
        trace, sparsity = with_ratio(trace, self.sparsity, roles=True)
        linear = targets(trace, self.name, LINEAR, ["gemm"], keeps_kernel=True)
        if "rank" in trace.n_axis:
            raise InvalidInputError("the GEMMs are low-rank pairs already; apply low-rank once, at the final sparsity")
        share = np.asarray(self.kept, dtype=np.float64)[..., None]
        columns = np.where(linear & (share > 0), round_up(share * trace.k, self.alignment, trace.k - 1.0), 0.0)
        of = np.where(linear & among(trace.roles, SHARING), float(self.shared), 1.0)
        rank = self._ranks(trace, sparsity, columns, of)
        pruned = _pairs(trace, linear, rank, columns, of)
        size = trace.n * trace.k
        removed = 1.0 - (trace.n * columns + rank * (trace.n + (trace.k - columns) / of)) / size
        achieved = {
            block: mean_where(removed, linear & trace.mask(blocks=[block]), size * trace.count)
            for block in ("attention", "mlp")
        }
        asked = self.sparsity
        if self.rank is not None:
            asked = Axis(np.clip(mean_where(removed, linear, size * trace.count), 0.0, None))
        return record(pruned, self.name, asked, achieved, of=trace, sparsity=sparsity)

    def _ranks(self, trace: OpTrace, sparsity: FloatArray, columns: FloatArray, of: FloatArray) -> FloatArray:
        if self.rank is None:
            return low_rank_rank(trace.n, trace.k, sparsity, self.alignment, columns=columns, shared=of)
        given = np.asarray(self.rank, dtype=np.float64)[..., None]
        return round_up(given, self.alignment, np.minimum(trace.n, trace.k))


def _pairs(trace: OpTrace, linear: NDArray[np.bool_], rank: FloatArray, columns: FloatArray, of: FloatArray) -> OpTrace:
    """Return the trace with the parts of each linear op in its place.

    "c", the kept columns; "a", the first factor as often as it is stored; "s", the same where another layer stores it;
    "b", the second factor.
    """
    present = {"c": np.any(columns > 0), "a": True, "s": True, "b": True}
    kinds = [
        [x for x in present if present[x] and (x != "s" or of[i] > 1)] if linear[i] else [""] for i in range(len(trace))
    ]
    order = np.repeat(np.arange(len(trace)), [len(each) for each in kinds])
    kind = np.array([x for each in kinds for x in each])
    rows, r, c, once = trace.select(order), rank[..., order], columns[..., order], 1.0 / of[order]
    first, second, own = np.isin(kind, ["a", "s"]), kind == "b", kind == "c"
    factor = first | second
    return rows.with_columns(
        n=np.where(first, r, rows.n),
        k=np.where(first, rows.k - c, np.where(second, r, np.where(own, c, rows.k))),
        count=rows.count * np.where(kind == "a", once, np.where(kind == "s", 1.0 - once, 1.0)),
        # The second factor adds to what the columns gave, which it reads.
        out_writes=rows.out_writes * np.where(own, 2.0, 1.0),
        name=tuple(f"{x}_{'b' if b else 'a'}" if f else x for x, f, b in zip(rows.name, factor, second, strict=True)),
        kernel=tuple("shared_gemm" if x == "s" else key for x, key in zip(kind, rows.kernel, strict=True)),
        n_axis=tuple("rank" if x else axis for x, axis in zip(first, rows.n_axis, strict=True)),
        k_axis=tuple("rank" if x else axis for x, axis in zip(second, rows.k_axis, strict=True)),
    )
