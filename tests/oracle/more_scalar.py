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
                f = self.ffn(layer)
                yield 0.0, self.moved(layer, "norm", 8.0 * m * h)
                for name, n, k in (("gate", f, h), ("up", f, h), ("down", h, f)):
                    yield from self.linear(layer, name, m, n, k)
                yield 0.0, self.moved(layer, "act", 6.0 * m * f * self.act_share(layer))
                if model.four_norms:
                    yield 0.0, self.moved(layer, "norm", 4.0 * m * h)
            yield from self.extra(layer)
        m = self.batch * self.queries(model.layers - 1)
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


class Compressed(Pass):
    """Weights of `stored` bytes per element, all FLOPs."""

    stored = 2.0

    def linear(self, layer, name, m, n, k):
        yield 2 * m * n * k, 2 * (m * k + m * n) + n * k * self.stored


class Windows(Pass):
    """A pattern run as 2:4 on another K; a spread-out copy of the activations where that is wider."""

    kept, of = 2, 8

    def linear(self, layer, name, m, n, k):
        wide = max(16, math.ceil(2 * k * self.kept / self.of / 16) * 16)
        denser = 2 * self.kept > self.of
        index = 0.0 if denser else 1 / 64
        yield m * n * wide, 2 * m * (wide if denser else k) + n * wide * (1.125 + index) + 2 * m * n

    def extra(self, layer):
        if 2 * self.kept > self.of:
            m, h = self.batch * self.query, self.model.hidden
            for _ in ("attention", "mlp"):
                yield 0.0, 2 * m * h * (1 + 2 * self.kept / self.of)


class Active(Pass):
    """Columns that any of m tokens needs."""

    s, gated = 0.5, False

    def linear(self, layer, name, m, n, k):
        share = 1 - self.s**m
        if self.gated and name not in ("up", "down"):
            share = 1.0
        out = share if self.gated and name == "up" else 1.0
        yield 2 * m * n * k * share, 2 * (m * k + n * k * share + m * n * out)


class Groups(Pass):
    """Every token chooses groups of heads and channels."""

    s, group, rank = 0.5, 128, 32

    def linear(self, layer, name, m, n, k):
        if name in ("k", "v"):
            yield from Pass.linear(self, layer, name, m, n, k)
            return
        keep, read = 1 - self.s, 1 - self.s**m
        outputs = name in ("q", "gate", "up")
        a, out = (1, keep) if outputs else (keep, 1)
        yield 2 * m * n * k * keep, 2 * (m * k * a + n * k * read + m * n * out)

    def attention(self, layer):
        d, heads, kv = self.model.head_dim, self.model.heads, self.model.kv_heads
        keep = 1 - self.s
        read = 1 - self.s ** (heads / kv) if self.decode else 1.0
        moved = 2 * heads * self.query * keep + 2 * kv * self.keys(layer) * read
        yield 4 * self.batch * heads * self.pairs(layer) * keep * d, 2 * self.batch * moved * d

    def act_share(self, layer):
        return 1 - self.s

    def extra(self, layer):
        m, h, r = self.batch * self.query, self.model.hidden, self.rank
        for channels in (self.model.heads * self.model.head_dim, self.model.ffn):
            g = math.ceil(channels / self.group)
            yield 2 * m * r * h, 2 * (m * h + r * h + m * r)
            yield 2 * m * r * g, 2 * (m * r + r * g + m * g)
            yield 0.0, 4 * m


class Fewer(Pass):
    """Tokens leave after a layer."""

    s, first = 0.5, 2

    def queries(self, layer):
        return math.ceil(round((1 - self.s) * self.query, 9)) if layer >= self.first and not self.decode else self.query

    def keys(self, layer):
        n = Pass.keys(self, layer)
        return math.ceil(round((1 - self.s) * n, 9)) if layer >= self.first else n

    def pairs(self, layer):
        share = Pass.pairs(self, layer) / (self.query * Pass.keys(self, layer))
        return share * self.queries(layer) * self.keys(layer)

    def embedded(self):
        return self.queries(0)

    def once(self):
        if self.decode or not self.first:
            return
        b, d, n = self.batch, self.model.head_dim, Pass.keys(self, self.first - 1)
        heads, kv, kept = self.model.heads, self.model.kv_heads, self.queries(self.first)
        yield 2 * b * heads * n * d, 2 * b * (heads * d + kv * n * d + heads * n)
        yield 0.0, 2 * b * (3 * n + kept)
        yield 0.0, 4 * b * kept * self.model.hidden


