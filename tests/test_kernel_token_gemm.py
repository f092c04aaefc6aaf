"""Token-wise GEMMs of library calls: expected values, invariants, and a gather-GEMM-scatter measured on an RTX 5090."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruninfersim import hardware
from pruninfersim.kernels.base import Quantised, Roofline, ceilings, compute_time, roofline
from pruninfersim.kernels.elementwise import Elementwise
from pruninfersim.kernels.gemm import Gemm
from pruninfersim.kernels.token_gemm import SMALL_KERNEL, BatchedGemm, MaskSort, VendorTokenGemm
from pruninfersim.trace import OpTrace

#: Measured on an RTX 5090, M = N = K, half of the rows kept: size -> TFLOP/s of dense, speedup of "GEMM-M naive".
MEASURED = {1024: (121.5, 0.239), 2048: (168.3, 0.928), 4096: (212.7, 1.478)}


@dataclass(frozen=True)
class Published:
    """Dense GEMM at the published rates, interpolated in log-log by its FLOPs."""

    def latency(self, ops, device, *, cache="cold"):
        flops = np.array([2.0 * n**3 for n in MEASURED])
        x, y = np.log(flops), np.log(flops / (np.array([rate for rate, _ in MEASURED.values()]) * 1e12))
        slope = (y[1] - y[0]) / (x[1] - x[0])
        log = np.log(ops.flops)
        return np.exp(np.where(log < x[0], y[0] + slope * (log - x[0]), np.interp(log, x, y)))


def token_ops(m, n, k, keep):
    m, keep = np.asarray(m, dtype=float), np.asarray(keep, dtype=float)
    row = {"kernel": "token_gemm", "gemms": 1, "m": m, "n": n, "k": k, "mac_fraction": keep}
    return OpTrace.from_rows([{**row, "a_reads": keep, "out_writes": keep, "b_reads": 1.0 - (1.0 - keep) ** m}])


@pytest.mark.parametrize("size", MEASURED)
def test_gather_gemm_scatter_on_rtx_5090(size):
    # dynamic-pruning kernels of arXiv 2606.09080's repository: CUDA graph, layout preparation included.
    gpu, ops = hardware.get("rtx-5090"), token_ops(size, size, size, 0.5)
    dense = 2.0 * size**3 / (MEASURED[size][0] * 1e12)
    index = MaskSort().latency(OpTrace.from_rows([{"kernel": "mask_sort", "m": size}]), gpu).item()
    seconds = VendorTokenGemm(Published()).latency(ops, gpu).item() + index
    assert dense / seconds == pytest.approx(MEASURED[size][1], rel=0.13)


def test_composition_has_a_closed_form():
    gpu, ops = hardware.get("h100-sxm"), token_ops(4096, 2048, 1024, 0.25)
    dense = OpTrace.from_rows([{"kernel": "gemm", "gemms": 1, "m": 1024, "n": 2048, "k": 1024}])
    copied = 2 * 2 * 1024 * (1024 + 2048) / (gpu.memory_bandwidth * Elementwise.COPY_EFFICIENCY)
    expected = Gemm().latency(dense, gpu).item() + copied + 2 * SMALL_KERNEL
    assert VendorTokenGemm(Gemm()).latency(ops, gpu).item() == pytest.approx(expected, rel=1e-9)


def test_one_token_runs_or_not():
    gpu, keep = hardware.get("a100-sxm-80gb"), 0.3
    kept = VendorTokenGemm(Gemm()).latency(token_ops(1, 4096, 4096, 1.0), gpu).item()
    seconds = VendorTokenGemm(Gemm()).latency(token_ops(1, 4096, 4096, keep), gpu).item()
    assert seconds == pytest.approx(keep * kept + (1 - keep) * 2 * SMALL_KERNEL)


def test_a_batch_runs_if_any_token_is_active():
    gpu = hardware.get("a100-sxm-80gb")
    one, many = (VendorTokenGemm(Gemm()).latency(token_ops(m, 28672, 8192, 0.5), gpu).item() for m in (1, 16))
    dense = VendorTokenGemm(Gemm()).latency(token_ops(16, 28672, 8192, 1.0), gpu).item()
    assert one < 0.6 * dense
    assert many > 0.98 * dense


def test_nothing_removed_is_slower_than_dense():
    gpu, dense = (
        hardware.get("rtx-pro-6000"),
        OpTrace.from_rows([{"kernel": "gemm", "gemms": 1, "m": 512, "n": 4096, "k": 4096}]),
    )
    assert VendorTokenGemm(Gemm()).latency(token_ops(512, 4096, 4096, 1.0), gpu) > Gemm().latency(dense, gpu)


@given(
    m=st.floats(1, 1e5), n=st.floats(1, 1e5), k=st.floats(1, 1e5), keep=st.floats(1e-9, 1.0),
    gpu=st.sampled_from(["a100-sxm-80gb", "h100-sxm", "rtx-5090"]),
)  # fmt: skip
def test_any_shape_is_finite_and_at_least_the_roofline(m, n, k, keep, gpu):
    ops, device = token_ops(m, n, k, keep), hardware.get(gpu)
    seconds = VendorTokenGemm(Gemm()).latency(ops, device).item()
    assert np.isfinite(seconds)
    assert seconds >= ceilings(ops, device)[1].item()


def test_shapes_broadcast():
    ops = token_ops(np.array([1.0, 64.0, 4096.0])[:, None], 4096, 4096, np.array([0.25, 0.5]))
    for model in (VendorTokenGemm(Gemm()), VendorTokenGemm(Roofline()), MaskSort(), BatchedGemm()):
        seconds = np.broadcast_to(model.latency(ops, hardware.get("h100-sxm")), (3, 2, 1))
        assert (seconds >= 0).all()


def test_copies_and_quantisation():
    model = VendorTokenGemm(Roofline())
    assert model.copies == 2.0  # a gather and a scatter beside the GEMM
    assert isinstance(model, Quantised)
    assert model.without_quantisation() is model


def test_mask_sort_is_a_constant_until_masks_are_huge():
    gpu = hardware.get("h100-sxm")
    times = MaskSort().latency(OpTrace.from_rows([{"kernel": "mask_sort", "m": [1.0, 1e5, 1e12]}]), gpu)[:, 0]
    assert times[0] == times[1] == 50e-6
    assert times[2] > 1.0


def test_batched_gemm_pads_tiles():
    gpu = hardware.get("h100-sxm")
    row = {"kernel": "block_score", "gemms": 1, "batch": 1e4, "b_batch": 1e4, "k": 128}
    whole, part = (OpTrace.from_rows([{**row, "m": size, "n": size}]) for size in (512, 450))
    compute = compute_time(whole, gpu).item() / BatchedGemm.compute_efficiency
    memory = whole.traffic.item() / (gpu.memory_bandwidth * BatchedGemm.memory_efficiency)
    got = BatchedGemm().latency(whole, gpu).item()
    assert got == pytest.approx(BatchedGemm.launch + np.hypot(compute, memory))
    assert roofline(part, gpu).item() <= BatchedGemm().latency(part, gpu).item() < got
    tiny = OpTrace.from_rows([{**row, "m": 1, "n": 1, "batch": 1, "b_batch": 1}])
    assert BatchedGemm().latency(tiny, gpu).item() == pytest.approx(BatchedGemm.launch, rel=0.02)
