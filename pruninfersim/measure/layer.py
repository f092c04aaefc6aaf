"""A decoder layer in torch that executes exactly the work of the trace: dense, or as a pruning family leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from pruninfersim.measure.attention import Attend, Cache, Scope, Tensor, evenly, silent, widened
from pruninfersim.models import ModelConfig


@dataclass(frozen=True)
class Sizes:
    """Widths of a layer; a pruned one has fewer heads, channels or hidden dimensions than its model."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int

    @classmethod
    def of(cls, model: ModelConfig) -> Sizes:
        """Return the sizes of a dense layer of a model."""
        return cls(model.hidden_size, model.num_heads, model.num_kv_heads, model.head_dim, model.intermediate_size)

    def weights(self) -> dict[str, tuple[int, int]]:
        """Return (outputs, inputs) of the seven linear layers."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q": (q, self.hidden), "k": (kv, self.hidden), "v": (kv, self.hidden), "o": (self.hidden, q),
            "gate": (self.ffn, self.hidden), "up": (self.ffn, self.hidden), "down": (self.hidden, self.ffn),
        }  # fmt: skip


class Linear(Protocol):
    """x [rows, inputs] -> [rows, outputs]; `name` is that of the trace row."""

    def __call__(self, x: Tensor, name: str, scope: Scope) -> Tensor:
        """Return the product with the weight."""


@dataclass(frozen=True)
class Dense:
    """``x W.T``, also with a weight that torch stores as 2:4 for cuSPARSELt."""

    weight: Tensor

    def __call__(self, x: Tensor, name: str, scope: Scope) -> Tensor:
        """Return the product with the weight."""
        with scope(name):
            return F.linear(x, self.weight)


@dataclass(frozen=True)
class Pair:
    """``(x A.T) B.T``: two thin weights, [rank, inputs] and [outputs, rank]."""

    a: Tensor
    b: Tensor

    def __call__(self, x: Tensor, name: str, scope: Scope) -> Tensor:
        """Return the product with both weights."""
        with scope(f"{name}_a"):
            thin = F.linear(x, self.a)
        with scope(f"{name}_b"):
            return F.linear(thin, self.b)


@dataclass(frozen=True)
class Compressed:
    """2:4 weights on any device: the two kept of each four values of a row, [outputs, inputs/2], and where they were.

    Each output gathers the inputs it kept and multiplies those only, so that half of the products are done; slow, for
    checking. On CUDA, cuSPARSELt does the same (`pruninfersim.measure.families.semi_structured`).
    """

    values: Tensor
    index: Tensor

    def __call__(self, x: Tensor, name: str, scope: Scope) -> Tensor:
        """Return the product with the kept weights."""
        gathered = x[:, self.index].transpose(0, 1)
        with scope(name):
            out = torch.bmm(gathered, self.values.unsqueeze(-1))
        return out.squeeze(-1).transpose(0, 1)


class Elementwise:
    """The elementwise kernels of a layer; `compiled` fuses each into one kernel, for CUDA."""

    def __init__(self, *, compiled: bool = False) -> None:
        def wrap(function: Any) -> Any:
            return torch.compile(function, dynamic=False) if compiled else function

        self.add_norm, self.act, self.rope = wrap(add_norm), wrap(act), wrap(rope)


def add_norm(x: Tensor, delta: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Return the residual stream ``x + delta`` and its RMSNorm."""
    x = x + delta
    wide = widened(x)
    return x, (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * gain


def act(gate: Tensor, up: Tensor) -> Tensor:
    """Return SiLU(gate) * up."""
    return F.silu(gate) * up


def rope(q: Tensor, k: Tensor, at_q: Tensor, at_k: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate q and k, [batch, rows, heads, head_dim]; `at_q` and `at_k` hold cosines and sines, [2, rows, head_dim]."""

    def turned(x: Tensor, at: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return x * at[0][:, None] + torch.cat((-x[..., half:], x[..., :half]), -1) * at[1][:, None]

    return turned(q, at_q), turned(k, at_k)


def rotation(positions: Tensor, head_dim: int, dtype: Any) -> Tensor:
    """Return cosines and sines of rotary positions, [2, rows, head_dim]."""
    frequency = 500_000.0 ** (-torch.arange(0, head_dim, 2, device=positions.device).double() / head_dim)
    angle = torch.outer(positions.double(), frequency).repeat(1, 2)
    return torch.stack((angle.cos(), angle.sin())).to(dtype)


@dataclass(frozen=True)
class Tokens:
    """Which tokens a layer works on, fixed before it runs.

    Attributes
    ----------
    positions : tensor, [new tokens per sequence]
        Where the new tokens stand.
    rows : tensor or None, [kept]
        Rows of the flattened batch that pass a sub-layer; None for all.
    kept : tensor, [kept per sequence]
        Positions of the kept ones.
    sequences : int
        Sequences that have a kept token: all in prefill, the first ones in decode.
    """

    positions: Tensor
    rows: Tensor | None
    kept: Tensor
    sequences: int

    @classmethod
    def choose(cls, batch: int, query: int, context: int, keep: float | None, device: Any) -> Tokens:
        """Keep a share of the tokens: the same positions of every prompt, or in decode the first sequences.

        In decode the kept sequences come first, so that their keys are read in place, as a paged cache allows.
        """
        positions = torch.arange(context - query, context, device=device)
        if keep is None:
            return cls(positions, None, positions, batch)
        if query == 1:
            sequences = max(1, round(keep * batch))
            return cls(positions, torch.arange(sequences, device=device), positions, sequences)
        chosen = torch.tensor(evenly(keep, query), device=device)
        rows = (torch.arange(batch, device=device)[:, None] * query + chosen).flatten()
        return cls(positions, rows, positions[chosen], batch)


@dataclass(frozen=True)
class Layer:
    """One decoder layer.

    Attributes
    ----------
    sizes : Sizes
    linear : mapping of str to Linear
        q, k, v, o, gate, up, down; with a narrower residual stream residual_attention and residual_mlp; with routers
        router_attention_a, ..._b, router_mlp_a and ..._b.
    gain : mapping of str to tensor
        Gains of the norms that open attention and mlp.
    attend : Attend
    elementwise : Elementwise
    tokens : Tokens
    angles : tuple of tensor
        `rotation` of the kept tokens and of all new ones.
    """

    sizes: Sizes
    linear: Mapping[str, Linear]
    gain: Mapping[str, Tensor]
    attend: Attend
    elementwise: Elementwise
    tokens: Tokens
    angles: tuple[Tensor, Tensor]

    def __call__(self, x: Tensor, delta: Tensor, cache: Cache, scope: Scope = silent) -> tuple[Tensor, Tensor]:
        """Run the layer.

        Parameters
        ----------
        x, delta : tensor, [batch, new tokens, hidden]
            Residual stream, and what the sub-layer before adds to it.
        cache : Cache
            Written at the positions of the new tokens.
        scope : Scope

        Returns
        -------
        tuple of tensor
            The same two for the next layer.
        """
        shape = x.shape
        x, delta = (t.flatten(0, 1) for t in (x, delta))
        x, delta = self._attention(x, delta, cache, shape[0], scope)
        x, delta = self._mlp(x, delta, scope)
        return x.unflatten(0, shape[:2]), delta.unflatten(0, shape[:2])

    def _attention(self, x: Tensor, delta: Tensor, cache: Cache, batch: int, scope: Scope) -> tuple[Tensor, Tensor]:
        sizes, tokens = self.sizes, self.tokens
        x, h = self.elementwise.add_norm(x, delta, self.gain["attention"])
        some = self._gather("attention", h, scope)
        heads = (-1, sizes.head_dim)
        q = self._run("q", some, scope).unflatten(-1, heads).unflatten(0, (-1, len(tokens.kept)))
        k, v = (self._run(n, h, scope).unflatten(-1, heads).unflatten(0, (batch, -1)) for n in ("k", "v"))
        q, k = self.elementwise.rope(q, k, *self.angles)
        start = cache.k.shape[2] - len(tokens.positions)
        cache.k[:, :, start:] = k.transpose(1, 2)
        cache.v[:, :, start:] = v.transpose(1, 2)
        q = q.transpose(1, 2)
        if q.stride(-1) != 1:  # 2:4 products come out transposed, and flash kernels want heads in one piece
            q = q.contiguous()
        out = self.attend(q, cache.first(tokens.sequences), tokens.kept, scope)
        out = self._run("o", out.transpose(1, 2).flatten(2).flatten(0, 1), scope)
        return self._residual("attention", x, scope), self._scatter(out, len(h))

    def _mlp(self, x: Tensor, delta: Tensor, scope: Scope) -> tuple[Tensor, Tensor]:
        x, h = self.elementwise.add_norm(x, delta, self.gain["mlp"])
        some = self._gather("mlp", h, scope)
        wide = self.elementwise.act(self._run("gate", some, scope), self._run("up", some, scope))
        out = self._run("down", wide, scope)
        return self._residual("mlp", x, scope), self._scatter(out, len(h))

    def _run(self, name: str, x: Tensor, scope: Scope) -> Tensor:
        return self.linear[name](x, name, scope)

    def _residual(self, block: str, x: Tensor, scope: Scope) -> Tensor:
        name = f"residual_{block}"
        return self._run(name, x, scope) if name in self.linear else x

    def _gather(self, block: str, h: Tensor, scope: Scope) -> Tensor:
        """Return the rows that pass the sub-layer; a router scores all rows and sorts them first.

        Router and sort run for their cost. The choice itself is fixed, so that its share is exact.
        """
        if self.tokens.rows is None:
            return h
        hidden = F.silu(self._run(f"router_{block}_a", h, scope))
        logits = self._run(f"router_{block}_b", hidden, scope)
        torch.sort(logits[:, 1] - logits[:, 0], descending=True)
        return h[self.tokens.rows]

    def _scatter(self, out: Tensor, rows: int) -> Tensor:
        """Put the rows of the kept tokens back in their places; the others add nothing to the residual stream."""
        if self.tokens.rows is None:
            return out
        return out.new_zeros(rows, out.shape[-1]).index_copy_(0, self.tokens.rows, out)
