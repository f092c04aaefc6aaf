"""One ratio, one per layer, one per block, and several methods after each other."""

from __future__ import annotations

import numpy as np
import pytest
from cases import FAMILIES, rows, total, workload

import pruninfersim as pis
from pruninfersim.errors import InvalidInputError
from pruninfersim.pruning import (
    DynamicDepth,
    LowRank,
    PerBlock,
    PerLayer,
    SemiStructured,
    SparseAttention,
    StaticDepth,
    StaticWidth,
    StaticWidthCross,
)

PER_LAYER = [f for f in FAMILIES if f != "static-depth"]
MODELS = ("llama-3.1-8b", "gemma-2-9b")


def same_totals(left, right, rtol=1e-12):
    for column in ("flops", "traffic", "launches"):
        np.testing.assert_allclose(total(left, column), total(right, column), rtol=rtol, err_msg=column)
    seconds = [np.asarray(pis.estimate(side, hardware="h100-sxm", stack="ideal").latency) for side in (left, right)]
    np.testing.assert_allclose(*seconds, rtol=rtol)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("family", PER_LAYER)
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_equal_ratios_per_layer_are_the_single_ratio(family, model, phase, sparsity):
    dense = pis.trace(model, workload(phase, [1, 8], 5000))
    layers = pis.models.get(model).num_layers
    one, many = (
        dense.prune(pis.pruning.get(family, ratio)) for ratio in (sparsity, PerLayer(np.full(layers, sparsity)))
    )
    same_totals(one, many)
    for block, value in one.applied[0].achieved.items():
        np.testing.assert_allclose(many.applied[0].achieved[block], value, rtol=1e-12, atol=1e-12)
    assert many.applied[0].asked == pytest.approx(sparsity)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "static-width-cross"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_equal_ratios_per_block_are_the_single_ratio(family, phase):
    dense = pis.trace("llama-3.1-8b", workload(phase, [1, 8], 5000))
    one, two = (dense.prune(pis.pruning.get(family, ratio)) for ratio in (0.25, PerBlock(0.25, 0.25)))
    same_totals(one, two)


def test_a_ratio_per_block_prunes_that_block_only():
    dense = pis.trace("llama-3.1-8b", workload("decode", 8, 4096))
    for family in ("static-depth", "low-rank", "semi-structured", "static-width"):
        pruned = dense.prune(pis.pruning.get(family, PerBlock(mlp=0.5)))
        side = pruned.select(pruned.mask(kernels=["gemm", "attention_decode"], blocks=["attention"]))
        if family != "low-rank":  # which factors every weight, at ratio 0 too
            before = dense.select(dense.mask(kernels=["gemm", "attention_decode"], blocks=["attention"]))
            assert total(side, "flops") == total(before, "flops")
        assert pruned.applied[0].achieved["mlp"] == pytest.approx(0.5, abs=3e-3)
        # A half of the MLPs, which hold 176 of 218 million weights of a layer.
        assert pruned.applied[0].asked == pytest.approx(0.5 * 3 * 14336 / (3 * 14336 + 2 * 4096 + 2 * 1024), rel=1e-12)


def test_token_wise_layers_claim_what_their_block_was_asked_for():
    dense = pis.trace("llama-3.1-8b", pis.Workload.prefill(1, 512))
    (note,) = dense.prune(DynamicDepth(PerBlock(attention=0.25, mlp=0.5))).applied
    asked = {"q": 0.25, "k": 0.25, "v": 0.25, "o": 0.25, "gate": 0.5, "up": 0.5, "down": 0.5}
    assert {role: float(note.by_role[role]) for role in asked} == asked


def test_memory_along_a_sweep_is_that_of_its_points():
    # Of this method, the table of embeddings shrinks along the sweep.
    dense = pis.trace("llama-3.1-8b", pis.Workload.decode())
    sparsity = [0.0, 0.25, 0.5]
    along = pis.memory(dense.prune(StaticWidthCross(np.array(sparsity)))).total
    np.testing.assert_allclose(
        along, [pis.memory(dense.prune(StaticWidthCross(s))).total for s in sparsity], rtol=1e-12
    )


