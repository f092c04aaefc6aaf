"""The array path equals the slow scalar oracle to 1e-12: FLOPs, bytes and roofline, dense and all families."""

from __future__ import annotations

import numpy as np
import pytest
from cases import FAMILIES, total, workload
from scalar_model import MODELS, Case, attended_pairs, totals

import pruninfersim as pis
from pruninfersim.pruning import PerBlock, PerLayer

GPU = pis.hardware.get("h100-sxm")
BATCH, CONTEXT = (1, 3, 32), (16, 513, 9000)
PHASES = ("prefill", "decode")


def ratios_of(family: str) -> tuple[float, ...]:
    return (0.0, 0.1, 0.37, 0.5) if family == "semi-structured" else (0.0, 0.1, 0.5, 0.72)


def case(
    model: str, phase: str, batch: int, context: int, family: str = "dense", *, s=0.0, s_mlp=None, **options
) -> Case:
    """A case with one sparsity, or one per layer, or one for attention and one for the MLP."""
    layers = MODELS[model].layers
    attention, mlp = (x if isinstance(x, tuple) else (x,) * layers for x in (s, s if s_mlp is None else s_mlp))
    query = context - options.pop("prefix", 0) if phase == "prefill" else 1
    return Case(model, phase, batch, query, context, family, attention, mlp, **options)


def check(trace: pis.OpTrace, cases, gpu: pis.HardwareProfile = GPU) -> None:
    """Compare a trace with nested lists of cases, one per sweep point."""
    grid = np.array(cases, dtype=object)
    peaks = gpu.memory_bandwidth, dict(gpu.peak), dict(gpu.peak_2of4)
    expected = np.array([totals(one, *peaks) for one in grid.reshape(-1)]).reshape(*grid.shape, 3)
    estimate = pis.estimate(trace, hardware=gpu, stack="ideal")
    found = {"FLOPs": total(trace, "flops"), "bytes": total(trace, "traffic"), "seconds": np.asarray(estimate.latency)}
    for index, (name, values) in enumerate(found.items()):
        # A total that an axis of the sweep does not change need not have that axis.
        wide = np.broadcast_to(values, grid.shape)
        np.testing.assert_allclose(wide, expected[..., index], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("model", MODELS)
def test_dense(model, phase):
    dense = pis.trace(model, workload(phase, np.array(BATCH)[:, None], np.array(CONTEXT)))
    assert dense.sweep_shape == (3, 3)
    check(dense, [[case(model, phase, b, c) for c in CONTEXT] for b in BATCH])


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("family", FAMILIES)
def test_family_over_a_three_dimensional_sweep(family, model, phase):
    lengths, ratios = CONTEXT[1:], ratios_of(family)
    dense = pis.trace(model, workload(phase, np.array(BATCH)[:, None, None], np.array(lengths)[:, None]))
    pruned = dense.prune(pis.pruning.get(family, np.array(ratios)))
    assert pruned.sweep_shape == (3, 2, 4)
    check(pruned, [[[case(model, phase, b, c, family, s=s) for s in ratios] for c in lengths] for b in BATCH])


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("static-depth", "semi-structured")])
def test_per_layer_ratios(family, phase):
    layers = MODELS["gemma-2-9b"].layers
    ratios = tuple(round(0.7 * (layer * 5 % layers) / layers, 6) for layer in range(layers))
    pruned = pis.trace("gemma-2-9b", workload(phase, 2, 5000)).prune(pis.pruning.get(family, PerLayer(ratios)))
    check(pruned, case("gemma-2-9b", phase, 2, 5000, family, s=ratios))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "static-width-cross"])
def test_per_block_ratios(family, phase):
    pruned = pis.trace("qwen3-0.6b", workload(phase, 4, 700)).prune(pis.pruning.get(family, PerBlock(0.25, 0.5)))
    check(pruned, case("qwen3-0.6b", phase, 4, 700, family, s=0.25, s_mlp=0.5))


@pytest.mark.parametrize("dtype", ["fp16", "fp8", "int8", "fp4"])
@pytest.mark.parametrize("family", ["dense", *FAMILIES])
def test_other_precisions(family, dtype):
    gpu = pis.hardware.get("rtx-5090")
    for phase in PHASES:
        dense = pis.trace("llama-3.1-8b", workload(phase, 2, 1000), dtype=dtype)
        pruned = dense if family == "dense" else dense.prune(pis.pruning.get(family, 0.5))
        check(pruned, case("llama-3.1-8b", phase, 2, 1000, family, s=0.5, dtype=dtype), gpu)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gemma-3-12b"])
@pytest.mark.parametrize(("logits", "causal"), [("all", True), ("last", False), ("all", False)])
def test_prefill_options(model, logits, causal):
    tokens = (100, 3000)
    dense = pis.trace(model, workload("prefill", 2, np.array(tokens), logits=logits, causal=causal))
    check(dense, [case(model, "prefill", 2, t, logits=logits, causal=causal) for t in tokens])


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gemma-3-12b"])
@pytest.mark.parametrize("family", ["dense", "static-width", "dynamic-depth", "sparse-attention"])
def test_chunked_prefill(model, family):
    chunks = [(64, 0), (64, 64), (64, 1000), (700, 600), (512, 4096)]
    query, prefix = np.array(chunks).T
    dense = pis.trace(model, pis.Workload.prefill(batch=3, tokens=query, prefix=prefix))
    pruned = dense if family == "dense" else dense.prune(pis.pruning.get(family, 0.3))
    check(pruned, [case(model, "prefill", 3, q + p, family, s=0.3, prefix=p) for q, p in chunks])


def test_oracle_adds_up_queries():
    # sum over i of min(i + 1/2, w) for 5 queries and a window of 2: 0.5 + 1.5 + 2 + 2 + 2
    assert attended_pairs("prefill", 5, 5, 2, True) == 8.0
    assert attended_pairs("prefill", 4, 4, 0, True) == 8.0  # half of 4 x 4
    assert attended_pairs("decode", 1, 7, 3, True) == 3.0
