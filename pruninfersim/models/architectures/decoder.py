"""Dense decoder-only transformer with gated MLP, rotary positions and grouped-query attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pruninfersim.models.architectures.rows import Row, Rows
from pruninfersim.workload import Workload

if TYPE_CHECKING:
    from pruninfersim.models.config import ModelConfig


def decoder_rows(model: ModelConfig, workload: Workload, dtype: str) -> list[Row]:
    """Return one row per distinct op of a forward pass, layers folded.

    q, k, v and gate, up are separate GEMMs (see `OpTrace.fuse_projections` for the fused choice). Residual add and
    RMSNorm are one op (4 elements moved per position), so are SiLU and product (3 elements), as fused kernels do. A
    norm after a sub-layer moves 2 elements where the next norm adds the residual (Gemma), and 3 where it adds it itself
    and no other norm reads the sum (OLMo 2).

    Parameters
    ----------
    model : ModelConfig
    workload : Workload
        Array fields become sweep axes of the columns.
    dtype : str
        Precision of the linear layers; attention, KV cache and LM head stay 16 bit where it is narrower.
    """
    make, layers = Rows.of(workload, dtype), range(model.num_layers)
    hidden, ffn, q, kv = model.hidden_size, model.intermediate_size, model.q_size, model.kv_size
    # Results of a norm with its add: the normed values, and the sum where it goes on beside them.
    sums = 1.0 if model.norm_placement == "post" else 2.0
    rows = [
        make.elementwise("embedding", "embedding", "embedding", (), hidden, "hidden"),
        make.norm("attn_norm", "attention", layers, hidden, writes=sums),
        make.gemm("q", "attention", layers, q, hidden, "heads", "hidden"),
        make.gemm("k", "attention", layers, kv, hidden, "kv_heads", "hidden"),
        make.gemm("v", "attention", layers, kv, hidden, "kv_heads", "hidden"),
    ]
    if model.qk_norm != "none":
        rows += [make.elementwise("qk_norm", "qk_norm", "attention", layers, q + kv, "qk")]
    rows += [
        make.elementwise("rope", "rope", "attention", layers, q + kv, "qk"),
        make.elementwise("kv_append", "kv_append", "attention", layers, 2 * kv, "kv_heads"),
    ]
    windowed = tuple(i for i, local in enumerate(model.window_layers) if local) if model.sliding_window else ()
    everywhere = tuple(i for i in layers if i not in windowed)
    # One row for the layers that see everything, one for those with a sliding window.
    for members, window in ((everywhere, np.inf), (windowed, float(model.sliding_window or np.inf))):
        if members:
            rows += [make.attention(members, model.num_heads, model.num_kv_heads, model.head_dim, window)]
    rows += [make.gemm("o", "attention", layers, hidden, q, "hidden", "heads")]
    if model.norms_per_layer == 4:
        rows += [make.norm("post_attn_norm", "attention", layers, hidden, reads=1.0, writes=1.0)]
    rows += [
        make.norm("mlp_norm", "mlp", layers, hidden, writes=sums),
        make.gemm("gate", "mlp", layers, ffn, hidden, "ffn", "hidden"),
        make.gemm("up", "mlp", layers, ffn, hidden, "ffn", "hidden"),
        make.elementwise("act", "act", "mlp", layers, ffn, "ffn", reads=2.0),
        make.gemm("down", "mlp", layers, hidden, ffn, "hidden", "ffn"),
    ]
    if model.norms_per_layer == 4:
        rows += [make.norm("post_mlp_norm", "mlp", layers, hidden, reads=1.0, writes=1.0)]
    return [*rows, make.norm("final_norm", "head", (), hidden), make.head(model.vocab_size, hidden)]