def test_unequal_ratios_per_layer_prune_their_own_layer():
    dense = pis.trace("llama-3.1-8b", workload("decode", 1, 4096))
    ratios = np.zeros(32)
    ratios[5] = 0.5
    pruned = dense.prune(StaticWidth(PerLayer(ratios)))
    width = {layers[0]: n for layers, n in zip(rows(pruned, "up").layers, rows(pruned, "up").n, strict=True)}
    assert {layer for layer, n in width.items() if n == 7168} == {5}
    assert {n for layer, n in width.items() if layer != 5} == {14336.0}
    heads = rows(pruned, "attention")
    assert heads.b_batch.tolist() == [4.0 if layers == (5,) else 8.0 for layers in heads.layers]


def test_residual_projections_are_as_wide_as_their_layer():
    ratios = np.where(np.arange(32) < 16, 0.5, 0.0)
    pruned = pis.trace("llama-3.1-8b", workload("prefill", 1, 10)).prune(StaticWidthCross(PerLayer(ratios)))
    extra = rows(pruned, "residual_attention")
    assert total(extra, "flops") == 2 * 10 * (16 * 2048**2 + 16 * 4096**2)
    assert rows(pruned, "embedding").k.tolist() == [2048.0]  # as the first layer
    assert rows(pruned, "lm_head").k.tolist() == [4096.0]  # as the last


def test_ratios_per_layer_over_a_sweep():
    ratios = np.linspace(0, 0.6, 3)[:, None] * np.ones(32)
    dense = pis.trace("llama-3.1-8b", workload("decode", np.array([1, 8])[:, None], 4096))
    many = dense.prune(LowRank(PerLayer(ratios)))
    assert many.sweep_shape == (2, 3)
    same_totals(dense.prune(LowRank(np.linspace(0, 0.6, 3))), many)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("model", MODELS)
def test_methods_see_through_the_fold(family, model):
    dense = pis.trace(model, workload("decode", 4, 6000))
    same_totals(dense.prune(pis.pruning.get(family, 0.37)), dense.unfold().prune(pis.pruning.get(family, 0.37)))


# --- several methods --------------------------------------------------------------------------------------------------


def test_width_then_two_of_four():
    dense = pis.trace("llama-3.1-8b", workload("decode", 1, 4096))
    both = dense.prune(StaticWidth(0.5), SemiStructured(0.5))
    weights = both.select(both.mask(kernels=["gemm_2of4"]))
    assert total(weights, "b_traffic") == 32 * (4096 * (2 * 2048 + 2 * 512) + 3 * 4096 * 7168) * 2 * 0.5625
    assert [applied.method for applied in both.applied] == ["static-width", "semi-structured"]
    result = pis.compare(dense, both, hardware="h100-sxm", stack="ideal")
    assert result.claim == pytest.approx(4.0)
    assert set(result.achieved) == {"static-width", "semi-structured"}


def test_depth_commutes_with_methods_that_work_inside_a_layer():
    dense = pis.trace("llama-3.1-8b", workload("prefill", 2, 2000))
    for family in [f for f in FAMILIES if f != "static-depth"]:
        inner, depth = pis.pruning.get(family, 0.25), StaticDepth(0.5)
        same_totals(dense.prune(inner, depth), dense.prune(depth, inner))


@pytest.mark.parametrize("other", [LowRank(0.3), StaticWidth(0.5), SemiStructured(0.5), StaticWidthCross(0.25)])
def test_sparse_attention_combines_with_every_weight_pruning(other):
    dense = pis.trace("llama-3.1-8b", workload("decode", 8, 8192))
    alone, first, last = (
        dense.prune(*methods) for methods in ([other], [other, SparseAttention(0.5)], [SparseAttention(0.5), other])
    )
    same_totals(first, last)
    assert total(rows(first, "attention"), "flops") == total(rows(alone, "attention"), "flops") / 2


