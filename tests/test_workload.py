"""Workloads: what they count, and which input they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import pruninfersim as pis
from pruninfersim.errors import InvalidInputError, UnknownNameError


def test_prefill_counts():
    prompt = pis.Workload.prefill(batch=4, tokens=1000)
    assert (prompt.tokens, prompt.head_tokens, prompt.context) == (4000, 4, 1000)
    assert pis.Workload.prefill(batch=4, tokens=1000, logits="all").head_tokens == 4000


def test_a_prefix_is_attended_to_but_not_computed():
    chunk = pis.Workload.prefill(batch=2, tokens=256, prefix=768)
    assert (chunk.tokens, chunk.context, chunk.query_len) == (512, 1024, 256)


def test_decode_counts():
    step = pis.Workload.decode(batch=16, context=4096)
    assert (step.tokens, step.head_tokens, step.query_len, step.context) == (16, 16, 1, 4096)


def test_arrays_are_sweep_axes():
    sweep = pis.Workload.decode(batch=np.array([1, 8])[:, None], context=[128, 1024, 8192])
    assert sweep.shape == (2, 3)
    assert pis.Workload.decode().shape == ()


def test_fields_are_read_only_and_not_shared_with_the_input():
    batch = np.array([1.0, 2.0])
    sweep = pis.Workload.decode(batch=batch)
    batch[0] = 99.0
    assert sweep.batch[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        sweep.batch[0] = 5.0
    with pytest.raises(AttributeError):
        sweep.phase = "prefill"


@pytest.mark.parametrize("bad", [0, -1, 1.5, np.nan, np.inf, "many", None, [1, 0], 1j])
@pytest.mark.parametrize("field", ["batch", "tokens", "context"])
def test_sizes_are_positive_whole_numbers(field, bad):
    make = pis.Workload.prefill if field == "tokens" else pis.Workload.decode
    with pytest.raises(InvalidInputError, match=field):
        make(**{field: bad})


@pytest.mark.parametrize("bad", [-1, 0.5, np.nan])
def test_prefix_is_not_negative(bad):
    with pytest.raises(InvalidInputError, match="prefix"):
        pis.Workload.prefill(prefix=bad)


def test_arrays_that_do_not_broadcast_are_refused_with_both_shapes():
    with pytest.raises(InvalidInputError, match=r"\(2,\).*\(3,\)"):
        pis.Workload.decode(batch=[1, 2], context=[1, 2, 3])
    with pytest.raises(InvalidInputError, match="broadcast"):
        pis.Workload.prefill(tokens=[1, 2], prefix=[1, 2, 3])


def test_unknown_logits_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'last'"):
        pis.Workload.prefill(logits="lasst")


@pytest.mark.parametrize("make", [pis.Workload.prefill, pis.Workload.decode])
def test_unknown_routings_are_refused(make):
    with pytest.raises(UnknownNameError, match="balanced, power_law"):
        make(routing="even")


def test_a_sweep_is_of_one_routing():
    works = [pis.Workload.decode(batch=batch, routing="balanced") for batch in (16, 64)]
    asked = {"models": "qwen3-30b-a3b", "hardware": "h100-sxm", "methods": "static-depth"}
    times = pis.sweep(workloads=works, **asked)["dense_seconds"]
    alone = [float(pis.Setup("qwen3-30b-a3b", "h100-sxm").estimate(work).latency) for work in works]
    assert times.unique().tolist() == pytest.approx(alone)
    with pytest.raises(InvalidInputError, match="one routing"):
        pis.sweep(workloads=[*works, pis.Workload.decode(batch=16)], **asked)
