"""Token pruning: tokens of the prompt leave after a layer. FastV, LazyLLM, visual tokens; at layer 0, compression.

Everything after that layer has fewer rows, and its cache fewer keys, in decode too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.doors import doors
from pruninfersim.pruning.base import TINY, mean_where, record, targets
from pruninfersim.pruning.budget import score_row, top_k_row
from pruninfersim.pruning.layer_rows import split_layers
from pruninfersim.pruning.ratios import Axis, check_ratio, check_sweep, layers_with, model_of
from pruninfersim.trace import OpTrace


@doors
@dataclass(frozen=True, eq=False)
class TokenPruning:
    """Drop a share of the tokens of the prompt from layer `layer` on.

    Attributes
    ----------
    sparsity : array_like
        Share of all tokens that is dropped [1]; where only some can go, such as the 576 visual ones of LLaVA, their
        share times that.
    layer : int
        First layer with fewer tokens: 2 in FastV (arXiv 2403.06764). At 0 the prompt itself is shorter (LLMLingua);
        what compressing it costs is not part of the trace.
    scored : bool
        Whether attention of the last token in the layer before chooses (FastV): scores, top-k and a gather of the
        hidden states that stay, once. Never at layer 0.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.prefill(tokens=1024)).prune(TokenPruning(0.5, layer=2))
    >>> ups = pruned.select(pruned.mask(names=["up"]))
    >>> ups.m.tolist(), ups.count.tolist()
    ([1024.0, 512.0], [2.0, 30.0])
    """

    name: ClassVar[str] = "token-pruning"

    sparsity: ArrayLike
    layer: int = 2
    scored: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.sparsity, Axis):
            checked("sparsity", self.sparsity, minimum=0, below=1)
        check_ratio("sparsity", self.sparsity)
        checked("layer", self.layer, minimum=0, whole=True)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with fewer tokens in later layers.

        Raises
        ------
        InvalidInputError
            If the model has no such layer.
        """
        layers = layers_with(trace, self.layer)
        check_sweep(trace, self.sparsity)
        targets(trace, self.name, ["attention"], ["attention_prefill", "attention_decode"], keeps_kernel=True)
        split = split_layers(trace, range(self.layer, layers))
        attention = split.mask(names=["attention"])
        prefill = split.workload is not None and split.workload.phase == "prefill"
        every = prefill and split.workload is not None and split.workload.logits == "all"
        late = np.array([bool(row) and row[0] >= self.layer for row in split.layers])
        late |= split.mask(names=["final_norm"]) & prefill
        late |= split.mask(kernels=["lm_head"]) & every
        late |= split.mask(blocks=["embedding"]) & (self.layer == 0) & prefill
        keep = 1.0 - np.asarray(self.sparsity, dtype=np.float64)[..., None]
        rows = split.m / _sequences(split, attention)
        fewer = np.ceil(keep * rows - TINY) / rows
        m = np.where(late & prefill, split.m * fewer, split.m)
        keys = np.where(late & attention, np.ceil(keep * split.n - TINY), split.n)
        pruned = split.with_columns(m=m, n=keys)
        if self.layer and self.scored and prefill:
            pruned = pruned.concat(OpTrace.from_rows(self._rows(split, keep[..., 0])))
        gone = {
            block: mean_where(
                1.0 - (m / split.m if prefill else keys / split.n), _of(split, block, prefill), split.count
            )
            for block in ("attention", "mlp")
        }
        return record(pruned, self.name, self.sparsity, gone)

    def _rows(self, trace: OpTrace, keep: FloatArray) -> list[dict[str, Any]]:
        """Return scores of the last token in the layer before, the choice, and the gather of what stays."""
        i = next(i for i, row in enumerate(trace.layers) if trace.name[i] == "attention" and self.layer - 1 in row)
        keys, tokens = trace.n[..., i], trace.m[..., i]
        once = {"layers": (self.layer - 1,), "count": 1.0}
        kept = np.ceil(keep * tokens - TINY)
        batch = trace.sequences[..., i]
        scores = score_row(trace, i, "token_score", 1.0, keys, mac_fraction=1.0, out_writes=1.0)
        chosen = top_k_row(trace, i, "token_choose", 1.0, keys, kept) | {"batch": batch, "a_reads": 3.0}
        gather = {
            "name": "token_gather", "kernel": "elementwise", "block": "attention", "dtype": trace.dtype[i],
            "m": batch * kept, "n": float(model_of(trace).hidden_size), "k": float(model_of(trace).hidden_size),
            "n_axis": "hidden", "k_axis": "hidden", "a_bytes": trace.a_bytes[..., i],
            "out_bytes": trace.out_bytes[..., i],
        }  # fmt: skip
        return [scores | once, chosen | once, gather | once]


def _of(trace: OpTrace, block: str, prefill: bool) -> np.ndarray:
    """Return the rows that say how many tokens, or keys, a block has left."""
    names = ["attention"] if block == "attention" else ["down"]
    return np.asarray(trace.mask(names=names) if prefill or block == "attention" else np.zeros(len(trace), dtype=bool))


def _sequences(trace: OpTrace, attention: np.ndarray) -> FloatArray:
    """Return the sequences behind the rows `m` of each op; an attention op counts the queries of one."""
    if not attention.any():
        return np.ones(len(trace))
    batch = trace.sequences[..., int(np.flatnonzero(attention)[0])][..., None]
    return np.where(attention, 1.0, batch)
