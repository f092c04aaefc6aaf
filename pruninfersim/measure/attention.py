"""Attention of the torch layer: blocks that are executed one by one (any device), flash, and FlexAttention (CUDA)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch

Tensor = Any
#: Called with the name of a trace row around the work of that row; a test counts FLOPs inside.
Scope = Callable[[str], AbstractContextManager[Any]]


def silent(name: str) -> AbstractContextManager[Any]:
    """Scope that does nothing."""
    return nullcontext()


@dataclass
class Cache:
    """Keys and values of all sequences, each [batch, kv_heads, keys, head_dim].

    Attributes
    ----------
    pooled : tensor or None
        Mean key of each block, [batch, kv_heads, blocks, head_dim], which a decode step finds ready; None in prefill.
    """

    k: Tensor
    v: Tensor
    pooled: Tensor | None = None

    def first(self, sequences: int) -> Cache:
        """Return a view of the first sequences."""
        pooled = None if self.pooled is None else self.pooled[:sequences]
        return Cache(self.k[:sequences], self.v[:sequences], pooled)


class Attend(Protocol):
    """q [batch, heads, rows, head_dim], their cache and their positions [rows] -> result of q's shape."""

    def __call__(self, q: Tensor, cache: Cache, positions: Tensor, scope: Scope = silent) -> Tensor:
        """Return the attention of every row of q to the keys."""


