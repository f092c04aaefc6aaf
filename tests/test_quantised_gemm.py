"""Quantised GEMMs: invariants, published anchors, and the kernels that quantise activations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pruninfersim as pis
from pruninfersim.calibration import nearest
from pruninfersim.errors import InvalidInputError, MissingValueError, UnknownNameError
from pruninfersim.stacks.quantisation import with_quantisation

#: GEMMs of a layer of Llama-3.1-8B: n, k.
LAYER = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336))
CARDS = ("h100-sxm", "h200-sxm", "l40s", "rtx-4090", "rtx-pro-6000-server", "b200-sxm")
M = np.unique(np.round(np.geomspace(1, 16384, 60)))


def layer(gpu: str, m: float, **more: str) -> float:
    return sum(float(pis.gemm_latency(m, n, k, hardware=gpu, **more)) for n, k in LAYER)


@pytest.mark.parametrize("gpu", CARDS)
@pytest.mark.parametrize(("n", "k"), [*LAYER, (1024, 1024), (512, 16384), (128256, 4096)])
def test_fused_beats_one_kernel_beats_two_and_fused_beats_bf16(gpu: str, n: int, k: int) -> None:
    wide = pis.gemm_latency(M, n, k, hardware=gpu)
    fused, one, two = (
        pis.gemm_latency(M, n, k, hardware=gpu, dtype="fp8", quantise=how) for how in ("fused", "per-token", "dynamic")
    )
    assert (fused <= one).all()
    assert (one <= two).all()
    assert (fused <= wide).all()


# Bytes halve and the start of a kernel does not: 1.86 and 1.76 worked out from timed bf16 GEMMs; engines with fused
# scales report about 1.8.
@pytest.mark.parametrize(("gpu", "low", "high"), [("h100-sxm", 1.75, 1.95), ("b200-sxm", 1.6, 1.9)])
def test_one_token_through_a_layer(gpu: str, low: float, high: float) -> None:
    assert low <= layer(gpu, 1) / layer(gpu, 1, dtype="fp8") <= high
    assert layer(gpu, 1) / layer(gpu, 1, dtype="fp8", quantise="dynamic") < low


def test_rtx_4090_reaches_its_measured_fp8_rate() -> None:
    seconds = float(pis.gemm_latency(8192, 8192, 8192, hardware="rtx-4090", dtype="fp8"))
    assert 2 * 8192**3 / seconds == pytest.approx(327e12, rel=0.05)  # cuBLASLt, as the notes of its profile say


# Marlin beside fp16 cuBLAS on H100, n = k = 8192, cold, one token; 7 us of call overhead are taken off
# (github.com/inclusionAI/humming, pull 2).
@pytest.mark.parametrize(("dtype", "measured"), [("bf16", 51.4e-6), ("int8_wo", 31.8e-6), ("int4_wo", 20.0e-6)])
def test_weight_only_on_h100(dtype: str, measured: float) -> None:
    assert float(pis.gemm_latency(1, 8192, 8192, hardware="h100-sxm", dtype=dtype)) == pytest.approx(measured, rel=0.15)


def test_quantisation_alone_is_what_was_timed() -> None:
    # TensorRT-LLM on H100, one token of 8192: absmax 7.2, cast 1.4 us (ai-dynamo/aiconfigurator, Apache-2.0), and 1 us
    # by which a GEMM behind other kernels starts later.
    fused, two = (
        pis.gemm_latency(1, 8192, 8192, hardware="h100-sxm", dtype="fp8", quantise=how, cache="replayed")
        for how in ("fused", "dynamic")
    )
    assert float(two - fused) == pytest.approx(9.6e-6, rel=0.05)


def test_libraries_differ_and_are_named() -> None:
    shape = {"hardware": "b200-sxm", "dtype": "fp8_block"}
    ours, theirs = (pis.gemm_latency(64, 4096, 4096, library=name, **shape) for name in ("trtllm", "sglang"))
    assert ours != theirs
    assert pis.gemm_latency(64, 4096, 4096, **shape) == ours
    with pytest.raises(UnknownNameError, match="trtllm"):
        pis.gemm_latency(1, 64, 64, hardware="b200-sxm", dtype="fp8", library="trt")
    with pytest.raises(UnknownNameError, match="per-token"):
        pis.gemm_latency(1, 64, 64, hardware="b200-sxm", dtype="fp8", quantise="per-tok")
    with pytest.raises(InvalidInputError, match="stack 'vendor'"):
        pis.gemm_latency(1, 64, 64, hardware="b200-sxm", dtype="fp8", quantise="dynamic", stack="ideal")


def test_a_card_without_the_rate_refuses() -> None:
    with pytest.raises(MissingValueError, match="fp8"):
        pis.gemm_latency(1, 64, 64, hardware="a100-sxm-80gb", dtype="fp8_block")
    with pytest.raises(MissingValueError, match="fp4"):
        pis.gemm_latency(1, 64, 64, hardware="h100-sxm", dtype="nvfp4")


def test_rows_of_quantisation_in_a_step() -> None:
    step = pis.trace("llama-3.1-8b", pis.Workload.prefill(1, 512), dtype="fp8")
    fused = with_quantisation(step.fuse_projections())
    assert not any(key.startswith("quantise") for key in fused.kernel)
    wide = step.select(step.mask(kernels=["act"])), fused.select(fused.mask(kernels=["act"]))
    assert [float(rows.out_bytes[..., 0]) for rows in wide] == [2.0, 1.0]
    norm = fused.select(fused.mask(names=["attn_norm"]))
    assert float(norm.out_bytes[..., 0]) == 1.5  # the residual stream stays in 16 bit
    two = with_quantisation(step.fuse_projections(), "dynamic")
    keys = [key for key in two.kernel if key.startswith("quantise")]
    assert keys == ["quantise_absmax", "quantise_cast"] * 4
    assert with_quantisation(fused) is fused


def test_an_own_fit_of_16_bit_speaks_for_fp8() -> None:
    found, extrapolated = nearest.nearest_calibration("gemm", "fp8", pis.hardware.get("rtx-4090"))
    assert (found.hardware, found.dtype, extrapolated) == ("rtx-4090", "fp8", False)
    assert pis.stacks.get("vendor", pis.hardware.get("rtx-4090")).priced("gemm", "fp8").provenance == "calibrated"


def test_a_fit_of_fp8_rows_of_ones_own_comes_first() -> None:
    gpu = pis.hardware.get("h100-sxm")
    m, n = (axis.ravel() for axis in np.meshgrid([1, 64, 512, 4096], [1024, 4096, 8192]))
    shape = {"m": m, "n": n, "k": 4096}
    slow = 1.3e6 * np.asarray(pis.gemm_latency(**shape, hardware=gpu, dtype="fp8"))
    rows = pd.DataFrame({"gpu": gpu.name, "dtype": "fp8", **shape, "latency_us": slow})
    stack = pis.stacks.vendor(gpu, [pis.calibrate("gemm", rows, gpu, cache="cold", source="made up")])
    ours = pis.gemm_latency(**shape, hardware=gpu, dtype="fp8", stack=stack)
    assert np.median(np.asarray(ours) * 1e6 / slow) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("dtype", ["fp8", "fp8_block", "nvfp4", "int8_wo", "int4_wo"])
def test_shapes_broadcast_and_nothing_beats_the_roofline(dtype: str) -> None:
    got = pis.gemm_latency([[1], [64], [4096]], [4096, 14336], 4096, hardware="b200-sxm", dtype=dtype)
    least = pis.gemm_latency([[1], [64], [4096]], [4096, 14336], 4096, hardware="b200-sxm", dtype=dtype, stack="ideal")
    assert np.shape(got) == (3, 2)
    assert (got >= least).all()
