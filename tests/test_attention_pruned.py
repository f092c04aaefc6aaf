"""Attention that is skipped: by tokens (dynamic depth) and by blocks (sparse attention)."""

from __future__ import annotations

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis
from pruninfersim import hardware, stacks
from pruninfersim.kernels.attention_pruned import BlockSparseAttention, on_plain_tensor_cores
from pruninfersim.pruning.dynamic_depth import DynamicDepth
from pruninfersim.pruning.sparse_attention import SparseAttention

pytestmark = IGNORE_PROVENANCE


def spent(trace: pis.OpTrace, gpu: str, *names: str, stack: str = "vendor") -> float:
    """Milliseconds of some ops of a step."""
    found = pis.estimate(trace, hardware=gpu, stack=stack)
    return 1e3 * float(found.seconds[..., found.trace.mask(names=list(names))].sum())


# --- dynamic depth --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sparsity", "share"), [(0.5, 0.5), (0.9, 0.1), (0.99, 0.01)])
@pytest.mark.parametrize("stack", ["vendor", "paper"])
def test_attention_of_a_lone_sequence_is_skipped_as_often_as_its_token(
    sparsity: float, share: float, stack: str
) -> None:
    dense = pis.trace("llama-3.1-8b", pis.Workload.decode(batch=1, context=131072))
    whole = spent(dense, "h100-sxm", "attention", stack=stack)
    got = spent(dense.prune(DynamicDepth(sparsity)), "h100-sxm", "attention", stack=stack)
    # 32 layers x gather and scatter that find nothing to do.
    assert whole * share <= got <= whole * share + 0.25


@pytest.mark.parametrize("batch", [1, 2, 8, 32])
@pytest.mark.parametrize("gpu", ["h100-sxm", "a100-sxm-80gb", "b200-sxm"])
def test_expected_attention_is_that_of_the_binomial(batch: int, gpu: str) -> None:
    # The expectation over the number of kept sequences, one by one.
    keep = 0.1
    dense = pis.trace("llama-3.1-8b", pis.Workload.decode(batch=batch, context=32768))
    got = spent(dense.prune(DynamicDepth(1 - keep)), gpu, "attention")
    chance, want = (1 - keep) ** batch, 0.0
    for kept in range(1, batch + 1):
        chance *= (batch - kept + 1) / kept * keep / (1 - keep)
        some = pis.trace("llama-3.1-8b", pis.Workload.decode(batch=kept, context=32768))
        want += chance * spent(some, gpu, "attention")
    # Where no sequence is kept, a small kernel starts and finds nothing to do.
    assert got == pytest.approx(want + 32 * (1 - keep) ** batch * 2e-3, rel=0.08)


def test_one_more_sequence_does_not_make_dynamic_depth_faster() -> None:
    batch = np.arange(1, 65)
    for gpu in ("mi325x", "h100-sxm"):
        for sparsity in (0.3, 0.9):
            trace = pis.trace("llama-3.1-8b", pis.Workload.decode(batch=batch, context=4096))
            found = pis.estimate(trace.prune(DynamicDepth(sparsity)), hardware=gpu)
            attention = found.seconds[..., found.trace.mask(names=["attention"])].sum(axis=-1)
            assert (attention[1:] > 0.97 * attention[:-1]).all()


