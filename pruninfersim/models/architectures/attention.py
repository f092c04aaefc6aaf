"""Grouped-query attention of a layer: projections, norms of heads, rotary positions, windows, sinks, output gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pruninfersim._util.records import Record
from pruninfersim.models.architectures.rows import Row, Rows


class Attention(Record):
    """Sizes of the attention of one layer.

    Attributes
    ----------
    heads, kv_heads, head_dim : int
    window : int or None
        Keys that a query sees at most [tokens].
    qkv_bias, o_bias : bool
    qk_norm : {"none", "head", "full", "unweighted"}
        RMSNorm of q and k: over a head, over the whole width, or over a head without weights (Llama 4).
    sinks : bool
        One learnt logit per head in the softmax (gpt-oss); no work that shows.
    gate : bool
        A gate as wide as the queries multiplies what attention puts out (Qwen3.5).
    shared_kv : bool
        Values are the keys: no v projection (Gemma 4, global layers).
    rotary : bool
        Whether positions are rotated into q and k.

    >>> Attention(heads=32, kv_heads=8, head_dim=128).parameters(4096)
    41943040
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: Literal["none", "head", "full", "unweighted"] = "none"
    sinks: bool = False
    gate: bool = False
    shared_kv: bool = False
    rotary: bool = True

    @property
    def q_size(self) -> int:
        """Width of the queries."""
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the keys."""
        return self.kv_heads * self.head_dim

    def weights(self, hidden: int) -> int:
        """Return the weights of the GEMMs."""
        return hidden * (self.q_size * (3 if self.gate else 2) + self.kv_size * (1 if self.shared_kv else 2))

    def parameters(self, hidden: int) -> int:
        """Return all parameters."""
        out = self.weights(hidden) + self.sinks * self.heads + self.o_bias * hidden
        out += self.qkv_bias * (self.q_size + 2 * self.kv_size)
        return out + {"head": 2 * self.head_dim, "full": self.q_size + self.kv_size}.get(self.qk_norm, 0)

    def active(self, hidden: int) -> int:
        """Return the parameters that a token uses: all."""
        return self.parameters(hidden)

    def rows(self, make: Rows, layers: Sequence[int], hidden: int) -> list[Row]:
        """Return the rows of some layers, folded."""
        q, kv = self.q_size, self.kv_size
        rows = [make.gemm("q", "attention", layers, q, hidden, "heads", "hidden")]
        if self.gate:
            rows += [make.gemm("q_gate", "attention", layers, q, hidden, "heads", "hidden")]
        rows += [
            make.gemm(name, "attention", layers, kv, hidden, "kv_heads", "hidden")
            for name in ("k", "v")[: 1 if self.shared_kv else 2]
        ]
        if self.qk_norm != "none":
            rows += [make.elementwise("qk_norm", "qk_norm", "attention", layers, q + kv, "qk")]
        if self.rotary:
            rows += [make.elementwise("rope", "rope", "attention", layers, q + kv, "qk")]
        rows += [
            make.elementwise("kv_append", "kv_append", "attention", layers, 2 * kv, "kv_heads"),
            make.attention(layers, self.heads, self.kv_heads, self.head_dim, float(self.window or np.inf)),
        ]
        if self.gate:
            rows += [make.elementwise("attn_gate", "act", "attention", layers, q, "heads", reads=2.0)]
        return [*rows, make.gemm("o", "attention", layers, hidden, q, "hidden", "heads")]
