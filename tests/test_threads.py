"""Threads that ask different questions at once get the answers that one alone would get, to the last bit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from cases import FAMILIES, IGNORE_PROVENANCE, STACKS

import pruninfersim as pis

pytestmark = IGNORE_PROVENANCE

THREADS = 4


@pytest.fixture
def _hasty() -> Iterator[None]:
    """Threads take turns a thousand times as often as they would."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(usual)


def numbers(answer: Any) -> Any:
    """An answer as bytes and plain values that can be compared."""
    if isinstance(answer, pis.Speedup):
        return [np.asarray(each).tobytes() for each in (answer.estimated, *answer.interval, answer.headroom)]
    if isinstance(answer, pis.Estimate):
        return [np.asarray(each).tobytes() for each in (answer.seconds, *answer.interval)]
    if hasattr(answer, "to_csv"):
        return answer.to_csv()
    return answer.tobytes() if isinstance(answer, np.ndarray) else repr(answer)


def questions() -> list[Callable[[], Any]]:
    """Questions of every kind; most differ from their neighbours in one thing only, as those of a sweep do."""
    out: list[Callable[[], Any]] = []

    def ask(call: Callable[..., Any], *given: Any, **named: Any) -> None:
        out.append(lambda: numbers(call(*given, **named)))

    for i, family in enumerate(FAMILIES):
        case = {"hardware": "h100-sxm", "stack": ("vendor", "paper", "transformers")[i % 3], "phase": "decode"}
        ask(pis.speedup, **case, model="llama-3.1-8b", method=family, sparsity=0.5, batch=8)
        ask(pis.speedup, **case, model="qwen3-4b", method=family, sparsity=[0.25, 0.5], batch=8)
    for context in (1000, 2000, 3000):
        for stack in STACKS:
            work = pis.Workload.prefill([1, 2], context)
            ask(pis.estimate, pis.trace("gemma-2-2b", work), hardware="rtx-pro-6000", stack=stack)
        ask(pis.gemm_latency, [8, context], 4096, 4096, hardware="a100-sxm-80gb", dtype="bf16")
        ask(pis.attention_latency, phase="decode", batch=4, context=context, heads=32, kv_heads=8, head_dim=128,
            hardware="h100-sxm", dtype="bf16")  # fmt: skip
        ask(pis.moe_latency, tokens=context, experts=64, top_k=6, hidden=2048, inter=1408, hardware="h100-sxm",
            dtype="bf16")  # fmt: skip
        ask(pis.capacity, model="llama-3.1-8b", hardware="rtx-4090", stack="vllm", context=context)
        ask(pis.request, model="llama-3.1-8b", hardware="h100-sxm", stack="vllm", batch=8, prompt=context,
            new_tokens=16)  # fmt: skip
        ask(pis.sweep, models=["llama-3.2-1b"], hardware=["h100-sxm", "l40s"], methods=["low-rank", "static-width"],
            workloads=[pis.Workload.decode(1, context)], sparsity=[0.25, 0.5], stack="vendor")  # fmt: skip
    return out


@pytest.mark.usefixtures("_hasty")
def test_threads_get_the_answers_of_one():
    asked = questions()
    alone = [ask() for ask in asked]
    barrier = Barrier(THREADS)

    def work(first: int) -> list[Any]:
        """Ask all, each thread from another place on, so that neighbours compete for what is kept."""
        barrier.wait()
        order = [*range(first, len(asked)), *range(first)]
        answers = {i: asked[i]() for i in order}
        return [answers[i] for i in range(len(asked))]

    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(work, range(0, 2 * THREADS, 2)))
    wrong = [(thread, i) for thread, found in enumerate(together) for i in range(len(asked)) if found[i] != alone[i]]
    assert wrong == []


@pytest.mark.usefixtures("_hasty")
def test_threads_share_one_trace_and_one_stack():
    """What objects work out when first asked for is the same whoever asks first."""
    setup = pis.Setup("llama-3.1-8b", "h100-sxm")
    work = pis.Workload.decode(np.array([[1], [8]]), [512, 4096])

    def fresh() -> pis.Speedup:
        return setup.speedup(pis.pruning.StaticWidth([0.25, 0.5]), work)

    expected = numbers(fresh())
    for _ in range(5):
        shared, barrier = fresh(), Barrier(THREADS)

        def look(_: int, shared: pis.Speedup = shared, barrier: Barrier = barrier) -> Any:
            barrier.wait()
            return numbers(shared), shared.to_frame().to_csv(), str(shared.at(0, 0).explain().steps)

        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(look, range(THREADS)))
        assert found[0][0] == expected
        assert all(each == found[0] for each in found)


#: The first calls of a program, by several threads at once: modules, profiles and records are made meanwhile.
FIRST = """
import json, sys, threading, warnings
sys.setswitchinterval(5e-6)
warnings.simplefilter("ignore")
import pruninfersim as pis
stacks = json.loads(sys.argv[1])
answers, barrier = {}, threading.Barrier(2 * len(stacks))
def ask(place, stack):
    barrier.wait()
    answers[place] = pis.speedup(
        model="llama-3.1-8b", hardware="h100-sxm", method="static-width", sparsity=0.5, phase="decode", stack=stack
    ).estimated
threads = [threading.Thread(target=ask, args=(i, stack)) for i, stack in enumerate(2 * stacks)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([answers.get(i) for i in range(len(threads))]))
"""


def test_first_calls_at_once():
    stacks = ["vendor", "ideal", "paper", "vllm"]
    done = subprocess.run([sys.executable, "-c", FIRST, json.dumps(stacks)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    case = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "method": "static-width", "sparsity": 0.5}
    alone = [float(pis.speedup(**case, phase="decode", stack=stack).estimated) for stack in stacks]
    assert json.loads(done.stdout) == 2 * alone
