"""The second slow oracle, continued: methods on weights, tokens and layers."""

from __future__ import annotations

import math

from more_scalar import Pass


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


class Merge(Pass):
    """Tokens merge between attention and MLP of every layer."""

    s, each, first = 0.0, None, 0

    def left(self, tokens, whole, merged):
        step = self.s * whole / (self.model.layers - self.first) if self.each is None else self.each
        return max(math.ceil(round(tokens - step * merged, 9)), 1)

    def queries(self, layer):
        return self.query if self.decode else self.left(self.query, self.query, max(layer - self.first, 0))

    def after(self, layer):
        return self.query if self.decode else self.left(self.query, self.query, max(layer - self.first + 1, 0))

    def keys(self, layer):
        whole = self.context
        return min(Pass.keys(self, layer), self.left(whole, whole, max(layer - self.first, 0)))

    def pairs(self, layer):
        share = Pass.pairs(self, layer) / (self.query * Pass.keys(self, layer))
        return share * self.queries(layer) * self.keys(layer)

    def extra(self, layer):
        if self.decode or layer < self.first:
            return
        b, d, kv, t, u = self.batch, self.model.head_dim, self.model.kv_heads, self.queries(layer), self.after(layer)
        half = t // 2
        yield 0.0, 2 * b * t * (kv * d + d)
        yield 2 * b * half * half * d, 2 * b * (2 * half * d + half * half)
        yield 0.0, 2 * b * (half * half + half)
        yield 0.0, 2 * b * (t + u) * self.model.hidden


class Fill(Pass):
    """The last layers of a prompt fill their cache, and run on its last token."""

    s = 0.3

    def late(self, layer):
        kept = self.model.layers - math.floor(self.s * self.model.layers + 1e-9)
        return not self.decode and layer >= kept

    def queries(self, layer):
        return 1 if self.late(layer) else self.query

    def keys(self, layer):
        if not self.late(layer):
            return Pass.keys(self, layer)
        return min(self.context, self.model.window) if layer in self.model.windowed else self.context

    def pairs(self, layer):
        return self.keys(layer) if self.late(layer) else Pass.pairs(self, layer)

    def linear(self, layer, name, m, n, k):
        yield from Pass.linear(self, layer, name, self.batch * self.query if name in ("k", "v") else m, n, k)

    def moved(self, layer, what, amount):
        return amount * self.query if self.late(layer) and what in ("attn_norm", "qkv") else amount


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


class Factors(Pass):
    """Pairs that share their first factor among layers, beside columns that are kept."""

    s, share, layers = 0.5, 0.0, 1

    def linear(self, layer, name, m, n, k):
        of = 1 if name in ("o", "down") else self.layers
        c = 16 * math.ceil(round(self.share * k / 16, 9))
        r = min(16 * math.ceil(round(((1 - self.s) * k - c) * n * of / (k - c + of * n) / 16, 9)), n, k)
        if c:
            flops, moved = next(Pass.linear(self, layer, name, m, n, c))
            yield flops, moved + 2 * m * n  # the second factor reads the result
        yield from Pass.linear(self, layer, name, m, r, k - c)
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
