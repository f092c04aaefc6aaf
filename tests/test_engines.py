"""Engines and hosts: what users measure, closed forms of the clock, and invariants of speedups behind a host."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import IGNORE_PROVENANCE
from conftest import ROOT

import pruninfersim as pis
from pruninfersim import testing
from pruninfersim.cost.clock import EngineClock
from pruninfersim.errors import InvalidInputError, UnknownNameError
from pruninfersim.trace import OpTrace

pytestmark = IGNORE_PROVENANCE
ENGINES = tuple(pis.stacks.ENGINES)
HOSTS = tuple(pis.stacks.HOSTS)
#: Llama-3.2-1B on a cloud L4, eager transformers, batch 1: seconds per token with 50 and 150 output tokens, by the
#: width that is left of the MLP (peremartra/llama-glu-expansion-pruning@97f9190, MIT).
L4 = {
    1.0: (0.019449, 0.019327),
    0.8: (0.019641, 0.019308),
    0.6: (0.019705, 0.019455),
    0.4: (0.019467, 0.019322),
}
STEP = pis.Workload.decode(batch=1, context=200)


def mlp(keep: float) -> pis.pruning.StaticWidth:
    return pis.pruning.StaticWidth(pis.pruning.PerBlock(mlp=1.0 - keep))


def on(host=None, engine="transformers", model="llama-3.2-1b", gpu="l4", **options) -> pis.Setup:
    return pis.Setup(model, gpu, pis.stacks.engine(engine, host=host), **options)


# --- what users measure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measured", L4[1.0])
def test_a_slow_host_sets_the_step_of_a_small_model(measured):
    assert on("slow").estimate(STEP).latency == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize("keep", [0.8, 0.6, 0.4])
@pytest.mark.parametrize("run", [0, 1])
@pytest.mark.parametrize("host", ["slow", None])
def test_a_narrower_mlp_is_not_faster_behind_a_host(keep, run, host):
    measured = L4[1.0][run] / L4[keep][run]
    found = on(host).speedup(mlp(keep), STEP)
    assert found.estimated == pytest.approx(measured, abs=0.04)
    assert found.interval[0] <= measured <= found.interval[1]
    assert pis.Setup("llama-3.2-1b", "l4").speedup(mlp(0.4), STEP).estimated > 1.2  # what kernels alone promise


def test_one_measured_step_says_the_host():
    found = pis.calibrate_engine("transformers", seconds=L4[1.0][1], workload=STEP, model="llama-3.2-1b", hardware="l4")
    assert found.host.issue == pytest.approx(28e-6, rel=0.03)
    larger = pis.Setup("llama-3.2-3b", "l4", found).estimate(STEP)
    assert larger.latency == pytest.approx(33.2e-3, rel=0.05)  # 28 layers on the same host


@pytest.mark.parametrize(("layers", "ratio"), [(28, 1.14), (24, 1.32), (20, 1.56), (16, 1.92)])
def test_depth_is_faster_behind_a_host(layers, ratio):
    """Measured decode of an 8B model with 28 to 16 of 32 layers, eager (published ratios, within 8 %)."""
    found = on("typical", model="llama-3.1-8b", gpu="a100-sxm-80gb").speedup("static-depth", 1.0 - layers / 32.0, STEP)
    assert found.estimated == pytest.approx(ratio, rel=0.08)


@pytest.mark.parametrize(
    ("model", "per_layer", "per_step"), [("llama-3.1-8b", 40, 53), ("qwen2.5-7b", 40, 53), ("qwen3-8b", 56, 53)]
)
def test_launches_are_those_that_a_hook_counted(model, per_layer, per_step):
    step = on(model=model, gpu="h100-sxm").estimate(STEP)
    assert step.chain.launches == per_layer * pis.models.get(model).num_layers + per_step


@pytest.mark.parametrize(("dtype", "launches"), [("bf16", 10), ("fp8", 18)])
def test_launches_of_vllm(dtype, launches):
    lowered = on(engine="vllm", model="llama-3.1-8b", gpu="h100-sxm", dtype=dtype).estimate(STEP).trace
    inside = lowered.launches * lowered.count * [len(layers) > 0 for layers in lowered.layers]
    assert inside.sum() == launches * 32


@pytest.mark.parametrize(
    ("row", "measured"),
    [("host_step", (0.65e-3, 0.9e-3, 1.8e-3)), ("host_sequence", (10e-6, 14e-6, 28e-6))],
)
def test_the_band_of_own_time_holds_other_hosts(row, measured):
    """Own times of vLLM per step and per sequence, by host, as published.

    And no wider than that: leaving every host out, ln(measured / assumed) is between -0.66 and 0.69.
    """
    priced = pis.stacks.get("vllm", pis.hardware.get("h100-sxm")).priced(row, "bf16")
    low, high = priced.spread.low, priced.spread.high
    for seconds in measured:
        assert low < seconds / priced.model.seconds - 1.0 < high
    assert np.log1p((low, high)) == pytest.approx((-0.66, 0.69), abs=0.1)
    known = pis.stacks.engine("vllm", host="typical")(pis.hardware.get("h100-sxm")).priced(row, "bf16").spread
    assert low < known.low < 0.0 < known.high < high


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [None, *HOSTS])
@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_a_stack(name, host):
    testing.check_stack(pis.stacks.engine(name, host=host), hardware="l40s")


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_lowering_twice_changes_nothing(name, dtype):
    model = pis.stacks.get(name, pis.hardware.get("h100-sxm"))
    for work in (STEP, pis.Workload.prefill(batch=2, tokens=2048)):
        once = model.lower(pis.trace("llama-3.1-8b", work, dtype=dtype))
        assert model.lower(once) is once or len(model.lower(once)) == len(once)


@pytest.mark.parametrize("name", ENGINES)
def test_a_sweep_is_its_points(name):
    setup = on(engine=name, model="llama-3.1-8b", gpu="h100-sxm")
    for make, lengths in ((pis.Workload.decode, "context"), (pis.Workload.prefill, "tokens")):
        batch, length = np.array([1, 300])[:, None], np.array([128, 2048])
        swept = setup.speedup("static-width", 0.5, make(batch=batch, **{lengths: length}))
        for i, j in np.ndindex(2, 2):
            one = setup.speedup("static-width", 0.5, make(batch=batch[i, 0], **{lengths: length[j]}))
            for side, number in zip((swept.estimated, *swept.interval), (one.estimated, *one.interval), strict=True):
                assert side[i, j] == pytest.approx(number, rel=1e-9)


def test_wrong_names_are_named():
    with pytest.raises(UnknownNameError, match="vllm"):
        pis.stacks.engine("vlm")
    with pytest.raises(UnknownNameError, match="slow"):
        pis.stacks.engine("vllm", host="slo")


# --- the clock ------------------------------------------------------------------------------------------------------


def step_of(launches, runs, clock):
    ops = OpTrace.from_rows([{"launches": each} for each in launches], workload=STEP)
    gaps, chain = clock.step(ops, np.array(runs), ops.launches)
    return float(((np.array(runs) + gaps) * ops.count).sum()), chain


def test_a_step_is_the_longer_of_host_and_gpu_and_then_the_hosts_own_work():
    eager = EngineClock(1e-6, issue=10e-6)
    assert step_of([2, 1, 0], [5e-6, 5e-6, 7e-6], eager)[0] == pytest.approx(3 * 10e-6 + 7e-6)
    assert step_of([2, 1, 0], [50e-6, 5e-6, 7e-6], eager)[0] == pytest.approx(55e-6 + 7e-6)
    graph = EngineClock(1e-6, issue=10e-6, decode=1)
    total, chain = step_of([2, 1, 0], [5e-6, 5e-6, 7e-6], graph)
    assert total == pytest.approx(17e-6 + 3e-6)
    assert chain.seconds == 0.0


@pytest.mark.parametrize("name", ENGINES)
def test_own_time_is_affine_in_the_batch(name):
    engine = pis.stacks.ENGINES[name].on(pis.stacks.HOSTS["typical"])
    batch = np.array([1, 10, 100])
    setup = pis.Setup("llama-3.1-8b", "h100-sxm", engine)
    step = setup.estimate(pis.Workload.decode(batch=batch, context=512))
    own = step.trace.mask(kernels=["host_step", "host_sequence"])
    spent = np.where(own, step.run * step.trace.count, 0.0).sum(axis=-1)
    assert spent == pytest.approx(engine.step + engine.sequence * batch)


def test_hosts_are_in_order():
    times = [on(host).estimate(STEP).latency for host in ("fast", "typical", "slow")]
    assert times == sorted(times)
    assert times[0] < times[2] / 1.3


def test_an_unknown_host_has_the_wider_interval():
    for engine in ("transformers", "vllm"):
        known, unknown = (on(host, engine).estimate(STEP).interval for host in ("typical", None))
        assert unknown[0] <= known[0]
        assert unknown[1] > known[1]


# --- answers --------------------------------------------------------------------------------------------------------


def test_explain_says_host_bound_and_adds_up():
    dense = pis.trace("llama-3.2-1b", STEP)
    why = pis.explain(dense, dense.prune(pis.pruning.StaticWidth(0.5)), hardware="l4", stack="transformers")
    assert sum(why.steps.values()) == pytest.approx(why.speedup.pruned.latency, rel=1e-12)
    assert "host-bound" in str(why)
    rows = pis.explain(dense, dense.prune(pis.pruning.StaticWidth(0.5)), hardware="l4", stack="vllm")
    # Half of the dense time is what the claim leaves; the other half of the engine's own time stays as well.
    assert rows.steps["engine step"] == pytest.approx(pis.stacks.ENGINES["vllm"].step / 2.0)
    assert sum(rows.steps.values()) == pytest.approx(rows.speedup.pruned.latency, rel=1e-12)


def test_break_even_is_where_the_gpu_falls_behind():
    stack = pis.stacks.engine("transformers", host="slow")
    found = pis.break_even(
        axis="batch",
        method="static-width",
        model="llama-3.2-1b",
        hardware="l4",
        phase="decode",
        context=512,
        stack=stack,
    )
    assert [crossing.wins_above for crossing in found] == [True]
    batch = int(found[0].value)
    below, above = (
        pis.Setup("llama-3.2-1b", "l4", stack).estimate(pis.Workload.decode(batch=b, context=512))
        for b in (batch - 1, batch)
    )
    assert below.total == pytest.approx(float(below.chain.seconds))
    assert above.total > above.chain.seconds


def test_no_kernel_helps_behind_a_host():
    dense = pis.trace("llama-3.2-1b", STEP)
    pruned = dense.prune(pis.pruning.StaticWidth(0.5))
    room = pis.max_speedup(dense, pruned, hardware="l4", stack="transformers")
    assert (room.estimated, room.perfect_changed, room.amdahl) == pytest.approx((1.0, 1.0, 1.0))
    assert pis.required_efficiency(1.1, dense, pruned, hardware="l4", stack="transformers") == np.inf


def test_a_step_that_the_gpu_sets_says_nothing_about_the_host():
    work = pis.Workload.prefill(batch=8, tokens=2048)
    seconds = on(model="llama-3.1-8b").estimate(work).latency
    with pytest.raises(InvalidInputError, match="says nothing about the host"):
        pis.calibrate_engine("transformers", seconds=seconds, workload=work, model="llama-3.1-8b", hardware="l4")


@pytest.mark.parametrize("slower", [0.6, 1.0, 1.7])
def test_a_calibrated_engine_gives_the_measured_step_back(slower):
    work, where = pis.Workload.decode(batch=16, context=1024), {"model": "llama-3.1-8b", "hardware": "h100-sxm"}
    truth = replace(pis.stacks.ENGINES["vllm"], scale=slower)
    seconds = pis.Setup("llama-3.1-8b", "h100-sxm", truth).estimate(work).latency
    found = pis.calibrate_engine("vllm", seconds=seconds, workload=work, **where)
    assert found.scale == pytest.approx(slower)
    other = pis.Workload.decode(batch=64, context=256)
    times = [pis.Setup("llama-3.1-8b", "h100-sxm", stack).estimate(other).latency for stack in (truth, found)]
    assert times[0] == pytest.approx(times[1])


def test_the_bare_8_bit_gemm_is_within_its_rooflines():
    for gpu in ("h100-sxm", "rtx-4090", "b200-sxm"):
        m, n = np.array([1, 64, 4096])[:, None], np.array([1024, 14336])
        narrow, wide = (
            pis.gemm_latency(m, n, 4096, hardware=gpu, dtype=dtype, stack="tensorrt-llm") for dtype in ("fp8", "bf16")
        )
        assert (narrow <= wide * 1.001).all()
        assert (narrow >= wide / 2.05).all()


def test_engines_run_the_bare_8_bit_kernels_of_the_vendor():
    """Engines differ in how they quantise, not in the GEMM."""
    for dtype in ("fp8", "int8"):
        bare = pis.gemm_latency(64, 14336, 4096, hardware="h100-sxm", dtype=dtype)
        assert pis.gemm_latency(64, 14336, 4096, hardware="h100-sxm", dtype=dtype, stack="vllm") == bare


#: vLLM 0.19.0, Llama-3.1-8B in bf16 on an RTX 4090, a fast host (casys-kaist/LLMServingSim@5daddb2, MIT): running
#: requests, their mean context, seconds of a step; the fewest, a median and the most requests of 98 rows.
V1 = [(8.5, 1773, 0.0191), (34.5, 1216, 0.0263), (44.0, 942, 0.0265)]


@pytest.mark.parametrize(("batch", "context", "measured"), V1)
def test_a_step_of_vllm_on_a_known_host(batch, context, measured):
    here = on("fast", "vllm", "llama-3.1-8b", "rtx-4090")
    step = here.estimate(pis.Workload.decode(batch=round(batch), context=context))
    assert step.latency == pytest.approx(measured, rel=0.14)


def test_tensorrt_llm_0_9_reads_the_cache_once_per_query_head():
    attention = {"phase": "decode", "batch": 32, "context": 4096, "hardware": "h100-sxm"}
    old, shared = (
        lambda heads, stack=stack: pis.attention_latency(**attention, heads=heads, kv_heads=8, stack=stack)
        for stack in ("tensorrt-llm-0.9", "tensorrt-llm")
    )
    assert old(8) == shared(8)
    assert old(64) / old(32) == pytest.approx(2.0, rel=0.01)
    assert shared(64) / shared(32) < 1.3
    # Llama-3-8B on H100, 64 sequences of 2048 + 2048 tokens (argonne-lcf/LLM-Inference-Bench, BSD-3-Clause): 49.9 s.
    whole = {"model": "llama-3-8b", "hardware": "h100-sxm", "batch": 64, "prompt": 2048, "new_tokens": 2048}
    assert pis.request(**whole, stack="tensorrt-llm-0.9").total == pytest.approx(49.9, rel=0.1)


# --- on the rows of whole engines, where somebody has them ----------------------------------------------------------

DATA = os.environ.get("PRUNINFERSIM_VALIDATION_DATA")


@pytest.mark.skipif(not DATA or not (Path(DATA) / "e2e").is_dir(), reason="needs the measured steps of engines")
def test_aims_on_measured_rows():
    sys.path.insert(0, str(ROOT / "validation"))
    import accuracy_engines

    directory = Path(str(DATA))
    frame = accuracy_engines.judged(directory)
    error = (frame["all seconds"] / frame["seconds"] - 1.0).abs()
    alone = (frame["kernels seconds"] / frame["seconds"] - 1.0).abs()
    inside = frame["seconds"].between(frame["all low"], frame["all high"])
    aims = {
        "vllm-0.5": (0.09, 0.8),
        "tensorrt-llm-0.9": (0.10, 0.8),
        "tensorrt-llm": (0.05, 0.75),
        "transformers": (0.05, 0.85),
    }
    for stack, (most, least) in aims.items():
        of = frame["stack"] == stack
        assert error[of].mean() <= most
        assert inside[of].mean() >= least
    steps = (frame["stack"] == "vllm") & (frame["phase"] == "step_decode")
    assert error[steps].mean() <= 0.14
    assert error[steps].mean() < alone[steps].mean() / 2
    assert inside[steps].mean() >= 0.75
    sparse = accuracy_engines.sparse_speedups(frame)
    for phase, most in (("step_decode", 0.08), ("step_prefill", 0.10)):
        part = sparse[sparse["phase"] == phase]
        assert (part["predicted"] / part["measured"] - 1.0).abs().mean() <= most
        assert part["measured"].between(part["low"], part["high"]).mean() >= 0.75
