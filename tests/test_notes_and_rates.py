"""What the notes of a profile say was measured is what its kernels reach."""

from __future__ import annotations

import re

import pytest

import pruninfersim as pis

FORMAT = r"(bf16|fp8|int8|nvfp4)"
RATE = r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?"
#: What is measured, up to the end of its sentence or half-sentence.
MEASURED = re.compile(r"measured(.*?)(?:\. |;|$)")
PAIR = re.compile(rf"{RATE} {FORMAT}\b|\b{FORMAT} {RATE}")
SIZES = (2048, 4096, 8192, 16384)


def said() -> list[tuple[str, str, float]]:
    """Return GPU, format and the highest measured rate [TFLOP/s] of all notes."""
    found: dict[tuple[str, str], float] = {}
    for name in pis.hardware.names():
        for part in MEASURED.findall(pis.hardware.get(name).notes):
            for low, high, dtype, other, least, most in PAIR.findall(part):
                key = (name, dtype or other)
                found[key] = max(found.get(key, 0.0), *(float(each) for each in (low, high, least, most) if each))
    return [(*key, rate) for key, rate in found.items()]


SAID = said()


def test_notes_are_found() -> None:
    assert {("rtx-4090", "fp8", 327.0), ("gb10", "int8", 203.0), ("rtx-pro-6000-server", "nvfp4", 1537.0)} <= set(SAID)


@pytest.mark.parametrize(("gpu", "dtype", "rate"), SAID)
def test_kernels_reach_what_was_measured(gpu: str, dtype: str, rate: float) -> None:
    """The best of a few large GEMMs, against the best that somebody has timed: 20 % below at most, 10 % above."""
    times = [float(pis.gemm_latency(m, 8192, 8192, hardware=gpu, dtype=dtype, cache="replayed")) for m in SIZES]
    best = max(2 * m * 8192**2 / seconds for m, seconds in zip(SIZES, times, strict=True))
    assert 0.8 < best / (rate * 1e12) < 1.1


def test_int8_of_b200_is_what_steps_of_an_engine_say() -> None:
    """A bare int8 GEMM was timed at 942 TOP/s; a prefill of vLLM does more than that with all that is not a GEMM.

    Qwen2.5-7B, 32 prompts of 1024 tokens: 0.260 s (bcacdwk/vllmbench@92a8ca4, Apache-2.0).
    """
    gpu, work = pis.hardware.get("b200-sxm"), pis.Workload.prefill(batch=32, tokens=1024)
    model = pis.models.get("qwen2.5-7b")
    assert 2 * 32 * 1024 * model.num_layers * model.layer_gemm_parameters / 0.260 > 1.5 * 942e12
    slow = gpu.clone("b200-942", peak={"int8": 942e12})
    ours, theirs = (float(pis.Setup(model, card, "vllm", dtype="int8").estimate(work).latency) for card in (gpu, slow))
    assert ours == pytest.approx(0.260, rel=0.15)
    assert theirs > 2 * 0.260


@pytest.mark.parametrize("gpu", ["b300-sxm", "gb300"])
def test_blackwell_ultra_has_next_to_no_int8(gpu: str) -> None:
    """153.5 and 165 TOP/s (aiconfigurator-core 0.12.0): large GEMMs of int8 are far slower than those of bf16."""
    shape = {"m": 4096, "n": 8192, "k": 8192, "hardware": gpu}
    assert pis.gemm_latency(**shape, dtype="int8") > 5 * pis.gemm_latency(**shape)
