"""The cost model: who prices what, the roofline as a floor, launch gaps, and what an estimate can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from cases import FAMILIES, MAIN_GPUS, STACKS, native, rows, total, workload

import pruninfersim as pis
from pruninfersim.cost import Graph, Spread
from pruninfersim.errors import UnknownNameError
from pruninfersim.kernels.base import Roofline, roofline
from pruninfersim.ops import CATALOGUE

H100 = pis.hardware.get("h100-sxm")


@dataclass(frozen=True)
class Constant:
    """Every op takes the same time."""

    seconds: float

    def latency(self, ops, hardware, *, cache="cold"):
        return np.full(ops.shape, self.seconds)


@dataclass(frozen=True)
class Slower:
    """A factor on the roofline."""

    factor: float

    def latency(self, ops, hardware, *, cache="cold"):
        return self.factor * roofline(ops, hardware)


def constant(seconds: float, **options) -> pis.CostModel:
    priced = pis.Priced(Constant(seconds), "calibrated")
    return pis.CostModel("toy", H100, dict.fromkeys(CATALOGUE, priced), **options)


def dense(phase="decode", batch=1, context=1024, **options):
    return pis.trace("llama-3.1-8b", workload(phase, batch, context, **options))


# --- adding up --------------------------------------------------------------------------------------------------------


def test_every_run_and_every_launch_gap_is_paid():
    step = pis.estimate(dense(), hardware=H100, stack=constant(1e-3, clock=Graph(1e-6)))
    runs = 32 * 13 + 3  # 13 ops per layer; embedding, final norm, head
    assert step.latency == pytest.approx(runs * (1e-3 + 1e-6), rel=1e-12)


def test_a_kernel_that_is_two_launches_has_two_gaps():
    model = constant(1e-3, clock=Graph(1e-6)).with_kernel(
        "rope", pis.Priced(Constant(1e-3), "calibrated", launches=2.0)
    )
    extra = pis.estimate(dense(), hardware=H100, stack=model).latency
    plain = pis.estimate(dense(), hardware=H100, stack=constant(1e-3, clock=Graph(1e-6))).latency
    assert extra - plain == pytest.approx(32e-6, rel=1e-6)


def test_with_kernel_leaves_the_cost_model_alone():
    model = constant(1e-3)
    other = model.with_kernel("rope", pis.Priced(Constant(1.0), "calibrated"))
    assert model.kernels["rope"].model == Constant(1e-3)
    assert other.kernels["rope"].model == Constant(1.0)


def test_a_key_without_a_kernel_names_it_and_what_there_is():
    kernels = {k: v for k, v in constant(1e-3).kernels.items() if k != "rope"}
    with pytest.raises(UnknownNameError, match=r"'toy' has no kernel for rope. It has: .*gemm.*with_kernel"):
        pis.CostModel("toy", H100, kernels).predict(dense())


def test_unknown_stack():
    with pytest.raises(UnknownNameError, match=r"unknown stack 'idael'\. Did you mean 'ideal'"):
        pis.estimate(dense(), hardware=H100, stack="idael")


def test_no_kernel_beats_the_roofline_of_its_op():
    impossible = constant(1e-15)
    step = pis.estimate(dense("prefill", [1, 8], 512), hardware=H100, stack=impossible)
    np.testing.assert_array_equal(step.run, step.limit)
    highest = H100.clone("highest", peak={"bf16": 132 * 4096 * 1.98e9})
    np.testing.assert_allclose(
        step.latency, pis.estimate(dense("prefill", [1, 8], 512), hardware=highest, stack="ideal").latency
    )


@pytest.mark.parametrize("points", [1, 2, 300])
def test_small_and_large_sweeps_are_priced_alike(points):
    """Large sweeps are priced by distinct shape, small ones directly."""
    batch = 1 + np.arange(points) % 7
    kernels = {key: pis.Priced(Slower(1 + i / 10), "calibrated") for i, key in enumerate(CATALOGUE)}
    model = pis.CostModel("toy", H100, kernels)
    for family in FAMILIES:
        pruned = dense("prefill", batch, 700).prune(pis.pruning.get(family, 0.5))
        together = pis.estimate(pruned, hardware=H100, stack=model)
        for index in {0, points // 2, points - 1}:
            point = dense("prefill", int(batch[index]), 700).prune(pis.pruning.get(family, 0.5))
            alone = pis.estimate(point, hardware=H100, stack=model)
            np.testing.assert_allclose(together.seconds[index], alone.seconds, rtol=1e-13)
            assert together.latency[index] == pytest.approx(alone.latency, rel=1e-13)


# --- rooflines --------------------------------------------------------------------------------------------------------


def test_decode_is_the_time_to_read_the_weights():
    # 15.01 GB over 3.35 TB/s; everything else at batch 1 is activations.
    step = pis.estimate(dense("decode", 1, 1), hardware="h100-sxm", stack="ideal")
    weights = 15.009e9 / 3.35e12
    assert weights < step.latency < 1.01 * weights


def test_compute_bound_prefill_is_flops_over_peak():
    prompt = dense("prefill", 8, 4096)
    gemms = rows(prompt, "q", "o", "gate", "up", "down")
    seconds = pis.estimate(gemms, hardware="h100-sxm", stack="ideal").latency
    assert seconds == pytest.approx(float(total(gemms, "flops")) / 989.4e12, rel=1e-12)


def test_two_of_four_runs_at_the_sparse_peak():
    sparse = dense("prefill", 8, 4096).prune(pis.pruning.SemiStructured(0.5))
    twos = sparse.select(sparse.mask(kernels=["gemm_2of4"]))
    seconds = pis.estimate(twos, hardware="h100-sxm", stack="ideal").latency
    assert seconds == pytest.approx(2 * float(total(twos, "flops")) / 1978.8e12, rel=1e-12)


@pytest.mark.parametrize("gpu", MAIN_GPUS)
@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_stays_above_the_weight_read_time(stack, gpu):
    profile = pis.hardware.get(gpu)
    sweep = pis.trace("llama-3.1-8b", workload("decode", [1, 8, 32], 1024), dtype=native(gpu))
    step = pis.estimate(sweep, hardware=gpu, stack=stack)
    assert np.all(step.latency >= 15.009e9 / profile.memory_bandwidth)
    assert np.all(step.latency >= step.roofline)


# --- what an estimate says --------------------------------------------------------------------------------------------


def test_scalar_in_scalar_out_arrays_in_arrays_out():
    one = pis.estimate(dense(), hardware=H100, stack="ideal")
    assert type(one.latency) is float
    assert type(one.roofline) is float
    assert [type(x) for x in one.interval] == [float, float]
    many = pis.estimate(dense("decode", np.array([1, 2])[:, None], [8, 16, 32]), hardware=H100, stack="ideal")
    assert many.latency.shape == many.roofline.shape == many.interval[0].shape == (2, 3)
    assert many.seconds.shape == many.bound.shape == many.trace.shape


def test_bound_of_each_op():
    prompt = pis.estimate(dense("prefill", 8, 4096), hardware="h100-sxm", stack="ideal")
    kinds = dict(zip(prompt.trace.name, prompt.bound, strict=True))
    assert kinds["up"] == kinds["q"] == "compute"
    assert kinds["attn_norm"] == kinds["embedding"] == "memory"
    step = pis.estimate(dense(), hardware="h100-sxm", stack="ideal")
    assert set(step.bound) == {"memory"}
    slow = pis.estimate(dense(), hardware=H100, stack=constant(1.0))
    assert set(slow.bound) == {"overhead"}


def test_frame_of_one_workload():
    step = pis.estimate(dense("decode", 4, 4096), hardware=H100, stack="ideal")
    frame = step.to_frame()
    assert list(frame.columns) == [
        "name", "block", "kernel", "dtype", "count", "batch", "m", "n", "k", "flops", "bytes",
        "intensity_flop_per_byte", "seconds", "share", "roofline_seconds", "bound", "provenance",
    ]  # fmt: skip
    assert len(frame) == len(step.trace)
    assert frame["seconds"].sum() == pytest.approx(step.latency, rel=1e-12)
    assert frame["share"].sum() == pytest.approx(1.0, rel=1e-12)
    assert frame["flops"].sum() == pytest.approx(float(total(step.trace, "flops")), rel=1e-12)
    assert frame["bytes"].sum() == pytest.approx(float(total(step.trace, "traffic")), rel=1e-12)
    assert set(frame["provenance"]) == {"roofline"}


def test_frame_of_a_sweep_counts_points_in_c_order():
    step = pis.estimate(dense("decode", np.array([1, 2])[:, None], [8, 16, 32]), hardware=H100, stack="ideal")
    frame = step.to_frame()
    assert len(frame) == 6 * len(step.trace)
    by_point = frame.groupby("point")["seconds"].sum().to_numpy()
    np.testing.assert_allclose(by_point, step.latency.reshape(-1), rtol=1e-12)
    assert frame.loc[frame["name"] == "up", "m"].tolist() == [1, 1, 1, 2, 2, 2]


def test_repr_and_html():
    step = pis.estimate(dense(), hardware=H100, stack="ideal")
    assert repr(step).startswith("<Estimate of llama-3.1-8b on h100-sxm, ideal: 4.")
    page = step._repr_html_()
    assert page.startswith("<p>Estimate of llama-3.1-8b on h100-sxm, ideal: 4.")
    assert page.count("<p>") == page.count("</p>") == 1
    assert "sweep (2,)" in repr(pis.estimate(dense("decode", [1, 2]), hardware=H100, stack="ideal"))


def test_interval_holds_the_latency_and_stays_above_the_least_time():
    band = pis.Priced(Slower(1.01), "calibrated", Spread(-0.5, 0.3, 0.5), "all")
    model = pis.CostModel("toy", H100, dict.fromkeys(CATALOGUE, band))
    step = pis.estimate(dense("decode", [1, 8]), hardware=H100, stack=model)
    low, high = step.interval
    assert np.all((low <= step.latency) & (step.latency <= high))
    np.testing.assert_allclose(low, step.least)  # the band alone would go below
    exact = pis.estimate(dense(), hardware=H100, stack="ideal")
    assert exact.interval == (exact.latency, exact.latency)


def test_the_roofline_kernel_is_the_roofline():
    ops = dense("prefill", [1, 8], 300)
    np.testing.assert_array_equal(Roofline().latency(ops, H100), roofline(ops, H100))
