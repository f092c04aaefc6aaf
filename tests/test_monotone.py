"""A card that is faster in one figure is never slower: sampled here, whole in validation/monotone.py."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

import pruninfersim as pis
from pruninfersim import attention_latency, gemm_latency, hardware

SPEC = importlib.util.spec_from_file_location("monotone", ROOT / "validation" / "monotone.py")
assert SPEC is not None
assert SPEC.loader is not None
monotone = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(monotone)
#: Cards with fits, at full and at half rate, without any, of another vendor, and a systolic one.
SAMPLE = ("l40s", "rtx-4090", "jetson-agx-orin", "gb10", "h100-sxm", "b200-sxm", "mi300x", "gaudi2")


@pytest.mark.parametrize("figure", monotone.FIGURES)
@pytest.mark.parametrize("gpu", SAMPLE)
def test_no_op_is_slower_on_a_faster_card(gpu: str, figure: str) -> None:
    assert list(monotone.slower(gpu, [figure], (0.5, 0.75, 0.8, 1.0, 1.03, 2.0))) == []


@given(
    gpu=st.sampled_from(hardware.names()), figure=st.sampled_from(monotone.FIGURES),
    factors=st.tuples(st.floats(0.3, 3.0), st.floats(0.3, 3.0)),
    shape=st.tuples(*(st.integers(1, 10**6) for _ in "mnk")),
)  # fmt: skip
def test_any_gemm_on_any_faster_card(
    gpu: str, figure: str, factors: tuple[float, float], shape: tuple[int, int, int]
) -> None:
    profile = hardware.get(gpu)
    cards = [monotone.raised(profile, figure, factor) for factor in sorted(factors)]
    if None in cards:
        return
    dtype = "bf16" if "bf16" in profile.peak else "fp16"
    slow, fast = (float(np.asarray(gemm_latency(*shape, hardware=card, dtype=dtype))) for card in cards)
    assert fast <= slow * (1 + monotone.ROUNDING)


@given(
    gpu=st.sampled_from([name for name in hardware.names() if hardware.get(name).peak_2of4]),
    figure=st.sampled_from(monotone.FIGURES),
    factors=st.tuples(st.floats(0.3, 3.0), st.floats(0.3, 3.0)),
    shape=st.tuples(*(st.integers(1, 10**6) for _ in "mnk")),
)  # fmt: skip
def test_any_2of4_gemm_on_any_faster_card(
    gpu: str, figure: str, factors: tuple[float, float], shape: tuple[int, int, int]
) -> None:
    profile = hardware.get(gpu)
    cards = [monotone.raised(profile, figure, factor) for factor in sorted(factors)]
    if None in cards:
        return
    dtype = "bf16" if "bf16" in profile.peak_2of4 else next(iter(profile.peak_2of4))
    slow, fast = (float(np.asarray(gemm_latency(*shape, hardware=card, dtype=dtype, kernel="2:4"))) for card in cards)
    assert fast <= slow * (1 + monotone.ROUNDING)


@given(
    gpu=st.sampled_from(hardware.names()), figure=st.sampled_from(monotone.FIGURES),
    factors=st.tuples(st.floats(0.3, 3.0), st.floats(0.3, 3.0)),
    batch=st.integers(1, 300), queries=st.integers(1, 5000), keys=st.integers(1, 10**6),
    heads=st.sampled_from([(32, 8), (32, 32), (14, 2), (71, 71), (1, 1)]), size=st.sampled_from([64, 128, 256]),
    kv_dtype=st.sampled_from([None, "fp8"]), window=st.sampled_from([None, 1000]),
)  # fmt: skip
def test_any_attention_on_any_faster_card(
    gpu: str, figure: str, factors: tuple[float, float], batch: int, queries: int, keys: int,
    heads: tuple[int, int], size: int, kv_dtype: str | None, window: int | None,
) -> None:  # fmt: skip
    profile = hardware.get(gpu)
    cards = [monotone.raised(profile, figure, factor) for factor in sorted(factors)]
    if None in cards:
        return
    dtype = "bf16" if "bf16" in profile.peak else "fp16"
    same = {"batch": batch, "heads": heads[0], "kv_heads": heads[1], "head_dim": size, "dtype": dtype}
    same |= {"kv_dtype": kv_dtype, "window": window}
    for shape in (
        {"phase": "decode", "query_len": 1, "context": keys},
        {"phase": "prefill", "query_len": min(queries, keys), "context": keys},
    ):
        slow, fast = (float(np.asarray(attention_latency(**same, **shape, hardware=card))) for card in cards)
        assert fast <= slow * (1 + monotone.ROUNDING)


def test_a_slower_clone_keeps_the_trait_of_its_card() -> None:
    """Prefill on an L40S of which only the peak falls: no switch to the parameters of cards at half rate."""
    card, trace = hardware.get("l40s"), pis.trace("llama-3.1-8b", pis.Workload.prefill(1, 2048))
    times = []
    for factor in (0.7, 0.75, 0.8, 1.0):
        clone = card.clone("slower", peak={"bf16": factor * card.peak["bf16"]})
        times.append(pis.estimate(trace, hardware=clone).latency)
    assert times == sorted(times, reverse=True)
    assert times[1] < 1.1 * times[2]
    assert pis.estimate(trace, hardware=card.clone("same")).latency == pytest.approx(times[-1], rel=1e-12)