def test_cross_layer_width_then_width():
    dense = pis.trace("llama-3.1-8b", workload("prefill", 1, 100))
    both = dense.prune(StaticWidthCross(0.5), StaticWidth(0.5))
    up = rows(both, "up")
    assert (float(up.n[0]), float(up.k[0])) == (7168, 2048)


def test_routers_follow_the_narrower_stream():
    dense = pis.trace("llama-3.1-8b", workload("prefill", 1, 100))
    router = rows(dense.prune(StaticWidthCross(0.5), DynamicDepth(0.5)), "router_mlp_a")
    assert router.k.tolist() == [2048.0]


def test_depth_twice_removes_a_share_of_what_is_left():
    dense = pis.trace("llama-3.1-8b", workload("decode", 1, 4096))
    twice = dense.prune(StaticDepth(0.5), StaticDepth(0.5))
    assert rows(twice, "up").count.tolist() == [8.0]


def test_width_twice_leaves_whole_heads():
    dense = pis.trace("llama-3.1-8b", workload("decode", 1, 4096))
    twice = rows(dense.prune(StaticWidth(0.5), StaticWidth(0.3)), "attention")  # 8 groups, 4, then 2 of these 4 go
    assert twice.b_batch.tolist() == [2.0]
    assert twice.batch.tolist() == [8.0]


# --- bad input --------------------------------------------------------------------------------------------------------

MAKERS = {family: pis.pruning.METHODS[family] for family in FAMILIES}


@pytest.mark.parametrize("bad", [-0.1, 1.0, 1.2, np.nan, np.inf, "half", [0.2, 1.0], None])
@pytest.mark.parametrize("family", FAMILIES)
def test_sparsity_is_a_fraction_below_one(family, bad):
    with pytest.raises(InvalidInputError, match="sparsity"):
        MAKERS[family](bad)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "static-depth"])
def test_ratios_inside_containers_are_checked_too(family):
    with pytest.raises(InvalidInputError, match="of mlp must be in"):
        MAKERS[family](PerBlock(attention=0.1, mlp=1.0))
    with pytest.raises(InvalidInputError, match="per layer must be in"):
        MAKERS[family](PerLayer([0.1, -0.2]))


@pytest.mark.parametrize("bad", [0.51, [0.5, 0.6], PerBlock(mlp=0.7), PerLayer([0.6] * 32)])
def test_two_of_four_removes_half_at_most(bad):
    with pytest.raises(InvalidInputError, match=r"\[0, 0.5\]"):
        SemiStructured(bad)


@pytest.mark.parametrize("shape", [(), (31,), (33,), (32, 2)])
@pytest.mark.parametrize("family", PER_LAYER)
def test_one_ratio_per_layer_is_needed(family, shape):
    method = MAKERS[family](PerLayer(np.full(shape, 0.25)))
    with pytest.raises(InvalidInputError, match="one ratio per layer, last axis 32"):
        pis.trace("llama-3.1-8b", workload("decode")).prune(method)


def test_a_table_of_no_layers_is_refused_where_a_method_gets_it():
    with pytest.raises(InvalidInputError, match="is empty; give at least one number"):
        LowRank(PerLayer([]))


def test_depth_takes_no_ratio_per_layer_and_no_layers_that_do_not_exist():
    with pytest.raises(InvalidInputError, match="list the removed ones"):
        StaticDepth(PerLayer([0.5] * 32))
    with pytest.raises(InvalidInputError, match="not both"):
        StaticDepth(0.5, layers=(1, 2))
    dense = pis.trace("llama-3.1-8b", workload("decode"))
    for layers in [(32,), (-1,)]:
        with pytest.raises(InvalidInputError, match="layers 0 to 31"):
            dense.prune(StaticDepth(layers=layers))


