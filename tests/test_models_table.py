"""The table over a folder of config files: every supported one is priced, the others are named."""

from __future__ import annotations

import json
import runpy
import sys
import warnings
from pathlib import Path

import pytest

from pruninfersim.models.hf.fields import supported as supported_types

SCRIPT = Path(__file__).resolve().parents[1] / "validation" / "models_table.py"
VARIABLE = "PRUNINFERSIM_VALIDATION_DATA"
LLAMA = {
    "model_type": "llama", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 32000,
}  # fmt: skip


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the script in this process: (what it prints, how it ends)."""
    monkeypatch.delenv(VARIABLE, raising=False)

    def call(*arguments: str) -> tuple[str, object]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        end = None
        with warnings.catch_warnings():
            try:
                runpy.run_path(str(SCRIPT), run_name="__main__")
            except SystemExit as error:
                end = error.code
        return capsys.readouterr().out, end

    return call


def test_supported_models_are_priced_and_the_others_named(run, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.json").write_text(json.dumps(LLAMA))
    (tmp_path / "models" / "other.json").write_text(json.dumps({"model_type": "jamba"}))
    named = run(str(tmp_path / "models"), "--stack", "ideal")
    out, end = named
    assert end is None
    assert out.count("small") == 2
    assert "1 models; left out, since not supported: 1" in out
    assert "'jamba' is not supported" in out
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert run("--stack", "ideal") == named


def test_missing_data_are_explained(run, tmp_path):
    assert f"set {VARIABLE}" in run()[1]
    assert "is not a folder" in run(str(tmp_path / "nowhere"))[1]
    assert "no config file" in run(str(tmp_path))[1]


def test_a_broken_file_ends_the_run(run, tmp_path):
    (tmp_path / "broken.json").write_text(json.dumps(LLAMA)[:40])
    assert "broken.json" in run(str(tmp_path), "--stack", "ideal")[1]


@pytest.mark.slow
def test_all_reference_models(run, validation_data):
    folder = validation_data / "models"
    if not folder.is_dir():
        pytest.skip(f"{validation_data} has no folder models")
    kinds = {file: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")}
    known = set(supported_types())
    supported = [file for file, config in kinds.items() if config["model_type"].removesuffix("_text") in known]
    out, end = run(str(folder), "--stack", "ideal")
    assert end is None
    assert f"\n{len(supported)} models; left out, since not supported: {len(kinds) - len(supported)}\n" in out
