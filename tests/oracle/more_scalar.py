"""A second slow oracle, for methods beyond the seven families: one layer after the other, plain numbers, bf16.

Nothing here is imported from the package. A class is a forward pass; a subclass says what its method changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from scalar_model import MODELS, attended_pairs

#: (FLOPs, bytes).
Work = tuple[float, float]


class Pass:
    """Forward pass of a dense decoder."""

    def __init__(self, model: str, phase: str, batch: int, context: int):
        self.model, self.phase, self.batch, self.context = MODELS[model], phase, batch, context
        self.decode = phase == "decode"
        self.query = 1 if self.decode else context

    # --- what a method may change ---------------------------------------------------------------------------------

    def queries(self, layer: int) -> float:
        return self.query

    def after(self, layer: int) -> float:
        """Queries behind attention."""
        return self.queries(layer)

    def keys(self, layer: int) -> float:
        seen = self.query + self.model.window - 1
        return min(self.context, seen) if layer in self.model.windowed else self.context

    def has(self, layer: int, block: str) -> bool:
        return True

    def heads(self, layer: int) -> float:
        return self.model.heads

    def kv_heads(self, layer: int) -> float:
        return self.model.kv_heads

    def ffn(self, layer: int) -> float:
        return self.model.ffn

    def linear(self, layer: int, name: str, m: float, n: float, k: float) -> Iterator[Work]:
        yield 2.0 * m * n * k, 2.0 * (m * k + n * k + m * n)

    def pairs(self, layer: int) -> float:
        window = self.model.window if layer in self.model.windowed else 0
        return attended_pairs(self.phase, self.query, self.context, window, True)

    def attention(self, layer: int) -> Iterator[Work]:
        d, heads, kv = self.model.head_dim, self.heads(layer), self.kv_heads(layer)
        moved = 2 * heads * self.queries(layer) + 2 * kv * self.keys(layer)
        yield 4.0 * self.batch * heads * self.pairs(layer) * d, 2.0 * self.batch * moved * d

    def act_share(self, layer: int) -> float:
        return 1.0

    def appended(self, layer: int) -> float:
        return 1.0

    def moved(self, layer: int, what: str, amount: float) -> float:
        return amount

    def vocabulary(self) -> float:
        return self.model.vocab

    def embedded(self) -> float:
        return self.query

    def extra(self, layer: int) -> Iterator[Work]:
        yield from ()

    def once(self) -> Iterator[Work]:
        yield from ()

    # --- the pass -------------------------------------------------------------------------------------------------

    def work(self) -> Iterator[Work]:
        model, h = self.model, self.model.hidden
        yield 0.0, 4.0 * self.batch * self.embedded() * h
        for layer in range(model.layers):
            m = self.batch * self.queries(layer)
            q, kv = self.heads(layer) * model.head_dim, self.kv_heads(layer) * model.head_dim
            if self.has(layer, "attention"):
                yield 0.0, self.moved(layer, "attn_norm", 8.0 * m * h)
                for name, n, k in (("q", q, h), ("k", kv, h), ("v", kv, h), ("o", h, q)):
                    yield from self.linear(layer, name, m, n, k)
                yield 0.0, self.moved(layer, "qkv", 4.0 * m * (q + kv) * (2 if model.qk_norm else 1))
                yield 0.0, self.moved(layer, "qkv", 4.0 * m * 2 * kv * self.appended(layer))
                yield from self.attention(layer)
                if model.four_norms:
                    yield 0.0, self.moved(layer, "norm", 4.0 * m * h)
            if self.has(layer, "mlp"):
                f, m = self.ffn(layer), self.batch * self.after(layer)
                yield 0.0, self.moved(layer, "norm", 8.0 * m * h)
                for name, n, k in (("gate", f, h), ("up", f, h), ("down", h, f)):
                    yield from self.linear(layer, name, m, n, k)
                yield 0.0, self.moved(layer, "act", 6.0 * m * f * self.act_share(layer))
                if model.four_norms:
                    yield 0.0, self.moved(layer, "norm", 4.0 * m * h)
            yield from self.extra(layer)
        m = self.batch * self.after(model.layers - 1)
        yield 0.0, 8.0 * m * h
        v = self.vocabulary()
        yield 2.0 * self.batch * v * h, 2.0 * (self.batch * h + v * h + self.batch * v)
        yield from self.once()

    def totals(self) -> Work:
        parts = list(self.work())
        return math.fsum(flops for flops, _ in parts), math.fsum(moved for _, moved in parts)


def made(kind: type[Pass], **options):
    """A pass of a kind with the options of its method as attributes."""

    def build(model: str, phase: str, batch: int, context: int) -> Pass:
        one = kind(model, phase, batch, context)
        for name, value in options.items():
            setattr(one, name, value)
        return one

    return build


class Evict(Pass):
    """Shorter caches in decode; who is kept is scored by a window of queries, by all of them, or not at all."""

    share, budget, score, window, full = 0.0, 0, "none", 32, 0.0

    def left(self, layer):
        n = Pass.keys(self, layer)
        return min(n, self.budget) if self.budget else max(1, math.ceil(round((1 - self.share) * n, 9)))

    def attention(self, layer):
        d, b, n, m = self.model.head_dim, self.batch, Pass.keys(self, layer), self.query
        kept, heads, kv = self.left(layer), self.model.heads, self.model.kv_heads
        whole = math.floor(kv * (1 - self.full) + 1e-9) / kv  # heads that evict
        for share, short in ((whole, True), (1 - whole, False)):
            if not share:
                continue
            reach, pairs = n, self.pairs(layer)
            if short and (self.decode or self.full):
                reach = kept if self.decode else min(n, m + kept - 1)
                if self.decode:
                    pairs = pairs / n * kept
                else:
                    pairs = min(pairs, sum(min(i + 0.5, kept) for i in range(m)) if kept > 1 else m * 1.0 - 0.5)
            yield 4 * b * heads * share * pairs * d, 2 * b * share * d * (2 * heads * m + 2 * kv * reach)
        area = self.pairs(layer)
        if self.score == "window" and not self.decode:
            w = min(self.window, m)
            seen = (1 - w / (2 * n)) * w * n
            yield 2 * b * heads * whole * seen * d, 2 * b * whole * (heads * w * d + kv * n * d + heads * n)
            yield 0.0, 2 * b * kv * whole * (3 * n + kept)
        if self.score == "accumulated" and not self.decode:
            yield 2 * b * heads * whole * area * d, 2 * b * whole * (heads * m * d + kv * n * d + heads * n)
            yield 0.0, 2 * b * kv * whole * (3 * n + kept)
        if self.score == "accumulated" and self.decode:
            yield 0.0, 2 * b * kv * whole * (3 * kept + kept)


class Select(Pass):
    """A decode step scores two vectors per page and reads the best pages."""

    budget, page = 1024, 16

    def attention(self, layer):
        d, b, n, m = self.model.head_dim, self.batch, self.keys(layer), self.query
        heads, kv = self.model.heads, self.model.kv_heads
        yield 0.0, 2 * b * kv * (m * d + m * 2 * d / self.page)  # summaries of the new keys
        if not self.decode:
            yield from Pass.attention(self, layer)
            return
        chosen = min(math.ceil(self.budget / self.page) * self.page, n)
        pages = math.ceil(n / self.page)
        share = self.pairs(layer) / n
        yield 4 * b * heads * chosen * share * d, 2 * b * d * (2 * heads + 2 * kv * chosen)
        yield (
            2 * b * heads * 2 * pages * d * share,
            2 * b * (heads * d + kv * 2 * pages * d + heads * 2 * pages * share),
        )
        yield 0.0, 2 * b * kv * (3 * pages * share + math.ceil(chosen / self.page))


class Prefill(Pass):
    """Blocks of the prompt are scored and left out."""

    s, block, stride, how = 0.5, 64, 16, "pooled"

    def attention(self, layer):
        if self.decode:
            yield from Pass.attention(self, layer)
            return
        d, b, n, m = self.model.head_dim, self.batch, self.keys(layer), self.query
        heads, kv = self.model.heads, self.model.kv_heads
        left = 1 - self.s * (0.5 if self.how == "threshold" else 1)
        share = self.pairs(layer) / (m * n)
        yield 4 * b * heads * share * m * n * left * d, 2 * b * d * (2 * heads * m + 2 * kv * n)
        blocks, rows = math.ceil(n / self.block), math.ceil(m / self.block)
        if self.how == "threshold":
            return
        if self.how == "every-query":
            rows = m
        x, y, depth, part, written = {
            "pooled": (rows, blocks, d, share, share),
            "sampled": (min(self.block, m), n, d, 1 - min(self.block, m) / (2 * n), 1 / self.block),
            "antidiagonal": (
                math.ceil(m / self.stride), math.ceil(n / self.stride), d * self.stride, share,
                share * (self.stride / self.block) ** 2,
            ),
            "every-query": (m, math.ceil(n / self.stride), d, share, share),
        }[self.how]  # fmt: skip
        yield (
            2 * b * heads * x * y * depth * part,
            2 * b * (heads * x * depth + kv * y * depth + heads * x * y * written),
        )
        yield 0.0, 2 * b * kv * rows * (3 * blocks * share + math.ceil(round((1 - self.s) * blocks, 9)))
