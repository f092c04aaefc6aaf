"""The same forward passes once more, the slow way: plain floats, one op of one layer at a time, no arrays.

Written from the formulas of arXiv 2606.09080 and the published sizes of the models, not from the package: nothing of
`pruninfersim` is imported. Rounding uses exact fractions, attention adds up its queries one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

#: Bytes per element of weights, inputs and outputs of the linear layers, compute dtype, and that of everything else.
STORED = {
    "bf16": (2.0, 2.0, 2.0, "bf16", "bf16"),
    "fp16": (2.0, 2.0, 2.0, "fp16", "fp16"),
    "fp8": (1.0, 1.0, 2.0, "fp8", "bf16"),
    "int8": (1.0, 1.0, 2.0, "int8", "bf16"),
    "fp4": (0.5 + 1 / 16, 0.5 + 1 / 16, 2.0, "fp4", "bf16"),
}


@dataclass(frozen=True)
class Model:
    """Sizes of a decoder: width, MLP width, layers, query heads, KV heads, head width, vocabulary."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    qk_norm: bool = False
    four_norms: bool = False
    window: int = 0
    windowed: tuple[int, ...] = ()


#: From the config files on Hugging Face (Gemma 3: the text part, without the padding of the multimodal vocabulary).
MODELS = {
    "llama-3.1-8b": Model(4096, 14336, 32, 32, 8, 128, 128256),
    "qwen3-0.6b": Model(1024, 3072, 28, 16, 8, 128, 151936, qk_norm=True),
    "gemma-2-9b": Model(3584, 14336, 42, 16, 8, 256, 256000, False, True, 4096, tuple(range(0, 42, 2))),
    "gemma-3-12b": Model(
        3840, 15360, 48, 16, 8, 256, 262144, True, True, 1024, tuple(i for i in range(48) if i % 6 != 5)
    ),
    "mistral-7b-v0.1": Model(4096, 14336, 32, 32, 8, 128, 32000, window=4096, windowed=tuple(range(32))),
}


@dataclass(frozen=True)
class Op:
    """FLOPs and bytes of one op, how many times it runs on average, and which peak it runs at."""

    flops: float
    traffic: float
    times: float
    dtype: str
    sparse: bool = False


@dataclass(frozen=True)
class Case:
    """One forward pass; `attention` and `mlp` hold one sparsity per layer."""

    model: str
    phase: str
    batch: int
    query: int
    context: int
    family: str = "dense"
    attention: tuple[float, ...] = ()
    mlp: tuple[float, ...] = ()
    logits: str = "last"
    causal: bool = True
    dtype: str = "bf16"


def rounded_up(value: Fraction, multiple: int, limit: int) -> int:
    return min(limit, max(multiple, math.ceil(value / multiple) * multiple))


def exact(number: float) -> Fraction:
    return Fraction(number).limit_denominator(10**6)


@cache
def attended_pairs(phase: str, query: int, context: int, window: int, causal: bool) -> float:
    """Query x key products of one head; a query in the middle of its token sees half of that token."""
    if phase == "decode":
        return float(min(context, window) if window else context)
    if not causal:
        return float(query) * min(context, window or context)
    pairs = 0.0
    for i in range(query):
        seen = context - query + i + 0.5
        pairs += min(seen, float(window)) if window else seen
    return pairs


