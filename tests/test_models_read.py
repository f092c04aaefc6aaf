"""Configurations that are not plain dense decoders: published parameter counts, pruned checkpoints, contradictions."""

from __future__ import annotations

import csv
import json
import os
import runpy
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import pruninfersim as pis
from pruninfersim.cost.memory import kv_memory, weight_memory
from pruninfersim.errors import FileFormatError, InvalidInputError
from pruninfersim.models import ModelConfig
from pruninfersim.models.architectures.routing import active_share

DATA = os.environ.get("PRUNINFERSIM_VALIDATION_DATA")
LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8,
    "num_experts_per_tok": 2, "max_position_embeddings": 32768,
}  # fmt: skip
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61,
    "num_attention_heads": 128, "vocab_size": 129280, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "first_k_dense_replace": 3, "moe_intermediate_size": 2048,
    "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "max_position_embeddings": 163840,
}  # fmt: skip
OPT = {
    "model_type": "opt", "hidden_size": 4096, "ffn_dim": 16384, "num_hidden_layers": 32, "num_attention_heads": 32,
    "vocab_size": 50272, "max_position_embeddings": 2048,
}  # fmt: skip
FALCON = {
    "model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
    "vocab_size": 65024, "multi_query": True, "parallel_attn": True,
}  # fmt: skip
PARTS = {  # name: (keys, total, active), 1e9, from the same reference table as the dense models of test_models.py
    "mixtral-8x7b": (MIXTRAL, 46.703, 12.880),
    "deepseek-v3": (DEEPSEEK_V3, 671.026, 37.552),
    "opt-6.7b": (OPT, 6.658, 6.658),
    "falcon-7b": (FALCON, 6.922, 6.922),
}


@pytest.mark.parametrize("name", PARTS)
def test_published_counts(name):
    keys, total, active = PARTS[name]
    model = ModelConfig.from_hf(keys, name=name)
    assert model.parameters == pytest.approx(total * 1e9, rel=2e-4)
    assert model.active_parameters == pytest.approx(active * 1e9, rel=2e-4)


FILES = json.loads((ROOT / "validation" / "model_files.json").read_text(encoding="utf-8"))


def test_published_files_have_the_parameters_of_their_cards():
    """Counts that the names and cards of the models state, in 1e9, as far as they are rounded there."""
    stated = {
        "moonshotai/Kimi-K2-Instruct": (1000, 32), "Qwen/Qwen3-Coder-480B-A35B-Instruct": (480, 35),
        "nvidia/Llama-3_3-Nemotron-Super-49B-v1": (49, 49), "nvidia/Nemotron-H-56B-Base-8K": (56, 56),
        "meta-llama/Llama-4-Scout-17B-16E-Instruct": (109, 17), "deepseek-ai/DeepSeek-V3.2": (671, 37),
        "MiniMaxAI/MiniMax-M2.5": (230, 10), "Qwen/Qwen3.5-35B-A3B": (35, 3), "zai-org/GLM-5": (744, 40),
    }  # fmt: skip
    for name, (total, active) in stated.items():
        model = ModelConfig.from_hf(FILES[name]["config"])
        assert model.parameters == pytest.approx(total * 1e9, rel=0.03), name
        # Some cards count an embedding table less, or one layer for further tokens more.
        assert model.active_parameters == pytest.approx(active * 1e9, rel=0.2), name


@pytest.mark.skipif(not DATA, reason="the folder of real configurations is not here")
def test_every_real_file_loads_as_the_table_of_the_page_says():
    """82 configurations and 5 cases: read as built in, or as the kept keys; counts as in the reference table."""
    folder = Path(str(DATA))
    known = {row["file"]: row for row in csv.DictReader((folder / "models.csv").read_text().splitlines())}
    plain, today = (sorted(folder.glob(f"models/{kind}*.json")) for kind in ("", "today/"))
    cases = sorted((folder.parent / "cases").glob("*.json"))
    assert (len(plain), len(today)) == (53, 29)
    kept = {name: ModelConfig.from_hf(entry["config"], name=name) for name, entry in FILES.items()}
    assert len(kept) == len(today) + len(cases)
    for file in plain:
        model, row = ModelConfig.from_hf(file), known[file.name]
        assert model.parameters == pytest.approx(float(row["params_total_B"]) * 1e9, rel=2e-4, abs=5e5), file
        assert model.active_parameters == pytest.approx(float(row["params_active_B"]) * 1e9, rel=2e-4, abs=5e5), file
        assert sizes(model) == sizes(pis.models.get(row["hf_id"])), file
    for file in (*today, *cases):
        model = ModelConfig.from_hf(file)
        assert sizes(model) == sizes(kept[file.stem.replace("--", "/")]), file
    for file in (*plain, *today):
        model = ModelConfig.from_hf(file)
        for workload in (pis.Workload.prefill(tokens=[128, 4096]), pis.Workload.decode(batch=[1, 8], context=512)):
            assert np.all(pis.trace(model, workload).flops.sum(axis=-1) > 0), file


