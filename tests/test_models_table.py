"""The table over a folder of config files: every supported one is priced, the others are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "validation" / "models_table.py"
LLAMA = {
    "model_type": "llama", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 32000,
}  # fmt: skip


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "PRUNINFERSIM_VALIDATION_DATA"}
    command = [sys.executable, "-W", "error", str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=inherited | environment)


def test_supported_models_are_priced_and_the_others_named(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.json").write_text(json.dumps(LLAMA))
    (tmp_path / "models" / "other.json").write_text(json.dumps({"model_type": "opt"}))
    done = run("--stack", "ideal", PRUNINFERSIM_VALIDATION_DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "small" in done.stdout
    assert "1 models; left out, since not supported: 1" in done.stdout
    assert "'opt' is not supported" in done.stdout
    assert run(str(tmp_path / "models"), "--stack", "ideal").stdout == done.stdout


def test_missing_data_are_explained(tmp_path):
    assert "set PRUNINFERSIM_VALIDATION_DATA" in run().stderr
    assert "is not a folder" in run(str(tmp_path / "nowhere")).stderr
    assert "no config file" in run(str(tmp_path)).stderr


def test_broken_file_ends_the_run(tmp_path):
    (tmp_path / "broken.json").write_text(json.dumps(LLAMA)[:40])
    done = run(str(tmp_path), "--stack", "ideal")
    assert done.returncode == 1
    assert "broken.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_reference_models(validation_data):
    folder = validation_data / "models"
    if not folder.is_dir():
        pytest.skip(f"{validation_data} has no folder models")
    done = run(str(folder), "--stack", "ideal")
    assert done.returncode == 0, done.stderr
    supported = [
        f
        for f in folder.glob("*.json")
        if json.loads(f.read_text())["model_type"]
        in ("llama", "mistral", "qwen2", "qwen3", "olmo2", "phi3", "gemma2", "gemma3", "gemma3_text")
    ]
    assert f"\n{len(supported)} models;" in done.stdout
