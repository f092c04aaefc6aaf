"""What a checkpoint stores otherwise than its linear layers as a whole: modules left in 16 bit, scales, the cache."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING

from pruninfersim.hardware import precision
from pruninfersim.models.architectures.moe import MoE
from pruninfersim.models.architectures.rows import Row

if TYPE_CHECKING:
    from pruninfersim.models.config import ModelConfig

#: Sub-layer -> what families call it in a checkpoint.
BLOCKS = {
    "attention": ("self_attn", "attn", "attention", "linear_attn", "mixer"),
    "mlp": ("mlp", "feed_forward", "block_sparse_moe", "mixer", "moe"),
}
#: GEMM -> its module, and the modules that families fuse it into; "" is the GEMM's own name.
MODULES = {
    **{name: (f"{name}_proj", "qkv_proj", "W_pack", "query_key_value") for name in ("q", "k", "v")},
    "q_gate": ("q_proj",),
    "o": ("o_proj", "out_proj", "dense"),
    "q_a": ("q_a_proj",),
    "q_b": ("q_b_proj",),
    "kv_a": ("kv_a_proj_with_mqa",),
    **dict.fromkeys(("kv_b", "absorb_q", "absorb_v"), ("kv_b_proj",)),
    "index_q": ("indexer.wq_b",),
    "index_k": ("indexer.wk",),
    "index_weights": ("indexer.weights_proj",),
    "in_proj": ("in_proj", "in_proj_qkv", "in_proj_qkvz"),
    "gate": ("gate_proj", "gate_up_proj"),
    "up": ("up_proj", "gate_up_proj"),
    "down": ("down_proj",),
    "experts": ("experts.0.gate_proj", "experts.0.w1", "experts.gate_up_proj"),
}
#: What families call the shared experts of a mixture.
SHARED = ("shared_experts", "shared_expert", "shared_mlp")
#: 8-bit formats of the KV cache.
CACHE_BYTES = 1.0


def as_stored(rows: list[Row], model: ModelConfig) -> list[Row]:
    """Return the rows of a model as its checkpoint stores them.

    Layers in which different GEMMs are left in 16 bit become rows of their own.

    Parameters
    ----------
    rows : list of dict
        At the dtype of the storage.
    model : ModelConfig
        With its storage.
    """
    storage = model.storage
    size = precision.weight_bytes(storage.dtype, storage.group)
    rows = [row | {"b_bytes": size} if row["dtype"] == storage.dtype and "gemms" in row else row for row in rows]
    if storage.kv:
        rows = [_cached(row) for row in rows]
    if not (storage.ignored or storage.only) or storage.dtype == "bf16":
        return rows
    wide: dict[tuple[str, int], frozenset[int]] = {}
    for number, row in enumerate(rows):
        layers = row.get("layers", ())
        stored = row["dtype"] == storage.dtype and "gemms" in row
        shared = tuple(_shared(row["name"], layer, model) for layer in layers if stored)
        kept = _wide(row["name"], row["block"], layers, shared, storage.ignored, storage.only) if stored else ()
        for layer in layers:
            place = (row["block"], layer)
            wide[place] = wide.get(place, frozenset()) | ({number} if layer in kept else frozenset())
    return [part for number, row in enumerate(rows) for part in _parts(row, number, wide)]


def _parts(row: Row, number: int, wide: dict[tuple[str, int], frozenset[int]]) -> Iterator[Row]:
    """Yield a row for each set of layers whose sub-layer is stored alike."""
    alike: dict[frozenset[int], list[int]] = {}
    for layer in row.get("layers", ()):
        alike.setdefault(wide[row["block"], layer], []).append(layer)
    if not alike:
        yield row
    plain = precision.PRECISIONS["bf16"]
    for kept, layers in alike.items():
        part = row | {"layers": tuple(layers), "count": row["count"] * len(layers) / len(row["layers"])}
        if number in kept:
            part |= {
                "dtype": plain.dtype, "a_bytes": plain.input_bytes, "b_bytes": plain.weight_bytes,
                "out_bytes": plain.output_bytes,
            }  # fmt: skip
        yield part


def _cached(row: Row) -> Row:
    """Return a row whose cache is of 8 bit; states of linear attention stay as they are."""
    kernel = str(row["kernel"])
    if kernel == "kv_append":
        return row | {"out_bytes": CACHE_BYTES}
    return row | {"b_bytes": CACHE_BYTES} if kernel.startswith(("attention_", "mla_")) else row


@lru_cache(maxsize=1024)
def _wide(
    name: str, block: str, layers: tuple[int, ...], shared: tuple[bool, ...], ignored: tuple[str, ...],
    only: tuple[str, ...],
) -> frozenset[int]:  # fmt: skip
    """Return the layers in which a GEMM is left in 16 bit."""
    found = []
    for layer, with_shared in zip(layers, shared, strict=True):
        names = modules(name, block, layer, shared=with_shared)
        left = any(matches(pattern, names) for pattern in ignored)
        if left or (only and not any(matches(pattern, names) for pattern in only)):
            found.append(layer)
    return frozenset(found)


def _shared(name: str, layer: int, model: ModelConfig) -> bool:
    """Whether a GEMM of an MLP belongs to the shared experts of a mixture."""
    return name != "experts" and bool(model.layers) and isinstance(model.layers[layer].ffn, MoE)


def modules(name: str, block: str, layer: int, *, shared: bool = False) -> list[str]:
    """Return what a GEMM may be called in a checkpoint, and the modules that it is part of.

    >>> modules("o", "attention", 3)[:4]
    ['layers.3.self_attn.o_proj', 'layers.3.self_attn', 'layers.3', 'layers.3.self_attn.out_proj']
    """
    found: list[str] = []
    for sub in BLOCKS[block]:
        for leaf in MODULES.get(name, (name,)):
            for inside in SHARED if shared and block == "mlp" else ("",):
                path = ["layers", str(layer), sub, *([inside] if inside else []), *leaf.split(".")]
                found += [".".join(path[:end]) for end in range(len(path), 1, -1)]
    return list(dict.fromkeys(found))


def matches(pattern: str, names: Sequence[str]) -> bool:
    """Return whether a pattern of a checkpoint means a module: its own name, that of a module around it, or a part.

    ``re:`` begins a regular expression, as of compressed-tensors; ``*`` stands for anything, as of modelopt. What
    stands before the layers does not count, so that nested language models are met.

    >>> names = modules("o", "attention", 3)
    >>> [matches(p, names) for p in ("model.layers.3.self_attn", "re:.*self_attn.*", "*.4.self_attn*", "o_proj", "o")]
    [True, True, False, True, False]
    """
    if pattern.startswith("re:"):
        try:
            rule = re.compile(pattern.removeprefix("re:"))
        except re.error:
            return False
        return any(rule.match(prefix + name) for name in names for prefix in ("model.", "language_model.model.", ""))
    _, found, behind = pattern.partition("layers.")
    if found:
        return any(fnmatchcase(name, found + behind) for name in names)
    if "*" in pattern:
        return any(fnmatchcase("model." + name, pattern) for name in names)
    return any(pattern in (name.rpartition(".")[2], *name.split(".")[2:]) for name in names)
