"""What a comparison says beside its number: as plain values, of experts that stay, of two models, behind a host."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis
from pruninfersim.cost.uncertainty import ratio_half_width
from pruninfersim.questions.comparison import compare_estimates, estimated_interval
from pruninfersim.trace.twins import twins

pytestmark = IGNORE_PROVENANCE
STEP = pis.Workload.decode(batch=4, context=2048)
LEAVES = "leaves the routed experts as they are"


@pytest.mark.parametrize("sparsity", [0.25, [0.25, 0.5]], ids=["one", "sweep"])
def test_plain_values_are_those_of_the_answer(sparsity):
    found = pis.Setup("llama-3.1-8b", "h100-sxm").speedup("static-width", sparsity, STEP)
    data = json.loads(json.dumps(found.to_dict()))
    for name in ("flops", "ideal", "estimated", "headroom", "bound", "claim"):
        np.testing.assert_array_equal(data[name], getattr(found, name))
    np.testing.assert_array_equal(data["interval"], found.interval)
    assert isinstance(data["interval"], list)
    assert (data["method"], data["stack"], data["dtype"]) == (found.method, found.stack, found.dtype)
    assert (data["model"], data["hardware"]) == ("llama-3.1-8b", "h100-sxm")
    assert (data["phase"], data["batch"], data["context"]) == ("decode", 4, 2048)
    seconds = np.array(data["dense_seconds"]) / data["pruned_seconds"]
    np.testing.assert_allclose(seconds, data["estimated"], rtol=1e-12)
    np.testing.assert_array_equal(data["fits"], found.pruned.fits)
    np.testing.assert_array_equal(data["dense_fits"], found.dense.fits)


def test_ops_of_no_workload_say_none():
    ops = pis.OpTrace.from_rows([{"name": "x", "kernel": "gemm", "gemms": 1, "m": 8, "n": 512, "k": 512}])
    data = pis.compare(ops, ops, hardware="h100-sxm", stack="ideal").to_dict()
    assert [data[name] for name in ("model", "phase", "batch", "context", "claim")] == [None] * 5


def test_two_models_are_set_against_each_other():
    small, large = (pis.trace(name, STEP) for name in ("llama-3.2-3b", "llama-3.1-8b"))
    found = pis.compare(large, small, hardware="h100-sxm", stack="ideal")
    assert found.question.startswith("llama-3.2-3b against llama-3.1-8b on h100-sxm")
    assert found.claim is None


def test_experts_that_stay_are_told_by_their_share_of_the_weights():
    """Mixtral 8x7B: 32 layers of 8 experts, 3 x 4096 x 14336 each, beside 4096 x (2 x 4096 + 2 x 1024) of attention."""
    dense = pis.trace("mixtral-8x7b", STEP)
    attention_only = pis.pruning.StaticWidth(pis.pruning.PerBlock(attention=0.5))
    (note,) = (
        note for note in pis.compare(dense, dense.prune(attention_only), hardware="h100-sxm").notes if LEAVES in note
    )
    experts, rest = 8 * 3 * 4096 * 14336, 4096 * (2 * 4096 + 2 * 1024)
    assert f"static-width {LEAVES}: {100 * experts / (experts + rest):.0f} % of the layers' weights" in note


def test_nothing_is_said_of_experts_that_go_nor_where_there_are_none():
    mixture, plain = (pis.trace(name, STEP) for name in ("mixtral-8x7b", "llama-3.1-8b"))
    attention_only = pis.pruning.StaticWidth(pis.pruning.PerBlock(attention=0.5))
    for dense, pruned in (
        (mixture, mixture.prune(pis.pruning.ExpertPruning(0.5))),
        (mixture, mixture),
        (plain, plain.prune(attention_only)),
    ):
        assert not any(LEAVES in note for note in pis.compare(dense, pruned, hardware="h100-sxm").notes)


@pytest.mark.parametrize("stack", ["vllm", "transformers", "tensorrt-llm"])
@pytest.mark.parametrize("batch", [1, [1, 256]], ids=["one", "sweep"])
@pytest.mark.parametrize(
    "method", [pis.pruning.StaticDepth(0.5), pis.pruning.StaticWidth(0.5), pis.pruning.LowRank(0.5)]
)
def test_ends_behind_a_host_are_those_of_all_hosts_and_kernels(stack, batch, method):
    """A grid over what is known of both: no ratio of max(kernels, host) lies outside, and the ends are reached."""
    dense = pis.trace("llama-3.2-1b", pis.Workload.decode(batch=batch, context=1024))
    model = pis.stacks.get(stack, pis.hardware.get("h100-sxm"))
    before, after = (model.predict(side) for side in (dense, dense.prune(method)))
    first, second = before.chain, after.chain
    half = ratio_half_width(before.errors, after.errors, *twins(before.trace, after.trace))
    kernels = after.errors.band()
    ends = np.linspace(np.log(second.low) - kernels[1], np.log(second.high) - kernels[0], 41)
    ratios = np.array(
        [
            np.maximum(before.busy, np.exp(host) * first.seconds)
            / np.maximum(after.busy * np.exp(side), np.exp(host) * second.seconds)
            for host in ends
            for side in (-half, 0.0, half)
        ]
    )
    estimated, low, high, bound = estimated_interval(before, after)
    waits = (first.seconds > before.busy) | (second.seconds > after.busy)
    noise = np.where(waits, max(model.protocol.repeatability, second.repeatability), model.protocol.repeatability)
    np.testing.assert_allclose(low, np.minimum(ratios.min(axis=0), estimated) * np.exp(-noise), rtol=1e-9)
    top = np.maximum(ratios.max(axis=0), estimated) * np.exp(noise)
    np.testing.assert_allclose(high, np.minimum(top, bound), rtol=1e-9)
    assert compare_estimates(before, after).interval[0] == pytest.approx(low)
