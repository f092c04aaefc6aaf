"""What stacks know of the software that they stand for, beside its kernels: published defaults, where caches end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis
from pruninfersim.models.architectures.attention import Attention
from pruninfersim.models.architectures.linear_attention import DeltaNet, Mamba2
from pruninfersim.models.architectures.routing import busiest_rank, skewed_counts
from pruninfersim.models.architectures.rows import Rows
from pruninfersim.trace import OpTrace

pytestmark = IGNORE_PROVENANCE

#: Share of the memory that an engine takes where nobody says: vLLM's --gpu-memory-utilization, TensorRT-LLM's
#: free_gpu_memory_fraction; SGLang works its share out, near the same.
SHARES = {"vllm": 0.9, "vllm-0.5": 0.9, "tensorrt-llm": 0.9, "tensorrt-llm-0.9": 0.9, "sglang": 0.9}


@pytest.mark.parametrize("stack", SHARES)
def test_memory_that_an_engine_takes(stack):
    """All that it takes is weights, room for the largest step, the runtime, and keys and values."""
    found = pis.capacity(model="llama-3.1-8b", hardware="h100-sxm", stack=stack)
    assert found.memory_share == SHARES[stack]
    parts = found.weight_bytes + found.activation_bytes + found.reserve + found.kv_bytes
    assert parts == pytest.approx(SHARES[stack] * found.memory, rel=1e-9)
    assert found.activation_bytes > 0
    assert found.kv_bytes_per_token == 2 * 32 * 8 * 128 * 2  # layers, KV heads and head size of Llama 3.1 8B, bf16
    assert found.kv_tokens == pytest.approx(found.kv_bytes / found.kv_bytes_per_token, rel=1e-3)


def test_a_replayed_benchmark_finds_what_fits_into_l2_there():
    """The stream of small-m GEMMs: DRAM when cold; L2 when replayed and all operands fit, and DRAM again when not."""
    gpu = pis.hardware.get("rtx-pro-6000")
    kernel = pis.stacks.get("paper", gpu).priced("gemm", "bf16").model
    for n, fits in ((4096.0, True), (65536.0, False)):
        op = OpTrace.from_rows([{"name": "x", "kernel": "gemm", "gemms": 1, "m": 1, "n": n, "k": 4096.0}])
        size = 2 * (n * 4096 + n + 4096)
        assert (size < gpu.l2_size) == fits
        cold, replayed = (
            float(kernel.stream(op, gpu, cache)[0]) - kernel.stream_start for cache in ("cold", "replayed")
        )
        assert size / cold == pytest.approx(kernel.memory_efficiency * gpu.memory_bandwidth)
        share = kernel.replay_bandwidth if fits else kernel.memory_efficiency
        assert size / replayed == pytest.approx(share * gpu.memory_bandwidth)
        assert replayed <= cold
    without = replace(kernel, replay_bandwidth=kernel.memory_efficiency)
    np.testing.assert_array_equal(without.stream(op, gpu, "replayed"), without.stream(op, gpu, "cold"))


@pytest.mark.parametrize("gpu", ["tpu-v6e", "gaudi3", "h100-sxm", "l40s"])
def test_copies_around_token_wise_gemms_are_launched_once(gpu):
    """Gather and scatter are ops of their own, so that a token-wise GEMM is as many launches as a dense one."""
    stack = pis.stacks.get("vendor", pis.hardware.get(gpu))
    lowered = stack.predict(pis.trace("llama-3.1-8b", phase="prefill").prune(pis.pruning.DynamicDepth(0.5))).trace
    assert {"gather_attention", "scatter_attention", "gather_mlp", "scatter_mlp"} <= set(lowered.name)
    assert stack.priced("token_gemm", "bf16").launches == stack.priced("gemm", "bf16").launches


def test_a_gate_reads_what_it_multiplies_and_writes_it_once():
    """Two inputs as wide as the queries, one output: 3 elements of 2 bytes a token."""
    work = pis.Workload.decode(8, 1024)
    made = Attention(heads=32, kv_heads=8, head_dim=128, gate=True).rows(Rows.of(work, "bf16"), range(4), 4096)
    (gate,) = (row for row in made if row["name"] == "attn_gate")
    assert float(OpTrace.from_rows([gate]).traffic[0]) == 3 * 8 * 4096 * 2.0


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize(("tokens", "top_k", "experts"), [(256, 8, 128), (512, 2, 8)])
def test_the_busiest_rank_is_that_of_drawn_tokens(tokens, top_k, experts, ranks):
    """Every token draws its experts, which sit on ranks in order: the load of the fullest, over the mean."""
    rng = np.random.default_rng(0)
    fullest = []
    for _ in range(1000):
        chosen = rng.random((tokens, experts)).argpartition(top_k, axis=1)[:, :top_k]
        loads = np.bincount(chosen.reshape(-1), minlength=experts).reshape(ranks, -1).sum(axis=1)
        fullest.append(loads.max() / loads.mean())
    found = float(busiest_rank(tokens, top_k, experts, ranks, "uniform"))
    assert found - 1.0 == pytest.approx(np.mean(fullest) - 1.0, rel=0.08)


@pytest.mark.parametrize(("ranks", "close"), [(2, 0.06), (4, 0.06), (8, 0.12)])
def test_the_busiest_rank_of_skewed_experts_is_that_of_a_shuffle(ranks, close):
    """Few popular experts have a heavier tail than a normal variable: the more ranks, the further off."""
    rng = np.random.default_rng(0)
    counts = skewed_counts(1024, 64, 128, "power_law_1.2")
    loads = [rng.permutation(counts).reshape(ranks, -1).sum(axis=1).max() for _ in range(10_000)]
    found = float(busiest_rank(1024, 8, 128, ranks, "power_law_1.2"))
    assert found - 1.0 == pytest.approx(np.mean(loads) / counts.sum() * ranks - 1.0, rel=close)


LINEAR = {
    "mamba2": Mamba2(heads=64, head_dim=64, state=128, groups=8, conv=4),
    "delta": DeltaNet(key_heads=16, key_dim=128, value_heads=32, value_dim=128, conv=4),
}


@pytest.mark.parametrize("kind", LINEAR)
def test_labels_follow_the_values(kind):
    """What the last projection reads is what the norm before it writes: one width, and one name of it."""
    made = LINEAR[kind].rows(Rows.of(pis.Workload.decode(8, 1024), "bf16"), range(4), 2688)
    norm, out = (next(row for row in made if row["name"] == name) for name in ("gated_norm", "out_proj"))
    assert (norm["n"], norm["n_axis"], norm["k_axis"]) == (out["k"], out["k_axis"], out["k_axis"])
