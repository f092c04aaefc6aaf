"""Mistakes that other simulators of this field made; each has a test here."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE, MAIN_GPUS, STACKS, rows, total, workload

import pruninfersim as pis

PACKAGE = Path(pis.__file__).parent


def dense(phase, batch=1, context=1024, **options):
    return pis.trace("llama-3.1-8b", workload(phase, batch, context, **options))


def test_lm_head_at_all_of_its_flops():
    head = rows(dense("decode", 4), "lm_head")
    assert float(total(head, "flops")) == 2 * 4 * 4096 * 128256  # one MAC is two FLOPs


def test_kv_read_once_per_kv_head_not_per_query_head():
    step = rows(dense("decode", 1, 4096), "attention")
    assert float(total(step, "b_traffic")) == 32 * 4096 * 2 * 8 * 128 * 2  # 8 KV heads, not 32
    assert float(total(step, "flops")) == 32 * 4096 * 4 * 32 * 128  # but every query head works


def test_causal_attention_at_half_of_the_square():
    causal, full = (
        float(total(rows(dense("prefill", 1, 4096, causal=c), "attention"), "flops")) for c in (True, False)
    )
    assert full == 4 * 32 * 32 * 128 * 4096**2
    assert causal == full / 2


def test_kv_cache_is_read_and_not_rewritten():
    short, long = dense("decode", 8, 100), dense("decode", 8, 100_000)
    written = [float(total(rows(step, "kv_append"), "out_traffic")) for step in (short, long)]
    assert written == [32 * 8 * 2 * 8 * 128 * 2] * 2  # one token each, however long the context
    more = float(total(long, "traffic") - total(short, "traffic"))
    assert more == 32 * 8 * 99_900 * 2 * 8 * 128 * 2  # read once, nothing else grows


def test_gb_is_not_gib():
    for gpu, gigabytes in [("h100-sxm", 80), ("a100-sxm-80gb", 80), ("rtx-4090", 24), ("h200-sxm", 141)]:
        assert pis.hardware.get(gpu).memory_size == gigabytes * 1e9
    assert pis.hardware.get("h100-sxm").memory_bandwidth == 3350e9


@IGNORE_PROVENANCE
@pytest.mark.parametrize("gpu", MAIN_GPUS)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("family", ["dense", *pis.pruning.METHODS])
def test_a_decode_step_takes_at_least_the_time_to_read_its_weights(family, stack, gpu):
    step = dense("decode", np.array([1, 8, 64]))
    if family != "dense":
        step = step.prune(pis.pruning.get(family, 0.5))
    weights = step.select(step.mask(kernels=["gemm", "gemm_2of4", "token_gemm", "lm_head"]))
    least = total(weights, "b_traffic") / pis.hardware.get(gpu).memory_bandwidth
    assert np.all(pis.estimate(step, hardware=gpu, stack=stack).latency >= least)


@IGNORE_PROVENANCE
@pytest.mark.parametrize("gpu", MAIN_GPUS)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("family", ["static-width", "static-width-cross", "low-rank"])
def test_pruning_one_per_cent_does_not_cost_half(family, phase, stack, gpu):
    """Another simulator priced 14336 -> 14192 columns as 48 % slower."""
    result = pis.speedup(
        model="llama-3.1-8b", hardware=gpu, method=family, sparsity=[0.0, 0.01], phase=phase, stack=stack, batch=8
    )
    assert result.estimated[1] > 0.9 * result.estimated[0]


def test_lm_head_runs_on_the_last_token_unless_asked_for():
    last, every = dense("prefill", 2, 1000), dense("prefill", 2, 1000, logits="all")
    assert rows(last, "lm_head").m.tolist() == [2.0]
    assert rows(every, "lm_head").m.tolist() == [2000.0]
    assert (last.workload.logits, every.workload.logits) == ("last", "all")  # and the trace says which


def test_no_torch():
    code = """
import sys, pruninfersim as pis
pis.speedup(model="llama-3.1-8b", hardware="h100-sxm", method="low-rank", sparsity=0.5, stack="ideal")
pis.testing, pis.plots, pis.pareto
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_only_the_micro_benchmarks_name_torch():
    for file in PACKAGE.rglob("*.py"):
        if "measure" in file.relative_to(PACKAGE).parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "torch"], file
