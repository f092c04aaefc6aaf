"""How tokens spread over experts: expected experts in use, and tokens of each, under a stated routing.

`pruninfersim.workload.ROUTINGS` says what they mean; the skew of a power law is what ai-dynamo/aiconfigurator replays.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray
from pruninfersim.workload import checked_routing

#: Popularities are drawn from [1, SPAN x tokens], or from LOW where there are fewer pairs than experts.
SPAN, LOW = 0.8, (0.01, 2.0)


def skewed_counts(tokens: float, mean: float, experts: int, routing: str) -> FloatArray:
    """Return the tokens of each expert under a power law, least popular first, in whole numbers, shape (experts,).

    Deterministic quantiles stand for draws of popularities; they are scaled to `mean` tokens per expert and rounded, no
    expert has more than all tokens, and what rounding lost goes to experts that have none.

    >>> skewed_counts(16, 1.0, 8, "power_law_1.2").tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 5.0]
    """
    exponent = 1.0 - float(routing.removeprefix("power_law_"))
    low, high = (1.0, max(SPAN * tokens, 1.0 + 1e-9)) if mean > 1.0 else LOW
    rank = (np.arange(experts) + 0.5) / experts
    drawn = (rank * (high**exponent - low**exponent) + low**exponent) ** (1.0 / exponent)
    counts = np.minimum(np.rint(drawn / drawn.sum() * mean * experts), tokens)
    idle = np.flatnonzero(counts == 0)
    missing = int(np.clip(np.rint(mean * experts - counts.sum()), 0, idle.size))
    counts[idle[idle.size - missing :]] = 1.0
    return np.asarray(counts)


def busiest_rank(tokens: ArrayLike, top_k: ArrayLike, experts: ArrayLike, ranks: ArrayLike, routing: str) -> FloatArray:
    """Return the load of the most loaded of the ranks that share the experts, over the mean load, shape broadcast.

    Experts sit on ranks at random: a rank's load has the spread of a sum of E/ranks of them. All loads add up to the
    tokens, so that they are those of independent ranks less their mean, and the largest lies above by what the largest
    of `ranks` independent normal variables does (Blom's approximation).

    >>> float(busiest_rank(1024, 8, 128, 1, "power_law_1.2"))
    1.0
    """
    wide = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (tokens, top_k, experts, ranks)))
    out = np.ones(wide[0].shape)
    if routing == "balanced":
        return out
    for i, (t, k, e, n) in enumerate(zip(*(x.ravel() for x in wide), strict=True)):
        if n > 1:
            out.flat[i] = _busiest(float(t), float(k), int(e), float(n), routing)
    return out


@lru_cache(maxsize=20_000)
def _busiest(tokens: float, top_k: float, experts: int, ranks: float, routing: str) -> float:
    mean = tokens * top_k / experts
    if routing == "uniform":
        variation = np.sqrt(max(1.0 - top_k / experts, 0.0) / mean)
    else:
        counts = skewed_counts(tokens, mean, experts, routing)
        variation = counts.std() / max(counts.mean(), 1e-12)
    largest = NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))
    spread = variation * np.sqrt(ranks / max(experts - 1.0, 1.0))
    return float(min(1.0 + largest * spread, ranks))


def busiest_share(
    tokens: ArrayLike, top_k: ArrayLike, experts: ArrayLike, ranks: ArrayLike, routing: str
) -> FloatArray:
    """Return the share of its own experts that tokens of the most loaded rank go to, shape broadcast.

    >>> [round(float(busiest_share(16, 8, 128, ranks, "uniform")), 2) for ranks in (1, 8)]
    [0.64, 0.76]
    """
    if routing == "balanced":
        return active_share(tokens, top_k, experts, routing)
    load = busiest_rank(tokens, top_k, experts, ranks, routing)
    if routing == "uniform":
        return active_share(tokens, np.minimum(load * np.asarray(top_k), experts), experts, routing)
    found = []
    wide = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (tokens, top_k, experts, ranks, load)))
    for t, k, e, n, more in zip(*(x.ravel() for x in wide), strict=True):
        local, mean = e / n, more * t * k / e
        used = float((skewed_counts(t, mean, int(local), routing) > 0).sum()) if t > 1 else min(mean * local, local)
        found.append(min(max(used, np.ceil(k / n)) / local, 1.0))
    return np.reshape(found, load.shape)


def active_share(tokens: ArrayLike, top_k: ArrayLike, experts: ArrayLike, routing: str = "uniform") -> FloatArray:
    """Return the expected share of experts that any of the tokens goes to, shape broadcast.

    Uniform: 1 - (1 - k/E)^T. A single token uses exactly k of E under any routing.

    >>> [round(float(active_share(16, 8, 128, r)), 2) for r in ("uniform", "balanced")]
    [0.64, 1.0]
    """
    checked_routing(routing)
    tokens, top_k, experts = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (tokens, top_k, experts)))
    if routing == "uniform":
        return np.asarray(1.0 - (1.0 - np.minimum(top_k / experts, 1.0)) ** tokens)
    if routing == "balanced":
        return np.asarray(np.minimum(1.0, tokens * top_k / experts))
    shares = [
        float((skewed_counts(t, t * k / e, int(e), routing) > 0).mean())
        for t, k, e in zip(tokens.ravel(), top_k.ravel(), experts.ravel(), strict=True)
    ]
    return np.reshape(np.maximum(shares, np.minimum(1.0, top_k / experts).ravel()), tokens.shape)
