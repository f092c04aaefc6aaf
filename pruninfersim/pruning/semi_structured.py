"""2:4 semi-structured sparsity (static K). SparseGPT, MaskLLM.

Two of four weights along K are kept: half of the multiply-accumulates on sparse tensor cores, 0.5625 of the bytes in
bf16 (values and 1 bit of metadata per dense element). The kernel wants its activations transposed and padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray, somewhere
from pruninfersim._util.doors import doors
from pruninfersim.errors import InvalidInputError
from pruninfersim.hardware import precision
from pruninfersim.pruning.base import LINEAR, TINY, mean_where, no_kernel, overhead_rows, record, targets
from pruninfersim.pruning.ratios import Ratio, check_ratio, model_of, per_layer_ops, with_ratio
from pruninfersim.trace import OpTrace

#: Sparsity of a matrix in which two of four weights are kept.
HALF = 0.5


@doors
@dataclass(frozen=True, eq=False)
class SemiStructured:
    """Store the weights of whole layers as 2:4.

    Attributes
    ----------
    sparsity : Ratio
        Fraction of all prunable weights removed, 0 to 0.5 [1]; `PerRole` gives each linear layer its own. The pattern
        removes exactly half of a matrix, so that ``floor(2 * sparsity * layers)`` layers are stored as 2:4 and the
        others stay dense. The transposes of the sparse code path stay in every layer, at sparsity 0 too.

    >>> from pruninfersim import Workload, trace
    >>> dense = trace("llama-3.1-8b", Workload.decode())
    >>> pruned = dense.prune(SemiStructured(0.5))
    >>> up = lambda t: float(t.select(t.mask(names=["up"])).b_traffic.sum())
    >>> up(pruned) / up(dense)
    0.5625
    """

    name: ClassVar[str] = "semi-structured"
    #: Largest sparsity, and the figure that a GPU has to have.
    largest: ClassVar[float] = HALF
    needs: ClassVar[str] = "peak_2of4"

    sparsity: Ratio = 0.5

    def __post_init__(self) -> None:
        why = "2:4 keeps two of four weights; combine it with another method to remove more"
        check_ratio("sparsity", self.sparsity, largest=self.largest, why=why)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with sparse GEMMs in place of dense ones, and the transposes that they need."""
        trace, sparsity = with_ratio(trace, self.sparsity, roles=True)
        # One ratio speaks for all layers, so whole layers of them; a ratio per layer makes its layer 2:4 or not.
        layers = np.where(per_layer_ops(trace, self.sparsity), 1, model_of(trace).num_layers)
        share = np.floor(sparsity / self.largest * layers + TINY) / layers
        linear = targets(trace, self.name, LINEAR, ["gemm"])
        for dtype in dict.fromkeys(trace.dtype[i] for i in np.flatnonzero(linear)):
            if dtype in precision.DENSE_ONLY:
                raise InvalidInputError(no_kernel("2:4", dtype))
        dense = trace.with_columns(count=trace.count * np.where(linear, 1.0 - share, 1.0))
        sparse = self._sparse(trace, linear, share)
        extra = [row for block in ("attention", "mlp") for row in self._added(trace, block)]
        used = [part.select(somewhere(part.count > 0)) for part in (dense, sparse)]
        pruned = used[0].concat(used[1], *([OpTrace.from_rows(extra)] if extra else []))
        weights = trace.n * trace.k * trace.count
        achieved = {
            block: self.largest * mean_where(share, linear & trace.mask(blocks=[block]), weights)
            for block in ("attention", "mlp")
        }
        return record(pruned, self.name, self.sparsity, achieved, of=trace, sparsity=sparsity)

    def _sparse(self, trace: OpTrace, linear: np.ndarray, share: FloatArray) -> OpTrace:
        """Return the 2:4 twins of the linear ops, counted by the share of layers that use them."""
        twin = trace.select(linear)
        return twin.with_columns(
            kernel=("gemm_2of4",) * len(twin),
            pattern=("2:4",) * len(twin),
            count=twin.count * share[..., linear],
            mac_fraction=twin.mac_fraction * HALF,
            b_bytes=precision.sparse_bytes(twin.b_bytes),
        )

    def _added(self, trace: OpTrace, block: str) -> list[dict[str, Any]]:
        """Return the activation transposes and padding of one kind of sub-layer, as wide as its norm."""
        axes = {"n_axis": "hidden", "k_axis": "hidden"}
        return overhead_rows(trace, block, wide=("n", "k"), name=f"transpose_{block}", kernel="transpose", **axes)
