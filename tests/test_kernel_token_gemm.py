"""Token-wise GEMMs of library calls: expected values, invariants, and a gather-GEMM-scatter measured on an RTX 5090."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pruninfersim as pis
from pruninfersim import hardware, stacks
from pruninfersim.kernels.base import Quantised, Roofline, ceilings, compute_time, roofline
from pruninfersim.kernels.elementwise import Elementwise
from pruninfersim.kernels.gemm import Gemm
from pruninfersim.kernels.token_gemm import SMALL_KERNEL, BatchedGemm, MaskSort, TokenCopy, VendorTokenGemm
from pruninfersim.pruning import DynamicDepth
from pruninfersim.stacks.copies import with_token_copies
from pruninfersim.trace import OpTrace, trace
from pruninfersim.workload import Workload

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
    copied = {"kernel": "token_copy", "m": size, "n": size, "k": size, "a_reads": 0.5, "out_writes": 0.5}
    copy = OpTrace.from_rows([copied])
    copies = 2 * TokenCopy().latency(copy, gpu).item()
    seconds = VendorTokenGemm(Published()).latency(ops, gpu).item() + copies + index
    assert dense / seconds == pytest.approx(MEASURED[size][1], rel=0.13)


def test_composition_has_a_closed_form():
    gpu, ops = hardware.get("h100-sxm"), token_ops(4096, 2048, 1024, 0.25)
    dense = OpTrace.from_rows([{"kernel": "gemm", "gemms": 1, "m": 1024, "n": 2048, "k": 1024}])
    expected = Gemm().latency(dense, gpu).item()
    assert VendorTokenGemm(Gemm()).latency(ops, gpu).item() == pytest.approx(expected, rel=1e-9)


def test_a_copy_reads_and_writes_the_kept_rows():
    gpu = hardware.get("h100-sxm")
    row = {"kernel": "token_copy", "m": 4096, "n": 1024, "k": 1024, "a_reads": 0.25, "out_writes": 0.25}
    moved = 2 * 2 * 1024 * 1024 / (gpu.memory_bandwidth * Elementwise.COPY_EFFICIENCY)
    assert TokenCopy().latency(OpTrace.from_rows([row]), gpu).item() == pytest.approx(SMALL_KERNEL + moved)
    nothing = OpTrace.from_rows([{**row, "a_reads": 0.0, "out_writes": 0.0}])
    assert TokenCopy().latency(nothing, gpu).item() == 0.0


def test_one_token_runs_or_not():
    gpu, keep = hardware.get("a100-sxm-80gb"), 0.3
    kept = VendorTokenGemm(Gemm()).latency(token_ops(1, 4096, 4096, 1.0), gpu).item()
    seconds = VendorTokenGemm(Gemm()).latency(token_ops(1, 4096, 4096, keep), gpu).item()
    assert seconds == pytest.approx(keep * kept + (1 - keep) * SMALL_KERNEL)


def test_a_batch_runs_if_any_token_is_active():
    gpu = hardware.get("a100-sxm-80gb")
    one, many = (VendorTokenGemm(Gemm()).latency(token_ops(m, 28672, 8192, 0.5), gpu).item() for m in (1, 16))
    dense = VendorTokenGemm(Gemm()).latency(token_ops(16, 28672, 8192, 1.0), gpu).item()
    assert one < 0.6 * dense
    assert many > 0.98 * dense


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_nothing_removed_is_slower_than_dense(phase):
    dense = trace("llama-3.1-8b", Workload.prefill(1, 2048) if phase == "prefill" else Workload.decode(batch=8))
    vendor = stacks.get("vendor", hardware.get("rtx-pro-6000"))
    assert vendor.predict(dense.prune(DynamicDepth(0.0))).latency > vendor.predict(dense).latency


def test_rows_are_packed_once_per_sub_layer():
    # One gather before q, one before gate and up, one scatter after o and one after down: four per layer.
    for fused in (False, True):
        step = trace("llama-3.1-8b", Workload.prefill(1, 512)).prune(DynamicDepth(0.25))
        lowered = with_token_copies(step.fuse_projections() if fused else step)
        copies = lowered.select(lowered.mask(kernels=["token_copy"]))
        assert copies.name == ("gather_attention", "scatter_attention", "gather_mlp", "scatter_mlp")
        assert copies.count.tolist() == [32.0] * 4
        # Each reads and writes 384 rows of 4096 bf16 numbers.
        assert copies.traffic.tolist() == [2 * 384 * 4096 * 2.0] * 4
        assert with_token_copies(lowered) is lowered
    dense = trace("llama-3.1-8b", Workload.prefill(1, 512))
    assert with_token_copies(dense) is dense


def test_one_token_is_neither_sorted_nor_copied():
    """Batch 1 is a branch: what is left of the overhead of a layer is two routers of two GEMMs and a flag each."""
    vendor = stacks.get("vendor", hardware.get("h100-sxm"))
    step = vendor.predict(trace("llama-3.1-8b", Workload.decode(batch=1)).prune(DynamicDepth(0.5))).to_frame()
    assert step[step.name.str.startswith(("gather", "scatter"))].seconds.sum() == 0.0
    assert step[step.name.str.startswith("mask_sort")].seconds.sum() == pytest.approx(64 * (SMALL_KERNEL + 1.2e-6))


def test_steps_of_library_calls_reach_what_hand_written_ones_do_in_prefill():
    # Index and copies once per sub-layer, everything else as it was: 1.44 on an H100, where copies around every GEMM
    # and a sort of 50 us gave 1.31.
    vendor, dense = stacks.get("vendor", hardware.get("h100-sxm")), trace("llama-3.1-8b", Workload.prefill(1, 2048))
    gain = vendor.predict(dense).latency / vendor.predict(dense.prune(DynamicDepth(0.5))).latency
    assert gain == pytest.approx(1.44, rel=0.03)


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
    for model in (VendorTokenGemm(Gemm()), VendorTokenGemm(Roofline()), TokenCopy(), MaskSort(), BatchedGemm()):
        seconds = np.broadcast_to(model.latency(ops, hardware.get("h100-sxm")), (3, 2, 1))
        assert (seconds >= 0).all()


def test_quantisation_is_that_of_the_dense_kernel():
    model = VendorTokenGemm(Roofline())
    assert isinstance(model, Quantised)
    assert model.without_quantisation() is model


def test_mask_sort_grows_with_the_tokens_and_with_slower_clocks():
    ops = OpTrace.from_rows([{"kernel": "mask_sort", "m": [1.0, 8.0, 64.0, 2048.0, 1e12]}])
    timed, slower = (MaskSort().latency(ops, hardware.get(gpu))[:, 0] for gpu in ("rtx-5090", "h100-sxm"))
    assert (np.diff(timed) > 0).all()
    assert timed[0] == pytest.approx(SMALL_KERNEL, rel=1e-5)
    assert timed[3] == pytest.approx(50e-6, rel=0.02)  # GEMM-M naive, 1024 to 4096 tokens
    clocks = hardware.get("rtx-5090").boost_clock / hardware.get("h100-sxm").boost_clock
    np.testing.assert_allclose((slower[1:4] - SMALL_KERNEL) / (timed[1:4] - SMALL_KERNEL), clocks, rtol=1e-9)
    assert timed[4] > 1.0


@pytest.mark.parametrize("stack", ["vendor", "tensorrt-llm-0.9"])
def test_a_clock_that_is_stated_as_it_is_taken_changes_no_time(stack):
    gpu = hardware.get("rtx-pro-6000-max-q")  # its data sheet has no boost clock
    stated = gpu.clone("stated", boost_clock=gpu.clock)
    step = pis.trace("llama-3.1-8b", pis.Workload.decode(batch=64, context=8192))
    pruned = step.prune(pis.pruning.DynamicDepth(0.5))
    seconds = [pis.Setup("llama-3.1-8b", each, stack).estimate(pruned).latency for each in (gpu, stated)]
    assert seconds[0] == pytest.approx(seconds[1], rel=1e-12)


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
