"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434), and its sparse form with an indexer (DeepSeek-V3.2).

Decode is absorbed: all heads share one KV head, the latent with its rotary part, and kv_b becomes two batched GEMMs
around it. Prefill is expanded: keys and values of every head are made by kv_b. The cache holds the latent either way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pruninfersim._util.records import Record
from pruninfersim.models.architectures.rows import Row, Rows


class MLA(Record):
    """Sizes of multi-head latent attention.

    Attributes
    ----------
    heads : int
    q_rank : int
        Rank of the query projection, 0 if it has full rank.
    latent, rope, nope, value : int
        Width of the latent, of the rotary part of a key, of the other part, and of a value.
    index_heads, index_dim, index_top : int
        Indexer of sparse attention, and keys that it selects; 0 without one.

    >>> MLA(heads=128, q_rank=1536, latent=512, rope=64, nope=128, value=128).parameters(7168)
    187107328
    """

    heads: int
    q_rank: int
    latent: int
    rope: int
    nope: int
    value: int
    index_heads: int = 0
    index_dim: int = 0
    index_top: int = 0

    def _projections(self, hidden: int) -> list[tuple[str, int, int, str, str]]:
        """Name, outputs, inputs and their axes of the GEMMs whose input is the token itself."""
        q = self.heads * (self.nope + self.rope)
        queries = (
            [("q_a", self.q_rank, hidden, "latent", "hidden"), ("q_b", q, self.q_rank, "mla_heads", "latent")]
            if self.q_rank
            else [("q", q, hidden, "mla_heads", "hidden")]
        )
        index = []
        if self.index_heads:
            index = [
                ("index_q", self.index_heads * self.index_dim, self.q_rank or hidden, "index", "latent"),
                ("index_k", self.index_dim, hidden, "index", "hidden"),
                ("index_weights", self.index_heads, hidden, "index", "hidden"),
            ]
        return [*queries, ("kv_a", self.latent + self.rope, hidden, "latent", "hidden"), *index]

    def weights(self, hidden: int) -> int:
        """Return the weights of the GEMMs."""
        made = sum(n * k for _, n, k, *_ in self._projections(hidden))
        return made + self.latent * self.heads * (self.nope + self.value) + self.heads * self.value * hidden

    def parameters(self, hidden: int) -> int:
        """Return all parameters: weights, and the norms of both latents and of the index keys."""
        return self.weights(hidden) + self.q_rank + self.latent + (2 * self.index_dim if self.index_heads else 0)

    def active(self, hidden: int) -> int:
        """Return the parameters that a token uses: all."""
        return self.parameters(hidden)

    def rows(self, make: Rows, layers: Sequence[int], hidden: int) -> list[Row]:
        """Return the rows of some layers, folded."""
        rows = [make.gemm(name, "attention", layers, n, k, *axes) for name, n, k, *axes in self._projections(hidden)]
        width = self.latent + self.rope
        norms = self.q_rank + self.latent
        rows += [
            make.elementwise("latent_norm", "norm", "attention", layers, norms, "latent", reads=1.0, writes=1.0),
            make.elementwise("rope", "rope", "attention", layers, (self.heads + 1) * self.rope, "mla_heads"),
            make.elementwise("kv_append", "kv_append", "attention", layers, width, "latent"),
        ]
        if self.index_heads:
            rows += self._index_rows(make, layers)
        decode = make.workload.phase == "decode"
        if decode:
            rows += [make.per_head("absorb_q", layers, self.heads, self.latent, self.nope)]
        else:
            kv = self.heads * (self.nope + self.value)
            rows += [make.gemm("kv_b", "attention", layers, kv, self.latent, "mla_heads", "latent")]
        rows += [self._attention(make, layers, decode=decode)]
        if decode:
            rows += [make.per_head("absorb_v", layers, self.heads, self.value, self.latent)]
        return [*rows, make.gemm("o", "attention", layers, hidden, self.heads * self.value, "hidden", "mla_heads")]

    def _attention(self, make: Rows, layers: Sequence[int], *, decode: bool) -> Row:
        """Return the attention itself.

        ``k`` is the mean width of keys and values; ``b_batch`` is what the cache holds, in units of a key and a value;
        ``b_reads`` is what the kernel reads of it: in the expanded form that of every head.
        """
        stored = float(self.latent + self.rope)
        keys = 2.0 * self.latent + self.rope if decode else float(self.nope + self.rope + self.value)
        row = make.attention(layers, self.heads, 1.0, keys / 2.0, float(self.index_top or np.inf))
        if self.index_top and decode:
            row["n"] = np.minimum(make.workload.context, self.index_top)
        return row | {
            "kernel": "mla_decode" if decode else "mla_prefill",
            "b_batch": make.workload.batch * stored / keys,
            "b_reads": 1.0 if decode else self.heads * keys / stored,
            "k_axis": "latent",
        }

    def _index_rows(self, make: Rows, layers: Sequence[int]) -> list[Row]:
        """Return scoring of all keys by the indexer (keys of one byte), and the selection of the best."""
        work = make.workload
        scores = make.attention(layers, self.index_heads, 1.0, self.index_dim)
        score = scores | {
            "name": "index_score",
            "kernel": "block_score",
            "gemms": 1.0,
            "b_bytes": 1.0,
            "b_batch": work.batch,
            "out_writes": 4.0 / self.index_heads / 2.0,
            "k_axis": "index",
        }
        select = make.elementwise("index_top_k", "block_index", "attention", layers, 1.0, "index", reads=2.0)
        return [score, select | {"n": self.index_top, "k": work.context}]