class Exit(Pass):
    """Tokens of a decode step leave before the second half; keys and values are filled in, or not."""

    s, filled = 0.5, True

    def gone(self, layer):
        return self.s if self.decode and layer >= self.model.layers // 2 else 0.0

    def linear(self, layer, name, m, n, k):
        s = self.gone(layer)
        if not s or (self.filled and name in ("k", "v")):
            yield from Pass.linear(self, layer, name, m, n, k)
            return
        yield 2 * m * n * k * (1 - s), 2 * (m * k * (1 - s) + n * k * (1 - s**m) + m * n * (1 - s))

    def attention(self, layer):
        s, d = self.gone(layer), self.model.head_dim
        n, share = self.keys(layer), self.pairs(layer) / self.keys(layer)
        if s and not self.filled:
            n = math.ceil(round((1 - s) * n, 9))
        moved = 2 * self.model.heads * self.query * (1 - s) + 2 * self.model.kv_heads * n * (1 - s)
        yield 4 * self.batch * self.model.heads * share * n * (1 - s) * d, 2 * self.batch * moved * d

    def moved(self, layer, what, amount):
        stays = self.filled and what in ("attn_norm", "qkv")
        return amount * (1.0 if stays else 1 - self.gone(layer))

    def once(self):
        if self.decode:
            b, h, v = self.batch, self.model.hidden, self.model.vocab
            yield 2.0 * b * v * h, 2.0 * (b * h + v * h + b * v)


class Words(Pass):
    """A smaller vocabulary."""

    size = 32000

    def vocabulary(self):
        return math.ceil(self.size / 64) * 64


class Table(Pass):
    """One choice per layer and sub-layer."""

    attention_table: tuple = ()
    mlp_table: tuple = ()

    def has(self, layer, block):
        return getattr(self, f"{block}_table")[layer] not in ("none", "linear")

    def kv_heads(self, layer):
        choice = self.attention_table[layer]
        return choice if isinstance(choice, int) else self.model.kv_heads

    def ffn(self, layer):
        choice = self.mlp_table[layer]
        return choice if isinstance(choice, int) else self.model.ffn

    def extra(self, layer):
        m, h = self.batch * self.query, self.model.hidden
        for block in ("attention", "mlp"):
            if getattr(self, f"{block}_table")[layer] == "linear":
                yield 0.0, 8.0 * m * h
                yield from Pass.linear(self, layer, "linear", m, h, h)


class QueryHeads(Pass):
    """Query heads leave, KV heads stay; FFN channels as in static width."""

    s = 0.5

    def heads(self, layer):
        group = self.model.heads // self.model.kv_heads
        return self.model.kv_heads * (group - min(math.ceil(round(self.s * group, 9)), group - 1))

    def ffn(self, layer):
        return math.ceil(round((1 - self.s) * self.model.ffn, 9) / 16) * 16


class Rank(Pass):
    """Pairs of a given rank."""

    rank = 512

    def linear(self, layer, name, m, n, k):
        r = min(self.rank, n, k)
        yield from Pass.linear(self, layer, name, m, r, k)
        yield from Pass.linear(self, layer, name, m, n, r)


class Skip(Pass):
    """Dynamic depth without routers, of some blocks, with or without the keys of those that skip."""

    s, blocks, stored, routers = 0.5, ("attention", "mlp"), True, 0

    def gone(self, block):
        return self.s if block in self.blocks else 0.0

    def linear(self, layer, name, m, n, k):
        s = self.gone("attention" if name in "qkvo" else "mlp")
        if not s or (self.stored and name in ("k", "v")):
            yield from Pass.linear(self, layer, name, m, n, k)
            return
        yield 2 * m * n * k * (1 - s), 2 * (m * k * (1 - s) + n * k * (1 - s**m) + m * n * (1 - s))

    def attention(self, layer):
        s, d = self.gone("attention"), self.model.head_dim
        n = self.keys(layer)
        share = self.pairs(layer) / (self.query * n)
        n = n if self.stored else math.ceil(round((1 - s) * n, 9))
        read = 1 - s if self.decode else 1.0
        moved = 2 * self.model.heads * self.query * (1 - s) + 2 * self.model.kv_heads * n * read
        flops = 4 * self.batch * self.model.heads * share * self.query * n * (1 - s) * d
        yield flops, 2 * self.batch * moved * d

    def act_share(self, layer):
        return 1 - self.gone("mlp")

    def appended(self, layer):
        return 1.0 if self.stored else 1 - self.gone("attention")

    def extra(self, layer):
        m, h = self.batch * self.query, self.model.hidden
        for _ in range(self.routers):
            yield 2 * m * 16 * h, 2 * (m * h + 16 * h + 16 * m)
            yield 2 * m * 2 * 16, 2 * (16 * m + 32 + 2 * m)
            yield 0.0, 4 * m
