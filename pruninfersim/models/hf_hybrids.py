"""Hybrids whose layers have a state in place of a KV cache: which keys say what each layer is made of."""

from __future__ import annotations

from typing import Any

from pruninfersim.errors import InvalidInputError, shown
from pruninfersim.models.architectures.layered import Layer
from pruninfersim.models.architectures.linear_attention import DeltaNet, Mamba2
from pruninfersim.models.architectures.mlp import MLP
from pruninfersim.models.architectures.moe import MoE
from pruninfersim.models.hf_common import Read, attention
from pruninfersim.models.hf_mixtures import qwen_experts
from pruninfersim.models.keys import Keys

#: What newer files of Nemotron-H call a layer -> its letter in the pattern of older ones.
LETTERS = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}


def qwen_next(keys: Keys) -> Read:
    """Return the layers of qwen_next models."""
    count, every = keys["num_hidden_layers"], keys.get("full_attention_interval", 4)
    if keys.get("mlp_only_layers"):
        raise InvalidInputError("mlp_only_layers is not supported for this family")
    delta = DeltaNet(
        key_heads=keys["linear_num_key_heads"],
        key_dim=keys["linear_key_head_dim"],
        value_heads=keys["linear_num_value_heads"],
        value_dim=keys["linear_value_head_dim"],
        conv=keys["linear_conv_kernel_dim"],
    )
    full = attention(keys, qk_norm="head", gate=bool(keys.get("attn_output_gate", True)))
    kinds = keys.layer_types(count) or [
        "full_attention" if (i + 1) % every == 0 else "linear_attention" for i in range(count)
    ]
    if keys.get("num_experts"):
        keys.read(["decoder_sparse_step"])
        ffn: MLP | MoE = qwen_experts(keys)
    else:
        ffn = MLP(inter=keys["intermediate_size"])
    return Read(tuple(Layer(mixer=delta if kind == "linear_attention" else full, ffn=ffn) for kind in kinds))


def nemotron_h(keys: Keys) -> Read:
    """Return the layers of nemotron_h models."""
    kinds = keys.get("layers_block_type")
    if kinds is not None and (strange := sorted({str(kind) for kind in kinds} - set(LETTERS))):
        raise InvalidInputError(f"layers_block_type holds {strange[0]}; {', '.join(LETTERS)} are supported")
    pattern = "".join(LETTERS[kind] for kind in kinds) if kinds is not None else keys["hybrid_override_pattern"]
    if len(pattern) != keys["num_hidden_layers"]:
        raise InvalidInputError(
            f"the pattern of layers has {len(pattern)} entries for {keys['num_hidden_layers']} layers"
        )
    keys.get("expand")
    mamba = Mamba2(
        heads=keys["mamba_num_heads"],
        head_dim=keys["mamba_head_dim"],
        state=keys["ssm_state_size"],
        groups=keys["n_groups"],
        conv=keys["conv_kernel"],
    )
    width = keys.first("head_dim", "attention_head_dim", default=128)
    parts: dict[str, dict[str, Any]] = {"M": {"mixer": mamba}, "*": {"mixer": attention(keys, head_dim=width)}}
    if "-" in pattern:
        parts["-"] = {"ffn": MLP(inter=keys["intermediate_size"], gated=False)}
    if "E" in pattern:
        parts["E"] = {
            "ffn": MoE(
                experts=keys["n_routed_experts"],
                top_k=keys["num_experts_per_tok"],
                inter=keys["moe_intermediate_size"],
                gated=False,
                shared_inter=keys.get("n_shared_experts", 0) * keys.get("moe_shared_expert_intermediate_size", 0),
                router_bias=True,
                latent=keys.get("moe_latent_size", 0),
            )
        }
    unknown = sorted(set(pattern) - set(parts))
    if unknown:
        raise InvalidInputError(f"hybrid_override_pattern holds {shown(unknown[0])}; M, *, - and E are supported")
    return Read(tuple(Layer(**parts[kind], norms=1) for kind in pattern))
