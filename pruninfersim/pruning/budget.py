"""What methods on the KV cache share: budgets of keys, and the rows that score keys and choose the best of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning.base import TINY
from pruninfersim.pruning.ratios import Axis, Ratio, check_ratio, parts, values_of
from pruninfersim.trace import OpTrace

#: Passes over the scores of a radix top-k: 32 bits in digits of 11 (AIR Top-K, Zhang et al., SC 2023).
TOP_K_PASSES = 3.0
#: Columns of an attention row that a row which scores its keys takes over.
SHARED = ("sequences", "count", "a_bytes", "b_bytes", "out_bytes")


def check_budget(sparsity: Ratio, budget: ArrayLike | None) -> None:
    """Raise InvalidInputError unless exactly one of a share and a number of tokens says how many keys are kept.

    >>> check_budget(0.0, 1024)
    """
    check_ratio("sparsity", sparsity)
    if budget is None:
        return
    checked("budget", budget, minimum=1, whole=True)
    if any(np.any(values_of(part)) for _, part in parts(sparsity)):
        raise InvalidInputError("give a sparsity (a share of the keys) or a budget (a number of keys), not both")


def kept_keys(keys: FloatArray, sparsity: FloatArray, budget: ArrayLike | None, multiple: float = 1.0) -> FloatArray:
    """Return how many keys are left of each op, in whole pages, at least one page and never more than there are.

    Parameters
    ----------
    keys : ndarray, shape (*sweep, op)
    sparsity : ndarray, shape (*sweep, op)
        Share to drop [1]; not used where there is a budget.
    budget : array_like, shape (*sweep), optional
        Keys to keep of each sequence.
    multiple : float
        Keys that come and go together.

    >>> kept_keys(np.array([4096.0, 100.0]), np.array([0.0, 0.0]), 1024).tolist()
    [1024.0, 100.0]
    """
    wanted = (1.0 - sparsity) * keys if budget is None else np.asarray(budget, dtype=np.float64)[..., None]
    pages = np.maximum(np.ceil(wanted / multiple - TINY), 1.0)
    return np.asarray(np.minimum(pages * multiple, keys))


def as_asked(sparsity: Ratio, budget: ArrayLike | None, achieved: FloatArray) -> Ratio:
    """Return the sparsity that a record notes as asked for: the given one, or what the budget comes to [1]."""
    if budget is None:
        return sparsity
    return Axis(np.clip(achieved, 0.0, np.nextafter(1.0, 0.0)))


def score_row(trace: OpTrace, index: int, name: str, m: ArrayLike, n: ArrayLike, **columns: Any) -> dict[str, Any]:
    """Return the row of a product of queries with keys, or with summaries of keys, of the attention op at `index`.

    [m, head_dim] of every query head with [n, head_dim] of every KV head gives [m, n] scores.
    """
    of = {column: getattr(trace, column)[..., index] for column in (*SHARED, "batch", "b_batch", "mac_fraction")}
    row = {
        "name": name, "kernel": "block_score", "block": "attention", "layers": trace.layers[index], "gemms": 1.0,
        "m": m, "n": n, "k": trace.k[..., index], "k_axis": "head_dim", "dtype": trace.dtype[index],
        "out_writes": of["mac_fraction"],
    }  # fmt: skip
    return row | of | columns


def top_k_row(trace: OpTrace, index: int, name: str, m: ArrayLike, of: ArrayLike, chosen: ArrayLike) -> dict[str, Any]:
    """Return the row of choosing the best of `of` scores in each of `m` rows of every KV head; indices are written."""
    columns = {column: getattr(trace, column)[..., index] for column in (*SHARED, "batch")}
    share = trace.mac_fraction[..., index]
    return columns | {
        "name": name, "kernel": "block_index", "block": "attention", "layers": trace.layers[index], "m": m,
        "batch": trace.b_batch[..., index], "k": of, "n": chosen, "k_axis": "head_dim", "dtype": trace.dtype[index],
        "a_reads": TOP_K_PASSES * share,
    }  # fmt: skip
