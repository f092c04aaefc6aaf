"""What the notes of a profile say was measured is what its kernels reach."""

from __future__ import annotations

import re

import pytest

import pruninfersim as pis
from pruninfersim.errors import MissingValueError

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


@pytest.mark.parametrize("gpu", ["b200-sxm", "gb200"])
def test_a_rate_that_no_kernel_comes_near_is_refused_with_the_reason(gpu: str) -> None:
    with pytest.raises(MissingValueError, match=r"no peak for 'int8'.*reaches 942 TOP/s"):
        pis.gemm_latency(1, 4096, 4096, hardware=gpu, dtype="int8")
    with pytest.raises(MissingValueError, match="942"):
        pis.speedup(model="llama-3.1-8b", hardware=gpu, method="quantized:int8")
    shape = {"m": 1, "n": 28672, "k": 8192, "hardware": gpu}
    assert pis.gemm_latency(**shape, dtype="int8_wo") < pis.gemm_latency(**shape)


@pytest.mark.parametrize("gpu", ["b300-sxm", "gb300"])
def test_blackwell_ultra_has_next_to_no_int8(gpu: str) -> None:
    """153.5 and 165 TOP/s (aiconfigurator-core 0.12.0): large GEMMs of int8 are far slower than those of bf16."""
    shape = {"m": 4096, "n": 8192, "k": 8192, "hardware": gpu}
    assert pis.gemm_latency(**shape, dtype="int8") > 5 * pis.gemm_latency(**shape)