# --- blocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_small_blocks_hardly_ever_leave_a_tile_empty(sparsity: float) -> None:
    dense = pis.trace("llama-3.1-8b", pis.Workload.prefill(1, 32768))
    sizes = (1, 8, 16, 32, 64, 128, 256)
    step = [dense.prune(SparseAttention(sparsity, block_size=size)) for size in sizes]
    gpu = hardware.get("a100-sxm-80gb")
    row = [trace.select(trace.mask(kernels=["block_sparse_prefill"])) for trace in step]
    model = stacks.get("vendor", gpu).priced("block_sparse_prefill", "bf16").model
    assert isinstance(model, BlockSparseAttention)
    live = [float(model.live(ops)[0]) for ops in row]
    # Every block of 16 in a tile of 128 x 128 would have to go: 64 of them; of 64, four.
    assert live[2] == pytest.approx(1 - sparsity**64)
    assert live[4] == pytest.approx(1 - sparsity**4)
    assert live[5] == live[6] == pytest.approx(1 - sparsity)
    times = [spent(trace, "a100-sxm-80gb", "attention") for trace in step]
    assert times == sorted(times, reverse=True)
    assert times[2] > 1.05 * spent(dense, "a100-sxm-80gb", "attention")
    extra = [spent(trace, "a100-sxm-80gb", "block_score", "block_index") for trace in step]
    assert extra == sorted(extra, reverse=True)
    assert extra[0] > 100 * extra[2]


def test_tiles_are_live_as_often_as_in_random_patterns() -> None:
    rng = np.random.default_rng(0)
    for grain, kept in ((16, 0.02), (32, 0.1), (64, 0.3)):
        side = 128 // grain
        pattern = rng.random((4000, side, side)) < kept
        dense = pis.trace("llama-3.1-8b", pis.Workload.prefill(1, 4096)).prune(SparseAttention(1 - kept, grain))
        row = dense.select(dense.mask(kernels=["block_sparse_prefill"]))
        model = stacks.get("vendor", hardware.get("l40s")).priced("block_sparse_prefill", "bf16").model
        assert isinstance(model, BlockSparseAttention)
        assert float(model.live(row)[0]) == pytest.approx(pattern.any(axis=(1, 2)).mean(), abs=0.03)


@pytest.mark.parametrize(("tokens", "speedup"), [(8192, 4.0), (16384, 5.556), (65536, 7.692)])
def test_block_sparse_attention_is_as_published(tokens: int, speedup: float) -> None:
    # Block-Sparse-Attention, blocks of 128, A100, 90 % sparse (github.com/mit-han-lab/Block-Sparse-Attention, figure):
    # the cost of a tile's list was set by it. The overhead is 14 % of the dense time at 8192 tokens.
    dense = pis.trace("llama-2-7b", pis.Workload.prefill(1, tokens))
    pruned = dense.prune(SparseAttention(0.9, block_size=128))
    before = spent(dense, "a100-sxm-80gb", "attention")
    assert before / spent(pruned, "a100-sxm-80gb", "attention") == pytest.approx(speedup, rel=0.03)


def test_windows_keep_their_band_whatever_the_pattern() -> None:
    dense = pis.trace("gemma-3-1b", pis.Workload.prefill(1, 32768))
    small = spent(dense.prune(SparseAttention(0.9, block_size=16)), "a100-sxm-80gb", "attention")
    # Small blocks save nothing: about the dense time at the rate and with the lists of the kernel.
    assert small < 1.8 * spent(dense, "a100-sxm-80gb", "attention")


def test_block_sparse_kernels_are_measured_against_flash_attention_2() -> None:
    gpu = hardware.get("h100-sxm")
    dense = stacks.get("vendor", gpu).priced("attention_prefill", "bf16").model
    ops = pis.trace("llama-3.1-8b", pis.Workload.prefill(1, 16384))
    row = ops.select(ops.mask(names=["attention"]))
    rate = row.flops[0] / on_plain_tensor_cores(dense).latency(row, gpu)[0] / gpu.peak_flops("bf16")
    assert rate == pytest.approx(0.35, rel=0.1)  # arXiv 2407.08608, abstract
    # FlashAttention 3 is 1.5 to 2 times as fast (the same abstract).
    ratio = on_plain_tensor_cores(dense).latency(row, gpu)[0] / dense.latency(row, gpu)[0]
    assert 1.5 < ratio < 2.0
    ada = hardware.get("l40s")
    plain = stacks.get("vendor", ada).priced("attention_prefill", "bf16").model
    assert on_plain_tensor_cores(plain) == plain
