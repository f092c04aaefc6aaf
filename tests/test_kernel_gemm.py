"""Dense GEMM model: closed forms, a slow scalar oracle, invariants."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruninfersim import gemm_latency, hardware
from pruninfersim.calibration import nearest
from pruninfersim.errors import InvalidInputError, MissingValueError
from pruninfersim.kernels.base import parameters, roofline
from pruninfersim.kernels.gemm import Gemm
from pruninfersim.kernels.replay import PROTOCOLS, enough_copies, six_copies
from pruninfersim.trace import OpTrace

GPU = hardware.get("h100-sxm")
TIMED = ["a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "l40s", "rtx-pro-6000-server", "rtx-4090"]
M = np.array([1, 2, 7, 16, 64, 100, 256, 1000, 4096, 32768])[:, None, None]
N = np.array([1, 16, 512, 1536, 4096, 11008, 65536])[:, None]
K = np.array([1, 64, 512, 2560, 4096, 14336, 65536])


def fitted(gpu: str) -> Gemm:
    return nearest.nearest_calibration("gemm", "bf16", hardware.get(gpu))[0].kernel


def one_shape(kernel: Gemm, m: float, n: float, k: float, gpu: hardware.HardwareProfile, hit: float = 0.0) -> float:
    """The documented formula for one bf16 shape, in plain Python, with no care for speed."""
    peak, bandwidth, sms, p = gpu.peak_flops("bf16"), gpu.memory_bandwidth, gpu.sm_count, kernel.overlap
    a, w, out = 2 * m * k, 2 * n * k, 2 * m * n
    rate = peak / sms * kernel.compute_efficiency
    # An A100's own figures, and those of cards without any; FLOP per clock and SM.
    even, odd = (1073, 460) if gpu.compute_capability == "8.0" else (1040, 525)
    rate *= min(1.0, (odd if n % 2 or k % 2 else even) * gpu.boost_clock / rate) if n % 8 or k % 8 else 1.0
    dram = ((a + w) * (1 - hit) + out) / (bandwidth * kernel.memory_efficiency) + (a + w) * hit / (bandwidth * 2.5)
    times = [dram + kernel.vector_latency] if m <= 1 else []
    for splits in (1, 2, 3, 4, 6, 8, 16):
        part = k if splits == 1 else 64 * math.ceil(k / (64 * splits))
        for bm, bn in Gemm.TILES:
            rows, cols = math.ceil(m / bm), math.ceil(n / bn)
            tensor = math.ceil(rows * cols * splits / sms) * 2 * bm * bn * (part + kernel.tile_overhead) / rate
            tensor *= 1 + kernel.power_droop * tensor / (tensor + 1e-3)
            feed = (cols * a + rows * w) / (sms * gpu.boost_clock * kernel.l2_feed)
            limits = (tensor, dram, feed, part / 64 * kernel.k_step)
            time = sum(limit**p for limit in limits) ** (1 / p)
            if splits > 1:
                time += kernel.split_cost + 8 * m * n * splits / (sms * gpu.boost_clock * kernel.split_bandwidth)
            times.append(time)
    best = min(times)
    return kernel.launch + best * (sum((time / best) ** -50 for time in times) / 84) ** (-1 / 50)


@pytest.mark.parametrize("gpu", ["a100-sxm-80gb", "l40s"])
@pytest.mark.parametrize("shape", [(1, 4096, 4096), (33, 1000, 777), (8192, 28672, 8192), (4096, 512, 16384)])
def test_equals_the_scalar_formula(gpu: str, shape: tuple[int, int, int]) -> None:
    profile = hardware.get(gpu)
    want = one_shape(Gemm(), *shape, profile)
    floor = max(2 * math.prod(shape) / profile.peak_flops("bf16"), 0)
    assert Gemm().seconds(*shape, profile) == pytest.approx(max(want, floor), rel=1e-12)


def test_replayed_weights_that_fit_l2_are_hits() -> None:
    m, n, k = 16, 1024, 1024  # 2 MB: six copies are far below 50 MB of L2
    kernel = Gemm(l2_reach=1.0)
    want = one_shape(kernel, m, n, k, GPU, hit=1.0)
    assert kernel.seconds(m, n, k, GPU, cache="replayed", footprint=six_copies) == pytest.approx(want, rel=1e-6)


def test_replayed_weights_beyond_l2_are_cold() -> None:
    kernel, shape = Gemm(l2_reach=1.0), (16, 28672, 8192)
    cold = kernel.seconds(*shape, GPU)
    for footprint in PROTOCOLS.values():
        assert kernel.seconds(*shape, GPU, cache="replayed", footprint=footprint) == pytest.approx(cold, rel=1e-6)


def test_unknown_protocol_is_the_geometric_mean() -> None:
    kernel, gpu = Gemm(l2_reach=1.2), hardware.get("l40s")
    shape = (8, 5120, 2560)  # 26 MB: six copies exceed L2, four nearly fill it
    each = [float(kernel.seconds(*shape, gpu, cache="replayed", footprint=f)) for f in PROTOCOLS.values()]
    assert each[0] != pytest.approx(each[1], rel=0.1)
    assert kernel.seconds(*shape, gpu, cache="replayed") == pytest.approx(math.sqrt(each[0] * each[1]), rel=1e-12)


def test_footprints() -> None:
    a, w = np.array([1e6, 1e6, 1e6]), np.array([10e6, 30e6, 200e6])
    np.testing.assert_allclose(six_copies(a, w, 96e6), 6 * (a + w))
    np.testing.assert_allclose(enough_copies(a, w, 96e6), np.array([5 * 10e6, 4 * 30e6, 200e6]) + a)


@pytest.mark.parametrize("gpu", TIMED)
def test_cold_is_finite_and_at_least_the_replayed_time(gpu: str) -> None:
    profile, kernel = hardware.get(gpu), fitted(gpu)
    cold, replayed = (kernel.seconds(M, N, K, profile, cache=cache) for cache in ("cold", "replayed"))
    assert cold.shape == (10, 7, 7)
    assert np.isfinite(cold).all()
    assert (cold >= replayed * (1 - 1e-12)).all()
    assert (cold > kernel.launch * 0.999).all()


@pytest.mark.parametrize("gpu", TIMED)
def test_a_gemm_of_a_step_is_never_below_its_roofline(gpu: str) -> None:
    """Kernels may be fitted below it; what is predicted is not, at the highest clock of the card."""
    profile = hardware.get(gpu)
    bound = np.maximum(
        2.0 * M * N * K / (profile.peak_flops("bf16") * profile.clock_reserve),
        2.0 * (M * K + N * K + M * N) / profile.memory_bandwidth,
    )
    assert (np.asarray(gemm_latency(M, N, K, hardware=gpu)) >= bound * (1 - 1e-12)).all()


@given(
    m=st.floats(1e-3, 1e6), n=st.floats(1e-3, 3e5), k=st.floats(1e-3, 3e5), gpu=st.sampled_from(TIMED),
    dtype=st.sampled_from(["bf16", "int8"]),
)  # fmt: skip
def test_finite_for_any_positive_shape(m: float, n: float, k: float, gpu: str, dtype: str) -> None:
    size = 2.0 if dtype == "bf16" else 1.0
    seconds = Gemm().seconds(m, n, k, hardware.get(gpu), dtype=dtype, a_bytes=size, b_bytes=size)
    assert np.isfinite(seconds)
    assert seconds > 0


@pytest.mark.parametrize("gpu", TIMED)
def test_no_step_is_larger_than_one_wave_explains(gpu: str) -> None:
    """One more tile row or column costs at most one more wave of the largest tile, split or not."""
    profile, kernel = hardware.get(gpu), fitted(gpu)
    n = np.arange(4096, 12288, 16)
    for m in (1, 64, 512, 4096):
        times = kernel.seconds(m, n, 4096, profile)
        rate = profile.peak_flops("bf16") / profile.sm_count * kernel.compute_efficiency
        wave = 2 * 256 * 128 * (4096 + kernel.tile_overhead) / rate * (1 + kernel.power_droop)
        assert np.abs(np.diff(times)).max() <= wave * 1.01


def test_more_work_is_not_much_faster() -> None:
    times = Gemm().seconds(2.0 ** np.arange(15), 4096, 4096, GPU)
    assert (times[1:] > 0.9 * times[:-1]).all()


def test_equal_shapes_have_ratio_one_wherever_they_stand() -> None:
    kernel = Gemm()
    m = np.tile(np.array([1.0, 17.0, 4096.0]), 4000)
    n = np.tile(np.array([4096.0, 512.0, 11008.0]), 4000)
    times = kernel.seconds(m, n, 4096, GPU).reshape(-1, 3)
    assert m.size > Gemm.CHUNK
    np.testing.assert_array_equal(times, np.broadcast_to(times[0], times.shape))


def test_large_gemm_approaches_its_efficiency_and_decode_its_bandwidth() -> None:
    kernel = replace(Gemm(), power_droop=1e-3, tile_overhead=1.0, k_step=1e-9, overlap=12.0, l2_feed=400.0)
    m = n = 16384
    assert kernel.seconds(m, n, 16384, GPU) == pytest.approx(2 * 16384**3 / (989.4e12 * 0.8), rel=0.05)
    weights = 2 * 28672 * 8192 / (3.35e12 * 0.85)
    assert kernel.seconds(8, 28672, 8192, GPU) == pytest.approx(weights, rel=0.05)


def test_without_quantisation_is_never_slower_and_knows_no_alignment() -> None:
    kernel = fitted("h100-sxm")
    smooth = kernel.without_quantisation()
    assert (smooth.seconds(M, N + 1, K, GPU) <= kernel.seconds(M, N + 1, K, GPU) * (1 + 1e-12)).all()
    odd, even = (float(smooth.seconds(4096, 4096, k, GPU)) for k in (8191, 8192))
    assert odd == pytest.approx(even, rel=1e-3)


def test_narrow_formats_read_less_and_take_longer_k_steps() -> None:
    kernel = Gemm()
    fp8 = {"dtype": "fp8", "a_bytes": 1.0, "b_bytes": 1.0}
    assert kernel.seconds(8, 8192, 8192, GPU, **fp8) < 0.7 * kernel.seconds(8, 8192, 8192, GPU)
    # A serial loop over k: half as many steps of 128 bytes, and the launch on both sides.
    slow = replace(kernel, k_step=1e-6, split_k=False)
    wide, narrow = (float(slow.seconds(8, 64, 65536, GPU, **more)) for more in ({}, fp8))
    assert (wide - slow.launch) / (narrow - slow.launch) == pytest.approx(2.0, rel=1e-3)


def test_a_library_that_does_not_split_k_is_slower_on_few_tiles_only() -> None:
    kernel = Gemm()
    whole = replace(kernel, split_k=False)
    assert whole.seconds(8, 64, 65536, GPU) > 2 * kernel.seconds(8, 64, 65536, GPU)
    assert whole.seconds(8192, 8192, 8192, GPU) == pytest.approx(float(kernel.seconds(8192, 8192, 8192, GPU)), rel=0.05)


def test_ops_of_a_trace_and_sweep_axes() -> None:
    rows = [
        {"kernel": "gemm", "gemms": 1, "m": [1.0, 64.0, 4096.0], "n": 4096, "k": 4096},
        {"kernel": "gemm", "gemms": 1, "m": 8, "n": 14336, "k": 4096, "dtype": "fp8", "a_bytes": 1, "b_bytes": 1},
    ]
    ops = OpTrace.from_rows(rows)
    times = Gemm().latency(ops, GPU)
    assert times.shape == (3, 2)
    assert (times >= roofline(ops, GPU)).all()
    np.testing.assert_allclose(times[:, 0], Gemm().seconds([1.0, 64.0, 4096.0], 4096, 4096, GPU))
    assert len(set(times[:, 1])) == 1


def test_scalars_in_scalar_out() -> None:
    assert Gemm().seconds(1, 2, 3, GPU).shape == ()


def test_parameters_have_meaning_and_valid_bounds() -> None:
    found = parameters(Gemm)
    assert len(found) <= 12
    for name, field in found.items():
        assert field.metadata["meaning"], name
        assert 0 < field.metadata["lower"] <= field.default <= field.metadata["upper"]


def test_errors() -> None:
    with pytest.raises(InvalidInputError, match="m must be at least"):
        Gemm().seconds(0, 1, 1, GPU)
    blank = GPU.model_copy(update={"l2_size": None})
    with pytest.raises(MissingValueError, match=r"no L2 size.*cold"):
        Gemm().seconds(1, 512, 512, blank, cache="replayed")
    assert Gemm().seconds(1, 512, 512, blank) > 0
    with pytest.raises(MissingValueError, match="peak for 'fp4'"):
        Gemm().seconds(1, 512, 512, GPU, dtype="fp4")
