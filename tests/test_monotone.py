"""A card that is faster in one figure is never slower: sampled here, whole in validation/monotone.py."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

import pruninfersim as pis
from pruninfersim import all_reduce_latency, attention_latency, gemm_latency, hardware, mla_latency, moe_latency
from pruninfersim.errors import MissingValueError
from pruninfersim.hardware import HardwareProfile

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


def assert_no_slower(
    gpu: str, figure: str, factors: tuple[float, float], latency: Callable[[HardwareProfile], ArrayLike]
) -> None:
    """Raise AssertionError if any of the latencies is longer where there is more of one figure of a card.

    Parameters
    ----------
    gpu, figure : str
    factors : tuple of float
        Of the figure, in either order; a card without it, or without a peak that is needed, has nothing to compare.
    latency : callable
        From a card to latencies of the same shape for any [s].
    """
    cards = [monotone.raised(hardware.get(gpu), figure, factor) for factor in sorted(factors)]
    if None in cards:
        return
    with contextlib.suppress(MissingValueError):
        slow, fast = (np.asarray(latency(card)) for card in cards)
        assert (fast <= slow * (1 + monotone.ROUNDING)).all(), (fast / slow - 1).max()


def sixteen_bit(card: HardwareProfile, table: str = "peak") -> str:
    return "bf16" if "bf16" in getattr(card, table) else next(iter(getattr(card, table)))


COUNT = st.integers(1, 10**6)
FACTORS = st.tuples(st.floats(0.3, 3.0), st.floats(0.3, 3.0))
CARDS = {"gpu": st.sampled_from(hardware.names()), "figure": st.sampled_from(monotone.FIGURES), "factors": FACTORS}
NARROW = ("fp8", "int8", "nvfp4", "fp8_block", "int8_wo", "int4_wo", "mxfp4")


@given(**CARDS, shape=st.tuples(COUNT, COUNT, COUNT), dtype=st.sampled_from(["", *NARROW]))
def test_any_gemm_on_any_faster_card(gpu, figure, factors, shape, dtype):
    assert_no_slower(
        gpu, figure, factors, lambda card: gemm_latency(*shape, hardware=card, dtype=dtype or sixteen_bit(card))
    )


@given(
    **CARDS | {"gpu": st.sampled_from([name for name in hardware.names() if hardware.get(name).peak_2of4])},
    shape=st.tuples(COUNT, COUNT, COUNT), dtype=st.sampled_from(["", "fp8", "int8"]),
)  # fmt: skip
def test_any_2of4_gemm_on_any_faster_card(gpu, figure, factors, shape, dtype):
    assert_no_slower(
        gpu, figure, factors,
        lambda card: gemm_latency(*shape, hardware=card, dtype=dtype or sixteen_bit(card, "peak_2of4"), kernel="2:4"),
    )  # fmt: skip


@example("a10", "boost_clock", (2.25, 3.0), 1, 72, 2671, (32, 8), 256, "fp8", None, "prefill")  # bound by its roofline
@given(
    **CARDS, batch=st.integers(1, 300), queries=st.integers(1, 5000), keys=COUNT,
    heads=st.sampled_from([(32, 8), (32, 32), (14, 2), (71, 71), (1, 1)]), size=st.sampled_from([64, 128, 256]),
    kv_dtype=st.sampled_from([None, "fp8"]), window=st.sampled_from([None, 1000]),
    phase=st.sampled_from(["prefill", "decode"]),
)  # fmt: skip
def test_any_attention_on_any_faster_card(
    gpu, figure, factors, batch, queries, keys, heads, size, kv_dtype, window, phase
):
    queries = min(queries, keys) if phase == "prefill" else 1
    same = {"phase": phase, "batch": batch, "query_len": queries, "context": keys, "window": window}
    same |= {"heads": heads[0], "kv_heads": heads[1], "head_dim": size, "kv_dtype": kv_dtype}
    assert_no_slower(
        gpu, figure, factors, lambda card: attention_latency(**same, dtype=sixteen_bit(card), hardware=card)
    )


@given(
    **CARDS, batch=st.integers(1, 300), queries=st.integers(1, 5000), keys=COUNT,
    heads=st.sampled_from([1, 16, 20, 128]), kv_dtype=st.sampled_from(["bf16", "fp8"]),
    form=st.sampled_from(["prefill absorbed", "prefill expanded", "decode absorbed"]),
    library=st.sampled_from(["trtllm", "sglang"]),
)  # fmt: skip
def test_any_latent_attention_on_any_faster_card(
    gpu, figure, factors, batch, queries, keys, heads, kv_dtype, form, library
):
    phase, form = form.split()
    same = {"phase": phase, "form": form, "batch": batch, "heads": heads, "kv_dtype": kv_dtype, "library": library}
    same |= {"query_len": min(queries, keys) if phase == "prefill" else 1, "context": keys}
    assert_no_slower(gpu, figure, factors, lambda card: mla_latency(**same, hardware=card))


@given(
    **CARDS, tokens=COUNT, hidden=st.integers(64, 16384), inter=st.integers(64, 32768),
    experts=st.sampled_from([(8, 2), (128, 8), (512, 10), (16, 1)]), parts=st.sampled_from([(1, 1), (8, 1), (1, 8)]),
    dtype=st.sampled_from(["", *NARROW]), library=st.sampled_from(["trtllm", "sglang"]),
    routing=st.sampled_from(["uniform", "balanced", "power_law_1.2"]),
)  # fmt: skip
def test_any_mixture_of_experts_on_any_faster_card(
    gpu, figure, factors, tokens, hidden, inter, experts, parts, dtype, library, routing
):
    same = {"tokens": tokens, "hidden": hidden, "inter": inter, "experts": experts[0], "top_k": experts[1]}
    same |= {"tp": parts[0], "ep": parts[1], "library": library, "routing": routing}
    assert_no_slower(
        gpu, figure, factors, lambda card: moe_latency(**same, dtype=dtype or sixteen_bit(card), hardware=card)
    )


@given(
    **CARDS | {"figure": st.sampled_from([*monotone.FIGURES, "interconnect_bandwidth"])},
    size=st.integers(2, 10**9), gpus=st.integers(1, 16), library=st.sampled_from(["trtllm", "vllm", "sglang", "nccl"]),
)  # fmt: skip
def test_any_all_reduce_on_any_faster_card(gpu, figure, factors, size, gpus, library):
    assert_no_slower(
        gpu, figure, factors,
        lambda card: all_reduce_latency(bytes=size, gpus=gpus, hardware=card, library=library),
    )  # fmt: skip


@pytest.mark.parametrize("gpu", ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "l40s", "rtx-5090", "mi300x"])
@pytest.mark.parametrize("dtype", ["fp8", "int8", "nvfp4", "fp8_block", "int8_wo", "int4_wo", "mxfp4"])
def test_a_clone_that_changes_nothing_is_its_card(gpu: str, dtype: str) -> None:
    """Whatever format the kernels of the card were timed in: all of its fits are those of the clone."""
    card = hardware.get(gpu)
    layer = {"tokens": [1, 50, 3000], "hidden": 4096, "inter": 1536, "experts": 64, "top_k": 4, "dtype": dtype}
    with contextlib.suppress(MissingValueError):
        for of in (
            lambda card: gemm_latency([1, 50, 3000], 5120, 4096, hardware=card, dtype=dtype),
            lambda card: moe_latency(**layer, library="trtllm", hardware=card),
            lambda card: moe_latency(**layer, library="sglang", hardware=card),
        ):
            np.testing.assert_allclose(of(card.clone("same")), of(card), rtol=1e-12)


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
