"""Model configurations: published parameter counts, Hugging Face files, and what a broken one says."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruninfersim import models
from pruninfersim.errors import FileFormatError, InvalidInputError, UnknownNameError
from pruninfersim.models import ModelConfig

#: Parameters in total and active [1e9], from a reference table that rounds to three decimals; gemma-3 4b to 27b are the
#: text model without the vision tower.
with (Path(__file__).resolve().parents[1] / "validation" / "model_counts.csv").open(newline="") as _file:
    COUNTS = {row["model"]: (float(row["total"]), float(row["active"])) for row in csv.DictReader(_file)}
DENSE = [name for name in models.names() if not models.get(name).layers]
SMALL = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
GEMMA3 = {"model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 12, "sliding_window": 512}


def hf(**changes) -> ModelConfig:
    return ModelConfig.from_hf({**SMALL, **changes}, name="small")


def tensors(model: ModelConfig) -> list[tuple[int, ...]]:
    """Shapes of all tensors of a checkpoint, written out one by one: the slow oracle of the parameter count.

    Which projections have a bias and which norms exist follows the modeling files of transformers 4.57.1.
    """
    width, heads, kv = model.hidden_size, model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    shapes: list[tuple[int, ...]] = [(model.vocab_size, width), (width,)]
    if not model.tie_embeddings:
        shapes.append((model.vocab_size, width))
    for _ in range(model.num_layers):
        shapes += [(heads, width), (kv, width), (kv, width), (width, heads)]
        shapes += [(model.intermediate_size, width)] * 2 + [(width, model.intermediate_size)]
        shapes += [(width,)] * (4 if model.family in ("gemma2", "gemma3") else 2)
        if model.qkv_bias:
            shapes += [(heads,), (kv,), (kv,)]
        if model.o_bias:
            shapes.append((width,))
        if model.mlp_bias:
            shapes += [(model.intermediate_size,)] * 2 + [(width,)]
        if model.family in ("qwen3", "gemma3"):
            shapes += [(model.head_dim,)] * 2
        if model.family == "olmo2":
            shapes += [(heads,), (kv,)]
    return shapes


@pytest.mark.parametrize("name", models.names())
def test_parameter_counts(name):
    model, (total, active) = models.get(name), COUNTS[name]
    assert model.parameters == pytest.approx(total * 1e9, rel=2e-4, abs=5e5)
    assert model.active_parameters == pytest.approx(active * 1e9, rel=2e-4, abs=5e5)
    assert "Hugging Face" in model.reference
    assert model.name == name


@pytest.mark.parametrize("name", DENSE)
def test_parameters_tensor_by_tensor(name):
    model = models.get(name)
    assert model.parameters == sum(int(np.prod(shape)) for shape in tensors(model))


def test_counts_with_every_bias():
    model = hf(attention_bias=True, mlp_bias=True, num_key_value_heads=2)
    assert (model.qkv_bias, model.o_bias, model.mlp_bias) == (True, True, True)
    assert model.parameters == sum(int(np.prod(shape)) for shape in tensors(model))


def test_exact_counts_of_well_known_checkpoints():
    # Widely quoted totals of the safetensors files (not downloaded again for this test).
    assert models.get("llama-3.1-8b").parameters == 8_030_261_248
    assert models.get("qwen2.5-7b").parameters == 7_615_616_512
    assert models.get("mistral-7b-v0.1").parameters == 7_241_732_096


def test_a_tied_head_is_stored_once_but_multiplied_with():
    tied, free = hf(tie_word_embeddings=True), hf(tie_word_embeddings=False)
    assert free.parameters - tied.parameters == 100 * 64
    assert free.gemm_parameters == tied.gemm_parameters == 12 * (4 * 64 * 64 + 3 * 64 * 128) + 100 * 64


def test_sizes_of_grouped_query_attention():
    model = models.get("qwen3-14b")
    assert (model.q_size, model.kv_size, model.group_size) == (5120, 1024, 5)
    # Heads of Qwen3-0.6B are wider than hidden / heads.
    assert models.get("qwen3-0.6b").q_size == 2048 != models.get("qwen3-0.6b").hidden_size


# --- family rules -------------------------------------------------------------------------------------------------


def test_norms_and_biases_of_the_families():
    found = {
        name: (m.norms_per_layer, m.norm_placement, m.qk_norm, m.qkv_bias)
        for name in ("llama-3.1-8b", "qwen2.5-7b", "qwen3-8b", "olmo-2-7b", "gemma-2-9b", "gemma-3-4b", "phi-4")
        for m in [models.get(name)]
    }
    assert found == {
        "llama-3.1-8b": (2, "pre", "none", False),
        "qwen2.5-7b": (2, "pre", "none", True),
        "qwen3-8b": (2, "pre", "head", False),
        "olmo-2-7b": (2, "post", "full", False),
        "gemma-2-9b": (4, "both", "none", False),
        "gemma-3-4b": (4, "both", "head", False),
        "phi-4": (2, "pre", "none", False),
    }


def test_windows_of_the_families():
    assert all(models.get("mistral-7b-v0.1").window_layers)
    assert models.get("mistral-7b-v0.1").sliding_window == 4096
    assert models.get("mistral-7b-v0.3").sliding_window is None
    assert not any(models.get("mistral-7b-v0.3").window_layers)
    assert models.get("gemma-2-9b").window_layers == (True, False) * 21
    assert [i for i, local in enumerate(models.get("gemma-3-1b").window_layers) if not local] == [5, 11, 17, 23]
    assert models.get("phi-3-mini").sliding_window == 2047
    assert models.get("qwen2.5-7b").sliding_window is None


def test_mistral_without_the_key_has_the_window_of_its_class():
    assert hf(model_type="mistral", num_key_value_heads=2).sliding_window == 4096
    assert hf(model_type="mistral", num_key_value_heads=2, sliding_window=None).sliding_window is None


def test_qwen_windows_only_if_switched_on():
    given = {"model_type": "qwen2", "num_key_value_heads": 2, "sliding_window": 1024, "max_window_layers": 8}
    assert hf(**given, use_sliding_window=False).sliding_window is None
    model = hf(**given, use_sliding_window=True)
    assert (model.sliding_window, model.window_layers) == (1024, (False,) * 8 + (True,) * 4)
    assert hf(**{**given, "max_window_layers": 12}, use_sliding_window=True).sliding_window is None


def test_layer_types_win_over_the_rule_of_the_family():
    kinds = ["full_attention", "sliding_attention", "sliding_attention"] * 4
    model = ModelConfig.from_hf({**GEMMA3, "layer_types": kinds})
    assert model.window_layers == (False, True, True) * 4
    assert model.window_pattern == (False, True, True)
    assert ModelConfig.from_hf({**GEMMA3, "sliding_window_pattern": 3}).window_layers == (True, True, False) * 4
    with pytest.raises(InvalidInputError, match="layer_types has 3 entries for 12 layers"):
        ModelConfig.from_hf({**GEMMA3, "layer_types": kinds[:3]})


def test_gemma3_leaves_out_sizes_and_nests_the_text_model():
    # The published gemma-3-4b-it file gives only these keys of the text model.
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}
    file = {
        "model_type": "gemma3",
        "text_config": {**text, "sliding_window": 1024},
        "vision_config": {"hidden_size": 3},
    }
    model, named = ModelConfig.from_hf(file, name="g"), models.get("gemma-3-4b")
    differing = {key for key in ModelConfig.model_fields if getattr(model, key) != getattr(named, key)}
    assert differing == {"name", "reference", "vocab_size"}  # the class pads the vocabulary by 64 image tokens
    assert model.vocab_size == named.vocab_size + 64
    assert model.parameters == pytest.approx(named.parameters, rel=1e-4)


def test_missing_keys_mean_what_the_class_says():
    model = hf()
    assert (model.head_dim, model.num_kv_heads, model.max_position, model.tie_embeddings) == (16, 4, 2048, False)
    assert hf(model_type="qwen3", num_key_value_heads=4).head_dim == 128
    assert hf(model_type="mistral", num_attention_heads=16).num_kv_heads == 8
    assert hf(model_type="mistral", num_key_value_heads=None).num_kv_heads == 4
    assert hf(model_type="gemma2").tie_embeddings is True
    assert hf(model_type="phi3").max_position == 4096


# --- files --------------------------------------------------------------------------------------------------------


def test_from_hf_takes_file_directory_and_dict(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(SMALL))
    by_file, by_directory = ModelConfig.from_hf(file), ModelConfig.from_hf(str(tmp_path))
    assert by_file == by_directory == models.get(str(file)) == models.get(tmp_path)
    assert by_file.name == tmp_path.name
    assert by_file.clone("small").model_dump(exclude={"reference"}) == hf().model_dump(exclude={"reference"})
    assert ModelConfig.from_hf(file, name="other").name == "other"


@pytest.mark.parametrize("length", range(0, len(json.dumps(SMALL)) - 1, 9))
def test_truncated_json(tmp_path, length):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(SMALL)[:length])
    with pytest.raises(FileFormatError, match=r"config\.json: is not valid JSON .* Is the file complete\?"):
        ModelConfig.from_hf(file)


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(FileFormatError, match=r"gone\.json: cannot be read"):
        models.get(tmp_path / "gone.json")
    with pytest.raises(FileFormatError, match=r"config\.json: cannot be read"):
        ModelConfig.from_hf(tmp_path)
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(FileFormatError, match=r"list\.json: holds list, not a JSON object"):
        ModelConfig.from_hf(tmp_path / "list.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match=r"bytes\.json: is not valid JSON"):
        ModelConfig.from_hf(tmp_path / "bytes.json")


@pytest.mark.parametrize("key", sorted(SMALL))
def test_a_missing_key_is_named(tmp_path, key):
    content = {name: value for name, value in SMALL.items() if name != key}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match=rf"config\.json: the key {key} is missing"):
        ModelConfig.from_hf(tmp_path)
    with pytest.raises(InvalidInputError, match=f"the key {key} is missing"):
        ModelConfig.from_hf(content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": -64, "head_dim": 16}, "hidden_size: must be a positive whole number; got -64"),
        ({"num_hidden_layers": 2.5, "head_dim": 16}, "num_layers: must be a positive whole number; got 2.5"),
        ({"vocab_size": "many"}, "vocab_size: must be a positive whole number; got 'many'"),
        ({"vocab_size": True}, "vocab_size: must be a positive whole number; got True"),
        ({"vocab_size": None}, "vocab_size: must be a positive whole number; got None"),
        ({"hidden_size": "64"}, "sizes must be positive whole numbers"),
        ({"num_attention_heads": 0}, "sizes must be positive whole numbers"),
        ({"num_key_value_heads": 3}, "num_heads must be a multiple of num_kv_heads; got 4 heads and 3"),
    ],
)
def test_a_wrong_value_is_one_clear_line(tmp_path, changes, message):
    (tmp_path / "config.json").write_text(json.dumps({**SMALL, **changes}))
    with pytest.raises(FileFormatError, match=message) as caught:
        ModelConfig.from_hf(tmp_path)
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["jamba", "bert", "t5", None, 5])
def test_an_unsupported_type_names_the_supported_ones(kind):
    with pytest.raises(UnknownNameError, match=r"not supported.* gemma2, gemma3,.* llama,.* mistral,.* phi3, qwen2"):
        hf(model_type=kind)


# --- the object ---------------------------------------------------------------------------------------------------


def test_names_and_objects():
    model = models.get("phi-4")
    assert models.get(model) is model
    with pytest.raises(UnknownNameError, match=r"unknown model 'lama-3\.1-8b'\. Did you mean 'llama-3\.1-8b'\?"):
        models.get("lama-3.1-8b")


@given(
    name=st.sampled_from(["llama-3.1-8b", "qwen2.5-7b", "gemma-3-4b", "olmo-2-32b"]),
    changes=st.fixed_dictionaries(
        {},
        optional={
            "num_layers": st.integers(1, 200),
            "intermediate_size": st.integers(1, 10**6),
            "vocab_size": st.integers(1, 10**6),
            "tie_embeddings": st.booleans(),
            "dtype": st.sampled_from(["bf16", "fp8"]),
        },
    ),
)
def test_clone_changes_what_it_is_told_and_nothing_else(name, changes):
    original = models.get(name)
    before = original.model_dump()
    clone = original.clone("mine", **changes)
    assert original.model_dump() == before
    expected = before | changes | {"name": "mine", "reference": clone.reference}
    assert clone.model_dump() == expected
    assert clone.reference.startswith(f"modified from {name} (")
    assert all(key in clone.reference for key in changes)
    assert len(clone.window_layers) == clone.num_layers
    assert clone.parameters == sum(int(np.prod(shape)) for shape in tensors(clone))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layer": 3}, r"unknown ModelConfig field 'num_layer'\. Did you mean 'num_layers'\?"),
        ({"num_layers": 0}, "num_layers: must be a positive whole number; got 0"),
        ({"num_layers": np.nan}, "num_layers: must be a positive whole number"),
        ({"num_layers": np.array([1, 2])}, "num_layers: must be a positive whole number"),
        ({"num_kv_heads": 5}, "num_heads must be a multiple"),
        ({"sliding_window": 512}, "sliding_window and window_pattern belong together"),
        ({"window_pattern": (True,)}, "sliding_window and window_pattern belong together"),
        ({"dtype": "bf17"}, r"dtype: unknown dtype 'bf17'\. Did you mean 'bf16'\?"),
        ({"qk_norm": "some"}, "qk_norm: "),
    ],
)
def test_a_wrong_change_is_an_input_error(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        models.get("llama-3.1-8b").clone("mine", **changes)


def test_numpy_sizes_become_ints():
    model = models.get("llama-3.1-8b").clone("mine", intermediate_size=np.int64(7168), num_layers=np.float64(16))
    assert (type(model.intermediate_size), model.intermediate_size, model.num_layers) == (int, 7168, 16)


def test_a_config_is_frozen_and_hashable():
    model = models.get("phi-4")
    with pytest.raises(ValueError, match="frozen"):
        model.num_layers = 3
    assert hash(model) == hash(model.model_copy())


def test_printing_shows_the_reference():
    model = models.get("phi-4")
    assert model.reference in repr(model)
    assert str(model) == repr(model)


def test_table_has_a_row_per_model():
    table = models.table()
    assert list(table.index) == models.names()
    assert table.loc["llama-3.1-8b", "parameters"] == 8_030_261_248


def test_importing_models_does_not_import_pandas():
    code = "import sys, pruninfersim.models as m; m.get('phi-4'); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
