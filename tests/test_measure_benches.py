"""What is timed is right: every bench that runs without a GPU agrees with its float32 reference."""

from __future__ import annotations

import pytest
from cases import FAMILIES

torch = pytest.importorskip("torch", reason="the benches need torch (extra measure)")

from pruninfersim.measure import benches_layer, timing  # noqa: E402
from pruninfersim.measure.benches import Maker  # noqa: E402
from pruninfersim.measure.cases import COLUMNS, Case  # noqa: E402
from pruninfersim.measure.suites import SUITES  # noqa: E402

HEADS = {"batch": 2, "heads": 8, "kv_heads": 2, "head_dim": 16}
ON_CPU = [
    Case("t", "gemm", "bf16", {"m": 70, "n": 48, "k": 64}),
    Case("t", "gemm_misaligned", "bf16", {"m": 3, "n": 47, "k": 63}),
    Case("t", "router", "bf16", {"m": 8, "n": 16, "k": 64}),
    Case("t", "gemm_2of4", "bf16", {"m": 8, "n": 32, "k": 64, "sparsity": "dense"}),
    Case("t", "low_rank", "bf16", {"tokens": 9, "outputs": 64, "inputs": 48, "rank": 16}),
    Case("t", "token_gemm", "bf16", {"tokens": 16, "outputs": 64, "inputs": 48, "keep": 0.25, "how": "gather"}),
    Case("t", "attention_prefill", "bf16", {**HEADS, "q_len": 256, "kv_len": 256}),
    Case("t", "attention_decode", "bf16", {**HEADS, "q_len": 1, "kv_len": 256}),
    Case("t", "elementwise_kv_append", "bf16", {"op": "kv_append", "m": 4, "k": 32}),
    Case("t", "elementwise_embedding", "bf16", {"op": "embedding", "m": 4, "k": 8}),
    Case("t", "elementwise_transpose", "bf16", {"op": "transpose", "m": 4, "k": 8}),
    Case("t", "elementwise_mask_sort", "bf16", {"op": "mask_sort", "m": 32, "k": 1}),
    Case("t", "bandwidth", "bf16", {"op": "copy", "bytes": 4096}),
    Case("t", "bandwidth", "bf16", {"op": "read", "bytes": 4096}),
    Case("t", "bandwidth", "bf16", {"op": "write", "bytes": 4096}),
]
TOLERANCE = 0.02


def build(case, copies=2):
    torch.manual_seed(0)
    return benches_layer.BUILDERS_OF_ALL[case.kind](case, Maker(copies, device="cpu"))


def test_every_kind_of_case_has_a_builder_and_columns():
    kinds = {case.kind for suite in SUITES.values() for case in suite()}
    assert kinds == set(benches_layer.BUILDERS_OF_ALL) == set(COLUMNS)


@pytest.mark.parametrize("case", ON_CPU, ids=str)
def test_result_agrees_with_the_reference(case):
    bench = build(case)
    assert len(bench.calls) == 2
    assert timing.check(bench, TOLERANCE) < TOLERANCE
    assert [call() is not None for call in bench.calls] == [True, True]


def test_copies_do_not_share_operands():
    bench = build(ON_CPU[0])
    first, second = (call() for call in bench.calls)
    assert not torch.equal(first, second)


def test_operands_are_not_zero():
    assert build(ON_CPU[0]).calls[0]().float().std() > 0.5


@pytest.mark.parametrize("mode", ["graph", "eager"])
def test_launch_counts_its_kernels(mode):
    bench = build(Case("t", "launch", "bf16", {"mode": mode, "kernels": 7}), copies=1)
    assert bench.calls[0]().item() == 7 == bench.runs
    assert bench.graph == (mode == "graph")


def test_wrong_result_is_an_error():
    bench = timing.Bench((lambda: None,), lambda: (torch.ones(4), torch.full((4,), 2.0)))
    with pytest.raises(timing.CaseError, match="relative error"):
        timing.check(bench, TOLERANCE)


def test_nan_never_passes():
    bench = timing.Bench((lambda: None,), lambda: (torch.tensor([1.0, float("nan")]), torch.ones(2)))
    with pytest.raises(timing.CaseError, match="relative error nan"):
        timing.check(bench, TOLERANCE)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("method", ["dense", *FAMILIES])
def test_layer_in_bf16_agrees_with_its_float32_reference(method, phase, monkeypatch):
    """As the layer suite checks it on a GPU, with the products that run anywhere in place of the library kernels."""
    from dataclasses import replace

    from pruninfersim import models
    from pruninfersim.measure import families

    small = models.get("llama-3.1-8b").clone(
        "small", hidden_size=128, intermediate_size=256, num_layers=4, num_heads=8, num_kv_heads=4, head_dim=16
    )
    monkeypatch.setattr(benches_layer.models, "get", lambda name: small)
    plain = families.stack

    def anywhere(model, method, sparsity, base, **like):
        return plain(model, method, sparsity, replace(base, fast=False), **like)

    monkeypatch.setattr(benches_layer.families, "stack", anywhere)
    shape = {"model": "small", "method": method, "sparsity": 0.5, "phase": phase, "batch": 4, "context": 256}
    bench = build(Case("t", "layer", "bf16", shape))
    assert timing.check(bench, TOLERANCE) < TOLERANCE
    assert bench.runs == 4
