"""Each family of the taxonomy does to the trace what arXiv 2606.09080 says, checked against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from cases import FAMILIES, GPUS, IGNORE_PROVENANCE, MAIN_GPUS, STACKS, native, rows, total, workload

import pruninfersim as pis
from pruninfersim.pruning import (
    DynamicDepth,
    LowRank,
    SemiStructured,
    SparseAttention,
    StaticDepth,
    StaticWidth,
    StaticWidthCross,
    active_share,
    low_rank_rank,
)
from pruninfersim.trace import NEUTRAL

LAYERS = ("q", "k", "v", "o", "gate", "up", "down")


def dense(phase="prefill", batch=1, context=1024, model="llama-3.1-8b", **options):
    return pis.trace(model, workload(phase, batch, context), **options)


def sizes(trace, name):
    """m, n, k of the op called `name`."""
    op = rows(trace, name)
    assert len(op) == 1
    return float(op.m[..., 0]), float(op.n[..., 0]), float(op.k[..., 0])


# --- static depth -----------------------------------------------------------------------------------------------------


@IGNORE_PROVENANCE
@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize(("stack", "gpu"), [(s, g) for s in STACKS for g in (GPUS if s == "ideal" else MAIN_GPUS)])
def test_static_depth_follows_amdahl(stack, gpu, phase):
    """Speedup = 1 / ((1 - s)(1 - f) + f), f the share of what lies outside the layers."""
    asked = np.arange(0, 32) / 32 + 0.01
    before = dense(phase, 4, 2048, dtype=native(gpu))
    result = pis.compare(before, before.prune(StaticDepth(pis.pruning.Axis(asked))), hardware=gpu, stack=stack)
    outside = result.dense.trace.mask(blocks=["embedding", "head", "engine"])
    behind = result.dense.chain is not None and result.dense.chain.seconds > result.dense.busy
    # Where the host issues kernels more slowly than they run, launches take the place of seconds.
    spent = result.dense.trace.launches * result.dense.trace.count if behind else result.dense.seconds
    f = spent[outside].sum() / spent.sum()
    s = result.achieved["static-depth"]["attention"]
    np.testing.assert_allclose(s, np.arange(0, 32) / 32, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(result.estimated, 1 / ((1 - s) * (1 - f) + f), rtol=1e-12)
    assert 0 < f < 1


def test_static_depth_takes_everything_of_a_layer_along():
    before = dense("decode", 4, 4096)
    after = before.prune(StaticDepth(0.5))
    inside = before.mask(blocks=["attention", "mlp"])
    for column in ("flops", "traffic", "launches"):
        np.testing.assert_allclose(total(after.select(inside), column), total(before.select(inside), column) / 2)
        assert total(after.select(~inside), column) == total(before.select(~inside), column)


def test_static_depth_never_removes_more_than_asked():
    achieved = dense().prune(StaticDepth([0.0, 0.3, 0.31249, 0.3125, 0.99])).applied[0].achieved["mlp"]
    assert (achieved * 32).tolist() == [0, 9, 9, 10, 31]


def test_static_depth_by_sublayer():
    achieved = dense().prune(StaticDepth(0.25 + 1 / 64, unit="sublayer")).applied[0].achieved  # 17 of 64
    assert achieved["attention"] * 32 == pytest.approx(9)
    assert achieved["mlp"] * 32 == pytest.approx(8)


def test_a_list_of_layers_equals_the_ratio():
    before = dense("decode", 8, 4096)
    listed = before.prune(StaticDepth(layers=tuple(range(8, 24))))
    ratio = before.prune(StaticDepth(0.5))
    for column in ("flops", "traffic", "launches"):
        np.testing.assert_allclose(total(listed, column), total(ratio, column), rtol=1e-12)
    assert listed.applied[0].asked == pytest.approx(0.5)


def test_a_list_of_sublayers():
    before = dense("decode", 8, 4096)
    after = before.prune(StaticDepth(attention_layers=(1, 2, 3), mlp_layers=(3,)))
    assert rows(after, "q").count.tolist() == [29.0]
    assert rows(after, "up").count.tolist() == [31.0]
    assert rows(after, "attention").layers[0] == (0, *range(4, 32))
    achieved = after.applied[0].achieved
    assert (achieved["attention"] * 32, achieved["mlp"] * 32) == (pytest.approx(3), pytest.approx(1))


def test_a_list_knows_which_layers_are_windowed():
    before = dense("decode", 1, 100_000, model="gemma-2-9b")  # even layers see 4096 keys, odd ones everything
    local, everywhere = (before.prune(StaticDepth(layers=tuple(range(start, 42, 2)))) for start in (1, 0))
    assert rows(local, "attention").n.tolist() == [4096.0]
    assert rows(everywhere, "attention").n.tolist() == [100_000.0]
    assert total(local, "traffic") < total(everywhere, "traffic")


# --- low rank ---------------------------------------------------------------------------------------------------------


def test_rank_of_a_square_weight():
    assert low_rank_rank(4096, 4096, 0.5) == 1024
    assert low_rank_rank(4096, 4096, 0.2) == 1648  # 1638.4, rounded up to 16


def test_rank_keeps_the_parameters_asked_for():
    n, k = np.array([[4096.0], [1024.0]]), np.array([4096.0, 14336.0])
    for s in (0.1, 0.5, 0.9):
        rank = low_rank_rank(n, k, s, alignment=1)
        stored = rank * (n + k) / (n * k)
        assert np.all((stored >= 1 - s) & ((rank - 1) * (n + k) < (1 - s) * n * k + 1e-6))


def test_low_rank_runs_two_gemms_and_writes_the_middle():
    before = dense("prefill", 2, 512)
    after = before.prune(LowRank(0.5))
    assert int(after.mask(kernels=["gemm"]).sum()) == 14
    assert sizes(after, "q_a") == (1024, 1024, 4096)
    assert sizes(after, "q_b") == (1024, 4096, 1024)
    first, second = rows(after, "up_a"), rows(after, "up_b")
    assert first.out_traffic == second.a_traffic == 1024 * second.k * 2
    for name in ("attention", "kv_append", "lm_head", "act"):
        assert total(rows(after, name), "traffic") == total(rows(before, name), "traffic")


def test_low_rank_at_half_halves_flops_of_the_layers():
    after, before = dense().prune(LowRank(0.5, alignment=1)), dense()
    ratio = total(after.select(after.mask(kernels=["gemm"])), "flops") / total(rows(before, *LAYERS), "flops")
    assert ratio == pytest.approx(0.5, rel=2e-3)  # ranks are whole numbers


# --- 2:4 --------------------------------------------------------------------------------------------------------------


def test_two_of_four_bytes_and_flops():
    before, after = dense("decode"), dense("decode").prune(SemiStructured(0.5))
    twos = after.select(after.mask(kernels=["gemm_2of4"]))
    assert twos.name == LAYERS
    plain = rows(before, *LAYERS)
    assert total(twos, "b_traffic") / total(plain, "b_traffic") == 0.5625
    assert total(twos, "flops") / total(plain, "flops") == 0.5


@pytest.mark.parametrize("gpu", [g for g in GPUS if "bf16" in pis.hardware.get(g).peak_2of4])
def test_two_of_four_decode_gemm_stays_below_1_78(gpu):
    before = dense("decode")
    after = before.prune(SemiStructured(0.5))
    for name in LAYERS:
        ratio = pis.compare(rows(before, name), rows(after, name), hardware=gpu, stack="ideal").estimated
        assert 1.70 < ratio < 1 / 0.5625 < 1.78


def test_two_of_four_prefill_gemm_reaches_two_at_most():
    before = dense("prefill", 1, 16384)
    ratio = pis.compare(
        rows(before, "up"), rows(before.prune(SemiStructured(0.5)), "up"), hardware="h100-sxm", stack="ideal"
    )
    assert ratio.estimated == pytest.approx(2.0, rel=1e-3)


def test_two_of_four_converts_whole_layers():
    achieved = dense().prune(SemiStructured([0.0, 0.01, 0.25, 0.4999, 0.5])).applied[0].achieved["attention"]
    assert (achieved * 64).tolist() == [0, 0, 16, 31, 32]


def test_two_of_four_adds_a_transpose_per_sublayer():
    extra = dense("prefill", 2, 100).prune(SemiStructured(0.0))
    moved = total(extra.select(extra.mask(kernels=["transpose"])), "traffic")
    assert moved == 32 * 2 * 200 * 4096 * 2 * 2


# --- static width -----------------------------------------------------------------------------------------------------


def test_width_prunes_outputs_of_one_gemm_and_inputs_of_the_next():
    after = dense("prefill", 1, 100).prune(StaticWidth(0.5))
    assert sizes(after, "q") == (100, 2048, 4096)
    assert sizes(after, "k") == sizes(after, "v") == (100, 512, 4096)
    assert sizes(after, "o") == (100, 4096, 2048)
    assert sizes(after, "up") == sizes(after, "gate") == (100, 7168, 4096)
    assert sizes(after, "down") == (100, 4096, 7168)
    assert sizes(after, "act") == (100, 7168, 7168)
    assert sizes(after, "lm_head") == (1, 128256, 4096)


def test_width_takes_whole_kv_groups_and_halves_the_cache():
    before, after = dense("decode", 16, 4096), dense("decode", 16, 4096).prune(StaticWidth(0.5))
    assert total(rows(after, "attention"), "traffic") == total(rows(before, "attention"), "traffic") / 2
    assert total(rows(after, "attention"), "flops") == total(rows(before, "attention"), "flops") / 2
    gone = dense().prune(StaticWidth([0.0, 0.01, 0.125, 0.13, 0.99])).applied[0].achieved["attention"] * 8
    assert gone.tolist() == [0, 1, 1, 2, 7]  # ceil(s x groups), one is left


def test_ffn_widths_are_multiples_of_16():
    after = dense().prune(StaticWidth(np.linspace(0, 0.75, 40)))
    assert np.all(rows(after, "up").n % 16 == 0)
    assert np.all(np.diff(rows(after, "up").n[:, 0]) < 0)


def test_width_of_multi_query_attention_keeps_the_only_group():
    achieved = dense(model="gemma-3-1b").prune(StaticWidth(0.5)).applied[0].achieved
    assert (achieved["attention"], achieved["mlp"]) == (0.0, 0.5)


def test_width_speedup_of_the_layers_is_the_ratio_where_everything_divides():
    before = dense("prefill", 1, 4096)
    inside = rows(before, *LAYERS)
    assert total(rows(before.prune(StaticWidth(0.25)), *LAYERS), "flops") == 0.75 * total(inside, "flops")


# --- static width across layers ---------------------------------------------------------------------------------------


def test_cross_layer_width_narrows_the_residual_stream():
    before, after = dense("prefill", 1, 100), dense("prefill", 1, 100).prune(StaticWidthCross(0.25))
    assert sizes(after, "q") == (100, 4096, 3072)
    assert sizes(after, "o") == (100, 3072, 4096)
    assert sizes(after, "up") == (100, 14336, 3072)
    assert sizes(after, "down") == (100, 3072, 14336)
    assert sizes(after, "lm_head") == (1, 128256, 3072)
    assert sizes(after, "attn_norm") == sizes(after, "final_norm") == sizes(after, "embedding") == (100, 3072, 3072)
    for name in ("attention", "kv_append", "rope"):
        assert total(rows(after, name), "traffic") == total(rows(before, name), "traffic")


def test_cross_layer_width_adds_two_square_projections_per_layer():
    extra = rows(dense("prefill", 1, 100).prune(StaticWidthCross(0.25)), "residual_attention", "residual_mlp")
    assert total(extra, "flops") == 32 * 2 * 2 * 100 * 3072**2
    assert extra.kernel == ("gemm", "gemm")


# --- dynamic depth ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_weights_are_read_if_any_token_of_the_batch_is_active(batch):
    up = rows(dense("decode", batch).prune(DynamicDepth(0.5)), "up")
    assert up.b_reads == 1 - 0.5**batch
    assert active_share(8, 0.5) == 1 - 0.5**8


def test_dynamic_depth_at_batch_one_is_the_average_of_kept_and_skipped():
    before, after = dense("decode", 1, 8192), dense("decode", 1, 8192).prune(DynamicDepth(0.5))
    token_wise = ("q", "o", "gate", "up", "down", "attention")
    assert total(rows(after, *token_wise), "flops") == total(rows(before, *token_wise), "flops") / 2
    assert total(rows(after, *token_wise), "traffic") == pytest.approx(
        total(rows(before, *token_wise), "traffic") / 2, rel=1e-12
    )


def test_dynamic_depth_keeps_k_v_and_the_cache():
    before, after = dense("prefill", 2, 512), dense("prefill", 2, 512).prune(DynamicDepth(0.5))
    for name in ("k", "v", "kv_append", "attn_norm", "lm_head"):
        assert total(rows(after, name), "traffic") == total(rows(before, name), "traffic")
        assert rows(after, name).kernel == rows(before, name).kernel


def test_routers_and_mask_sorts_of_every_sublayer():
    extra = dense("prefill", 2, 512).prune(DynamicDepth(0.0))
    router = extra.select(extra.mask(kernels=["router"]))
    assert total(router, "flops") == 32 * 2 * 2 * 1024 * (4096 * 16 + 16 * 2)
    assert total(extra.select(extra.mask(kernels=["mask_sort"])), "launches") == 64


def test_tokens_are_packed_into_tiles_in_prefill():
    up = rows(dense("prefill", 1, 4096).prune(DynamicDepth(0.5)), "up")
    assert (float(up.m[0]), float(up.mac_fraction[0]), float(up.b_reads[0])) == (4096, 0.5, 1.0)


# --- block-sparse attention -------------------------------------------------------------------------------------------


def test_decode_reads_the_chosen_blocks_only():
    before, after = dense("decode", 4, 8192), dense("decode", 4, 8192).prune(SparseAttention(0.75))
    assert rows(after, "attention").b_traffic == rows(before, "attention").b_traffic / 4
    assert total(rows(after, "attention"), "flops") == total(rows(before, "attention"), "flops") / 4


def test_prefill_skips_work_but_reads_every_key_once():
    before, after = dense("prefill", 1, 8192), dense("prefill", 1, 8192).prune(SparseAttention(0.75))
    assert total(rows(after, "attention"), "flops") == total(rows(before, "attention"), "flops") / 4
    assert rows(after, "attention").traffic == rows(before, "attention").traffic


def test_scores_of_pooled_blocks():
    score = rows(dense("prefill", 2, 1600).prune(SparseAttention(0.5)), "block_score")
    assert total(score, "flops") == pytest.approx(32 * 2 * (2 * 32) * 100 * 100 * 128 / 2)  # causal: half
    step = rows(dense("decode", 2, 1605).prune(SparseAttention(0.5)), "block_score")
    assert (float(step.m[0]), float(step.n[0])) == (1, 101)


def test_everything_but_attention_stays():
    before, after = dense("decode", 4, 8192), dense("decode", 4, 8192).prune(SparseAttention(0.75))
    for name in set(before.name) - {"attention"}:
        assert total(rows(after, name), "traffic") == total(rows(before, name), "traffic")


# --- what all families share ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_record_of_what_was_asked_and_achieved(family):
    after = dense().prune(pis.pruning.get(family, [0.1, 0.5]))
    assert after.applied[0].method == family
    assert after.applied[0].asked.tolist() == [0.1, 0.5]
    for value in after.applied[0].achieved.values():
        assert np.all(np.abs(value - [0.1, 0.5]) <= 1 / 8 + 1e-12) or np.all(value == 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_head_is_never_pruned_but_by_the_cross_layer_family(family):
    before = dense(batch=4)
    after = before.prune(pis.pruning.get(family, 0.5))
    expected = 0.5 if family == "static-width-cross" else 1.0
    assert total(rows(after, "lm_head"), "flops") == expected * total(rows(before, "lm_head"), "flops")


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_leave_the_trace_alone_and_themselves(family):
    before = dense("decode", [1, 8])
    copies = {name: np.array(getattr(before, name)) for name in NEUTRAL}
    ratio = np.array([0.1, 0.5])
    method = pis.pruning.get(family, ratio)
    before.prune(method)
    for name, copy in copies.items():
        np.testing.assert_array_equal(getattr(before, name), copy)
    assert ratio.tolist() == [0.1, 0.5]
    with pytest.raises(AttributeError):
        method.sparsity = 0.3
