"""Static cross-layer width (static NK cross): the hidden dimension itself is narrower. SliceGPT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pruninfersim._util.arrays import FloatArray, among, checked
from pruninfersim._util.doors import doors
from pruninfersim.hardware import precision
from pruninfersim.pruning.base import OPENER, mean_where, overhead_rows, record, round_up
from pruninfersim.pruning.ratios import Ratio, check_ratio, with_ratio
from pruninfersim.trace import OpTrace, layer_weights


@doors
@dataclass(frozen=True, eq=False)
class StaticWidthCross:
    """Slice the hidden dimension everywhere: inputs of q, k, v, gate, up and head, outputs of o and down, norms.

    Rotations between sub-layers become two [D', D'] projections of the residual per layer, which stay at sparsity 0.
    Attention and KV cache keep their size.

    Attributes
    ----------
    sparsity : Ratio
        Fraction of the hidden dimension removed [1]; one ratio, or one per layer.
    alignment : float
        The hidden size is rounded up to a multiple of this.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode()).prune(StaticWidthCross(0.25))
    >>> float(pruned.select(pruned.mask(names=["lm_head"])).k.max())
    3072.0
    """

    name: ClassVar[str] = "static-width-cross"

    sparsity: Ratio
    alignment: float = 16

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        checked("alignment", self.alignment, minimum=1, whole=True)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with a narrower residual stream and its projections."""
        trace, sparsity = with_ratio(trace, self.sparsity, outside=True)

        def narrowed(size: FloatArray, axes: tuple[str, ...]) -> FloatArray:
            sliced = round_up((1.0 - sparsity) * size, self.alignment, size)
            return np.where(among(axes, ["hidden"]), sliced, size)

        sliced = trace.with_columns(n=narrowed(trace.n, trace.n_axis), k=narrowed(trace.k, trace.k_axis))
        extra = [row for block in ("attention", "mlp") for row in _residual_rows(sliced, block)]
        hidden = trace.mask(names=list(OPENER.values()))
        removed = mean_where(1.0 - sliced.k / trace.k, hidden, trace.count)
        pruned = sliced.concat(OpTrace.from_rows(extra))
        achieved = {"attention": removed, "mlp": removed}
        return record(pruned, self.name, self.sparsity, achieved, of=trace, sparsity=sparsity)


def _residual_rows(trace: OpTrace, block: str) -> list[dict[str, Any]]:
    """Return the residual projections of one kind of sub-layer: [D', D'], in the precision of the linear layers."""
    linear = int(np.flatnonzero(layer_weights(trace).reshape(-1, len(trace)).any(axis=0))[0])
    form = precision.get(trace.dtype[linear])  # and not its columns: the weights there may be 2:4 already
    columns: dict[str, Any] = {
        "name": f"residual_{block}", "kernel": "gemm", "gemms": 1.0, "dtype": form.dtype, "a_bytes": form.input_bytes,
        "b_bytes": form.weight_bytes, "out_bytes": form.output_bytes, "n_axis": "hidden", "k_axis": "hidden",
    }  # fmt: skip
    return overhead_rows(trace, block, wide=("n", "k"), **columns)
