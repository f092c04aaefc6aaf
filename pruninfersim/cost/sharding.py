"""Tensor and expert parallelism: a trace becomes that of one rank, with the all-reduces between the sub-layers.

Column-parallel where the outputs of a GEMM are heads or channels, row-parallel where its inputs are (Megatron-LM, arXiv
1909.08053): each sub-layer ends in one all-reduce of the residual. The two halves of a low-rank pair are split as well,
along the rank where nothing else is, so that the products of the first halves are exchanged in between. KV heads are
split as far as there are any, and then replicated; MLA's latent is on every rank. The vocabulary is split, embedding
and head alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruninfersim import ops as catalogue
from pruninfersim._util.arrays import FloatArray
from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.models.architectures.routing import busiest_rank, busiest_share
from pruninfersim.trace.optrace import OpTrace

#: Axes that are divided by the size of the group.
SPLIT = ("heads", "mla_heads", "ffn", "state", "vocab", "index")
#: GPUs of a group at most, far above what one switch joins.
MOST_GPUS = 4096
#: Kernels of attention, whose heads are divided.
HEADS = "head_dim"


def shard(trace: OpTrace, tp: int = 1, ep: int = 1) -> OpTrace:
    """Return the trace of one rank of `tp` GPUs, with its all-reduces.

    Prune first: a narrower layer is split into narrower parts, and a removed sub-layer takes its all-reduce with it. A
    trace that is sharded already is returned as it is.

    Parameters
    ----------
    trace : OpTrace
    tp : int
        GPUs of the group. Attention, dense MLPs and the vocabulary are split over all of them.
    ep : int
        Groups that routed experts are spread over, a divisor of `tp`; each expert is split over the tp / ep GPUs of its
        group. The trace is that of the most loaded group, under the routing of the workload: the others wait for it.

    Raises
    ------
    InvalidInputError
        If `tp` or `ep` is not a positive whole number, or above `MOST_GPUS`, or ep does not divide tp.

    >>> from pruninfersim.trace import trace
    >>> from pruninfersim.workload import Workload
    >>> rank = shard(trace("llama-3.1-8b", Workload.decode(batch=8)), tp=4)
    >>> float(rank.select(rank.mask(names=["q"])).n[0]), float(rank.count[rank.mask(kernels=["all_reduce"])].sum())
    (1024.0, 65.0)
    """
    for name, value in (("tp", tp), ("ep", ep)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= MOST_GPUS:
            raise InvalidInputError(
                f"{name} must be a positive whole number of GPUs, at most {MOST_GPUS}; got {shown(value)}"
            )
    if tp % ep:
        raise InvalidInputError(f"ep must divide tp: experts are spread within the group; got tp={tp}, ep={ep}")
    if tp == 1 or bool((trace.ranks > 1).any()):
        return trace
    columns = _columns(trace, float(tp), float(ep))
    split = trace.with_columns(**columns)
    rows = _all_reduces(trace, float(tp))
    if not rows:
        return split
    reduces = OpTrace.from_rows([row for _, row in rows])
    joined = split.concat(reduces)
    order = _after(len(trace), [place for place, _ in rows])
    return joined.select(order)


def _columns(trace: OpTrace, tp: float, ep: float) -> dict[str, Any]:
    """Return the columns that change on one rank."""
    n_axis, k_axis = np.array(trace.n_axis, dtype=str), np.array(trace.k_axis, dtype=str)
    kernel = np.array(trace.kernel, dtype=str)
    experts = kernel == "moe"
    elementwise = np.asarray(trace.gemms).reshape(-1, len(trace)).max(axis=0) == 0
    by_n, by_k = np.isin(n_axis, SPLIT), np.isin(k_axis, SPLIT)
    by_n = by_n | (n_axis == "rank") & (k_axis == "hidden")
    by_k = by_k | (k_axis == "rank") & (n_axis == "hidden")
    kv_n = n_axis == "kv_heads"
    attention = (np.asarray(trace.gemms).reshape(-1, len(trace)).max(axis=0) == 2.0) & ~experts
    single = np.asarray(trace.gemms).reshape(-1, len(trace)).max(axis=0) == 1.0
    scored = (single & (n_axis == "context")) | (kernel == "per_head_gemm")
    groups = _kv_heads(trace)
    kv_share = np.maximum(1.0 / tp, 1.0 / groups)
    # The rotated width is that of queries and keys: the former are split, the latter as far as they can be.
    per_kv = _group_size(trace)
    qk_share = (per_kv / tp + kv_share) / (per_kv + 1.0)
    n_share = np.where(by_n, 1.0 / tp, np.where(kv_n, kv_share, np.where(n_axis == "qk", qk_share, 1.0)))
    k_share = np.where(by_k, 1.0 / tp, 1.0)
    k_share = np.where(elementwise & ~by_k, n_share, k_share)
    n_share = np.where(experts, ep / tp, np.where(attention | scored, 1.0, n_share))
    k_share = np.where(experts | attention | scored, 1.0, k_share)
    head_share = np.where(attention | scored, 1.0 / tp, np.where(experts, 1.0 / ep, 1.0))
    # A latent that all heads share stays whole; states and experts go with their part.
    shared = np.isin(kernel, ["mla_decode", "mla_prefill"]) | (n_axis == "context") & scored
    whole = np.where(attention, kv_share, head_share)
    whole = np.where(np.isin(kernel, ["linear_attention"]), 1.0 / tp, whole)
    expanded = np.where(kernel == "mla_prefill", 1.0 / tp, 1.0)
    load, share = _busiest(trace, experts, ep)
    return {
        "m": trace.m * load,
        "n": trace.n * n_share,
        "k": trace.k * k_share,
        "batch": trace.batch * head_share,
        "b_batch": trace.b_batch * np.where(shared, 1.0, whole),
        "b_reads": share * expanded,
        "ranks": trace.ranks * tp,
    }


def _busiest(trace: OpTrace, experts: NDArray[np.bool_], ep: float) -> tuple[FloatArray, FloatArray]:
    """Return, of the most loaded group: its tokens over those of the mean, and `b_reads`; shape (*sweep, op)."""
    shape = np.broadcast_shapes(*(x.shape for x in (trace.m, trace.sequences, trace.batch, trace.b_reads)))
    load, share = np.ones(shape), np.broadcast_to(trace.b_reads, shape).copy()
    if ep > 1.0:
        for i in np.flatnonzero(experts):
            tokens, each, whole = trace.sequences[..., i], trace.m[..., i], trace.batch[..., i]
            given = (tokens, each * whole / np.maximum(tokens, 1e-9), whole, ep, trace.pattern[i] or "uniform")
            load[..., i], share[..., i] = busiest_rank(*given), busiest_share(*given)
    return load, share


def _home(trace: OpTrace) -> tuple[np.ndarray, list[int]]:
    """Return the attention ops, and for every op the one of its layer (or the first)."""
    found = np.flatnonzero(trace.mask(names=["attention"]))
    home = {layer: int(i) for i in found for layer in trace.layers[i]}
    first = int(found[0]) if len(found) else 0
    return found, [home.get(row[0], first) if row else first for row in trace.layers]


def _kv_heads(trace: OpTrace) -> FloatArray:
    """Return the KV heads of the layer of each op, at least one, shape (op,) or (*sweep, op)."""
    found, place = _home(trace)
    if not len(found):
        return np.ones(len(trace))
    return np.asarray(np.maximum(np.rint(trace.b_batch[..., place] / trace.sequences[..., place]), 1.0))


def _group_size(trace: OpTrace) -> FloatArray:
    """Return the query heads per KV head of the layer of each op."""
    found, place = _home(trace)
    if not len(found):
        return np.ones(len(trace))
    return np.asarray(trace.batch[..., place] / np.maximum(trace.b_batch[..., place], 1e-9))


def _all_reduces(trace: OpTrace, tp: float) -> list[tuple[int, dict[str, Any]]]:
    """Return all-reduces, each with the op that it follows: one per sub-layer whose last GEMM has its inputs split.

    Where attention and MLP read the same input (parallel blocks), their sums are reduced together.
    """
    parallel = {i for i, layer in enumerate(trace.model.layers) if layer.parallel} if trace.model else set()
    ends: dict[tuple[str, tuple[int, ...]], int] = {}
    ranks: dict[tuple[str, tuple[int, ...], str], list[int]] = {}
    for i, (n_axis, k_axis, kernel) in enumerate(zip(trace.n_axis, trace.k_axis, trace.kernel, strict=True)):
        linear = catalogue.get(kernel).part == "GEMM"
        if linear and n_axis == "rank":
            ranks.setdefault((trace.block[i], trace.layers[i], k_axis), []).append(i)
        if (linear and k_axis in (*SPLIT, "rank") and n_axis == "hidden") or kernel == "moe":
            block = "mlp" if trace.layers[i] and trace.layers[i][0] in parallel else trace.block[i]
            ends[block, trace.layers[i]] = i  # the last one
    halves = [(index[-1], _exchange(trace, index, tp)) for index in ranks.values()]
    rows = [(i, _row(trace, i, tp)) for i in ends.values()]
    embedding = np.flatnonzero(trace.mask(names=["embedding"]))
    return [*((int(i), _row(trace, int(i), tp)) for i in embedding), *halves, *rows]


def _row(trace: OpTrace, i: int, tp: float) -> dict[str, Any]:
    """Return the all-reduce after an op: one value of the residual per token."""
    experts = trace.kernel[i] == "moe"
    width = trace.k[..., i] if experts or trace.name[i] == "embedding" else trace.n[..., i]
    return {
        "name": "all_reduce",
        "kernel": "all_reduce",
        "block": trace.block[i],
        "layers": trace.layers[i],
        "dtype": "bf16" if trace.dtype[i] not in ("fp16", "fp32") else trace.dtype[i],
        "count": trace.count[..., i],
        "m": trace.sequences[..., i] if experts else trace.batch[..., i] * trace.m[..., i],
        "n": width,
        "k": width,
        "out_bytes": np.maximum(trace.out_bytes[..., i], 2.0),
        "a_bytes": np.maximum(trace.out_bytes[..., i], 2.0),
        "n_axis": "hidden",
        "k_axis": "hidden",
        "ranks": tp,
    }


def _exchange(trace: OpTrace, index: list[int], tp: float) -> dict[str, Any]:
    """Return the exchange of the products of first halves of low-rank pairs: half of an all-reduce."""
    row = _row(trace, index[0], tp)
    width = trace.n[..., index].sum(axis=-1) / 2.0
    return row | {"name": "rank_exchange", "n": width, "k": width, "n_axis": "rank", "k_axis": "rank"}


def _after(length: int, places: list[int]) -> list[int]:
    """Return the order in which appended ops stand behind the ops that they follow."""
    behind: dict[int, list[int]] = {}
    for number, place in enumerate(places):
        behind.setdefault(place, []).append(length + number)
    return [j for i in range(length) for j in (i, *behind.get(i, []))]
