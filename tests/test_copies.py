"""Copies answer as the original does: pickled, deep-copied, sent to another process; and nobody can write to either."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cases import FAMILIES, IGNORE_PROVENANCE, STACKS

import pruninfersim as pis
from pruninfersim.errors import InvalidInputError, ProvenanceWarning
from pruninfersim.pruning import Axis, PerBlock, PerLayer, PerRole

pytestmark = IGNORE_PROVENANCE

MODEL, GPU = "llama-3.1-8b", "h100-sxm"
COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "oldest pickle": lambda x: pickle.loads(pickle.dumps(x, protocol=2)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}
#: An array that is constant along an axis is stored whole in a copy, and added up in another order.
ROUNDING = 1e-14
SWEEP = pis.Workload.decode(np.array([[1], [8]]), [1024, 4096, 5000])


def setup(stack: str = "vendor") -> pis.Setup:
    return pis.Setup(MODEL, GPU, stack)


def compared(*shape: int, stack: str = "vendor") -> pis.Speedup:
    sparsity = np.linspace(0.2, 0.6, int(np.prod(shape))).reshape(shape) if shape else 0.5
    return setup(stack).speedup(pis.pruning.StaticWidth(sparsity), SWEEP if shape else pis.Workload.decode(8, 4096))


#: What a question answers with, and the table that shows all of it.
ANSWERS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "trace": (lambda: setup().trace(SWEEP).prune(pis.pruning.LowRank([0.2, 0.4, 0.6])), lambda x: x.to_frame()),
    "estimate": (lambda: setup().estimate(SWEEP), lambda x: x.to_frame()),
    "estimate behind a host": (lambda: setup("transformers").estimate(SWEEP), lambda x: x.to_frame()),
    "speedup": (compared, lambda x: x.to_frame()),
    "speedup of a sweep": (lambda: compared(2, 1), lambda x: x.to_frame()),
    "speedup behind a host": (lambda: compared(stack="transformers"), lambda x: x.to_frame()),
    "explanation": (lambda: compared().explain(), lambda x: x.to_frame()),
    "explanation of a sweep": (lambda: compared(2, 1).explain(), lambda x: pd.Series(str(x.steps))),
    "headroom": (lambda: pis.max_speedup(compared(2, 1)), lambda x: pd.Series(repr(x))),
    "request": (
        lambda: pis.request(model=MODEL, hardware=GPU, stack="vllm", batch=8, prompt=2048, new_tokens=64),
        lambda x: pd.Series([x.ttft, x.tpot, x.total, *x.interval]),
    ),
    "capacity": (
        lambda: pis.capacity(model=MODEL, hardware=GPU, stack="vllm"),
        lambda x: pd.Series([x.kv_tokens, x.largest_batch, x.tokens_per_second]),
    ),
    "frontier": (
        lambda: pis.pareto.frontier(
            pis.pareto.curves(pis.pareto.published_quality(), lambda family, s: 1.0 / (1.0 - 0.7 * s))
        ),
        lambda x: pd.DataFrame({"gap": x.gap, "speed": x.speed}),
    ),
}


def arrays(of: Any, seen: set[int]) -> Iterator[np.ndarray[Any, Any]]:
    """Every array that can be reached through public attributes that are there already."""
    if id(of) in seen or isinstance(of, str | type):
        return
    seen.add(id(of))
    if isinstance(of, np.ndarray):
        yield of
    elif isinstance(of, dict):
        for item in of.values():
            yield from arrays(item, seen)
    elif isinstance(of, list | tuple):
        for item in of:
            yield from arrays(item, seen)
    elif dataclasses.is_dataclass(of):
        for name, item in vars(of).items():
            if name[0] != "_" and name != "timed":  # what an estimate works with, not what it shows
                yield from arrays(item, seen)


@pytest.mark.parametrize("name", ANSWERS)
def test_nobody_can_write_to_an_answer(name):
    made = ANSWERS[name][0]()
    for answer in (made, *(how(made) for how in COPIES.values())):
        ANSWERS[name][1](answer)  # what is worked out when asked for is there now
        assert [array for array in arrays(answer, set()) if array.size and array.flags.writeable] == []


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_copy_answers_alike(name, how):
    make, table = ANSWERS[name]
    made = make()
    before, after = table(made), table(COPIES[how](made))
    same = pd.testing.assert_frame_equal if isinstance(before, pd.DataFrame) else pd.testing.assert_series_equal
    same(after, before, rtol=ROUNDING, atol=0.0)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("stack", STACKS)
def test_a_copied_stack_prices_alike(stack, how):
    made = pis.stacks.get(stack, pis.hardware.get("rtx-pro-6000"))
    dense = pis.trace(MODEL, SWEEP)
    np.testing.assert_array_equal(COPIES[how](made).predict(dense).seconds, made.predict(dense).seconds)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("ratio", [0.5, np.array([0.25, 0.5]), Axis([0.0, 0.5])], ids=["one", "array", "axis"])
def test_a_copied_method_prunes_alike(family, ratio, how):
    dense = pis.trace(MODEL, pis.Workload.decode(8, 4096))
    method = pis.pruning.at(family, ratio)
    pd.testing.assert_frame_equal(
        dense.prune(COPIES[how](method)).to_frame(), dense.prune(method).to_frame(), check_exact=True
    )


@pytest.mark.parametrize(
    "ratio", [PerBlock(attention=0.25, mlp=PerLayer([0.5] * 32)), PerRole(down=Axis([0.1, 0.5])), PerLayer([0.5] * 32)]
)
def test_a_ratio_within_a_ratio_survives(ratio):
    dense = pis.trace(MODEL, pis.Workload.decode(8, 4096))
    once, again = (dense.prune(pis.pruning.LowRank(each)) for each in (ratio, pickle.loads(pickle.dumps(ratio))))
    pd.testing.assert_frame_equal(again.to_frame(), once.to_frame(), check_exact=True)


@pytest.mark.parametrize("how", COPIES)
def test_records_are_equal_and_as_frozen(how):
    for record in (*map(pis.hardware.get, pis.hardware.names()), *map(pis.models.get, pis.models.names())):
        again = COPIES[how](record)
        assert again == record
        assert hash(again) == hash(record)
    with pytest.raises(TypeError, match="read-only"):
        COPIES[how](pis.hardware.get(GPU)).peak["bf16"] = 1.0


def test_a_copied_calibration_is_the_same_stack():
    gpu = pis.hardware.get(GPU)
    sides = [
        np.geomspace(16, 8192, 8)[:, None].round(),
        np.array([1024.0, 4096, 14336]),
        np.array([4096.0, 2048, 8192]),
    ]
    m, n, k = (side.reshape(-1) for side in np.broadcast_arrays(*sides))
    seconds = 1.25 * pis.gemm_latency(m, n, k, hardware=gpu, dtype="bf16")
    table = pd.DataFrame({"gpu": GPU, "dtype": "bf16", "m": m, "n": n, "k": k, "latency_us": 1e6 * seconds})
    fit = pis.calibrate("gemm", table, hardware=gpu)
    dense = pis.trace(MODEL, SWEEP)
    times = [
        pis.stacks.vendor(gpu, calibrations=[each]).predict(dense).seconds
        for each in (fit, *(how(fit) for how in COPIES.values()))
    ]
    for again in times[1:]:
        np.testing.assert_array_equal(again, times[0])


@pytest.mark.parametrize("how", COPIES)
def test_an_error_says_the_same(how):
    with pytest.raises(InvalidInputError) as caught:
        pis.Workload.decode(0)
    again = COPIES[how](caught.value)
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


def test_an_array_that_was_given_may_change_afterwards():
    sparsity = np.array([0.25, 0.5])
    result = setup().speedup(pis.pruning.StaticWidth(sparsity), pis.Workload.decode(8, 4096))
    before = result.to_frame()
    sparsity[:] = 0.0
    pd.testing.assert_frame_equal(result.to_frame(), before, check_exact=True)
    np.testing.assert_allclose(result.claim, [4 / 3, 2.0])


def asked(question: tuple[pis.Setup, Any, pis.Workload]) -> pis.Speedup:
    own, method, work = question
    with warnings.catch_warnings():  # a process of its own has filters of its own
        warnings.simplefilter("ignore", ProvenanceWarning)
        return own.speedup(method, work)


def test_questions_go_to_another_process_and_answers_come_back():
    questions = [
        (setup(stack), method, work)
        for stack in ("vendor", "paper")
        for method in (
            pis.pruning.LowRank([0.2, 0.4, 0.6]),
            [pis.pruning.StaticWidth(0.25), pis.pruning.SemiStructured(0.5)],
        )
        for work in (SWEEP, pis.Workload.prefill(2, 1000))
    ]
    here = [asked(question).to_frame() for question in questions]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        there = [answer.to_frame() for answer in executor.map(asked, questions)]
    for again, before in zip(there, here, strict=True):
        pd.testing.assert_frame_equal(again, before, rtol=ROUNDING, atol=0.0)


@pytest.mark.parametrize("module", [pis, pis.memory, pis.pareto], ids=lambda module: module.__name__)
def test_packages_that_functions_name_can_be_sent_to_workers(module):
    assert pickle.loads(pickle.dumps(module)) is module


@pytest.mark.parametrize("stack", sorted({"ideal", "vendor", "vllm"}))
def test_an_answer_that_nobody_holds_gives_its_memory_back_at_once(stack: str) -> None:
    """Arrays of a sweep are large and the objects around them few: the collector of cycles comes by too rarely."""
    answer = setup(stack).speedup("low-rank", 0.5, SWEEP)
    repr(answer), answer.notes, answer.headroom, answer.dense.interval, answer.explain()
    held = [weakref.ref(one) for one in (answer, answer.dense, answer.pruned)]
    gc.collect()
    gc.disable()
    try:
        del answer
        assert [one() for one in held] == [None] * 3
    finally:
        gc.enable()