def sizes(model: ModelConfig) -> dict[str, object]:
    """All that a configuration says but what it is called."""
    return model.model_dump(exclude={"name", "reference"})


# --- pruned checkpoints -----------------------------------------------------------------------------------------------


def test_puzzle_and_per_layer_files():
    block = {"attention": {"no_op": False, "num_key_value_heads": 8}, "ffn": {"no_op": False}}
    gone = {"attention": {"no_op": True, "num_key_value_heads": None}, "ffn": {"no_op": False}}
    puzzle = ModelConfig.from_hf({**LLAMA, "block_configs": [block] * 20 + [gone] * 12})
    skipped = ModelConfig.from_hf({**LLAMA, "per_layer_config": {str(i): {"skip": ["attention"]} for i in range(12)}})
    narrow = {f"{i:02}": {"intermediate_size": 5120} for i in range(4, 28)}
    ffn = ModelConfig.from_hf({**LLAMA, "per_layer_config": narrow})
    assert puzzle.parameters == skipped.parameters == 7_526_895_616
    assert ffn.parameters == 5_312_352_256
    rows = pis.trace(puzzle, pis.Workload.decode())
    assert rows.select(rows.mask(names=["attention"])).count.sum() == 20


NEMOTRON_3_SUPER = {
    "model_type": "nemotron_h", "hidden_size": 4096, "num_hidden_layers": 88, "vocab_size": 131072, "head_dim": 128,
    "mamba_num_heads": 128, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4,
    "num_attention_heads": 32, "num_key_value_heads": 2, "intermediate_size": 2688, "moe_intermediate_size": 2688,
    "n_routed_experts": 512, "n_shared_experts": 1, "num_experts_per_tok": 22, "moe_latent_size": 1024,
    "moe_shared_expert_intermediate_size": 5376,
    "hybrid_override_pattern": (
        "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME"
    ),
}  # fmt: skip


def test_experts_between_projections():
    """Nemotron-3-Super-120B-A12B: the counts in its name, here with the two projections around its experts."""
    model = ModelConfig.from_hf(NEMOTRON_3_SUPER, name="super")
    assert model.parameters == pytest.approx(120e9, rel=0.01)
    assert model.active_parameters == pytest.approx(12e9, rel=0.07)
    ops = pis.trace(model, pis.Workload.decode(batch=8))
    row = {name: ops.select(ops.mask(names=[name])) for name in ("latent_in", "experts", "latent_out")}
    assert [float(part.k[0]) for part in row.values()] == [4096.0, 1024.0, 1024.0]
    assert [part.k_axis for part in row.values()] == [("hidden",), ("latent",), ("latent",)]
    assert float(weight_memory(ops)) / 2.0 == pytest.approx(model.parameters, rel=1e-3)
    letters = {"M": "mamba", "*": "attention", "E": "moe"}
    newer = dict(NEMOTRON_3_SUPER)
    newer["layers_block_type"] = [letters[kind] for kind in newer.pop("hybrid_override_pattern")]
    del newer["num_hidden_layers"]
    assert ModelConfig.from_hf(newer, name="super") == model


def test_keys_that_repeat_what_is_built():
    minimax = {**FILES["MiniMaxAI/MiniMax-M2.5"]["config"]}
    full = ModelConfig.from_hf(minimax)
    assert sizes(ModelConfig.from_hf({**minimax, "attn_type_list": [1] * 62})) == sizes(full)
    with pytest.raises(InvalidInputError, match="attn_type_list is supported"):
        ModelConfig.from_hf({**minimax, "attn_type_list": [1, 0] * 31})
    glm, freq = FILES["zai-org/GLM-5"]["config"], {"index_topk_freq": 4, "index_skip_topk_offset": 3}
    kinds = ["full" if i < 3 or i % 4 == 2 else "shared" for i in range(78)]
    shared = ModelConfig.from_hf({**glm, **freq, "indexer_types": kinds})
    ops = pis.trace(shared, pis.Workload.decode())
    assert ops.select(ops.mask(names=["index_score"])).count.sum() == kinds.count("full")
    with pytest.raises(InvalidInputError, match="index_skip_topk_offset"):
        ModelConfig.from_hf({**glm, **freq})


