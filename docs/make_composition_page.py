"""Write docs/methods/compositions.md: run ``python docs/make_composition_page.py`` after a change of a method."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import pruninfersim as pis
from pruninfersim import pruning
from pruninfersim.errors import InvalidInputError

PAGE = Path(__file__).parent / "methods" / "compositions.md"
#: One object per method, the seven families first.
METHODS = {
    "static-depth": pruning.StaticDepth(0.25),
    "low-rank": pruning.LowRank(0.5),
    "semi-structured": pruning.SemiStructured(0.5),
    "static-width": pruning.StaticWidth(0.5),
    "static-width-cross": pruning.StaticWidthCross(0.25),
    "dynamic-depth": pruning.DynamicDepth(0.25),
    "sparse-attention": pruning.SparseAttention(0.5),
    "kv-eviction": pruning.KVEviction(0.5, score="window"),
    "kv-selection": pruning.KVSelection(0.5),
    "prefill-selection": pruning.PrefillSelection(0.5),
    "unstructured": pruning.Unstructured(0.5),
    "n-of-m": pruning.NOfM(kept=2, of=8),
    "activation-sparsity": pruning.ActivationSparsity(0.5),
    "dynamic-width": pruning.DynamicWidth(0.5),
    "token-pruning": pruning.TokenPruning(0.5),
    "token-merging": pruning.TokenMerging(0.5),
    "early-exit": pruning.EarlyExit(0.5),
    "prefill-depth": pruning.PrefillDepth(0.25),
    "vocabulary": pruning.Vocabulary(0.5),
    "layer-choices": pruning.LayerChoices(mlp=(7168, "none") * 16),
    "expert-pruning": pruning.ExpertPruning(0.5),
}
WORKLOADS = (pis.Workload.prefill(batch=2, tokens=2048), pis.Workload.decode(batch=4, context=8192))
LEAD = """# Compositions

A sequence of methods is applied in order: `["static-depth", "low-rank"]` removes layers first, and factorises what is
left. Every pair of methods works, works in one order, or is refused with a reason that names both.

| | the method of the row first, then that of the column |
|---|---|
| **=** | works; the other order has the same FLOPs and bytes |
| **≠** | works; the other order works too, and has others: the order is what is asked for |
| **→** | works; the other order is refused |
| **↺** | refused: apply the method of the column first |
| **✗** | refused in both orders: no kernel does both |

Checked on Llama-3.1-8B (pairs with expert-pruning on Mixtral-8x7B), a prompt and a decode step; written by
`docs/make_composition_page.py`.
"""


def model(*names: str) -> str:
    """Return the model that methods are checked on."""
    return "mixtral-8x7b" if "expert-pruning" in names else "llama-3.1-8b"


def outcome(first: str, second: str) -> tuple[float, ...] | str:
    """Return FLOPs and bytes of both passes after two methods, or why they are refused."""
    found: list[float] = []
    try:
        for workload in WORKLOADS:
            pruned = pis.trace(model(first, second), workload).prune(METHODS[first], METHODS[second])
            found += [float((column * pruned.count).sum()) for column in (pruned.flops, pruned.traffic)]
    except InvalidInputError as error:
        return str(error)
    return tuple(found)


def outcomes() -> dict[tuple[str, str], tuple[float, ...] | str]:
    """Return the outcome of every ordered pair."""
    return {(first, second): outcome(first, second) for first in METHODS for second in METHODS}


def sign(there: tuple[float, ...] | str, back: tuple[float, ...] | str) -> str:
    """Return the sign of a pair from its outcome and that of the other order."""
    if isinstance(there, str):
        return "✗" if isinstance(back, str) else "↺"
    if isinstance(back, str):
        return "→"
    return "=" if np.allclose(there, back, rtol=1e-9) else "≠"


def page(found: dict[tuple[str, str], tuple[float, ...] | str] | None = None) -> str:
    """Return the page."""
    found = outcomes() if found is None else found
    names = list(METHODS)
    number = {name: str(i + 1) for i, name in enumerate(names)}
    lines = ["| first \\ then | " + " | ".join(number.values()) + " |", "|---" * (len(names) + 1) + "|"]
    for first in names:
        cells = [sign(found[first, second], found[second, first]) for second in names]
        lines.append(f"| {number[first]} {first} | " + " | ".join(cells) + " |")
    reasons = ["## Why", "", "| first | then | reason |", "|---|---|---|"]
    for (first, second), why in found.items():
        if isinstance(why, str):
            reasons.append(f"| {first} | {second} | {why} |")
    return "\n".join([LEAD, *lines, "", *reasons, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
