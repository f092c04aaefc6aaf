"""From a case to what runs on the GPU: attention, block-sparse attention, and stacks of whole layers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from pruninfersim import models
from pruninfersim.measure import families
from pruninfersim.measure.attention import Attend, Blockwise, Cache, Flash, Flex
from pruninfersim.measure.benches import BUILDERS, Builder, Maker, sizes
from pruninfersim.measure.cases import Case
from pruninfersim.measure.suites import BLOCK, DEPTH
from pruninfersim.measure.timing import Bench, Tensor


def attention(case: Case, make: Maker) -> Bench:
    """Flash attention of torch."""
    queries, keys = sizes(case, "q_len", "kv_len")
    causal = queries > 1
    return _attend(case, make, queries, keys, Flash(causal), Blockwise(causal, BLOCK))


def block_sparse(case: Case, make: Maker) -> Bench:
    """FlexAttention over a share of the blocks."""
    queries, keys, block = sizes(case, "queries", "keys", "block")
    keep, causal = float(case.shape["keep"]), queries > 1
    positions = torch.arange(keys - queries, keys, device=make.device)
    flex = Flex(positions, keys, causal=causal, block=block, keep=keep)
    return _attend(case, make, queries, keys, flex, Blockwise(causal, block, keep))


def _attend(case: Case, make: Maker, queries: int, keys: int, ours: Attend, reference: Attend) -> Bench:
    batch, heads, kv_heads, size = sizes(case, "batch", "heads", "kv_heads", "head_dim")
    positions = torch.arange(keys - queries, keys, device=make.device)

    def operands() -> tuple[Tensor, Cache]:
        k, v = (make.normal(batch, kv_heads, keys, size) for _ in range(2))
        return make.normal(batch, heads, queries, size), Cache(k, v)

    sets = make.many(operands)

    def compare() -> tuple[Tensor, Tensor]:
        q, cache = sets[0]
        # One sequence, and the last block of queries, which sees all keys.
        last = slice(-min(BLOCK, queries), None)
        wide = Cache(cache.k[:1].float(), cache.v[:1].float())
        return ours(q, cache, positions)[:1, :, last], reference(q[:1, :, last].float(), wide, positions[last])

    return Bench(tuple(partial(ours, q, cache, positions) for q, cache in sets), compare)


def layer(case: Case, make: Maker) -> Bench:
    """A stack of layers of a model; the weights of one are out of L2 when its turn comes again."""
    model = models.get(str(case.shape["model"]))
    method, sparsity = str(case.shape["method"]), float(case.shape["sparsity"])
    batch, context = sizes(case, "batch", "context")
    query = context if case.shape["phase"] == "prefill" else 1
    base = families.Base(batch, query, context, block=BLOCK, fast=True)
    like = {"layers": DEPTH, "device": make.device, "weights_dtype": torch.bfloat16}
    made = families.stack(model, method, sparsity, base, dtype=torch.bfloat16, **like)

    def compare() -> tuple[Tensor, Tensor]:
        slow = families.stack(
            model, method, sparsity, replace(base, fast=False, zeros=True), dtype=torch.float32, only=1, **like
        )
        first = made.layers[0](made.x, made.delta, made.caches[0])
        # What the MLP adds, which depends on all before it; the residual stream would hide an error.
        return first[1], slow()[1]

    return Bench((made,), compare, runs=DEPTH)


#: Kind of case -> what builds its bench.
BUILDERS_OF_ALL: dict[str, Builder] = {
    **BUILDERS,
    "attention_prefill": attention,
    "attention_decode": attention,
    "block_sparse_prefill": block_sparse,
    "block_sparse_decode": block_sparse,
    "layer": layer,
}