def evenly(keep: float, total: int) -> list[int]:
    """Return which of `total` things are kept: ``round(keep * total)``, at least one, evenly spread, the last kept.

    >>> evenly(0.5, 8), evenly(1.0, 3), evenly(0.25, 2)
    ([1, 3, 5, 7], [0, 1, 2], [1])
    """
    kept = max(1, round(keep * total))
    return [-(-(i + 1) * total // kept) - 1 for i in range(kept)]


def widened(x: Tensor) -> Tensor:
    """Return x in at least float32, the precision of norms and softmax."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def pooled_keys(k: Tensor, block: int) -> Tensor:
    """Return the mean of each block of keys, [batch, kv_heads, blocks, head_dim]; the last block may be short."""
    return torch.stack([part.mean(dim=2) for part in k.split(block, dim=2)], dim=2)


def score_blocks(q: Tensor, cache: Cache, block: int, scope: Scope) -> Tensor:
    """Return the pooled scores from which a method would choose blocks, [batch, heads, query blocks, key blocks].

    Which blocks then run is fixed (`evenly`), so that the share is exact and the result can be checked.
    """
    batch, heads, rows, size = q.shape
    pool = pooled_keys(cache.k, block) if cache.pooled is None else cache.pooled
    short = rows % block
    queries = q.unflatten(2, (-1, block)).mean(dim=3) if not short else pooled_keys(q, block)
    kv_heads = pool.shape[1]
    grouped = queries.reshape(batch, kv_heads, heads // kv_heads * queries.shape[2], size)
    with scope("block_score"):
        scores = grouped @ pool.transpose(-1, -2)
    scores = scores.view(batch, heads, queries.shape[2], pool.shape[2])
    return scores.topk(max(1, pool.shape[2] // 2), dim=-1).indices


@dataclass(frozen=True)
class Blockwise:
    """Attention in plain products, one block of queries at a time, over exactly the blocks of keys that it may see.

    The reference for all others, and what executes as many FLOPs as the trace says: every product that is done is
    counted, and none is done that a mask then removes, but for the triangle inside a diagonal block.

    Attributes
    ----------
    causal : bool
        Whether a row sees the keys up to its position only.
    block : int
        Rows and keys in a block.
    keep : float
        Share of the visible key blocks that is attended to, `evenly` spread.
    score : bool
        Whether pooled scores are computed first.
    """

    causal: bool = True
    block: int = 16
    keep: float = 1.0
    score: bool = False

    def __call__(self, q: Tensor, cache: Cache, positions: Tensor, scope: Scope = silent) -> Tensor:
        """Return the attention of every row of q to the keys."""
        if self.score:
            score_blocks(q, cache, self.block, scope)
        batch, heads, rows, size = q.shape
        kv_heads, total = cache.k.shape[1], cache.k.shape[2]
        where = positions.tolist()
        parts = []
        for start in range(0, rows, self.block):
            stop = min(start + self.block, rows)
            keys = self.visible(where[start:stop], total, q.device)
            k, v = (t if len(keys) == total else t[:, :, keys] for t in (cache.k, cache.v))
            grouped = q[:, :, start:stop].reshape(batch, kv_heads, heads // kv_heads * (stop - start), size)
            with scope("attention"):
                scores = grouped @ k.transpose(-1, -2)
            scores = (widened(scores) * size**-0.5).view(batch, kv_heads, -1, stop - start, len(keys))
            if self.causal:
                hidden = keys[None, :] > positions[start:stop, None]
                scores = scores.masked_fill(hidden, float("-inf"))
            share = scores.softmax(dim=-1).to(v.dtype).view(batch, kv_heads, -1, len(keys))
            with scope("attention"):
                out = share @ v
            parts.append(out.view(batch, heads, stop - start, size))
        return torch.cat(parts, dim=2)

    def visible(self, positions: list[int], total: int, device: Any) -> Tensor:
        """Return the keys that a block of queries attends to, [keys]."""
        seen = max(positions) + 1 if self.causal else total
        blocks = -(-seen // self.block)
        keys = [
            key
            for chosen in evenly(self.keep, blocks)
            for key in range(chosen * self.block, min((chosen + 1) * self.block, total))
        ]
        return torch.tensor(keys, device=device)


@dataclass(frozen=True)
class Flash:
    """scaled_dot_product_attention, held to its flash kernels on CUDA."""

    causal: bool = True

    def __call__(self, q: Tensor, cache: Cache, positions: Tensor, scope: Scope = silent) -> Tensor:
        """Return the attention of every row of q to the keys; rows of a causal prompt must be all of it."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        backends = [SDPBackend.FLASH_ATTENTION] if q.is_cuda else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
        causal = self.causal and q.shape[2] > 1
        with scope("attention"), sdpa_kernel(backends):
            return torch.nn.functional.scaled_dot_product_attention(
                q, cache.k, cache.v, is_causal=causal, enable_gqa=q.shape[1] != cache.k.shape[1]
            )


class Flex:
    """FlexAttention with the same choice of blocks as `Blockwise`; compiled for its shape, CUDA only.

    Parameters
    ----------
    positions : tensor, [rows]
    keys : int
    causal, block, keep, score
        As in `Blockwise`.
    """

    def __init__(
        self,
        positions: Tensor,
        keys: int,
        *,
        causal: bool = True,
        block: int = 128,
        keep: float = 1.0,
        score: bool = False,
    ) -> None:
        self.positions, self.keys = positions, keys
        self.causal, self.block, self.keep, self.score = causal, block, keep, score

    @cached_property
    def mask(self) -> Any:
        """Block mask, made once; only blocks that a mask cuts into pay for it."""
        from torch.nn.attention.flex_attention import BlockMask

        partial, full = (self._tensors(chosen) for chosen in self.chosen())
        positions = self.positions

        def causal(batch: Any, head: Any, row: Any, key: Any) -> Any:
            return positions[row] >= key

        return BlockMask.from_kv_blocks(
            *partial, *full, BLOCK_SIZE=(self.block, self.block), mask_mod=causal if self.causal else None,
            seq_lengths=(len(positions), self.keys),
        )  # fmt: skip

    def chosen(self) -> tuple[list[list[int]], list[list[int]]]:
        """Return, per query block, the chosen key blocks that the causal mask cuts into, and those seen in full."""
        where = self.positions.tolist()
        partial, full = [], []
        for start in range(0, len(where), self.block):
            part = where[start : start + self.block]
            seen = max(part) + 1 if self.causal else self.keys
            blocks = evenly(self.keep, -(-seen // self.block))
            cut = [i for i in blocks if self.causal and (i + 1) * self.block - 1 > min(part)]
            partial.append(cut)
            full.append([i for i in blocks if i not in cut])
        return partial, full

    def _tensors(self, chosen: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Return how many blocks each row has, and which, padded with the others."""
        blocks = -(-self.keys // self.block)
        padded = [[*row, *sorted(set(range(blocks)) - set(row))] for row in chosen]
        kind = {"dtype": torch.int32, "device": self.positions.device}
        return torch.tensor([[[len(row) for row in chosen]]], **kind), torch.tensor([[padded]], **kind)

    @cached_property
    def compiled(self) -> Any:
        """The kernel."""
        from torch.nn.attention.flex_attention import flex_attention

        return torch.compile(flex_attention, dynamic=False)

    def __call__(self, q: Tensor, cache: Cache, positions: Tensor, scope: Scope = silent) -> Tensor:
        """Return the attention of every row of q to the keys."""
        if self.score:
            score_blocks(q, cache, self.block, scope)
        with scope("attention"):
            return self.compiled(q, cache.k, cache.v, block_mask=self.mask, enable_gqa=q.shape[1] != cache.k.shape[1])
