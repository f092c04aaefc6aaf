"""The waterfall adds up exactly, and each step is what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import FAMILIES, IGNORE_PROVENANCE, MAIN_GPUS, STACKS, native, top_sparsity, workload
from toy import Slow, toy

import pruninfersim as pis
from pruninfersim.cost import CostModel, Priced
from pruninfersim.pruning import PerBlock, PerLayer
from pruninfersim.questions.explain import ENGINE_STEPS, STEPS, explain

pytestmark = IGNORE_PROVENANCE
WORKLOADS = {
    "prefill": pis.Workload.prefill(batch=np.array([1, 8])[:, None], tokens=[1, 100, 2048, 32768]),
    "decode": pis.Workload.decode(batch=np.array([1, 3, 64])[:, None], context=[1, 1000, 32768]),
}


def wide(workload: pis.Workload) -> pis.Workload:
    """Room for a last axis of sparsities."""
    fields = {name: getattr(workload, name)[..., None] for name in ("batch", "query_len", "context")}
    return replace(workload, **fields)


def adds_up(why: pis.Explanation) -> None:
    pruned = np.asarray(why.speedup.pruned.latency)
    total = sum(np.asarray(value) for value in why.steps.values())
    np.testing.assert_allclose(total, np.broadcast_to(pruned, np.shape(total)), rtol=1e-9)
    assert tuple(step for step in why.steps if step not in ENGINE_STEPS) == tuple(STEPS)
    for name, values in why.by_role.items():
        np.testing.assert_allclose(values.sum(axis=-1), why.steps[name], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("phase", WORKLOADS)
@pytest.mark.parametrize("gpu", MAIN_GPUS)
@pytest.mark.parametrize("family", FAMILIES)
def test_adds_up_for_all_families_on_a_grid(family, gpu, phase):
    ratios = np.array([0.0, 0.1, 0.37, top_sparsity(family)])
    dense = pis.trace("llama-3.1-8b", wide(WORKLOADS[phase]), dtype=native(gpu))
    # All stacks on a GPU whose GEMMs were timed, and on one whose were not; the others differ in figures alone.
    for stack in (*(STACKS if gpu in ("h100-sxm", "rtx-5090") else ("vendor",)), toy(gpu)):
        adds_up(explain(dense, dense.prune(pis.pruning.get(family, ratios)), hardware=gpu, stack=stack))


@pytest.mark.parametrize("model", ["qwen3-14b", "gemma-2-9b", "phi-3-mini"])
def test_adds_up_for_other_architectures(model):
    for family in FAMILIES:
        dense = pis.trace(model, workload("decode", 4, 2000))
        adds_up(explain(dense, dense.prune(pis.pruning.get(family, 0.4)), hardware="h100-sxm", stack=toy()))


def test_adds_up_for_ratios_per_layer_and_per_block_and_for_two_methods():
    dense = pis.trace("llama-3.1-8b", workload("prefill", 1, 700))
    methods = [
        (pis.pruning.StaticWidth(PerBlock(mlp=0.5)),),
        (pis.pruning.LowRank(PerLayer(np.linspace(0.1, 0.6, 32))),),
        (pis.pruning.StaticDepth(0.25), pis.pruning.StaticWidth(0.3)),
        (pis.pruning.StaticWidth(0.3), pis.pruning.LowRank(0.2)),
    ]
    for several in methods:
        adds_up(explain(dense, dense.prune(*several), hardware="h100-sxm", stack=toy()))


def why_of(family: str, stack: str | CostModel = "ideal", s: float = 0.5, phase="decode", batch=1, context=1024):
    dense = pis.trace("llama-3.1-8b", workload(phase, batch, context))
    return explain(dense, dense.prune(pis.pruning.get(family, s)), hardware="h100-sxm", stack=stack)


def test_no_pruning_and_no_overhead_leaves_only_the_claim():
    why = why_of("static-depth", s=0.0, stack=toy())
    assert why.steps["claim"] + why.steps["launches"] == pytest.approx(why.speedup.dense.latency, rel=1e-12)
    assert [name for name, value in why.steps.items() if abs(value) > 1e-15] == ["claim"]


def test_claim_is_the_promised_time():
    why = why_of("static-width", s=0.25)
    assert why.steps["claim"] == pytest.approx(why.speedup.dense.latency * 0.75, rel=1e-12)
    assert why.to_frame().speedup_so_far[0] == pytest.approx(1 / 0.75, rel=1e-12)
    assert why.to_frame().speedup_so_far.iloc[-1] == pytest.approx(why.speedup.estimated, rel=1e-12)


def test_not_pruned_is_the_time_of_the_untouched_ops():
    """Low rank leaves attention, head, norms and the rest: half of their time is missing from the claim."""
    why = why_of("low-rank", context=8192)
    seconds = why.speedup.dense.to_frame().set_index("name").seconds
    untouched = seconds.drop(["q", "k", "v", "o", "gate", "up", "down"]).sum()
    assert why.steps["not pruned"] == pytest.approx(0.5 * untouched, rel=1e-12)


def test_roofline_kernels_lose_no_efficiency_and_no_tiles():
    for family in FAMILIES:
        why = why_of(family)
        for step in ("efficiency", "tiles and waves", "launches"):
            assert why.steps[step] == pytest.approx(0.0, abs=1e-15), (family, step)


def test_overhead_ops_are_those_the_method_adds():
    why = why_of("dynamic-depth", phase="prefill", context=2048)
    pruned = why.speedup.pruned.to_frame()
    added = pruned[pruned.name.str.startswith(("router", "mask_sort", "gather", "scatter"))]
    assert why.steps["overhead ops"] == pytest.approx(added.seconds.sum(), rel=1e-12)
    assert added.seconds.sum() > 0


def test_memory_step_is_the_metadata_of_2_of_4():
    """Decode at batch 1 is bound by weights: 2:4 keeps 0.5625 of the bytes and half of the FLOPs."""
    why = why_of("semi-structured")
    seconds = why.speedup.dense.to_frame().set_index("name").seconds
    linear = seconds[["q", "k", "v", "o", "gate", "up", "down"]].sum()
    assert why.steps["memory"] / linear == pytest.approx(0.0625, abs=5e-4)
    assert why.steps["rounding"] == pytest.approx(0.0, abs=1e-12)


def test_efficiency_step_is_the_worse_kernel():
    """2:4 kernels at a third of their roofline beside dense ones at full: the loss is exactly that."""
    gpu = pis.hardware.get("h100-sxm")
    ideal = pis.stacks.get("ideal", gpu)
    slow = ideal.with_kernel("gemm_2of4", Priced(Slow(1 / 3), "calibrated"))
    perfect, real = why_of("semi-structured"), why_of("semi-structured", stack=slow)
    ops = perfect.speedup.pruned.to_frame()
    sparse = ops[ops.kernel == "gemm_2of4"].seconds.sum()
    assert real.steps["efficiency"] - perfect.steps["efficiency"] == pytest.approx(2 * sparse, rel=1e-9)


@pytest.mark.parametrize(("tiles", "extra", "waves"), [(66, 0, 8), (66, 1, 9), (112, 0, 14)])
def test_tiles_and_waves_see_the_staircase(tiles, extra, waves):
    """2048 tokens are 16 tiles: 66 tile columns are 8 full waves on 132 SMs, one feature more makes it 9."""
    dense = pis.trace("llama-3.1-8b", workload("prefill", 1, 2048))
    width = tiles * 128 + extra
    pruned = dense.with_columns(n=np.where(dense.mask(names=["up"]), width, dense.n))
    why = explain(dense, pruned, hardware="h100-sxm", stack=toy(launch_gap=0.0))
    wave = 2 * 128 * 128 * 4096 * 132 / pis.hardware.get("h100-sxm").peak_flops("bf16") * 32  # of all layers [s]
    step = why.by_role["tiles and waves"][why.roles.index("up")]
    # The dense side takes 14 waves for 112 * 16 / 132 waves of work.
    assert step / wave == pytest.approx(waves - 14 * width / (112 * 128), abs=1e-9)


def test_launches_are_the_gaps_beyond_the_claim():
    with_gaps, without = (why_of("low-rank", stack=toy(launch_gap=gap)) for gap in (5e-6, 0.0))
    sides = with_gaps.speedup.dense.trace, with_gaps.speedup.pruned.trace
    counts = [float((side.launches * side.count).sum()) for side in sides]
    assert with_gaps.steps["launches"] == pytest.approx(5e-6 * (counts[1] - 0.5 * counts[0]), rel=1e-9)
    assert without.steps["launches"] == 0.0


def test_text_and_table_say_the_same():
    why = why_of("low-rank", stack=toy())
    frame = why.to_frame()
    assert frame.columns.tolist() == ["step", "seconds", "total_seconds", "speedup_so_far", "meaning"]
    lines = str(why).splitlines()
    assert len(lines) == len(frame) == len(STEPS)
    for line, row in zip(lines, frame.itertuples(), strict=True):
        assert row.step in line
        assert f"{row.seconds * 1e3:+.4f} ms" in line
    assert "<table" in why._repr_html_()
    assert "on h100-sxm" in repr(why)
    assert "toy" in repr(why)
    assert frame.total_seconds.iloc[-1] == pytest.approx(why.speedup.pruned.latency, rel=1e-12)


def test_unknown_names_are_errors():
    dense = pis.trace("llama-3.1-8b", workload("decode"))
    with pytest.raises(pis.errors.UnknownNameError, match="h100-sxm"):
        explain(dense, dense, hardware="h100-sxn", stack="ideal")


@pytest.mark.parametrize("stack", ["ideal", "vendor", "vllm"])
def test_a_low_rank_pair_is_what_is_left_of_its_gemm(stack):
    """Both halves store 1 - s of the GEMM but for a rank rounded up to 16, however q, k, v and gate, up are fused.

    Llama-3.1-8B at s = 0.5: ranks 1024, 410 -> 416, 1593 -> 1600 of q/o, k/v, gate/up/down.
    """
    why = (
        pis.Setup("llama-3.1-8b", "h100-sxm", stack).compared("low-rank", 0.5, pis.Workload.decode(16, 4096)).explain()
    )
    assert why.steps["overhead ops"] == 0.0
    spent = why.speedup.dense.seconds.sum()
    assert 0.0 < why.steps["rounding"] < (416 / 409.6 - 1) * spent
    names = {"q", "k", "v", "gate", "up"} if stack == "ideal" else {"qkv", "gate_up"}
    assert names <= set(why.roles) <= names | {"o", "down", *why.speedup.dense.trace.name, *ENGINE_STEPS}
