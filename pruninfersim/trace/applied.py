"""Pruning as a trace sees it: what a method is, what it was asked to remove, and what it removed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pruninfersim._util.arrays import FloatArray, ReadOnly, among

if TYPE_CHECKING:
    from pruninfersim.trace.optrace import OpTrace


class PruningMethod(Protocol):
    """Anything that turns a trace into a trace."""

    @property
    def name(self) -> str:
        """Registry name, for instance ``"static-width"``."""

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the pruned trace; the given one stays as it is."""


@dataclass(frozen=True)
class Applied(ReadOnly):
    """What a pruning method was asked to remove, and what it removed after rounding.

    Attributes
    ----------
    method : str
    asked : ndarray, shape (*sweep)
        Sparsity asked for [1].
    achieved : dict of str to ndarray, shape (*sweep)
        Sparsity reached per kind of block [1].
    by_role : dict of str to ndarray, shape (*sweep)
        What was asked of each role [1]; empty if it was the same of all.
    """

    method: str
    asked: FloatArray
    achieved: dict[str, FloatArray]
    by_role: dict[str, FloatArray] = field(default_factory=dict)


def layer_weights(trace: OpTrace) -> FloatArray:
    """Return how many weights each op of the layers multiplies with, shape (*sweep, op); 0 for all other ops.

    Products of activations have no label on one of their dimensions, and routers are not what is pruned.
    """
    labelled = [n != "" and k != "" for n, k in zip(trace.n_axis, trace.k_axis, strict=True)]
    inside = np.array(labelled) & among(trace.block, ("attention", "mlp"))
    kept = np.array([0.5 if pattern == "2:4" else 1.0 for pattern in trace.pattern])
    weights = kept * trace.b_batch * trace.gemms * trace.n * trace.k * trace.count
    single = (np.asarray(trace.gemms) == 1.0) | among(trace.kernel, ["moe"])
    return np.asarray(np.where(inside & single, weights, 0.0))


def worked_out(method: PruningMethod, before: OpTrace, after: OpTrace) -> Applied:
    """Note what a method did: the removed share of the weights by block; asked for is its own sparsity, if it has one.

    Rows that the method adds do not count, only the roles that were there before.
    """
    old, new = layer_weights(before), layer_weights(after)
    ours = among(after.roles, before.roles)

    def removed(blocks: list[str]) -> FloatArray:
        had = np.where(before.mask(blocks=blocks), old, 0.0).sum(axis=-1)
        left = np.where(after.mask(blocks=blocks) & ours, new, 0.0).sum(axis=-1)
        return np.where(had > 0, 1.0 - left / np.where(had > 0, had, 1.0), 0.0)

    try:
        asked = np.asarray(getattr(method, "sparsity", None), dtype=np.float64)
    except (TypeError, ValueError):  # a ratio that only the method understands
        asked = np.asarray(np.nan)
    achieved = {block: removed([block]) for block in ("attention", "mlp")}
    everywhere = removed(["attention", "mlp"])
    return Applied(method.name, everywhere if np.isnan(asked).any() else asked, achieved)
