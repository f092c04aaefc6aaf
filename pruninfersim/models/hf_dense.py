"""Dense models with LayerNorms, biases, MLPs without a gate, parallel blocks: which keys say what a layer is."""

from __future__ import annotations

from collections.abc import Sequence

from pruninfersim.errors import InvalidInputError
from pruninfersim.models.architectures.layered import Layer
from pruninfersim.models.architectures.mlp import MLP
from pruninfersim.models.hf_common import Read, attention, window, windows
from pruninfersim.models.keys import Keys


def opt(keys: Keys) -> Read:
    """Return the layers of opt models."""
    hidden, heads = keys["hidden_size"], keys["num_attention_heads"]
    if keys.get("word_embed_proj_dim", hidden) != hidden:
        raise InvalidInputError(f"word_embed_proj_dim {keys['word_embed_proj_dim']} is not hidden_size {hidden}")
    bias = bool(keys.get("enable_bias", True))
    mixer = attention(keys, kv_heads=heads, rotary=False, qkv_bias=bias, o_bias=bias)
    ffn = MLP(inter=keys["ffn_dim"], gated=False, bias=bias)
    layer = Layer(mixer=mixer, ffn=ffn, norm_bias=True)
    return Read((layer,) * keys["num_hidden_layers"], positions=keys["max_position_embeddings"] + 2, norm_bias=True)


def falcon(keys: Keys) -> Read:
    """Return the layers of falcon models."""
    hidden, heads = keys["hidden_size"], keys["num_attention_heads"]
    new, bias = bool(keys.get("new_decoder_architecture")), bool(keys.get("bias"))
    groups = keys.get("num_kv_heads", heads) if new or not keys.get("multi_query", True) else 1
    parallel = new or bool(keys.get("parallel_attn", True))
    mixer = attention(keys, kv_heads=groups, rotary=not keys.get("alibi"), qkv_bias=bias, o_bias=bias)
    ffn = MLP(inter=keys.get("ffn_hidden_size", 4 * hidden), gated=False, bias=bias)
    norms = keys.get("num_ln_in_parallel_attn", 2 if new or not parallel else 1)
    layer = Layer(mixer=mixer, ffn=ffn, parallel=parallel, norms=norms, norm_bias=True)
    return Read((layer,) * keys["num_hidden_layers"], norm_bias=True)


def gpt_neox(keys: Keys) -> Read:
    """Return the layers of gpt_neox models."""
    heads, bias = keys["num_attention_heads"], bool(keys.get("attention_bias", True))
    mixer = attention(keys, kv_heads=heads, qkv_bias=bias, o_bias=bias)
    ffn = MLP(inter=keys["intermediate_size"], gated=False, bias=True)
    layer = Layer(mixer=mixer, ffn=ffn, parallel=bool(keys.get("use_parallel_residual", True)), norm_bias=True)
    return Read((layer,) * keys["num_hidden_layers"], norm_bias=True)


def starcoder2(keys: Keys) -> Read:
    """Return the layers of starcoder2 models."""
    bias = bool(keys.get("use_bias", True))
    mixer = attention(keys, window=window(keys), qkv_bias=bias, o_bias=bias)
    ffn = MLP(inter=keys["intermediate_size"], gated=False, bias=bias)
    return Read((Layer(mixer=mixer, ffn=ffn, norm_bias=True),) * keys["num_hidden_layers"], norm_bias=True)


def cohere(keys: Keys) -> Read:
    """Return the layers of cohere models."""
    if keys.get("use_qk_norm"):
        raise InvalidInputError("use_qk_norm is not supported for cohere (its norm has weights for every head)")
    count, bias = keys["num_hidden_layers"], bool(keys.get("attention_bias"))
    local: Sequence[bool] = [False] * count
    if keys["model_type"] == "cohere2":
        every = keys.get("sliding_window_pattern", 4)
        local = windows(keys, [(i + 1) % every != 0 for i in range(count)])
    ffn = MLP(inter=keys["intermediate_size"])
    return Read(
        tuple(
            Layer(
                mixer=attention(keys, window=window(keys) if w else None, qkv_bias=bias, o_bias=bias),
                ffn=ffn,
                parallel=True,
                norms=1,
            )
            for w in local
        )
    )


def nemotron(keys: Keys) -> Read:
    """Return the layers of nemotron models."""
    bias = bool(keys.get("attention_bias"))
    ffn = MLP(inter=keys["intermediate_size"], gated=False, bias=bool(keys.get("mlp_bias")))
    layer = Layer(mixer=attention(keys, qkv_bias=bias, o_bias=bias), ffn=ffn, norm_bias=True)
    return Read((layer,) * keys["num_hidden_layers"], norm_bias=True)
