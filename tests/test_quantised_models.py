"""Quantised checkpoints and quantised traces: what is stored, what composes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pruninfersim as pis
from pruninfersim.cost.memory import kv_memory, weight_memory
from pruninfersim.errors import InvalidInputError, UnknownNameError
from pruninfersim.models.hf.quantisation import storage_of
from pruninfersim.pruning import LowRank, Quantized, SemiStructured, StaticDepth, StaticWidth

#: Sizes of Qwen2.5-72B-Instruct.
QWEN72 = {
    "model_type": "qwen2", "hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80,
    "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 152064, "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}  # fmt: skip
FLOAT8 = {"num_bits": 8, "type": "float"}


def group(weights: dict[str, Any], inputs: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return {"config_groups": {"group_0": {"weights": weights, "input_activations": inputs}}, **more}


def read(given: dict[str, Any]) -> tuple[str, str, int | None, str, str | None, str]:
    got = storage_of({"quantization_config": given})
    return got.weights, got.activations, got.group, got.quantise, got.kv, got.pattern


def test_awq_checkpoint_is_read_as_what_it_is() -> None:
    config = QWEN72 | {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
    model = pis.ModelConfig.from_hf(config, name="qwen2.5-72b-awq")
    assert model.dtype == "int4_wo"
    assert "int4_wo" in model.notes[0]
    stored = float(weight_memory(pis.trace(model, pis.Workload.decode()))) / 2**30
    assert stored == pytest.approx(38.5, rel=0.01)  # size of its files on the Hub
    assert float(weight_memory(pis.trace(model, pis.Workload.decode(), dtype="bf16"))) == pytest.approx(
        145.4e9, rel=0.01
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, ("int4", "bf16", None, "fused", None, "")),
        ({"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
         ("fp8-block", "fp8", None, "per-token", None, "")),
        ({"quant_method": "fp8", "activation_scheme": "static"}, ("fp8", "fp8", None, "fused", None, "")),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, ("fp8", "fp8", None, "dynamic", None, "")),
        (group(FLOAT8 | {"strategy": "channel"}, FLOAT8 | {"dynamic": True, "strategy": "token"},
               quant_method="compressed-tensors", kv_cache_scheme=FLOAT8),
         ("fp8", "fp8", None, "per-token", "fp8", "")),
        (group(FLOAT8, FLOAT8 | {"dynamic": False}, quant_algo="FP8", kv_cache_scheme="FP8"),
         ("fp8", "fp8", None, "fused", "fp8", "")),
        (group({"num_bits": 4, "type": "int", "group_size": 128}, None, quant_method="compressed-tensors"),
         ("int4", "bf16", 128, "fused", None, "")),
        ({"quant_method": "compressed-tensors", "sparsity_config": {"sparsity_structure": "2:4"}},
         ("bf16", "bf16", None, "fused", None, "2:4")),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, ("int4", "bf16", 64, "fused", None, "")),
    ],
)  # fmt: skip
def test_readings(given: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert read(given) == expected


def test_sparse_checkpoint_of_llm_compressor() -> None:
    got = storage_of({"compression_config": {"sparsity_config": {"sparsity_structure": "2:4"}}})
    assert got.pattern == "2:4"
    assert "SemiStructured" in got.remarks


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "LLM.int8"),
        ({"quant_method": "aqlm"}, "'aqlm' is not read"),
        ({"quant_method": "gptq", "bits": 3}, "3 bit"),
        ({"quant_method": "fp8", "weight_block_size": [64, 64]}, r"\[64, 64\]"),
    ],
)
def test_refusals_say_why(given: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        storage_of({"quantization_config": given})
    with pytest.raises(InvalidInputError, match=why):
        pis.ModelConfig.from_hf(QWEN72 | {"quantization_config": given})


@pytest.fixture
def dense() -> pis.OpTrace:
    return pis.trace("llama-3.1-8b", pis.Workload.decode(batch=[1, 16], context=4096))


def test_bytes_of_weights_and_cache(dense: pis.OpTrace) -> None:
    layers = 6_979_321_856  # weights of the linear layers of Llama-3.1-8B
    rest = 2 * 2 * 128256 * 4096
    for method, size in ((Quantized("fp8"), 1.0), (Quantized("int4"), 0.515625), (Quantized("int4", group=32), 0.5625)):
        got = weight_memory(dense.prune(method))
        np.testing.assert_allclose(got, layers * size + rest)
    half = dense.prune(Quantized(kv="fp8"))
    np.testing.assert_allclose(kv_memory(half), kv_memory(dense) / 2)
    np.testing.assert_allclose(weight_memory(half), weight_memory(dense))


@pytest.mark.parametrize("weights", ["fp8", "int8", "int4", "nvfp4", "fp8-block"])
def test_order_does_not_matter(dense: pis.OpTrace, weights: str) -> None:
    for method in (StaticWidth(0.5), StaticDepth(0.25), LowRank(0.5)):
        a, b = dense.prune(Quantized(weights), method), dense.prune(method, Quantized(weights))
        np.testing.assert_allclose(weight_memory(a), weight_memory(b))


def test_no_kernel_is_a_reason(dense: pis.OpTrace) -> None:
    for order in ((SemiStructured(), Quantized("int4")), (Quantized("int4"), SemiStructured())):
        with pytest.raises(InvalidInputError, match=r"2:4 weights in int4_wo.*Sparse-Marlin"):
            dense.prune(*order)
    fp8 = dense.prune(Quantized("fp8"), SemiStructured())
    np.testing.assert_allclose(weight_memory(fp8), 6_979_321_856 * 0.625 + 2 * 2 * 128256 * 4096)
    np.testing.assert_allclose(weight_memory(dense.prune(SemiStructured(), Quantized("fp8"))), weight_memory(fp8))
    with pytest.raises(InvalidInputError, match="fp8 already"):
        dense.prune(Quantized("fp8"), Quantized("int4"))
    with pytest.raises(InvalidInputError, match="int4 weights go with bf16"):
        Quantized("int4", activations="fp8")
    with pytest.raises(UnknownNameError, match="int4"):
        Quantized("int3")


def test_a_quantised_model_is_faster_and_pruning_it_gains_less(dense: pis.OpTrace) -> None:
    small = dense.prune(Quantized("fp8"))
    assert (np.asarray(pis.compare(dense, small, hardware="h100-sxm").estimated) > 1.3).all()
    width = StaticWidth(0.5)
    on_wide = pis.compare(dense, dense.prune(width), hardware="h100-sxm").estimated
    on_small = pis.compare(small, small.prune(width), hardware="h100-sxm").estimated
    assert (np.asarray(on_small) < np.asarray(on_wide)).all()
