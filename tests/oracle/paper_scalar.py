"""The stack "paper" once more, the slow way: plain floats, one layer at a time, no arrays and no trace.

Written from the taxonomy of arXiv 2606.09080 (its Table 1); nothing of `pruninfersim` is imported. Constants come in as
a dict of the names in ``hardware_profiles/stacks/paper.toml``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

C = dict[str, float]
TILES = ((128, 256), (256, 128), (128, 128), (128, 64), (64, 128))


@dataclass(frozen=True)
class Model:
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    qk_norm: bool = False
    head_dim: int = 128


@dataclass(frozen=True)
class Gpu:
    peak: float
    bandwidth: float
    sms: int
    l2: float
    capability: str


LLAMA = Model(32, 4096, 14336, 32, 8, 128256)
QWEN = Model(40, 5120, 17408, 40, 8, 151936, qk_norm=True)
RTX = Gpu(467.8e12, 1597e9, 188, 128e6, "12.0")
A800 = Gpu(312e12, 2039e9, 108, 40e6, "8.0")


def up16(x: float) -> int:
    return 16 * math.ceil(x / 16 - 1e-9)


def tiled(m, n, k, c: C, g: Gpu) -> float:
    dram = 2 * (m * k + n * k + m * n) / (c["memory_efficiency"] * g.bandwidth)
    best = math.inf
    for bm, bn in TILES + (((64, 64),) if m <= 128 else ()):
        down, across = math.ceil(m / bm), math.ceil(n / bn)
        rate = c["compute_efficiency"] * c["small_tile_efficiency"] ** [bm, bn].count(64)
        tensor = math.ceil(down * across / g.sms) * 2 * bm * bn * (k + c["tile_overhead"]) / (rate * g.peak / g.sms)
        feed = 2 * k * (across * m + down * n) / (c["feed"] * g.peak)
        high = max(tensor, feed, dram)
        best = min(best, high * sum((x / high) ** 8 for x in (tensor, feed, dram)) ** 0.125)
    return best + c["tile_start"]


def stream(m, n, k, c: C, g: Gpu) -> tuple[float, float]:
    """Seconds, and the bandwidth that was used."""
    share = c["memory_efficiency"] * (1.0 if n % 64 == 0 and k % 64 == 0 else c["misaligned"])
    bandwidth = share * g.bandwidth
    return 2 * (m * k + n * k + m * n) / bandwidth + c["stream_start"], bandwidth


def gemm(m, n, k, c: C, g: Gpu) -> float:
    if m > 64:
        return tiled(m, n, k, c, g)
    seconds, bandwidth = stream(m, n, k, c, g)
    if g.capability == "12.0":
        ctas, weights = math.ceil(n / 64), 128 * k
        if 2 <= m <= 16 and ctas >= g.sms / c["cta_least"]:
            seconds = max(seconds, weights / c["cta_stream"] + c["stream_start"])
        rest = ctas % g.sms
        if 17 <= m <= 64 and ctas > g.sms and rest:
            fade = min(1.0, max(0.0, (k - 2048) / 2048))
            seconds += fade * max(0.0, weights / c["tail_stream"] - rest * weights / bandwidth)
    return seconds


def head(m, n, k, c: C, g: Gpu) -> float:
    if m <= 64:
        return stream(m, n, k, c, g)[0]
    compute = 2 * m * n * k / (c["compute_efficiency"] * c["head_efficiency"] * g.peak)
    return max(compute, 2 * (m * k + n * k + m * n) / (c["memory_efficiency"] * g.bandwidth)) + c["tile_start"]


def sparse24(m, n, k, c: C, g: Gpu) -> float:
    size = 1.125 * n * k + 2 * m * (n + k)
    times = [size / (c["memory_efficiency"] * g.bandwidth), k / 64 * c["sparse24_k_step"]]
    padding = 0.0
    if m > 64:
        rate = c["compute_efficiency"] * c["sparse24_speedup"] * g.peak
        times.append(2 * (m + c["sparse24_half_length"]) * n * k / rate)
    elif m % 8:
        padding = c["sparse24_padding"]
    high = max(times)
    return high * sum((x / high) ** 8 for x in times) ** 0.125 + c["tile_start"] + padding


def token_gemm(m, n, k, keep, c: C, g: Gpu) -> float:
    if m <= 64:
        seconds = stream(m, n, k, c, g)[0] * (1 - (1 - keep) ** m)
        return seconds * c["token_single_penalty"] if m == 1 else seconds / c["token_batch_efficiency"]
    runs = 1 - (1 - keep) ** m
    rows = min(m * keep / runs / 128 + 0.5, math.ceil(m / 128))
    waves = max(1.0, rows * math.ceil(n / 128) / g.sms)
    compute = waves * 2 * 128 * 128 * k / (c["token_efficiency"] * c["compute_efficiency"] * g.peak / g.sms)
    fill = c["token_zero_fill"] * 2 * m * n / (c["elementwise_efficiency"] * g.bandwidth)
    return runs * compute + c["tile_start"] + fill


def passes(size, kernels, c: C, g: Gpu, fused=0.0) -> float:
    """`kernels` kernels that move `size` bytes together; no faster than `fused` bytes at the data-sheet rate."""
    each = size / kernels
    gain = 1 + (c["elementwise_l2_gain"] - 1) * math.exp(-each / g.l2)
    seconds = kernels * (each / (c["elementwise_efficiency"] * g.bandwidth * gain) + c["elementwise_start"])
    return max(seconds, (fused or size) / g.bandwidth)


def step(mo: Model, g: Gpu, c: C, family: str, s: float, phase: str, batch: int, context: int) -> float:
    """Seconds of one forward pass; family "dense" or a method of the taxonomy."""
    prefill, keep = phase == "prefill", 1 - s
    m = batch * context if prefill else batch
    layers, hidden, ffn, heads, groups, d = mo.layers, mo.hidden, mo.ffn, mo.heads, mo.kv_heads, mo.head_dim
    if family == "static-depth":
        layers -= math.floor(s * layers + 1e-9)
    if family == "static-width":
        gone = min(groups - 1, math.ceil(s * groups - 1e-9))
        heads, groups = heads * (groups - gone) // groups, groups - gone
        ffn = min(ffn, up16(keep * ffn))
    if family == "static-width-cross":
        hidden = min(hidden, up16(keep * hidden))
    q, kv = heads * d, groups * d
    always, routed = (
        [(kv, hidden), (kv, hidden)],
        [(q, hidden), (hidden, q), (ffn, hidden), (ffn, hidden), (hidden, ffn)],
    )
    seconds, launches = 0.0, 0.0
    for i, (n, k) in enumerate(always + routed):
        if family == "low-rank":
            r = min(n, k, up16(keep * n * k / (n + k)))
            seconds += gemm(m, r, k, c, g) + gemm(m, n, r, c, g)
        elif family == "semi-structured":
            seconds += sparse24(m, n, k, c, g)
        elif family == "dynamic-depth" and i >= len(always):
            seconds += token_gemm(m, n, k, keep, c, g)
        else:
            seconds += gemm(m, n, k, c, g)
        launches += c["gemm_launches"] * (2 if family == "low-rank" else 1)
    if family == "static-width-cross":
        seconds += 2 * gemm(m, hidden, hidden, c, g)
        launches += 2 * c["gemm_launches"]
    # attention
    share = keep if family in ("dynamic-depth", "sparse-attention") else 1.0
    if prefill:
        efficiency, half = c["attention_efficiency"], c["attention_half_length"]
        if family == "dynamic-depth":
            half += c["token_attention_half_length"]
        if family == "sparse-attention":
            efficiency, half = efficiency * c["block_efficiency"], half + c["block_half_length"]
        work = 2 * batch * q * context**2 * share
        seconds += work / (efficiency * g.peak * context / (context + half)) + c["attention_prefill_start"]
    else:
        keys, rows = 4 * batch * context * kv, 4 * batch * q
        rate = c["attention_stream"] * g.bandwidth
        if family == "dynamic-depth":
            # The op runs if any token of the batch is active, on those that are.
            seconds += keep * (keys + rows) / rate + (1 - (1 - keep) ** batch) * c["attention_decode_start"]
        elif family == "sparse-attention":
            seconds += (keep * keys + rows) / (rate * c["block_stream"]) + c["attention_decode_start"]
        else:
            seconds += (keys + rows) / rate + c["attention_decode_start"]
    launches += 1
    # elementwise: two norms with residual adds, SiLU and product, rope (and norms) of q and k, appends of k and v
    packed = m * (keep if family == "dynamic-depth" else 1.0) * ffn
    seconds += 2 * passes(10 * m * hidden, 2, c, g, 8 * m * hidden) + passes(10 * packed, 2, c, g, 6 * packed)
    seconds += passes(4 * m * (q + kv), 2, c, g) * (2 if mo.qk_norm else 1) + passes(8 * m * kv, 2, c, g)
    launches += 10 + (2 if mo.qk_norm else 0)
    # what the families add
    if family == "semi-structured":
        count = c["sparse24_transposes"]
        seconds += 2 * passes(count * 4 * m * hidden, count, c, g, 4 * m * hidden)
        launches += 2 * count
    if family == "dynamic-depth":
        # router [m, D] x [D, 16] and [m, 16] x [16, 2], then the mask sort, in each of two sub-layers
        seconds += 2 * passes(2 * (m * hidden + 16 * hidden + 16 * m), 1, c, g)
        seconds += 2 * passes(2 * (16 * m + 32 + 2 * m), 1, c, g)
        if prefill:
            seconds += 2 * (c["sort_prefill_start"] + m * c["sort_token_bytes"] / g.bandwidth)
        else:
            seconds += 2 * (c["sort_single"] if m == 1 else c["sort_batched"])
        launches += 6
    if family == "sparse-attention":
        blocks, of = math.ceil(context / 16), math.ceil(context / 16) if prefill else 1
        queries = 2 * batch * q * of * (c["block_query_passes"] if of > 1 else 1)
        pooled = queries + c["block_key_passes"] * 2 * batch * kv * blocks
        seconds += pooled / (c["elementwise_efficiency"] * g.bandwidth) + c["elementwise_start"]
        scores = batch * heads * of * blocks * (0.5 if prefill else 1.0)
        seconds += 4 * scores / g.bandwidth
        launches += 1
    total = layers * (seconds + launches * c["launch_gap"])
    # embedding, final norm, LM head on all tokens
    outside = passes(4 * m * hidden, 1, c, g) + passes(10 * m * hidden, 2, c, g, 8 * m * hidden)
    outside += head(m, mo.vocab, hidden, c, g)
    return total + outside + (1 + 2 + c["gemm_launches"]) * c["launch_gap"]
