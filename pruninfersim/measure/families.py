"""The seven pruning families as transformations of the weights of a torch layer, and stacks of such layers.

What remains of a layer is worked out here on its own, not with the code of `pruninfersim.pruning`, so that comparing
the FLOPs of both says something.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from pruninfersim.errors import InvalidInputError, unknown_name
from pruninfersim.measure.attention import Attend, Blockwise, Cache, Flash, Flex, Scope, Tensor, pooled_keys, silent
from pruninfersim.measure.layer import Compressed, Dense, Elementwise, Layer, Linear, Pair, Sizes, Tokens, rotation
from pruninfersim.models import ModelConfig

Weights = Mapping[str, Tensor]
#: Widths and ranks are rounded up to a multiple of this, and the hidden layer of a router is so wide; both as in the
#: protocol of arXiv 2606.09080, which the families of `pruninfersim.pruning` follow.
ALIGNMENT = 16
ROUTER_WIDTH = 16


def random_weights(sizes: Sizes, seed: int, device: Any, dtype: Any) -> dict[str, Tensor]:
    """Return normal random weights of unit gain, rounded to `dtype`."""
    generator = torch.Generator(device=device).manual_seed(seed)
    out = {}
    for name, (n, k) in sizes.weights().items():
        out[name] = (torch.randn(n, k, generator=generator, device=device) / math.sqrt(k)).to(dtype)
    return out


@dataclass(frozen=True)
class Base:
    """What a layer needs beside its weights.

    Attributes
    ----------
    batch, query, context : int
        Sequences, new tokens per sequence, keys.
    causal : bool
    block : int
        Key block of block-sparse attention.
    fast : bool
        Library kernels on CUDA (flash, FlexAttention, cuSPARSELt, compiled elementwise ops) in place of products that
        run anywhere.
    zeros : bool
        2:4 weights as dense ones with zeros in them: the same function, for a reference of any size.
    """

    batch: int
    query: int
    context: int
    causal: bool = True
    block: int = 16
    fast: bool = False
    zeros: bool = False

    def layer(
        self,
        weights: Weights,
        sizes: Sizes,
        linear: Mapping[str, Linear] | None = None,
        *,
        keep_tokens: float | None = None,
        keep_blocks: float | None = None,
    ) -> Layer:
        """Return a layer; linear layers that are not given are dense."""
        some = next(iter(weights.values()))
        gain = dict.fromkeys(("attention", "mlp"), some.new_ones(sizes.hidden))
        tokens = Tokens.choose(self.batch, self.query, self.context, keep_tokens, some.device)
        dense: dict[str, Linear] = {name: Dense(weight) for name, weight in weights.items()}
        linears = {**dense, **(linear or {})}
        at_q, at_k = (rotation(where, sizes.head_dim, some.dtype) for where in (tokens.kept, tokens.positions))
        attend, elementwise = self._attend(tokens, keep_blocks), Elementwise(compiled=self.fast)
        return Layer(sizes, linears, gain, attend, elementwise, tokens, (at_q, at_k))

    def _attend(self, tokens: Tokens, keep_blocks: float | None) -> Attend:
        causal = self.causal and self.query > 1
        keep, score = (1.0, False) if keep_blocks is None else (keep_blocks, True)
        if not self.fast:
            return Blockwise(causal, self.block, keep, score)
        if score or (tokens.rows is not None and causal):
            return Flex(tokens.kept, self.context, causal=causal, block=self.block, keep=keep, score=score)
        return Flash(causal)


#: (weights, sizes, sparsity, layer, layers of the stack, base) -> layer, or None where it is removed.
Family = Callable[[Weights, Sizes, float, int, int, Base], Layer | None]


def dense(weights: Weights, sizes: Sizes, sparsity: float, number: int, layers: int, base: Base) -> Layer:
    """Return the layer as it is."""
    return base.layer(weights, sizes)


def static_depth(weights: Weights, sizes: Sizes, sparsity: float, number: int, layers: int, base: Base) -> Layer | None:
    """Remove the last ``floor(sparsity * layers)`` layers."""
    return base.layer(weights, sizes) if number < layers - math.floor(sparsity * layers + 1e-9) else None


def low_rank(weights: Weights, sizes: Sizes, sparsity: float, number: int, layers: int, base: Base) -> Layer:
    """Replace every weight by two thin ones of random content; `svd_pair` makes ones that keep the function."""
    pairs: dict[str, Linear] = {}
    for name, weight in weights.items():
        n, k = weight.shape
        rank = _round_up((1.0 - sparsity) * n * k / (n + k), min(n, k))
        # Rows and columns of the weight itself: random numbers of the right scale.
        pairs[name] = Pair(weight[:rank].contiguous(), weight[:, :rank].contiguous() * math.sqrt(k / rank))
    return base.layer(weights, sizes, pairs)


def svd_pair(weight: Tensor, rank: int) -> Pair:
    """Return the best pair of thin weights of a rank (Eckart and Young 1936, doi:10.1007/BF02288367)."""
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    return Pair(s[:rank, None] * v[:rank], u[:, :rank])


def semi_structured(weights: Weights, sizes: Sizes, sparsity: float, number: int, layers: int, base: Base) -> Layer:
    """Keep two of each four weights in the first ``floor(2 * sparsity * layers)`` layers, the larger ones."""
    if number >= math.floor(2.0 * sparsity * layers + 1e-9):
        return base.layer(weights, sizes)
    if base.fast:
        pruned = {name: two_of_four(weight) for name, weight in weights.items()}
        rows = base.batch * base.query
        sparse: dict[str, Linear] = {n: Dense(stored(w, fastest_algorithm(w, rows))) for n, w in pruned.items()}
        return base.layer(pruned, sizes, sparse)
    if base.zeros:
        return base.layer({name: two_of_four(weight) for name, weight in weights.items()}, sizes)
    return base.layer(weights, sizes, {name: compress(weight) for name, weight in weights.items()})


def two_of_four(weight: Tensor) -> Tensor:
    """Return the weight with the two smaller of each four values of a row set to zero."""
    index = _largest_two(weight)
    return torch.zeros_like(weight).scatter_(1, index, weight.gather(1, index))


def fastest_algorithm(weight: Tensor, rows: int) -> int:
    """Return the number of the cuSPARSELt algorithm that is fastest for a 2:4 weight and so many rows; CUDA only."""
    # Rows come in multiples of 8; torch pads in the same way.
    x = torch.randn(-(-rows // 8) * 8, weight.shape[1], device=weight.device).to(weight.dtype)
    packed = stored(weight, 0).packed
    if hasattr(torch, "_cslt_sparse_mm_search"):
        return int(torch._cslt_sparse_mm_search(packed, x.t()))
    return int(torch._C._cusparselt.mm_search(packed, x.t(), None, None, None, False)[0])  # its name in later versions


def stored(weight: Tensor, algorithm: int) -> Any:
    """Return a 2:4 weight as torch stores it for cuSPARSELt."""
    from torch.sparse import SparseSemiStructuredTensorCUSPARSELT

    sparse = SparseSemiStructuredTensorCUSPARSELT.from_dense(weight)
    sparse.alg_id_cusparselt = algorithm
    return sparse


def compress(weight: Tensor) -> Compressed:
    """Return the two larger of each four values of a row, and where they are."""
    index = _largest_two(weight)
    return Compressed(weight.gather(1, index), index)


def _largest_two(weight: Tensor) -> Tensor:
    chosen = weight.unflatten(1, (-1, 4)).abs().topk(2, dim=-1).indices.sort(dim=-1).values
    return (chosen + 4 * torch.arange(chosen.shape[1], device=weight.device)[:, None]).flatten(1)


def static_width(weights: Weights, sizes: Sizes, sparsity: float, number: int, layers: int, base: Base) -> Layer:
    """Keep the first KV groups with their query heads, and the first channels of the MLP."""
    groups = sizes.kv_heads - min(math.ceil(sparsity * sizes.kv_heads - 1e-9), sizes.kv_heads - 1)
    ffn = _round_up((1.0 - sparsity) * sizes.ffn, sizes.ffn)
    narrow = replace(sizes, kv_heads=groups, heads=sizes.heads // sizes.kv_heads * groups, ffn=ffn)
    kept = {name: weights[name][:n, :k].contiguous() for name, (n, k) in narrow.weights().items()}
    return base.layer(kept, narrow)


def static_width_cross(weights: Weights, sizes: Sizes, sparsity: float, number: int, layers: int, base: Base) -> Layer:
    """Keep the first dimensions of the residual stream, with the projections of the residual around each sub-layer."""
    basis = torch.eye(sizes.hidden, dtype=weights["q"].dtype, device=weights["q"].device)
    return sliced(weights, sizes, sparsity, base, (basis, basis, basis))


def sliced(weights: Weights, sizes: Sizes, sparsity: float, base: Base, bases: tuple[Tensor, Tensor, Tensor]) -> Layer:
    """Rotate the residual stream into a basis per sub-layer and keep its first dimensions (arXiv 2401.15024, eq. 7).

    Parameters
    ----------
    weights, sizes, sparsity, base
        As of a family.
    bases : tuple of tensor, [hidden, hidden]
        Orthogonal matrices before attention, between attention and MLP, and after the MLP.
    """
    hidden = _round_up((1.0 - sparsity) * sizes.hidden, sizes.hidden)
    before, between, after = (basis[:, :hidden] for basis in bases)
    inputs = {"q": before, "k": before, "v": before, "gate": between, "up": between}
    outputs = {"o": between, "down": after}
    kept = {name: (weights[name] @ basis).contiguous() for name, basis in inputs.items()}
    kept |= {name: (basis.T @ weights[name]).contiguous() for name, basis in outputs.items()}
    residual: dict[str, Linear] = {
        "residual_attention": Dense((between.T @ before).contiguous()),
        "residual_mlp": Dense((after.T @ between).contiguous()),
    }
    return base.layer(kept, replace(sizes, hidden=hidden), residual)


def dynamic_depth(weights: Weights, sizes: Sizes, sparsity: float, number: int, layers: int, base: Base) -> Layer:
    """Let a share of the tokens pass each sub-layer; k, v and the cache stay dense."""
    some = weights["q"]
    generator = torch.Generator(device=some.device).manual_seed(number)
    routers: dict[str, Linear] = {}
    for block in ("attention", "mlp"):
        for end, (n, k) in (("a", (ROUTER_WIDTH, sizes.hidden)), ("b", (2, ROUTER_WIDTH))):
            weight = torch.randn(n, k, generator=generator, device=some.device).to(some.dtype)
            routers[f"router_{block}_{end}"] = Dense(weight)
    return base.layer(weights, sizes, routers, keep_tokens=1.0 - sparsity)


def sparse_attention(weights: Weights, sizes: Sizes, sparsity: float, number: int, layers: int, base: Base) -> Layer:
    """Attend to a share of the key blocks."""
    return base.layer(weights, sizes, keep_blocks=1.0 - sparsity)


#: Name -> how a layer of the family is made.
FAMILIES: dict[str, Family] = {
    "dense": dense,
    "static-depth": static_depth,
    "low-rank": low_rank,
    "semi-structured": semi_structured,
    "static-width": static_width,
    "static-width-cross": static_width_cross,
    "dynamic-depth": dynamic_depth,
    "sparse-attention": sparse_attention,
}


def _round_up(width: float, limit: int) -> int:
    return int(min(max(math.ceil(width / ALIGNMENT - 1e-9) * ALIGNMENT, ALIGNMENT), limit))


@dataclass(frozen=True)
class Stack:
    """Some layers in a row, each with its own cache, and their input.

    Attributes
    ----------
    layers : tuple of Layer
    caches : tuple of Cache
    x, delta : tensor, [batch, new tokens, hidden]
    """

    layers: tuple[Layer, ...]
    caches: tuple[Cache, ...]
    x: Tensor
    delta: Tensor

    def __call__(self, scope: Scope = silent) -> tuple[Tensor, Tensor]:
        """Run all layers; return the residual stream and what the last sub-layer adds to it."""
        x, delta = self.x, self.delta
        for layer, cache in zip(self.layers, self.caches, strict=True):
            x, delta = layer(x, delta, cache, scope)
        return x, delta


def stack(
    model: ModelConfig, method: str, sparsity: float, base: Base, *, layers: int, device: Any = "cpu",
    dtype: Any = torch.float32, weights_dtype: Any = None, only: int | None = None, seed: int = 0,
) -> Stack:  # fmt: skip
    """Return a stack of layers of a model with random weights, as a family leaves them.

    Parameters
    ----------
    model : ModelConfig
    method : str
        A key of `FAMILIES`.
    sparsity : float
    base : Base
    layers : int
        Layers of the dense stack.
    device, dtype : torch's
    weights_dtype : torch's, optional
        Weights and input are rounded to this first: the same numbers in a wider dtype, for a reference.
    only : int, optional
        Build the first few layers only.
    seed : int

    Raises
    ------
    UnknownNameError
        If there is no such family.
    InvalidInputError
        If a decode step has more than one new token.
    """
    if method not in FAMILIES:
        raise unknown_name("method", method, FAMILIES)
    if base.query not in (1, base.context):
        raise InvalidInputError("new tokens must be 1 (decode) or all of the context (prefill)")
    sizes = Sizes.of(model)
    rounded = weights_dtype or dtype
    made, caches = [], []
    for number in range(layers if only is None else only):
        weights = {k: w.to(dtype) for k, w in random_weights(sizes, seed + number, device, rounded).items()}
        layer = FAMILIES[method](weights, sizes, sparsity, number, layers, base)
        if layer is None:
            continue
        generator = torch.Generator(device=device).manual_seed(seed + 1000 + number)
        # A narrower layer takes a view of the same random keys, so that wide and narrow ones compare.
        shape = (base.batch, sizes.kv_heads, base.context, sizes.head_dim)
        k, v = (torch.randn(shape, generator=generator, device=device, dtype=torch.float32) for _ in range(2))
        k, v = (t[:, : layer.sizes.kv_heads].to(rounded).to(dtype).contiguous() for t in (k, v))
        made.append(layer)
        caches.append(Cache(k, v, pooled_keys(k, base.block) if base.query == 1 else None))
    generator = torch.Generator(device=device).manual_seed(seed + 2000)
    wide = (base.batch, base.query, sizes.hidden)
    x, delta = (torch.randn(wide, generator=generator, device=device) for _ in range(2))
    hidden = made[0].sizes.hidden if made else sizes.hidden
    x, delta = (t[..., :hidden].to(rounded).to(dtype).contiguous() for t in (x, delta))
    return Stack(tuple(made), tuple(caches), x, delta)
