"""Dense decoder-only transformer with gated MLP, rotary positions and grouped-query attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from pruninfersim import precision
from pruninfersim._arrays import FloatArray
from pruninfersim.models import ModelConfig
from pruninfersim.workload import Workload

Row = dict[str, Any]


def decoder_rows(model: ModelConfig, workload: Workload, dtype: str) -> list[Row]:
    """Return one row per distinct op of a forward pass, layers folded.

    q, k, v and gate, up are separate GEMMs (see `OpTrace.fuse_projections` for the fused choice). Residual add and
    RMSNorm are one op (4 elements moved per position), so are SiLU and product (3 elements), as fused kernels do.

    Parameters
    ----------
    model : ModelConfig
    workload : Workload
        Array fields become sweep axes of the columns.
    dtype : str
        Precision of the linear layers; attention, KV cache and LM head stay 16 bit where it is narrower.
    """
    linear, plain = precision.get(dtype), precision.activations(dtype)
    tokens, layers = workload.tokens, tuple(range(model.num_layers))
    hidden, ffn, q, kv = model.hidden_size, model.intermediate_size, model.q_size, model.kv_size
    common: Row = {"dtype": plain.dtype, "a_bytes": plain.input_bytes, "out_bytes": plain.output_bytes}
    head_weights: Row = {"b_bytes": plain.weight_bytes}

    def gemm(name: str, block: str, n: int, k: int, n_axis: str, k_axis: str) -> Row:
        return {
            "name": name,
            "kernel": "gemm",
            "block": block,
            "dtype": linear.dtype,
            "a_bytes": linear.input_bytes,
            "b_bytes": linear.weight_bytes,
            "out_bytes": linear.output_bytes,
            "layers": layers,
            "count": len(layers),
            "gemms": 1.0,
            "m": tokens,
            "n": n,
            "k": k,
            "n_axis": n_axis,
            "k_axis": k_axis,
        }

    def elementwise(name: str, kernel: str, block: str, width: int, axis: str, reads: float, writes: float) -> Row:
        inside = block in ("attention", "mlp")
        return common | {
            "name": name,
            "kernel": kernel,
            "block": block,
            "layers": layers if inside else (),
            "count": len(layers) if inside else 1.0,
            "m": tokens,
            "n": width,
            "k": width,
            "n_axis": axis,
            "k_axis": axis,
            "a_reads": reads,
            "out_writes": writes,
        }

    def norm(name: str, block: str) -> Row:
        return elementwise(name, "norm", block, hidden, "hidden", 2.0, 2.0)

    rows = [elementwise("embedding", "embedding", "embedding", hidden, "hidden", 1.0, 1.0)]
    rows += [norm("attn_norm", "attention")]
    rows += [
        gemm("q", "attention", q, hidden, "heads", "hidden"),
        gemm("k", "attention", kv, hidden, "kv_heads", "hidden"),
        gemm("v", "attention", kv, hidden, "kv_heads", "hidden"),
    ]
    if model.qk_norm != "none":
        rows += [elementwise("qk_norm", "qk_norm", "attention", q + kv, "qk", 1.0, 1.0)]
    rows += [
        elementwise("rope", "rope", "attention", q + kv, "qk", 1.0, 1.0),
        elementwise("kv_append", "kv_append", "attention", 2 * kv, "kv_heads", 1.0, 1.0),
    ]
    rows += [common | head_weights | row for row in _attention(model, workload)]
    rows += [gemm("o", "attention", hidden, q, "hidden", "heads")]
    if model.norms_per_layer == 4:
        rows += [norm("post_attn_norm", "attention")]
    rows += [
        norm("mlp_norm", "mlp"),
        gemm("gate", "mlp", ffn, hidden, "ffn", "hidden"),
        gemm("up", "mlp", ffn, hidden, "ffn", "hidden"),
        elementwise("act", "act", "mlp", ffn, "ffn", 2.0, 1.0),
        gemm("down", "mlp", hidden, ffn, "hidden", "ffn"),
    ]
    if model.norms_per_layer == 4:
        rows += [norm("post_mlp_norm", "mlp")]
    head = common | head_weights | {"kernel": "lm_head", "block": "head", "gemms": 1.0, "m": workload.head_tokens}
    rows += [norm("final_norm", "head")]
    rows += [head | {"name": "lm_head", "n": model.vocab_size, "k": hidden, "n_axis": "vocab", "k_axis": "hidden"}]
    return rows


def _attention(model: ModelConfig, workload: Workload) -> list[Row]:
    """Return the attention rows: one for the layers that see everything, one for those with a sliding window."""
    windowed = tuple(i for i, local in enumerate(model.window_layers) if local) if model.sliding_window else ()
    everywhere = tuple(i for i in range(model.num_layers) if i not in windowed)
    rows = []
    for layers, window in ((everywhere, np.inf), (windowed, float(model.sliding_window or np.inf))):
        if not layers:
            continue
        # A query sees `window` keys, so that a step of q queries touches at most q + window - 1 of them.
        keys = np.minimum(workload.context, workload.query_len + window - 1.0)
        rows.append(
            {
                "name": "attention",
                "kernel": f"attention_{workload.phase}",
                "block": "attention",
                "layers": layers,
                "count": len(layers),
                "gemms": 2.0,
                "m": workload.query_len,
                "n": keys,
                "k": model.head_dim,
                "batch": workload.batch * model.num_heads,
                "b_batch": workload.batch * model.num_kv_heads,
                "sequences": workload.batch,
                "mac_fraction": attended_share(workload, keys, window),
                "n_axis": "context",
                "k_axis": "head_dim",
            }
        )
    return rows


def attended_share(workload: Workload, keys: FloatArray, window: float) -> FloatArray:
    """Return the share of the query x key products that causal attention with a window needs, shape (*sweep).

    Continuous form: a query at position p sees min(p, window) keys, so that a whole causal prompt counts exactly
    half. A decode step sees all of its keys.
    """
    if workload.phase == "decode":
        return np.ones(workload.shape)
    if not workload.causal:
        return np.minimum(1.0, window / np.broadcast_to(keys, workload.shape))

    def seen_up_to(position: FloatArray) -> FloatArray:
        ramp = np.minimum(position, window)
        flat = np.where(position > window, position - ramp, 0.0)
        return np.asarray(ramp**2 / 2.0 + flat * np.where(flat > 0, ramp, 0.0))

    pairs = seen_up_to(workload.context) - seen_up_to(workload.context - workload.query_len)
    return np.asarray(pairs / (workload.query_len * keys))
