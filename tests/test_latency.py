"""Single kernels: shapes broadcast, ideal times are closed forms, and a step's kernels are the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE, MAIN_GPUS, STACKS, native, workload
from toy import toy

import pruninfersim as pis
from pruninfersim.errors import InvalidInputError, MissingValueError, UnknownNameError

pytestmark = IGNORE_PROVENANCE
H100 = pis.hardware.get("h100-sxm")
HEADS = {"heads": 32, "kv_heads": 8, "head_dim": 128}


def test_ideal_gemm_is_the_roofline():
    m, n, k = np.array([1, 64, 4096]), 4096, 14336
    expected = np.maximum(2.0 * m * n * k / 989.4e12, 2.0 * (m * k + n * k + m * n) / 3.35e12)
    np.testing.assert_allclose(pis.gemm_latency(m, n, k, hardware=H100, stack="ideal"), expected, rtol=2e-4)


def test_ideal_2_of_4_gemm_is_the_roofline():
    m, n, k = np.array([1, 4096]), 4096, 4096
    size = 2.0 * m * k + 1.125 * n * k + 2.0 * m * n
    expected = np.maximum(m * n * k / (H100.peak_flops("bf16", sparse=True) / 2), size / H100.memory_bandwidth)
    np.testing.assert_allclose(
        pis.gemm_latency(m, n, k, hardware=H100, stack="ideal", kernel="2:4"), expected, rtol=1e-12
    )


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_ideal_attention_is_the_roofline(phase):
    query, context, batch = (2048, 2048, 2) if phase == "prefill" else (1, 8192, 16)
    flops = 4.0 * batch * 32 * query * context * 128 * (0.5 if phase == "prefill" else 1.0)
    size = 2.0 * batch * 128 * (2 * 32 * query + 2 * 8 * context)
    expected = max(flops / H100.peak["bf16"], size / H100.memory_bandwidth)
    if phase == "prefill":  # the new keys and values are read and written
        expected += 2.0 * 2 * batch * query * 2 * 8 * 128 / H100.memory_bandwidth
    found = pis.attention_latency(
        phase=phase, batch=batch, query_len=query, context=context, hardware=H100, stack="ideal", **HEADS
    )
    assert found == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("stack", STACKS)
def test_arguments_broadcast_and_scalars_stay_scalars(stack):
    m, n = np.array([1, 64, 777])[:, None], np.array([512, 4096])
    wide = pis.gemm_latency(m, n, 1024, hardware=H100, stack=stack)
    assert wide.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        one = pis.gemm_latency(int(m[i, 0]), int(n[j]), 1024, hardware=H100, stack=stack)
        assert isinstance(one, float)
        assert wide[i, j] == pytest.approx(one, rel=1e-12)
    batch, context = np.array([1, 8])[:, None, None], np.array([100, 5000])
    many = pis.attention_latency(phase="decode", batch=batch, context=context, hardware=H100, stack=stack, **HEADS)
    assert many.shape == (2, 1, 2)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("gpu", MAIN_GPUS)
def test_no_cold_gemm_beats_its_roofline(gpu, stack):
    m, n, k = np.array([1, 3, 128, 5000])[:, None, None], np.array([16, 4096])[:, None], np.array([64, 4096, 28672])
    options = {"hardware": gpu, "dtype": native(gpu)}
    assert (
        pis.gemm_latency(m, n, k, stack=stack, **options)
        >= pis.gemm_latency(m, n, k, stack="ideal", **options) * (1 - 1e-12)
    ).all()


@pytest.mark.parametrize("stack", [*STACKS, "toy"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_step_is_made_of_the_same_kernels(phase, stack):
    model = toy(launch_gap=0.0) if stack == "toy" else stack
    dense = pis.trace("llama-3.1-8b", workload(phase, 2, 1024))
    step = pis.estimate(dense, hardware=H100, stack=model)
    gap = step.gap if step.chain is None else step.gap - step.chain.wait  # a kernel alone waits for no host
    run = dict(zip(step.trace.name, step.run + np.broadcast_to(gap, step.run.shape), strict=True))
    m = 2 * 1024 if phase == "prefill" else 2
    assert pis.gemm_latency(m, 4096, 14336, hardware=H100, stack=model) == pytest.approx(run["down"], rel=1e-9)
    query = 1024 if phase == "prefill" else 1
    attention = pis.attention_latency(
        phase=phase, batch=2, query_len=query, context=1024, hardware=H100, stack=model, **HEADS
    )
    append = run["kv_append"] if phase == "prefill" else 0.0
    assert attention == pytest.approx(run["attention"] + append, rel=1e-9)


def test_replayed_is_no_slower_than_cold():
    m, n = np.array([1, 16, 256])[:, None], np.array([512, 4096])
    for stack in STACKS:
        cold, replayed = (
            pis.gemm_latency(m, n, 4096, hardware=H100, stack=stack, cache=cache) for cache in ("cold", "replayed")
        )
        assert (replayed <= cold * (1 + 1e-12)).all()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"kernel": "2:5"}, UnknownNameError, "2:4"),
        ({"cache": "warm"}, UnknownNameError, "replayed"),
        ({"dtype": "bf17"}, UnknownNameError, "bf16"),
        ({"stack": "vendro"}, UnknownNameError, "vendor|ideal"),
        ({"hardware": "h100-sxn"}, UnknownNameError, "h100-sxm"),
        ({"m": 0}, InvalidInputError, "m"),
        ({"n": np.nan}, InvalidInputError, "n"),
        ({"k": [-1.0, 4.0]}, InvalidInputError, "k"),
        ({"hardware": "a100-sxm-80gb", "dtype": "fp8"}, MissingValueError, "fp8"),
    ],
)
def test_wrong_input_is_named(changes, error, words):
    question = {"m": 8, "n": 512, "k": 512, "hardware": "h100-sxm", "stack": "ideal"} | changes
    with pytest.raises(error, match=words):
        pis.gemm_latency(question.pop("m"), question.pop("n"), question.pop("k"), **question)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"phase": "decoding"}, "decode"),
        ({"batch": 0}, "batch"),
        ({"context": -5}, "context"),
        ({"cache": "hot"}, "cold"),
    ],
)
def test_wrong_attention_is_named(changes, words):
    question = {"phase": "decode", "context": 512, "heads": 8, "hardware": "h100-sxm", "stack": "ideal"} | changes
    with pytest.raises((InvalidInputError, UnknownNameError), match=words):
        pis.attention_latency(**question)
