"""Precisions: what they store, what stays in 16 bit, and which GPU can run them."""

from __future__ import annotations

import numpy as np
import pytest
from cases import rows, total, workload

import pruninfersim as pis
from pruninfersim.errors import MissingValueError, UnknownNameError
from pruninfersim.hardware import precision


def test_two_of_four_bytes():
    # NVIDIA: two values and two 2-bit indices of four weights (Mishra et al., arXiv 2104.08378).
    assert precision.sparse_bytes(2.0) / 2.0 == 0.5625
    assert precision.sparse_bytes(1.0) / 1.0 == 0.625


@pytest.mark.parametrize(
    ("dtype", "size"), [("bf16", 2.0), ("fp8", 1.0), ("int8", 1.0), ("fp4", 0.5625), ("fp32", 4.0)]
)
def test_weight_bytes_of_the_layers(dtype, size):
    dense = pis.trace("llama-3.1-8b", workload("decode"), dtype=dtype)
    layers = rows(dense, "q", "k", "v", "o", "gate", "up", "down")
    weights = 32 * (4096 * (4096 * 2 + 1024 * 2) + 3 * 4096 * 14336)
    assert total(layers, "b_traffic") == pytest.approx(weights * size, rel=1e-12)


@pytest.mark.parametrize("dtype", ["fp8", "int8", "fp4"])
def test_attention_cache_norms_and_head_stay_in_16_bit(dtype):
    narrow, wide = (pis.trace("llama-3.1-8b", workload("decode", 4, 4096), dtype=name) for name in (dtype, "bf16"))
    for name in ("attention", "lm_head", "kv_append", "attn_norm", "act"):
        assert total(rows(narrow, name), "traffic") == total(rows(wide, name), "traffic")
        assert rows(narrow, name).dtype == ("bf16",)
    assert set(rows(narrow, "q", "down").dtype) == {dtype}


def test_fp8_halves_the_compute_time_of_the_layers():
    gpu = pis.hardware.get("h100-sxm")
    times = {}
    for dtype in ("bf16", "fp8"):
        dense = pis.trace("llama-3.1-8b", workload("prefill", 1, 8192), dtype=dtype)
        times[dtype] = rows(pis.estimate(dense, hardware=gpu, stack="ideal").trace, "up"), gpu.peak_flops(dtype)
    seconds = {dtype: float(total(ops, "flops")) / peak for dtype, (ops, peak) in times.items()}
    assert seconds["bf16"] / seconds["fp8"] == pytest.approx(1979 / 989.4, rel=1e-9)


@pytest.mark.parametrize(("gpu", "dtype"), [("a100-sxm-80gb", "fp8"), ("h100-sxm", "fp4"), ("v100-sxm-16gb", "bf16")])
def test_a_gpu_without_the_precision_says_so(gpu, dtype):
    dense = pis.trace("llama-3.1-8b", workload("decode"), dtype=dtype)
    with pytest.raises(MissingValueError, match=rf"{gpu} has no peak for '{dtype}'. It has: .*fp16.* Choose another"):
        pis.estimate(dense, hardware=gpu, stack="ideal")


@pytest.mark.parametrize("gpu", ["v100-sxm-32gb", "mi210", "gaudi2"])
def test_a_gpu_without_sparse_tensor_cores_says_so(gpu):
    dense = pis.trace("llama-3.1-8b", workload("decode"), dtype="fp16")
    with pytest.raises(MissingValueError, match=r"no 2:4 sparse peak for 'fp16'. It has: none"):
        pis.estimate(dense.prune(pis.pruning.SemiStructured(0.5)), hardware=gpu, stack="ideal")


def test_no_sparse_tensor_cores_are_needed_at_sparsity_zero():
    dense = pis.trace("llama-3.1-8b", workload("decode"), dtype="fp16")
    pruned = dense.prune(pis.pruning.SemiStructured(0.0))
    assert pis.compare(dense, pruned, hardware="v100-sxm-32gb", stack="ideal").estimated < 1.0


def test_unknown_precision():
    with pytest.raises(UnknownNameError, match="Did you mean 'bf16'"):
        pis.trace("llama-3.1-8b", workload("decode"), dtype="bf61")


def test_model_precision_is_the_default():
    half = pis.models.get("llama-3.1-8b").clone("llama-fp16", dtype="fp16")
    assert set(pis.trace(half, workload("decode")).dtype) == {"fp16"}
    assert rows(pis.trace(half, workload("decode"), dtype="fp32"), "q", "lm_head").b_bytes.tolist() == [4.0, 4.0]


@pytest.mark.parametrize("family", list(pis.pruning.METHODS))
def test_added_work_is_stored_in_the_precision_of_its_neighbours(family):
    dense = pis.trace("llama-3.1-8b", workload("prefill", 1, 64), dtype="fp32")
    pruned = dense.prune(pis.pruning.get(family, 0.25))
    for column, which in {
        "a_bytes": pruned.a_reads > 0,
        "b_bytes": pruned.gemms > 0,
        "out_bytes": pruned.m > 0,
    }.items():
        stored = np.where(which & ~pruned.mask(kernels=["gemm_2of4"]), getattr(pruned, column), 4.0)
        assert np.all(stored == 4.0), column
