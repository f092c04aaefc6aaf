"""A method is a name, an object or a sequence wherever one is taken; ratios cross; claims are shares of weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE, rows, total

import pruninfersim as pis
from pruninfersim.cli.options import methods as option
from pruninfersim.errors import InvalidInputError, UnknownNameError
from pruninfersim.pruning import (
    Axis,
    DynamicDepth,
    LowRank,
    PerBlock,
    PerLayer,
    PerRole,
    SemiStructured,
    SparseAttention,
    StaticDepth,
    StaticWidth,
    StaticWidthCross,
)

pytestmark = IGNORE_PROVENANCE

MODEL = "llama-3.1-8b"
WORK = pis.Workload.decode(8, 4096)
#: Weights of the seven GEMMs of a layer of Llama-3.1-8B.
Q, K, MLP = 4096 * 4096, 1024 * 4096, 3 * 4096 * 14336
LAYER = 2 * Q + 2 * K + MLP
SETUP = pis.Setup(MODEL, "h100-sxm", "ideal")


def dense(model=MODEL, workload=WORK):
    return pis.trace(model, workload)


# --- one argument for all ---------------------------------------------------------------------------------------------


def test_a_sequence_is_a_composition_in_order():
    composed = pis.pruning.resolve(["static-depth", SemiStructured()], 0.25)
    by_hand = dense().prune(StaticDepth(0.25), SemiStructured())
    pruned = dense().prune(composed)
    assert [applied.method for applied in pruned.applied] == ["static-depth", "semi-structured"]
    assert total(pruned, "flops") == total(by_hand, "flops")
    result = SETUP.speedup(("static-depth", SemiStructured()), 0.25, WORK)
    assert result.method == "static-depth + semi-structured"
    assert result.claim == pytest.approx(1 / 0.75 / 0.5, rel=1e-12)
    json.dumps(result.to_dict())


def test_a_class_a_lonely_sparsity_and_nonsense_are_told_what_to_write():
    for wrong, match in (
        (StaticWidth, r"needs a sparsity: StaticWidth\(0\.5\), or sparsity=0\.5"),
        ([], "no method in the sequence"),
        (5, "method must be a name"),
        ([StaticWidth], r"needs a sparsity: StaticWidth\(0\.5\)"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            pis.speedup(model=MODEL, hardware="l40s", method=wrong, stack="ideal")
    with pytest.raises(InvalidInputError, match="a sparsity for no name"):
        pis.speedup(model=MODEL, hardware="l40s", method=[StaticWidth(0.5)], sparsity=0.5, stack="ideal")
    with pytest.raises(UnknownNameError, match="Did you mean 'low-rank'"):
        pis.speedup(model=MODEL, hardware="l40s", method=["static-depth", "low-rnak"], sparsity=0.5, stack="ideal")


@pytest.mark.parametrize("method", ["static-width", StaticWidth(0.5), ("static-depth", "static-width")])
def test_every_question_takes_every_form(method):
    ratio = 0.5 if pis.pruning.takes_sparsity(method) else None
    case = {"model": MODEL, "hardware": "h100-sxm", "stack": "ideal"}
    direct = pis.speedup(**case, method=method, sparsity=ratio, phase="decode", batch=8, context=4096)
    grid = pis.sweep(
        models=MODEL, hardware="h100-sxm", stacks="ideal", methods=[method], sparsity=[0.5], workloads=WORK
    )
    ranking = pis.compare_hardware(MODEL, WORK, [method], hardware="h100-sxm", stack="ideal", sparsity=0.5)
    assert grid["estimated_speedup"].iloc[0] == pytest.approx(direct.estimated, rel=1e-12)
    assert ranking["estimated_speedup"].iloc[1] == pytest.approx(direct.estimated, rel=1e-12)
    assert ranking["method"].iloc[1] == direct.method == grid["method"].iloc[0]
    assert pis.break_even(axis="batch", method=method, sparsity=0.5, **case) == []
    page = pis.report.html_report(**case, methods=[method], sparsity=0.5, workloads=WORK)
    assert direct.method in page


def test_a_grid_mixes_names_and_objects():
    frame = pis.sweep(
        models=MODEL, hardware="l40s", stacks="ideal", workloads=[WORK], sparsity=[0.25, 0.5],
        methods=["static-depth", StaticWidth(0.375), ("low-rank", DynamicDepth(0.5))],
    )  # fmt: skip
    count = frame.groupby("method", observed=True).size()
    assert count.to_dict() == {"static-depth": 2, "static-width": 1, "low-rank + dynamic-depth": 2}
    assert frame.set_index("method").loc["static-width", "sparsity"] == 0.375


def test_the_option_of_the_commands():
    assert option("all") == pis.pruning.names()
    assert option("low-rank, static-depth + semi-structured") == ["low-rank", ("static-depth", "semi-structured")]


def test_a_method_says_its_own_range():
    assert pis.pruning.largest(SemiStructured) == 0.5
    assert pis.pruning.unfit(SemiStructured, 0.5) == ""
    assert "at most 0.5" in pis.pruning.unfit(SemiStructured, [0.2, 0.6])
    assert "needs peak_2of4" in pis.pruning.unfit(SemiStructured, 0.5, pis.hardware.get("v100-sxm-32gb"), "fp16")
    assert pis.pruning.unfit(StaticDepth, 0.99) == ""
    with pytest.raises(InvalidInputError, match=r"\[0, 0\.5\]; got 0\.6\. 2:4 keeps two of four"):
        SemiStructured(PerBlock(mlp=PerLayer([0.6])))


# --- ratios cross -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [LowRank, SemiStructured, StaticWidth, DynamicDepth, SparseAttention])
def test_a_ratio_per_layer_of_one_kind_of_block(make):
    """Equal ratios per layer are what one ratio for the block is; only the other block is left as it was."""
    even = 0.5 if make is SemiStructured else 0.25
    crossed = dense().prune(make(PerBlock(attention=0.0, mlp=PerLayer([even] * 32))))
    plain = dense().prune(make(PerBlock(mlp=even)))
    for column in ("flops", "traffic"):
        np.testing.assert_allclose(total(crossed, column), total(plain, column), rtol=1e-12)
    assert crossed.applied[0].asked == pytest.approx(even * MLP / LAYER, rel=1e-12)


def test_one_layer_of_one_block():
    ratios = np.zeros(32)
    ratios[7] = 0.5
    pruned = dense().prune(StaticWidth(PerBlock(attention=0.25, mlp=PerLayer(ratios))))
    up = rows(pruned, "up")
    assert {layers[0] for layers, n in zip(up.layers, up.n, strict=True) if n == 7168} == {7}
    assert set(rows(pruned, "q").n) == {3072.0}
    assert pruned.applied[0].by_role["q"] == pytest.approx(0.25, rel=1e-12)
    assert pruned.applied[0].by_role["up"] == pytest.approx(0.5 / 32, rel=1e-12)


@pytest.mark.parametrize("make", [LowRank, SemiStructured])
def test_a_ratio_per_role(make):
    pruned = dense().prune(make(PerRole(down=0.5, q=PerLayer([0.5] * 16 + [0.0] * 16))))
    assert pruned.applied[0].asked == pytest.approx((0.5 * MLP / 3 + 0.25 * Q) / LAYER, rel=1e-12)
    if make is SemiStructured:
        sparse = pruned.select(pruned.mask(kernels=["gemm_2of4"]))
        assert float(sparse.count[sparse.mask(names=["down"])].sum()) == 32
        assert {layers[0] for layers in rows(sparse, "q").layers} == set(range(16))
        assert set(sparse.name) == {"down", "q"}
    else:
        first = rows(pruned, "down_a")
        assert set(first.n) == {float(pis.pruning.low_rank_rank(4096, 14336, 0.5))}


@pytest.mark.parametrize("make", [StaticWidth, DynamicDepth, StaticWidthCross, SparseAttention, StaticDepth])
def test_other_methods_take_no_ratio_per_role(make):
    with pytest.raises(InvalidInputError, match="linear layers together: give PerBlock or PerLayer, not PerRole"):
        dense().prune(make(PerRole(q=0.5)))


def test_as_many_values_as_layers_need_a_word():
    values = np.linspace(0.0, 0.5, 32)
    for ratio, label in ((values, "sparsity"), (PerBlock(mlp=values), "sparsity of mlp")):
        with pytest.raises(InvalidInputError, match=f"{label} has 32 values .* PerLayer.* or Axis"):
            dense().prune(StaticWidth(ratio))
    assert dense().prune(StaticWidth(Axis(values))).sweep_shape == (32,)
    assert dense().prune(StaticWidth(PerBlock(mlp=Axis(values)))).sweep_shape == (32,)
    assert dense().prune(StaticWidth(PerLayer(values))).sweep_shape == ()
    assert dense().prune(StaticWidth(values[:, None])).sweep_shape == (32, 1)
    frame = pis.sweep(
        models="llama-3.2-1b", hardware="l40s", workloads=WORK, methods="static-width", stacks="ideal",
        sparsity=np.linspace(0, 0.75, 16),
    )  # fmt: skip
    assert len(frame) == 16, "a sweep has said so"


# --- claims -----------------------------------------------------------------------------------------------------------


def test_claims_are_removed_shares_of_the_weights_of_the_layers():
    """Llama-3.2-1B: 50.3 of 60.8 million weights of a layer are in its MLP; Llama-3.1-8B: 41.9 of 218 in attention."""

    def claim(model, *methods):
        before = dense(model)
        return pis.compare(before, before.prune(*methods), hardware="h100-sxm", stack="ideal").claim

    assert claim("llama-3.2-1b", StaticWidth(PerBlock(mlp=0.6))) == pytest.approx(1.99, abs=0.005)
    assert claim(MODEL, StaticDepth(PerBlock(attention=0.5))) == pytest.approx(1.11, abs=0.005)
    assert claim(MODEL, StaticDepth(attention_layers=tuple(range(16)))) == pytest.approx(1.11, abs=0.005)
    assert claim(MODEL, StaticDepth(0.25), StaticWidth(0.5)) == pytest.approx(1 / 0.75 / 0.5, rel=1e-12)
    # The second claim is of what the first method left: its attention is gone in half of the layers.
    left = 1 - 0.5 * MLP / (0.5 * (LAYER - MLP) + MLP)
    twice = claim(MODEL, StaticDepth(PerBlock(attention=0.5)), StaticWidth(PerBlock(mlp=0.5)))
    assert twice == pytest.approx(1 / (1 - 0.5 * (LAYER - MLP) / LAYER) / left, rel=1e-9)
    for uniform in (StaticWidth(0.4), DynamicDepth(0.4), SparseAttention(0.4), StaticDepth(0.4, unit="sublayer")):
        assert claim(MODEL, uniform) == 1 / (1 - 0.4)


def test_two_traces_claim_nothing():
    result = pis.compare(dense(), dense("llama-3.2-1b"), hardware="h100-sxm", stack="ideal")
    assert result.claim is None
    assert result.to_dict()["claim"] is None
    assert ">none<" in result._repr_html_()
    why = pis.explain(result)
    assert next(iter(why.steps)) == "dense"
    assert why.steps["dense"] == pytest.approx(float((result.dense.seconds).sum()), rel=1e-12)
    assert why.steps["rounding"] == 0.0
    assert why.steps["removed here"] < 0.0
    assert sum(why.steps.values()) == pytest.approx(result.pruned.latency, rel=1e-12)


def test_rounding_is_rounding_only():
    """Widths of multiples of 16 and whole KV groups: nothing is rounded, whatever is asked of which block."""
    for ratio in (0.5, PerBlock(attention=0.25, mlp=0.75), PerBlock(attention=0.0, mlp=0.5)):
        why = pis.explain(dense(), dense().prune(StaticWidth(ratio)), hardware="h100-sxm", stack="ideal")
        assert why.steps["rounding"] == pytest.approx(0.0, abs=1e-15)
    why = pis.explain(dense(), dense().prune(StaticWidth(0.3)), hardware="h100-sxm", stack="ideal")
    assert why.steps["rounding"] != 0.0, "3 of 8 groups where 2.4 are asked for"
    assert why.steps["removed here"] == pytest.approx(0.0, abs=1e-15)


# --- compositions that no kernel runs ---------------------------------------------------------------------------------

PAIRS = [SemiStructured(), LowRank(0.5), DynamicDepth(0.5), SparseAttention(0.5), StaticWidth(0.5), StaticDepth(0.5),
         StaticWidthCross(0.5)]  # fmt: skip


@pytest.mark.parametrize("second", PAIRS, ids=lambda m: m.name)
@pytest.mark.parametrize("first", PAIRS, ids=lambda m: m.name)
def test_advice_works_or_says_that_no_kernel_does_both(first, second):
    if first.name == second.name:
        return
    try:
        dense().prune(first, second)
    except InvalidInputError as error:
        message = str(error)
        assert first.name in message
        assert second.name in message
        if "no kernel does both" in message:
            with pytest.raises(InvalidInputError):
                dense().prune(second, first)
        else:
            assert f"Apply {second.name} first, and {first.name} after it" in message
            dense().prune(second, first)
