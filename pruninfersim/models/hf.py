"""Translation of a Hugging Face ``config.json`` into the fields of a `ModelConfig`.

Defaults are those of the configuration classes of `transformers` 4.57.1 and 5.23.0, which agree: a key that a file
leaves out means what the class of that ``model_type`` says. Files of the gemma3 family, and the text part of multimodal
files, leave out sizes too; all others must give them.
"""

from __future__ import annotations

from typing import Any, Literal

from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.models.architectures.attention import Attention
from pruninfersim.models.architectures.layered import Layer
from pruninfersim.models.architectures.mla import MLA
from pruninfersim.models.architectures.mlp import MLP
from pruninfersim.models.architectures.moe import MoE
from pruninfersim.models.hf_layers import LAYERED, TIED
from pruninfersim.models.hf_pruned import differing_layers
from pruninfersim.models.keys import MOST_LAYERS, Keys, whole_heads

#: Defaults per model type. ``None`` for key-value heads means as many as query heads; for head_dim, hidden / heads.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": None, "max_position_embeddings": 2048},
    "mistral": {"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096},
    "qwen2": {"num_key_value_heads": 32, "max_position_embeddings": 32768, "sliding_window": 4096},
    "qwen3": {"num_key_value_heads": 32, "max_position_embeddings": 32768, "sliding_window": 4096, "head_dim": 128},
    "qwen3_vl": {"num_key_value_heads": 32, "max_position_embeddings": 128000, "head_dim": 128},
    "olmo2": {"num_key_value_heads": None, "max_position_embeddings": 2048},
    "phi3": {"num_key_value_heads": None, "max_position_embeddings": 4096},
    "gemma2": {
        "num_key_value_heads": 4,
        "max_position_embeddings": 8192,
        "head_dim": 256,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
    },
    "gemma3": {
        "num_key_value_heads": 4,
        "max_position_embeddings": 131072,
        "head_dim": 256,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
    },
    "granite": {"num_key_value_heads": None, "max_position_embeddings": 2048},
    "exaone": {"num_key_value_heads": None, "max_position_embeddings": 2048},
    "baichuan": {"num_key_value_heads": None, "max_position_embeddings": 4096},
    "mimo": {"num_key_value_heads": 32, "max_position_embeddings": 32768, "sliding_window": 4096},
    "nemotron-nas": {"num_key_value_heads": None, "max_position_embeddings": 2048},
}
#: Defaults of the classes that a multimodal file's text part leaves to its model type.
NESTED: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    },
    "mistral": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    },
}
#: Other names that families give to keys.
OTHER_NAMES = {"num_layers": "num_hidden_layers", "model_max_length": "max_position_embeddings"}
#: Sizes without a default, unless a family has one above.
REQUIRED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
#: Norms of the q and k heads, and where the norms of a sub-layer sit.
QK_NORM: dict[str, Literal["none", "head", "full"]] = {
    "qwen3": "head",
    "qwen3_vl": "head",
    "gemma3": "head",
    "olmo2": "full",
}
NORM_PLACEMENT = {"olmo2": "post", "gemma2": "both", "gemma3": "both"}
#: Families whose files may switch the bias of q, k and v (and of o) on; in others the key is of no effect.
BIASED = ("llama", "granite", "nemotron-nas", "qwen3", "qwen3_vl", "olmo2", "gemma2", "gemma3", "mimo")
#: Families whose q, k and v have a bias, and o none.
QKV_BIASED = ("qwen2", "mimo")
#: Where a file says that its weights are stored in fewer bits, or with zeros.
STORED = ("quantization_config", "compression_config", "sparsity_config")


def supported() -> list[str]:
    """Return the model types that can be read, sorted."""
    return sorted({*DEFAULTS, *LAYERED})


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    """Return the language model's part of a configuration (multimodal files nest it in ``text_config``)."""
    inner = config.get("text_config")
    if not isinstance(inner, dict):
        return config
    outer = {key: config[key] for key in ("tie_word_embeddings", *STORED) if key in config}
    kind = str(inner.get("model_type", config.get("model_type")))
    return {"model_type": config.get("model_type"), **NESTED.get(kind, {}), **outer, **inner}


