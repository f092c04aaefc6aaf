"""KV eviction: keys leave the cache for good. StreamingLLM, H2O, SnapKV; by head: DuoAttention.

A budget is not a sparsity: 1024 kept keys are half of 2048 and a thirty-second of 32768. The record says what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, checked, somewhere
from pruninfersim._util.doors import doors
from pruninfersim.errors import unknown_name
from pruninfersim.pruning.base import TINY, mean_where, record, targets
from pruninfersim.pruning.budget import as_asked, check_budget, kept_keys, score_row, top_k_row
from pruninfersim.pruning.ratios import Ratio, with_ratio
from pruninfersim.trace import OpTrace

Score = Literal["none", "window", "accumulated"]


@doors
@dataclass(frozen=True, eq=False)
class KVEviction:
    """Keep a share, or a number, of the keys of every sequence in the cache.

    The prompt is read with full attention, since keys leave once it is known which matter; only heads that stream
    (`head_share` below 1) attend to their budget in prefill too. A decode step reads, and the cache holds, the rest.

    Attributes
    ----------
    sparsity : Ratio
        Share of the keys evicted [1].
    budget : array_like, optional
        Keys kept of each sequence, instead of a share.
    score : {"none", "window", "accumulated"}
        Who says which keys stay. "none": the first and the last ones (StreamingLLM, arXiv 2309.17453). "window": the
        last `window` queries of the prompt score all keys, once (SnapKV, arXiv 2404.14469). "accumulated": sums of
        attention weights over all queries (H2O, arXiv 2306.14048), which cost a second pass of QKᵀ in prefill, since
        FlashAttention does not keep the weights, and an update in every decode step.
    window : float
        Queries that score the keys.
    head_share : array_like
        Share of the KV heads that evict, in whole heads rounded down [1]; the others keep all keys, and those that
        evict stream (DuoAttention, arXiv 2410.10819).

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode(context=8192)).prune(KVEviction(budget=1024))
    >>> float(pruned.select(pruned.mask(names=["attention"])).n[0]), float(pruned.applied[0].asked)
    (1024.0, 0.875)
    """

    name: ClassVar[str] = "kv-eviction"

    sparsity: Ratio = 0.0
    budget: ArrayLike | None = None
    score: Score = "none"
    window: float = 32
    head_share: ArrayLike = 1.0

    def __post_init__(self) -> None:
        check_budget(self.sparsity, self.budget)
        checked("window", self.window, minimum=1, whole=True)
        checked("head_share", self.head_share, minimum=0, below=1.0 + TINY)
        if self.score not in get_args(Score):
            raise unknown_name("score", self.score, get_args(Score))

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with shorter caches, and the work of choosing the keys."""
        trace, sparsity = with_ratio(trace, self.sparsity)
        kernels = ["attention_prefill", "attention_decode"]
        attention = targets(trace, self.name, ["attention"], kernels, keeps_kernel=True)
        decode = attention & trace.mask(kernels=["attention_decode"])
        kept = np.where(attention, kept_keys(trace.n, sparsity, self.budget), trace.n)
        heads = trace.b_batch / trace.sequences
        evicting = np.floor(np.asarray(self.head_share)[..., None] * heads + TINY) / heads
        by_head = bool(np.any(evicting[..., attention] < 1.0))
        if by_head:
            pruned = _by_head(trace, attention, kept, evicting)
        else:
            pruned = trace.with_columns(n=np.where(decode, kept, trace.n))
        extra = [row for i in np.flatnonzero(attention) for row in self._rows(trace, kept, evicting, int(i))]
        pruned = pruned.concat(OpTrace.from_rows(extra)) if extra else pruned
        gone = mean_where((1.0 - kept / trace.n) * np.where(attention, evicting, 0.0), attention, trace.count)
        asked = as_asked(self.sparsity, self.budget, gone)
        return record(pruned, self.name, asked, {"attention": gone}, of=trace, sparsity=sparsity)

    def _rows(self, trace: OpTrace, kept: FloatArray, evicting: FloatArray, i: int) -> list[dict[str, Any]]:
        """Return what it costs to choose the keys of the attention op at `i`."""
        keys, prefill = trace.n[..., i], trace.kernel[i] == "attention_prefill"
        share = evicting[..., i]
        own = {"batch": trace.batch[..., i] * share, "b_batch": trace.b_batch[..., i] * share}
        if self.score == "none" or (self.score == "window" and not prefill):
            return []
        top_k = top_k_row(trace, i, "kv_choose", 1.0, keys, kept[..., i]) | {"batch": own["b_batch"]}
        if self.score == "window":
            queries = np.minimum(self.window, trace.m[..., i])
            # The last queries see all keys but half of themselves; sums over the window are written.
            seen = 1.0 - queries / (2.0 * keys)
            scores = score_row(trace, i, "kv_score", queries, keys, mac_fraction=seen, out_writes=1.0 / queries)
            return [scores | own, top_k | {"a_reads": top_k["a_reads"] / trace.mac_fraction[..., i]}]
        if prefill:
            scores = score_row(trace, i, "kv_score", trace.m[..., i], keys, out_writes=1.0 / trace.m[..., i])
            return [scores | own, top_k | {"a_reads": top_k["a_reads"] / trace.mac_fraction[..., i]}]
        return [top_k | {"k": kept[..., i], "n": kept[..., i]}]  # read the sums of the kept keys, write them back


def _by_head(trace: OpTrace, attention: np.ndarray, kept: FloatArray, evicting: FloatArray) -> OpTrace:
    """Return the trace with two attention rows, of heads that keep all keys and of heads that stream."""
    some = attention & somewhere(evicting > 0)
    full = np.where(some, 1.0 - evicting, 1.0)
    left = trace.with_columns(batch=trace.batch * full, b_batch=trace.b_batch * full)
    left = left.select(~some | somewhere(full > 0))
    prefill = trace.mask(kernels=["attention_prefill"])
    # A query of a streaming head sees at most its budget of keys; of m queries all keys before the first are a prefix.
    reach = np.where(prefill, np.minimum(trace.n, trace.m + kept - 1.0), kept)
    pairs = _pairs(trace.m, trace.n, kept)
    seen = np.minimum(pairs, trace.m * trace.n * trace.mac_fraction) / (trace.m * reach)
    stream = trace.with_columns(
        batch=trace.batch * evicting,
        b_batch=trace.b_batch * evicting,
        n=reach,
        mac_fraction=np.where(prefill, seen, trace.mac_fraction),
    )
    return left.concat(stream.select(some))


def _pairs(queries: FloatArray, keys: FloatArray, budget: FloatArray) -> FloatArray:
    """Return the sum over queries of min(keys seen, budget), a query seeing half of its own token."""
    first = keys - queries  # whole tokens before the first query
    below = np.clip(np.floor(budget - first - 0.5 + TINY) + 1.0, 0.0, queries)  # queries that see no more than that
    rising = below * first + below**2 / 2.0
    return np.asarray(rising + (queries - below) * budget)
