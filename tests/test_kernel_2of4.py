"""2:4 GEMM and its dense twin: an oracle, invariants, and published speedups on GPUs that were and were not fitted."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pruninfersim as pis
from pruninfersim import calibration, hardware, stacks
from pruninfersim.calibration import nearest
from pruninfersim.errors import MissingValueError
from pruninfersim.hardware import precision, traits
from pruninfersim.kernels.base import Quantised, ceilings, parameters
from pruninfersim.kernels.gemm import Gemm
from pruninfersim.kernels.gemm_2of4 import SparseGemm24, dense_twin
from pruninfersim.trace import OpTrace

TIMED = ("a100-pcie-80gb", "rtx-4090", "gb10", "b200-sxm")
GPUS = (*TIMED, "a100-sxm-80gb", "h100-sxm", "h100-pcie", "rtx-5080", "rtx-5090", "rtx-pro-6000", "l40s")


def sparse_ops(m, n, k, dtype="bf16"):
    form = precision.get(dtype)
    row = {
        "kernel": "gemm_2of4",
        "pattern": "2:4",
        "gemms": 1,
        "mac_fraction": 0.5,
        "dtype": form.dtype,
        "a_bytes": form.input_bytes,
        "b_bytes": precision.sparse_bytes(form.weight_bytes),
        "out_bytes": form.output_bytes,
    }
    return OpTrace.from_rows([{**row, "m": m, "n": n, "k": k}])


def kernel(gpu, dtype="bf16"):
    return nearest.nearest_calibration("gemm_2of4", dtype, hardware.get(gpu))[0].kernel


def speedup(gpu, m, n, k, dtype="bf16", cache="replayed"):
    return kernel(gpu, dtype).ratio(sparse_ops(m, n, k, dtype), hardware.get(gpu), cache=cache)[..., 0]


def alike(one, other):
    return all(np.isclose(getattr(one, name), getattr(other, name), rtol=1e-9) for name in parameters(one))


def oracle(model, m, n, k, gpu, sparse, cache):
    """The formula for one shape, as a scalar loop."""
    d = hardware.get(gpu)
    launch, eff, step, overhead = model.launch, model.compute_efficiency, model.k_step, model.tile_overhead
    if sparse:
        launch, eff = launch + model.sparse_launch, eff * model.sparse_rate
        step, overhead = step * model.sparse_step, overhead * model.sparse_overhead
    old = d.compute_capability.split(".")[0] in ("8", "12")
    weights, size = n * k * (1.125 if sparse else 2.0), 2.0 * m * k
    read = weights
    if sparse and old:
        passes = math.ceil(m / 128) / max(1, d.sm_count / math.ceil(n / 128)) - 1
        read += max(0, passes) * weights / (1 + (d.l2_size / weights) ** 4)
    hit = 0.0 if cache == "cold" else 1 / (1 + ((size + read) / (model.l2_reach * d.l2_size)) ** 40)
    slow, cores = d.memory_bandwidth * model.memory_efficiency, d.sm_count * d.clock
    memory = ((size + read) * (1 - hit) + 2 * m * n) / slow + (size + read) * hit / (d.memory_bandwidth * 2.5)
    times = []
    for (bm, bn), s in itertools.product(model.TILES, model.SPLITS if model.searched or not (sparse and old) else (1,)):
        part = k if s == 1 else 64 * math.ceil(k / (64 * s))
        rows, columns = math.ceil(m / bm), math.ceil(n / bn)
        rate = d.peak_flops("bf16", sparse=sparse) * eff / d.sm_count
        tensor = math.ceil(rows * columns * s / d.sm_count) * 2 * bm * bn * (part + overhead) / rate
        tensor *= 1 + model.power_droop * tensor / (tensor + 1e-3)
        fed = (columns * size + rows * weights) / (cores * model.l2_feed)
        p = model.overlap
        t = (tensor**p + fed**p + memory**p + (part * step / 64) ** p) ** (1 / p)
        times.append(t + (model.split_cost + 8 * s * m * n / (cores * model.split_bandwidth) if s > 1 else 0))
    many = len(model.TILES) * len(model.SPLITS)
    if m == 1 and not sparse:
        times.append(memory + model.vector_latency)
    return launch + (sum(t**-50 for t in times) / many) ** (-1 / 50)


@pytest.mark.parametrize("gpu", ["rtx-4090", "b200-sxm"])
@pytest.mark.parametrize("cache", ["cold", "replayed"])
@pytest.mark.parametrize("searched", [True, False])
def test_equals_the_scalar_oracle(gpu, cache, searched):
    m, n, k = np.array([[1, 64, 200, 4096], [2048, 37888, 4608, 8192], [2048, 3584, 3584, 8192]], dtype=float)
    model, ops = SparseGemm24(searched=searched, protocol="cuBLASLt"), sparse_ops(m, n, k)
    for sparse, trace in ((True, ops), (False, dense_twin(ops))):
        expected = np.array([oracle(model, *shape, gpu, sparse, cache) for shape in zip(m, n, k, strict=True)])
        np.testing.assert_allclose(model.latency(trace, hardware.get(gpu), cache=cache)[:, 0], expected, rtol=1e-12)


def test_dense_twin_has_the_bytes_and_macs_of_the_dense_gemm():
    ops = sparse_ops(7.0, 96.0, 64.0)
    twin = dense_twin(ops)
    assert twin.flops.item() == 2 * 7 * 96 * 64
    assert twin.b_traffic.item() == 2 * 96 * 64
    assert ops.b_traffic.item() == 0.5625 * twin.b_traffic.item()
    assert dense_twin(twin).b_bytes.item() == 2.0


def test_latency_prices_each_op_by_its_kernel_key():
    ops = sparse_ops(512.0, 4096.0, 4096.0)
    both = ops.concat(dense_twin(ops))
    gpu = hardware.get("rtx-4090")
    sparse, dense = SparseGemm24().latency(both, gpu, cache="replayed")
    assert sparse == SparseGemm24().latency(ops, gpu, cache="replayed").item()
    assert dense == SparseGemm24().dense_latency(ops, gpu, cache="replayed").item()
    assert dense > sparse


@pytest.mark.parametrize("gpu", GPUS)
def test_shapes_broadcast_and_what_is_predicted_is_never_below_the_roofline(gpu):
    m = np.array([1, 2, 8, 64, 100, 128, 1000, 4096, 32768], dtype=float)[:, None, None]
    n = np.array([1, 16, 128, 2048, 28672], dtype=float)[:, None]
    k = np.array([1, 64, 4096, 28672], dtype=float)
    ops, device = sparse_ops(m, n, k), hardware.get(gpu)
    for trace in (ops, dense_twin(ops)):
        seconds = kernel(gpu).latency(trace, device)
        assert seconds.shape == (9, 5, 4, 1)
        assert np.isfinite(seconds).all()
    step = stacks.get("vendor", device).predict(ops)
    assert (step.run >= ceilings(ops, device)[1]).all()


@given(
    m=st.floats(1, 1e5), n=st.floats(1, 2e5), k=st.floats(1, 2e5),
    gpu=st.sampled_from(GPUS), cache=st.sampled_from(["cold", "replayed"]),
)  # fmt: skip
def test_any_shape_gives_a_finite_plausible_ratio(m, n, k, gpu, cache):
    model, device = kernel(gpu), hardware.get(gpu)
    # A dense GEMM of one token has a kernel without a serial loop over k, which no 2:4 library has: of two, both loop.
    dense = model.dense_latency(sparse_ops(max(m, 2.0), n, k), device, cache=cache).item()
    ratio = dense / model.latency(sparse_ops(m, n, k), device, cache=cache).item()
    assert 0.2 < ratio < (2.6 if cache == "cold" else 12.0)


def test_beside_another_dense_gemm_the_ratios_stay_and_that_gemm_does_not_change():
    ops, device = sparse_ops(np.array([2.0, 64.0, 4096.0]), 5120.0, 3072.0), hardware.get("a100-pcie-80gb")
    dense, plain = Gemm(launch=3e-6, k_step=2e-7), Gemm()
    same = SparseGemm24(sparse_launch=0.0, sparse_rate=1.0, sparse_step=1.0, sparse_overhead=1.0, searched=True)
    for other in (dense, plain):
        both = same.beside(other)
        np.testing.assert_array_equal(both.dense_latency(ops, device), other.latency(dense_twin(ops), device))
        # Without losses of its own, at the dense peak and with dense weights, 2:4 is the dense GEMM.
        card = device.clone("dense rate", peak_2of4=device.peak, l2_size=1e12)
        fat = ops.with_columns(b_bytes=np.full(ops.b_bytes.shape, 2.0))
        np.testing.assert_allclose(both.latency(fat, card), other.latency(dense_twin(ops), card), rtol=1e-12)


def test_by_default_the_loop_over_k_takes_its_time_however_many_tokens_there_are():
    # arXiv 2606.09080, Table 7, RTX PRO 6000: 22 us for k of 4096 and 71 us for 14336 at 1 to 64 tokens, weights in L2;
    # 4096 outputs. The k step is that of GEMMs of the card, and nothing is fitted to the paper.
    m, k = np.array([1.0, 4.0, 16.0, 64.0])[:, None], np.array([4096.0, 14336.0])
    gpu = hardware.get("rtx-pro-6000-server")
    model = stacks.get("vendor", gpu).priced("gemm_2of4", "bf16").model
    seconds = model.latency(sparse_ops(m, 4096.0, k), gpu, cache="replayed")[..., 0]
    np.testing.assert_allclose(seconds[1:] / seconds[:1], 1.0, rtol=0.1)
    np.testing.assert_allclose(seconds * 1e6, np.broadcast_to([22.0, 71.0], seconds.shape), rtol=0.25)
    searched = replace(model, searched=True).latency(sparse_ops(m, 4096.0, k), gpu, cache="replayed")[..., 0]
    assert (searched[:, 1] < 0.7 * seconds[:, 1]).all()


@pytest.mark.parametrize(
    ("gpu", "m", "n", "k"),
    [("h100-nvl", 512.0, 1024.0, 4096.0), ("a100-sxm-80gb", 192941.0, 128256.0, 4096.0),
     ("a100-sxm-80gb", 255827.0, 128256.0, 4096.0)],
)  # fmt: skip
def test_one_more_token_is_not_faster(gpu, m, n, k):
    # The dense time has waves; a ratio with waves of its own, a few tokens apart, made the next token 13 % faster.
    vendor = stacks.get("vendor", hardware.get(gpu)).priced("gemm_2of4", "bf16").model
    around = m + np.arange(-3.0, 4.0)
    seconds = vendor.latency(sparse_ops(around, n, k), hardware.get(gpu))[:, 0]
    assert (seconds[1:] > 0.99 * seconds[:-1]).all()


def test_without_quantisation_is_smooth_in_m():
    smooth = SparseGemm24().without_quantisation()
    assert isinstance(smooth, Quantised)
    m = np.arange(1000.0, 1400.0, 8.0)
    seconds = smooth.latency(sparse_ops(m, 4096.0, 4096.0), hardware.get("b200-sxm"))[:, 0]
    steps = np.diff(np.log(seconds)) / np.diff(np.log(m))
    assert (steps > 0).all()
    assert (steps < 1.05).all()


def test_cold_streams_the_weights_of_both_twins():
    # 3072 x 2048 fits the L2 of an RTX 4090 as dense and as 2:4: warm, the bytes that 2:4 saves hardly count.
    warm, cold = (speedup("rtx-4090", 64.0, 3072.0, 2048.0, cache=cache) for cache in ("replayed", "cold"))
    assert cold > warm
    assert cold < 2.0 / 1.125


# --- what the data and the literature say ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "k", "published", "tolerance"),
    [(4096.0, 11008.0, 1.589, 0.1), (11008.0, 4096.0, 1.426, 0.1), (4096.0, 4096.0, 1.478, 0.12)],
)
def test_gemms_of_llama_2_7b_on_a100(n, k, published, tolerance):
    # SliceGPT (arXiv 2401.15024), appendix: cuSPARSELt 0.5, A100 80 GB, fp16, 2048 tokens; never fitted to.
    assert speedup("a100-sxm-80gb", 2048.0, n, k, cache="cold") == pytest.approx(published, rel=tolerance)


@pytest.mark.parametrize(
    ("hidden", "ffn", "kv", "published"),
    [(4096, 11008, 4096, 1.478), (5120, 13824, 5120, 1.501), (8192, 28672, 1024, 1.322)],
)
def test_layers_of_llama_2_on_a100(hidden, ffn, kv, published):
    # SliceGPT (arXiv 2401.15024), appendix: sum of the GEMMs of one layer of LLaMA-2 7B, 13B, 70B at 2048 tokens. Its
    # dense times, 3.99, 5.93 and 16.13 ms, are 5 to 10 % above the timings that both sides here are fitted to.
    shapes = [(hidden, hidden)] * 2 + [(kv, hidden)] * 2 + [(ffn, hidden)] * 2 + [(hidden, ffn)]
    n, k = np.array(shapes, dtype=float).T
    ops, device, model = sparse_ops(2048.0, n, k), hardware.get("a100-sxm-80gb"), kernel("a100-sxm-80gb")
    dense, sparse = model.dense_latency(ops, device).sum(), model.latency(ops, device).sum()
    assert dense / sparse == pytest.approx(published, rel=0.06)


@pytest.mark.xfail(strict=True, reason="what GEMMs of an A100 are fitted to is 5 to 10 % faster than this")
@pytest.mark.parametrize(
    ("hidden", "ffn", "kv", "milliseconds"),
    [(4096, 11008, 4096, 3.99), (5120, 13824, 5120, 5.93)],
)
def test_dense_layers_of_llama_2_on_a100(hidden, ffn, kv, milliseconds):
    # SliceGPT, as above: the dense GEMMs of one layer.
    shapes = [(hidden, hidden)] * 2 + [(kv, hidden)] * 2 + [(ffn, hidden)] * 2 + [(hidden, ffn)]
    n, k = np.array(shapes, dtype=float).T
    dense = pis.gemm_latency(2048.0, n, k, hardware="a100-sxm-80gb").sum()
    assert dense == pytest.approx(milliseconds * 1e-3, rel=0.06)


@pytest.mark.parametrize(("n", "k"), [(10240.0, 5120.0), (51200.0, 5120.0), (5120.0, 8192.0), (5120.0, 25600.0)])
def test_fp8_on_b200_at_many_tokens(n, k):
    # SpenseGPT (arXiv 2606.10445), GEMMs of Qwen3-32B on B200, fp8, digitised: 1.59 to 1.82 at M = 8192 to 65536.
    got = speedup("b200-sxm", np.array([8192.0, 32768.0, 65536.0]), n, k, dtype="fp8")
    assert (np.abs(got / 1.73 - 1) < 0.1).all()


def test_wide_layers_on_a_small_l2_are_slower_than_dense():
    # bcacdwk/vllmbench on GB10: 8192^3 takes 13.6 ms as dense and 25 ms as 2:4, as the weights exceed its 24 MB of L2.
    assert speedup("gb10", 8192.0, 8192.0, 8192.0) == pytest.approx(13.6 / 25.0, rel=0.15)
    # The same matrix fits the L2 of an RTX 4090 almost, and B200 kernels do not read weights twice.
    assert speedup("rtx-4090", 8192.0, 8192.0, 8192.0) > 1.7
    assert speedup("b200-sxm", 8192.0, 37888.0, 3584.0) > 1.5


def test_few_tokens_gain_little_and_many_gain_more():
    m = np.array([64.0, 16384.0])
    for gpu in ("a100-pcie-80gb", "rtx-4090", "b200-sxm", "h100-sxm"):
        few, many = speedup(gpu, m, 3072.0, 2048.0)
        assert few < 1.25
        assert 1.35 < many < 2.05


def test_small_layers_on_hopper_may_be_slower_than_dense():
    assert speedup("h100-sxm", 128.0, 2048.0, 2048.0) < 1.05


# --- transfer and calibration ----------------------------------------------------------------------------------------


def test_geforce_cards_without_data_follow_the_timed_geforce_card():
    known = kernel("rtx-4090")
    for gpu in ("rtx-5080", "rtx-5090"):
        found, extrapolated = nearest.nearest_calibration("gemm_2of4", "bf16", hardware.get(gpu))
        assert extrapolated
        assert alike(found.kernel, known)
    assert traits.tensor_rate(hardware.get("rtx-5080")) == "half"
    assert traits.tensor_rate(hardware.get("rtx-pro-6000")) == traits.tensor_rate(hardware.get("h100-sxm")) == "full"


def test_other_cards_average_those_at_full_tensor_rate():
    pooled = kernel("h100-sxm")
    timed = [kernel(gpu).sparse_rate for gpu in ("a100-pcie-80gb", "gb10", "b200-sxm")]
    assert pooled.sparse_rate == pytest.approx(np.exp(np.mean(np.log(timed))))
    assert alike(kernel("a100-sxm-80gb"), kernel("a100-pcie-80gb"))


@pytest.mark.parametrize("gpu", TIMED)
def test_shipped_calibrations_reach_their_held_out_error(gpu):
    found, extrapolated = nearest.nearest_calibration("gemm_2of4", "bf16", hardware.get(gpu))
    assert not extrapolated
    assert found.ratio_error["sparsity"] < 0.11
    assert found.residual.low < found.residual.median < found.residual.high


def test_a_fit_recovers_the_model_that_made_the_timings():
    truth, device = (
        SparseGemm24(compute_efficiency=0.85, sparse_rate=0.8, memory_efficiency=0.83),
        hardware.get("l40s"),
    )
    m, (n, k) = np.array([64.0, 512.0, 4096.0, 16384.0]), np.array([[2048, 4096, 16384], [2048, 8192, 4096]], float)
    m, n, k = (np.ravel(x) for x in np.broadcast_arrays(m[:, None], n, k))
    parts = []
    for sparsity, ops in (("2:4", sparse_ops(m, n, k)), ("dense", dense_twin(sparse_ops(m, n, k)))):
        seconds = truth.latency(ops, device, cache="replayed")[:, 0]
        parts.append(pd.DataFrame({"m": m, "n": n, "k": k, "sparsity": sparsity, "latency_us": seconds * 1e6}))
    frame = pd.concat(parts).assign(gpu="l40s", dtype="bf16", backend="made up")
    fit = calibration.calibrate("gemm_2of4", frame, "l40s", start=SparseGemm24(), parameters="all")
    ops = sparse_ops(m, n, k)
    got, expected = (x.ratio(ops, device, cache="replayed") for x in (fit.kernel, truth))
    np.testing.assert_allclose(got, expected, rtol=0.06)


def test_a_missing_l2_size_is_reported():
    bare = hardware.get("gb10").model_copy(update={"l2_size": None})
    with pytest.raises(MissingValueError, match="no L2 size"):
        SparseGemm24().latency(sparse_ops(64.0, 64.0, 64.0), bare)


def test_held_out_error_of_the_data(validation_data):
    """The shipped coefficients against the rows they were fitted to, of all GPUs."""
    path = validation_data / "timings" / "gemm_2of4_slidesparse.csv.gz"
    if not path.exists():
        pytest.skip("the 2:4 timings are not there")
    raw = pd.read_csv(path)
    raw = raw[raw["dtype"] == "BF16->BF16"]
    sides = raw.pivot_table(index=["gpu", "m", "n", "k"], columns="sparsity", values="latency_us").dropna()
    measured = sides["dense"] / sides["2_4"]
    measured = measured[measured <= 2.15].reset_index(name="ratio")
    names = {"A100-PCIe-80GB": "a100-pcie-80gb", "RTX4090": "rtx-4090", "GB10": "gb10", "B200": "b200-sxm"}
    for source, gpu in names.items():
        rows = measured[measured["gpu"] == source]
        got = speedup(gpu, *(rows[axis].to_numpy(dtype=float) for axis in "mnk"))
        assert np.mean(np.abs(got / rows["ratio"].to_numpy() - 1)) < 0.095
