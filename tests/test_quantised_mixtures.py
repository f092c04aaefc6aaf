"""Quantised mixtures of experts: what a checkpoint stores in which format, and what its kernels are priced from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE, rows

import pruninfersim as pis
from pruninfersim.cost.memory import kv_memory, weight_memory
from pruninfersim.errors import InvalidInputError, MissingValueError
from pruninfersim.models.hf.quantisation import storage_of
from pruninfersim.models.stored import matches, modules
from pruninfersim.pruning import ExpertPruning, Quantized, StaticWidth

pytestmark = IGNORE_PROVENANCE

GPT_OSS = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088, "num_experts_per_tok": 4, "sliding_window": 128,
    "max_position_embeddings": 131072, "tie_word_embeddings": False,
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"
        ],
    },
}  # fmt: skip
#: DeepSeek-V3 (arXiv 2412.19437): three dense layers, then 58 with 256 routed experts and a shared one.
DEEPSEEK = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280,
    "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
    "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
    "max_position_embeddings": 163840, "tie_word_embeddings": False,
    "quantization_config": {
        "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128], "fmt": "e4m3"
    },
}  # fmt: skip
#: Qwen3-30B-A3B.
QWEN = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "vocab_size": 151936, "num_experts": 128, "num_experts_per_tok": 8, "max_position_embeddings": 40960,
}  # fmt: skip
HEADS = 2 * 151936 * 2048
ROUTERS = 48 * 128 * 2048
ATTENTION = 48 * 2048 * (2 * 32 + 2 * 4) * 128
EXPERTS = 48 * 128 * 3 * 2048 * 768
DECODE = pis.Workload.decode(1, 1024)


def stored(config: dict[str, Any], dtype: str | None = None) -> float:
    model = pis.ModelConfig.from_hf(config, name="checkpoint")
    return float(weight_memory(pis.trace(model, DECODE, dtype=dtype)))


def qwen(**given: Any) -> dict[str, Any]:
    return QWEN | {"quantization_config": given}


# Table 1 of the gpt-oss model card (arXiv 2508.10925): size of the checkpoint.
@pytest.mark.parametrize(("layers", "experts", "size"), [(24, 32, 12.8), (36, 128, 60.8)])
def test_gpt_oss_takes_what_its_card_says(layers: int, experts: int, size: float) -> None:
    config = GPT_OSS | {"num_hidden_layers": layers, "num_local_experts": experts}
    assert stored(config) / 2**30 == pytest.approx(size, rel=0.003)
    step = pis.trace(pis.ModelConfig.from_hf(config, name="gpt-oss"), DECODE)
    assert set(rows(step, "experts").dtype) == {"mxfp4"}
    assert rows(step, "experts").b_bytes == pytest.approx(4.25 / 8)
    assert set(rows(step, "q", "o", "expert_router", "lm_head").dtype) == {"bf16"}


def test_deepseek_v3_is_671_billion_bytes_and_a_little() -> None:
    """671.0 B parameters in one byte; 0.93 B twice and the routers in two; a scale of 4 bytes per 128 x 128 weights."""
    narrow = 671.026e9 - 2 * 129280 * 7168 - 58 * 256 * 7168
    expected = narrow * (1 + 4 / 128**2) + 2 * (2 * 129280 * 7168 + 58 * 256 * 7168)
    assert stored(DEEPSEEK) == pytest.approx(expected, rel=2e-4)
    assert stored(DEEPSEEK, "bf16") == pytest.approx(2 * 671.026e9, rel=2e-4)


@pytest.mark.parametrize(
    ("given", "attention", "experts"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128],
          "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.gate", "model.layers.0.input_layernorm"]},
         1 + 4 / 128**2, 1 + 4 / 128**2),
        ({"quant_method": "gptq", "bits": 4, "group_size": 64}, 0.5 + 2 / 64, 0.5 + 2 / 64),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": ["self_attn", "mlp.gate"]},
         2.0, 0.5 + 2 / 128),
        ({"quant_algo": "NVFP4", "exclude_modules": ["lm_head", "*self_attn*"]}, 2.0, 0.5625),
        ({"quant_method": "compressed-tensors", "ignore": ["lm_head", "re:.*self_attn.*", "re:.*mlp.gate$"],
          "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "group_size": 32}}}},
         2.0, 0.5 + 2 / 32),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"a": {"targets": ["re:.*mlp.experts.*"],
                                  "weights": {"num_bits": 4, "type": "float", "group_size": 32}}}},
         2.0, 0.53125),
    ],
)  # fmt: skip
def test_bytes_of_a_mixture(given: dict[str, Any], attention: float, experts: float) -> None:
    expected = ATTENTION * attention + EXPERTS * experts + 2.0 * (HEADS + ROUTERS)
    assert stored(qwen(**given)) == pytest.approx(expected, rel=1e-9)
    assert stored(qwen(**given), "bf16") == pytest.approx(2.0 * (ATTENTION + EXPERTS + HEADS + ROUTERS), rel=1e-9)


def test_layers_that_are_left_out_are_rows_of_their_own() -> None:
    skipped = ["model.layers.0*", "model.layers.8.self_attn*", "model.layers.9.mlp.experts*"]
    model = pis.ModelConfig.from_hf(qwen(quant_algo="NVFP4", ignore=skipped), name="partly")
    step = pis.trace(model, DECODE)
    by_dtype: dict[tuple[str, str], set[int]] = {}
    for name, dtype, layers in zip(step.name, step.dtype, step.layers, strict=True):
        by_dtype.setdefault((name, dtype), set()).update(layers)
    assert by_dtype["q", "bf16"] == by_dtype["o", "bf16"] == {0, 8}
    assert by_dtype["experts", "bf16"] == {0, 9}
    assert by_dtype["experts", "nvfp4"] == set(range(48)) - {0, 9}
    assert float(step.count[step.mask(names=["mlp_norm"])].sum()) == 48
    fused = step.fuse_projections()
    assert sum(name == "qkv" for name in fused.name) == 2
    flops = (pis.trace(model, DECODE, dtype="bf16"), step)
    assert np.ptp([float((ops.flops * ops.count).sum()) for ops in flops]) == pytest.approx(0.0, abs=1.0)


def test_shared_experts_and_dense_layers_have_names_of_their_own() -> None:
    config = DEEPSEEK | {"quantization_config": {"quant_algo": "NVFP4", "ignore": ["*.mlp.shared_experts*"]}}
    step = pis.trace(pis.ModelConfig.from_hf(config, name="v3"), DECODE)
    gates = rows(step, "gate")
    assert {(dtype, layers[0]) for dtype, layers in zip(gates.dtype, gates.layers, strict=True)} == {
        ("nvfp4", 0), ("bf16", 3)
    }  # fmt: skip
    assert set(rows(step, "q_a", "experts").dtype) == {"nvfp4"}


@pytest.mark.parametrize(
    ("pattern", "met"),
    [
        ("model.layers.3.self_attn.o_proj", True), ("language_model.model.layers.3.self_attn.o_proj", True),
        ("model.layers.30.self_attn", False), ("re:model.layers.3.*", True), ("re:.*mlp.*", False), ("o_proj", True),
        ("lm_head", False), ("*.self_attn.*", True), ("visual", False), ("re:(", False),
    ],
)  # fmt: skip
def test_patterns(pattern: str, met: bool) -> None:
    assert matches(pattern, modules("o", "attention", 3)) is met


def test_a_cache_of_8_bit_is_read_as_one() -> None:
    scheme = {"num_bits": 8, "type": "float"}
    model = pis.ModelConfig.from_hf(qwen(quant_algo="FP8", kv_cache_scheme=scheme), name="kv8")
    narrow, wide = (pis.trace(model, DECODE, dtype=dtype) for dtype in (None, "bf16"))
    np.testing.assert_allclose(kv_memory(narrow), kv_memory(wide) / 2)
    lowered = pis.estimate(narrow, hardware="h100-sxm").trace
    assert "attention_decode_kv8" in lowered.kernel
    assert "fp8" in model.notes[0]


def test_quantising_a_mixture_is_what_the_dtype_says() -> None:
    for dtype, method in (("fp8", Quantized("fp8")), ("int4_wo", Quantized("int4")), ("mxfp4", Quantized("mxfp4"))):
        for name in ("qwen3-30b-a3b", "deepseek-v2-lite"):
            asked, pruned = pis.trace(name, DECODE, dtype=dtype), pis.trace(name, DECODE).prune(method)
            np.testing.assert_allclose(weight_memory(pruned), weight_memory(asked), rtol=1e-12)
            assert pruned.dtype == asked.dtype
    dense = pis.trace("qwen3-30b-a3b", DECODE)
    for method in (ExpertPruning(0.5), StaticWidth(0.5)):
        a, b = dense.prune(Quantized("int4"), method), dense.prune(method, Quantized("int4"))
        np.testing.assert_allclose(weight_memory(a), weight_memory(b))
    np.testing.assert_allclose(weight_memory(dense.prune(Quantized(kv="fp8"))), weight_memory(dense))


def experts(gpu: str, batch: int, dtype: str | None) -> tuple[float, str, tuple[str, ...]]:
    estimate = pis.estimate(pis.trace("qwen3-30b-a3b", pis.Workload.decode(batch, 1024), dtype=dtype), hardware=gpu)
    row = estimate.trace.name.index("experts")
    return float(estimate.run[..., row]), str(estimate.provenance[row]), estimate.notes


@pytest.mark.parametrize("gpu", ["h100-sxm", "b200-sxm", "a100-sxm-80gb", "rtx-pro-6000-server"])
def test_experts_are_faster_in_fewer_bytes_and_say_what_they_rest_on(gpu: str) -> None:
    card = pis.hardware.get(gpu)
    wide, _, _ = experts(gpu, 64, "bf16")
    for dtype in ("int8_wo", "int4_wo", "mxfp4", "nvfp4", "int8"):
        if pis.hardware.precision.rate(dtype) not in card.peak:
            with pytest.raises(MissingValueError, match="has no peak for"):
                experts(gpu, 64, dtype)
            continue
        time, evidence, notes = experts(gpu, 64, dtype)
        assert time < wide
        assert evidence == "extrapolated"
        assert any("experts" in note and f"no {dtype} kernel" in note for note in notes)


@pytest.mark.parametrize("dtype", ["fp8", "fp8_block"])
def test_experts_that_were_timed(dtype: str) -> None:
    time, evidence, _ = experts("h100-sxm", 64, dtype)
    assert evidence == "calibrated"
    assert time < experts("h100-sxm", 64, "bf16")[0]
    assert float(
        pis.moe_latency(tokens=64, hidden=2048, inter=768, experts=128, top_k=8, hardware="gb200", dtype=dtype)
    )
    with pytest.raises(MissingValueError, match="fp8"):
        experts("a100-sxm-80gb", 64, dtype)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"quant_algo": "MIXED_PRECISION"}, "MIXED_PRECISION"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*down.*": {"bits": 8}}}, "another format"),
    ],
)
def test_refusals(given: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        pis.ModelConfig.from_hf(qwen(**given))
    left_out = storage_of(
        {"quantization_config": {"quant_method": "gptq", "bits": 4, "dynamic": {"-:.*self_attn.*": {}}}}
    )
    assert left_out.ignored == ("re:.*.*self_attn.*",)


def test_published_files(validation_data: Path) -> None:
    """Bytes of a checkpoint never exceed those of 16 bit, and are what its format times its parameters says."""
    found = {}
    for file in sorted((validation_data / "models" / "today").glob("*.json")):
        content = json.loads(file.read_text())
        if content.get("quantization_config") or content.get("text_config", {}).get("quantization_config"):
            model = pis.ModelConfig.from_hf(file)
            found[file.stem] = float(weight_memory(pis.trace(model, DECODE))) / model.parameters
    assert found["openai--gpt-oss-20b"] == pytest.approx(13.75 / 20.915, rel=0.002)
    eight = {name: size for name, size in found.items() if "NVFP4" not in name and "gpt-oss" not in name}
    assert len(eight) >= 6
    assert all(1.0 < size < 1.06 for size in eight.values())
    assert 0.5625 < found["nvidia--GLM-5.1-NVFP4"] < 0.6