def family_of(config: dict[str, Any]) -> str:
    """Return the family of a configuration; ``gemma3_text`` is the language part of ``gemma3``."""
    return str(config.get("model_type")).removesuffix("_text")


def fields_from_hf(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a `ModelConfig`, all but name and reference, from the keys of a supported model type.

    Raises
    ------
    KeyError
        If a required key is missing; its argument is the key.
    InvalidInputError
        If a key contradicts another one, or what would be built.
    """
    family = family_of(config)
    renamed = {OTHER_NAMES.get(key, key): value for key, value in config.items() if key not in OTHER_NAMES}
    for other, name in OTHER_NAMES.items():
        if other in config and name not in config:
            renamed[name] = config[other]
    if isinstance(kinds := config.get("layers_block_type"), list):
        renamed.setdefault("num_hidden_layers", len(kinds))
    keys = Keys({**renamed, "model_type": family}, DEFAULTS.get(family))
    layers = keys.get("num_hidden_layers")
    if isinstance(layers, int | float) and layers > MOST_LAYERS:
        raise InvalidInputError(f"num_hidden_layers must be at most {MOST_LAYERS}; got {shown(layers)}")
    fields = _layered(family, keys) if family in LAYERED else _decoder(family, keys)
    keys.read(STORED)
    keys.refuse_unread()
    return {"family": family, **fields}


def _layered(family: str, keys: Keys) -> dict[str, Any]:
    read = LAYERED[family](keys)
    for key in ("hidden_size", "vocab_size", "num_hidden_layers"):
        keys[key]
    return {
        **_common(keys, read.layers, tied=family in TIED),
        "layers": read.layers,
        "position_embeddings": read.positions,
        "final_norm_bias": read.norm_bias,
    }


def _common(keys: Keys, layers: tuple[Layer, ...], *, tied: bool = False) -> dict[str, Any]:
    """Return the sizes that stand for a whole model whose layers differ: those of its first attention, widest MLP."""
    mixers = [layer.mixer for layer in layers]
    first = next((mixer for mixer in mixers if isinstance(mixer, Attention | MLA)), None)
    if isinstance(first, Attention):
        heads, groups, width = first.heads, first.kv_heads, first.head_dim
    else:
        heads, groups, width = (first.heads, first.heads, first.nope + first.rope) if first else (1, 1, 1)
    inter = [ffn.inter for layer in layers if isinstance(ffn := layer.ffn, MLP)]
    inter += [ffn.top_k * ffn.inter + ffn.shared_inter for layer in layers if isinstance(ffn := layer.ffn, MoE)]
    return {
        "hidden_size": keys["hidden_size"],
        "intermediate_size": max(inter, default=1),
        "num_layers": len(layers),
        "num_heads": heads,
        "num_kv_heads": groups,
        "head_dim": width,
        "vocab_size": keys["vocab_size"],
        "max_position": keys.get("max_position_embeddings", 2048),
        "tie_embeddings": bool(keys.get("tie_word_embeddings", tied)),
    }


def _decoder(family: str, keys: Keys) -> dict[str, Any]:
    required = [key for key in REQUIRED if not (family == "nemotron-nas" and key == "intermediate_size")]
    sizes = {key: keys[key] for key in required}
    heads, layers = sizes["num_attention_heads"], sizes["num_hidden_layers"]
    listed = any(isinstance(keys.get(key), list) for key in (*REQUIRED, "num_key_value_heads", "head_dim"))
    if listed:
        return _per_layer(family, keys, layers)
    kv_heads = keys.get("num_key_value_heads")
    pattern = window_pattern(family, keys, layers)
    biased = bool(keys.get("attention_bias")) and family in BIASED
    fields = {
        "hidden_size": sizes["hidden_size"],
        "intermediate_size": keys.get("intermediate_size"),
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": heads if kv_heads is None else kv_heads,
        "head_dim": whole_heads(sizes["hidden_size"], heads, keys.get("head_dim")),
        "vocab_size": sizes["vocab_size"],
        "max_position": keys["max_position_embeddings"],
        "tie_embeddings": bool(keys.get("tie_word_embeddings")),
        "qkv_bias": biased or family in QKV_BIASED,
        "o_bias": biased and family not in QKV_BIASED,
        "mlp_bias": bool(keys.get("mlp_bias")) and family in ("llama", "granite", "nemotron-nas"),
        "qk_norm": QK_NORM.get(family, "none"),
        "norm_placement": NORM_PLACEMENT.get(family, "pre"),
        "sliding_window": keys.get("sliding_window") if any(pattern) else None,
        "window_pattern": pattern if any(pattern) else (),
    }
    if keys.get("block_configs") is None and keys.get("per_layer_config") is None:
        return fields
    return _per_layer(family, keys, layers, fields)


def _per_layer(family: str, keys: Keys, count: int, fields: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields of a decoder whose layers differ."""
    if NORM_PLACEMENT.get(family) or window_pattern(family, keys, count):
        raise InvalidInputError(f"layers of different sizes are not supported for {family} with windows or four norms")

    def scalar(key: str) -> Any:
        value = keys.get(key)
        return max(value) if isinstance(value, list) and value else value

    heads = scalar("num_attention_heads")
    biased = bool(keys.get("attention_bias")) and family in BIASED
    attention = Attention(
        heads=heads,
        kv_heads=scalar("num_key_value_heads") or heads,
        head_dim=whole_heads(keys["hidden_size"], heads, scalar("head_dim")),
        qkv_bias=biased or family in QKV_BIASED,
        o_bias=biased and family not in QKV_BIASED,
        qk_norm=QK_NORM.get(family, "none"),
    )
    width = scalar("intermediate_size")
    ffn = MLP(inter=width, bias=bool(fields and fields["mlp_bias"])) if width else None
    layers = differing_layers(keys, attention, ffn, count)
    if layers is None:
        raise InvalidInputError("sizes must be positive whole numbers")
    return {**_common(keys, layers), "layers": layers}


def window_pattern(family: str, config: Keys, layers: int) -> tuple[bool, ...]:
    """Return which layers attend to a window only, as the shortest pattern that repeats over the layers.

    An explicit ``layer_types`` list wins over the rule of the family.
    """
    config.read(["use_sliding_window", "max_window_layers", "sliding_window_pattern"])
    kinds = config.layer_types(layers)
    strange = sorted({str(kind) for kind in kinds or ()} - {"sliding_attention", "full_attention"})
    if strange:
        raise InvalidInputError(f"layer_types holds {strange[0]}, which is not supported for {family}")
    if config.get("sliding_window") is None or family in ("olmo2", "granite", "exaone", "baichuan", "nemotron-nas"):
        return ()
    if family == "llama" and not kinds:
        return ()
    if family in ("qwen2", "qwen3", "qwen3_vl", "mimo") and not config.get("use_sliding_window"):
        return ()
    if kinds:
        flags = tuple(kind == "sliding_attention" for kind in kinds)
    elif family in ("qwen2", "qwen3", "qwen3_vl", "mimo"):
        flags = tuple(layer >= config.get("max_window_layers", 28) for layer in range(layers))
    elif family == "gemma2":
        flags = (True, False)
    elif family == "gemma3":
        flags = (*(True,) * (min(config.get("sliding_window_pattern", 6), layers + 1) - 1), False)
    else:  # mistral, phi3
        flags = (True,)
    return shortest_period(flags)


def shortest_period(flags: tuple[bool, ...]) -> tuple[bool, ...]:
    """Return the shortest start of `flags` whose repetition gives `flags`.

    >>> shortest_period((True, False, True, False, True))
    (True, False)
    """
    for length in range(1, len(flags) + 1):
        if flags[length:] == flags[:-length]:
            return flags[:length]
    return flags
