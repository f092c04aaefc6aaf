"""What readers of layered families share: the usual attention keys, windows, and what a reader returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pruninfersim.models.architectures.attention import Attention
from pruninfersim.models.architectures.layered import Layer
from pruninfersim.models.keys import Keys, whole_heads


@dataclass(frozen=True)
class Read:
    """Layers of a model, learnt position embeddings, and whether its last norm has a bias."""

    layers: tuple[Layer, ...]
    positions: int = 0
    norm_bias: bool = False


def attention(keys: Keys, **more: Any) -> Attention:
    """Return the attention that the usual keys describe, with other fields as given."""
    heads = keys["num_attention_heads"]
    given = {
        "heads": heads,
        "kv_heads": keys.first("num_key_value_heads", "num_kv_heads", default=heads),
        "head_dim": whole_heads(keys["hidden_size"], heads, keys.get("head_dim")),
    }
    return Attention(**given | more)


def windows(keys: Keys, rule: Sequence[bool]) -> Sequence[bool]:
    """Return which layers see a window only, from ``layer_types``; without it what the rule of the family says."""
    kinds = keys.layer_types(len(rule))
    return rule if kinds is None else [kind in ("sliding_attention", "chunked_attention") for kind in kinds]


def window(keys: Keys) -> int | None:
    """Return the window, unless it is switched off."""
    return keys.get("sliding_window") if keys.get("use_sliding_window", True) else None
