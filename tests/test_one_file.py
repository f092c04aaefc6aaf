"""A new method, kernel, stack, architecture or GPU is one file outside of the package, and works everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE
from one_file.eager import eager, lower
from one_file.half_speed import HalfSpeed
from one_file.kv_eviction import KVEviction
from one_file.parallel import MODEL

import pruninfersim as pis
from pruninfersim import reproduce, testing
from pruninfersim.cost.memory import kv_memory, weight_memory

GPU = pis.hardware.load(Path(__file__).parent / "one_file" / "mygpu.toml")
WORK = pis.Workload.decode(8, 4096)

pytestmark = IGNORE_PROVENANCE

#: What each question is asked with: (model, GPU, stack, method); one thing of one's own at a time, then all.
ASKED = {
    "method": ("llama-3.1-8b", "h100-sxm", "vendor", KVEviction(0.5)),
    "composition": ("llama-3.1-8b", "h100-sxm", "vendor", ["static-width", KVEviction(0.5)]),
    "kernel": (
        "llama-3.1-8b", "h100-sxm",
        pis.stacks.get("vendor", pis.hardware.get("h100-sxm")).with_kernel(
            "gemm", pis.Priced(HalfSpeed(), "extrapolated")
        ),
        "static-width",
    ),
    "stack": ("llama-3.1-8b", "h100-sxm", eager, "static-width"),
    "architecture": (MODEL, "h100-sxm", "vendor", "static-width"),
    "gpu": ("llama-3.1-8b", GPU, "vendor", "static-width"),
    "all": (MODEL, GPU, eager, KVEviction(0.5)),
}  # fmt: skip


@pytest.fixture(params=ASKED)
def asked(request):
    return ASKED[request.param]


def ratio(method):
    return 0.5 if pis.pruning.takes_sparsity(method) else None


def test_speedup_and_explain(asked):
    model, gpu, stack, method = asked
    result = pis.speedup(
        model=model, hardware=gpu, stack=stack, method=method, sparsity=ratio(method), phase="decode", batch=8,
        context=4096,
    )  # fmt: skip
    assert result.estimated > 0.9
    assert result.bound >= result.estimated
    assert result.claim > 1.0
    assert set(result.method.split(" + ")) == set(result.achieved)
    why = pis.explain(result)
    assert sum(why.steps.values()) == pytest.approx(result.pruned.latency, rel=1e-12)
    assert result.dense.latency == pytest.approx(pis.Setup(model, gpu, stack).estimate(WORK).latency, rel=1e-12)


def test_sweep(asked):
    model, gpu, stack, method = asked
    grid = pis.sweep(
        models=model, hardware=gpu, stacks=stack, methods=[method], sparsity=[0.5],
        workloads=pis.Workload.decode(np.array([1, 8, 64]), 4096),
    )  # fmt: skip
    assert len(grid) == 3
    alone = pis.Setup(model, gpu, stack).speedup(method, ratio(method), WORK) if ratio(method) else (
        pis.Setup(model, gpu, stack).speedup(method, WORK)
    )  # fmt: skip
    row = grid.iloc[1]
    assert row["estimated_speedup"] == pytest.approx(alone.estimated, rel=1e-9)
    assert row["estimated_low"] == pytest.approx(alone.interval[0], rel=1e-9)
    assert row["method"] == alone.method
    assert row["claim"] == pytest.approx(alone.claim, rel=1e-12)


def test_report(asked):
    model, gpu, stack, method = asked
    page = pis.report.html_report(model=model, hardware=gpu, stack=stack, methods=[method], workloads=WORK)
    setup = pis.Setup(model, gpu, stack)
    for text in (setup.model.name, setup.hardware.title, setup.stack.stack, "Speedups"):
        assert text in page


def test_compare_hardware(asked):
    model, gpu, stack, method = asked
    gpus = [gpu] if isinstance(stack, pis.CostModel) else [gpu, "l40s"]
    frame = pis.compare_hardware(model, WORK, [method], hardware=gpus, stack=stack)
    assert len(frame) == 2 * len(gpus)
    assert (frame["seconds"] > 0).all()
    assert (frame["note"] == "").all()


def test_break_even_and_headroom(asked):
    model, gpu, stack, method = asked
    found = pis.break_even(axis="batch", method=method, model=model, hardware=gpu, stack=stack, between=(1, 32))
    assert isinstance(found, list)
    setup = pis.Setup(model, gpu, stack)
    dense = setup.trace(WORK)
    pruned = dense.prune(pis.pruning.at(method, 0.5))
    room = pis.max_speedup(dense, pruned, hardware=setup.hardware, stack=setup.stack)
    assert room.estimated <= room.perfect_changed * (1 + 1e-12) <= room.perfect_all * (1 + 1e-9)


def test_memory():
    dense = pis.trace("llama-3.1-8b", WORK)
    assert kv_memory(dense.prune(KVEviction(0.75))) == kv_memory(dense) / 4
    assert weight_memory(dense.prune(KVEviction(0.75))) == weight_memory(dense)
    toy = MODEL
    experts = 4 * 2 * toy.hidden_size * toy.intermediate_size
    attention = 2 * toy.hidden_size * (toy.q_size + toy.kv_size)
    vocabulary = 2 * toy.vocab_size * toy.hidden_size
    counted = weight_memory(pis.trace(toy, WORK))
    assert counted == 2 * (toy.num_layers * (experts + attention) + vocabulary), "every one of four experts is stored"


def test_a_registry_that_grows_disturbs_nobody(monkeypatch, tmp_path):
    """A method that joins the registry is found by its name; who is about the seven families stays about them."""
    from pruninfersim.measure import suites

    before = len(suites.select("layer"))
    grid = reproduce.full_grid()
    monkeypatch.setitem(pis.pruning.METHODS, "kv-eviction", KVEviction)
    case = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "stack": "ideal"}
    by_name = pis.speedup(**case, method="kv-eviction", sparsity=0.5, phase="decode", batch=8, context=4096)
    by_object = pis.speedup(**case, method=KVEviction(0.5), phase="decode", batch=8, context=4096)
    assert by_name.estimated == by_object.estimated
    assert len(suites.select("layer")) == before
    assert reproduce.full_grid().equals(grid)
    assert [path.name for path in reproduce.write_reproduction(tmp_path / "page.html")] == [
        "page.html",
        "page-grid.csv",
    ]
    page = pis.report.html_report(stack="ideal", workloads=WORK)
    assert "kv-eviction" in page
    frame = pis.sweep(models="llama-3.1-8b", hardware="l40s", workloads=WORK, sparsity=[0.5], stacks="ideal")
    assert "kv-eviction" in set(frame["method"])


def test_conformance():
    testing.check_pruning(KVEviction(0.5))
    testing.check_pruning(KVEviction(0.5), model=MODEL)
    testing.check_kernel(HalfSpeed(), keys=["gemm", "norm", "attention_decode"])
    testing.check_stack(eager)
    testing.check_stack(eager, hardware=GPU, model=MODEL)
    for name in pis.stacks.names():
        testing.check_stack(name, hardware="rtx-pro-6000")


def test_the_stack_is_what_it_says():
    """Three launches a norm, fused projections, the host's 40 us a launch: a step of one token is bound by the host."""
    step = pis.Setup("llama-3.1-8b", "h100-sxm", eager).estimate(pis.Workload.decode(1, 1024))
    assert {"qkv", "gate_up"} <= set(step.trace.name)
    launches = float((step.trace.launches * step.trace.count).sum())
    # Two norms, qkv, rope, KV append, attention, o, gate_up, act and down a layer; embedding, final norm, head.
    assert launches == 32 * (2 * 3 + 8) + 1 + 3 + 1
    assert step.latency == pytest.approx(launches * 40e-6, rel=1e-12)
    busy = pis.Setup("llama-3.1-8b", "h100-sxm", eager).estimate(pis.Workload.prefill(8, 4096))
    assert busy.latency == pytest.approx(float((busy.run * busy.trace.count).sum()), rel=1e-12)
    once = lower(pis.trace("llama-3.1-8b", WORK))
    assert lower(once).name == once.name


def test_the_profile_is_found_by_its_folder(monkeypatch):
    monkeypatch.setenv(pis.hardware.SEARCH_PATH_VARIABLE, str(Path(__file__).parent / "one_file"))
    assert pis.Setup("llama-3.1-8b", "mygpu").hardware == GPU
