"""KV selection: all keys stay in the cache, a decode step reads the pages that score best. Quest, DSA-like indexers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from pruninfersim._util.arrays import FloatArray, checked
from pruninfersim._util.doors import doors
from pruninfersim.pruning.base import mean_where, overhead_rows, record, targets
from pruninfersim.pruning.budget import as_asked, check_budget, kept_keys, score_row, top_k_row
from pruninfersim.pruning.ratios import Ratio, with_ratio
from pruninfersim.trace import OpTrace


@doors
@dataclass(frozen=True, eq=False)
class KVSelection:
    """Score the pages of the cache in every decode step, and attend to the best of them.

    The prompt is read densely, and its pages are summarised there. Memory is not saved: summaries come on top.

    Attributes
    ----------
    sparsity : Ratio
        Share of the keys not read in a step [1].
    budget : array_like, optional
        Keys read of each sequence, instead of a share.
    page : float
        Keys that are chosen together; 16 in Quest (arXiv 2406.10774).
    summaries : float
        Vectors of head_dim per page that are scored: 2 in Quest (minimum and maximum), 1 for a mean.
    index_heads, index_dim : float
        Heads and width of a separate indexer (DSA of DeepSeek-V3.2: 64 heads of 128, one key per token, page 1); with
        0 heads the query heads score. An indexer adds projections of its queries and keys.

    >>> from pruninfersim import Workload, trace
    >>> pruned = trace("llama-3.1-8b", Workload.decode(context=16384)).prune(KVSelection(budget=2048))
    >>> row = pruned.select(pruned.mask(names=["attention"]))
    >>> float(row.n[0]), float(row.b_reads[0])
    (16384.0, 0.125)
    """

    name: ClassVar[str] = "kv-selection"

    sparsity: Ratio = 0.0
    budget: ArrayLike | None = None
    page: float = 16
    summaries: float = 2
    index_heads: float = 0
    index_dim: float = 128

    def __post_init__(self) -> None:
        check_budget(self.sparsity, self.budget)
        for name in ("page", "summaries", "index_dim"):
            checked(name, getattr(self, name), minimum=1, whole=True)
        checked("index_heads", self.index_heads, minimum=0, whole=True)

    def apply(self, trace: OpTrace) -> OpTrace:
        """Return the trace with attention to chosen pages, and the work of choosing them."""
        trace, sparsity = with_ratio(trace, self.sparsity)
        attention = trace.mask(names=["attention"])
        prompt = trace.workload is not None and trace.workload.phase == "prefill"
        decode = attention & (not prompt)
        if not prompt:
            decode = targets(trace, self.name, ["attention"], ["attention_decode"])
        kept = kept_keys(trace.n, sparsity, self.budget, self.page)
        keep = np.where(decode, kept / trace.n, 1.0)
        sparse = trace.with_columns(
            kernel=tuple(np.where(decode, "block_sparse_decode", trace.kernel).tolist()),
            mac_fraction=trace.mac_fraction * keep,
            b_reads=trace.b_reads * keep,
            kept=np.where(decode, keep, trace.kept),
            grain=np.where(decode, self.page, trace.grain),
        )
        extra = [row for i in np.flatnonzero(attention) for row in self._rows(trace, kept, int(i))]
        if self.index_heads:
            wide = {"kernel": "router", "gemms": 1.0, "k_axis": "hidden"}
            for name, width in (("index_q", self.index_heads * self.index_dim), ("index_k", self.index_dim)):
                extra += overhead_rows(trace, "attention", wide=("k",), name=name, n=width, **wide)
        pruned = sparse.concat(OpTrace.from_rows(extra)) if extra else sparse
        gone = mean_where(1.0 - kept / trace.n, attention, trace.count)
        asked = as_asked(self.sparsity, self.budget, gone)
        return record(pruned, self.name, asked, {"attention": gone}, of=trace, sparsity=sparsity)

    def _rows(self, trace: OpTrace, kept: FloatArray, i: int) -> list[dict[str, Any]]:
        pages = np.ceil(trace.n[..., i] / self.page)
        rows = []
        if not self.index_heads and self.page > 1:
            # The new keys are read once more, and the summaries of their pages written.
            rows.append({
                "name": "page_summary", "kernel": "elementwise", "block": "attention", "layers": trace.layers[i],
                "count": trace.count[..., i], "dtype": trace.dtype[i], "batch": trace.b_batch[..., i],
                "m": trace.m[..., i], "k": trace.k[..., i], "k_axis": "head_dim",
                "n": self.summaries * trace.k[..., i] / self.page, "a_bytes": trace.b_bytes[..., i],
                "out_bytes": trace.b_bytes[..., i],
            })  # fmt: skip
        if trace.kernel[i] != "attention_decode":  # of a prompt
            return rows
        own: dict[str, Any] = {}
        if self.index_heads:
            heads = trace.sequences[..., i]
            own = {"batch": heads * self.index_heads, "b_batch": heads, "k": self.index_dim}
        vectors = pages if self.index_heads else self.summaries * pages
        rows.append(score_row(trace, i, "page_score", trace.m[..., i], vectors, **own))
        chosen = np.ceil(kept[..., i] / self.page)
        choose = top_k_row(trace, i, "page_choose", trace.m[..., i], pages, chosen)
        rows.append(choose | ({"batch": own["b_batch"]} if own else {}))
        return rows
