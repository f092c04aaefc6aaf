"""The stack "fused-dynamic" against the measured kernels of dynamic pruning (RTX 5090, 50 %)."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis
from pruninfersim.trace import OpTrace

SCRIPTS = Path(__file__).parents[1] / "validation"
GPU = pis.hardware.get("rtx-5090")
STACK = pis.stacks.get("fused-dynamic", GPU)


@pytest.fixture
def judge(monkeypatch):
    """The validation script and its published rows."""
    if not SCRIPTS.is_dir():
        pytest.skip("no validation scripts here")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return pytest.importorskip("accuracy_dynamic")


def gemm(m, n, k, key, group):
    inputs = key.endswith("_k")
    row = {
        "name": "x", "kernel": key, "gemms": 1, "m": m, "n": n, "k": k, "mac_fraction": 0.5, "b_reads": 1 - 0.5**m,
        "a_reads": 0.5 if inputs else 1.0, "out_writes": 1.0 if inputs else 0.5, "block": "mlp",
        "grain": group,
    }  # fmt: skip
    return float(STACK.predict(OpTrace.from_rows([row])).run[0])


@IGNORE_PROVENANCE
def test_all_measured_gemms(judge):
    rows, kernel = judge.gemms(), STACK.kernels["group_gemm_n"].model
    errors = judge.errors(kernel, rows, judge.gemm_speedups).abs()
    assert len(errors) == 80
    assert errors.mean() <= 0.09
    assert errors.median() <= 0.045
    assert errors[rows["M"] >= 16].le(0.12).mean() >= 0.85
    assert judge.errors(kernel, rows, judge.gemm_speedups, "M").abs().mean() <= 0.12


@IGNORE_PROVENANCE
def test_attention_of_prompts(judge):
    rows, kernel = judge.prompts(), STACK.kernels["token_attention_prefill"].model
    errors = judge.errors(kernel, rows, judge.prompt_speedups).abs()
    assert len(errors) == 24
    assert errors.median() <= 0.04
    assert errors.le(0.08).mean() >= 0.8
    assert judge.errors(kernel, rows, judge.prompt_speedups, "batch").abs().mean() <= 0.08


def test_a_replay_finds_half_of_a_matrix_in_l2_and_a_step_does_not():
    row = {
        "name": "x", "kernel": "group_gemm_n", "gemms": 1, "m": 1, "n": 14336, "k": 4096, "mac_fraction": 0.5,
        "b_reads": 0.5, "a_reads": 1.0, "out_writes": 0.5, "block": "mlp", "grain": 512,
    }  # fmt: skip
    ops, kernel = OpTrace.from_rows([row]), STACK.kernels["group_gemm_n"].model
    cold, replayed = (float(kernel.latency(ops, GPU, cache=cache)[0]) for cache in ("cold", "replayed"))
    half = 14336 * 4096 / GPU.memory_bandwidth
    assert replayed < half < cold
    with pytest.raises(pis.errors.MissingValueError):
        kernel.latency(ops, GPU.clone("no-l2", l2_size=None), cache="replayed")


@IGNORE_PROVENANCE
def test_between_library_calls_and_the_roofline():
    prompt = pis.Workload.prefill(1, 4096)
    found = [
        float(pis.Setup("llama-3.1-8b", GPU, stack).speedup(pis.pruning.DynamicWidth(0.5), prompt).estimated)
        for stack in ("vendor", "fused-dynamic", "ideal")
    ]
    assert found == sorted(found)
    assert found[0] < 1.1 < 1.4 < found[1]


def test_narrow_groups_of_inputs_are_slower_than_dense():
    dense = float(pis.gemm_latency(4096, 4096, 14336, hardware=GPU, dtype="bf16"))
    assert gemm(4096, 4096, 14336, "fine_gemm_k", 32) > dense > gemm(4096, 4096, 14336, "group_gemm_k", 128)
