"""The four speedups keep their definitions, and the bound holds."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from cases import (
    FAMILIES,
    GPUS,
    IGNORE_PROVENANCE,
    MAIN_GPUS,
    STACKS,
    WITH_OVERHEAD,
    native,
    top_sparsity,
    total,
    workload,
)

import pruninfersim as pis

BATCHES = (1, 8, 32)
CONTEXTS = (128, 1024, 8192, 32768, 131072)
#: Share of the speed that one more per cent of sparsity may cost; another simulator had steps of 48 %.
STEP = 0.10
GPU_OF = [(stack, gpu) for stack in STACKS for gpu in MAIN_GPUS]

pytestmark = IGNORE_PROVENANCE


def runs_on(family: str, gpu: str) -> bool:
    return family != "semi-structured" or native(gpu) in pis.hardware.get(gpu).peak_2of4


@cache
def passes(dtype, family, sparsities, phase, batches, contexts):
    """Dense and pruned, which all GPUs and stacks share; axes are batch, context and sparsity."""
    batch, context = np.array(batches)[:, None, None], np.array(contexts)[:, None]
    dense = pis.trace("llama-3.1-8b", workload(phase, batch, context), dtype=dtype)
    return dense, dense.prune(pis.pruning.get(family, np.array(sparsities)))


def compared(family, sparsity, gpu, stack, phase, batches=BATCHES, contexts=CONTEXTS):
    dense, pruned = passes(native(gpu), family, tuple(np.ravel(sparsity)), phase, batches, contexts)
    return pis.compare(dense, pruned, hardware=gpu, stack=stack)


def test_definitions():
    dense = pis.trace("llama-3.1-8b", workload("decode", 8, 4096))
    pruned = dense.prune(pis.pruning.DynamicDepth(0.5))
    slow = pis.stacks.get("ideal", pis.hardware.get("h100-sxm"))
    result = pis.compare(dense, pruned, hardware="h100-sxm", stack=slow)
    assert result.flops == total(dense, "flops") / total(pruned, "flops")
    assert result.ideal == result.dense.roofline / result.pruned.roofline
    assert result.estimated == result.dense.latency / result.pruned.latency
    # 132 SMs do 4096 bf16 FLOP per clock, at up to 1980 MHz; only products count, operands and results through HBM.
    compute = pruned.flops / (132 * 4096 * 1.98e9)
    least = (pruned.count * np.maximum(compute, pruned.traffic / 3.35e12))[pruned.gemms > 0].sum()
    assert result.bound == pytest.approx(result.dense.latency / least, rel=1e-9)
    assert result.claim == 2.0


@pytest.mark.parametrize(
    ("family", "headroom", "bound"),
    [("static-depth", 1.98, 2.9), ("semi-structured", 1.9, 2.55), ("low-rank", 1.95, 2.54)],
)
def test_headroom_is_of_the_changed_ops_and_the_bound_of_all(family, headroom, bound):
    """Static depth changes no kernel, and has none to improve. Fused act, rope and transposes alone allow 2.5."""
    result = compared(family, 0.5, "h100-sxm", "vendor", "prefill", (1,), (2048,))
    assert result.estimated <= result.headroom * (1 + 1e-12)
    assert result.headroom >= headroom - 0.01
    assert bound < result.bound
    if family == "static-depth":
        assert result.headroom == pytest.approx(result.estimated, rel=1e-12)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("stack", "gpu"), GPU_OF)
def test_bound_holds(stack, gpu, family, phase):
    sparsity = np.linspace(0, top_sparsity(family), 4)
    result = compared(family, sparsity, gpu, stack, phase)
    assert result.estimated.shape == result.bound.shape == (3, 5, 4)
    assert np.all(result.estimated <= result.bound * (1 + 1e-12))
    low, high = result.interval
    assert np.all((low <= result.estimated) & (result.estimated <= high * (1 + 1e-12)))
    assert np.all(high <= result.bound * (1 + 1e-12))
    for values in (result.estimated, result.bound, result.ideal, low, high):
        assert np.all(np.isfinite(values) & (values > 0))


@pytest.mark.parametrize("family", FAMILIES)
def test_in_the_ideal_stack_all_three_times_agree(family):
    result = compared(family, np.linspace(0, 0.5, 3), "h100-sxm", "ideal", "decode")
    np.testing.assert_allclose(result.estimated, result.headroom, rtol=1e-12)
    np.testing.assert_allclose(result.estimated, result.ideal, rtol=1e-12)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("stack", "gpu"), GPU_OF)
def test_at_sparsity_zero_nothing_is_gained(stack, gpu, family, phase):
    estimated = compared(family, 0.0, gpu, stack, phase, BATCHES, CONTEXTS[:4]).estimated
    if family == "low-rank" and stack != "ideal":
        # With the kernels of arXiv 2606.09080 two thin GEMMs of the same FLOPs can fill tiles and waves better than
        # one: it measured 0.91 to 1.04 for low-rank pairs at sparsity 0. A library chooses tiles for the one as well.
        assert np.all(estimated <= (1.04 if stack == "paper" else 1.0))
        assert np.median(estimated) < 1
        return
    assert np.all(estimated <= 1 + 1e-12)
    if family in WITH_OVERHEAD:
        assert np.all(estimated < 1)
    else:
        np.testing.assert_allclose(estimated, 1.0, rtol=1e-12)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize(
    "family", ["static-depth", "static-width", "static-width-cross", "low-rank", "semi-structured"]
)
@pytest.mark.parametrize("gpu", [g for g in GPUS if native(g) == "bf16"][::4])
def test_ideal_speedup_never_falls_with_sparsity(gpu, family, phase):
    if not runs_on(family, gpu):
        pytest.skip(f"{gpu} has no 2:4 peak")
    sparsity = np.arange(0, top_sparsity(family) + 1e-9, 0.01)
    estimated = compared(family, sparsity, gpu, "ideal", phase, (1, 16), (512, 16384)).estimated
    assert np.all(np.diff(estimated, axis=-1) >= -1e-12)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("stack", "gpu"), GPU_OF)
def test_one_per_cent_more_sparsity_is_no_cliff(stack, gpu, family, phase):
    sparsity = np.arange(0, top_sparsity(family) + 1e-9, 0.01)
    estimated = compared(family, sparsity, gpu, stack, phase, (1, 8), (128, 2048)).estimated
    drop = estimated[..., 1:] / estimated[..., :-1]
    assert drop.min() > 1 - STEP


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_beats_its_claim_where_everything_else_is_negligible(family, phase):
    """Against the roofline, nothing is faster than 1/(1 - s) of what was achieved at most."""
    sparsity = np.linspace(0, top_sparsity(family), 7)
    result = compared(family, sparsity, "h100-sxm", "ideal", phase)
    achieved = np.max(list(result.achieved[family].values()), axis=0)
    slack = 1.02 if family == "low-rank" else 1 + 1e-12  # a thin pair may fall below the ridge point, a wide one not
    assert np.all(result.ideal <= slack / (1 - achieved))
