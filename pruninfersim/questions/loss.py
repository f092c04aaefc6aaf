"""What pruning costs in quality, between the rows of a table: piecewise linear in the sparsity, from no loss at 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Loss:
    """Quality loss of a family over the sparsity: the best method of a table at each sparsity, lines in between.

    Attributes
    ----------
    sparsity : ndarray, shape (point,)
        Increasing, first 0 [1].
    gap : ndarray, shape (point,)
        Quality loss, first 0 [%].
    methods : tuple of str, one per point
        Whose it is; the first is empty.
    """

    sparsity: FloatArray
    gap: FloatArray
    methods: tuple[str, ...]

    def at(self, sparsity: ArrayLike) -> FloatArray:
        """Return the loss at a sparsity, shape of `sparsity` [%]; NaN beyond the last row, where nobody knows."""
        return np.asarray(np.interp(np.asarray(sparsity, dtype=float), self.sparsity, self.gap, right=np.nan))

    def source(self, sparsity: float) -> str:
        """Return whose loss it is at a sparsity: a method of the table, or the two that it lies between."""
        after = int(np.searchsorted(self.sparsity, sparsity))
        if after >= len(self.sparsity):
            return ""
        exact = self.sparsity[after] == sparsity
        near = self.methods[after : after + 1] if exact else self.methods[max(after - 1, 0) : after + 1]
        return ", ".join(dict.fromkeys(name for name in near if name))

    def edges(self, largest: float) -> FloatArray:
        """Return the sparsities at which the loss crosses `largest`, shape (crossing,) [1]."""
        before, after = self.gap[:-1] - largest, self.gap[1:] - largest
        crosses = before * after < 0
        share = np.divide(before, before - after, out=np.zeros_like(before), where=crosses)
        return np.asarray((self.sparsity[:-1] + share * np.diff(self.sparsity))[crosses])


def losses(quality: pd.DataFrame) -> dict[str, Loss]:
    """Return the loss of each family of a quality table.

    Parameters
    ----------
    quality : DataFrame
        As `pruninfersim.pareto.read_quality` returns it.

    >>> from pruninfersim.questions.pareto import published_quality
    >>> depth = losses(published_quality())["static-depth"]
    >>> depth.at([0.0, 0.25, 0.5, 0.6]).tolist(), depth.source(0.3)
    ([0.0, 10.89, 30.83, nan], 'Shortened-taylor')
    """
    out = {}
    for family, rows in quality[quality["sparsity"] > 0].groupby("family", sort=False):
        best = rows.loc[rows.groupby("sparsity")["gap_percent"].idxmin()].sort_values("sparsity")
        points = [(0.0, 0.0, ""), *zip(best["sparsity"], best["gap_percent"], best["method"], strict=True)]
        sparsity, gap, methods = zip(*points, strict=True)
        out[str(family)] = Loss(np.array(sparsity, dtype=float), np.array(gap, dtype=float), tuple(map(str, methods)))
    return out
