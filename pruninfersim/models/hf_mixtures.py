"""Mixtures of experts, with grouped-query or latent attention: which keys say what each layer is made of."""

from __future__ import annotations

from pruninfersim.errors import InvalidInputError
from pruninfersim.models.architectures.layered import Layer
from pruninfersim.models.architectures.mla import MLA
from pruninfersim.models.architectures.mlp import MLP
from pruninfersim.models.architectures.moe import MoE
from pruninfersim.models.hf_common import Read, attention, window, windows
from pruninfersim.models.keys import Keys


def mixtral(keys: Keys) -> Read:
    """Return the layers of mixtral models."""
    moe = MoE(
        experts=keys["num_local_experts"], top_k=keys.get("num_experts_per_tok", 2), inter=keys["intermediate_size"]
    )
    mixer = attention(keys, window=window(keys))
    return Read((Layer(mixer=mixer, ffn=moe),) * keys["num_hidden_layers"])


def qwen_experts(keys: Keys) -> MoE:
    """Return the mixture that the keys of Qwen's families describe, with a gated shared expert where there is one."""
    shared = keys.get("shared_expert_intermediate_size", 0)
    return MoE(
        experts=keys["num_experts"],
        top_k=keys["num_experts_per_tok"],
        inter=keys["moe_intermediate_size"],
        shared_inter=shared,
        shared_gate=bool(shared),
    )


def qwen_moe(keys: Keys) -> Read:
    """Return the layers of qwen_moe models."""
    qwen2, moe = keys["model_type"] == "qwen2_moe", qwen_experts(keys)
    bias = bool(keys.get("qkv_bias", qwen2))
    mixer = attention(
        keys,
        window=window(keys) if keys.get("use_sliding_window", False) else None,
        qk_norm="none" if qwen2 else "head",
        qkv_bias=bias or bool(keys.get("attention_bias")),
        o_bias=bool(keys.get("attention_bias")),
    )
    plain, step = set(keys.get("mlp_only_layers", [])), keys.get("decoder_sparse_step", 1)

    def layer(index: int) -> Layer:
        dense = index in plain or (index + 1) % step
        return Layer(mixer=mixer, ffn=MLP(inter=keys["intermediate_size"]) if dense else moe)

    return Read(tuple(layer(i) for i in range(keys["num_hidden_layers"])))


def gpt_oss(keys: Keys) -> Read:
    """Return the layers of gpt_oss models."""
    count = keys["num_hidden_layers"]
    keys.read(["experts_per_token"])
    moe = MoE(
        experts=keys["num_local_experts"],
        top_k=keys["num_experts_per_tok"],
        inter=keys["intermediate_size"],
        router_bias=True,
        biases=True,
    )
    local = windows(keys, [i % 2 == 0 for i in range(count)])
    bias = bool(keys.get("attention_bias", True))
    return Read(
        tuple(
            Layer(
                mixer=attention(keys, window=window(keys) if w else None, qkv_bias=bias, o_bias=bias, sinks=True),
                ffn=moe,
            )
            for w in local
        )
    )


def deepseek(keys: Keys) -> Read:
    """Return the layers of deepseek models."""
    for key in ("num_key_value_heads", "head_dim", "qk_head_dim"):  # implied by MLA
        keys.get(key)
    mixer = MLA(
        heads=keys["num_attention_heads"],
        q_rank=keys.get("q_lora_rank", 0),
        latent=keys["kv_lora_rank"],
        rope=keys["qk_rope_head_dim"],
        nope=keys["qk_nope_head_dim"],
        value=keys["v_head_dim"],
        index_heads=keys.get("index_n_heads", 0),
        index_dim=keys.get("index_head_dim", 0),
        index_top=keys.get("index_topk", 0),
    )
    kinds = keys.get("indexer_types", [])
    if kinds:  # the rule that these keys give is written out, layer by layer
        keys.read(["index_topk_freq", "index_skip_topk_offset", "index_topk_pattern", "index_share_for_mtp_iteration"])
    if any(kind not in ("full", "shared") for kind in kinds):
        raise InvalidInputError(f"indexer_types holds {sorted(set(kinds))}; full and shared are supported")
    followers = {i for i, kind in enumerate(kinds) if kind == "shared"}
    reuse = mixer.model_copy(update={"index_heads": 0, "index_dim": 0})
    moe = MoE(
        experts=keys["n_routed_experts"],
        top_k=keys["num_experts_per_tok"],
        inter=keys["moe_intermediate_size"],
        shared_inter=keys.get("n_shared_experts", 0) * keys["moe_intermediate_size"],
        router_bias=keys["model_type"] != "deepseek_v2",
    )
    dense, first = MLP(inter=keys["intermediate_size"]), keys.get("first_k_dense_replace", 0)
    step = keys.get("moe_layer_freq", 1)
    listed = keys.get("mlp_layer_types")

    def sparse(index: int) -> bool:
        return bool(listed[index] == "sparse") if listed else index >= first and index % step == 0

    count = keys["num_hidden_layers"]
    if listed and len(listed) != count:
        raise InvalidInputError(f"mlp_layer_types has {len(listed)} entries for {count} layers")
    return Read(
        tuple(Layer(mixer=reuse if i in followers else mixer, ffn=moe if sparse(i) else dense) for i in range(count))
    )


