"""Token merging: in every layer some tokens of the prompt are averaged into others that resemble them. ToMe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning.base import TINY, mean_where, record, targets
from pruninfersim.pruning.budget import as_asked
from pruninfersim.pruning.layer_rows import experts_of
from pruninfersim.pruning.ratios import Axis, check_ratio, check_sweep, layers_with, model_of
from pruninfersim.trace import OpTrace


@dataclass(frozen=True, eq=False)
class TokenMerging:
    """Merge some tokens of each sequence between attention and MLP of every layer from `layer` on.

    Half of the tokens look for the most alike of the other half, by their keys, and the most alike pairs become one
    token (ToMe, arXiv 2210.09461). Decode steps find fewer keys in each later layer.

    Attributes
    ----------
    sparsity : array_like
        Share of the tokens of the prompt that are gone behind the last layer, as many in each layer [1].
    merged : array_like, optional
        Tokens of each sequence that are merged in a layer, instead of a share: r of ToMe. One token is always left.
    layer : int
        First layer that merges.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.prefill(tokens=1024)).prune(TokenMerging(merged=16))
    >>> [float(m) for m, name in zip(pruned.m, pruned.name) if name == "up"][:3]
    [1008.0, 992.0, 976.0]
    """

    name: ClassVar[str] = "token-merging"

    sparsity: ArrayLike = 0.0
    merged: ArrayLike | None = None
    layer: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.sparsity, Axis):
            checked("sparsity", self.sparsity, minimum=0, below=1)
        check_ratio("sparsity", self.sparsity)
        checked("layer", self.layer, minimum=0, whole=True)
        if self.merged is not None:
            checked("merged", self.merged, minimum=0)
            if np.any(np.asarray(self.sparsity)):
                raise InvalidInputError("give a sparsity (a share of the tokens) or merged (tokens a layer), not both")

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with fewer tokens from layer to layer, and what finding and averaging them costs.

        Raises
        ------
        InvalidInputError
            If the model has no such layer.
        """
        layers = layers_with(trace, self.layer)
        check_sweep(trace, self.sparsity)
        targets(trace, self.name, ["attention"], ["attention_prefill", "attention_decode"], keeps_kernel=True)
        each, work = trace.unfold(), trace.workload
        prefill = work is not None and work.phase == "prefill"
        context = np.asarray(work.context if work is not None else np.max(trace.n))[..., None]
        tokens = np.asarray(work.query_len)[..., None] if work is not None and prefill else context
        share = np.asarray(self.sparsity, dtype=np.float64)[..., None] * tokens / (layers - self.layer)
        step = share if self.merged is None else np.asarray(self.merged, dtype=np.float64)[..., None]
        layer = np.array([row[0] if row else -1 for row in each.layers])
        before = np.where(layer >= 0, np.maximum(layer - self.layer, 0), 0)
        after = before + ((layer >= self.layer) & each.mask(blocks=["mlp"]))
        end = each.mask(names=["final_norm"]) | (
            each.mask(kernels=["lm_head"]) & (getattr(work, "logits", "") == "all")
        )
        gone = np.where(end, layers - self.layer, after)  # layers that have merged
        attention = each.mask(names=["attention"])

        def left(of: FloatArray, times: Any) -> FloatArray:
            """Tokens that are left of so many after so many layers."""
            return np.asarray(np.maximum(np.ceil(of - step * times - TINY), 1.0))

        fewer = left(tokens, gone) / tokens if prefill else np.ones_like(tokens * gone)
        keys = np.where(attention, np.minimum(each.n, left(context, before)), each.n)
        small = experts_of(each.with_columns(m=each.m * fewer, n=keys), each.sequences * fewer)
        rows = self._rows(each, left(tokens, before), left(tokens, before + 1)) if prefill and np.any(step > 0) else []
        pruned = small.concat(OpTrace.from_rows(rows)) if rows else small
        lost = {
            "attention": mean_where(1.0 - keys / each.n, attention, each.count),
            "mlp": mean_where(1.0 - fewer, each.mask(names=["down"]), each.count),
        }
        if self.merged is None:
            return record(pruned, self.name, self.sparsity, lost)
        behind = 1.0 - left(tokens, layers - self.layer)[..., 0] / tokens[..., 0]
        return record(pruned, self.name, as_asked(0.0, self.merged, behind), lost)

    def _rows(self, trace: OpTrace, tokens: FloatArray, less: FloatArray) -> list[dict[str, Any]]:
        """Return mean keys, similarities of the halves, the choice, and the averaging of hidden states, per layer."""
        hidden = float(model_of(trace).hidden_size)
        rows: list[dict[str, Any]] = []
        for i in np.flatnonzero(trace.mask(names=["attention"])):
            if trace.layers[i][0] < self.layer:
                continue
            every, kept, batch, size = tokens[..., i], less[..., i], trace.sequences[..., i], trace.k[..., i]
            half = np.floor(every / 2.0) + 0.5 * (every < 2.0)
            common = {"block": "attention", "layers": trace.layers[i], "dtype": trace.dtype[i]}
            common |= {name: getattr(trace, name)[..., i] for name in ("count", "a_bytes", "b_bytes", "out_bytes")}
            heads = trace.b_batch[..., i] / batch
            rows += [
                common | {
                    "name": "merge_keys", "kernel": "elementwise", "m": batch * every, "n": size, "k": heads * size,
                },
                common | {
                    "name": "merge_score", "kernel": "block_score", "gemms": 1.0, "sequences": batch, "batch": batch,
                    "b_batch": batch, "m": half, "n": half, "k": size, "k_axis": "head_dim",
                },
                common | {
                    "name": "merge_choose", "kernel": "block_index", "sequences": batch, "batch": batch, "m": half,
                    "n": 1.0, "k": half,
                },
                common | {
                    "name": "merge_average", "kernel": "elementwise", "m": batch * kept, "n": hidden, "k": hidden,
                    "n_axis": "hidden", "k_axis": "hidden", "a_reads": every / kept,
                },
            ]  # fmt: skip
        return rows
