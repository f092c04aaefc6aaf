"""Families that are described layer by layer, and who reads their configuration.

Formulas follow the modeling files of `transformers` 4.57.1 and 5.23.0; parameter counts are checked against published
ones.
"""

from __future__ import annotations

from collections.abc import Callable

from pruninfersim.models.hf import dense, hybrids
from pruninfersim.models.hf import mixtures as mix
from pruninfersim.models.hf.common import Read
from pruninfersim.models.hf.keys import Keys

#: Family (``model_type`` without ``_text``) -> reader of its layers.
LAYERED: dict[str, Callable[[Keys], Read]] = {
    "mixtral": mix.mixtral,
    "qwen2_moe": mix.qwen_moe,
    "qwen3_moe": mix.qwen_moe,
    "qwen3_vl_moe": mix.qwen_moe,
    "gpt_oss": mix.gpt_oss,
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa"), mix.deepseek),
    "glm4_moe": mix.glm_moe,
    "minimax_m2": mix.minimax,
    "olmoe": mix.olmoe,
    "granitemoe": mix.granite_moe,
    "granitemoeshared": mix.granite_moe,
    "llama4": mix.llama4,
    "gemma4": mix.gemma4,
    **dict.fromkeys(("qwen3_next", "qwen3_5", "qwen3_5_moe"), hybrids.qwen_next),
    "nemotron_h": hybrids.nemotron_h,
    "opt": dense.opt,
    "falcon": dense.falcon,
    "gpt_neox": dense.gpt_neox,
    "starcoder2": dense.starcoder2,
    "cohere": dense.cohere,
    "cohere2": dense.cohere,
    "nemotron": dense.nemotron,
}
#: Families whose head is tied to the embedding where their file does not say.
TIED = frozenset({"opt", "falcon", "starcoder2", "cohere", "cohere2", "gemma4"})
