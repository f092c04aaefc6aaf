"""Static depth (static M): whole layers, or whole attention and MLP sub-layers, are gone.

ShortenedLLaMA, BlockPruner, CoopPruner. A removed sub-layer takes its norm, residual, launches and KV cache along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.doors import doors
from pruninfersim.errors import InvalidInputError, shown, unknown_name
from pruninfersim.pruning.base import TINY, openers, record
from pruninfersim.pruning.ratios import (
    PerBlock,
    PerLayer,
    Ratio,
    check_ratio,
    layers_with,
    model_of,
    parts,
    values_of,
    with_ratio,
)
from pruninfersim.trace import OpTrace


@doors
@dataclass(frozen=True, eq=False)
class StaticDepth:
    """Remove ``floor(sparsity * layers)`` whole layers, or an explicit list.

    Attributes
    ----------
    sparsity : Ratio
        Share of the layers to remove [1]; with `PerBlock` the shares of attention and MLP sub-layers.
    unit : {"layer", "sublayer"}
        With "sublayer", ``floor(sparsity * 2 * layers)`` sub-layers go; of an odd number the attention side gives
        one more, since attention sub-layers are the more redundant ones (BlockPruner, arXiv 2406.10594).
    layers, attention_layers, mlp_layers : tuple of int
        Explicit layers, or explicit sub-layers, to remove instead of a ratio.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode()).prune(StaticDepth(0.3))
    >>> float(pruned.applied[0].achieved["attention"])  # 9 of 32 layers
    0.28125
    """

    name: ClassVar[str] = "static-depth"

    sparsity: Ratio = 0.0
    unit: Literal["layer", "sublayer"] = "layer"
    layers: tuple[int, ...] = ()
    attention_layers: tuple[int, ...] = ()
    mlp_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_ratio("sparsity", self.sparsity)
        for name in ("layers", "attention_layers", "mlp_layers"):
            object.__setattr__(self, name, _whole_numbers(name, getattr(self, name)))
        if self.unit not in ("layer", "sublayer"):
            raise unknown_name("unit", self.unit, ["layer", "sublayer"])
        if any(isinstance(part, PerLayer) for _, part in parts(self.sparsity)):
            raise InvalidInputError("a layer is removed or kept: list the removed ones in layers=(...)")
        if self._listed and any(np.any(values_of(part)) for _, part in parts(self.sparsity)):
            raise InvalidInputError("give a sparsity or an explicit list of layers, not both")

    @property
    def _listed(self) -> bool:
        return bool(self.layers or self.attention_layers or self.mlp_layers)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace without the removed layers.

        Raises
        ------
        InvalidInputError
            If a listed layer does not exist.
        """
        total = model_of(trace).num_layers
        sparsity = with_ratio(trace, self.sparsity)[1]
        attention, mlp = self._listed_keep(trace) if self._listed else self._ratio_keep(total)
        keep = np.where(trace.mask(blocks=["attention"]), attention, np.where(trace.mask(blocks=["mlp"]), mlp, 1.0))
        pruned = trace.with_columns(count=trace.count * keep)
        if self._listed:
            pruned = self._relabelled(pruned)
        achieved = {
            "attention": 1.0 - _overall(trace, pruned, "attention"),
            "mlp": 1.0 - _overall(trace, pruned, "mlp"),
        }
        if self._listed:
            ratio: Ratio = PerBlock(achieved["attention"], achieved["mlp"])
            sparsity = with_ratio(trace, ratio)[1]
        else:
            ratio = self.sparsity
        return record(pruned, self.name, ratio, achieved, of=trace, sparsity=sparsity)

    def _ratio_keep(self, total: int) -> tuple[FloatArray, FloatArray]:
        """Return the kept share of attention and of MLP sub-layers, shape (*sweep, 1)."""
        if isinstance(self.sparsity, PerBlock):
            ratios = (values_of(self.sparsity.attention), values_of(self.sparsity.mlp))
            attention, mlp = (np.floor(np.asarray(ratio, dtype=float) * total + TINY) for ratio in ratios)
        elif self.unit == "sublayer":
            gone = np.floor(np.asarray(values_of(self.sparsity), dtype=float) * 2 * total + TINY)
            attention, mlp = np.ceil(gone / 2.0), np.floor(gone / 2.0)
        else:
            attention = mlp = np.floor(np.asarray(values_of(self.sparsity), dtype=float) * total + TINY)
        return 1.0 - np.asarray(attention)[..., None] / total, 1.0 - np.asarray(mlp)[..., None] / total

    def _gone(self, block: str) -> frozenset[int]:
        own = self.attention_layers if block == "attention" else self.mlp_layers
        return frozenset(self.layers) | frozenset(own)

    def _listed_keep(self, trace: OpTrace) -> tuple[FloatArray, FloatArray]:
        for layer in sorted(self._gone("attention") | self._gone("mlp")):
            layers_with(trace, layer)

        def share(block: str) -> FloatArray:
            gone = self._gone(block)
            return np.array([1.0 - len(gone & set(row)) / max(1, len(row)) for row in trace.layers])

        return share("attention"), share("mlp")

    def _relabelled(self, pruned: OpTrace) -> OpTrace:
        """Take the removed layers out of the row labels, and drop rows that stand for no layer any more."""
        rows = zip(pruned.layers, pruned.block, strict=True)
        labels = tuple(tuple(x for x in row if x not in self._gone(block)) for row, block in rows)
        alive = np.array([bool(new) or not old for new, old in zip(labels, pruned.layers, strict=True)])
        return pruned.with_columns(layers=labels).select(alive)


def _whole_numbers(name: str, values: ArrayLike) -> tuple[int, ...]:
    """Return layer numbers as a tuple of int, from any one-dimensional array_like."""
    array = checked(name, values, whole=True)
    if array.ndim != 1:
        raise InvalidInputError(f"{name} must be a list of whole numbers; got {shown(values)}")
    return tuple(int(value) for value in array)


def _overall(before: OpTrace, after: OpTrace, block: str) -> FloatArray:
    """Return the share of the sub-layers of a kind that is left, counted on the norms that open them."""
    left, had = (t.count[..., openers(t, block)].sum(axis=-1) for t in (after, before))
    return np.asarray(left / np.where(had > 0, had, 1.0))
