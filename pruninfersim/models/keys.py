"""The keys of a ``config.json``, which remember who read them: what nobody read must not contradict what is built."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pruninfersim.errors import InvalidInputError, shown

#: Most layers of a model: no language model has had a twentieth of them.
MOST_LAYERS = 4096
#: Words in a key that say that a model is not what the plain sizes tell.
TELLING = re.compile(
    r"expert|moe|lora|latent|mamba|ssm|linear_|state_size|index_|spars|prun|per_layer|block_config|quant|compress|skip|"
    r"cross_attention|kv_shared|no_op|layer_types|mlp_layer|layers_block|hybrid|conv|double_wide|adapter|low_rank|"
    r"_list$|shared_|attn_layer|chunk|ffn_mult|removed|early_exit|depth|logits_to_keep_layers|dense_replace|altup|matryosh"
)
#: Keys that match but change nothing of a forward pass's sizes: losses, scores, scaling, numerics, deployment.
HARMLESS = re.compile(
    r"^_|llm_compressor|aux_loss|jitter|router_logits|routed_scaling|norm_topk|scoring_func|topk_method|seq_aux|ep_size|num_nextn|mtp|"
    r"z_loss|_cache_dtype|_ssm_dtype|chunk_size_feed|indexer_rope|kernels|chunk_size$|hidden_act|time_step|conv_bias|"
    r"architectures|quantization_status|pruned_heads|sparse_attention_config_version|moe_implementation|rope|"
    r"routing_bias|use_conv_bias|proj_bias|norm_type|expert_overlap|cla_share|freeze|token|image|vision|audio|video"
)


class Keys:
    """A configuration whose keys are asked for, and noted.

    >>> keys = Keys({"hidden_size": 64, "sparsity_config": {"format": "2:4"}})
    >>> keys["hidden_size"], keys.get("head_dim", 16)
    (64, 16)
    >>> keys.unread()
    ['sparsity_config']
    """

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        self._config = {**(defaults or {}), **config}
        self._read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return self._config[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or the default where the key is missing or null."""
        self._read.add(key)
        value = self._config.get(key)
        return default if value is None else value

    def first(self, *names: str, default: Any = None) -> Any:
        """Return the value of the first of several names that is there; KeyError with the first if none is."""
        for name in names:
            self._read.add(name)
        for name in names:
            if self._config.get(name) is not None:
                return self._config[name]
        if default is None:
            raise KeyError(names[0])
        return default

    def read(self, names: Iterable[str]) -> None:
        """Note keys as read."""
        self._read.update(names)

    def unread(self) -> list[str]:
        """Return the keys that tell of another model than plain sizes do, hold something, and were not read."""
        return sorted(
            key
            for key, value in self._config.items()
            if key not in self._read and value and TELLING.search(key) and not HARMLESS.search(key)
        )

    def refuse_unread(self) -> None:
        """Raise InvalidInputError if a key that nobody has read says that the model is another one."""
        left = self.unread()
        if left:
            raise InvalidInputError(
                f"the key {left[0]} ({shown(self._config[left[0]])}) says that this model is not what its other sizes "
                f"describe, and it is not supported for {self._config.get('model_type')}; remove it if it has no effect"
            )

    def layer_types(self, layers: int) -> Any:
        """Return ``layer_types``, one entry per layer; None where the key is missing or null.

        Raises
        ------
        InvalidInputError
            If there are more or fewer entries.

        >>> Keys({"layer_types": ["full_attention"]}).layer_types(1)
        ['full_attention']
        """
        kinds = self.get("layer_types")
        if kinds is not None and len(kinds) != layers:
            raise InvalidInputError(f"layer_types has {len(kinds)} entries for {layers} layers")
        return kinds


def whole_heads(hidden: Any, heads: Any, head_dim: Any) -> Any:
    """Return the width of a head, from the hidden size where it is not given.

    Raises
    ------
    InvalidInputError
        If the heads do not divide the hidden size.

    >>> whole_heads(4096, 32, None)
    128
    """
    if head_dim is not None:
        return head_dim
    if heads > 0 and hidden % heads:
        raise InvalidInputError(
            f"{heads} heads do not divide hidden_size {hidden}: give head_dim (pruned models keep that of their parent)"
        )
    return hidden // heads
