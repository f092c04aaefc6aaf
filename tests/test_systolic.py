"""TPU and Gaudi: near the roofline with a wide band; and modules of several dies."""

from __future__ import annotations

import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis
from pruninfersim import hardware
from pruninfersim.calibration import nearest
from pruninfersim.hardware import traits
from pruninfersim.trace import OpTrace

pytestmark = IGNORE_PROVENANCE
SYSTOLIC = [name for name in hardware.names() if traits.systolic(hardware.get(name))]


@pytest.mark.parametrize("gpu", SYSTOLIC)
@pytest.mark.parametrize("work", [pis.Workload.decode(32, 4096), pis.Workload.prefill(1, 4096)], ids=["decode", "pre"])
def test_a_step_is_near_its_roofline_with_a_wide_band(gpu: str, work: pis.Workload) -> None:
    estimate = pis.estimate(pis.trace("llama-3.1-8b", work), hardware=gpu)
    assert 1.0 < estimate.latency / estimate.roofline < 1.4
    low, high = estimate.interval
    assert low < estimate.roofline * 1.15
    assert high > 1.4 * estimate.latency
    assert set(estimate.provenance.tolist()) == {"extrapolated"}


def test_every_family_runs_and_2of4_is_refused_for_want_of_a_peak() -> None:
    dense = pis.trace("llama-3.1-8b", pis.Workload.prefill(1, 2048))
    for family in pis.pruning.names():
        if family == "semi-structured":
            with pytest.raises(pis.errors.MissingValueError, match="no 2:4 sparse peak"):
                pis.compare(dense, dense.prune(pis.pruning.get(family, 0.5)), hardware="tpu-v5p")
        else:
            assert pis.compare(dense, dense.prune(pis.pruning.get(family, 0.5)), hardware="tpu-v5p").estimated > 1.0


def test_a_calibration_of_ones_own_takes_the_place_of_the_roofline() -> None:
    gpu = hardware.get("gaudi2")
    other = nearest.nearest_calibration("gemm", "bf16", hardware.get("h100-sxm"))[0]
    own = type(other)(**{**vars(other), "hardware": "gaudi2"})
    made = pis.stacks.get("vendor", gpu).with_calibrations(own)
    assert made.priced("gemm", "bf16").provenance == "calibrated"
    assert made.priced("norm", "bf16").provenance == "extrapolated"


def test_a_kernel_runs_on_one_die_of_a_module() -> None:
    for stack in ("vendor", "ideal", "paper"):
        trace = pis.trace("llama-3.1-8b", pis.Workload.prefill(1, 1024))
        whole, one = (pis.estimate(trace, hardware=name, stack=stack) for name in ("mi250x", "mi250x-gcd"))
        assert whole.latency == pytest.approx(one.latency, rel=1e-12)
    doubled = hardware.get("mi250x").clone("more", memory_bandwidth=2 * hardware.get("mi250x").memory_bandwidth)
    assert doubled.device.memory_bandwidth == 2 * hardware.get("mi250x-gcd").memory_bandwidth


@pytest.mark.parametrize("gpu", SYSTOLIC)
def test_masks_are_sorted_step_by_step(gpu: str) -> None:
    """A tree of log2(tokens) steps, each after the one before: the bytes of the flags are no measure of it."""
    part = hardware.get(gpu)
    kernel = pis.stacks.get("vendor", part).priced("mask_sort", "bf16").model
    ops = OpTrace.from_rows([{"kernel": "mask_sort", "m": [256, 512, 1024]}])
    times = kernel.latency(ops, part)[:, 0]
    assert times[1] - times[0] == pytest.approx(times[2] - times[1], rel=1e-9)
    # A step is more than the 20 clocks that an SM takes to synchronise its threads, at 2 GHz.
    assert times[2] > 10 * 20 / 2e9
    assert times[2] > 10 * (ops.traffic[2, 0] / part.memory_bandwidth)
