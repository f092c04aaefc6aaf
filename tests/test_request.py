"""Requests and capacity: closed forms, the slow oracle over all contexts, and what engines have logged."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis
from pruninfersim.errors import InvalidInputError, MissingValueError
from pruninfersim.questions.capacity import SAMPLER_BYTES, reported_memory
from pruninfersim.questions.request import exact_steps

pytestmark = IGNORE_PROVENANCE
WHERE = {"model": "llama-3.1-8b", "hardware": "h100-sxm"}


# --- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 16, 64])
@pytest.mark.parametrize(("prompt", "new"), [(128, 128), (1024, 1024), (128, 4096)])
@pytest.mark.parametrize("stack", ["ideal", "vendor", "vllm", "transformers"])
def test_one_step_in_the_middle_stands_for_all(stack, batch, prompt, new):
    work = pis.Workload.request(batch=batch, prompt=prompt, new_tokens=new)
    setup = pis.Setup("llama-3.1-8b", "h100-sxm", stack)
    found = pis.request(**WHERE, stack=stack, batch=batch, prompt=prompt, new_tokens=new)
    assert found.tpot * (new - 1) == pytest.approx(exact_steps(setup, work), rel=0.01)


def test_a_request_is_a_prefill_and_steps():
    found = pis.request(**WHERE, stack="tensorrt-llm", batch=4, prompt=1024, new_tokens=101)
    setup = pis.Setup("llama-3.1-8b", "h100-sxm", "tensorrt-llm")
    assert found.ttft == pytest.approx(setup.estimate(pis.Workload.prefill(batch=4, tokens=1024)).latency)
    assert found.total == pytest.approx(found.ttft + 100 * found.tpot)
    assert found.tokens_per_second == pytest.approx(4 * 101 / found.total)
    assert found.interval[0] < found.total < found.interval[1]


@pytest.mark.parametrize("batch", [1, 8])
def test_a_front_end_comes_before_the_prefill(batch):
    """Once per request, and once per prompt token; steps do not wait for it."""
    engine = pis.stacks.ENGINES["vllm"]
    ask = WHERE | {"batch": batch, "prompt": 2048, "new_tokens": 11}
    none, some = (
        pis.request(**ask, stack=replace(engine, serving=replace(engine.serving, front=front, front_token=token)))
        for front, token in ((0.0, 0.0), (4e-3, 1e-6))
    )
    assert some.ttft - none.ttft == pytest.approx(4e-3 + 2048e-6, rel=1e-9)
    assert some.total - none.total == pytest.approx(4e-3 + 2048e-6, rel=1e-9)
    assert some.tpot == none.tpot
    for after, before in zip(some.interval, none.interval, strict=True):
        assert after - before == pytest.approx(4e-3 + 2048e-6, rel=1e-9)


def test_one_token_needs_no_step():
    found = pis.request(**WHERE, stack="vllm", prompt=256, new_tokens=1)
    assert found.total == found.ttft


def test_a_closed_loop_waits_for_the_prefills_of_the_others():
    clients, new = 32, 128
    alone = pis.request(**WHERE, stack="tensorrt-llm", prompt=1024, new_tokens=new)
    loop = pis.request(**WHERE, stack="tensorrt-llm", prompt=1024, new_tokens=new, clients=clients)
    batch = pis.request(**WHERE, stack="tensorrt-llm", prompt=1024, new_tokens=new, batch=clients)
    assert loop.tpot == pytest.approx(batch.tpot + (clients - 1) * alone.ttft / new)
    assert loop.ttft == alone.ttft
    assert loop.tokens_per_second == pytest.approx(clients / loop.tpot)
    one = pis.request(**WHERE, stack="tensorrt-llm", prompt=1024, new_tokens=new, clients=1)
    assert one.tpot == alone.tpot


def test_closed_loops_of_tensorrt_llm():
    """TPOT of Llama-3.1-8B on an H100 in TensorRT-LLM 1.0.0rc3, bf16 (ai-dynamo/aiconfigurator, Apache-2.0)."""
    measured = {(128, 1024, 128): 31.66, (128, 1024, 512): 19.26, (128, 2048, 256): 40.41, (32, 4096, 512): 18.15}
    for (clients, prompt, new), milliseconds in measured.items():
        found = pis.request(**WHERE, stack="tensorrt-llm", prompt=prompt, new_tokens=new, clients=clients)
        assert found.tpot * 1e3 == pytest.approx(milliseconds, rel=0.15)


def test_phases_may_be_pruned_differently():
    dense = pis.request(**WHERE, stack="vllm")
    first = pis.request(**WHERE, stack="vllm", prefill_method=pis.pruning.StaticDepth(0.5))
    later = pis.request(**WHERE, stack="vllm", decode_method=pis.pruning.StaticDepth(0.5))
    both = pis.request(**WHERE, stack="vllm", method="static-depth", sparsity=0.5)
    assert first.ttft < dense.ttft
    assert first.tpot == dense.tpot
    assert later.tpot < dense.tpot
    assert later.ttft == dense.ttft
    assert (both.ttft, both.tpot) == (first.ttft, later.tpot)


def test_admission_of_an_offline_run_is_not_part_of_a_request():
    setup = pis.Setup(**WHERE, stack="vllm", dtype="fp8")
    offline = setup.estimate(pis.Workload.prefill(batch=1, tokens=1024))
    served = pis.request(**WHERE, stack="vllm", dtype="fp8", prompt=1024)
    assert offline.latency > 24e-3
    assert served.ttft < offline.latency


def test_energy_and_price_follow_from_tokens_per_second():
    found = pis.request(**WHERE, stack="vllm", batch=8)
    assert found.joules_per_token == pytest.approx(700.0 / found.tokens_per_second)
    assert found.price(3.6) == pytest.approx(1e6 / found.tokens_per_second * 1e-3)
    with pytest.raises(InvalidInputError, match="above 0"):
        found.price(0.0)


def test_what_the_interval_covers_is_said():
    assert "kernels only" in pis.request(**WHERE).notes[0]
    assert "engine" in pis.request(**WHERE, stack="vllm").notes[0]
    with pytest.raises(InvalidInputError, match="batch"):
        pis.request(**WHERE, batch=2, clients=2)


# --- capacity -------------------------------------------------------------------------------------------------------


def test_tokens_that_vllm_logs():
    """vLLM 0.19 on an RTX 4090 with Llama-3.1-8B: 41,408 KV tokens (casys-kaist/LLMServingSim@5daddb2, MIT)."""
    found = pis.capacity(model="llama-3.1-8b", hardware="rtx-4090", stack="vllm")
    assert found.kv_tokens == pytest.approx(41408, rel=0.12)
    assert found.weight_bytes == pytest.approx(8.0303e9 * 2, rel=1e-4)


@pytest.mark.parametrize(("context", "batch"), [(8192 + 128, 62), (16384 + 128, 30)])
def test_largest_batches_that_papers_report(context, batch):
    found = pis.capacity(model="llama-3.1-8b", hardware="a100-sxm-80gb", stack="transformers", context=context)
    assert found.largest_batch == pytest.approx(batch, abs=2)


def test_figures_stand_for_names():
    named = pis.capacity(model="llama-3.1-8b", hardware="rtx-4090", stack="vllm", context=4096)
    given = pis.capacity(
        stack="vllm", context=4096, memory=reported_memory(pis.hardware.get("rtx-4090")), memory_share=0.9,
        weight_bytes=named.weight_bytes, layers=32, kv_heads=8, head_dim=128, kv_bytes_per_element=2, hidden_size=4096,
        intermediate_size=14336, vocab_size=128256, max_batched_tokens=2048, max_sequences=256,
    )  # fmt: skip
    assert given.to_dict() | {"tokens_per_second": None} == named.to_dict() | {"tokens_per_second": None}
    assert named.activation_bytes == 256 * 128256 * SAMPLER_BYTES
    assert named.kv_bytes_per_token == 2 * 32 * 8 * 128 * 2


def test_pruning_makes_room():
    dense = pis.capacity(model="llama-3.1-8b", hardware="rtx-4090", stack="vllm", context=4096)
    depth = pis.capacity(
        model="llama-3.1-8b", hardware="rtx-4090", stack="vllm", context=4096, method="static-depth", sparsity=0.5
    )
    assert depth.kv_bytes_per_token == dense.kv_bytes_per_token / 2
    assert depth.largest_batch > 2 * dense.largest_batch
    step = pis.Setup("llama-3.1-8b", "rtx-4090", "vllm").speedup(
        "static-depth", 0.5, pis.Workload.decode(batch=dense.largest_batch, context=4096)
    )
    assert depth.tokens_per_second / dense.tokens_per_second > 1.5 * step.estimated


def test_what_does_not_fit():
    found = pis.capacity(model="llama-3.1-70b", hardware="rtx-4090", stack="vllm")
    assert (found.kv_tokens, found.largest_batch, found.fits, found.tokens_per_second) == (0.0, 0, False, None)


def test_missing_and_wrong_figures_are_named():
    with pytest.raises(MissingValueError, match="weight_bytes"):
        pis.capacity(hardware="l4", stack="vllm")
    with pytest.raises(InvalidInputError, match="memory_share"):
        pis.capacity(**WHERE, memory_share=-1)


# --- commands -------------------------------------------------------------------------------------------------------


def command(*words: str) -> str:
    code = "import sys; from pruninfersim.cli import main; sys.argv[0] = 'pruninfersim'; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_request_command_answers_for_every_method():
    words = "--model llama-3.1-8b --gpu h100-sxm --stack vllm --batch 32 --prompt 2048 --new-tokens 256 --method all"
    found = json.loads(command("request", *words.split(), "--format", "json"))
    assert {"dense", *pis.pruning.names()} == set(found)
    for answer in found.values():
        assert {"ttft", "tpot", "tokens_per_second", "fits", "capacity"} <= set(answer)
        assert answer["capacity"]["largest_batch"] > 100


def test_it_takes_less_than_a_second_of_cpu():
    start = time.process_time()
    for method in (None, *pis.pruning.names()):
        pruned = {} if method is None else {"method": method, "sparsity": 0.5}
        pis.request(**WHERE, stack="vllm", batch=32, prompt=2048, new_tokens=256, **pruned)
        _ = pis.capacity(**WHERE, stack="vllm", context=2304, **pruned).tokens_per_second
    assert time.process_time() - start < 1.0


def test_the_capacity_command_and_a_host():
    rooms = json.loads(command("capacity", "--gpu", "rtx-4090", "--method", "static-depth", "--format", "json"))
    assert rooms["static-depth"]["largest_batch"] > 4 * rooms["dense"]["largest_batch"]
    words = "--stack transformers --host slow --model llama-3.2-1b --gpu l4 --format json"
    found = json.loads(command("request", *words.split()))
    assert any(note.startswith("host-bound") for note in found["dense"]["notes"])


# --- over several GPUs, and ratios of a file ------------------------------------------------------------------------


def test_a_request_over_several_gpus():
    where = {"model": "llama-3.1-70b", "hardware": "h100-sxm", "stack": "vllm"}
    asked = {"batch": 8, "prompt": 2048, "new_tokens": 256}
    one, four = (pis.request(**where, **asked, tp=tp) for tp in (1, 4))
    assert not one.fits  # 141 GB of weights
    assert four.fits
    assert 2.0 < one.tpot / four.tpot < 4.0  # all-reduces and the host do not get faster
    assert four.joules_per_token == pytest.approx(4 * 700 / four.tokens_per_second)
    assert four.price(3.0) == pytest.approx(4 * 3.0 / 3600 / four.tokens_per_second * 1e6)
    assert four.total == pytest.approx(
        pis.request(**where | {"stack": pis.stacks.engine("vllm")}, **asked, tp=4).total, rel=1e-12
    )
    with pytest.raises(InvalidInputError, match="tp must be a positive whole number"):
        pis.request(**where, tp=0)


def test_capacity_over_several_gpus():
    where = {"model": "llama-3.1-70b", "hardware": "h100-sxm", "stack": "vllm"}
    four = pis.capacity(**where, tp=4)
    assert four.kv_bytes_per_token == 2 * 80 * 8 / 4 * 128 * 2
    assert four.weight_bytes == pytest.approx(70.55e9 * 2 / 4, rel=0.06)  # the embedding is on every GPU
    assert not pis.capacity(**where).fits
    # Eight KV heads over sixteen GPUs: every GPU keeps one whole.
    assert pis.capacity(**where, tp=16).kv_bytes_per_token == pis.capacity(**where, tp=8).kv_bytes_per_token
    figures = {"memory": 80e9, "weight_bytes": 35e9, "layers": 80, "kv_heads": 8, "head_dim": 128}
    assert pis.capacity(**figures, tp=4).kv_bytes_per_token == four.kv_bytes_per_token
    for tp in (0, 1.5):
        with pytest.raises(InvalidInputError, match="tp must be a positive whole number"):
            pis.capacity(**figures, tp=tp)


def test_ratios_of_a_file_on_the_command_line(tmp_path):
    file = tmp_path / "ratios.json"
    file.write_text(json.dumps([0.5] * 32))
    words = ("--method", "static-width", "--format", "json", "--sparsity")
    for asked, figure in (("request", "total"), ("capacity", "kv_tokens")):
        given, equal = (json.loads(command(asked, *words, ratio))["static-width"] for ratio in (str(file), "50%"))
        assert given[figure] == pytest.approx(equal[figure], rel=1e-12)
    file.write_text(json.dumps([0.0] * 16 + [0.5] * 16))
    (row,) = json.loads(command("speedup", *words, str(file)))
    assert (row["sparsity"], row["1/(1-s)"]) == (0.25, pytest.approx(4 / 3))
    every = ("--method", "all", "--sparsity", str(file), "--format", "json")
    left = json.loads(command("speedup", *every))
    assert {row["method"] for row in left} == {*pis.pruning.names()} - {"static-depth"}