def test_lists_of_sizes():
    widths = [14336] * 30 + [7168, 0]
    model = ModelConfig.from_hf({**LLAMA, "intermediate_size": widths})
    dense = ModelConfig.from_hf(LLAMA)
    assert dense.parameters - model.parameters == 3 * 4096 * (7168 + 14336) + 4096


def test_a_pruned_file_is_as_a_pruned_trace():
    """Layers that a file leaves out cost what removing them from the parent leaves."""
    keep = [0, 1] * 8
    blocks = [{"attention": {"no_op": not flag}, "ffn": {"no_op": not flag}} for flag in (*(1,) * 16, *keep)]
    pruned = pis.trace(ModelConfig.from_hf({**LLAMA, "block_configs": blocks}), pis.Workload.decode(batch=4))
    gone = tuple(16 + i for i, flag in enumerate(keep) if not flag)
    parent = pis.trace(ModelConfig.from_hf(LLAMA), pis.Workload.decode(batch=4))
    by_method = parent.prune(pis.pruning.StaticDepth(layers=gone))
    for column in ("flops", "traffic"):
        mine, other = ((getattr(t, column) * t.count).sum() for t in (pruned, by_method))
        assert mine == pytest.approx(other, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 24}, "24 heads do not divide hidden_size 4096: give head_dim"),
        ({"num_local_experts": 8}, r"num_local_experts \(8\)"),
        ({"kv_lora_rank": 512}, r"kv_lora_rank \(512\)"),
        ({"skip_layers": [3]}, "skip_layers"),
        ({"some_lora_rank": 8}, "some_lora_rank"),
        ({"block_configs": [{}] * 3}, "block_configs must hold one entry per layer: 32"),
        ({"block_configs": [{"attention": {"num_sink_tokens": 4}}] * 32}, r"num_sink_tokens \(4\) is not supported"),
        ({"per_layer_config": {"40": {}}}, "per_layer_config holds '40'"),
        ({"per_layer_config": {"4": {"expert": 3}}}, r"expert \(3\) is not supported"),
        ({"per_layer_config": {"4": {"skip": ["norm"]}}}, "skip holds 'norm'"),
        ({"layer_types": ["mamba"] * 32}, "layer_types holds mamba"),
    ],
)
def test_a_key_that_contradicts_the_model_is_refused_by_name(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        ModelConfig.from_hf({**LLAMA, **changes})


def test_quantised_and_sparse_checkpoints_say_so():
    quantised = ModelConfig.from_hf({**LLAMA, "quantization_config": {"quant_method": "awq", "bits": 4}})
    assert quantised.notes == ("linear layers stored as int4_wo",)
    assert quantised.dtype == "int4_wo"
    sparse = {"sparsity_config": {"sparsity_structure": "2:4", "format": "sparse-24-bitmask"}}
    assert "2:4" in ModelConfig.from_hf({**LLAMA, "compression_config": sparse}).notes[0]
    notes = pis.estimate(pis.trace(quantised, pis.Workload.decode()), hardware="h100-sxm", stack="ideal").notes
    assert any("int4_wo" in note for note in notes)


@pytest.mark.parametrize(
    "config",
    [
        {**MIXTRAL, "model_type": "gpt_oss", "sliding_window": 128},
        {**LLAMA, "model_type": "cohere2", "sliding_window": 4096},
        {**MIXTRAL, "model_type": "llama4", "attention_chunk_size": 8192},
        {**LLAMA, "model_type": "gemma3", "sliding_window": 1024},
    ],
)
def test_layer_types_of_null_mean_the_rule_of_the_family(config):
    """As the configuration classes of transformers do, which fill in their pattern where `layer_types` is None."""
    missing, null = (ModelConfig.from_hf(each, name="it") for each in (config, {**config, "layer_types": None}))
    assert null == missing
    windows = [layer.mixer.window is not None for layer in null.layers] or list(null.window_layers)
    assert any(windows)
    assert not all(windows)


def test_an_object_with_to_dict(tmp_path):
    class Config:
        def to_dict(self):
            return LLAMA

    assert ModelConfig.from_hf(Config()).parameters == 8_030_261_248
    with pytest.raises(InvalidInputError, match=r"with to_dict\(\); got int"):
        ModelConfig.from_hf(5)
    with pytest.raises(FileFormatError, match="cannot be read"):
        ModelConfig.from_hf(tmp_path / "none.json")


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
def test_the_trace_holds_all_weights(name):
    """Weights in memory are the parameters, apart from norms, biases and position tables (below 0.5 %)."""
    model = ModelConfig.from_hf(PARTS[name][0], name=name)
    stored = float(weight_memory(pis.trace(model, pis.Workload.decode()))) / 2.0
    assert stored == pytest.approx(model.parameters, rel=5e-3)


def test_one_token_reads_the_active_weights_and_many_read_all():
    model = ModelConfig.from_hf(MIXTRAL)
    one, many = (pis.trace(model, pis.Workload.decode(batch=b, context=1)) for b in (1, 256))
    weights = [
        float((t.b_traffic * t.count)[t.mask(kernels=["gemm", "lm_head", "router", "moe"])].sum()) / 2.0
        for t in (one, many)
    ]
    embedding = model.vocab_size * model.hidden_size
    assert weights[0] == pytest.approx(model.active_parameters - embedding, rel=1e-3)
    assert weights[1] == pytest.approx(model.parameters - embedding, rel=1e-3)


def test_expected_active_experts():
    """E (1 - (1 - k/E)^T) for random routing, against counting draws; figures of the others from the same replay."""
    rng = np.random.default_rng(0)
    drawn = np.mean([np.unique([rng.permutation(128)[:8] for _ in range(16)]).size for _ in range(400)]) / 128
    assert float(active_share(16, 8, 128)) == pytest.approx(drawn, abs=0.01)
    assert float(active_share(1, 8, 128)) == float(active_share(1, 8, 128, "balanced")) == 8 / 128
    skewed = [float(active_share(t, 8, 128, "power_law_1.2")) for t in (8, 16, 32, 64)]
    assert skewed == pytest.approx([0.34, 0.45, 0.84, 0.92], abs=0.03)
    for routing, share in (("uniform", 0.64), ("balanced", 1.0), ("power_law_1.2", 0.45)):
        ops = pis.trace("qwen3-30b-a3b", pis.Workload.decode(batch=16, routing=routing))
        assert float(ops.b_reads[ops.mask(kernels=["moe"])][0]) == pytest.approx(share, abs=0.03)


def test_a_step_of_the_gated_delta_rule_passes_over_its_state_three_times():
    # Yang et al., arXiv 2412.06464: read the old value, write the new one, read the output; key x value each.
    delta = {
        "linear_num_value_heads": 48, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    }  # fmt: skip
    config = json.loads((ROOT / "validation" / "model_files.json").read_text())["Qwen/Qwen3.5-27B"]["config"]
    assert config["text_config"] | delta == config["text_config"]
    ops = pis.trace(ModelConfig.from_hf(config, name="delta"), pis.Workload.decode(batch=3, context=100))
    scan = ops.select(ops.mask(names=["scan"]))
    assert scan.macs.tolist() == [3 * 48 * 3 * 128 * 128]


def test_the_cache_of_mla_is_the_latent():
    model = ModelConfig.from_hf(DEEPSEEK_V3)
    for workload in (pis.Workload.decode(batch=3, context=1000), pis.Workload.prefill(batch=3, tokens=1000)):
        assert float(kv_memory(pis.trace(model, workload))) == pytest.approx(61 * 3 * 1000 * 576 * 2)


def test_absorbed_decode_of_mla_has_the_work_of_its_formula():
    ops = pis.trace(ModelConfig.from_hf(DEEPSEEK_V3), pis.Workload.decode(batch=4, context=2048))
    row = ops.select(ops.mask(kernels=["mla_decode"]))
    assert float(row.flops[0]) == 2 * 4 * 128 * 2048 * (576 + 512)
    assert float(row.b_traffic[0]) == pytest.approx(4 * 2048 * 576 * 2)
    prefill = pis.trace(ModelConfig.from_hf(DEEPSEEK_V3), pis.Workload.prefill(batch=1, tokens=2048))
    row = prefill.select(prefill.mask(kernels=["mla_prefill"]))
    assert float(row.flops[0]) == 2 * 128 * 2048 * 2048 * (192 + 128) / 2
    assert float(row.b_traffic[0]) == pytest.approx(640 * 128 * 2048)


def test_parallel_blocks_have_one_norm():
    ops = pis.trace(ModelConfig.from_hf(FALCON), pis.Workload.decode())
    assert ops.mask(names=["mlp_norm"]).sum() == 0
    assert ops.mask(names=["gate"]).sum() == 0


def test_the_page_of_the_documentation_is_up_to_date():
    page = runpy.run_path(str(ROOT / "docs" / "make_models_page.py"))["page"]()
    assert (ROOT / "docs" / "models.md").read_text(encoding="utf-8") == page, "run docs/make_models_page.py"
