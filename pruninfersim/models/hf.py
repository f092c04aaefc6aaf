"""Translation of a Hugging Face ``config.json`` into the fields of a `ModelConfig`.

Defaults are those of the configuration classes of `transformers` 4.57.1 and 5.23.0, which agree: a key that a file
leaves out means what the class of that ``model_type`` says. Files of the gemma3 family leave out sizes too; all others
must give them.
"""

from __future__ import annotations

from typing import Any

from pruninfersim.errors import InvalidInputError

#: Defaults per model type. ``None`` for key-value heads means as many as query heads; for head_dim, hidden / heads.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": None, "max_position_embeddings": 2048},
    "mistral": {"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096},
    "qwen2": {"num_key_value_heads": 32, "max_position_embeddings": 32768, "sliding_window": 4096},
    "qwen3": {"num_key_value_heads": 32, "max_position_embeddings": 32768, "sliding_window": 4096, "head_dim": 128},
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
}
#: Sizes without a default, unless a family has one above.
REQUIRED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
#: Keys that only mixture-of-experts configurations have.
EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size")
#: Norms of the q and k heads, and where the norms of a sub-layer sit.
QK_NORM = {"qwen3": "head", "gemma3": "head", "olmo2": "full"}
NORM_PLACEMENT = {"olmo2": "post", "gemma2": "both", "gemma3": "both"}


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    """Return the language model's part of a configuration (multimodal files nest it in ``text_config``)."""
    inner = config.get("text_config")
    if not isinstance(inner, dict):
        return config
    tie = {"tie_word_embeddings": config["tie_word_embeddings"]} if "tie_word_embeddings" in config else {}
    return {"model_type": config.get("model_type"), **tie, **inner}


def family_of(config: dict[str, Any]) -> str:
    """Return the family of a configuration; ``gemma3_text`` is the language part of ``gemma3``."""
    return str(config.get("model_type")).removesuffix("_text")


def is_mixture(config: dict[str, Any]) -> bool:
    """Return whether a configuration describes a mixture of experts."""
    return any(config.get(key) for key in EXPERT_KEYS)


def fields_from_hf(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a `ModelConfig`, all but name and reference, from the keys of a supported model type.

    Raises
    ------
    KeyError
        If a required key is missing; its argument is the key.
    InvalidInputError
        If ``layer_types`` does not fit the number of layers.
    """
    family = family_of(config)
    full = {**DEFAULTS[family], **config}
    sizes = {key: full[key] for key in REQUIRED}
    heads = sizes["num_attention_heads"]
    kv_heads = full["num_key_value_heads"]
    head_dim = full.get("head_dim")
    if head_dim is None:
        head_dim = sizes["hidden_size"] // heads
    layers = sizes["num_hidden_layers"]
    pattern = window_pattern(family, full, layers)
    attention_bias = bool(full.get("attention_bias")) and family not in ("mistral", "phi3", "qwen2")
    return {
        "family": family,
        "hidden_size": sizes["hidden_size"],
        "intermediate_size": sizes["intermediate_size"],
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": heads if kv_heads is None else kv_heads,
        "head_dim": head_dim,
        "vocab_size": sizes["vocab_size"],
        "max_position": full["max_position_embeddings"],
        "tie_embeddings": bool(full.get("tie_word_embeddings")),
        "qkv_bias": attention_bias or family == "qwen2",
        "o_bias": attention_bias,
        "mlp_bias": bool(full.get("mlp_bias")) and family == "llama",
        "qk_norm": QK_NORM.get(family, "none"),
        "norm_placement": NORM_PLACEMENT.get(family, "pre"),
        "sliding_window": full.get("sliding_window") if any(pattern) else None,
        "window_pattern": pattern if any(pattern) else (),
    }


def window_pattern(family: str, config: dict[str, Any], layers: int) -> tuple[bool, ...]:
    """Return which layers attend to a window only, as the shortest pattern that repeats over the layers.

    An explicit ``layer_types`` list wins over the rule of the family.
    """
    if config.get("sliding_window") is None or family in ("llama", "olmo2"):
        return ()
    if family in ("qwen2", "qwen3") and not config.get("use_sliding_window"):
        return ()
    if config.get("layer_types"):
        if len(config["layer_types"]) != layers:
            raise InvalidInputError(f"layer_types has {len(config['layer_types'])} entries for {layers} layers")
        flags = tuple(kind == "sliding_attention" for kind in config["layer_types"])
    elif family in ("qwen2", "qwen3"):
        flags = tuple(layer >= config.get("max_window_layers", 28) for layer in range(layers))
    elif family == "gemma2":
        flags = (True, False)
    elif family == "gemma3":
        flags = (*(True,) * (config.get("sliding_window_pattern", 6) - 1), False)
    else:  # mistral, phi3
        flags = (True,)
    return shortest_period(flags)


def shortest_period(flags: tuple[bool, ...]) -> tuple[bool, ...]:
    """Return the shortest start of `flags` whose repetition gives `flags`.

    >>> shortest_period((True, False, True, False, True))
    (True, False)
    """
    for length in range(1, len(flags) + 1):
        if all(flag == flags[index % length] for index, flag in enumerate(flags)):
            return flags[:length]
    return flags