def operations(case: Case) -> list[Op]:
    """Every op of every layer."""
    model = MODELS[case.model]
    weight, given, result, linear, plain = STORED[case.dtype]
    two = 2.0
    tokens = case.batch * case.query
    ops: list[Op] = []
    attention = case.attention or (0.0,) * model.layers
    mlp = case.mlp or (0.0,) * model.layers
    family = case.family

    def elementwise(elements_moved: float, times: float = 1.0) -> None:
        ops.append(Op(0.0, elements_moved * two, times, plain))

    def product(m: float, n: float, k: float, times: float = 1.0, sparse: bool = False) -> None:
        stored = (weight / 2 + 1 / 8) if sparse else weight
        moved = m * k * given + n * k * stored + m * n * result
        flops = m * n * k * (1.0 if sparse else 2.0)
        ops.append(Op(flops, moved, times, linear, sparse))

    def token_product(m: float, n: float, k: float, skip: float) -> None:
        keep = 1.0 - skip
        touched = 1.0 - skip**m
        moved = keep * m * k * given + touched * n * k * weight + keep * m * n * result
        ops.append(Op(2 * m * n * k * keep, moved, 1.0, linear))

    def linear_layer(m: float, n: int, k: int, s: float, times: float, may_skip: bool) -> None:
        if family == "low-rank":
            rank = rounded_up((1 - exact(s)) * n * k / (n + k), 16, min(n, k))
            product(m, rank, k, times)
            product(m, n, rank, times)
        elif family == "semi-structured":
            twos = math.floor(2 * exact(s) * model.layers) / model.layers
            product(m, n, k, times * (1.0 - twos))
            product(m, n, k, times * twos, sparse=True)
        elif family == "dynamic-depth" and may_skip:
            token_product(m, n, k, s)
        else:
            product(m, n, k, times)

    def router(width: int) -> None:
        for n, k in ((16, width), (2, 16)):
            ops.append(Op(2.0 * tokens * n * k, two * (tokens * k + n * k + tokens * n), 1.0, plain))
        elementwise(2.0 * tokens)

    def width_of(layer: int) -> int:
        if family != "static-width-cross":
            return model.hidden
        return rounded_up((1 - exact(attention[layer])) * model.hidden, 16, model.hidden)

    elementwise(2.0 * tokens * width_of(0))  # embedding
    for layer in range(model.layers):
        s_attention, s_mlp = attention[layer], mlp[layer]
        hidden = width_of(layer)
        ffn, heads, kv_heads = model.ffn, float(model.heads), float(model.kv_heads)
        attention_times = mlp_times = 1.0
        if family == "static-depth":
            attention_times = 1.0 - math.floor(exact(s_attention) * model.layers) / model.layers
            mlp_times = 1.0 - math.floor(exact(s_mlp) * model.layers) / model.layers
        if family == "static-width":
            left = model.kv_heads - min(math.ceil(exact(s_attention) * model.kv_heads), model.kv_heads - 1)
            heads, kv_heads = heads * left / model.kv_heads, float(left)
            ffn = rounded_up((1 - exact(s_mlp)) * model.ffn, 16, model.ffn)
        q, kv = heads * model.head_dim, kv_heads * model.head_dim

        # Attention: norm, projections, positions, cache, attention itself, output.
        elementwise(4.0 * tokens * hidden, attention_times)
        linear_layer(tokens, int(q), hidden, s_attention, attention_times, True)
        linear_layer(tokens, int(kv), hidden, s_attention, attention_times, False)
        linear_layer(tokens, int(kv), hidden, s_attention, attention_times, False)
        if model.qk_norm:
            elementwise(2.0 * tokens * (q + kv), attention_times)
        elementwise(2.0 * tokens * (q + kv), attention_times)
        elementwise(2.0 * tokens * 2 * kv, attention_times)
        window = model.window if layer in model.windowed else 0
        keys = case.context
        if window:
            keys = min(case.context, case.query + window - 1)
        pairs = attended_pairs(case.phase, case.query, case.context, window, case.causal)
        keep = 1.0 - s_attention if family in ("dynamic-depth", "sparse-attention") else 1.0
        queries = case.query * (keep if family == "dynamic-depth" else 1.0)
        kv_read = keep if case.phase == "decode" else 1.0
        flops = case.batch * heads * keep * pairs * model.head_dim * 4.0
        moved = heads * queries * 2 + kv_heads * keys * 2 * kv_read
        ops.append(Op(flops, case.batch * moved * model.head_dim * two, attention_times, plain))
        if family == "sparse-attention":
            share = pairs / (case.query * keys)
            rows, columns = math.ceil(case.query / 16), math.ceil(keys / 16)
            score_flops = 2.0 * case.batch * heads * rows * columns * model.head_dim * share
            scores = case.batch * heads * rows * columns * share
            pooled = case.batch * heads * rows * model.head_dim + case.batch * kv_heads * columns * model.head_dim
            ops.append(Op(score_flops, two * (pooled + scores), 1.0, plain))
            elementwise(2.0 * scores)
        linear_layer(tokens, hidden, int(q), s_attention, attention_times, True)
        if model.four_norms:  # the next norm adds the residual
            elementwise(2.0 * tokens * hidden, attention_times)

        # MLP: norm, gate, up, their product, down.
        elementwise(4.0 * tokens * hidden, mlp_times)
        linear_layer(tokens, ffn, hidden, s_mlp, mlp_times, True)
        linear_layer(tokens, ffn, hidden, s_mlp, mlp_times, True)
        elementwise(3.0 * tokens * (1.0 - s_mlp if family == "dynamic-depth" else 1.0) * ffn, mlp_times)
        linear_layer(tokens, hidden, ffn, s_mlp, mlp_times, True)
        if model.four_norms:
            elementwise(2.0 * tokens * hidden, mlp_times)

        # What the methods add to every layer.
        if family == "static-width-cross":
            product(tokens, hidden, hidden)
            product(tokens, hidden, hidden)
        if family == "semi-structured":
            elementwise(2.0 * tokens * hidden)
            elementwise(2.0 * tokens * hidden)
        if family == "dynamic-depth":
            router(hidden)
            router(hidden)

    last = width_of(model.layers - 1)
    elementwise(4.0 * tokens * last)
    head = tokens if case.logits == "all" else case.batch
    moved = head * last * two + model.vocab * last * two + head * model.vocab * two
    ops.append(Op(2.0 * head * model.vocab * last, moved, 1.0, plain))
    return ops


def totals(case: Case, bandwidth: float, peak: dict[str, float], peak_2of4: dict[str, float]) -> list[float]:
    """FLOPs, bytes and roofline seconds of a forward pass."""
    flops = traffic = seconds = 0.0
    for op in operations(case):
        rate = peak_2of4[op.dtype] / 2.0 if op.sparse and op.times else peak[op.dtype]
        flops += op.times * op.flops
        traffic += op.times * op.traffic
        seconds += op.times * max(op.flops / rate, op.traffic / bandwidth)
    return [flops, traffic, seconds]