def glm_moe(keys: Keys) -> Read:
    """Return the layers of glm_moe models."""
    moe = MoE(
        experts=keys["n_routed_experts"],
        top_k=keys["num_experts_per_tok"],
        inter=keys["moe_intermediate_size"],
        shared_inter=keys.get("n_shared_experts", 0) * keys["moe_intermediate_size"],
        router_bias=True,
    )
    norm = "head" if keys.get("use_qk_norm") else "none"
    mixer = attention(keys, qkv_bias=bool(keys.get("attention_bias")), qk_norm=norm)
    dense, first = MLP(inter=keys["intermediate_size"]), keys.get("first_k_dense_replace", 0)
    return Read(tuple(Layer(mixer=mixer, ffn=moe if i >= first else dense) for i in range(keys["num_hidden_layers"])))


def minimax(keys: Keys) -> Read:
    """Return the layers of minimax models."""
    if keys.get("shared_intermediate_size"):
        raise InvalidInputError("shared_intermediate_size is not supported for minimax_m2")
    if set(keys.get("attn_type_list", [1])) != {1}:
        raise InvalidInputError("attn_type_list is supported for minimax_m2 where all of it is 1, full attention")
    moe = MoE(
        experts=keys["num_local_experts"],
        top_k=keys["num_experts_per_tok"],
        inter=keys["intermediate_size"],
        router_bias=bool(keys.get("use_routing_bias", True)),
    )
    mixer = attention(keys, qk_norm="full" if keys.get("use_qk_norm", True) else "none")
    return Read((Layer(mixer=mixer, ffn=moe),) * keys["num_hidden_layers"])


def olmoe(keys: Keys) -> Read:
    """Return the layers of olmoe models."""
    moe = MoE(experts=keys["num_experts"], top_k=keys["num_experts_per_tok"], inter=keys["intermediate_size"])
    return Read((Layer(mixer=attention(keys, qk_norm="full"), ffn=moe),) * keys["num_hidden_layers"])


def granite_moe(keys: Keys) -> Read:
    """Return the layers of granite_moe models."""
    moe = MoE(
        experts=keys["num_local_experts"],
        top_k=keys["num_experts_per_tok"],
        inter=keys["intermediate_size"],
        shared_inter=keys.get("shared_intermediate_size", 0),
    )
    return Read((Layer(mixer=attention(keys), ffn=moe),) * keys["num_hidden_layers"])


def llama4(keys: Keys) -> Read:
    """Return the layers of llama4 models."""
    count, step = keys["num_hidden_layers"], keys.get("interleave_moe_layer_step", 1)
    listed, every = keys.get("no_rope_layers", []), keys.get("no_rope_layer_interval", 4)
    moe = MoE(
        experts=keys["num_local_experts"],
        top_k=keys["num_experts_per_tok"],
        inter=keys["intermediate_size"],
        shared_inter=keys["intermediate_size"],
    )
    named = keys.get("moe_layers")
    dense = MLP(inter=keys.get("intermediate_size_mlp", 16384))
    norm = "unweighted" if keys.get("use_qk_norm", True) else "none"
    rotary = [bool(listed[i]) if listed else (i + 1) % every != 0 for i in range(count)]
    local = windows(keys, rotary)

    def layer(index: int) -> Layer:
        chunk = keys.get("attention_chunk_size") if local[index] else None
        sparse = index in named if named is not None else (index + 1) % step == 0
        mixer = attention(keys, window=chunk, rotary=rotary[index], qk_norm=norm if rotary[index] else "none")
        return Layer(mixer=mixer, ffn=moe if sparse else dense)

    return Read(tuple(layer(i) for i in range(count)))


def gemma4(keys: Keys) -> Read:
    """Return the layers of gemma4 models."""
    count = keys["num_hidden_layers"]
    for key in ("num_kv_shared_layers", "hidden_size_per_layer_input", "use_double_wide_mlp"):
        if keys.get(key):
            raise InvalidInputError(f"the key {key} ({keys.get(key)}) is not supported for gemma4")
    keys.read(["vocab_size_per_layer_input"])
    mixture = bool(keys.get("enable_moe_block"))
    ffn: MLP | MoE = MLP(inter=keys["intermediate_size"])
    if mixture:  # the dense MLP runs beside the experts
        ffn = MoE(
            experts=keys["num_experts"],
            top_k=keys["top_k_experts"],
            inter=keys["moe_intermediate_size"],
            shared_inter=keys["intermediate_size"],
            router_bias=True,
        )
    whole = {
        "head_dim": keys.get("global_head_dim", keys.get("head_dim", 256)),
        "kv_heads": keys.get("num_global_key_value_heads", keys["num_key_value_heads"]),
        "shared_kv": bool(keys.get("attention_k_eq_v")),
    }
    mixers = {
        True: attention(keys, qk_norm="head", window=keys["sliding_window"]),
        False: attention(keys, qk_norm="head", **whole),
    }
    return Read(
        tuple(
            Layer(mixer=mixers[local], ffn=ffn, norms=7 if mixture else 4) for local in windows(keys, [False] * count)
        )
    )
