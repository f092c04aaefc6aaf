"""What must hold for any model, workload, family and sparsity."""

from __future__ import annotations

import numpy as np
from cases import FAMILIES, IGNORE_PROVENANCE, MAIN_GPUS, STACKS, WITH_OVERHEAD, native, top_sparsity, total, workload
from hypothesis import given, settings
from hypothesis import strategies as st

import pruninfersim as pis

pytestmark = IGNORE_PROVENANCE


@st.composite
def models(draw):
    """A decoder of any sensible size, some with windows, some with q/k norms."""
    head_dim = draw(st.sampled_from([64, 128, 256]))
    kv_heads, group = draw(st.integers(1, 8)), draw(st.sampled_from([1, 2, 4, 7]))
    window = draw(st.one_of(st.none(), st.integers(1, 5000)))
    return pis.models.get("llama-3.1-8b").clone(
        "drawn",
        hidden_size=16 * draw(st.integers(16, 300)),
        intermediate_size=16 * draw(st.integers(16, 900)),
        num_layers=draw(st.integers(1, 40)),
        num_heads=kv_heads * group,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=draw(st.integers(100, 260_000)),
        qk_norm=draw(st.sampled_from(["none", "head", "full"])),
        norm_placement=draw(st.sampled_from(["pre", "post", "both"])),
        sliding_window=window,
        window_pattern=()
        if window is None
        else draw(st.sampled_from([(True,), (True, False), (True,) * 5 + (False,)])),
    )


@st.composite
def cases(draw):
    """A family, a sparsity it allows, and a workload."""
    family = draw(st.sampled_from(FAMILIES))
    sparsity = draw(st.floats(0, top_sparsity(family)))
    phase = draw(st.sampled_from(["prefill", "decode"]))
    return family, sparsity, workload(phase, draw(st.integers(1, 256)), draw(st.integers(1, 131_072)))


STACK_AND_GPU = st.sampled_from([(stack, gpu) for stack in STACKS for gpu in MAIN_GPUS])


@settings(max_examples=150)
@given(models(), cases(), STACK_AND_GPU)
def test_four_speedups(model, case, where):
    (family, sparsity, work), (stack, gpu) = case, where
    dense = pis.trace(model, work, dtype=native(gpu))
    result = pis.compare(dense, dense.prune(pis.pruning.get(family, sparsity)), hardware=gpu, stack=stack)
    low, high = result.interval
    assert 0 < low <= result.estimated <= high * (1 + 1e-12) <= result.bound * (1 + 1e-11)
    assert result.estimated <= result.headroom * (1 + 1e-12) <= result.bound * (1 + 1e-11)
    # A real dense side is never faster than its roofline, at the highest clock of the card.
    reserve = result.hardware.clock_reserve
    assert result.bound >= result.ideal / reserve * (1 - 1e-12)
    assert result.dense.latency >= result.dense.roofline / reserve > 0


@settings(max_examples=100)
@given(models(), cases())
def test_code_paths_of_pruning_are_not_free(model, case):
    """Against the roofline: full-rank factors hold as many weights as the matrix at least, routers and scores cost."""
    family, _, work = case
    dense = pis.trace(model, work)
    ratio = pis.compare(dense, dense.prune(pis.pruning.get(family, 0.0)), hardware="h100-sxm", stack="ideal").estimated
    assert ratio < 1 if family in WITH_OVERHEAD else abs(ratio - 1) < 1e-12


@settings(max_examples=100)
@given(models(), cases())
def test_unfolding_and_sweeping_change_nothing(model, case):
    family, sparsity, work = case
    method = pis.pruning.get(family, sparsity)
    dense = pis.trace(model, work)
    folded, unfolded = dense.prune(method), dense.unfold().prune(method)
    for column in ("flops", "traffic", "launches"):
        np.testing.assert_allclose(total(unfolded, column), total(folded, column), rtol=1e-11)
    swept = dense.prune(pis.pruning.get(family, pis.pruning.Axis([0.0, sparsity])))
    alone = pis.estimate(folded, hardware="h100-sxm", stack="ideal").latency
    assert np.isclose(pis.estimate(swept, hardware="h100-sxm", stack="ideal").latency[1], alone, rtol=1e-12)


@settings(max_examples=100)
@given(models(), cases())
def test_columns_stay_sound(model, case):
    family, sparsity, work = case
    dense = pis.trace(model, work)
    pruned = dense.prune(pis.pruning.get(family, sparsity))
    for ops in (dense, pruned):
        for column in ("m", "n", "k", "batch", "b_batch", "sequences"):
            assert np.all(getattr(ops, column) > 0), column
        assert np.all((ops.mac_fraction >= 0) & (ops.mac_fraction <= 1 + 1e-12))
        assert np.all(np.isfinite(ops.flops) & np.isfinite(ops.traffic))
    for value in pruned.applied[0].achieved.values():
        assert value < 1


@settings(max_examples=100)
@given(models(), st.integers(1, 64), st.integers(1, 20_000), st.integers(1, 20_000))
def test_time_grows_with_work(model, batch, first, second):
    short, long = sorted((first, second))
    for phase in ("prefill", "decode"):
        times = [
            pis.estimate(pis.trace(model, workload(phase, b, c)), hardware="h100-sxm", stack="ideal").latency
            for b, c in ((batch, short), (batch, long), (batch + 1, long))
        ]
        assert times[0] <= times[1] * (1 + 1e-12)
        assert times[1] < times[2]


@settings(max_examples=100)
@given(models(), st.integers(1, 64), st.integers(1, 10_000), st.integers(0, 10_000))
def test_a_prompt_in_two_chunks_does_the_same_attention(model, batch, first, second):
    def flops(tokens, prefix):
        chunk = pis.trace(model, pis.Workload.prefill(batch, tokens, prefix=prefix))
        return float(total(chunk.select(chunk.mask(names=["attention"])), "flops"))

    second += 1
    whole, parts = flops(first + second, 0), flops(first, 0) + flops(second, first)
    assert np.isclose(whole, parts, rtol=1e-9)
