"""Elementwise kernels: closed forms, invariants, and published kernel times."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruninfersim import calibration, hardware
from pruninfersim.calibration import kinds, nearest
from pruninfersim.errors import InvalidInputError
from pruninfersim.kernels.base import roofline
from pruninfersim.kernels.elementwise import Elementwise
from pruninfersim.trace import OpTrace

#: Kind -> operands read and results written per row of width k.
READS = {
    "elementwise_norm": (2, 2),
    "elementwise_final_norm": (2, 2),
    "elementwise_qk_norm": (1, 1),
    "elementwise_rope": (1, 1),
    "elementwise_act": (2, 1),
    "elementwise_embedding": (1, 1),
}
GPUS = ("a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "l40s", "rtx-4090", "rtx-5090", "rtx-pro-6000-server")


def ops(kind, m, k):
    reads, writes = READS[kind]
    key = kinds.get(kind).as_ops(pd.DataFrame({"op": [kind[12:]], "dtype": ["bf16"], "m": [1], "k": [1]})).kernel[0]
    return OpTrace.from_rows([{"kernel": key, "m": m, "n": k, "k": k, "a_reads": reads, "out_writes": writes}])


def kernel(kind, gpu):
    return nearest.nearest_calibration(kind, "bf16", hardware.get(gpu))[0].kernel


def test_memory_bound_limit_is_bytes_over_bandwidth():
    model = Elementwise(launch=1e-6, row_bandwidth=1e13, memory_efficiency=0.5, l2_share=0.05)
    gpu, work = hardware.get("h100-sxm"), ops("elementwise_act", 1e7, 8192)
    for cache in ("cold", "replayed"):
        expected = 1e-6 + 3 * 2 * 1e7 * 8192 / (0.5 * gpu.memory_bandwidth)
        assert model.latency(work, gpu, cache=cache).item() == pytest.approx(expected, rel=1e-3)


def test_a_single_wide_row_takes_its_own_time():
    model, gpu = Elementwise(row_bandwidth=1e9), hardware.get("h100-sxm")
    got = model.latency(ops("elementwise_norm", 1, 8192), gpu, cache="replayed").item()
    assert got == pytest.approx(model.launch + 4 * 2 * 8192 / 1e9, rel=1e-4)


def test_rows_run_in_waves():
    model, gpu = Elementwise(row_bandwidth=1e9, l2_bandwidth=12.0), hardware.get("h100-sxm")
    full = 8 * gpu.sm_count
    one, two = (model.latency(ops("elementwise_norm", m, 64), gpu, cache="replayed").item() for m in (full, full + 1))
    assert two - model.launch == pytest.approx(2 * (one - model.launch), rel=0.01)
    smooth = model.without_quantisation()
    assert smooth.latency(ops("elementwise_norm", full + 1, 64), gpu, cache="replayed").item() < 1.01 * one


def test_replayed_kernels_that_fit_l2_are_faster_than_dram():
    gpu = hardware.get("rtx-4090")
    work = ops("elementwise_norm", 512, 4096)
    model = kernel("elementwise_norm", "rtx-4090")
    assert model.latency(work, gpu, cache="replayed").item() < roofline(work, gpu).item()
    assert model.latency(work, gpu).item() >= roofline(work, gpu).item()


@pytest.mark.parametrize("kind", READS)
@pytest.mark.parametrize("gpu", GPUS)
def test_cold_is_never_below_the_roofline_and_shapes_broadcast(kind, gpu):
    m = np.array([1, 3, 128, 1505, 1e5])[:, None]
    k = np.array([1, 128, 4096, 28672.0])
    work, device = ops(kind, m, k), hardware.get(gpu)
    seconds = kernel(kind, gpu).latency(work, device)
    assert seconds.shape == (5, 4, 1)
    assert np.isfinite(seconds).all()
    assert (seconds >= roofline(work, device)).all()
    assert (np.diff(seconds, axis=0) >= 0).all()
    assert (np.diff(seconds, axis=1) >= 0).all()


@given(m=st.floats(1, 1e7), k=st.floats(1, 1e6), kind=st.sampled_from(list(READS)), gpu=st.sampled_from(GPUS))
def test_any_size_is_finite_and_at_least_the_roofline(m, k, kind, gpu):
    work, device = ops(kind, m, k), hardware.get(gpu)
    seconds = kernel(kind, gpu).latency(work, device).item()
    assert np.isfinite(seconds)
    assert seconds >= roofline(work, device).item()
    assert np.isfinite(kernel(kind, gpu).latency(work, device, cache="replayed")).all()


@pytest.mark.parametrize(
    ("kind", "gpu", "m", "k", "microseconds"),
    [
        ("elementwise_act", "rtx-4090", 2048, 14336, 169),
        ("elementwise_norm", "rtx-4090", 2048, 4096, 28.5),
        ("elementwise_rope", "rtx-pro-6000-server", 2048, 5120, 12.0),
        ("elementwise_qk_norm", "rtx-pro-6000-server", 2048, 9216, 42.5),
        ("elementwise_norm", "rtx-pro-6000-server", 1, 4096, 2.4),
    ],
)
def test_measured_kernels(kind, gpu, m, k, microseconds):
    # casys-kaist/LLMServingSim (MIT): vLLM 0.19 under its layerwise profiler, Llama-3.1-8B and Qwen3-32B.
    got = kernel(kind, gpu).latency(ops(kind, m, k), hardware.get(gpu), cache="replayed").item()
    assert got * 1e6 == pytest.approx(microseconds, rel=0.15)


def test_a_fit_recovers_the_model_that_made_the_timings():
    truth, gpu = Elementwise(launch=2.5e-6, memory_efficiency=0.8, l2_bandwidth=4.0), hardware.get("l40s")
    m, k = (x.ravel().astype(float) for x in np.meshgrid(2.0 ** np.arange(14), [2048, 4096, 14336]))
    seconds = truth.latency(ops("elementwise_act", m, k), gpu, cache="replayed")[:, 0]
    frame = pd.DataFrame({"gpu": "l40s", "dtype": "bf16", "op": "act", "m": m, "k": k, "latency_us": seconds * 1e6})
    fit = calibration.calibrate("elementwise_act", frame, "l40s", start=Elementwise(), parameters="all")
    assert fit.held_out_error < 0.02
    assert fit.kernel.launch == pytest.approx(truth.launch, rel=0.1)


def test_rows_of_another_op_are_refused():
    frame = pd.DataFrame({"gpu": "l40s", "dtype": "bf16", "op": "rope", "m": [1], "k": [64], "latency_us": [2.0]})
    with pytest.raises(InvalidInputError, match="hold op rope"):
        kinds.get("elementwise_act").as_ops(frame)


@pytest.mark.parametrize("gpu", ["rtx-4090", "rtx-pro-6000-server"])
def test_shipped_calibrations_reach_their_error(gpu):
    for kind in READS:
        found, extrapolated = nearest.nearest_calibration(kind, "bf16", hardware.get(gpu))
        if not extrapolated:
            assert found.fitted_error < 0.12
            assert found.held_out_error < 0.16
