"""How tokens spread over experts: expected experts in use, and tokens of each, under a stated routing.

"uniform": every token picks its experts at random; "balanced": as even as whole tokens allow; "power_law_a": the
popularity of experts is drawn from x^-a, the more skewed the larger a (the skew that ai-dynamo/aiconfigurator replays).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import unknown_name

#: The routings that are known.
ROUTINGS = ("uniform", "balanced", "power_law_1.01", "power_law_1.2")
#: Popularities are drawn from [1, SPAN x tokens], or from LOW where there are fewer pairs than experts.
SPAN, LOW = 0.8, (0.01, 2.0)


def checked_routing(routing: str) -> str:
    """Return the name of a routing.

    Raises
    ------
    UnknownNameError
        If it is none of `ROUTINGS`.

    >>> checked_routing("balanced")
    'balanced'
    """
    if routing not in ROUTINGS:
        raise unknown_name("routing", routing, ROUTINGS)
    return routing


def popularity(tokens: float, top_k: float, experts: int, routing: str) -> FloatArray:
    """Return the tokens of each expert in whole numbers, most popular first, shape (experts,).

    Deterministic quantiles stand for the draws of a power law. Their sum is that of a benchmark, tokens x top_k after
    rounding.
    """
    pairs = tokens * top_k
    if routing == "balanced":
        least = np.floor(pairs / experts)
        return np.asarray(least + (np.arange(experts) < pairs - least * experts))
    exponent = 1.0 - float(routing.removeprefix("power_law_"))
    low, high = (1.0, max(SPAN * tokens, 1.0 + 1e-9)) if pairs > experts else LOW
    rank = (np.arange(experts)[::-1] + 0.5) / experts
    drawn = (rank * (high**exponent - low**exponent) + low**exponent) ** (1.0 / exponent)
    return np.asarray(np.minimum(np.rint(drawn / drawn.sum() * pairs), tokens))


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
        float((popularity(t, k, int(e), routing) > 0).mean())
        for t, k, e in zip(tokens.ravel(), top_k.ravel(), experts.ravel(), strict=True)
    ]
    return np.reshape(np.maximum(shares, np.minimum(1.0, top_k / experts).ravel()), tokens.shape)