@pytest.mark.parametrize("layers", [(1.5,), ("first",), 3, (np.nan,), None])
def test_layers_are_whole_numbers(layers):
    with pytest.raises(InvalidInputError, match="layers must be a"):
        StaticDepth(layers=layers)


def test_layers_may_be_an_array():
    dense = pis.trace("llama-3.1-8b", workload("decode"))
    assert rows(dense.prune(StaticDepth(layers=np.arange(4))), "up").count.tolist() == [28.0]


def test_cross_layer_width_takes_no_ratio_per_block():
    with pytest.raises(InvalidInputError, match="one ratio, or PerLayer"):
        pis.trace("llama-3.1-8b", workload("decode")).prune(StaticWidthCross(PerBlock(0.1, 0.2)))


def test_sparsity_sweeps_must_broadcast_with_the_workload():
    dense = pis.trace("llama-3.1-8b", workload("decode", [1, 2, 4]))
    for family in FAMILIES:
        with pytest.raises(InvalidInputError, match="broadcast"):
            dense.prune(pis.pruning.get(family, [0.1, 0.2]))


@pytest.mark.parametrize("bad", [0, -16, 2.5, np.nan])
@pytest.mark.parametrize("make", [LowRank, StaticWidth, StaticWidthCross])
def test_alignment_is_a_positive_whole_number(make, bad):
    with pytest.raises(InvalidInputError, match="alignment"):
        make(0.5, alignment=bad)


def test_nothing_left_to_prune():
    dense = pis.trace("llama-3.1-8b", workload("decode"))
    bare = dense.prune(StaticDepth(attention_layers=tuple(range(32))))
    for method in (SemiStructured(0.5), StaticWidthCross(0.5), DynamicDepth(0.5)):
        with pytest.raises(InvalidInputError, match="no attention block left"):
            bare.prune(method)


def test_a_trace_without_a_model_says_what_is_missing():
    bare = pis.OpTrace.from_rows([{"name": "q", "kernel": "gemm", "gemms": 1, "m": 1, "n": 16, "k": 16}])
    with pytest.raises(InvalidInputError, match="needs the model"):
        bare.prune(StaticWidth(0.5))


# --- methods on top of each other -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pis.pruning.SemiStructured(0.5), pis.pruning.LowRank(0.5)),
        (pis.pruning.DynamicDepth(0.5), pis.pruning.SemiStructured(0.5)),
        (pis.pruning.SemiStructured(0.5), pis.pruning.DynamicDepth(0.5)),
        (pis.pruning.DynamicDepth(0.5), pis.pruning.SparseAttention(0.5)),
        (pis.pruning.SparseAttention(0.5), pis.pruning.DynamicDepth(0.5)),
        (pis.pruning.LowRank(0.5), pis.pruning.LowRank(0.25)),
    ],
)
def test_a_combination_without_a_kernel_is_refused_not_passed_over(first, second):
    dense = pis.trace("llama-3.1-8b", pis.Workload.decode(batch=8, context=1024))
    with pytest.raises(pis.errors.InvalidInputError, match="already"):
        dense.prune(first, second)


@pytest.mark.parametrize("second", [pis.pruning.SemiStructured(0.5), pis.pruning.DynamicDepth(0.5)])
def test_low_rank_halves_can_be_pruned_again(second):
    dense = pis.trace("llama-3.1-8b", pis.Workload.decode(batch=8, context=1024))
    low_rank = dense.prune(pis.pruning.LowRank(0.25))
    both = low_rank.prune(second)
    halves = low_rank.mask(names=["up_a", "up_b"])
    again = both.mask(names=["up_a", "up_b"])
    flops = [float((t.flops * t.count)[which].sum()) for t, which in ((low_rank, halves), (both, again))]
    assert flops[1] == pytest.approx(flops[0] / 2, rel=1e-12)
